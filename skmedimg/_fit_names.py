"""How fits are called, so that what follows them outside can tell them apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain, count
from uuid import uuid4

_NAMES: ContextVar[Iterator[str] | None] = ContextVar("names of fits", default=None)


def names_from(name: str) -> Iterator[str]:
    """Names of the fits of one step of a search, which nearly always is one fit."""
    return chain([name], (f"{name}-{i}" for i in count(2)))


@contextmanager
def fits_named(names: Iterator[str]) -> Iterator[None]:
    """Let fits that begin meanwhile take these names."""
    token = _NAMES.set(names)
    try:
        yield
    finally:
        _NAMES.reset(token)


def next_fit_name() -> str:
    """Name of the fit that begins; one of its own where no search has given one."""
    names = _NAMES.get()
    return f"fit-{uuid4().hex[:8]}" if names is None else next(names)
