"""The command ``wmplay check``: test the properties that a piece promises, one line each."""

from __future__ import annotations

import argparse
import pkgutil
from collections.abc import Sequence

from wmplay.cli.arguments import overrides_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("piece", metavar="KIND=NAME", help="the piece, such as model=mine; see wmplay list")
    overrides_argument(parser, "the env to try it in, its settings: env=luxo model.hidden=32 ...")


def run(options: argparse.Namespace) -> None:
    """Check a piece."""
    check_piece(options.piece, options.overrides)


def check_piece(piece: str, overrides: Sequence[str] = ()) -> None:
    """Test the properties that a piece promises, and print a line for each.

    Args:
        piece: ``kind=name``.
        overrides: as of ``wmplay train``: settings of the piece, and the env for the test.

    Raises:
        CheckError: if a property does not hold.
        WmplayError: for a piece that does not exist, or that cannot be built.
    """
    from wmplay import registry
    from wmplay.errors import CheckError, UnknownName
    from wmplay.system.device import use_threads
    from wmplay.system.progress import tell

    kind = registry.KINDS.get(piece.partition("=")[0])
    if kind is None:
        raise UnknownName("kind to check", piece.partition("=")[0], registry.KINDS)
    settings = registry.compose([piece, *overrides], tell)
    use_threads(settings.threads)
    report = pkgutil.resolve_name(kind.check)(settings)
    if not report.passed:
        raise CheckError(
            f"{piece}: {len(report.failures)} of {report.tried} properties do not hold",
            advice="fix them, from the first FAIL on",
        )
