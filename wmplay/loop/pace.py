"""Measurement of a run's speed on this machine: after the rehearsal, a short part of each phase is timed.

The measurement determines the number of torch's threads (``threads: auto``), the updates that fit into
``fit.minutes``, and the duration that a run announces before it begins.
"""

from __future__ import annotations

import copy
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium
import torch

from wmplay.config.settings import Settings
from wmplay.contracts import HasDistance, Learner, Policy, Practice, Trajectory, env_spec, learner_of
from wmplay.envs import build_env
from wmplay.envs.recorded import RecordedEnv
from wmplay.errors import DivergedError
from wmplay.evaluation.clips import BATCH
from wmplay.loop.fitter import make_fitter, segment_length
from wmplay.nets.units import measure_units
from wmplay.runs.pieces import Parts, env_config
from wmplay.runs.worlds import longest_episode, practice_env
from wmplay.simulation import observe, predict, simulate
from wmplay.store import Store, save_trajectories
from wmplay.system.device import use_threads

WORTH = 0.85  # several threads are used where they take at most this part of the time of one
SHORT = 20.0  # seconds of fitting and practice, below which there is nothing to gain from several threads
ROUNDS = 5  # in which one thread and several take turns
SEVERAL = (3, 15)  # updates, of which the mean counts, without the first, which is slow
PART = 0.1  # share of a run's updates that is timed
PATIENCE = 2.0  # seconds for what can be cut short
FEW = (1, 5)  # steps of two timed episodes; subtracted, they leave four steps without the reset
BUILDING = 0.3  # seconds that several envs may take at once
CLOCK = 200  # steps of an episode in an env that has none
EARLY = 0.5  # part of its steps that an episode lasts in the mean, if a task may end it
SETTLED = 33  # steps of each slot in practice: more than a round of 32, the first of which is slow
REPORT = 3.0  # seconds for what comes once, such as the report


@dataclass(frozen=True)
class Pace:
    """The seconds that a run takes on this machine per unit of work; 0 for work that it does not do.

    Attributes:
        threads: of torch, with which the seconds were measured.
        update: of the model.
        practice: a step of practice.
        random: an episode by the random policy.
        explored: an episode by the explorer.
        model: an evaluation of the model.
        policy: an evaluation of the policy.
        baselines: the additional part of the last evaluation of a run.
        clock: steps of an episode.
    """

    threads: int = 1
    update: float = 0.0
    practice: float = 0.0
    random: float = 0.0
    explored: float = 0.0
    model: float = 0.0
    policy: float = 0.0
    baselines: float = 0.0
    clock: float = 200.0

    def updates_in(self, minutes: float, iterations: int) -> int:
        """Return the updates of each iteration that take ``minutes`` in all iterations together."""
        return max(1, round(60 * minutes / (self.update * iterations))) if self.update else 1

    def expected(
        self, settings: Settings, iteration: int = 0, phase: str = "collect", updates: int = 0
    ) -> dict[str, float]:
        """Return the remaining seconds of a run by phase, from its present position."""
        first = iteration == 0 and phase == "collect"
        left = settings.iterations - iteration
        done = range(iteration + 1, settings.iterations + 1)
        assessed = sum(
            number % settings.evaluate.every == 0 or number == settings.iterations for number in done
        )
        collected = left - (phase != "collect")
        explored = (settings.collect.episodes + settings.collect.steps / self.clock) * collected
        episodes = settings.collect.random_episodes * first + explored
        fitted = settings.fit.steps * settings.iterations - updates
        if settings.fit.replay_ratio:
            fitted += round(settings.fit.replay_ratio * episodes * self.clock)
        return {
            "collect": self.random * settings.collect.random_episodes * first + self.explored * explored,
            "fit": self.update * max(0, fitted),
            "improve": self.practice * settings.improve.steps * (left - (phase == "evaluate")),
            "evaluate": (self.model + self.policy) * assessed + self.baselines + REPORT,
        }


def measure(settings: Settings, parts: Parts, device: torch.device, *, choose: bool = True) -> Pace:
    """Time a short part of each phase of a run, on copies of its pieces; nothing is written or changed.

    Args:
        settings: of the run, which is rehearsed.
        parts: its pieces.
        device: of the model.
        choose: whether to set torch's threads to the fastest number, if the settings leave it open.

    Raises:
        WmplayError: if a piece fails.
    """
    with (
        TemporaryDirectory() as folder,
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
    ):
        store = save_trajectories(_short_episode(settings, parts), folder)
        timed: dict[str, Callable[[], float]] = {}
        amount: dict[str, int] = {}
        if parts.model is not None and settings.fit.steps + settings.fit.replay_ratio > 0:
            timed["update"] = _updates(settings, parts.model, store, device)
            amount["update"] = settings.fit.steps * settings.iterations
        if settings.improve.steps:
            timed["practice"] = _practice(settings, parts, store, device)
            amount["practice"] = settings.improve.steps * settings.iterations
        found = {name: time_one() for name, time_one in timed.items()}
        if settings.fit.minutes and "update" in found:
            amount["update"] = round(60 * settings.fit.minutes / found["update"])
        if choose and settings.threads == "auto" and device.type == "cpu" and _total(found, amount) > SHORT:
            use_threads(_choose_threads(lambda: _total({name: run() for name, run in timed.items()}, amount)))
            found = {name: time_one() for name, time_one in timed.items()}
        model = _model_evaluation(settings, parts.model, store, device) if parts.model is not None else 0.0
    return Pace(torch.get_num_threads(), **found, **_acting(settings, parts, device, model))


def _total(seconds: Mapping[str, float], amount: Mapping[str, int]) -> float:
    return sum(each * amount[name] for name, each in seconds.items())


def _choose_threads(work: Callable[[], float]) -> int:
    """Return the number of threads with which some work takes least time by its own measure.

    It is 1 unless more threads are clearly faster. The numbers take turns, and the median counts, so that
    another program affects them alike.
    """
    best, shortest, number = 1, 1.0, 2
    while number <= _available():
        ratios = []
        for _ in range(ROUNDS):
            seconds = []
            for threads in (1, number):
                use_threads(threads)
                seconds.append(work())
            ratios.append(seconds[1] / seconds[0])
        if statistics.median(ratios) > WORTH * shortest:
            break  # more will not be better
        best, shortest, number = number, statistics.median(ratios), 2 * number
    return best


def _available() -> int:
    """Return the number of threads that torch may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return min(_cores(), int(given)) if given.isdigit() else _cores()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _short_episode(settings: Settings, parts: Parts) -> list[Trajectory]:
    if isinstance(parts.env, RecordedEnv):
        return [parts.env.beginning(FEW[1])]
    with closing(build_env(env_config(settings, settings.collect.env))) as env:
        return simulate(env, None, 1, seed=0, max_steps=FEW[1])


# ---- some of each phase --------------------------------------------------------------------------


def _updates(settings: Settings, model: Any, store: Store, device: torch.device) -> Callable[[], float]:
    """Return a function that makes an update of each stage, and returns the mean seconds of an update."""
    model = copy.deepcopy(model).train()
    fitter = make_fitter(settings, model, device)
    length = segment_length(settings, model)
    measure_units(model, store.sample(settings.fit.batch_size, length, 0).to(device))
    few, many = SEVERAL
    open_end = settings.fit.minutes or settings.fit.replay_ratio
    planned = math.inf if open_end else settings.fit.steps * settings.iterations
    number = min(max(few, PART * planned), many)

    def update() -> float:
        seconds = 0.0
        for stage in fitter.stages:
            began = time.perf_counter()
            segment = store.sample(settings.fit.batch_size, length, 0).to(device)
            fitter.fitters[stage.name].update(segment, 0)
            seconds += stage.share * (time.perf_counter() - began)
        return seconds

    def several() -> float:
        seconds: list[float] = []
        with suppress(DivergedError):  # on so little data: the run itself will tell
            while len(seconds) < number and sum(seconds) < PATIENCE:
                seconds.append(update())
        return statistics.fmean(seconds[1:] or seconds) if seconds else 0.0

    return several


class _Enough(Exception):
    """The measurement is complete."""


def _practice(settings: Settings, parts: Parts, store: Store, device: torch.device) -> Callable[[], float]:
    """Return a function that lets a copy of the policy practise, and returns the seconds of a step."""
    little = replace(
        settings,
        improve=replace(settings.improve, num_workers=0),
        learned=replace(settings.learned, starts="env", count=min(settings.learned.count, BATCH)),
    )
    workers = settings.improve.num_workers if settings.improve.world == "real" else 0

    def practise() -> float:
        model, policy = copy.deepcopy((parts.model, parts.policy))
        own = replace(parts, model=model, policy=policy)
        learner = learner_of(policy)
        assert learner is not None
        moments: list[tuple[int, float]] = []

        def look(steps: int, metrics: Mapping[str, float]) -> None:
            moments.append((steps, time.perf_counter()))
            if len(moments) > 1 and moments[-1][1] - began > PATIENCE:
                raise _Enough

        began = time.perf_counter()
        with closing(practice_env(little, own, None, device, 0)) as env, suppress(_Enough):
            began = time.perf_counter()
            steps = min(settings.improve.steps, SETTLED * env.num_envs)
            learner.improve(Practice(env, steps, 0, device, store, model, look))
            moments = moments or [(steps, time.perf_counter())]
        before, since = moments[-2] if len(moments) > 1 else (0, began)
        after, until = moments[-1]
        return (until - since) / max(after - before, 1) / _shared(workers)

    return practise


def _model_evaluation(settings: Settings, model: Any, store: Store, device: torch.device) -> float:
    """Return the seconds of the predictions of an evaluation."""
    cfg = settings.evaluate
    if not cfg.prediction.episodes:
        return 0.0
    context, horizon = cfg.prediction.context, cfg.prediction.horizon
    segment = store.sample(BATCH, context - 1 + horizon, 0).to(device)
    began = time.perf_counter()
    future = predict(model, observe(model, segment, context), segment.action[:, context - 1 :])
    for value in future.observation.values():
        value.sum().item()
    seconds = time.perf_counter() - began
    windows = 3 * cfg.prediction.episodes + cfg.generation.clips * cfg.generation.futures + cfg.arbiter.clips
    return seconds * windows / BATCH


def _acting(settings: Settings, parts: Parts, device: torch.device, model: float) -> dict[str, float]:
    """Return the seconds of all work that needs episodes."""
    cfg, number = settings.evaluate, settings.evaluate.policy.episodes
    held_out = cfg.prediction.episodes if parts.model is not None else 0
    if isinstance(parts.env, RecordedEnv):
        return {"model": model}
    random, explored = (
        _episode(settings, policy, device, several, settings.collect.env) if several else 0.0
        for policy, several in (
            (None, max(held_out, settings.collect.random_episodes)),
            (parts.explorer, settings.collect.episodes or settings.collect.steps),
        )
    )
    seconds = {"random": random, "explored": explored, "model": model}
    seconds["clock"] = _clock(settings, parts.env)
    if number:
        learner = isinstance(parts.policy, Learner)
        own = number * _episode(settings, parts.policy, device, number)
        seconds["policy"] = own * (1 + learner + (learner and settings.improve.world == "learned"))
        others = learner + (cfg.policy.reference is not None)
        seconds["baselines"] = own * others + number * (random or _episode(settings, None, device, number))
    return {**seconds, "baselines": seconds.get("baselines", 0.0) + held_out * random}


def _episode(
    settings: Settings,
    policy: Policy | None,
    device: torch.device,
    number: int,
    overrides: Mapping[str, Any] | None = None,
) -> float:
    """Return the seconds of one of several episodes with a policy (None = random), simulated as in the
    run."""
    cfg, chosen = settings.collect, env_config(settings, overrides)
    began = time.perf_counter()
    with closing(build_env(chosen)) as env:
        clock = _clock(settings, env)
        simulate(env, None, 1, seed=0, max_steps=FEW[0])
        one = time.perf_counter() - began
    slots = max(1, min(cfg.num_envs, number, int(BUILDING / one)))
    with closing(build_env(chosen, num_envs=slots)) as envs:

        def step_and_reset(policy: Policy | None) -> tuple[float, float]:
            seconds = []
            for steps in FEW:
                began = time.perf_counter()
                simulate(envs, policy, slots, seed=0, max_steps=steps, device=device, explore=True)
                seconds.append((time.perf_counter() - began) / slots)
            step = max(0.0, seconds[1] - seconds[0]) / (FEW[1] - FEW[0])
            return step, max(0.0, seconds[0] - step)

        step, reset = step_and_reset(None)
        acted = step_and_reset(policy)[0] if policy is not None else step
    shared = _shared(cfg.num_workers)
    return (reset + clock * step) / shared + clock * max(0.0, acted - step)


def _clock(settings: Settings, env: gymnasium.Env[Any, Any]) -> float:
    """Return the mean number of steps of an episode, as far as it can be known."""
    longest = longest_episode(settings, env) or CLOCK
    return longest * (EARLY if isinstance(env_spec(env).task, HasDistance) else 1.0)


def _shared(workers: int) -> int:
    """Return the number of processes that work at the same time."""
    return max(1, min(workers, _cores()))
