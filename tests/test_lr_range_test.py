"""The rate rises from step to step, the curve is the losses', the estimator stays."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback

from skmedimg.model_selection import LearningRateRangeDisplay, lr_range_test


class Rates(torch.optim.SGD):
    """Writes down the rate of each step."""

    seen: list = []  # noqa: RUF012

    def step(self, closure=None):
        self.seen.append(self.param_groups[0]["lr"])
        return super().step(closure)


class Forbidden(Callback):
    def on_train_begin(self, net, **kwargs):
        raise AssertionError("a callback of the user was called")


def test_every_step_has_its_rate(images, tiny):
    Rates.seen.clear()
    clf = tiny(optimizer=Rates, batch_size=16)
    found = lr_range_test(clf, *images, lr_min=1e-6, lr_max=1e-3, n_steps=12)
    np.testing.assert_allclose(found.lr, np.geomspace(1e-6, 1e-3, 12))
    np.testing.assert_allclose(Rates.seen, found.lr[: len(Rates.seen)])
    assert len(Rates.seen) == len(found.loss) == 12


def test_at_rates_of_nothing_losses_are_those_of_the_untrained_network(images, tiny):
    X, y = images
    clf = tiny(batch_size=40, augmentation=None, label_smoothing=0.0)
    found = lr_range_test(clf, X, y, lr_min=1e-12, lr_max=1e-11, n_steps=10)
    np.testing.assert_allclose(found.loss, found.loss[0], rtol=1e-4)


def test_it_ends_where_training_diverges(images, tiny):
    clf = tiny(optimizer="sgd", batch_size=8)
    found = lr_range_test(clf, *images, lr_min=1e-3, lr_max=1e6, n_steps=60)
    assert len(found.lr) == len(found.loss) < 60
    assert np.isfinite(found.loss).all()
    least = np.minimum.accumulate(found.loss)
    assert (found.loss[:-1] <= 4 * least[:-1]).all()


@pytest.mark.parametrize("fitted", [False, True])
def test_the_estimator_stays_as_it_was(images, tiny, fitted):
    X, y = images
    clf = tiny(early_stopping=True, warm_start=True)
    if fitted:
        clf.fit(X, y)
        before = clf.predict_proba(X)
    clf.set_params(callbacks=[Forbidden()])
    params = clf.get_params()
    first, second = (lr_range_test(clf, X, y, n_steps=10) for _ in range(2))
    assert clf.get_params() == params
    np.testing.assert_array_equal(first.loss, second.loss)
    if fitted:
        np.testing.assert_array_equal(clf.predict_proba(X), before)
    else:
        with pytest.raises(NotFittedError):
            check_is_fitted(clf)


def test_several_labels_and_large_batches(images, tiny):
    X, y = images
    labels = np.column_stack([y, 1 - y, y]).astype(float)
    labels[:10, 2] = np.nan
    found = lr_range_test(tiny(batch_size=64), X, labels, n_steps=10)
    assert found.loss.shape == (10,)


def test_plot():
    lr, loss = np.geomspace(1e-4, 1, 5), np.array([1.0, 1.0, 0.5, 0.2, 3.0])
    display = LearningRateRangeDisplay(lr, loss)
    weights = 0.9 ** np.arange(5)
    wanted = [np.average(loss[: i + 1], weights=weights[i::-1]) for i in range(5)]
    np.testing.assert_allclose(display.smoothed, wanted)
    figure, ax = plt.subplots()
    assert display.plot(ax=ax) is display
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert ax.get_xscale() == "log"
    np.testing.assert_array_equal(display.lines_["loss"].get_ydata(), loss)
    np.testing.assert_array_equal(display.lines_["smoothed"].get_xdata(), lr)
    plt.close(figure)


def test_errors_say_what_to_change(images, tiny):
    X, y = images
    with pytest.raises(ValueError, match=r"lr_min=1 must be below lr_max=0\.1"):
        lr_range_test(tiny(), X, y, lr_min=1.0, lr_max=0.1)
    with pytest.raises(ValueError, match="n_steps"):
        lr_range_test(tiny(), X, y, n_steps=1)
    with pytest.raises(ValueError, match="estimator"):
        lr_range_test(LogisticRegression(), X, y)
    with pytest.raises(ValueError, match="inconsistent"):
        lr_range_test(tiny(), X, y[:-1])
