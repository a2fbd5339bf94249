"""The command line: ``wmplay train|eval|simulate|data|report|check|list|new``.

Dispatch only; each command imports what it needs, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from wmplay.errors import UnknownName, UsageError, WmplayError

USER_ERROR = 2
INTERRUPTED = 130  # as shells have it: 128 + SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        The exit code: 0; 2 after an error that the user can mend; 130 after Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options = _parse(arguments)
        options.run_command(options)
    except KeyboardInterrupt as interrupt:
        print(": ".join(["wmplay: interrupted", *map(str, interrupt.args)]), file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        return _failed(error, debug="--debug" in arguments)
    return 0


def _failed(error: Exception, *, debug: bool) -> int:
    from wmplay.progress import Interrupted

    if isinstance(error, Interrupted):
        return INTERRUPTED
    if debug or not isinstance(error, WmplayError | OSError):
        raise error
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    print(f"wmplay: error: {' '.join(text.split())}", file=sys.stderr)
    return USER_ERROR


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser, commands = _parser()
    chosen = next((text for text in arguments if not text.startswith("-")), None)
    if chosen is not None and chosen not in commands:
        raise UnknownName("command", chosen, commands)
    options, rest = parser.parse_known_args(arguments)
    for text in rest:
        if text.startswith("-") or not hasattr(options, "overrides"):
            raise UsageError(f"{options.command} takes no '{text}'; see wmplay {options.command} --help")
    if rest:  # overrides behind options
        options.overrides = [*options.overrides, *rest]
    return options


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.lstrip("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"got '{text}', expected a whole number >= {least}")
        return int(text)

    return number


def _parser() -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser, and the names of the commands."""
    parser = _Parser(
        prog="wmplay", description="A world-models playground: bring one piece, get the rest of the pipeline."
    )
    parser.add_argument("--version", action="version", version=_version())
    debug = "show the traceback of an error"
    parser.add_argument("--debug", action="store_true", help=debug)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], None], summary: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.add_argument("--debug", action="store_true", help=debug)
        sub.set_defaults(run_command=run)
        return sub

    def overrides(sub: argparse.ArgumentParser, examples: str) -> None:
        sub.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help=examples)

    sub = command("train", _train, "run the loop: collect, fit, improve, evaluate; writes a run directory")
    overrides(sub, "experiment=quickstart model=mlp seed=1 ...")
    sub.add_argument("-m", "--multirun", action="store_true", help="sweep over comma-separated values")
    sub.add_argument("--cfg", action="store_true", help="print the composed config and stop")

    sub = command(
        "eval", _eval, "evaluate a run again: prediction by horizon, the policy beside the random one"
    )
    sub.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    overrides(sub, "evaluate.policy.episodes=1000 ...")

    sub = command("simulate", _simulate, "collect episodes into a store of trajectories")
    sub.add_argument("env", metavar="ENV", help="a registered env (see wmplay list env) or a Gymnasium id")
    overrides(sub, "task=body_goal physics=fast ...")
    sub.add_argument("--out", type=Path, required=True, help="the store: created, or appended to")
    sub.add_argument("--episodes", type=_at_least(1), default=100, help="how many (default %(default)s)")
    sub.add_argument("--run", type=Path, help="act by this run's policy (default: uniformly at random)")
    sub.add_argument("--explore", action="store_true", help="with the run's exploration")
    sub.add_argument(
        "--other-world",
        action="store_true",
        help="the run's policy may be of another world: try how it transfers",
    )
    sub.add_argument("--seed", type=_at_least(0), default=0, help="default %(default)s")
    sub.add_argument(
        "--num-envs", type=_at_least(1), default=64, help="stepped together (default %(default)s)"
    )
    sub.add_argument("--num-workers", type=_at_least(0), help="processes that share the envs (default: none)")
    sub.add_argument(
        "--workers",
        choices=("local", "ray"),
        default="local",
        help="what they are: processes of this machine, or Ray's actors, each with --num-envs of its own",
    )
    sub.add_argument("--max-steps", type=_at_least(1), help="cut episodes at this many steps")

    sub = command("data", _data_info, "what is in a store; stores from and to other formats")
    verbs = sub.add_subparsers(dest="verb", required=True, metavar="info|import|export")

    def verb(name: str, run: Callable[[argparse.Namespace], None], summary: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=summary, description=summary)
        sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=debug)
        sub.set_defaults(run_command=run)
        return sub

    formats = "npz, hdf5, minari or lance"
    sub = verb("info", _data_info, "print what is in a store")
    sub.add_argument("store", type=Path, metavar="STORE", help="a store of trajectories")
    sub = verb("import", _data_import, "read data in another format into a store")
    sub.add_argument("source", type=Path, metavar="SOURCE", help="a folder or file of that format")
    sub.add_argument("--from", dest="format", required=True, metavar="FORMAT", help=f"lerobot, {formats}")
    sub.add_argument("--out", type=Path, required=True, help="the store: created, or appended to")
    sub = verb("export", _data_export, "write a store in another format")
    sub.add_argument("store", type=Path, metavar="STORE", help="a store of trajectories")
    sub.add_argument("out", type=Path, metavar="OUT", help="where to write; must be free")
    sub.add_argument("--to", dest="format", required=True, metavar="FORMAT", help=formats)

    sub = command(
        "export", _export, "write a run as one portable folder, to act and to predict with elsewhere"
    )
    sub.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    sub.add_argument("--out", type=Path, required=True, help="the folder; must be free")

    sub = command("report", _report, "write report.html and its pictures anew from a run's files")
    sub.add_argument("run", type=Path, metavar="RUN", help="a run or sweep directory")

    sub = command("check", _check, "try what a piece promises: one line per property")
    sub.add_argument("piece", metavar="KIND=NAME", help="such as model=mine; see wmplay list")
    overrides(sub, "env=luxo model.hidden=32 ... (default env: that of wmplay train)")

    sub = command("list", _list, "list the pieces that can be swapped in, and where they come from")
    sub.add_argument(
        "kind", nargs="?", help="env, model, planner, policy, explorer, objective, logger, experiment"
    )

    sub = command("new", _new, "write a piece of your own to begin with: it works, and has a test")
    sub.add_argument("kind", metavar="KIND", help="env, model, planner, policy, explorer, objective, logger")
    sub.add_argument("name", metavar="NAME", help="in snake_case, such as my_idea")
    sub.add_argument("--package", action="store_true", help="an installable one, in ./NAME, not in ./plugins")
    return parser, list(commands.choices)


def _version() -> str:
    from wmplay import __version__

    return f"wmplay {__version__}"


def _train(options: argparse.Namespace) -> None:
    if options.cfg:
        from omegaconf import OmegaConf

        from wmplay import registry

        print(OmegaConf.to_yaml(registry.compose(options.overrides)), end="")
    elif options.multirun:
        from wmplay.distributed import size
        from wmplay.sweep import multirun

        if size() > 1:
            raise UsageError("torchrun starts one run, and -m makes many: leave out one of them")
        multirun(options.overrides)
    else:
        from wmplay.distributed import rank
        from wmplay.train import train

        run = train(options.overrides)
        if rank() == 0:
            _print_results(run.path)


def _eval(options: argparse.Namespace) -> None:
    from wmplay.train import evaluate_again

    evaluate_again(options.run, options.overrides)
    _print_results(options.run)


def _simulate(options: argparse.Namespace) -> None:
    from wmplay.commands import simulate_into

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


def _data_info(options: argparse.Namespace) -> None:
    from wmplay.data.transfer import print_info

    print_info(options.store)


def _data_import(options: argparse.Namespace) -> None:
    from wmplay.data.transfer import import_data

    import_data(options.format, options.source, options.out)


def _data_export(options: argparse.Namespace) -> None:
    from wmplay.data.transfer import export_data

    export_data(options.store, options.format, options.out)


def _export(options: argparse.Namespace) -> None:
    from wmplay.loading import export_run

    export_run(options.run, options.out)
    print(f"exported: {options.out}")


def _report(options: argparse.Namespace) -> None:
    from wmplay.report import print_sweep, write_report

    if not (options.run / "run.json").exists() and any(options.run.glob("*/run.json")):
        print_sweep(options.run)
        return
    write_report(options.run)
    _print_results(options.run)


def _print_results(run: Path) -> None:
    from rich.console import Console

    from wmplay.report import result_table

    Console(highlight=False).print(result_table(run))
    print(f"report: {run / 'report.html'}")


def _check(options: argparse.Namespace) -> None:
    from wmplay.commands import check_piece

    check_piece(options.piece, options.overrides)


def _list(options: argparse.Namespace) -> None:
    from wmplay.listing import print_pieces

    print_pieces(options.kind)


def _new(options: argparse.Namespace) -> None:
    from wmplay.new import new_piece, next_steps

    for path in new_piece(options.kind, options.name, package=options.package):
        print(f"wrote {path}")
    steps = next_steps(options.kind, options.name, package=options.package)
    width = max(len(command) for command, _ in steps)
    print("next:", *(f"  {command:{width}}  # {purpose}" for command, purpose in steps), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
