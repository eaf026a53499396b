"""Net benefit against its definition and the worked example of its authors."""

import numpy as np
import pytest

from skmedimg.metrics import net_benefit


def make_risks(n=200, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.random(n).round(2)
    return (rng.random(n) < p).astype(int), p


def test_net_benefit_is_its_definition():
    y, p = make_risks()
    thresholds = [0, 0.05, 0.2, 0.5, 0.77, 0.99]
    frame = net_benefit(y, p, thresholds)
    assert frame.index.name == "threshold"
    assert list(frame.index) == thresholds
    for t, row in frame.iterrows():
        odds = t / (1 - t)
        tp, fp = np.sum((p >= t) & (y == 1)), np.sum((p >= t) & (y == 0))
        assert row["model"] == pytest.approx((tp - fp * odds) / 200)
        assert row["treat_all"] == pytest.approx((y.sum() - (1 - y).sum() * odds) / 200)
        assert row["treat_none"] == 0


def test_published_example():
    # Vickers, Van Calster and Steyerberg, BMJ 2016;352:i6: biopsy at a risk of 10 %,
    # of 1000 men 250 with high-grade cancer; the model finds 247 of them in 873
    # biopsies, net benefit 0.1774; biopsy for all 0.1667.
    y = np.repeat([1, 1, 0, 0], [247, 3, 626, 124])
    p = np.repeat([0.2, 0.05, 0.2, 0.05], [247, 3, 626, 124])
    row = net_benefit(y, p, [0.1]).iloc[0]
    assert row["model"] == pytest.approx(0.247 - 0.626 / 9)
    assert row["treat_all"] == pytest.approx(0.25 - 0.75 / 9)


def test_prevalence_weighs_the_classes():
    y, p = make_risks()
    weighed = net_benefit(y, p, [0.1, 0.3], prevalence=0.05)
    sensitivity = [np.mean(p[y == 1] >= t) for t in (0.1, 0.3)]
    false_alarms = [np.mean(p[y == 0] >= t) for t in (0.1, 0.3)]
    odds = np.array([0.1 / 0.9, 0.3 / 0.7])
    expected = 0.05 * np.array(sensitivity) - 0.95 * odds * np.array(false_alarms)
    np.testing.assert_allclose(weighed["model"], expected)
    np.testing.assert_allclose(weighed["treat_all"], 0.05 - 0.95 * odds)
    same = net_benefit(y, p, [0.1, 0.3], prevalence=y.mean())
    np.testing.assert_allclose(same, net_benefit(y, p, [0.1, 0.3]))


def test_flipping_the_labels_flips_the_numbers():
    y, p = make_risks()
    names = np.array(["benign", "malignant"])[y]
    thresholds = [0.1, 0.5]
    frame = net_benefit(names, p, thresholds, pos_label="malignant")
    assert frame.equals(net_benefit(y, p, thresholds))
    benign = net_benefit(names, 1 - p, thresholds, pos_label="benign")
    assert benign.equals(net_benefit(1 - y, 1 - p, thresholds))
    prevalence = np.mean(y == 0)
    odds = np.array([1 / 9, 1])
    np.testing.assert_allclose(
        benign["treat_all"], prevalence - (1 - prevalence) * odds
    )


@pytest.mark.parametrize(
    ("y", "p", "thresholds", "params", "match"),
    [
        ([0, 1], [0.1, 0.2], [0.5, 1], {}, "0.5 to 1: .*below 1"),
        ([0, 1], [0.1, 0.2], [-0.1], {}, "thresholds range from -0.1"),
        ([0, 1], [0.1, 0.2], [np.nan], {}, "thresholds range from nan"),
        ([0, 1], [0.1, 0.2], [], {}, "thresholds is empty"),
        ([0, 1], [3, 0.2], [0.5], {}, "outside"),
        ([1, 2], [0.3, 0.2], [0.5], {}, "pos_label"),
        ([0, 1], [0.3, 0.2], [0.5], {"prevalence": 30}, "prevalence"),
    ],
)
def test_errors_say_what_was_seen(y, p, thresholds, params, match):
    with pytest.raises(ValueError, match=match):
        net_benefit(y, p, thresholds, **params)
