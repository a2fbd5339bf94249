"""The command ``wmplay cases``: list kept cases, and replay them in the real world."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("folder", type=Path, nargs="?", default=Path("cases"), metavar="DIR", help="of cases")
    parser.add_argument(
        "--replay",
        action="store_true",
        help="take the actions again, and compare with the frames that were kept",
    )


def run(options: argparse.Namespace) -> None:
    """Print a line for each case.

    Raises:
        WmplayError: if there is none, or if one is damaged; with ``--replay``, if its world cannot be made.
    """
    from wmplay.evaluation.cases import load_cases, replay
    from wmplay.system.printing import say

    for case in load_cases(options.folder):
        about = case.about
        line = f"{about.name}: {case.steps} steps from moment {about.since}, {about.model} held {about.held}"
        if options.replay:
            same = replay(case)
            kept = len(case.real) + 1
            line += f"; replayed: {'the same frames' if same == kept else f'other frames from moment {same}'}"
        say(line)
