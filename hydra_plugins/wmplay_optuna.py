"""The sweeper ``hydra/sweeper=optuna``: a search for the settings whose runs score best, by Optuna's
samplers.

Hydra imports this file in every application that it composes, so that no heavy package is imported at the
top.
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

SEARCH_FILE = "search.json"  # in the sweep's directory: the settings tried, and their values

LOCK = ".locks/search"  # held while a search runs

Numbers = Mapping[str, float]


class OptunaSweeper(Sweeper):
    """A search that asks Optuna for settings, runs them, and reports one number of their evaluations.

    The search space is the values that are swept over: ``interval(1e-4, 1e-2)``, ``range(16, 65, 16)``,
    ``a,b,c`` or ``tag(log, interval(...))``. Seeds are not part of it: each setting runs with all seeds, and
    its value is the interquartile mean.

    A search that runs again asks for the same settings, because its sampler is seeded, and a launcher that
    knows the finished jobs returns their numbers at once: so a search continues without a database.

    Args:
        metric: name of a number that runs log.
        direction: whether larger or smaller numbers are better.
        n_trials: number of settings to try.
        n_jobs: number of settings to try at once.
        sampler: of Optuna.

    Raises:
        ConfigError: for invalid arguments.
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
        """Make the launcher."""
        self._directory = Path(config.hydra.sweep.dir)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def check(self, arguments: Sequence[str]) -> None:
        """Raise ConfigError unless the overrides have a search space."""
        if not _Plan(arguments).space:
            raise ConfigError(
                "there is nothing to search in",
                advice="give a key several values or a range, as in 'fit.lr=tag(log, interval(1e-4, 1e-2))'",
            )

    def sweep(self, arguments: list[str]) -> None:
        """Run the search.

        Raises:
            ConfigError: if another search runs in the directory.
            UnknownName: if runs do not log the metric; their results are kept.
        """
        with claimed(self._directory / LOCK) as free:
            if not free:
                raise ConfigError(
                    f"another search is at work in {self._directory}",
                    advice="wait for its end, or choose another hydra.sweep.dir=<path>",
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
        """Return the metric's interquartile mean over the seeds of a setting, or None if a seed has none."""
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
    """The overrides of a search: fixed ones, the search space, and the seeds to repeat with."""

    def __init__(self, arguments: Sequence[str]) -> None:
        from wmplay.config.overrides import parse

        last = {each.key_or_group: each for each in parse(arguments)}  # the last override of a key counts
        self.fixed = [str(each.input_line) for each in last.values() if not each.is_sweep_override()]
        swept = {key: each for key, each in last.items() if each.is_sweep_override()}
        repeated = swept.pop("seed", None)
        self.seeds = [""] if repeated is None else _texts(repeated)
        self.keys = {key: each.get_key_element() for key, each in swept.items()}  # with Hydra's + in front
        self.space = {key: _distribution(each) for key, each in swept.items()}

    def jobs(self, trial: Trial) -> list[list[str]]:
        """Return the overrides of a trial's jobs, one for each seed."""
        chosen = [f"{self.keys[key]}={value}" for key, value in trial.params.items()]
        return [[*self.fixed, *chosen, *([seed] if seed else [])] for seed in self.seeds]


def _texts(override: Override) -> list[str]:
    if override.is_interval_sweep():
        raise ConfigError(f"'{override.input_line}' is a range of seeds: list them, as in seed=0,1,2")
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def _distribution(override: Override) -> BaseDistribution:
    """Return Optuna's distribution of the values of an override."""
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
