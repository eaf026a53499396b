"""The command ``skmedimg``: what a user does without writing Python."""

import argparse
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import skmedimg
from skmedimg._command_words import in_options

_FOR_ALL = """\
Research software, not a medical device. Nothing is sent anywhere. Exit status: 0, or 2
where an argument or a file cannot be used.
"""

_SCAN = """\
List what is in a folder of DICOM files and all its subfolders, from the headers alone:
files by modality, patients, series, sizes, spacings, and what cannot be read and why.

  skmedimg scan archive
  skmedimg scan archive --out archive.csv

Patients, studies and series are counted, and in the CSV have keyed pseudonyms. Names,
numbers and dates of patients are neither printed nor saved.
"""

_TRAIN = """\
Learn to tell classes apart, and save one file that predicts from file names.

  skmedimg train xrays --patient '(P[0-9]+)_' --out model.joblib
      a folder for each class below xrays; or train, validation and test, with a
      folder for each class in them
  skmedimg train archive --label 'CONTRAST_([01])' --window lung --out model.joblib
      DICOM or NIfTI files whose label stands in their path
  skmedimg train findings.csv --path-column file --label-column finding
      --patient-column patient --out model.joblib
      a row an image

First it is cross-validated, with all images of a patient on one side, and the AUC is
printed; then the model is fitted. Images for testing (a folder test, or --split-column)
take no part in either and give the held-out result; those for validation are trained
on, since cross-validation takes their place.
"""

_TRAIN_END = """\
The model file holds no image and no number of a patient, and lists no file. In Python:
joblib.load("model.joblib").predict(["a.png", "b.png"]). It is a pickle, and opening one
can run any code: open only files you trust.
"""

_PREDICT = """\
Class and probabilities of images, as CSV on standard output or in a file.

  skmedimg predict model.joblib new/*.dcm
  skmedimg predict model.joblib archive --out predictions.csv

Columns: path (below the folder given, or below the one that holds all that is given),
prediction, a column probability_CLASS for each class, and error, which says why a file
could not be read; its other columns are then empty.
"""

_PREDICT_END = """\
A model file is a pickle, and opening one can run any code: open only files you trust.
Exit status: 0; 1 if no file could be read, or not all of them with --strict; 2 where an
argument cannot be used.
"""

_EVALUATE = """\
Report on anyone's predictions as a reviewer asks for it: intervals by patient, the
threshold, calibration, net benefit, subgroups, and the checklists CLAIM and TRIPOD+AI.

  skmedimg evaluate predictions.csv --y label --p score --html report.html
  skmedimg evaluate predictions.csv --y label --p score --positive malignant \\
      --patient id --unit lesion --site hospital --threshold-from tuning.csv \\
      --target-sensitivity 0.95 --html report.html --docx report.docx
  skmedimg evaluate predictions.csv --y label --p probability_a probability_b \\
      probability_c --html report.html
      more than two classes: a column for each, named after it

A row is an image; rows of one --unit are joined into the case that is scored. Rows
without a label or without a probability are left out and counted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments; None takes those of the process.

    Returns
    -------
    int
        Exit status: 0; 1 where files could not be predicted; 2 where an argument or a
        file is not usable; 130 after Ctrl-C and 141 after a closed pipe, as the shell
        has it for other programs.
    """
    arguments = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _WarningsOnce()
            status = arguments.run(arguments)
        sys.stdout.flush()  # else a closed pipe is found out when nobody can catch it
        return status
    except BrokenPipeError:
        _close_stdout()
        return 141
    except KeyboardInterrupt:
        print("skmedimg: interrupted", file=sys.stderr)
        return 130
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        text = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            text = f"{error.filename}: {error.strerror}"
        print(f"skmedimg: {in_options(text)}", file=sys.stderr)
        return 2


class _WarningsOnce:
    """Without the line of code, which says nothing to who does not write any."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, message: Any, *_: Any, **__: Any) -> None:
        if str(message) not in self._said:
            self._said.add(str(message))
            text = in_options(str(message))
            print(f"skmedimg: warning: {text}", file=sys.stderr)


def _close_stdout() -> None:
    """Let the interpreter flush into nothing when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="skmedimg",
        description="Deep learning on medical images, behind scikit-learn.",
        epilog=_FOR_ALL,
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {skmedimg.__version__}"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_scan(commands)
    _add_train(commands)
    _add_predict(commands)
    _add_evaluate(commands)
    return parser


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo", help="cross-validate, fit, test and plot, on made or MedMNIST images"
    )
    demo.add_argument(
        "--data",
        type=Path,
        metavar="FILE.npz",
        help="a MedMNIST file, used with its official split (default: made images)",
    )
    demo.add_argument(
        "--out",
        type=Path,
        default=Path("skmedimg_demo"),
        metavar="FOLDER",
        help="where the figure goes (default: %(default)s)",
    )
    demo.add_argument("--seed", type=int, default=0, help="random state (default: 0)")
    demo.set_defaults(run=_run_demo)


def _add_scan(commands: Any) -> None:
    scan = _command(commands, "scan", "list what is in a folder of DICOM files", _SCAN)
    scan.add_argument("folder", type=Path, metavar="FOLDER")
    scan.add_argument(
        "--out", type=Path, metavar="CSV", help="save the whole table, a row a file"
    )
    _add_jobs(scan, "read headers")
    scan.set_defaults(run=_run_scan)


def _add_train(commands: Any) -> None:
    text = "learn from a folder or a table of images, and save the model"
    train = _command(commands, "train", text, _TRAIN, _TRAIN_END)
    train.add_argument("source", type=Path, metavar="FOLDER|TABLE")
    train.add_argument("--out", type=Path, metavar="MODEL", required=True)
    _add_labels(train.add_argument_group("labels and patients"))
    _add_reading(train.add_argument_group("images"))
    learning = train.add_argument_group("learning")
    learning.add_argument(
        "--cv",
        type=int,
        metavar="K",
        help="folds of the cross-validation, 0 for none (default: 5, or as many as the "
        "patients of the smallest class allow)",
    )
    learning.add_argument(
        "--epochs",
        type=_positive,
        metavar="N",
        help="passes over the images (default: by their number)",
    )
    learning.add_argument(
        "--seed", type=int, default=0, help="random state (default: 0)"
    )
    _add_jobs(learning, "decode images")
    train.set_defaults(run=_run_train)


def _add_labels(group: Any) -> None:
    group.add_argument(
        "--label",
        type=_pattern,
        metavar="REGEX",
        help="DICOM, NIfTI: what stands for the label in the path below FOLDER; its "
        "group 'label', or the first, or all of it",
    )
    group.add_argument(
        "--patient",
        type=_pattern,
        metavar="REGEX",
        help="the same for the patient, or the word header for the patient that DICOM "
        "files name (default: header where all files are DICOM, else not known)",
    )
    group.add_argument("--path-column", metavar="NAME", help="table: the file")
    group.add_argument("--label-column", metavar="NAME", help="table: the class")
    group.add_argument("--patient-column", metavar="NAME", help="table: the patient")
    group.add_argument(
        "--split-column",
        metavar="NAME",
        help="table: train, validation or test",
    )
    group.add_argument(
        "--root",
        type=Path,
        metavar="FOLDER",
        help="table: where its files lie (default: beside the table)",
    )


def _add_reading(group: Any) -> None:
    group.add_argument(
        "--image-size",
        type=_positive,
        nargs="+",
        default=[128, 128],
        metavar="N",
        help="pixels that images are resized to, as H W or, for volumes, D H W, or one "
        "number for all axes (default: 128 128)",
    )
    group.add_argument(
        "--spacing",
        type=float,
        nargs="+",
        metavar="MM",
        help="resample to these distances of pixels, as H W or D H W, or one for all, "
        "then crop or pad to --image-size",
    )
    group.add_argument(
        "--window",
        nargs="+",
        metavar=("NAME|CENTRE", "WIDTH"),
        help="of CT: lung, bone, brain ... or two numbers in HU",
    )
    group.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        default="raise",
        help="files that cannot be read: stop, or leave out and list (default: raise)",
    )
    group.add_argument(
        "--no-cache",
        action="store_true",
        help="keep no decoded pixels in your cache folder; slower",
    )


def _add_predict(commands: Any) -> None:
    text = "class and probabilities of images, by a saved model, as CSV"
    predict = _command(commands, "predict", text, _PREDICT, _PREDICT_END)
    predict.add_argument("model", type=Path, metavar="MODEL", help="what train saved")
    predict.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="images, or folders, which are searched with their subfolders; hidden "
        "files, tables and texts in them are passed over",
    )
    predict.add_argument(
        "--out", type=Path, metavar="CSV", help="file (default: standard output)"
    )
    predict.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        default="skip",
        help="files that cannot be read: stop at the first, or list them in the column "
        "error and go on (default: skip)",
    )
    predict.add_argument(
        "--strict", action="store_true", help="exit with 1 if a file cannot be read"
    )
    _add_jobs(predict, "decode images")
    predict.set_defaults(run=_run_predict)


def _add_evaluate(commands: Any) -> None:
    text = "intervals, threshold, calibration and more of predictions in a table"
    evaluate = _command(commands, "evaluate", text, _EVALUATE)
    evaluate.add_argument("table", type=Path, metavar="TABLE")
    _add_columns(evaluate.add_argument_group("columns of the table"))
    _add_question(evaluate.add_argument_group("question"))
    out = evaluate.add_argument_group("documents")
    for name in ("html", "docx", "latex"):
        out.add_argument(f"--{name}", type=Path, metavar="FILE")
    out.add_argument("--csv", type=Path, metavar="FILE", help="all figures")
    evaluate.set_defaults(run=_run_evaluate)


def _add_columns(group: Any) -> None:
    several = {"nargs": "+", "required": True, "metavar": "COLUMN"}
    group.add_argument(
        "--y", help="the true label; several for several labels", **several
    )
    group.add_argument(
        "--p", help="probability of the positive class, or of each class", **several
    )
    columns = {
        "patient": "what intervals take as independent",
        "unit": "what is scored, such as the lesion (default: each row)",
        "site": "a subgroup",
        "name": "of the image, for the list of hardest cases",
    }
    for name, text in columns.items():
        group.add_argument(f"--{name}", metavar="COLUMN", help=text)
    group.add_argument("--subgroup", nargs="+", metavar="COLUMN", default=[])
    group.add_argument(
        "--compare", nargs="+", metavar="COLUMN", default=[],
        help="probability of the positive class by other models",
    )  # fmt: skip


def _add_question(group: Any) -> None:
    group.add_argument(
        "--positive", metavar="LABEL", help="positive class (default: 1)"
    )
    threshold = group.add_mutually_exclusive_group()
    threshold.add_argument(
        "--threshold", type=float, default=0.5, metavar="P", help="(default: 0.5)"
    )
    threshold.add_argument("--target-sensitivity", type=float, metavar="S")
    group.add_argument(
        "--threshold-from",
        type=Path,
        metavar="TABLE",
        help="other patients, to choose the threshold on; columns as in TABLE",
    )
    group.add_argument(
        "--prevalence",
        type=float,
        metavar="P",
        help="that predictive values and net benefit refer to (default: of the rows)",
    )
    group.add_argument(
        "--aggregate",
        choices=("mean", "max", "noisy-or"),
        default="mean",
        help="how the rows of a unit are joined (default: mean)",
    )
    group.add_argument(
        "--label",
        choices=("same", "any", "consensus"),
        default="same",
        help="label of a unit whose rows differ (default: same, none may)",
    )
    group.add_argument("--seed", type=int, default=0, help="random state (default: 0)")


def _command(
    commands: Any, name: str, text: str, description: str, epilog: str = ""
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=text,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_jobs(parser: Any, what: str) -> None:
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help=f"processes that {what}, -1 for one a core (default: 1)",
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        message = f"{text!r} is not a regular expression: {error}"
        raise argparse.ArgumentTypeError(message) from error
    return text


def _run_demo(arguments: argparse.Namespace) -> int:
    from skmedimg._demo import run_demo

    run_demo(arguments.data, arguments.out, arguments.seed)
    return 0


def _run_scan(arguments: argparse.Namespace) -> int:
    from skmedimg._command_scan import run_scan

    return run_scan(arguments.folder, arguments.out, arguments.jobs)


def _run_train(arguments: argparse.Namespace) -> int:
    from skmedimg._command_train import run_train

    return run_train(arguments)


def _run_predict(arguments: argparse.Namespace) -> int:
    from skmedimg._command_predict import run_predict

    return run_predict(arguments)


def _run_evaluate(arguments: argparse.Namespace) -> int:
    from skmedimg._command_evaluate import run_evaluate

    return run_evaluate(arguments)
