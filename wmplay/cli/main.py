"""The command line: ``wmplay train|eval|simulate|data|export|report|check|list|new``.

Dispatch only; each command imports what it needs, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from wmplay.errors import LARGEST_COUNT, LARGEST_SEED, UnknownName, UsageError, WmplayError
from wmplay.system.printing import is_closed, printable, say, say_what_can_be_said

USER_ERROR = 2
INTERRUPTED = 130  # as shells have it: 128 + SIGINT
CLOSED = 141  # 128 + SIGPIPE

FORMATS = "npz, hdf5, minari or lance"  # both ways


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        The exit code: 0; 2 after an error that the user can fix; 130 after Ctrl-C; 141 where nobody reads
        what is printed.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    say_what_can_be_said(sys.stdout, sys.stderr)
    try:
        options = _parse(arguments)
        options.run_command(options)
        sys.stdout.flush()
    except BrokenPipeError as error:
        return _failed(error, debug="--debug" in arguments) if not is_closed(sys.stdout) else CLOSED
    except KeyboardInterrupt as interrupt:
        return _last_line(": ".join(["wmplay: interrupted", *map(str, interrupt.args)]), INTERRUPTED)
    except Exception as error:
        return _failed(error, debug="--debug" in arguments)
    return 0


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
        text = f"out of memory ({error}): ask for fewer or smaller things at once"
    elif not isinstance(error, WmplayError | OSError):
        from wmplay.config import plugins

        if plugins.failed_at(error) is None:  # ours
            raise error
        text = f"{plugins.in_one_line(error)} (with --debug: the traceback)"
    return _last_line(f"wmplay: error: {' '.join(text.split())}", USER_ERROR)


def _last_line(text: str, code: int) -> int:
    print(printable(text), file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    chosen = next((text for text in arguments if not text.startswith("-")), None)
    if chosen is not None and chosen not in COMMANDS:
        raise UnknownName("command", chosen, COMMANDS)
    options, rest = parser.parse_known_args(arguments)
    for text in rest:
        if text.startswith("-") or "overrides" not in options:
            raise UsageError(f"{options.command} takes no '{text}'; see wmplay {options.command} --help")
    if rest:  # overrides behind options
        options.overrides = [*options.overrides, *rest]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="wmplay", description="A world-models playground: bring one piece, get the rest of the pipeline."
    )
    parser.add_argument("--version", action="version", version=_version())
    _debug_option(parser)
    _add_commands(parser, COMMANDS, dest="command", metavar="COMMAND")
    return parser


class _Command(NamedTuple):
    """What --help says of a command, what it takes, and what it does."""

    summary: str
    takes: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None] | None  # None: that is up to its verbs


def _add_commands(
    parser: argparse.ArgumentParser, commands: Mapping[str, _Command], dest: str, metavar: str
) -> None:
    parsers = parser.add_subparsers(dest=dest, required=True, metavar=metavar)
    for name, command in commands.items():
        sub = parsers.add_parser(name, help=command.summary, description=command.summary)
        _debug_option(sub)
        sub.set_defaults(run_command=command.run)
        command.takes(sub)


def _debug_option(parser: argparse.ArgumentParser) -> None:
    """For --help; ``main`` looks for it itself, since parsing may fail."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _version() -> str:
    from wmplay import __version__

    return f"wmplay {__version__}"


def _at_least(least: int, most: int = LARGEST_COUNT) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,40}", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"got '{text[:40]}', expected a whole number >= {least}")
        if int(text) > most:
            raise argparse.ArgumentTypeError(f"got '{text}', expected a whole number <= {most}")
        return int(text)

    return number


def _overrides(parser: argparse.ArgumentParser, examples: str) -> None:
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help=examples)


def _run_directory(parser: argparse.ArgumentParser, what: str = "a run directory") -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help=what)


def _store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=Path, metavar="STORE", help="a store of trajectories")


def _out_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="the store: created, or appended to")


def _train_takes(parser: argparse.ArgumentParser) -> None:
    _overrides(parser, "experiment=quickstart model=mlp seed=1 ...")
    parser.add_argument("-m", "--multirun", action="store_true", help="sweep over comma-separated values")
    parser.add_argument("--cfg", action="store_true", help="print the composed config and stop")


def _train(options: argparse.Namespace) -> None:
    if options.cfg:
        from omegaconf import OmegaConf

        from wmplay import registry
        from wmplay.system.progress import tell

        say(OmegaConf.to_yaml(registry.compose(options.overrides, tell)), end="")
    elif options.multirun:
        from wmplay.sweeps.sweep import multirun
        from wmplay.system.processes import size

        if size() > 1:
            raise UsageError("torchrun starts one run, and -m makes many: leave out one of them")
        multirun(options.overrides)
    else:
        from wmplay.loop.train import train
        from wmplay.system.processes import rank

        run = train(options.overrides)
        if rank() == 0:
            _print_results(run.path)


def _eval_takes(parser: argparse.ArgumentParser) -> None:
    _run_directory(parser)
    _overrides(parser, "evaluate.policy.episodes=1000 ...")


def _eval(options: argparse.Namespace) -> None:
    from wmplay.loop.train import evaluate_again

    evaluate_again(options.run, options.overrides)
    _print_results(options.run)


def _simulate_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("env", metavar="ENV", help="a registered env (see wmplay list env) or a Gymnasium id")
    _overrides(parser, "task=body_goal physics=fast ...")
    _out_store(parser)
    parser.add_argument("--episodes", type=_at_least(1), default=100, help="how many (default %(default)s)")
    parser.add_argument("--run", type=Path, help="act by this run's policy (default: uniformly at random)")
    parser.add_argument("--explore", action="store_true", help="with the run's exploration")
    parser.add_argument(
        "--other-world",
        action="store_true",
        help="the run's policy may be of another world: try how it transfers",
    )
    parser.add_argument("--seed", type=_at_least(0, LARGEST_SEED), default=0, help="default %(default)s")
    parser.add_argument(
        "--num-envs", type=_at_least(1), default=64, help="stepped together (default %(default)s)"
    )
    parser.add_argument(
        "--num-workers", type=_at_least(0), help="processes that share the envs (default: none)"
    )
    parser.add_argument(
        "--workers",
        choices=("local", "ray"),
        default="local",
        help="what they are: processes of this machine, or Ray's actors, each with --num-envs of its own",
    )
    parser.add_argument("--max-steps", type=_at_least(1), help="cut episodes at this many steps")


def _simulate(options: argparse.Namespace) -> None:
    from wmplay.cli.commands import simulate_into

    simulate_into(
        options.env,
        options.overrides,
        options.out,
        episodes=options.episodes,
        run=options.run,
        explore=options.explore,
        seed=options.seed,
        num_envs=options.num_envs,
        num_workers=options.num_workers,
        workers=options.workers,
        max_steps=options.max_steps,
        other_world=options.other_world,
    )


def _data_takes(parser: argparse.ArgumentParser) -> None:
    _add_commands(parser, DATA_VERBS, dest="verb", metavar="|".join(DATA_VERBS))


def _data_info(options: argparse.Namespace) -> None:
    from wmplay.cli.data import print_info

    print_info(options.store)


def _data_import_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a folder or file of that format")
    parser.add_argument("--from", dest="format", required=True, metavar="FORMAT", help=f"lerobot, {FORMATS}")
    _out_store(parser)
    parser.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="A=B",
        help="call observation A by another name, B; may be given several times",
    )
    parser.add_argument(
        "--episode-length",
        type=_at_least(1),
        help="of hdf5 in D4RL's layout that does not say where they end",
    )


def _data_import(options: argparse.Namespace) -> None:
    from wmplay.cli.data import import_data

    rename = dict(_renaming(text) for text in options.rename)
    import_data(
        options.format, options.source, options.out, rename=rename, episode_length=options.episode_length
    )


def _renaming(text: str) -> tuple[str, str]:
    old, equals, new = text.rpartition("=")
    if not (old and equals and new):
        raise UsageError(f"--rename got '{text}', expected A=B, such as vector=state")
    return old, new


def _data_export_takes(parser: argparse.ArgumentParser) -> None:
    _store(parser)
    parser.add_argument("out", type=Path, metavar="OUT", help="where to write; must be free")
    parser.add_argument("--to", dest="format", required=True, metavar="FORMAT", help=FORMATS)


def _data_export(options: argparse.Namespace) -> None:
    from wmplay.cli.data import export_data

    export_data(options.store, options.format, options.out)


def _export_takes(parser: argparse.ArgumentParser) -> None:
    _run_directory(parser)
    parser.add_argument("--out", type=Path, required=True, help="the folder; must be free")


def _export(options: argparse.Namespace) -> None:
    from wmplay.runs.export import export_run

    export_run(options.run, options.out)
    say(f"exported: {options.out}")


def _report_takes(parser: argparse.ArgumentParser) -> None:
    _run_directory(parser, "a run or sweep directory")


def _report(options: argparse.Namespace) -> None:
    from wmplay.report import write_report

    runs = any(options.run.glob("*/run.json")) or (options.run / "sweep.json").exists()
    if runs and not (options.run / "run.json").exists():
        from wmplay.sweeps.sweep import show

        show(options.run)
        return
    write_report(options.run)
    _print_results(options.run)


def _print_results(run: Path) -> None:
    from wmplay.report import result_table
    from wmplay.system.progress import terminal

    terminal().print(result_table(run))
    page = run / "report.html"
    say(f"report: {page}" if page.exists() else f"run: {run} (report=false: without a report)")


def _check_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("piece", metavar="KIND=NAME", help="such as model=mine; see wmplay list")
    _overrides(parser, "env=luxo model.hidden=32 ... (default env: that of wmplay train)")


def _check(options: argparse.Namespace) -> None:
    from wmplay.cli.commands import check_piece

    check_piece(options.piece, options.overrides)


def _list_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind", nargs="?", help="env, model, planner, policy, explorer, objective, logger, experiment"
    )


def _list(options: argparse.Namespace) -> None:
    from wmplay.cli.list import print_pieces

    print_pieces(options.kind)


def _new_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind", metavar="KIND", help="env, model, planner, policy, explorer, objective, logger"
    )
    parser.add_argument("name", metavar="NAME", help="in snake_case, such as my_idea")
    parser.add_argument(
        "--package", action="store_true", help="an installable one, in ./NAME, not in ./plugins"
    )


def _new(options: argparse.Namespace) -> None:
    from wmplay.cli.new import new_piece, next_steps

    for path in new_piece(options.kind, options.name, package=options.package):
        say(f"wrote {path}")
    steps = next_steps(options.kind, options.name, package=options.package)
    width = max(len(command) for command, _ in steps)
    print("next:", *(f"  {command:{width}}  # {purpose}" for command, purpose in steps), sep="\n")


COMMANDS: Mapping[str, _Command] = {
    "train": _Command(
        "run the loop: collect, fit, improve, evaluate; writes a run directory", _train_takes, _train
    ),
    "eval": _Command(
        "evaluate a run again: prediction by horizon, the policy beside the random one", _eval_takes, _eval
    ),
    "simulate": _Command("collect episodes into a store of trajectories", _simulate_takes, _simulate),
    "data": _Command("what is in a store; stores from and to other formats", _data_takes, None),
    "export": _Command(
        "write a run as one portable folder, to act and to predict with elsewhere", _export_takes, _export
    ),
    "report": _Command("write report.html and its pictures anew from a run's files", _report_takes, _report),
    "check": _Command("try what a piece promises: one line per property", _check_takes, _check),
    "list": _Command("list the pieces that can be swapped in, and where they come from", _list_takes, _list),
    "new": _Command("write a piece of your own to begin with: it works, and has a test", _new_takes, _new),
}
DATA_VERBS: Mapping[str, _Command] = {
    "info": _Command("print what is in a store", _store, _data_info),
    "import": _Command("read data in another format into a store", _data_import_takes, _data_import),
    "export": _Command("write a store in another format", _data_export_takes, _data_export),
}


if __name__ == "__main__":
    sys.exit(main())
