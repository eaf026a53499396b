"""One call from labels and probabilities to a report."""

import warnings
from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, Real, validate_params

from skmedimg.evaluation._assemble import make_report
from skmedimg.evaluation._baseline import regression_baseline
from skmedimg.evaluation._cases import CaseReader, Cases, probabilities
from skmedimg.evaluation._refusals import known_from_training
from skmedimg.evaluation._report import EvaluationReport
from skmedimg.evaluation._settings import Settings
from skmedimg.evaluation._study import Study
from skmedimg.evaluation._threshold import choose_threshold
from skmedimg.images import groups_of

_SHARE = Interval(Real, 0, 1, closed="neither")


@validate_params(
    {
        "threshold": [Interval(Real, 0, 1, closed="both")],
        "target_sensitivity": [_SHARE, None],
        "prevalence": [_SHARE, None],
        "excluded": [Mapping, None],
        "class_names": [Mapping, None],
        "level": [_SHARE],
        "n_bootstrap": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "show_images": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def evaluate(
    estimator_or_proba: Any,
    X: Any = None,
    y: Any = None,
    *,
    pos_label: Any = None,
    classes: Any = None,
    class_names: Mapping[Any, str] | None = None,
    unit: Any = None,
    groups: Any = None,
    subgroups: Any = None,
    names: Any = None,
    threshold: float = 0.5,
    target_sensitivity: float | None = None,
    threshold_from: Any = None,
    prevalence: float | None = None,
    compare_with: Any = None,
    baseline: Any = None,
    excluded: Mapping[str, int] | None = None,
    aggregate: Any = "mean",
    label: str = "same",
    level: float = 0.95,
    n_bootstrap: int = 2000,
    random_state: Any = 0,
    show_images: bool = False,
) -> EvaluationReport:
    """Evaluate a classifier as a paper in medical imaging reports it.

    Parameters
    ----------
    estimator_or_proba : estimator, or array-like of shape (n,) or (n, n_classes)
        Fitted classifier with `predict_proba`; or probabilities by any model, for two
        classes those of the positive one or a column for each.
    X : array-like or ImageSequence of n images, default=None
        Images; with probabilities they serve `baseline` and `show_images` alone.
    y : array-like of shape (n,) or (n, n_labels)
        True labels; indicators of several labels may be NaN where one is not known.
    pos_label : int, float, bool or str, default=None
        Label of the positive class of two. None means 1, and is allowed where the
        labels are {0, 1} or {-1, 1}.
    classes : sequence, default=None
        Labels in the order of the columns of probabilities, where these are not
        sorted; for indicators the names of the labels. None takes an estimator's.
    class_names : mapping of label to str, default=None
        What documents call the classes, such as ``{0: "malignant", 1: "benign"}``.
    unit : array-like of shape (n,), default=None
        What is scored, for example the lesion: its images are joined into one case.
        None scores images. The hardest cases are listed by it: give pseudonyms.
    groups : array-like of shape (n,), default=None
        Patient of each image: what intervals take as independent. None takes
        ``X.groups`` where X is an `ImageSequence`.
    subgroups : DataFrame, mapping of str to array-like, or array-like, default=None
        Levels of each image, such as site and sex; numbers of more than ten levels are
        cut into thirds.
    names : array-like of shape (n,), default=None
        Of the images, for the hardest cases; None takes their row.
    threshold : float, default=0.5
        A case is positive at this probability or more.
    target_sensitivity : float, default=None
        Sensitivity to choose the threshold by, in place of `threshold`.
    threshold_from : tuple of array-like, default=None
        (y, probabilities) or (y, probabilities, groups) of other cases to choose the
        threshold on, a row a case of the same unit. None chooses it on the cases
        evaluated, and the report says so.
    prevalence : float, default=None
        That predictive values and net benefit refer to; None takes that of the cases.
    compare_with : estimator, array-like, or mapping of str to these, default=None
        Other models on the same images.
    baseline : tuple (X_train, y_train), default=None
        Training images, or embeddings of shape (m, p) where X is such too: a logistic
        regression on simple statistics of them is evaluated beside the model. The
        prevalence is, always. An `ImageSequence` brings its patients, which are looked
        for among those evaluated.
    excluded : mapping of str to int, default=None
        Images left out before, by reason: ``{"unreadable": 3}``; an empty one says
        that none were.
    aggregate : {"mean", "max", "noisy-or"} or callable, default="mean"
        How the images of a unit are joined (`skmedimg.metrics.aggregate_by_unit`).
    label : {"same", "any", "consensus"}, default="same"
        Label of a unit whose images differ; "same" allows none that do.
    level : float, default=0.95
        Confidence level.
    n_bootstrap : int, default=2000
        Replicates.
    random_state : int, RandomState instance or None, default=0
        Of the bootstrap.
    show_images : bool, default=False
        Whether the report shows the hardest cases' images, not only their names.

    Returns
    -------
    EvaluationReport
        Figures as a frame, plots, and documents.

    Raises
    ------
    ValueError
        If arguments do not fit each other, probabilities are not within 0 and 1, or
        one class only is there: no area is defined.

    Warns
    -----
    UserWarning
        If images or patients were trained on, or the threshold was chosen on the cases
        evaluated.

    See Also
    --------
    cross_evaluate : Without a test set.
    skmedimg.metrics : The figures one by one.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.evaluation import evaluate
    >>> rng = np.random.default_rng(0)
    >>> lesion, patient = np.arange(200) // 2, np.arange(200) // 4
    >>> y = rng.integers(2, size=100)[lesion]
    >>> proba = 1 / (1 + np.exp(1 - 2 * y - rng.normal(size=200)))
    >>> report = evaluate(
    ...     proba, y=y, class_names={1: "malignant"}, unit=lesion, groups=patient
    ... )
    >>> print(report.summary[1])
    Positive = malignant (1)
    >>> frame = report.to_frame().set_index("metric")
    >>> frame.loc["Sensitivity", ["value", "low", "high"]].round(2).to_list()
    [0.93, 0.83, 0.97]
    """
    proba, own_classes = probabilities(estimator_or_proba, X)
    reader = CaseReader(
        X,
        y,
        pos_label=pos_label,
        classes=own_classes if classes is None else classes,
        class_names=class_names,
        unit=unit,
        groups=groups,
        aggregate=aggregate,
        label=label,
    )
    cases = reader.read(proba, own_classes, names, subgroups)
    estimator = estimator_or_proba if hasattr(estimator_or_proba, "predict") else None
    study = Study(
        cases=cases,
        image_labels=reader.y,
        settings=Settings(level, n_bootstrap, _seed(random_state), prevalence),
        threshold=choose_threshold(
            cases, threshold, target_sensitivity, threshold_from, pos_label
        ),
        estimator=estimator,
        known=known_from_training(estimator, X, reader.groups),
        compared=_compared(reader, compare_with),
        baselines=_baselines(reader, baseline),
        partitions=_partitions(baseline, threshold_from),
        excluded=excluded,
        aggregate=aggregate if cases.by_unit else None,
        images=X if show_images else None,
    )
    for text in study.severe:
        warnings.warn(text, UserWarning, stacklevel=3)  # validate_params is one
    return make_report(study)


def _seed(random_state: Any) -> int:
    """One seed for all sections, so that each gives the same when computed alone."""
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    return int(random_state)


def _compared(reader: CaseReader, compare_with: Any) -> dict[str, Cases]:
    """Cases of the other models, by name."""
    if compare_with is None:
        return {}
    if not isinstance(compare_with, Mapping):
        known = hasattr(compare_with, "predict_proba")
        name = type(compare_with).__name__ if known else "Other model"
        compare_with = {name: compare_with}
    found = {}
    for name, model in compare_with.items():
        proba, classes = probabilities(model, reader.X)
        found[str(name)] = reader.read(proba, classes)
    return found


def _baselines(reader: CaseReader, baseline: Any) -> dict[str, Cases]:
    """Cases of what a model must beat: the prevalence, and a simple regression."""
    found = {"Prevalence": reader.read(_constant(reader))}
    if baseline is None:
        return found
    if reader.kind == "multilabel":
        raise ValueError(
            "baseline= learns one label an image, and y has several: evaluate one "
            "label at a time, or leave it out."
        )
    name, proba, classes = regression_baseline(baseline, reader.X)
    return found | {name: reader.read(proba, classes)}


def _constant(reader: CaseReader) -> np.ndarray:
    """The share of each class or label, for every image."""
    if reader.kind == "binary":
        return np.full(len(reader.y), np.mean(reader.y == reader.labels[1]))
    if reader.kind == "multilabel":
        return np.tile(np.nanmean(reader.y, axis=0), (len(reader.y), 1))
    shares = [np.mean(reader.y == label) for label in reader.labels]
    return np.tile(shares, (len(reader.y), 1))


def _partitions(
    baseline: Any, threshold_from: Any
) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Labels and patients of the other cases that were given."""
    found: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
    if baseline is not None:
        found["Training"] = np.asarray(baseline[1]).ravel(), groups_of(baseline[0])
    if threshold_from is not None:
        y, _, *groups = threshold_from
        patients = np.asarray(groups[0]) if groups else None
        found["Tuning of the threshold"] = np.asarray(y), patients
    return found
