"""Cross-validated areas with intervals, and models compared over the same folds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import stdtr, stdtrit
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold, check_cv
from sklearn.utils._indexing import _safe_indexing
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    Real,
    validate_params,
)
from sklearn.utils.validation import has_fit_parameter

from skmedimg.evaluation._cases import CaseReader
from skmedimg.evaluation._discrimination import holm
from skmedimg.metrics import Comparison, Estimate, ReliabilityDisplay
from skmedimg.metrics._auc import (
    NO_VARIANCE,
    degrees_of_freedom,
    delong_components,
    logit_interval,
    without_variance,
)
from skmedimg.metrics._checks import check_groups
from skmedimg.model_selection import PatientKFold

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_FOLDS = 5


@dataclass(frozen=True)
class CrossEvaluation:
    """What `cross_evaluate` found.

    Attributes
    ----------
    auc : Estimate
        Mean area of the folds with its interval.
    fold_auc : ndarray of shape (n_folds,)
        Area of each fold.
    others : dict of str to Estimate
        The same of the models compared with.
    comparisons : dict of str to Comparison
        The model less each of them, over the same folds.
    p_adjusted : dict of str to float
        Their p values, adjusted for their number by Holm.
    positive : ndarray of bool, shape (n,)
        Labels, of the images that were tested.
    proba : ndarray of shape (n,)
        Out-of-fold probabilities, the mean where an image was tested more than once.
    groups : ndarray of shape (n,) or None
        Patients.
    """

    auc: Estimate
    fold_auc: np.ndarray
    others: dict[str, Estimate]
    comparisons: dict[str, Comparison]
    p_adjusted: dict[str, float]
    positive: np.ndarray
    proba: np.ndarray
    groups: np.ndarray | None

    def to_frame(self) -> "pd.DataFrame":
        """One row a model.

        Returns
        -------
        DataFrame
            Index model; columns auc, low, high, and for others difference,
            difference_low, difference_high, p_value, p_adjusted.
        """
        import pandas as pd

        areas = pd.DataFrame(
            {"model": self.auc, **self.others}, index=["auc", "low", "high"]
        ).T
        columns = ["difference", "difference_low", "difference_high", "p_value"]
        tests = pd.DataFrame(
            {
                name: [*test[:3], test.p_value]
                for name, test in self.comparisons.items()
            },
            index=columns,
        ).T
        tests["p_adjusted"] = pd.Series(self.p_adjusted, dtype=float)
        return areas.join(tests).rename_axis("model")

    def plot(self, *, ax: "Axes | None" = None) -> ReliabilityDisplay:
        """Draw the calibration of the pooled out-of-fold probabilities.

        They serve for nothing else: probabilities of different fits are not on one
        scale, and their pooled ranking is not that of any of them.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        ReliabilityDisplay
            With `ax_` and `figure_`.
        """
        return ReliabilityDisplay.from_predictions(
            self.positive.astype(int), self.proba, groups=self.groups, ax=ax
        )


@validate_params(
    {
        "estimator": [HasMethods(["fit", "predict_proba"])],
        "cv": "no_validation",
        "level": [Interval(Real, 0, 1, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def cross_evaluate(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    cv: Any = None,
    groups: Any = None,
    compare_with: Any = None,
    pos_label: Any = None,
    level: float = 0.95,
) -> CrossEvaluation:
    """Cross-validated area under the ROC curve with its interval.

    Parameters
    ----------
    estimator : classifier
        Cloned and fitted in each fold.
    X : array-like or ImageSequence of n images
        Images.
    y : array-like of shape (n,)
        Labels of two classes.
    cv : int, splitter or iterable of (train, test), default=None
        None is `skmedimg.model_selection.PatientKFold` of five shuffled folds where
        patients are known, else stratified folds.
    groups : array-like of shape (n,), default=None
        Patients; None takes ``X.groups`` where X is an `ImageSequence`.
    compare_with : classifier or mapping of str to classifier, default=None
        Others, fitted on the same folds.
    pos_label : int, float, bool or str, default=None
        Label of the positive class. None means 1, and is allowed where the labels are
        {0, 1} or {-1, 1}.
    level : float, default=0.95
        Confidence level.

    Returns
    -------
    CrossEvaluation
        Areas, intervals, tests, out-of-fold probabilities.

    Raises
    ------
    ValueError
        If a fold splits a patient, or its test images are of one class.

    See Also
    --------
    evaluate : On a test set.

    Notes
    -----
    The interval is that of LeDell et al. [1]_: each fold's area has the influence
    function of a Mann-Whitney statistic, summed here by patient; the interval is
    symmetric on the logit scale, with Student's t and the degrees of freedom of
    `skmedimg.metrics.roc_auc_ci`. It is the
    uncertainty of test images given the fits, and knows nothing of how another
    training set would have changed them.

    Models are compared by the corrected resampled t test of Nadeau and Bengio [2]_,
    whose variance is raised by the overlap of training sets, with k - 1 degrees of
    freedom for k folds.

    References
    ----------
    .. [1] E. LeDell, M. Petersen, M. van der Laan, "Computationally efficient
       confidence intervals for cross-validated area under the ROC curve estimates",
       Electronic Journal of Statistics 9:1583-1607, 2015.
    .. [2] C. Nadeau, Y. Bengio, "Inference for the generalization error", Machine
       Learning 52:239-281, 2003.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skmedimg.evaluation import cross_evaluate
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)
    >>> X = rng.normal(size=(200, 3)) + y[:, np.newaxis]
    >>> auc, low, high = cross_evaluate(LogisticRegression(), X, y).auc
    >>> print(f"{auc:.2f} ({low:.2f} to {high:.2f})")
    0.86 (0.80 to 0.90)
    """
    reader = CaseReader(X, y, pos_label=pos_label, groups=groups)
    if reader.kind != "binary":
        raise ValueError(
            f"y holds {len(reader.labels)} classes or labels, and cross_evaluate "
            "takes two classes: compare y == label with the rest."
        )
    folds = list(_folds(reader, cv))
    models = {"model": estimator} | _others(compare_with)
    if len(models) > 1 and len(folds) < 2:
        raise ValueError(
            "compare_with tests models over folds, and cv gives one: take two or more."
        )
    proba = {name: _test_probabilities(m, reader, folds) for name, m in models.items()}
    positive = reader.y == reader.labels[1]
    found = {
        name: _cv_auc(positive, p, folds, reader.groups, level)
        for name, p in proba.items()
    }
    auc, own = found.pop("model")
    comparisons = {
        name: corrected_t_test(own - areas, _test_ratio(folds), level)
        for name, (_, areas) in found.items()
    }
    adjusted = holm([test.p_value for test in comparisons.values()])
    pooled, tested = _pooled(proba["model"], folds, len(positive))
    return CrossEvaluation(
        auc=auc,
        fold_auc=own,
        others={name: estimate for name, (estimate, _) in found.items()},
        comparisons=comparisons,
        p_adjusted=dict(zip(comparisons, adjusted, strict=True)),
        positive=positive[tested],
        proba=pooled[tested],
        groups=None if reader.groups is None else reader.groups[tested],
    )


Folds = list[tuple[np.ndarray, np.ndarray]]


def _folds(reader: CaseReader, cv: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Folds, each with both classes in its test images and no patient on both sides."""
    y, groups = reader.y, reader.groups
    if cv is None:
        splitter = StratifiedKFold if groups is None else PatientKFold
        cv = splitter(_FOLDS, shuffle=True, random_state=0)
    elif isinstance(cv, Integral) and groups is not None:
        cv = PatientKFold(cv, shuffle=True, random_state=0)
    splits = check_cv(cv, y, classifier=True).split(reader.X, y, groups)
    for i, (train, test) in enumerate(splits):
        if len(np.unique(y[test])) < 2:
            raise ValueError(
                f"the {len(test)} test images of fold {i} are of one class, "
                f"{y[test][0]!r}: an area needs two. Take fewer folds, or stratified "
                "ones."
            )
        if groups is not None:
            shared = np.intersect1d(groups[train], groups[test])
            if len(shared):
                raise ValueError(
                    f"fold {i} has {len(shared)} patients on both sides: the area "
                    "would be too good. Take cv=PatientKFold(5), or leave it out."
                )
        yield train, test


def _others(compare_with: Any) -> dict[str, Any]:
    if compare_with is None:
        return {}
    if not isinstance(compare_with, Mapping):
        compare_with = {type(compare_with).__name__: compare_with}
    others = {str(name): model for name, model in compare_with.items()}
    for name, model in others.items():
        if not hasattr(model, "predict_proba"):
            raise ValueError(
                f"compare_with: {name} has no predict_proba. Pass a classifier that "
                "has one, or several by name: {'A': clf_a, 'B': clf_b}."
            )
    if "model" in others:
        raise ValueError(
            "compare_with names a model 'model', which is the name of the estimator "
            "itself: give it another name."
        )
    return others


def _test_probabilities(
    estimator: Any, reader: CaseReader, folds: Folds
) -> list[np.ndarray]:
    """Probabilities of the positive class, of the test images of each fold."""
    found = []
    for train, test in folds:
        fit_params = {}
        if reader.groups is not None and has_fit_parameter(estimator, "groups"):
            fit_params["groups"] = reader.groups[train]
        fitted = clone(estimator).fit(
            _safe_indexing(reader.X, train), reader.y[train], **fit_params
        )
        proba = fitted.predict_proba(_safe_indexing(reader.X, test))
        column = fitted.classes_.tolist().index(reader.labels[1])
        found.append(np.asarray(proba, dtype=float)[:, column])
    return found


def _cv_auc(
    positive: np.ndarray,
    proba: list[np.ndarray],
    folds: Folds,
    groups: np.ndarray | None,
    level: float,
) -> tuple[Estimate, np.ndarray]:
    """Mean area with the interval of LeDell et al., and the area of each fold."""
    cluster = check_groups(groups, len(positive))
    influence = np.zeros(len(positive))
    areas = []
    for (_, test), score in zip(folds, proba, strict=True):
        side = positive[test]
        component = delong_components(side, score)
        area = component[side].mean()
        size = np.where(side, side.sum(), (~side).sum())
        # An image tested in several folds adds up.
        influence[test] += (component - area) / size / len(folds)
        areas.append(area)
    auc = float(np.mean(areas))
    by_cluster = np.bincount(cluster, influence)
    n = len(by_cluster)
    variance = n / (n - 1) * np.sum(by_cluster**2)
    df = degrees_of_freedom(by_cluster, positive, cluster)
    if df <= 0 or variance < NO_VARIANCE:
        return without_variance(auc, positive, cluster, level), np.array(areas)
    return logit_interval(auc, float(np.sqrt(variance)), df, level), np.array(areas)


def _test_ratio(folds: Folds) -> float:
    """Test images for each training image, on average."""
    return float(np.mean([len(test) / len(train) for train, test in folds]))


def corrected_t_test(
    difference: np.ndarray, test_ratio: float, level: float
) -> Comparison:
    """Corrected resampled t test of the differences of k folds.

    Parameters
    ----------
    difference : ndarray of shape (k,)
        Of two models, one a fold.
    test_ratio : float
        Test images for each training image.
    level : float
        Confidence level.

    Returns
    -------
    Comparison
        Mean difference, interval, t, p.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.evaluation._cross import corrected_t_test
    >>> test = corrected_t_test(np.array([0.02, 0.03, 0.01, 0.02]), 1 / 3, 0.95)
    >>> round(test.statistic, 2), round(test.p_value, 3)
    (3.21, 0.049)
    """
    k = len(difference)
    mean = float(np.mean(difference))
    error = np.sqrt((1 / k + test_ratio) * np.var(difference, ddof=1))
    if error == 0:
        p = 1.0 if mean == 0 else 0.0
        t = 0.0 if mean == 0 else float(np.copysign(np.inf, mean))
        return Comparison(mean, mean, mean, t, p)
    t = mean / error
    half = stdtrit(k - 1, (1 + level) / 2) * error
    p = 2 * stdtr(k - 1, -abs(t))
    return Comparison(mean, mean - half, mean + half, float(t), float(p))


def _pooled(
    proba: list[np.ndarray], folds: Folds, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean out-of-fold probability of each image, and whether it was tested."""
    total, times = np.zeros(n), np.zeros(n)
    for (_, test), score in zip(folds, proba, strict=True):
        total[test] += score
        times[test] += 1
    return total / np.maximum(times, 1), times > 0
