"""What the displays share: axes, legends, and the answers of an estimator."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils._response import _get_response_values_binary
from sklearn.utils.validation import check_is_fitted

from skmedimg.metrics._checks import positive_code

# Okabe and Ito's palette without its yellow, which is hard to see on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#595959"
# Mark of lines that help to read the curves.
_REFERENCE = "reference"
# Opacity of the bands of confidence.
BAND = 0.2


def axes_for(ax: Any, size: tuple[float, float]) -> Any:
    """Return the axes given, or those of a new figure of `size` in inches."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    # Constrained layout keeps labels and notes beside the axes within the figure.
    _, ax = plt.subplots(figsize=size, layout="constrained")
    ax.set_prop_cycle(color=_COLOURS)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def reference_line(ax: Any, x: Any, y: Any, label: str, style: str = "--") -> Any:
    """Draw a grey line once, however many curves share the axes; None from then on."""
    if label in ax.get_legend_handles_labels()[1]:
        return None
    look = {"linestyle": style, "color": GREY, "linewidth": 1, "gid": _REFERENCE}
    return ax.plot(x, y, label=label, **look)[0]


def legend(ax: Any, loc: str, within: Sequence[float] = (0, 0, 1, 1)) -> None:
    """Put the legend into a corner of a box (left, bottom, width, height) of the axes.

    What only helps to read the curves is named last.
    """
    handles, labels = ax.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: _is_reference(handles[i]))
    ax.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc=loc,
        bbox_to_anchor=within,
        fontsize="small",
        frameon=False,
    )


def _is_reference(handle: Any) -> bool:
    return getattr(handle, "get_gid", lambda: None)() == _REFERENCE


def legend_on_top(ax: Any, low: float, high: float) -> None:
    """Show values from `low` to `high`, and the legend above them."""
    labels = ax.get_legend_handles_labels()[1]
    n_lines = sum(1 + label.count("\n") for label in labels)
    # A line of small print is about 5 % of the height of the figures made here.
    room = min(0.06 + 0.055 * n_lines, 0.6)
    ax.set_ylim(low, low + (high - low) / (1 - room))
    legend(ax, "upper right")


def interval_lengths(value: Any, low: Any, high: Any) -> np.ndarray:
    """Return how far the bounds lie below and above the values, for `errorbar`."""
    # At a proportion of 0 or 1, rounding puts a bound 1e-17 on the wrong side.
    return np.maximum([value - low, high - value], 0)


def interval_text(estimate: Any, level: float) -> str:
    """Return "0.88 (95 % CI 0.81 to 0.93)" of what has value, low and high."""
    low, high = estimate.low, estimate.high
    return f"{estimate.value:.2f} ({100 * level:g} % CI {low:.2f} to {high:.2f})"


def with_name(name: str | None, figure: str) -> str:
    """Return what a legend says of a curve: its name, and a figure below it."""
    return figure if name is None else f"{name}\n{figure}"


def with_positive(text: str, pos_label: Any) -> str:
    """Say in the label of an axis which class is positive."""
    return text if pos_label is None else f"{text} (positive = {pos_label})"


def positive_label(pos_label: Any) -> Any:
    """Return the label that None stands for in the metrics."""
    return 1 if pos_label is None else pos_label


def positive_probability(
    estimator: Any, X: Any, pos_label: Any
) -> tuple[np.ndarray, Any]:
    """Return the probability of the positive class, and its label.

    Raises
    ------
    ValueError
        If the estimator has not two classes, `pos_label` is not one of them, or is
        needed and not given.
    """
    check_is_fitted(estimator)
    classes = np.asarray(estimator.classes_).tolist()
    label = classes[positive_code(classes, pos_label, "the estimator")]
    probability, _ = _get_response_values_binary(
        estimator, X, response_method="predict_proba", pos_label=label
    )
    return probability, label


def groups_in(X: Any, groups: Any) -> Any:
    """Return the groups given, or those that an `ImageSequence` carries."""
    from skmedimg.images import groups_of

    return groups_of(X) if groups is None else groups


def name_of(estimator: Any, name: str | None) -> str:
    return type(estimator).__name__ if name is None else name
