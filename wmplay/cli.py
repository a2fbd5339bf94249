"""The command line: ``wmplay train|eval|simulate|report|list``.

Dispatch only; each command imports what it needs, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

USER_ERROR = 2
INTERRUPTED = 130  # as shells have it: 128 + SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        The exit code: 0; 2 after an error that the user can mend; 130 after Ctrl-C.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if options.command != "train" and rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.overrides = [*getattr(options, "overrides", []), *rest]
    try:
        options.run_command(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return _failed(error, debug=options.debug)
    return 0


def _failed(error: Exception, *, debug: bool) -> int:
    from wmplay.errors import WmplayError
    from wmplay.progress import Interrupted

    if isinstance(error, Interrupted):
        return INTERRUPTED
    if debug or not isinstance(error, WmplayError | OSError):
        raise error
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    print(f"wmplay: error: {text}", file=sys.stderr)
    return USER_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wmplay", description="A world-models playground: bring one piece, get the rest of the pipeline."
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], None], summary: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.set_defaults(run_command=run)
        return sub

    sub = command("train", _train, "run the loop: collect, fit, improve, evaluate; writes a run directory")
    sub.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="experiment=quickstart model=mlp seed=1 ..."
    )
    sub.add_argument("-m", "--multirun", action="store_true", help="sweep over comma-separated values")
    sub.add_argument("--cfg", action="store_true", help="print the composed config and stop")

    sub = command(
        "eval", _eval, "evaluate a run again: prediction by horizon, the policy beside the random one"
    )
    sub.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    sub.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="evaluate.policy.episodes=1000 ...")

    sub = command("simulate", _simulate, "collect episodes into a store of trajectories")
    sub.add_argument("env", metavar="ENV", help="a registered env (see wmplay list env) or a Gymnasium id")
    sub.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="task=body_goal physics=fast ...")
    sub.add_argument("--out", type=Path, required=True, help="the store: created, or appended to")
    sub.add_argument("--episodes", type=int, default=100, help="how many (default %(default)s)")
    sub.add_argument("--run", type=Path, help="act by this run's policy (default: uniformly at random)")
    sub.add_argument("--explore", action="store_true", help="with the run's exploration")
    sub.add_argument("--seed", type=int, default=0, help="default %(default)s")
    sub.add_argument("--num-envs", type=int, default=64, help="stepped together (default %(default)s)")
    sub.add_argument(
        "--num-workers", type=int, default=0, help="processes that share the envs (default: none)"
    )
    sub.add_argument("--max-steps", type=int, help="cut episodes at this many steps")

    sub = command("report", _report, "write report.html and its pictures anew from a run's files")
    sub.add_argument("run", type=Path, metavar="RUN", help="a run or sweep directory")

    sub = command("list", _list, "list the pieces that can be swapped in, and where they come from")
    sub.add_argument(
        "kind", nargs="?", help="env, model, planner, policy, explorer, objective, logger, experiment"
    )
    return parser


def _version() -> str:
    from wmplay import __version__

    return f"wmplay {__version__}"


def _train(options: argparse.Namespace) -> None:
    if options.cfg:
        from omegaconf import OmegaConf

        from wmplay import registry

        print(OmegaConf.to_yaml(registry.compose(options.overrides)), end="")
    elif options.multirun:
        from wmplay.sweep import multirun

        multirun(options.overrides)
    else:
        from wmplay.train import train

        _print_results(train(options.overrides).path)


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
        max_steps=options.max_steps,
    )


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


def _list(options: argparse.Namespace) -> None:
    from wmplay.listing import print_pieces

    print_pieces(options.kind)


if __name__ == "__main__":
    sys.exit(main())
