"""The command ``skmedimg``: what a user does without writing Python."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments; None takes those of the process.

    Returns
    -------
    int
        Exit status: 0, or 2 where an argument or a file is not usable.
    """
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except (OSError, ValueError) as error:
        print(f"skmedimg: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="skmedimg",
        description="Deep learning on medical images, behind scikit-learn.",
    )
    commands = parser.add_subparsers(title="commands", required=True)
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
    return parser


def _run_demo(arguments: argparse.Namespace) -> int:
    from skmedimg._demo import run_demo

    run_demo(arguments.data, arguments.out, arguments.seed)
    return 0
