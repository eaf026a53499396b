"""How many patients a study needs."""

from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, ndtri, owens_t, stdtrit
from sklearn.utils._param_validation import Interval, Real, validate_params

_INSIDE = Interval(Real, 0, 1, closed="neither")
_MOST_PATIENTS = 10**9


class SampleSize(NamedTuple):
    """Number of patients of a study, and of its images.

    Attributes
    ----------
    n_patients : int
        Patients.
    n_positive, n_negative : int
        Positive and negative images among all of theirs, as expected.
    """

    n_patients: int
    n_positive: int
    n_negative: int


@validate_params(
    {
        "auc": [Interval(Real, 0.5, 1, closed="left")],
        "width": [_INSIDE],
        "prevalence": [_INSIDE],
        "level": [_INSIDE],
        "images_per_patient": [Interval(Real, 1, None, closed="left")],
        "correlation": [Interval(Real, 0, 1, closed="both")],
    },
    prefer_skip_nested_validation=True,
)
def auc_sample_size(
    auc: float,
    width: float,
    *,
    prevalence: float,
    level: float = 0.95,
    images_per_patient: float = 1,
    correlation: float = 0.0,
) -> SampleSize:
    """Patients needed for an interval of the area under the ROC curve so wide.

    Parameters
    ----------
    auc : float
        Area expected, from .5 up to, not including, 1.
    width : float
        Width of the interval to be reached, upper less lower bound.
    prevalence : float
        Share of positive images, between 0 and 1.
    level : float, default=0.95
        Confidence level, between 0 and 1.
    images_per_patient : float, default=1
        Mean number of images of a patient.
    correlation : float, default=0.0
        Correlation of what images of one patient add to the error of the area, from 0
        (independent) to 1 (further images tell nothing). 1 is on the safe side.

    Returns
    -------
    SampleSize
        Named tuple (n_patients, n_positive, n_negative): the smallest study whose
        interval is at most so wide if the area is as expected.

    Raises
    ------
    ValueError
        If a parameter is outside its range, or no study of a billion patients would do.

    See Also
    --------
    roc_auc_ci : The interval that is planned for.

    Notes
    -----
    The variance is that of the Mann-Whitney statistic where the scores of either class
    are normal and equally spread [1]_, or become so by some transformation. Images
    are divided by the design effect ``1 + (images_per_patient - 1) * correlation`` of
    patients with equally many of them [2]_. The interval is planned as
    :func:`roc_auc_ci` builds it, on the logit scale with Student's t. The width of a
    study varies around the planned one: about half of them have a wider interval.

    References
    ----------
    .. [1] N. A. Obuchowski, "Computing sample size for receiver operating
       characteristic studies", Investigative Radiology 29:238-243, 1994.
    .. [2] L. Kish, "Survey Sampling", Wiley, 1965.

    Examples
    --------
    >>> from skmedimg.metrics import auc_sample_size
    >>> auc_sample_size(0.9, 0.1, prevalence=0.2)
    SampleSize(n_patients=239, n_positive=48, n_negative=191)
    >>> auc_sample_size(0.9, 0.1, prevalence=0.2, images_per_patient=4, correlation=0.5)
    SampleSize(n_patients=150, n_positive=120, n_negative=480)
    """
    effect = 1 + (images_per_patient - 1) * correlation

    def planned_width(n_patients: int) -> float:
        independent = n_patients * images_per_patient / effect
        n_pos, n_neg = independent * prevalence, independent * (1 - prevalence)
        df = min(n_pos, n_neg) - 1
        if df <= 0:
            return 1.0
        error = np.sqrt(_binormal_variance(auc, n_pos, n_neg))
        half = stdtrit(df, (1 + level) / 2) * error / (auc * (1 - auc))
        low, high = expit(logit(auc) + half * np.array([-1, 1]))
        return float(high - low)

    too_few, enough = 1, 2
    while planned_width(enough) > width:
        too_few, enough = enough, 2 * enough
        if enough > _MOST_PATIENTS:
            raise ValueError(
                f"width={width} would take more than {_MOST_PATIENTS:,} patients: "
                "choose a wider interval."
            )
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if planned_width(middle) > width:
            too_few = middle
        else:
            enough = middle
    images = round(enough * images_per_patient)
    n_positive = round(images * prevalence)
    return SampleSize(enough, n_positive, images - n_positive)


def _binormal_variance(auc: float, n_pos: float, n_neg: float) -> float:
    """Return the variance of an area where scores are normal, equally spread.

    Two pairs that share a case are both ranked right with the probability that two
    standard normal variables of correlation .5 are below Φ⁻¹(auc).
    """
    both_right = auc - 2 * owens_t(ndtri(auc), 1 / np.sqrt(3))
    shared = (n_pos + n_neg - 2) * (both_right - auc**2)
    return float((auc * (1 - auc) + shared) / (n_pos * n_neg))
