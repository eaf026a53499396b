"""Probabilities moved from one prevalence to another."""

from typing import Any

import numpy as np
from scipy.special import expit, logit
from sklearn.utils._param_validation import Interval, Real, validate_params

_SHARE = Interval(Real, 0, 1, closed="neither")


@validate_params(
    {"y_prob": ["array-like"], "trained_at": [_SHARE], "prevalence": [_SHARE]},
    prefer_skip_nested_validation=True,
)
def correct_prior(y_prob: Any, *, trained_at: float, prevalence: float) -> np.ndarray:
    """Move probabilities to another prevalence of the positive class.

    A model learns the prevalence of what it was shown: balanced classes, by weights or
    by resampling, are one of 0.5, and its probabilities are then far above the risk of
    a rare disease.

    Parameters
    ----------
    y_prob : array-like of shape (n,)
        Probabilities of the positive class.
    trained_at : float
        Prevalence that the model was shown, after weights and resampling.
    prevalence : float
        That of the patients the probabilities are for.

    Returns
    -------
    ndarray of shape (n,)
        Probabilities in the same order: nothing changes in ranking.

    Raises
    ------
    ValueError
        If a prevalence is outside (0, 1).

    Notes
    -----
    The odds are multiplied by the ratio of the prior odds (Elkan [1]_). It takes the
    images within each class to be like those of training.

    References
    ----------
    .. [1] C. Elkan, "The foundations of cost-sensitive learning", IJCAI 2001,
       pp. 973-978.

    Examples
    --------
    >>> from skmedimg.evaluation import correct_prior
    >>> correct_prior([0.5, 0.9], trained_at=0.5, prevalence=0.1).round(2)
    array([0.1, 0.5])
    """
    shift = logit(prevalence) - logit(trained_at)
    return expit(logit(np.asarray(y_prob, dtype=float)) + shift)
