"""Messages about arguments of Python as who uses the command line reads them."""

import ast
import re
import shlex

_OPTIONS = {
    "on_error": "--on-error",
    "image_size": "--image-size",
    "spacing": "--spacing",
    "window": "--window",
    "label": "--label",
    "labels": "--label",
    "patient": "--patient",
    "path_column": "--path-column",
    "label_column": "--label-column",
    "group_column": "--patient-column",
    "pos_label": "--positive",
    "groups": "--patient",
    "unit": "--unit",
    "subgroups": "--subgroup",
    "target_sensitivity": "--target-sensitivity",
    "threshold_from": "--threshold-from",
    "aggregate": "--aggregate",
}
_VALUE = r"""'[^']*'|"[^"]*"|\([^()]*\)|\[[^\[\]]*\]|-?[\w.]*\w"""
_ARGUMENT = re.compile(rf"\b({'|'.join(_OPTIONS)})=({_VALUE})?")
_COLUMN = re.compile(r"\b(path_column|label_column|group_column|pos_label)\b")
_FRAME = re.compile(r",? *frame\.\w+\([^()]*\)")


def in_options(message: str) -> str:
    """Name options where a message names arguments of functions.

    Parameters
    ----------
    message : str
        Of an error or a warning.

    Returns
    -------
    str
        Without what only Python can do.

    Examples
    --------
    >>> from skmedimg._command_words import in_options
    >>> in_options("P1.png: on_error='skip' leaves it out; set image_size=(8, 9).")
    'P1.png: --on-error skip leaves it out; set --image-size 8 9.'
    """
    message = message.replace("groups='patient'", "--patient header")
    message = _FRAME.sub("", message)
    message = _ARGUMENT.sub(_option, message)
    return _COLUMN.sub(lambda found: _OPTIONS[found[1]], message)


def _option(found: re.Match[str]) -> str:
    option, text = _OPTIONS[found[1]], found[2]
    if not text:
        return option
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        value = text
    values = value if isinstance(value, tuple | list) else [value]
    return " ".join([option, *(shlex.quote(str(one)) for one in values)])
