"""The command ``wmplay export``: write a run as one portable folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from wmplay.cli.arguments import run_argument
from wmplay.system.printing import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    run_argument(parser)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write, which must not exist")


def run(options: argparse.Namespace) -> None:
    """Export a run."""
    from wmplay.runs.export import export_run

    export_run(options.run, options.out)
    say(f"exported: {options.out}")
