"""Properties of vector envs, which are stepped together with as many single envs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv

from wmplay.check.compare import TOLERANCE
from wmplay.check.fixtures.played_env import LIMIT, SHORT, EnvTrial, Moment, copied, difference, named
from wmplay.check.report import Broken, NotTried
from wmplay.contracts import Array, observation_spaces
from wmplay.vector.autoreset import Autoreset
from wmplay.vector.frames import Frames, frames_of, with_final

SLOTS = 3
INTO_THE_NEXT = 5  # steps of the next episode that are compared


def a_vector_env_is_single_ones(trial: EnvTrial) -> None:
    """Check that slot i under seed s is a single env under seed s + i, in two autoreset modes."""
    _expect_slots(trial, LIMIT, "same_step")
    _expect_slots(trial, LIMIT, "next_step")


def workers_are_single_ones(trial: EnvTrial) -> None:
    """Check the same in worker processes, which must be able to make the env."""
    _expect_slots(trial, SHORT, "same_step", num_workers=2)


class Slots:
    """Single envs that begin the next episode as a vector env in this mode does."""

    def __init__(self, envs: Sequence[gymnasium.Env[Any, Any]], autoreset: Autoreset) -> None:
        self.envs, self.autoreset = envs, autoreset
        self.now: list[Moment] = []

    def reset(self, seed: int) -> list[Moment]:
        """Reset all envs with the seeds s + i and return their first moments."""
        self.now = [Moment(copied(env.reset(seed=seed + i)[0])) for i, env in enumerate(self.envs)]
        return self.now

    def step(self, actions: Sequence[Any]) -> tuple[list[Moment], list[Moment]]:
        """Step all envs; return the moments arrived at, and those to act on next."""
        arrived = [
            Moment(copied(env.reset()[0])) if was.over else _stepped(env, action)
            for env, was, action in zip(self.envs, self.now, actions, strict=True)
        ]
        self.now = arrived
        if self.autoreset == "same_step":
            self.now = [
                Moment(copied(env.reset()[0])) if end.over else end
                for env, end in zip(self.envs, arrived, strict=True)
            ]
        return arrived, self.now


def expect_single_ones(
    batch: VectorEnv[Any, Any, Any], slots: Slots, actions: Sequence[Sequence[Any]], seed: int
) -> None:
    """Step both until the actions end, or until each slot is some steps into another episode.

    Args:
        batch: of N slots.
        slots: N single envs.
        actions: of each step, N each.
        seed: of the first slot.

    Raises:
        Broken: where they first differ.
    """
    spaces = observation_spaces(batch.single_observation_space)
    returned = batch.reset(seed=seed)[0]
    now = copied(frames_of(returned, spaces, batch.num_envs))
    _expect(_slots(now), slots.reset(seed), f"after reset(seed={seed})")
    since_end = np.full(len(slots.envs), -1)  # steps since the first end; -1 before it
    for number, each in enumerate(actions):
        where = f"at step {number + 1} with autoreset={slots.autoreset}"
        before, kept = returned, now
        returned, reward, terminated, truncated, info = batch.step(np.stack(each))
        if any(not np.array_equal(value, named(before)[key]) for key, value in kept.items()):
            raise Broken(f"arrays that were returned have changed {where}", "return copies")
        now = arrived = copied(frames_of(returned, spaces, batch.num_envs))
        ended = np.asarray(terminated | truncated, np.bool_)
        if slots.autoreset == "same_step" and ended.any():
            arrived = with_final(now, ended, info, spaces)
        led_to, following = slots.step(each)
        _expect(_slots(arrived, reward, terminated, truncated), led_to, where)
        begun = [Moment(each.observation) for each in following]
        if slots.autoreset == "same_step":
            _expect_no_start_skipped(_slots(now), begun, slots, np.flatnonzero(ended))
        _expect(_slots(now), begun, f"{where}, the next episode,")
        since_end = np.where(ended | (since_end >= 0), since_end + 1, -1)
        if since_end.min() >= INTO_THE_NEXT:
            return


def _expect_no_start_skipped(
    got: Sequence[Moment], begun: Sequence[Moment], slots: Slots, ended: Array
) -> None:
    """Raise Broken if a slot that has just ended begins the start after the next."""
    for slot in ended:
        if difference(got[slot], begun[slot], TOLERANCE) is not None:
            later = Moment(copied(slots.envs[slot].reset()[0]))
            if difference(got[slot], later, TOLERANCE) is None:
                raise Broken(
                    f"slot {slot} of {len(got)} begins the start after the next: every second one is skipped",
                    "reset an env once at each end: who does, the env, its wrappers or the vector env?",
                )


def _stepped(env: gymnasium.Env[Any, Any], action: Any) -> Moment:
    seen, reward, terminated, truncated, _ = env.step(action)
    return Moment(copied(seen), float(reward), bool(terminated), bool(truncated))


def _slots(frames: Frames, *outcome: Array) -> list[Moment]:
    """Return a moment of each slot, from arrays [N, ...]."""
    number = len(next(iter(frames.values())))
    return [
        Moment({key: value[i] for key, value in frames.items()}, *(each[i] for each in outcome))
        for i in range(number)
    ]


def _expect(got: Sequence[Moment], expected: Sequence[Moment], where: str) -> None:
    for slot, (mine, theirs) in enumerate(zip(got, expected, strict=True)):
        what = difference(mine, theirs, TOLERANCE)
        if what is not None:
            raise Broken(
                f"slot {slot} of {len(got)} differs from a single env {where} in {what}",
                "step and observe each slot as a single env does, under seed + slot; see "
                "gymnasium.vector.AutoresetMode for what comes after an end",
            )


def _expect_slots(trial: EnvTrial, steps: int, autoreset: Autoreset, **settings: int) -> None:
    if trial.make is None:
        raise NotTried("it takes make=..., to make vector envs")
    settings = {"num_envs": SLOTS, **settings}
    try:
        inspect.signature(trial.make).bind(autoreset=autoreset, **settings)
    except TypeError:
        raise NotTried(f"make takes no {list(settings)[-1]}") from None
    actions = list(zip(*(trial.actions(slot, steps) for slot in range(SLOTS)), strict=True))
    with ExitStack() as stack:
        singles = [stack.enter_context(trial.another()) for _ in range(SLOTS)]
        batch = stack.enter_context(closing(trial.make(autoreset=autoreset, **settings)))
        expect_single_ones(batch, Slots(singles, autoreset), actions, trial.seed)
