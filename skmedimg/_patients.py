"""Which patients an estimator has seen, without their names."""

import secrets
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any


class KnownPatients:
    """Recognises the patients of a fit again; holds keyed hashes, not names.

    The key is made anew for each model and travels with it: the hashes of two models
    cannot be matched, but whoever holds a model can test a guessed name against it.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(16)
        self._digests: frozenset[bytes] = frozenset()

    def joined_by(self, groups: Iterable[Any]) -> "KnownPatients":
        """These patients and those of `groups`; self stays as it is."""
        joined = KnownPatients()
        joined._key = self._key
        joined._digests = self._digests | {self._digest(g) for g in groups}
        return joined

    def count(self, groups: Iterable[Any]) -> tuple[int, int]:
        """How many patients of `groups` are known, and how many there are."""
        digests = {self._digest(group) for group in groups}
        return len(digests & self._digests), len(digests)

    def _digest(self, group: Any) -> bytes:
        # 7 and 7.0 name one patient: a table with a gap elsewhere turns ints to floats.
        if isinstance(group, float) and group.is_integer():
            group = int(group)
        return blake2b(str(group).encode(), key=self._key, digest_size=8).digest()
