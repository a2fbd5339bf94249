"""Properties of single frames: the last one of an episode, and those that a held action passes over."""

from __future__ import annotations

import inspect
from contextlib import closing
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from wmplay.check.fixtures.explained import FEWEST
from wmplay.check.fixtures.played_env import (
    AFTERWARDS,
    EnvTrial,
    Moment,
    fingerprint,
    fork,
    moments,
    same_key,
    same_observation,
)
from wmplay.check.report import Broken, NotTried

FEW, ENOUGH = 3, 5  # ends, or forks, that must agree
STILL = 0.05  # part of the steps in which a key that moves may stand still
HELD = 3  # steps
HOLDS = ("action_repeat", "frame_skip", "frameskip")  # settings: for how many steps an action is held


def the_last_frame_is_its_own_episodes(trial: EnvTrial) -> None:
    """Check that the last action shows in the last frame, which is neither the one before nor the next."""
    if trial.claims("passive") or trial.claims("delay"):
        raise NotTried("its metadata promise nothing about when actions show")
    _expect_ends_are_no_beginnings(trial)
    _expect_ends_move(trial)
    shown = [each.first_seen == 0 for each in trial.forks]
    if not shown or np.mean(shown) < 0.5:
        raise NotTried("few actions show in their own step")
    cut = sorted(
        (
            (len(actions), play.seed, moments, actions)
            for play in trial.plays
            for moments, actions in play.ended[:1]
            if moments[-1].truncated and not moments[-1].terminated and moments is play.episodes[0][0]
        ),
        key=lambda each: each[:2],
    )[:3]
    if not cut:
        raise NotTried("no episode was cut off by the clock")
    tried = 0
    for length, seed, _, actions in cut:
        for other in (*trial.extremes()[:3], *trial.actions(seed + 1, 2)):
            last = fork(trial.env, seed, actions, length - 1, other)
            if not last.pairs or not all(each.truncated for each in last.pairs[0]):
                continue
            if last.first_seen == 0:
                return
            tried += 1
    if tried < ENOUGH or not any(
        fork(trial.env, seed, actions, length - 2, other).first_seen == 0
        for length, seed, _, actions in cut
        for other in trial.extremes()[:3]
        if length > 1
    ):
        raise NotTried("too few actions near the ends of episodes show in their own step")
    *_, before, last_moment = cut[0][2]
    stale = same_observation(before, last_moment)
    raise Broken(
        f"the action of the last step (step {cut[0][0]}, seed {cut[0][1]}) does not show in the last frame, "
        + ("which is the one before" if stale else "which may be that of the next episode"),
        "return what the last action led to: reset() alone begins the next episode",
    )


def _expect_ends_are_no_beginnings(trial: EnvTrial) -> None:
    """Raise Broken if last frames are those that the next episodes begin with, or look like beginnings."""
    pairs = [
        (one[0], following[0][0])
        for play in trial.plays
        for one, following in zip(play.episodes, play.episodes[1:], strict=False)
        if len(one[0]) > 2
    ]
    starts = {fingerprint(begun) for _, begun in pairs}
    advice = "return what the last action led to: reset() alone begins the next episode"
    if len(pairs) >= 3 and len(starts) >= 3 and all(same_observation(one[-1], begun) for one, begun in pairs):
        raise Broken(
            f"the last frame of an episode is the first one of the next (seed {trial.seed}, "
            f"step {pairs[0][0][-1].step})",
            advice,
        )
    ended = [one for play in trial.plays for one, _ in play.ended if len(one) > 2]
    if len(ended) < ENOUGH:
        return
    for key, last in ended[0][-1].observation.items():
        constant = all(same_key(one[0], each, key) for one in ended for each in one[1:-1])
        varied = {one[0].observation[key].tobytes() for one in ended}
        other = [not same_key(one[0], one[-1], key) for one in ended]
        if constant and len(varied) >= 3 and np.mean(other) > 0.5:
            raise Broken(
                f"observation '{key}' stays as it is through an episode, and is another in its last frame",
                advice,
            )
        if last.dtype.kind == "f" and _looks_begun(trial, key, ended):
            raise Broken(
                f"observation '{key}' leaps in the last step of an episode, to where episodes begin", advice
            )


def _looks_begun(trial: EnvTrial, key: str, ended: list[list[Moment]]) -> bool:
    """Return whether last frames are far from those before, and within the range of first frames."""
    begun = np.stack([one[0].observation[key].ravel() for play in trial.plays for one, _ in play.episodes])
    ordinary = np.concatenate(
        [np.abs(np.diff([m.observation[key].ravel() for m in one[:-1]], axis=0)) for one in ended]
    )
    leaps = np.stack([np.abs(one[-1].observation[key] - one[-2].observation[key]).ravel() for one in ended])
    if len(begun) < 2 * ENOUGH or len(ordinary) < FEWEST:
        return False
    within = [
        np.stack([one[at].observation[key].ravel() for one in ended]) for at in (-1, -2)
    ]  # last frames, and those before
    low, high = begun.min(axis=0), begun.max(axis=0)
    slack = 0.1 * (high - low)
    inside = [((each >= low - slack) & (each <= high + slack)).all(axis=1).mean() for each in within]
    far = (leaps > 2 * ordinary.max(axis=0) + 1e-6).any(axis=1).mean()
    return bool(far > 0.6 and inside[0] > 0.8 and inside[1] < 0.5)


def _expect_ends_move(trial: EnvTrial) -> None:
    """Raise Broken if a key that changes in every step never does in one that terminates an episode.

    A discrete action may be one that does not move, and a wall of cells may end an episode.
    """
    ended = [one for play in trial.plays for one, _ in play.ended if one[-1].terminated and len(one) > 2]
    if len(ended) < FEW:
        return
    for key in ended[0][0].observation:
        values = {each.observation[key].tobytes() for one in ended for each in one[:-1]}
        many = len(values) > 0.5 * sum(len(one) - 1 for one in ended)
        stood = [same_key(*pair, key) for one in ended for pair in pairwise(one[:-1])]
        moves = (many or isinstance(trial.env.action_space, Box)) and np.mean(stood or True) < STILL
        if moves and all(same_key(one[-2], one[-1], key) for one in ended):
            raise Broken(
                f"observation '{key}' changes in every step but those that terminate an episode: the last "
                "frame is the one before",
                "return what the last action led to",
            )


def episodes_begin_where_their_first_frame_is(trial: EnvTrial) -> None:
    """Check that no vector leaps in the first step of episodes, further than in any other step."""
    whole = [one for play in trial.plays for one, _ in play.episodes if len(one) > 3]
    if len(whole) < ENOUGH:
        raise NotTried("there are too few episodes of three steps")
    for key, value in whole[0][0].observation.items():
        if value.dtype.kind != "f":
            continue
        moves = [np.abs(np.diff([each.observation[key].ravel() for each in one], axis=0)) for one in whole]
        usual = np.concatenate([each[1:] for each in moves]).max(axis=0)
        first = np.stack([each[0] for each in moves])
        leaps = ((first > 2 * usual + 1e-6) & (usual > 0)).any(axis=1)
        if leaps.mean() > 0.5:
            raise Broken(
                f"observation '{key}' leaps in the first step of an episode, by up to {first.max():.3g}, and "
                f"moves by at most {usual.max():.3g} in any other",
                "return the frame of the state that the episode begins with: reset() first draws, and then "
                "observes",
            )


def held_actions_are_repeated_steps(trial: EnvTrial) -> None:
    """Check that a setting such as ``action_repeat`` holds each action for that many steps, and not twice."""
    setting = _hold_setting(trial.env)
    if setting is None or trial.make is None:
        raise NotTried("it has no action_repeat or frame_skip, or no make=... to try it with")
    try:
        once, held = (trial.make(**{setting: count}) for count in (1, HELD))
    except TypeError:
        raise NotTried(f"make takes no {setting}") from None
    with closing(once), closing(held):
        _expect_held(trial, setting, once, held)


def _hold_setting(env: gymnasium.Env[Any, Any]) -> str | None:
    settings = inspect.signature(type(env.unwrapped).__init__).parameters
    return next((name for name in HOLDS if name in settings), None)


def _expect_held(trial: EnvTrial, setting: str, once: Any, held: Any) -> None:
    actions = trial.actions(trial.seed, AFTERWARDS)
    whole = [each for each in moments(held, trial.seed, actions) if each.episode == 0]
    for count in (HELD, HELD * HELD, 2 * HELD):
        single = [
            each
            for each in moments(once, trial.seed, np.repeat(np.asarray(actions), count, axis=0))
            if each.episode == 0
        ]
        pairs = list(zip(whole[1:], single[count::count], strict=False))
        alike = [same_observation(*pair) for pair in pairs]
        if len(set(map(fingerprint, whole))) < 3 or not pairs:
            raise NotTried("too little moves to tell")
        if all(alike):
            if count == HELD:
                _expect_all_steps_are_paid(setting, whole[1:], single[1:])
                return
            raise Broken(
                f"{setting}={HELD} holds each action for {count} steps",
                "repeat the step in one place alone: the env that is wrapped may do so itself",
            )
    return


def _expect_all_steps_are_paid(setting: str, whole: list[Moment], single: list[Moment]) -> None:
    """Raise Broken if a held action pays what the last of its steps does."""
    number = min(len(whole), len(single) // HELD)
    paid = np.array([float(each.reward) for each in whole[:number]])
    each = np.array([float(moment.reward) for moment in single[: number * HELD]]).reshape(number, HELD)
    last, sums = each[:, -1], each.sum(axis=1)
    if np.allclose(paid, last) and not any(np.allclose(paid, other) for other in (sums, each.mean(axis=1))):
        raise Broken(
            f"{setting}={HELD} pays an action for the last of its {HELD} steps alone",
            "return the sum of the rewards of all steps for which it is held",
        )
