"""What it is worth to act on a model's probabilities."""

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval, Real, validate_params

from skmedimg.metrics._checks import check_binary, check_column, check_probability

if TYPE_CHECKING:
    import pandas as pd


@validate_params(
    {
        "y_true": ["array-like"],
        "y_prob": ["array-like"],
        "thresholds": ["array-like"],
        "pos_label": "no_validation",
        "prevalence": [Interval(Real, 0, 1, closed="neither"), None],
    },
    prefer_skip_nested_validation=True,
)
def net_benefit(
    y_true: Any,
    y_prob: Any,
    thresholds: Any,
    *,
    pos_label: Any = None,
    prevalence: float | None = None,
) -> "pd.DataFrame":
    """Net benefit of acting on a model, on everybody and on nobody.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels of two classes.
    y_prob : array-like of shape (n,)
        Probabilities of the positive class.
    thresholds : array-like of shape (m,)
        Probabilities from which on one acts (treats, biopsies, recalls), at least 0 and
        below 1.
    pos_label : int, float, bool or str, default=None
        Label of the positive class. None means 1, and is allowed where the labels are
        {0, 1} or {-1, 1}.
    prevalence : float, default=None
        Share of positive cases where the model will be used. None takes that of
        `y_true`, which is misleading where cases were sampled by their label.

    Returns
    -------
    DataFrame of shape (m, 3)
        Columns "model", "treat_all" and "treat_none", index "threshold". The unit is
        true positive cases per case, less the false positive ones at their price.

    Raises
    ------
    ValueError
        If lengths differ, something is missing, there are not exactly two classes, or
        values lie outside their range.

    Notes
    -----
    At a threshold t one false positive case is worth t / (1 - t) of a true positive
    one, so that with prevalence π the net benefit is
    ``sensitivity * π - (1 - specificity) * (1 - π) * t / (1 - t)`` (Vickers and
    Elkin [1]_). `prevalence` changes π alone; the probabilities stay as they are, and
    a model calibrated at one prevalence needs another intercept at another.

    References
    ----------
    .. [1] A. J. Vickers, E. B. Elkin, "Decision curve analysis: a novel method for
       evaluating prediction models", Medical Decision Making 26:565-574, 2006.

    Examples
    --------
    >>> from skmedimg.metrics import net_benefit
    >>> y_true = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
    >>> y_prob = [0.1, 0.1, 0.2, 0.2, 0.3, 0.6, 0.2, 0.7, 0.8, 0.9]
    >>> net_benefit(y_true, y_prob, [0.2, 0.5]).reset_index()
       threshold  model  treat_all  treat_none
    0        0.2    0.3       0.25         0.0
    1        0.5    0.2      -0.20         0.0
    """
    import pandas as pd

    positive, prob, _ = check_binary(y_true, y_prob, pos_label, None)
    check_probability(prob)
    threshold = check_column(thresholds, "thresholds").astype(np.float64)
    if not np.all((threshold >= 0) & (threshold < 1)):
        raise ValueError(
            f"thresholds range from {threshold.min():g} to {threshold.max():g}: pass "
            "probabilities of at least 0 and below 1. At 1 a false positive would cost "
            "infinitely much."
        )
    if prevalence is None:
        prevalence = float(positive.mean())
    price = (1 - prevalence) * threshold / (1 - threshold)
    called_pos = _share_at_least(prob[positive], threshold)
    called_neg = _share_at_least(prob[~positive], threshold)
    columns = {
        "model": called_pos * prevalence - called_neg * price,
        "treat_all": prevalence - price,
        "treat_none": np.zeros(len(threshold)),
    }
    return pd.DataFrame(columns, index=pd.Index(threshold, name="threshold"))


def _share_at_least(values: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    return 1 - np.searchsorted(np.sort(values), threshold, side="left") / len(values)
