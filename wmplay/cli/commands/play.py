"""The command ``wmplay play``: a learned world in the browser, next to the real one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from wmplay.cli.arguments import at_least, overrides_argument
from wmplay.errors import LARGEST_SEED, UsageError

if TYPE_CHECKING:
    from wmplay.play.games import Games
    from wmplay.runs.load import LoadedRun

LARGEST_PORT = 65535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("what", metavar="RUN|env=NAME", help="a run directory or an export; or an env alone")
    overrides_argument(parser, "settings of an env that is played alone: task=body_goal ...")
    add = parser.add_argument
    add("--port", type=at_least(0, LARGEST_PORT), default=8765, help="0 = any free one (default %(default)s)")
    add("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    add("--export", type=Path, metavar="FILE", help="write the page as one HTML file without a server")
    add("--no-browser", action="store_true", help="print the address without opening it")
    add("--cases", type=Path, default=Path("cases"), help="folder of kept cases (default %(default)s)")
    add(
        "--seed", type=at_least(0, LARGEST_SEED), default=0, help="of the first episode (default %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C; with ``--export``, write it.

    Raises:
        WmplayError: no such run or env, nothing to see, a port in use.
    """
    games, loaded = _games(options)
    if options.export is not None:
        _export(options.export, games, loaded, options.seed)
        return
    from wmplay.play.serving import serve

    serve(games, options.host, options.port, browser=not options.no_browser)


def _export(path: Path, games: Games, run: LoadedRun | None, seed: int) -> None:
    from wmplay.play.standalone import write_page
    from wmplay.system.printing import say

    if run is None:
        raise UsageError("--export is about a run's model", advice="wmplay play RUN --export page.html")
    write_page(path, games, run, seed)
    say(f"{path}: {path.stat().st_size / 1e6:.1f} MB; open it in any browser")


def _games(options: argparse.Namespace) -> tuple[Games, LoadedRun | None]:
    from wmplay.play.games import games_of_env, games_of_run
    from wmplay.runs.load import load_run
    from wmplay.system.device import use_threads

    key, is_setting, value = options.what.partition("=")
    if is_setting and not Path(options.what).exists():
        if key != "env":
            raise UsageError(f"'{options.what}' is neither a run nor env=NAME")
        return games_of_env(value, options.overrides, options.cases, options.seed), None
    if options.overrides:
        raise UsageError(f"a run has its own env: no '{options.overrides[0]}'")
    loaded = load_run(Path(options.what))
    use_threads(1)  # for one row at a time, more threads cost more than they give
    return games_of_run(loaded, options.cases, options.seed), loaded
