"""What every section of a report is told."""

from typing import NamedTuple


class Settings(NamedTuple):
    """What every section is told: as in `skmedimg.evaluation.evaluate`."""

    level: float
    n_bootstrap: int
    random_state: int | None
    prevalence: float | None
