"""The command ``wmplay train``: run the loop, for one run or for a sweep."""

from __future__ import annotations

import argparse

from wmplay.cli.arguments import overrides_argument
from wmplay.errors import UsageError
from wmplay.system.printing import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    overrides_argument(parser, "pieces and settings: experiment=quickstart model=mlp fit.steps=200 ...")
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="one run for each of comma-separated values: seed=0,1,2"
    )
    parser.add_argument("--cfg", action="store_true", help="print the config and do not run")


def run(options: argparse.Namespace) -> None:
    """Train a run, run a sweep, or print a config."""
    if options.cfg:
        _print_config(options.overrides)
    elif options.multirun:
        from wmplay.sweeps import multirun
        from wmplay.system.processes import size

        if size() > 1:
            raise UsageError("torchrun starts one run, and -m makes many", advice="leave out one of them")
        multirun(options.overrides)
    else:
        from wmplay.cli.commands.report import print_results
        from wmplay.loop.train import train
        from wmplay.system.processes import rank

        trained = train(options.overrides)
        if rank() == 0:
            print_results(trained.path)


def _print_config(overrides: list[str]) -> None:
    from omegaconf import OmegaConf

    from wmplay import registry
    from wmplay.system.progress import tell

    say(OmegaConf.to_yaml(registry.compose(overrides, tell).config()), end="")
