"""The report as one HTML file that loads nothing and runs nothing."""

import io
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from skmedimg.evaluation._report import (
    EvaluationReport,
    Plot,
    Section,
    Table,
    figure_of,
    shown,
)
from skmedimg.evaluation._style import STYLE

if TYPE_CHECKING:
    import pandas as pd

# No source is allowed but the file itself: whoever opens it is not told of to anyone.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

# Inches from which on a plot has a row to itself.
_WIDE = 5.5


def html_page(report: EvaluationReport) -> str:
    """The report as one HTML document.

    Parameters
    ----------
    report : EvaluationReport
        What to show.

    Returns
    -------
    str
        Without scripts; figures are inline SVG.
    """
    title = escape(report.title)
    links = "".join(
        f'<li><a href="#{anchor(name)}">{escape(name)}</a></li>'
        for name in [*(s.title for s in report.sections), "Statistical methods"]
    )
    body = [
        f"<header><h1>{title}</h1>{_sentences(report.summary)}</header>",
        _headline(report),
        _warnings(report),
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>',
        "<main>",
        *map(_section, report.sections),
        _methods(report),
        "</main>",
        "<footer>Research software, not a medical device.</footer>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Else a browser asks the server for /favicon.ico.
        '<link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def anchor(title: str) -> str:
    """A heading as the target of a link."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _sentences(sentences: Sequence[str]) -> str:
    return "".join(f"<p>{escape(text)}</p>" for text in sentences)


def _headline(report: EvaluationReport) -> str:
    cards = []
    for row in report.headline:
        value, _, interval = shown(row.estimate).partition(" ")
        cards.append(
            f"<div><dt>{escape(row.metric)}</dt><dd><strong>{escape(value)}</strong>"
            f"<span>{escape(interval.strip('()'))}</span></dd></div>"
        )
    return f'<dl class="headline">{"".join(cards)}</dl>'


def _warnings(report: EvaluationReport) -> str:
    if not report.warnings:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in report.warnings)
    return (
        '<aside class="warnings" aria-labelledby="read-first">'
        f'<h2 id="read-first">Read this first</h2><ul>{items}</ul></aside>'
    )


def _section(section: Section) -> str:
    name = anchor(section.title)
    tables = "".join(map(_table, section.tables))
    plots = "".join(map(_plot, section.plots))
    # One plot stands beside its tables where the page is wide enough.
    beside = len(section.plots) == 1 and section.plots[0].width < _WIDE and tables
    if plots:
        plots = f'<div class="plots">{plots}</div>'
    content = f"<div>{tables}</div>{plots}" if beside else tables + plots
    return (
        f'<section aria-labelledby="{name}">'
        f'<h2 id="{name}">{escape(section.title)}</h2>'
        f"{_sentences(section.sentences)}"
        f'<div class="{"beside" if beside else "below"}">{content}</div></section>'
    )


def _methods(report: EvaluationReport) -> str:
    return (
        '<section aria-labelledby="statistical-methods">'
        '<h2 id="statistical-methods">Statistical methods</h2>'
        f"<p>{escape(report.methods_text())}</p></section>"
    )


def _table(table: Table) -> str:
    caption = escape(table.caption)
    # It scrolls by itself, with the keyboard too, and the page does not.
    return (
        f'<div class="table" role="region" tabindex="0" aria-label="{caption}">'
        f"<table><caption>{caption}</caption>{_rows(table.frame)}</table></div>"
    )


def _rows(frame: "pd.DataFrame") -> str:
    head = "".join(f'<th scope="col">{escape(str(name))}</th>' for name in frame)
    rows = "".join(
        f'<tr><th scope="row">{escape(str(first))}</th>'
        + "".join(f"<td>{escape(str(value))}</td>" for value in rest)
        + "</tr>"
        for first, *rest in frame.itertuples(index=False)
    )
    return f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"


def _plot(plot: Plot) -> str:
    # Like a table, a wide one scrolls by itself where the page is narrow.
    wide = ' class="wide" tabindex="0"' if plot.width >= _WIDE else ""
    caption = escape(plot.caption)
    return f"<figure{wide}>{svg_of(plot)}<figcaption>{caption}</figcaption></figure>"


def svg_of(plot: Plot) -> str:
    """The plot as an SVG element that may stand beside others in one page.

    Parameters
    ----------
    plot : Plot
        What to draw.

    Returns
    -------
    str
        Its text is text; its ids begin with the name of the plot, since ids are unique
        in a page; black is the page's colour of text.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    figure = figure_of(plot)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": plot.name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]*)', svg))
    svg = re.sub(
        r' \bid="([^"]*)"',
        lambda found: f' id="{plot.name}-{found[1]}"' if found[1] in used else "",
        svg,
    )
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{plot.name}-", svg)
    svg = re.sub(r"#000000|\bblack\b", "currentColor", svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    if box is None:
        raise RuntimeError("matplotlib has written an SVG without a viewBox.")
    label = escape(plot.alt)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {box[0]} role="img" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink" aria-label="{label}">'
    )
    return opening + svg[svg.index(">") + 1 :]
