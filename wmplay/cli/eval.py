"""The command ``wmplay eval``: evaluate a run again."""

from __future__ import annotations

import argparse

from wmplay.cli.arguments import overrides_argument, run_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    run_argument(parser)
    overrides_argument(parser, "settings of the evaluation: evaluate.policy.episodes=1000 ...")


def run(options: argparse.Namespace) -> None:
    """Evaluate a run, and print its results."""
    from wmplay.cli.report import print_results
    from wmplay.loop.train import evaluate_again

    evaluate_again(options.run, options.overrides)
    print_results(options.run)
