"""What a report is made of: sections of sentences, tables and figures."""

import math
import os
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from skmedimg.metrics import Estimate

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

NAN = float("nan")
# Characters that fit along an axis.
_LINE = 40


class Row(NamedTuple):
    """A figure of the report as `EvaluationReport.to_frame` gives it.

    Attributes
    ----------
    metric : str
        What was measured.
    estimate : Estimate
        Value and interval; NaN where there is no interval.
    of : str
        What it was measured on or for: "all", a subgroup, a class, another model.
    method : str
        How the interval was made.
    """

    metric: str
    estimate: Estimate
    of: str = "all"
    method: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose cells are text, as every form of the report shows them."""

    caption: str
    frame: "pd.DataFrame"


@dataclass(frozen=True)
class Plot:
    """A figure that is drawn when a document needs it.

    Attributes
    ----------
    name : str
        Unique in the report; lower case, hyphens.
    caption, alt : str
        What stands below it, and what it shows, for those who cannot see it.
    draw : callable
        Draws on the Axes it is given.
    width, height : float
        In inches.
    """

    name: str
    caption: str
    alt: str
    draw: Callable[["Axes"], None]
    width: float = 4.2
    height: float = 3.7


@dataclass(frozen=True)
class Section:
    """One heading of the report, and what is below it."""

    title: str
    sentences: Sequence[str] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    rows: Sequence[Row] = ()


@dataclass(frozen=True)
class EvaluationReport:
    """What `evaluate` found, as a frame, as figures, and as documents.

    Attributes
    ----------
    title : str
        First line.
    summary : tuple of str
        What was scored, and which class is positive.
    headline : tuple of Row
        The figures that a reader looks for first.
    sections : tuple of Section
        In the order of the documents.
    warnings : tuple of str
        What would make the figures look better, or mean something else, than they
        seem.

    See Also
    --------
    evaluate : Makes it.
    """

    title: str
    summary: tuple[str, ...]
    headline: tuple[Row, ...]
    sections: tuple[Section, ...]
    warnings: tuple[str, ...]
    _methods: str = field(repr=False)

    def to_frame(self) -> "pd.DataFrame":
        """Every figure of the report.

        Returns
        -------
        DataFrame
            One row a figure; columns section, metric, of, value, low, high, method.
        """
        import pandas as pd

        columns = ["section", "metric", "of", "value", "low", "high", "method"]
        rows = [
            (section.title, row.metric, row.of, *row.estimate[:3], row.method)
            for section in self.sections
            for row in section.rows
        ]
        return pd.DataFrame(rows, columns=columns)

    def plot(self) -> "MatplotlibFigure":
        """Draw the figures of the report side by side.

        Returns
        -------
        matplotlib.figure.Figure
            Apart from pyplot: show it in a notebook, or ``savefig`` it.
        """
        from matplotlib.figure import Figure

        plots = [plot for section in self.sections for plot in section.plots]
        n_rows = max(1, math.ceil(len(plots) / 2))
        figure = Figure(figsize=(10, 4.2 * n_rows), layout="constrained")
        axes = figure.subplots(n_rows, 2, squeeze=False).ravel()
        for plot, ax in zip(plots, axes, strict=False):
            _draw(plot, ax)
        for ax in axes[len(plots) :]:
            ax.set_axis_off()
        return figure

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write one self-contained HTML file.

        Parameters
        ----------
        path : path
            What is there already is replaced.
        """
        from skmedimg.evaluation._html import html_page

        Path(path).write_text(html_page(self), encoding="utf-8")

    def to_docx(self, path: str | os.PathLike[str]) -> None:
        """Write a Word document with the tables and figures.

        Parameters
        ----------
        path : path
            What is there already is replaced.

        Raises
        ------
        ImportError
            If python-docx is absent: ``pip install skmedimg[report]``.
        """
        from skmedimg.evaluation._documents import write_docx

        write_docx(self, path)

    def to_latex(self, path: str | os.PathLike[str] | None = None) -> str:
        r"""The tables in LaTeX, for ``\usepackage{booktabs,longtable,tabularx}``.

        They compile with pdflatex; names in other than Latin letters need lualatex or
        xelatex, and a font that has them.

        Parameters
        ----------
        path : path, default=None
            File to write; None writes none.

        Returns
        -------
        str
            The same text.
        """
        from skmedimg.evaluation._documents import latex_tables

        text = latex_tables(self)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def methods_text(self) -> str:
        """The statistical methods as a paragraph for a paper.

        Returns
        -------
        str
            States only what was done here; what the authors must add is not in it.
        """
        return self._methods

    def __str__(self) -> str:
        lines = [self.title, *self.summary]
        lines += [f"{row.metric}: {shown(row.estimate)}" for row in self.headline]
        return "\n".join(lines + [f"Note: {text}" for text in self.warnings])


def shown(estimate: Any, digits: int = 3) -> str:
    """A value, and its interval where it has one, as a table shows them."""
    value, low, high = estimate[:3]
    bounds = f"{_number(low, digits)} to {_number(high, digits)}"
    if math.isnan(low):
        return "–" if math.isnan(value) else _number(value, digits)
    return bounds if math.isnan(value) else f"{_number(value, digits)} ({bounds})"


def _number(value: float, digits: int) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:.{digits}f}"
    # A minus of the breadth of a digit; and no negative zero.
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def point(value: float) -> Estimate:
    """A value that has no interval."""
    return Estimate(float(value), NAN, NAN)


def as_table(rows: Sequence[Row], caption: str, first: str = "Metric") -> Table:
    """A table of rows: metric, value with interval, method."""
    import pandas as pd

    columns = {
        first: [row.metric for row in rows],
        "Value (interval)": [shown(row.estimate) for row in rows],
        "Interval by": [row.method or "–" for row in rows],
    }
    return Table(caption, pd.DataFrame(columns))


def computed_once(make: Callable[..., Any]) -> Callable[["Axes"], None]:
    """How to draw a display of scikit-learn's kind, computed at its first use alone.

    Parameters
    ----------
    make : callable
        Makes the display, drawn on ``ax``.

    Returns
    -------
    callable
        Draws on the Axes it is given.
    """
    made: list[Any] = []

    def draw(ax: "Axes") -> None:
        if made:
            made[0].plot(ax=ax)
        else:
            made.append(make(ax=ax))

    return draw


def figure_of(plot: Plot) -> "MatplotlibFigure":
    """The plot on a matplotlib figure of its own, apart from pyplot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(plot.width, plot.height), layout="constrained")
    _draw(plot, figure.subplots())
    return figure


def _draw(plot: Plot, ax: "Axes") -> None:
    """Draw names as they are written, and wrap those too long for their axis."""
    from matplotlib.text import Text

    plot.draw(ax)
    for text in ax.findobj(Text):
        # Else a $ in the name of a class or a hospital begins a formula.
        text.set_parse_math(False)
    ax.set_xlabel(textwrap.fill(ax.get_xlabel(), _LINE))
    ax.set_ylabel(textwrap.fill(ax.get_ylabel(), _LINE))
