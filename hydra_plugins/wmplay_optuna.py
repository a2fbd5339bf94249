"""``hydra/sweeper=optuna``: searches for the settings whose runs score best, by Optuna's samplers.

Hydra imports this file in whatever application it composes, so that nothing heavy is imported at its top.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from wmplay.errors import ConfigError, UnknownName, check_values
from wmplay.system.files import write_json
from wmplay.system.locks import claimed

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial

SEARCH_FILE = "search.json"  # in the sweep's directory: what was tried, and how good it was

LOCK = ".locks/search"  # held as long as a search is at work

Numbers = Mapping[str, float]


class OptunaSweeper(Sweeper):
    """Asks Optuna for settings, runs them, and tells it one number of their evaluations.

    Values that are swept over are what it searches in: ``interval(1e-4, 1e-2)``, ``range(16, 65, 16)``,
    ``a,b,c`` or ``tag(log, interval(...))``. Several seeds are not searched in: each setting is run with all
    of them, and its value is the interquartile mean.

    A search that is run again asks the same questions, since its sampler is seeded, and a launcher that knows
    which jobs are finished answers them at once: so it goes on where it was, without a database.

    Args:
        metric: the name of a number, as runs log it.
        direction: which values of it are better.
        n_trials: how many settings to try.
        n_jobs: how many of them to try at once.
        sampler: of Optuna.

    Raises:
        ConfigError: if one of them makes no sense.
    """

    def __init__(
        self,
        *,
        metric: str | None = None,
        direction: Literal["maximize", "minimize"] = "maximize",
        n_trials: int = 20,
        n_jobs: int = 1,
        sampler: Any = None,
    ) -> None:
        if metric is None:
            raise ConfigError(
                "there is nothing to optimise: name a number that runs log, as in "
                "hydra.sweeper.metric=policy/success"
            )
        check_values("hydra.sweeper", at_least_one={"n_trials": n_trials, "n_jobs": n_jobs})
        self._metric = metric
        self._direction = direction
        self._n_trials = n_trials
        self._n_jobs = n_jobs
        self._sampler = sampler
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Makes the launcher."""
        self._directory = Path(config.hydra.sweep.dir)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def check(self, arguments: Sequence[str]) -> None:
        """Whether there is something to search in. Raises ConfigError."""
        if not _Plan(arguments).space:
            raise ConfigError(
                "there is nothing to search in: give a key several values or a range, as in "
                "'fit.lr=tag(log, interval(1e-4, 1e-2))'"
            )

    def sweep(self, arguments: list[str]) -> None:
        """Runs the search.

        Raises:
            ConfigError: if another search is at work in the directory.
            UnknownName: if runs do not log the metric; what they found is kept.
        """
        with claimed(self._directory / LOCK) as free:
            if not free:
                raise ConfigError(
                    f"another search is at work in {self._directory}: wait for its end, or choose another "
                    "hydra.sweep.dir=<path>"
                )
            self._search(arguments)

    def _search(self, arguments: list[str]) -> None:
        import optuna

        assert self.launcher is not None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        plan = _Plan(arguments)
        study = optuna.create_study(direction=self._direction, sampler=self._sampler)
        for start in range(0, self._n_trials, self._n_jobs):
            trials = [study.ask(plan.space) for _ in range(min(self._n_jobs, self._n_trials - start))]
            jobs = [job for trial in trials for job in plan.jobs(trial)]
            returns = self.launcher.launch(jobs, initial_job_idx=start * len(plan.seeds))
            numbers = [each.return_value for each in returns]
            for i, trial in enumerate(trials):
                value = self._value(numbers[i * len(plan.seeds) : (i + 1) * len(plan.seeds)])
                failed = optuna.trial.TrialState.FAIL if value is None else None
                study.tell(trial, value, state=failed)
            self._write(study.trials)
        self._print_best(study.trials)

    def _value(self, runs: Sequence[Numbers | None]) -> float | None:
        """The metric's interquartile mean over the seeds of a setting; None if one of them has none."""
        import numpy as np

        from wmplay.evaluation.statistics import interquartile_mean

        values = []
        for numbers in runs:
            if numbers is None:
                return None
            if self._metric not in numbers:
                raise UnknownName("metric (hydra.sweeper.metric)", self._metric, numbers)
            values.append(numbers[self._metric])
        return float(interquartile_mean(np.array(values))) if all(map(math.isfinite, values)) else None

    def _write(self, trials: Sequence[FrozenTrial]) -> None:
        rows = [{**trial.params, "value": trial.value, "state": trial.state.name.lower()} for trial in trials]
        content = {"metric": self._metric, "direction": self._direction, "trials": rows}
        write_json(self._directory / SEARCH_FILE, content)

    def _print_best(self, trials: Sequence[FrozenTrial]) -> None:
        from wmplay.system.progress import console

        done = [trial for trial in trials if trial.value is not None]
        if not done:
            console.print(f"none of {len(trials)} trials has a {self._metric}")
            return
        best = (max if self._direction == "maximize" else min)(done, key=lambda trial: trial.value)
        settings = " ".join(f"{key}={value}" for key, value in best.params.items())
        console.print(
            f"best of {len(done)} trials: {self._metric} {best.value:.4g} with {settings}", soft_wrap=True
        )


class _Plan:
    """What the overrides of a search say: what is fixed, what to search in, which seeds to repeat with."""

    def __init__(self, arguments: Sequence[str]) -> None:
        from wmplay.config.composing import parse

        last = {each.key_or_group: each for each in parse(arguments)}  # of a key is the one that counts
        self.fixed = [str(each.input_line) for each in last.values() if not each.is_sweep_override()]
        swept = {key: each for key, each in last.items() if each.is_sweep_override()}
        repeated = swept.pop("seed", None)
        self.seeds = [""] if repeated is None else _texts(repeated)
        self.keys = {key: each.get_key_element() for key, each in swept.items()}  # with Hydra's + in front
        self.space = {key: _distribution(each) for key, each in swept.items()}

    def jobs(self, trial: Trial) -> list[list[str]]:
        """The overrides of a trial's jobs: one for each seed."""
        chosen = [f"{self.keys[key]}={value}" for key, value in trial.params.items()]
        return [[*self.fixed, *chosen, *([seed] if seed else [])] for seed in self.seeds]


def _texts(override: Override) -> list[str]:
    if override.is_interval_sweep():
        raise ConfigError(f"'{override.input_line}' is a range of seeds: list them, as in seed=0,1,2")
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def _distribution(override: Override) -> BaseDistribution:
    """What Optuna calls the values of an override."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    swept: Any = override.value()
    if override.is_interval_sweep():
        whole = isinstance(swept.start, int) and isinstance(swept.end, int)
        make = IntDistribution if whole else FloatDistribution
        try:
            return make(swept.start, swept.end, log="log" in swept.tags)
        except ValueError as error:  # its ends are in the wrong order, or have no logarithm
            text = str(override.input_line).removeprefix("++")
            raise ConfigError(f"'{text}' is no range to search in: {error}") from error
    if override.is_range_sweep() and not swept.shuffle and swept.step > 0:
        values = list(swept.range())
        make = IntDistribution if isinstance(values[0], int) else FloatDistribution
        return make(values[0], values[-1], step=swept.step)
    return CategoricalDistribution(list(override.sweep_string_iterator()))
