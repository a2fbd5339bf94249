"""The command ``wmplay data``: the content of a store, and conversion from and to other formats."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from wmplay.cli.arguments import at_least, out_store_option, store_argument
from wmplay.errors import UsageError

FORMATS = "npz, hdf5, minari or lance"  # of import and export


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs, each with its arguments."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="|".join(VERBS))
    for name, verb in VERBS.items():
        inner = verbs.add_parser(name, help=verb.summary, description=verb.summary)
        inner.add_argument("--debug", action="store_true", help="show the traceback of an error")
        verb.add_arguments(inner)


def run(options: argparse.Namespace) -> None:
    """Print the content of a store, or import or export one."""
    from wmplay.formats import transfer

    if options.verb == "info":
        transfer.print_info(options.store)
    elif options.verb == "export":
        transfer.export_data(options.store, options.format, options.out)
    else:
        transfer.import_data(
            options.format,
            options.source,
            options.out,
            rename=dict(_renaming(text) for text in options.rename),
            episode_length=options.episode_length,
        )


class Verb(NamedTuple):
    """A verb of the command."""

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]


def _import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a folder or file of that format")
    parser.add_argument("--from", dest="format", required=True, metavar="FORMAT", help=f"lerobot, {FORMATS}")
    out_store_option(parser)
    parser.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="A=B",
        help="rename observation A to B; may be given several times",
    )
    parser.add_argument(
        "--episode-length",
        type=at_least(1),
        help="largest number of steps of an episode, for hdf5 in D4RL's layout without ends of episodes",
    )


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    store_argument(parser)
    parser.add_argument("out", type=Path, metavar="OUT", help="where to write; must not exist")
    parser.add_argument("--to", dest="format", required=True, metavar="FORMAT", help=FORMATS)


def _renaming(text: str) -> tuple[str, str]:
    old, equals, new = text.rpartition("=")
    if not (old and equals and new):
        raise UsageError(f"--rename got '{text}'", expected="A=B, for example vector=state")
    return old, new


VERBS: Mapping[str, Verb] = {
    "info": Verb("print the content of a store", store_argument),
    "import": Verb("read data in another format into a store", _import_arguments),
    "export": Verb("write a store in another format", _export_arguments),
}
