"""Properties of rewards: each belongs to its own step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from wmplay.check.fixtures.explained import (
    FEWEST,
    Transitions,
    features_of,
    guessed,
    transitions,
    unexplained,
    unexplained_by,
)
from wmplay.check.fixtures.played_env import EnvTrial
from wmplay.check.report import Broken, NotTried
from wmplay.contracts import Array

ENOUGH = 5  # forks that must agree
WELL, FAIRLY = 0.05, 0.3  # left unexplained at most
CLEARLY = 10  # times less is left unexplained
ADVICE = "return the reward of the step that was just taken, made of its own frames and action"


@dataclass(frozen=True)
class Explained:
    """The part of the rewards that steps leave unexplained, by the frames of some keys."""

    steps: Transitions
    keys: Sequence[str]

    def left(self, target: Array, *inputs: Array) -> float:
        """Return the unexplained part of a target [N, 1]."""
        return unexplained(target, inputs, self.steps.group)

    def frames(self, shift: int) -> list[Array]:
        """Return the frames, ``shift`` after the one that was acted on."""
        return self.steps.frames(shift, self.keys)

    def step(self, shift: int = 0) -> list[Array]:
        """Return the frame, the action and the next frame, ``shift`` steps later."""
        return [*self.frames(shift), self.steps.actions(shift), *self.frames(shift + 1)]

    @cached_property
    def by_own(self) -> float:
        """By the frames and the action of their own step."""
        return self.left(self.steps.rewards(), *self.step())

    @cached_property
    def by_last(self) -> float:
        """By the frames and the action of the step before."""
        return self.left(self.steps.rewards(), *self.step(-1))


def rewards_belong_to_their_step(trial: EnvTrial) -> None:
    """Check that rewards are explained by their own step rather than by the one before, or their sum."""
    if trial.claims("delay"):
        raise NotTried("its metadata claim a delay")
    steps = transitions(trial.plays, trial.env.action_space)
    if len(steps.rows) < FEWEST:
        raise NotTried(f"there are fewer than {FEWEST} steps with a step before them")
    if np.ptp(steps.rewards()) == 0:
        raise NotTried("all rewards are alike")
    ways = [Explained(steps, keys) for keys in (steps.vectors, steps.keys) if keys]
    well = (way for way in ways if way.by_own < FAIRLY or way.by_last < FAIRLY)
    by = next(well, None) or min(ways, key=lambda way: min(way.by_own, way.by_last))
    _expect_effects_are_paid_at_once(trial, by)
    if by.by_own > 0.1 and CLEARLY * by.by_last < by.by_own:
        raise _late("the step before: its frames and action explain them, those of their own do not")
    _expect_no_sum(by)
    _expect_no_clock(by)
    _expect_frames_on_time(trial, by)


def _expect_effects_are_paid_at_once(trial: EnvTrial, by: Explained) -> None:
    """Raise Broken if actions show at once, are paid a step late, and the frame before explains rewards."""
    seen = [each.first_seen for each in trial.forks]
    paid = [found for found in (each.first_paid for each in trial.forks) if found is not None]
    if seen.count(0) < ENOUGH or len(paid) < ENOUGH or min(paid) == 0:
        return
    reward = by.steps.rewards()
    slow = _entries_as_late(trial, by.steps, min(paid))
    if slow and by.left(reward, *slow) < 0.2:
        return
    earlier = min(by.left(reward, *by.frames(0)), by.by_last)
    after = by.left(reward, *by.frames(1))
    if earlier < (0.9 if earlier < 0.1 else 0.5) * min(after, 1.0) and earlier < 0.5:
        what = "the state before the action" if _first_rewards_vary(trial) else "the step before"
        raise _late(f"{what}: an action shows at once, and changes rewards from the next step on")


def _late(what: str) -> Broken:
    return Broken(
        f"rewards are those of {what}", f"{ADVICE}; if they shall be late, put 'delay': 1 into metadata"
    )


def _first_rewards_vary(trial: EnvTrial) -> bool:
    return len({float(one[1].reward) for play in trial.plays for one, _ in play.episodes if len(one) > 1}) > 1


def _entries_as_late(trial: EnvTrial, steps: Transitions, delay: int) -> list[Array]:
    """Return the float entries, before and after a step, that show an action no sooner than rewards do."""
    found = []
    for key in steps.vectors:
        soon = np.zeros(steps.values(key, 0)[0].size, bool)
        for each in trial.forks:
            for one, other in each.pairs[:delay]:
                soon |= (one.observation[key] != other.observation[key]).ravel()
        entries = [steps.values(key, shift).reshape(len(steps.rows), -1)[:, ~soon] for shift in (0, 1)]
        if entries[0].size and np.ptp(entries[0]) > 0:
            found += entries
    return found


def _expect_no_sum(by: Explained) -> None:
    """Raise Broken if what is added to the last reward, or to the sum that a mean was made of, is explained
    by a step, and rewards are not.

    The sum begins with nothing: the first reward of an episode is what is added then.
    """
    by = Explained(by.steps.without_ends(), by.keys)  # an end may pay what no other step does
    reward, last = by.steps.rewards(), by.steps.rewards(-1)
    first = [abs(float(last[i, 0])) for i, (*_, step) in enumerate(by.steps.rows) if step == 1]
    if not first or by.by_own < WELL or np.median(first) == 0:
        return
    done = np.array([[step] for *_, step in by.steps.rows], np.float64)
    added_up = ("return", reward - last, CLEARLY)
    averaged = ("mean", (done + 1) * reward - done * last, CLEARLY / 2)  # they vary less
    for what, added, times in (added_up, averaged):
        usual = np.abs(added)
        if not 0.99 * usual.min() <= np.median(first) <= 1.01 * usual.max():
            continue
        left = by.left(added, *by.step())
        if left < 0.3 and times * left * added.var() < by.by_own * reward.var():
            raise Broken(
                f"rewards are the {what} so far: a step explains what is added to the last one",
                "return the reward of the step alone: whoever learns sums up",
            )


def _expect_no_clock(by: Explained) -> None:
    """Raise Broken if rewards change with the number of the step, which no frame tells."""
    by = Explained(by.steps.without_ends(), by.keys)
    if by.by_own < FAIRLY or len(by.steps.rows) < FEWEST:
        return
    time = np.array([[step] for *_, step in by.steps.rows], np.float64)
    features = features_of(by.step())
    timed = np.concatenate([features, features * (time / time.max())], axis=1)
    left = unexplained_by(by.steps.rewards(), timed, by.steps.group)
    if left < 2 * WELL and CLEARLY / 2 * left < by.by_own:
        raise Broken(
            "rewards change with the number of the step, which no frame tells",
            "pay the same for the same step at any time (whoever learns discounts), or show the time",
        )


def _expect_frames_on_time(trial: EnvTrial, by: Explained) -> None:
    """Raise Broken if the frame after the next explains rewards that the next one does not."""
    steps = transitions(trial.plays, trial.env.action_space, spare=1)
    on_time = sum(each.first_seen == 0 for each in trial.forks)
    if by.by_own < 0.1 or 2 * on_time > len(trial.forks) or len(steps.rows) < FEWEST:
        return
    spared = Explained(steps, by.keys)
    later = [*spared.frames(1), steps.actions(), *spared.frames(2)]
    if CLEARLY * spared.left(steps.rewards(), *later) < spared.by_own:
        raise Broken(
            "rewards tell of the frame after the next: frames are a step late",
            "step() first acts and then observes",
        )


def the_last_step_is_paid(trial: EnvTrial) -> None:
    """Check that the clock's end does not take away the reward of the last step."""
    steps = transitions(trial.plays, trial.env.action_space, first=0)
    ends = np.array(
        [
            step == len(actions) - 1 and moments[-1].truncated and not moments[-1].terminated
            for _, moments, actions, step in steps.rows
        ]
    )
    if ends.sum() < ENOUGH or len(ends) - ends.sum() < FEWEST:
        raise NotTried("too few episodes were cut off by the clock")
    reward = steps.rewards()
    if np.ptp(reward[ends]) > 0 or np.ptp(reward[~ends]) == 0:
        return
    usual = np.flatnonzero(~ends)
    features = steps.features(steps.vectors or steps.keys)
    guess = guessed(reward[usual], features[usual], features)[1]
    error = np.sqrt(np.square(reward[usual] - guess[usual]).mean())
    if error < 0.2 * reward[usual].std() and np.median(np.abs(reward[ends] - guess[ends])) > 5 * error:
        raise Broken(
            f"the last step of every episode that the clock ends pays {reward[ends].max():g}, whatever "
            "the steps before it pay",
            "pay the last step as any other: truncated only says that the time is over",
        )
