"""What is known of an evaluation, for the methods text and the checklists."""

from dataclasses import dataclass

from skmedimg.evaluation._threshold import Threshold


@dataclass(frozen=True)
class Facts:
    """Nothing here is guessed: what nobody told is None, or empty.

    Attributes
    ----------
    kind : {"binary", "multiclass", "multilabel"}
        Of the labels.
    model : str or None
        The estimator with its parameters; None where only probabilities were given.
    neural : bool
        Whether the estimator is a network of this library.
    epochs : int or None
        Passes over the training images.
    initial_weights : str or None
        What the network started from.
    counts : str
        Images, units and patients scored.
    outcomes : str
        Cases of each class.
    n_excluded : int or None
        Images left out; None where nobody said.
    positive : str or None
        The positive class.
    unit : str
        What is scored: "image" or "unit".
    aggregate : str or None
        How the images of a unit were joined.
    grouped : bool
        Whether patients are known, and intervals go by them.
    overlap : str or None
        What was found of training images and patients among those scored; None where
        it could not be looked for.
    partitions : tuple of str
        Names of the partitions counted.
    threshold : Threshold or None
        Which, and where it came from.
    prevalence : str or None
        That predictive values and net benefit refer to.
    level : float
        Of the intervals.
    n_bootstrap : int
        Replicates.
    random_state : str
        Of the report.
    subgroups : tuple of str
        Columns.
    compared : tuple of str
        Names of other models.
    baselines : tuple of str
        Names of the baselines.
    distortions : tuple of str
        Parameters that distort risks.
    software : str
        Packages with versions.
    """

    kind: str
    model: str | None
    neural: bool
    epochs: int | None
    initial_weights: str | None
    counts: str
    outcomes: str
    n_excluded: int | None
    positive: str | None
    unit: str
    aggregate: str | None
    grouped: bool
    overlap: str | None
    partitions: tuple[str, ...]
    threshold: Threshold | None
    prevalence: str | None
    level: float
    n_bootstrap: int
    random_state: str
    subgroups: tuple[str, ...]
    compared: tuple[str, ...]
    baselines: tuple[str, ...]
    distortions: tuple[str, ...]
    software: str
