"""Hydra's sweepers and launchers, which run only the jobs that are neither finished nor running."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
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

from wmplay import registry
from wmplay.config.constructors import check_settings
from wmplay.config.loading import loader, one_line, plain
from wmplay.config.plugins import in_one_line
from wmplay.config.references import settings
from wmplay.errors import ConfigError, WmplayError
from wmplay.evaluation import load_evaluation
from wmplay.loop.train import train
from wmplay.runs.sweep_directory import SweepDirectory, prepare_to_continue, write_failure
from wmplay.sweeps.requests import as_typed, check_values, quoted
from wmplay.system.progress import Interrupted, console


@runtime_checkable
class _ChecksJobs(Protocol):
    def check(self, arguments: Sequence[str]) -> None: ...


@runtime_checkable
class _Launches(Protocol):
    launcher: Any


@contextmanager
def engine(arguments: Sequence[str], sweep: SweepDirectory) -> Iterator[tuple[Sweeper, list[str]]]:
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
            check_values(of_the_jobs)
        if isinstance(sweeper, _ChecksJobs):
            sweeper.check(of_the_jobs)
        if not isinstance(sweeper, _Launches) or sweeper.launcher is None:
            raise ConfigError(
                f"{type(sweeper).__name__} hides its launcher, so finished jobs could not be kept from it",
                advice="choose hydra/sweeper=basic or hydra/sweeper=optuna",
            )
        sweeper.launcher = Unfinished(sweeper.launcher, sweep)
        yield sweeper, of_the_jobs


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
        jobs = [self._sweep.job(registry.compose(as_typed(overrides))) for overrides in job_overrides]
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


def job(_: Any) -> None:
    """Run one job of a sweep, or resume it; record a failure and let the other jobs run."""
    here = HydraConfig.get()
    sweep = SweepDirectory(Path(here.sweep.dir))
    overrides = as_typed(here.overrides.task)
    directory = sweep.job(registry.compose(overrides))
    with sweep.claimed(directory) as free:
        if not free or sweep.is_finished(directory):
            return  # another process has been quicker
        console.rule(f"{directory.name}: {escape(' '.join(overrides))}")
        try:
            if prepare_to_continue(directory):
                train([f"run={quoted(directory)}"])
            else:
                train(overrides, dir=directory)
        except Interrupted:
            raise KeyboardInterrupt from None  # no other job begins
        except Exception as error:
            why = str(error) if isinstance(error, WmplayError) else in_one_line(error)
            console.print(f"[red]failed:[/red] {escape(why)}", soft_wrap=True)
            write_failure(directory, overrides, error)


def _cause(error: BaseException) -> WmplayError:
    """Return the plugin's own error behind an error of Hydra; without one, Hydra's error in one line."""
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, WmplayError):
        behind = behind.__cause__ or behind.__context__
    return behind or one_line(error)  # type: ignore[arg-type]
