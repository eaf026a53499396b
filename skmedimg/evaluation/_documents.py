"""The report for a manuscript: a Word document, and tables in LaTeX."""

import io
import os
import re
from typing import TYPE_CHECKING, Any

from skmedimg.evaluation._report import EvaluationReport, Table, figure_of

if TYPE_CHECKING:
    import pandas as pd

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "−": "$-$",
    # In the font that LaTeX begins with, these two are a dash and a closing quote.
    "|": r"\textbar{}",
    '"': "''",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "×": r"$\times$",
    "∞": r"$\infty$",
    "–": "--",
    "…": r"\ldots{}",
}
# Columns too narrow to be justified without gaps between the words.
_RAGGED = r">{\raggedright\arraybackslash}"
# Rows above which a table does not fit on a page.
_PAGE = 30
_SPECIAL_PATTERN = re.compile("|".join(map(re.escape, _SPECIAL)))


def write_docx(report: EvaluationReport, path: str | os.PathLike[str]) -> None:
    """Write the report as a Word document.

    Parameters
    ----------
    report : EvaluationReport
        What to write.
    path : path
        Where to.

    Raises
    ------
    ImportError
        If python-docx is absent.
    """
    document = _new_document()
    document.core_properties.title = report.title
    document.add_heading(report.title, 0)
    for sentence in report.summary:
        document.add_paragraph(_allowed(sentence))
    for text in report.warnings:
        document.add_paragraph(_allowed(text), style="List Bullet")
    for section in report.sections:
        document.add_heading(section.title, 1)
        for sentence in section.sentences:
            document.add_paragraph(_allowed(sentence))
        for table in section.tables:
            document.add_paragraph(table.caption, style="Caption")
            _add_table(document, table.frame)
        for plot in section.plots:
            _add_picture(document, plot)
    document.add_heading("Statistical methods", 1)
    document.add_paragraph(_allowed(report.methods_text()))
    document.save(os.fspath(path))


def _new_document() -> Any:
    try:
        import docx
    except ImportError as error:
        raise ImportError(
            "to_docx needs python-docx: pip install skmedimg[report]. to_html and "
            "to_latex need nothing."
        ) from error
    return docx.Document()


def _add_table(document: Any, frame: "pd.DataFrame") -> None:
    table = document.add_table(rows=1, cols=len(frame.columns), style="Table Grid")
    _fill(table.rows[0].cells, frame.columns, bold=True)
    for values in frame.itertuples(index=False):
        _fill(table.add_row().cells, values, bold=False)
    document.add_paragraph()


def _fill(cells: Any, texts: Any, *, bold: bool) -> None:
    for cell, text in zip(cells, texts, strict=True):
        cell.paragraphs[0].add_run(_allowed(str(text))).bold = bold


def _allowed(text: str) -> str:
    """Text without the control characters that XML, and so Word, cannot hold."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "\ufffd", text)


def _add_picture(document: Any, plot: Any) -> None:
    from docx.shared import Cm

    picture = io.BytesIO()
    figure_of(plot).savefig(picture, format="png", dpi=200)
    shape = document.add_picture(picture, width=Cm(11))
    # Where Word keeps the alternative text of a picture.
    shape._inline.docPr.set("descr", _allowed(plot.alt))
    document.add_paragraph(plot.caption, style="Caption")


def latex_tables(report: EvaluationReport) -> str:
    r"""The tables of a report as LaTeX.

    Parameters
    ----------
    report : EvaluationReport
        What to write.

    Returns
    -------
    str
        One environment a table; needs the packages booktabs, longtable and tabularx.
    """
    head = (
        f"% {report.title}\n"
        r"% \usepackage{booktabs,longtable,tabularx}"
        "\n"
    )
    tables = [
        _latex_table(table) for section in report.sections for table in section.tables
    ]
    return "\n".join([head, *tables])


def _latex_table(table: Table) -> str:
    n_columns = len(table.frame.columns)
    caption = rf"\caption{{{escaped(table.caption)}}}"
    rows = [_latex_row(values) for values in table.frame.itertuples(index=False)]
    head = [r"\toprule", _latex_row(table.frame.columns), r"\midrule"]
    if len(rows) > _PAGE:
        width = rf"p{{{0.8 / (n_columns - 1):.2f}\linewidth}}"
        columns = "l" + (_RAGGED + width) * (n_columns - 1)
        begin = [rf"\begin{{longtable}}{{{columns}}}", caption + r" \\"]
        head.append(r"\endhead")
        end = [r"\end{longtable}"]
    else:
        columns = "l" + (_RAGGED + "X") * (n_columns - 1)
        begin = [
            r"\begin{table}",
            caption,
            rf"\begin{{tabularx}}{{\linewidth}}{{{columns}}}",
        ]
        end = [r"\end{tabularx}", r"\end{table}"]
    return "\n".join([*begin, *head, *rows, r"\bottomrule", *end, ""])


def _latex_row(values: Any) -> str:
    row = " & ".join(escaped(str(value)) for value in values)
    # Else the end of the row before would take a bracket or a star for its argument.
    return ("{}" if row[:1] in ("[", "*") else "") + row + r" \\"


def escaped(text: str) -> str:
    r"""Text in which LaTeX finds no command.

    Examples
    --------
    >>> from skmedimg.evaluation._documents import escaped
    >>> print(escaped("n_images > 5 %"))
    n\_images \textgreater{} 5 \%
    """
    return _SPECIAL_PATTERN.sub(lambda found: _SPECIAL[found[0]], text)
