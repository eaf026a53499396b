"""The precision-recall curve with a band."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import average_precision_score

from skmedimg.evaluation._cases import Cases
from skmedimg.evaluation._settings import Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Replicates that a band is drawn from: more of them move no pixel.
_CURVES = 500


class PrecisionRecallBand:
    """Precision at each recall, with a pointwise bootstrap band.

    Parameters
    ----------
    cases : Cases
        Of two classes.
    settings : Settings
        Level and seed.
    """

    def __init__(self, cases: Cases, settings: Settings) -> None:
        self.recall = np.linspace(0.01, 1, 100)
        weight = np.ones(len(cases.y))
        order = np.argsort(-cases.score, kind="stable")
        positive, score = cases.y[order], cases.score[order]
        # Ties are one step of the curve: only the last of them is a point.
        last = np.append(np.diff(score) != 0, True)
        self.curve = _precision_at(self.recall, positive, last, weight)
        self.average = float(average_precision_score(positive, score))
        self.prevalence = float(positive.mean())
        replicates = _replicates(cases, settings, order)
        curves = [
            _precision_at(self.recall, positive, last, counts)
            for counts in replicates
            if counts[positive].any()
        ]
        tail = (1 - settings.level) / 2
        self.low, self.high = np.quantile(curves, [tail, 1 - tail], axis=0)

    def draw(self, ax: "Axes") -> None:
        """Draw curve, band and the share of positive cases."""
        ax.fill_between(self.recall, self.low, self.high, alpha=0.2, linewidth=0)
        ax.plot(self.recall, self.curve, label=f"AP {self.average:.3f}")
        ax.axhline(self.prevalence, linestyle="--", color="grey", linewidth=1)
        ax.set(
            xlabel="Recall (sensitivity)",
            ylabel="Precision (PPV)",
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
        )
        ax.legend(loc="lower left", frameon=False)


def _replicates(
    cases: Cases, settings: Settings, order: np.ndarray
) -> Iterator[np.ndarray]:
    """How often each case occurs in bootstrap samples of the patients."""
    groups = np.arange(len(cases.y)) if cases.groups is None else cases.groups
    cluster = np.unique(groups, return_inverse=True)[1][order]
    n = cluster.max() + 1
    rng = np.random.default_rng(settings.random_state)
    for _ in range(min(settings.n_bootstrap, _CURVES)):
        yield np.bincount(rng.integers(n, size=n), minlength=n)[cluster]


def _precision_at(
    recall: np.ndarray, positive: np.ndarray, last: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Precision at the first attainable point of each recall or more."""
    true = np.cumsum(weight * positive)[last]
    called = np.cumsum(weight)[last]
    at = np.searchsorted(true, recall * true[-1] * (1 - 1e-12))
    return true[at] / called[at]
