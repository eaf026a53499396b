"""Operating points: sensitivity at a specificity, thresholds, partial areas."""

from typing import Any, NamedTuple

import numpy as np
from scipy.special import betaincinv
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.utils._param_validation import Interval, Real, validate_params

from skmedimg.metrics._checks import check_binary, effective_clusters

_SHARE = Interval(Real, 0, 1, closed="both")
_BELOW_ONE = Interval(Real, 0, 1, closed="left")
_INSIDE = Interval(Real, 0, 1, closed="neither")
_SCORE_PARAMS = {
    "y_true": ["array-like"],
    "y_score": ["array-like"],
    "pos_label": "no_validation",
}


class OperatingPoint(NamedTuple):
    """A point of the ROC curve.

    Attributes
    ----------
    value : float
        Sensitivity, or specificity, attained there.
    threshold : float
        Cases with a score of at least this are called positive; infinite where none is.
    """

    value: float
    threshold: float


@validate_params(
    {**_SCORE_PARAMS, "specificity": [_SHARE]}, prefer_skip_nested_validation=True
)
def sensitivity_at_specificity(
    y_true: Any, y_score: Any, specificity: float, *, pos_label: Any = None
) -> OperatingPoint:
    """Highest sensitivity among thresholds of at least the given specificity.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels of two classes.
    y_score : array-like of shape (n,)
        Scores, higher for the positive class: probabilities or decision values.
    specificity : float
        Least specificity, from 0 to 1.
    pos_label : int, float, bool or str, default=None
        Label of the positive class. None means 1, and is allowed where the labels are
        {0, 1} or {-1, 1}.

    Returns
    -------
    OperatingPoint
        Named tuple (value, threshold): the sensitivity and where it is attained. Of
        several thresholds with that sensitivity the one with most specificity.

    Raises
    ------
    ValueError
        If lengths differ, labels or scores are missing, there are not exactly two
        classes, or `pos_label` is not one of them or is needed and not given.

    See Also
    --------
    specificity_at_sensitivity : The mirror.
    sensitivity_ci : Sensitivity at a threshold chosen beforehand, with its interval.

    Notes
    -----
    Only points that a threshold attains count; nothing is interpolated between them.
    A threshold chosen on these cases looks better on them than on others: report it
    from cases that had no part in the choice.

    Examples
    --------
    >>> from skmedimg.metrics import sensitivity_at_specificity
    >>> y_true = [0, 0, 0, 0, 1, 1, 1, 1]
    >>> y_score = [0.1, 0.2, 0.3, 0.6, 0.4, 0.5, 0.7, 0.9]
    >>> sensitivity_at_specificity(y_true, y_score, 0.9)
    OperatingPoint(value=0.5, threshold=0.7)
    >>> sensitivity_at_specificity(y_true, y_score, 0.75)
    OperatingPoint(value=1.0, threshold=0.4)
    """
    false_positive, sensitivity, thresholds = _curve(y_true, y_score, pos_label)
    # The rates rise as the threshold falls; rounding must not lose an exact match.
    allowed = 1 - false_positive >= specificity - 1e-12
    at = int(np.argmax(np.where(allowed, sensitivity, -1)))
    return OperatingPoint(float(sensitivity[at]), float(thresholds[at]))


@validate_params(
    {**_SCORE_PARAMS, "sensitivity": [_SHARE]}, prefer_skip_nested_validation=True
)
def specificity_at_sensitivity(
    y_true: Any, y_score: Any, sensitivity: float, *, pos_label: Any = None
) -> OperatingPoint:
    """Highest specificity among thresholds of at least the given sensitivity.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels of two classes.
    y_score : array-like of shape (n,)
        Scores, higher for the positive class: probabilities or decision values.
    sensitivity : float
        Least sensitivity, from 0 to 1.
    pos_label : int, float, bool or str, default=None
        Label of the positive class. None means 1, and is allowed where the labels are
        {0, 1} or {-1, 1}.

    Returns
    -------
    OperatingPoint
        Named tuple (value, threshold): the specificity and where it is attained. Of
        several thresholds with that specificity the one with most sensitivity.

    Raises
    ------
    ValueError
        If lengths differ, labels or scores are missing, there are not exactly two
        classes, or `pos_label` is not one of them or is needed and not given.

    See Also
    --------
    sensitivity_at_specificity : The mirror.
    threshold_at_sensitivity : A threshold whose sensitivity will hold on other cases.

    Notes
    -----
    Only points that a threshold attains count; nothing is interpolated between them.
    A threshold chosen on these cases looks better on them than on others: report it
    from cases that had no part in the choice.

    Examples
    --------
    >>> from skmedimg.metrics import specificity_at_sensitivity
    >>> y_true = [0, 0, 0, 0, 1, 1, 1, 1]
    >>> y_score = [0.1, 0.2, 0.3, 0.6, 0.4, 0.5, 0.7, 0.9]
    >>> specificity_at_sensitivity(y_true, y_score, 0.95)
    OperatingPoint(value=0.75, threshold=0.4)
    """
    false_positive, found, thresholds = _curve(y_true, y_score, pos_label)
    allowed = found >= sensitivity - 1e-12
    # Equal specificities stand together; the last of them has most sensitivity.
    worst = np.where(allowed, false_positive, 2)[::-1]
    at = len(worst) - 1 - int(np.argmin(worst))
    return OperatingPoint(float(1 - false_positive[at]), float(thresholds[at]))


@validate_params(
    {
        **_SCORE_PARAMS,
        "min_specificity": [_BELOW_ONE, None],
        "min_sensitivity": [_BELOW_ONE, None],
    },
    prefer_skip_nested_validation=True,
)
def partial_roc_auc(
    y_true: Any,
    y_score: Any,
    *,
    pos_label: Any = None,
    min_specificity: float | None = None,
    min_sensitivity: float | None = None,
) -> float:
    """Standardised partial area under the ROC curve.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels of two classes.
    y_score : array-like of shape (n,)
        Scores, higher for the positive class: probabilities or decision values.
    pos_label : int, float, bool or str, default=None
        Label of the positive class. None means 1, and is allowed where the labels are
        {0, 1} or {-1, 1}.
    min_specificity : float, default=None
        Least specificity of the part of the curve that counts, from 0 up to, not
        including, 1.
    min_sensitivity : float, default=None
        Least sensitivity of that part. Exactly one of the two is given.

    Returns
    -------
    float
        Area standardised by McClish [1]_: 1 for perfect, .5 for uninformative scores.

    Raises
    ------
    ValueError
        If both `min_specificity` and `min_sensitivity` are given or neither is, lengths
        differ, labels or scores are missing, there are not exactly two classes, or
        `pos_label` is not one of them or is needed and not given.

    See Also
    --------
    sklearn.metrics.roc_auc_score : The same from a specificity on, by ``max_fpr``.
    bootstrap_ci : An interval for any metric.

    References
    ----------
    .. [1] D. K. McClish, "Analyzing a portion of the ROC curve", Medical Decision
       Making 9:190-195, 1989.

    Examples
    --------
    >>> from skmedimg.metrics import partial_roc_auc
    >>> y_true = [0, 0, 0, 0, 1, 1, 1, 1]
    >>> y_score = [0.1, 0.2, 0.3, 0.6, 0.4, 0.5, 0.7, 0.9]
    >>> partial_roc_auc(y_true, y_score, min_specificity=0.75)
    0.714...
    >>> partial_roc_auc(y_true, y_score, min_sensitivity=0.75)
    0.857...
    """
    if (min_specificity is None) == (min_sensitivity is None):
        raise ValueError(
            f"min_specificity={min_specificity} and min_sensitivity={min_sensitivity}: "
            "give exactly one of them, which says the part of the curve that counts."
        )
    positive, score, _ = check_binary(y_true, y_score, pos_label, None)
    if min_specificity is not None:
        return float(roc_auc_score(positive, score, max_fpr=1 - min_specificity))
    assert min_sensitivity is not None
    # With the classes and the order of scores swapped, 1 - sensitivity becomes the
    # false-positive rate.
    return float(roc_auc_score(~positive, -score, max_fpr=1 - min_sensitivity))


@validate_params(
    {
        **_SCORE_PARAMS,
        "sensitivity": [_INSIDE],
        "groups": ["array-like", None],
        "confidence": [_INSIDE],
    },
    prefer_skip_nested_validation=True,
)
def threshold_at_sensitivity(
    y_true: Any,
    y_score: Any,
    sensitivity: float,
    *,
    pos_label: Any = None,
    groups: Any = None,
    confidence: float = 0.95,
) -> float:
    """Threshold whose sensitivity will hold on other cases, with a stated confidence.

    Where the empirical threshold meets the target on these cases, on others it misses
    it about every second time. This is the largest one of which it can be said, with
    the given confidence, that its sensitivity reaches the target among all such cases.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels of two classes.
    y_score : array-like of shape (n,)
        Scores, higher for the positive class: probabilities or decision values. They
        come from cases that the classifier was not trained on.
    sensitivity : float
        Target, between 0 and 1.
    pos_label : int, float, bool or str, default=None
        Label of the positive class. None means 1, and is allowed where the labels are
        {0, 1} or {-1, 1}.
    groups : array-like of shape (n,), default=None
        Cluster of each case, for example its patient. None takes cases as independent.
    confidence : float, default=0.95
        Probability, over samples of cases, that the target is reached.

    Returns
    -------
    float
        Threshold; cases with a score of at least this are called positive. It is the
        score of a positive case.

    Raises
    ------
    ValueError
        If there are too few positive cases (patients) for the target and confidence,
        lengths differ, labels or scores are missing, there are not exactly two classes,
        or `pos_label` is not one of them or is needed and not given.

    See Also
    --------
    specificity_at_sensitivity : The threshold that meets the target on these cases.

    Notes
    -----
    A lower tolerance bound from order statistics [1]_, whatever the distribution of the
    scores: the k-th smallest of n positive scores has a sensitivity of at least s with
    probability P(B >= k), where B is binomial of n and 1 - s; the largest k that makes
    this at least `confidence` is taken.

    With `groups`, positive cases of a patient are taken to be missed or found together,
    the most that they can depend on each other. They then count as
    (Σ m_i)² / Σ m_i² independent cases, where m_i is the number of positive cases of
    patient i [2]_. Less dependence makes the threshold too low rather than too high;
    patients whose cases are many and score lower than others' make it too high, for
    this takes the number of cases to tell nothing of their scores.

    References
    ----------
    .. [1] S. S. Wilks, "Determination of sample sizes for setting tolerance limits",
       Annals of Mathematical Statistics 12:91-96, 1941.
    .. [2] L. Kish, "Survey Sampling", Wiley, 1965.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.metrics import threshold_at_sensitivity
    >>> y_true = np.repeat([0, 1], 100)
    >>> y_score = np.append(np.arange(100) - 60, np.arange(100))
    >>> threshold_at_sensitivity(y_true, y_score, 0.9)
    4.0
    """
    positive, score, cluster = check_binary(y_true, y_score, pos_label, groups)
    size = effective_clusters(cluster[positive])
    # Share of positives found at each, from the lowest on; tied ones are found at both.
    ordered = np.sort(score[positive])
    found = 1 - np.searchsorted(ordered, ordered) / len(ordered)
    assured = betaincinv(found * size, (1 - found) * size + 1, 1 - confidence)
    # A bound equal to the target to rounding meets it.
    meets = assured >= sensitivity - 1e-12
    if not meets[0]:
        _refuse(size, sensitivity, confidence, groups is not None)
    return float(ordered[meets][-1])


def _curve(
    y_true: Any, y_score: Any, pos_label: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    positive, score, _ = check_binary(y_true, y_score, pos_label, None)
    return roc_curve(positive, score, drop_intermediate=False)


def _refuse(
    size: float, sensitivity: float, confidence: float, clustered: bool
) -> None:
    needed = int(np.ceil(np.log(1 - confidence) / np.log(sensitivity)))
    cases = "positive cases"
    if clustered:
        cases = "independent positive cases (patients, fewer if of unequal size)"
    raise ValueError(
        f"the labels hold the worth of {size:.0f} {cases}; even if all of them are "
        f"found, a sensitivity of {sensitivity} cannot be assured with confidence "
        f"{confidence}. That takes {needed}; add cases, or lower sensitivity or "
        "confidence."
    )
