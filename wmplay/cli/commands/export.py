"""The command ``wmplay export``: write a run as one portable folder with a card."""

from __future__ import annotations

import argparse
from pathlib import Path

from wmplay.cli.arguments import at_least, run_argument
from wmplay.system.printing import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    run_argument(parser)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write, which must not exist")
    what = "on the card, starts and held-out episodes at most (default %(default)s; 0 = no numbers)"
    parser.add_argument("--episodes", type=at_least(0), default=64, metavar="N", help=what)
    parser.add_argument(
        "--licence", default="not stated", help="of the weights, for the card (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    """Export a run."""
    from wmplay.cards.export import export_run

    card = export_run(options.run, options.out, episodes=options.episodes, licence=options.licence)
    say(f"exported: {options.out}, with {len(card.numbers)} numbers on its card (card.md)")
