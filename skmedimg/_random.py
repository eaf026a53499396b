"""Seeds, and a stand-in for torch's global generators, for code that knows no other."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

# Re-entrant: what draws may fit another network, which draws as well.
_GLOBAL_GENERATOR = threading.RLock()


def seed_of(random_state: Any) -> int:
    """One seed a call. None takes fresh entropy and leaves NumPy's global alone."""
    if random_state is None:
        return secrets.randbits(31)
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Let code that draws from torch's global generators draw from `generator`.

    The global generators (the CPU's, and the GPU's for a generator there) come back as
    they were. A lock keeps threads from seeing each other's stand-in.
    """
    with _GLOBAL_GENERATOR, ExitStack() as stack:
        if generator.device.type == "cuda":
            torch.cuda.init()
            standard = torch.cuda.default_generators[generator.device.index or 0]
            # What draws on the CPU meanwhile is seeded from the same source: from its
            # state, as to read a number that it drew would be to wait for the GPU.
            state = [generator.initial_seed(), generator.get_offset()]
            seed = np.random.SeedSequence(state).generate_state(1)
            generator.set_offset(generator.get_offset() + 4)
            stack.enter_context(_stand_in(standard, generator))
            generator = torch.Generator().manual_seed(int(seed[0]))
        stack.enter_context(_stand_in(torch.default_generator, generator))
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let code set torch's global generators itself while no stand-in is there.

    Gradient checkpointing does so in the backward pass, to draw the same dropout again.
    """
    with _GLOBAL_GENERATOR:
        yield


@contextmanager
def _stand_in(standard: torch.Generator, generator: torch.Generator) -> Iterator[None]:
    before = standard.get_state()
    standard.set_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(standard.get_state())
        standard.set_state(before)
