"""How things read in every process alike."""

import re


def without_address(text: str) -> str:
    """A text without where in memory things are, as ``repr`` tells it."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)
