"""What every section of a report is told."""

from typing import NamedTuple


def percent(level: float) -> str:
    """A confidence level as a sentence has it.

    Examples
    --------
    >>> from skmedimg.evaluation._settings import percent
    >>> percent(0.95), percent(0.999)
    ('95 %', '99.9 %')
    """
    return f"{100 * level:g} %"


class Settings(NamedTuple):
    """What every section is told: as in `skmedimg.evaluation.evaluate`."""

    level: float
    n_bootstrap: int
    random_state: int | None
    prevalence: float | None
