"""Sweeps: many runs from one command (``-m model=rssm,mlp seed=0,1,2``), by Hydra's sweepers and launchers.

A sweep can be interrupted at any point and started again: finished jobs are kept, unfinished ones resume.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import IntervalSweep, Override, Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, RunMode, TaskFunction
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.markup import escape
from rich.text import Text

from wmplay import registry
from wmplay.config.composing import prepare
from wmplay.config.constructors import check_settings
from wmplay.config.loading import loader, one_line, plain
from wmplay.config.overrides import is_hydras, lenient, parse, refuse_hydras
from wmplay.config.plugins import in_one_line
from wmplay.config.references import settings
from wmplay.errors import ConfigError, WmplayError
from wmplay.evaluation import load_evaluation
from wmplay.loop.train import train
from wmplay.report import print_sweep, summarise_sweep, write_sweep
from wmplay.runs.sweep_directory import SWEEP_FILE, SweepDirectory, check_own, goes_on, write_failure
from wmplay.system.extras import PACKAGES, how_to_install, installed
from wmplay.system.progress import Interrupted, console, terminal

EXTRAS = {  # engines that need an optional package
    "hydra/launcher=ray": "ray",
    "hydra/launcher=submitit_local": "submitit",
    "hydra/launcher=submitit_slurm": "submitit",
    "hydra/sweeper=optuna": "optuna",
}


@runtime_checkable
class _ChecksJobs(Protocol):
    def check(self, arguments: Sequence[str]) -> None: ...


@runtime_checkable
class _Launches(Protocol):
    launcher: Any


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
    overrides = _with_the_sweeps_own(overrides)
    refuse_hydras(overrides, taken=("hydra.run", "hydra.output_subdir"))
    _check(overrides)
    directory = SweepDirectory(_directory(overrides))
    directory.check(overrides)
    arguments = [*lenient(parse(overrides)), f"hydra.sweep.dir={_quoted(directory.path)}"]
    with _sweeper(arguments, directory) as (sweeper, of_the_jobs):
        directory.write(overrides, new=_chosen_directory(parse(overrides)) is None)
        try:
            sweeper.sweep(of_the_jobs)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"go on with: {_again(directory)}") from None
        except WmplayError:
            raise
        except Exception as error:  # an engine's error, such as a pool with a killed worker
            why = " ".join(f"{type(error).__name__}: {error}".split())
            raise WmplayError(f"the launcher gave up ({why}): go on with {_again(directory)}") from error
    if any(directory.begun()):
        show(directory.path)
    assert isinstance(sweeper.launcher, Unfinished)
    _account(directory, sweeper.launcher.jobs)
    return directory.path


def show(path: Path) -> None:
    """Print the tables of a sweep, write them and the sweep's page, and print the page's path.

    Raises:
        RunError: if the directory holds no runs.
        WriteError: without space or permission.
    """
    sweep = summarise_sweep(path)
    print_sweep(sweep)
    terminal().print(Text(f"report: {write_sweep(sweep)}"), soft_wrap=True)


def job(_: Any) -> None:
    """Run one job of a sweep, or resume it; record a failure and let the other jobs run."""
    here = HydraConfig.get()
    sweep = SweepDirectory(Path(here.sweep.dir))
    overrides = _plain(here.overrides.task)
    directory = sweep.job(registry.compose(overrides))
    with sweep.claimed(directory) as free:
        if not free or sweep.is_finished(directory):
            return  # another process has been quicker
        console.rule(f"{directory.name}: {escape(' '.join(overrides))}")
        try:
            if goes_on(directory):
                train([f"run={_quoted(directory)}"])
            else:
                train(overrides, dir=directory)
        except Interrupted:
            raise KeyboardInterrupt from None  # no other job begins
        except Exception as error:
            why = str(error) if isinstance(error, WmplayError) else in_one_line(error)
            console.print(f"[red]failed:[/red] {escape(why)}", soft_wrap=True)
            write_failure(directory, overrides, error)


class Unfinished(Launcher):
    """A launcher that passes only the jobs that are neither finished nor running, each once, to another.

    A job's result is read from its directory: the metrics of its evaluation (``policy/success``, ...), or
    None for a job without an evaluation. The result therefore does not depend on when and where the job ran.
    """

    def __init__(self, launcher: Launcher, sweep: SweepDirectory) -> None:
        self._launcher = launcher
        self._sweep = sweep
        self.jobs: list[Path] = []  # of all batches so far

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Set the other launcher up."""
        self._launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the unfinished jobs of a batch; return the results of the whole batch."""
        jobs = [self._sweep.job(registry.compose(_plain(overrides))) for overrides in job_overrides]
        self.jobs += jobs
        states = {path: self._sweep.state(path) for path in jobs}
        count = Counter(states.values())
        for state in ("finished", "running"):
            if count[state]:
                console.print(f"{count[state]} of {len(states)} jobs: {state} already")
        todo = {
            path: list(overrides)
            for path, overrides in zip(jobs, job_overrides, strict=True)
            if states[path] not in ("finished", "running")
        }
        if todo:
            for returned in self._launcher.launch(list(todo.values()), initial_job_idx):
                _ = returned.return_value  # raises an error that the job could not record
        return [
            JobReturn(overrides, status=JobStatus.COMPLETED, _return_value=self._numbers(path))
            for path, overrides in zip(jobs, job_overrides, strict=True)
        ]

    def _numbers(self, job: Path) -> dict[str, float] | None:
        """Return the metrics of a finished job's evaluation; None for any other job."""
        evaluation = load_evaluation(job) if self._sweep.is_finished(job) else None
        return None if evaluation is None else evaluation.numbers()


@contextmanager
def _sweeper(arguments: Sequence[str], sweep: SweepDirectory) -> Iterator[tuple[Sweeper, list[str]]]:
    """Yield Hydra's sweeper, set up, and the overrides of the jobs in Hydra's form.

    Raises:
        WmplayError: for wrong settings of the sweeper or the launcher.
    """
    with loader() as hydras:
        try:
            config = hydras.load_configuration("train", list(arguments), RunMode.MULTIRUN)
            for engine in (config.hydra.sweeper, config.hydra.launcher):
                if str(engine._target_).startswith("hydra_plugins.wmplay_"):  # the others check their own
                    check_settings(get_class(engine._target_), settings(plain(engine)))
            sweeper = Plugins.instance().instantiate_sweeper(
                hydra_context=HydraContext(config_loader=hydras, callbacks=Callbacks(config)),
                task_function=job,
                config=config,
            )
        except (HydraException, OmegaConfBaseException, ImportError) as error:
            raise _cause(error) from error
        of_the_jobs: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
        if type(sweeper).__name__ == "BasicSweeper":  # by name: Hydra makes its plugins' classes anew
            _check_values(of_the_jobs)
        if isinstance(sweeper, _ChecksJobs):
            sweeper.check(of_the_jobs)
        if not isinstance(sweeper, _Launches) or sweeper.launcher is None:
            raise ConfigError(
                f"{type(sweeper).__name__} hides its launcher, so finished jobs could not be kept from it: "
                "choose hydra/sweeper=basic or hydra/sweeper=optuna"
            )
        sweeper.launcher = Unfinished(sweeper.launcher, sweep)
        yield sweeper, of_the_jobs


# ---- before a sweep ------------------------------------------------------------------------------


def _with_the_sweeps_own(overrides: Sequence[str]) -> list[str]:
    """Return the overrides, preceded by the sweep's own if they only name a sweep to resume and new seeds."""
    parsed = parse(overrides)
    chosen = _chosen_directory(parsed)
    given = {override.key_or_group for override in parsed}
    if chosen is None or not all(is_hydras(key) or key == "seed" for key in given):
        return list(overrides)
    if "seed" in given and not (chosen / SWEEP_FILE).exists():  # a new one
        return list(overrides)
    engines = tuple(f"{key.replace('/', '.')}." for key in given if "/" in key)  # another has other settings
    own = SweepDirectory(chosen).overrides()
    kept = [
        text
        for text, old in zip(own, parse(own), strict=True)
        if old.key_or_group not in given and not old.key_or_group.startswith(engines)
    ]
    check_own(chosen / SWEEP_FILE, kept)
    return [*kept, *overrides]


def _check(overrides: Sequence[str]) -> None:
    """Compose the first job, and one for each other swept value, before any job starts."""
    parsed = parse(overrides)
    if any(override.key_or_group == "run" for override in parsed):
        raise ConfigError(
            "a sweep makes new runs: leave out run=, or go on with a sweep by hydra.sweep.dir=<its directory>"
        )
    for override in parsed:
        _check_extra(override)
    prepare(parsed)
    values = {i: _values(override) for i, override in enumerate(parsed) if override.is_sweep_override()}
    first = [values[i][0] if i in values else text for i, text in enumerate(overrides)]
    registry.compose(first)
    for i, others in values.items():
        for other in others[1:]:
            registry.compose([*first[:i], other, *first[i + 1 :]])


def _check_extra(override: Override) -> None:
    """Raise ConfigError if the package that a launcher or a sweeper needs is not installed."""
    text = str(override.input_line)
    extra = EXTRAS.get(text)
    if extra is not None and installed(extra) is None:
        raise ConfigError(
            f"{text} needs the package {PACKAGES[extra]}, which is not here: {how_to_install(extra)}"
        )


def _values(override: Override) -> list[str]:
    """Return one override per value of a sweep; for a range to search in, one with its lower end."""
    key, swept = override.get_key_element(), override.value()
    if isinstance(swept, IntervalSweep):
        return [f"{key}={swept.start}"]
    values = [f"{key}={value}" for value in override.sweep_string_iterator()]
    if not values:
        raise ConfigError(f"'{override.input_line}' has no values: give at least one")
    return values


def _check_values(overrides: Sequence[str]) -> None:
    """Raise ConfigError for a swept key without a list of values."""
    for override in parse(overrides):
        if override.is_interval_sweep():
            text = str(override.input_line).removeprefix("++")
            raise ConfigError(
                f"'{text}' is a range to search in: choose a sweeper that searches (hydra/sweeper=optuna), "
                "or give values, as in key=1,2,3"
            )


def _directory(overrides: Sequence[str]) -> Path:
    """Return the directory that the user chose, else ``runs/<name>/<date-time>-sweep``."""
    parsed = parse(overrides)
    chosen = _chosen_directory(parsed)
    if chosen is not None:
        return chosen
    fixed = [
        text for text, override in zip(overrides, parsed, strict=True) if not override.is_sweep_override()
    ]
    name = str(registry.compose([text for text in fixed if not text.startswith("hydra")]).name)
    return Path("runs") / name / f"{datetime.now():%Y-%m-%d_%H-%M-%S}-sweep"


def _chosen_directory(parsed: Sequence[Override]) -> Path | None:
    chosen = [override.value() for override in parsed if override.key_or_group == "hydra.sweep.dir"]
    return Path(str(chosen[-1])) if chosen else None


# ---- after it ------------------------------------------------------------------------------------


def _account(sweep: SweepDirectory, jobs: Sequence[Path]) -> None:
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
            f"when the cause is fixed, go on with {_again(sweep)}"
        )
    if died:
        raise WmplayError(
            f"{len(died)} of {len(states)} jobs did not come to an end, such as {died[0]} (was it killed, "
            f"for memory or time?): go on with {_again(sweep)}"
        )


def _again(sweep: SweepDirectory) -> str:
    return f"wmplay train -m {shlex.quote(f'hydra.sweep.dir={sweep.path}')}"


def _plain(overrides: Sequence[str]) -> list[str]:
    """Return overrides as a user types them, given overrides in Hydra's form."""
    return [text.removeprefix("++") for text in overrides]


def _quoted(path: Path) -> str:
    """Return a path quoted by Hydra's grammar."""
    return QuotedString(str(path), Quote.single).with_quotes()


def _cause(error: BaseException) -> WmplayError:
    """Return the plugin's own error behind an error of Hydra; without one, Hydra's error in one line."""
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, WmplayError):
        behind = behind.__cause__ or behind.__context__
    return behind or one_line(error)  # type: ignore[arg-type]
