"""A stand-in for torch's global generators, for code that draws from nothing else."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_GLOBAL_GENERATOR = threading.Lock()


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Let code that draws from torch's global generators draw from `generator`.

    The global generators (the CPU's, and the GPU's for a generator there) come back as
    they were. A lock keeps threads from seeing each other's stand-in.
    """
    if generator.device.type == "cuda":
        torch.cuda.init()
        standard = torch.cuda.default_generators[generator.device.index or 0]
    else:
        standard = torch.default_generator
    with _GLOBAL_GENERATOR:
        before = standard.get_state()
        standard.set_state(generator.get_state())
        try:
            yield
        finally:
            generator.set_state(standard.get_state())
            standard.set_state(before)
