"""The command ``wmplay check``: test the properties that a piece promises, one line each."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from wmplay.cli.arguments import overrides_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("piece", metavar="KIND=NAME", help="the piece, such as model=mine; see wmplay list")
    overrides_argument(parser, "the env to try it in, its settings: env=luxo model.hidden=32 ...")
    parser.add_argument("--quick", action="store_true", help="leave out the properties that take long")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(options: argparse.Namespace) -> None:
    """Check a piece."""
    check_piece(options.piece, options.overrides, quick=options.quick, as_json=options.json)


def check_piece(
    piece: str, overrides: Sequence[str] = (), *, quick: bool = False, as_json: bool = False
) -> None:
    """Test the properties that a piece promises, and print a line for each.

    Args:
        piece: ``kind=name``.
        overrides: as of ``wmplay train``: settings of the piece, and the env for the test.
        quick: whether to leave out slow properties.
        as_json: whether to print the report as one JSON object at the end instead.

    Raises:
        CheckError: if a property does not hold.
        WmplayError: for a piece that does not exist, or that cannot be built.
    """
    from wmplay.check.configured import try_piece
    from wmplay.errors import CheckError
    from wmplay.system.printing import say
    from wmplay.system.progress import tell

    report = try_piece(piece, overrides, quick=quick, verbose=not as_json, tell=tell)
    if as_json:
        say(json.dumps(report.as_json()))
    if not report.passed:
        raise CheckError(
            f"{piece}: {len(report.failures)} of {report.tried} properties do not hold",
            advice="fix them, from the first FAIL on",
        )
