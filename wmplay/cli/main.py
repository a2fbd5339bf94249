"""The command line: the table of commands, dispatch, and how errors end.

``wmplay/cli/commands/<command>.py`` is a command: ``add_arguments(parser)`` and ``run(options)``. Only the
chosen one is imported, and imports what it needs when it runs, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NoReturn

from wmplay.errors import UnknownName, UsageError, WmplayError
from wmplay.system.printing import is_closed, printable, say_what_can_be_said

USER_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells return
COLLECT = (200_000, 10, 10)  # of gc: by default it searches the 300,000 objects of torch again and again
CLOSED = 141  # 128 + SIGPIPE

COMMANDS: Mapping[str, str] = {
    "train": "run the loop (collect episodes, fit a model, improve a policy, evaluate) into a run directory",
    "eval": "evaluate a run again: predictions by horizon, the policy compared with the random one",
    "simulate": "collect episodes of an env into a store of trajectories",
    "study": "plan, run and report a comparison that is asked beforehand; alone: list the built-in ones",
    "report": "write report.html and its pictures again, from the files of a run or a sweep",
    "list": "list all pieces with descriptions, or the settings of one piece",
    "check": "check the contract of your own piece: one line per property",
    "new": "write a first version of your own piece, which works and has a test",
    "data": "show the content of a store; convert stores from and to other formats",
    "export": "write a run as one portable folder, to use its policy and model elsewhere",
    "play": "play a learned world in the browser, next to the real one",
    "cases": "list the cases that were kept while playing, and replay them",
    "completion": "print a script that lets your shell complete commands, pieces and settings",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit code: 0; 2 after an error that the user can fix; 130 after Ctrl-C; 141 if standard output is
        closed.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    gc.set_threshold(*COLLECT)
    atexit.register(gc.freeze)  # the process gives everything back faster than a search for garbage
    say_what_can_be_said(sys.stdout, sys.stderr)
    try:
        options = parse(arguments)
        _module(options.command).run(options)
        sys.stdout.flush()
    except BrokenPipeError as error:
        return _failed(error, debug="--debug" in arguments) if not is_closed(sys.stdout) else CLOSED
    except KeyboardInterrupt as interrupt:
        return _last_line(": ".join(["wmplay: interrupted", *map(str, interrupt.args)]), INTERRUPTED)
    except Exception as error:
        return _failed(error, debug="--debug" in arguments)
    return 0


class Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line, as all commands do."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{message}; see {self.prog} --help")


def parser(chosen: str | None = None) -> Parser:
    """Return the parser of the command line, with the arguments of one command."""
    whole = Parser(
        prog="wmplay", description="A world-models playground: bring one piece, get the rest of the pipeline."
    )
    whole.add_argument("--version", action="version", version=_version())
    _debug_option(whole)
    parsers = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        inner = parsers.add_parser(name, help=summary, description=summary)
        _debug_option(inner)
        if name == chosen:
            _module(name).add_arguments(inner)
    return whole


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what a command line says. Raises UnknownName, UsageError."""
    chosen = next((text for text in arguments if not text.startswith("-")), None)
    if chosen is not None and chosen not in COMMANDS:
        raise UnknownName("command", chosen, COMMANDS)
    options, rest = parser(chosen).parse_known_args(arguments)
    for text in rest:
        if text.startswith("-") or "overrides" not in options:
            raise UsageError(f"{options.command} takes no '{text}'; see wmplay {options.command} --help")
    if rest:  # overrides behind options
        options.overrides = [*options.overrides, *rest]
    return options


def _module(command: str) -> Any:
    return import_module(f"wmplay.cli.commands.{command}")


def _debug_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--debug`` for ``--help``; ``main`` searches for it itself, because parsing may fail."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _version() -> str:
    from wmplay import __version__

    return f"wmplay {__version__}"


def _failed(error: Exception, *, debug: bool) -> int:
    from wmplay.system.progress import Interrupted

    if isinstance(error, Interrupted):
        return INTERRUPTED
    if debug:
        raise error
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    elif isinstance(error, MemoryError):
        text = f"out of memory ({error}): use smaller settings, for example fewer envs or a smaller batch"
    elif not isinstance(error, WmplayError | OSError):
        from wmplay.config import plugins

        if plugins.failed_at(error) is None:  # ours
            raise error
        text = f"{plugins.in_one_line(error)} (with --debug: the traceback)"
    return _last_line(f"wmplay: error: {' '.join(text.split())}", USER_ERROR)


def _last_line(text: str, code: int) -> int:
    print(printable(text), file=sys.stderr)
    return code
