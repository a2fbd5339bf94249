"""The command ``wmplay report``: write a run's or a sweep's page again; and the results that other commands
print."""

from __future__ import annotations

import argparse
from pathlib import Path

from wmplay.cli.arguments import run_argument
from wmplay.system.printing import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    run_argument(parser, "a run or sweep directory; or an export, whose card is printed")


def run(options: argparse.Namespace) -> None:
    """Write the page of a run or of a sweep, and print its results; print the card of an export."""
    from wmplay.runs.disk.portable import PAGE, is_portable
    from wmplay.runs.shipped import where

    path = where(options.run)
    if is_portable(path):
        say((path / PAGE).read_text("utf-8").rstrip())
        return
    holds_runs = any(path.glob("*/run.json")) or (path / "sweep.json").exists()
    if holds_runs and not (path / "run.json").exists():
        from wmplay.sweeps import show

        show(path)
        return
    from wmplay.report import write_report

    write_report(path)
    print_results(path)


def print_results(run: Path) -> None:
    """Print the table of a run's results, and the path of its page."""
    from wmplay.report import result_table
    from wmplay.system.progress import terminal

    terminal().print(result_table(run))
    page = run / "report.html"
    say(f"report: {page}" if page.exists() else f"run: {run} (report=false: without a report)")
