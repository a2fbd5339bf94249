"""Arguments that several commands take, and their types."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from wmplay.errors import LARGEST_COUNT


def overrides_argument(parser: argparse.ArgumentParser, examples: str) -> None:
    """Add any number of ``key=value``."""
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help=examples)


def run_argument(parser: argparse.ArgumentParser, what: str = "a run directory") -> None:
    """Add the path of a run."""
    parser.add_argument("run", type=Path, metavar="RUN", help=what)


def store_argument(parser: argparse.ArgumentParser) -> None:
    """Add the path of a store."""
    parser.add_argument("store", type=Path, metavar="STORE", help="a store of trajectories")


def out_store_option(parser: argparse.ArgumentParser) -> None:
    """Add the path of a store to write to."""
    parser.add_argument("--out", type=Path, required=True, help="the store: created, or appended to")


def at_least(least: int, most: int = LARGEST_COUNT) -> Callable[[str], int]:
    """Return the type of a whole number between two bounds."""

    def number(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,40}", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"got '{text[:40]}', expected a whole number >= {least}")
        if int(text) > most:
            raise argparse.ArgumentTypeError(f"got '{text}', expected a whole number <= {most}")
        return int(text)

    return number
