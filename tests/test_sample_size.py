"""The planned width against simulated studies of that size."""

import numpy as np
import pytest
from scipy.stats import norm

from skmedimg.metrics import auc_sample_size, roc_auc_ci


def simulated_width(size, auc, prevalence, images, correlation, seed):
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(size.n_patients), images)
    y = (np.arange(size.n_patients) < prevalence * size.n_patients)[patient]
    score = np.sqrt(correlation) * rng.normal(size=size.n_patients)[patient]
    score += np.sqrt(1 - correlation) * rng.normal(size=len(y))
    score += np.sqrt(2) * norm.ppf(auc) * y
    result = roc_auc_ci(y, score, groups=patient)
    return result.high - result.low


@pytest.mark.parametrize(
    ("auc", "width", "prevalence", "images", "correlation"),
    [
        (0.7, 0.10, 0.3, 1, 0.0),
        (0.8, 0.08, 0.5, 1, 0.0),
        (0.9, 0.10, 0.2, 1, 0.0),
        (0.9, 0.10, 0.8, 1, 0.0),
        (0.95, 0.05, 0.2, 1, 0.0),
        (0.8, 0.10, 0.3, 5, 0.5),
    ],
)
def test_a_study_of_that_size_has_that_width(
    auc, width, prevalence, images, correlation
):
    params = {"images_per_patient": images, "correlation": correlation}
    size = auc_sample_size(auc, width, prevalence=prevalence, **params)
    assert size.n_positive + size.n_negative == size.n_patients * images
    widths = [
        simulated_width(size, auc, prevalence, images, correlation, seed)
        for seed in range(100)
    ]
    assert np.mean(widths) == pytest.approx(width, rel=0.05)


def test_dependent_images_need_more_patients():
    few = auc_sample_size(0.9, 0.1, prevalence=0.3, images_per_patient=4)
    alone = auc_sample_size(0.9, 0.1, prevalence=0.3)
    safe = auc_sample_size(
        0.9, 0.1, prevalence=0.3, images_per_patient=4, correlation=1.0
    )
    assert few.n_patients < alone.n_patients
    assert safe.n_patients == alone.n_patients


def test_classes_are_alike_and_narrower_takes_more():
    rare = auc_sample_size(0.8, 0.1, prevalence=0.1)
    common = auc_sample_size(0.8, 0.1, prevalence=0.9)
    assert rare.n_patients == pytest.approx(common.n_patients, abs=2)
    half = auc_sample_size(0.8, 0.05, prevalence=0.1)
    assert half.n_patients == pytest.approx(4 * rare.n_patients, rel=0.05)


def test_errors_say_what_was_seen():
    with pytest.raises(ValueError, match="prevalence"):
        auc_sample_size(0.8, 0.1, prevalence=0)
    with pytest.raises(ValueError, match="auc"):
        auc_sample_size(1.0, 0.1, prevalence=0.5)
    with pytest.raises(ValueError, match="more than 1,000,000,000 patients"):
        auc_sample_size(0.8, 1e-6, prevalence=0.5)
