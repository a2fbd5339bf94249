"""Properties of what an env returns, moment by moment: spaces, types, arrays, pictures."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import chain
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict
from gymnasium.utils.env_checker import check_env as gymnasium_check

from wmplay.check.compare import shown
from wmplay.check.fixtures.played_env import (
    LIMIT,
    SHORT,
    EnvTrial,
    expect_equal,
    moments,
    play,
)
from wmplay.check.report import Broken, NotTried
from wmplay.contracts import observation_spaces
from wmplay.errors import SpaceError
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.modalities import modalities


def spaces_that_other_pieces_take(trial: EnvTrial) -> None:
    """Check that spaces are supported.

    Observations: a Dict of binary screens, uint8 images and float vectors. Actions: a Box [A] or Discrete.
    """
    observation, action = trial.env.observation_space, trial.env.action_space
    try:
        modalities(observation, vector_sigma=1.0, pixel_sigma=1.0)
        ActionEncoder(action)
    except SpaceError as error:
        raise Broken(str(error), "see wmplay/envs/gym.py for how other spaces become these") from error
    assert isinstance(observation, Dict)
    for key, space in observation.items():
        if not isinstance(space, Box) or space.dtype not in (np.float32, np.uint8):
            raise Broken(f"observation '{key}' is {space}", "make it a Box of np.float32 or np.uint8")
    if isinstance(action, Box) and action.dtype != np.float32:
        raise Broken(f"actions are of {action.dtype}", "make it a Box of np.float32")


def gymnasiums_checker_passes(trial: EnvTrial) -> None:
    """Check that ``gymnasium.utils.env_checker.check_env`` raises nothing; its warnings are ignored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            gymnasium_check(trial.env, skip_render_check=True, skip_close_check=True)
        except Exception as error:  # raises assertions, and any error of the env
            text = " ".join(f"{error}".split()) or type(error).__name__
            raise Broken(text, "see gymnasium.utils.env_checker.check_env") from error


def observations_are_of_their_space(trial: EnvTrial) -> None:
    """Check that each key has the shape and dtype of its space, and values within its bounds."""
    spaces = observation_spaces(trial.env.observation_space)
    held = ((trial.seed, moments(trial.env, trial.seed, [action] * LIMIT)) for action in trial.extremes()[:4])
    for seed, played in chain(((each.seed, each.moments) for each in trial.plays), held):
        for moment in played:
            where = f"(seed {seed}, {moment})"
            if moment.observation.keys() != spaces.keys():
                odd = sorted(moment.observation.keys() ^ spaces.keys())[0]
                there = "is not in the space" if odd in moment.observation else "is missing"
                raise Broken(f"observation '{odd}' {there} {where}", "return the keys of observation_space")
            for key, value in moment.observation.items():
                _expect_member(key, value, spaces[key], where)


def pictures_show_something(trial: EnvTrial) -> None:
    """Check that no picture is blank in all frames, and that one of 0 to 255 has more than ones in it."""
    pictures = {
        key: space
        for key, space in observation_spaces(trial.env.observation_space).items()
        if space.dtype == np.uint8 and len(space.shape or ()) > 1 and isinstance(space, Box)
    }
    if not pictures:
        raise NotTried("it has no pictures")
    for key, space in pictures.items():
        shown = [moment.observation[key] for each in trial.plays for moment in each.moments]
        low, high = min(each.min() for each in shown), max(each.max() for each in shown)
        if low == high:
            raise Broken(f"observation '{key}' is {low} in all pixels of all frames", "draw what is there")
        if high <= 1 < space.high.max():
            raise Broken(
                f"observation '{key}' has no pixel above {high}, in a space up to {space.high.max()}",
                "scale it to the bounds of its space before it becomes uint8, or make it a screen: "
                "Box(0, 1, shape, np.uint8)",
            )


def rewards_and_flags(trial: EnvTrial) -> None:
    """Check that rewards are finite numbers, and that terminated and truncated are bools."""
    for moment in chain.from_iterable(each.moments for each in trial.plays):
        reward = np.asarray(moment.reward)
        if reward.shape != () or reward.dtype.kind not in "fiu" or not np.isfinite(reward):
            raise Broken(f"the reward is {moment.reward!r} ({moment})", "return a finite float")
        for name, flag in (("terminated", moment.terminated), ("truncated", moment.truncated)):
            if not isinstance(flag, bool | np.bool_):
                raise Broken(f"{name} is {flag!r}, a {type(flag).__name__} ({moment})", "return a bool")


def what_is_returned_is_the_callers(trial: EnvTrial) -> None:
    """Check that returned arrays never change, and that writing into them has no effect."""
    actions = trial.actions(0, SHORT)
    returned: list[Mapping[str, Any]] = []
    usual = play(trial.env, trial.seed, actions, lambda seen, _: returned.append(dict(seen)))
    advice = "return copies, such as {key: value.copy() ...}"
    for moment, seen in zip(usual, returned, strict=True):
        for key, value in seen.items():
            if not np.array_equal(moment.observation[key], value):
                raise Broken(f"observation '{key}' of {moment} is another after later steps", advice)

    def scribble(seen: Mapping[str, Any], _: Any) -> None:
        for value in seen.values():
            if isinstance(value, np.ndarray) and value.flags.writeable:
                value[...] = 1 - value

    written = play(trial.env, trial.seed, actions, scribble)
    expect_equal(usual, written, "writing into what was returned changes the episode", advice)


def actions_are_only_read(trial: EnvTrial) -> None:
    """Check that the array of an action is neither written into nor kept."""
    actions = trial.actions(0, SHORT)
    given: list[Any] = []
    usual = play(trial.env, trial.seed, actions, lambda _, action: given.append(action))
    after = [action for action in given if action is not None]
    for number, (before, now) in enumerate(zip(actions, after, strict=True)):
        if not np.array_equal(before, now):
            raise Broken(
                f"step {number + 1} changes the action that it is given", "clip and scale a copy of it"
            )

    def scribble(_: Any, action: Any) -> None:
        if isinstance(action, np.ndarray):
            action[...] = 0

    written = play(trial.env, trial.seed, actions, scribble)
    expect_equal(
        usual, written, "writing into an action after its step changes the episode", "keep a copy of it"
    )


def pictures(trial: EnvTrial) -> None:
    """Check that ``render`` returns uint8 [h, w, 3], and changes nothing."""
    if trial.env.render_mode != "rgb_array":
        raise NotTried("its render_mode is not rgb_array: give env.render_mode=rgb_array")
    actions = trial.actions(0, SHORT)
    usual = play(trial.env, trial.seed, actions)

    def look(*_: Any) -> None:
        picture = trial.env.render()
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
            raise Broken(f"render() gives {_array(picture)}", "return uint8 [height, width, 3]")

    watched = play(trial.env, trial.seed, actions, look)
    expect_equal(
        usual, watched, "render() changes the episode", "only look: draw nothing at random, step nothing"
    )


def _expect_member(key: str, value: Any, space: gymnasium.Space[Any], where: str) -> None:
    if value.shape != space.shape or value.dtype != space.dtype:
        raise Broken(
            f"observation '{key}' is {_array(value)} {where}",
            f"return {list(space.shape or ())} of {space.dtype}",
        )
    if isinstance(space, Box):
        outside = ~((value >= space.low) & (value <= space.high))  # NaN is outside as well
        if outside.any():
            index = np.argwhere(outside)[0]
            raise Broken(
                f"observation '{key}' is {value[tuple(index)]:.6g} at {index.tolist()}, outside of "
                f"{space.low[tuple(index)]:.6g} to {space.high[tuple(index)]:.6g} {where}",
                "clip it, or widen the bounds of its space",
            )


def _array(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{list(value.shape)} of {value.dtype}"
    return shown(value)
