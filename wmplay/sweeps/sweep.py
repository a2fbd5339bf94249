"""Sweeps: many runs from one command (``-m model=rssm,mlp seed=0,1,2``), by Hydra's sweepers and launchers.

A sweep can be interrupted at any point and started again: finished jobs are kept, unfinished ones resume.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.markup import escape
from rich.text import Text

from wmplay.config.overrides import lenient, parse, refuse_hydras
from wmplay.errors import WmplayError
from wmplay.report import print_sweep, summarise_sweep, write_sweep
from wmplay.runs.sweep_directory import SweepDirectory
from wmplay.sweeps.engine import Unfinished, engine
from wmplay.sweeps.requests import (
    check,
    check_extra,
    chosen_directory,
    directory_for,
    quoted,
    with_the_sweeps_own,
)
from wmplay.system.progress import console, terminal


def multirun(overrides: Sequence[str]) -> Path:
    """Run every unfinished job of a sweep, on the launcher that ``hydra/launcher`` names.

    At the end a table of all jobs is printed, including those of earlier launches in the same directory
    (``hydra.sweep.dir=<dir>``).

    Args:
        overrides: of all jobs, some with several values. For a directory that holds a sweep, Hydra's own
            overrides are enough, with or without new seeds: the sweep's other overrides are read from it.

    Returns:
        The sweep's directory, with one run directory per job.

    Raises:
        WmplayError: if the sweep does not compose, or if jobs failed, after all have ended.
        KeyboardInterrupt: after Ctrl-C; its message is the command that resumes the sweep.
    """
    overrides = with_the_sweeps_own(overrides)
    refuse_hydras(overrides, taken=("hydra.run", "hydra.output_subdir"))
    check(overrides)
    directory = SweepDirectory(directory_for(overrides))
    directory.check(overrides)
    arguments = [*lenient(parse(overrides)), f"hydra.sweep.dir={quoted(directory.path)}"]
    again = f"wmplay train -m {shlex.quote(f'hydra.sweep.dir={directory.path}')}"
    with engine(arguments, directory) as (sweeper, of_the_jobs):
        directory.write(overrides, new=chosen_directory(parse(overrides)) is None)
        with _explained(again):
            sweeper.sweep(of_the_jobs)
    if any(directory.begun()):
        show(directory.path)
    assert isinstance(sweeper.launcher, Unfinished)
    _account(directory, sweeper.launcher.jobs, again)
    return directory.path


def launch(
    jobs: Sequence[Sequence[str]], directory: SweepDirectory, overrides: Sequence[str], again: str
) -> None:
    """Run the unfinished ones of some jobs, each given by its own overrides.

    Args:
        jobs: the overrides of each, with single values.
        directory: with a run directory per job.
        overrides: of Hydra, which choose the launcher and its settings.
        again: the command that resumes the jobs, for messages.

    Raises:
        WmplayError: if jobs failed, after all have ended.
        KeyboardInterrupt: after Ctrl-C.
    """
    for override in parse(overrides):
        check_extra(override)
        if not override.key_or_group.startswith(("hydra/launcher", "hydra.launcher.")):
            raise WmplayError(f"{override.input_line} is no setting of the launcher", got=override.input_line)
    with engine([*overrides, f"hydra.sweep.dir={quoted(directory.path)}"], directory) as (sweeper, _):
        launcher = sweeper.launcher
        assert isinstance(launcher, Unfinished)
        with _explained(again):
            launcher.launch([lenient(parse(job)) for job in jobs], 0)
        _account(directory, launcher.jobs, again)


@contextmanager
def _explained(again: str) -> Iterator[None]:
    """Add to an interrupt, and to an engine's error, the command that goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"go on with: {again}") from None
    except WmplayError:
        raise
    except Exception as error:  # an engine's error, such as a pool with a killed worker
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise WmplayError(f"the launcher gave up ({why})", advice=f"go on with {again}") from error


def show(path: Path) -> None:
    """Print the tables of a sweep, write them and the sweep's page, and print the page's path.

    Raises:
        RunError: if the directory holds no runs.
        WriteError: without space or permission.
    """
    sweep = summarise_sweep(path)
    print_sweep(sweep)
    terminal().print(Text(f"report: {write_sweep(sweep)}"), soft_wrap=True)


def _account(sweep: SweepDirectory, jobs: Sequence[Path], again: str) -> None:
    """Report the unfinished jobs, with the reasons.

    Raises:
        WmplayError: if a job failed or died.
    """
    states = {path: sweep.state(path) for path in jobs}
    running = [path for path, state in states.items() if state == "running"]
    if running:
        console.print(
            f"{len(running)} jobs run elsewhere; once they are done: wmplay report {escape(str(sweep.path))}",
            soft_wrap=True,
        )
    failed = [path for path, state in states.items() if state == "failed"]
    died = [path for path, state in states.items() if state in ("stopped", "new")]
    if failed:
        raise WmplayError(
            f"{len(failed)} of {len(states)} jobs failed, such as {failed[0]}: {sweep.failure(failed[0])}; "
            f"when the cause is fixed, go on with {again}",
            got=len(failed),
        )
    if died:
        raise WmplayError(
            f"{len(died)} of {len(states)} jobs did not come to an end, such as {died[0]} (was it killed, "
            "for memory or time?)",
            advice=f"go on with {again}",
        )
