"""Properties of environments, one function each.

An env is played with random and extreme actions, under a few seeds, to the ends of episodes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Dict
from gymnasium.utils import seeding
from gymnasium.utils.env_checker import check_env as gymnasium_check

from wmplay.check.compare import TOLERANCE, global_generators_at_rest, shown
from wmplay.check.fixtures.played_env import (
    LIMIT,
    SHORT,
    EnvTrial,
    Moment,
    copied,
    first_difference,
    moments,
    play,
    same_observation,
)
from wmplay.check.report import Broken, NotTried, Property, Report, examine
from wmplay.check.slots import a_vector_env_is_single_ones, workers_are_single_ones
from wmplay.contracts import HasReward, env_spec, observation_spaces
from wmplay.errors import CheckError, SpaceError
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.modalities import modalities

LONG = 1009  # steps at most to wait for the end of an episode
SEEDS = 7


def check_env(
    env: gymnasium.Env[Any, Any],
    make: Callable[..., Any] | None = None,
    *,
    seed: int = 0,
    verbose: bool = False,
    quick: bool = False,
) -> Report:
    """Check all properties of an environment.

    An entry ``passive`` in its ``metadata`` claims that actions change nothing.

    Args:
        env: a single env; it is reset and stepped, and left open.
        make: makes an env of the same kind, for example ``functools.partial(wmplay.make_env, "mine")``. If it
            takes ``num_envs``, ``autoreset`` and ``num_workers``, as ``make_env`` does, vector envs are
            checked as well. Without it, properties that need a second env are not tried.
        seed: of all random draws.
        verbose: whether to print each finding at once.
        quick: whether to leave out slow properties.

    Raises:
        CheckError: for anything but a ``gymnasium.Env``.
    """
    if not isinstance(env, gymnasium.Env):
        raise CheckError(
            f"{type(env).__name__} is no gymnasium.Env, as every env is", advice="let it inherit from that"
        )
    return examine(type(env.unwrapped).__name__, PROPERTIES, EnvTrial(env, make, seed), verbose, quick)


# ---- spaces and types ----------------------------------------------------------------------------


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
    plays = [trial.actions(0), *([action] * LIMIT for action in trial.extremes()[:5])]
    for number, actions in enumerate(plays):
        for moment in moments(trial.env, trial.seed + number, actions):
            where = f"(seed {trial.seed + number}, {moment})"
            if moment.observation.keys() != spaces.keys():
                odd = sorted(moment.observation.keys() ^ spaces.keys())[0]
                there = "is not in the space" if odd in moment.observation else "is missing"
                raise Broken(f"observation '{odd}' {there} {where}", "return the keys of observation_space")
            for key, value in moment.observation.items():
                _expect_member(key, value, spaces[key], where)


def rewards_and_flags(trial: EnvTrial) -> None:
    """Check that rewards are finite numbers, and that terminated and truncated are bools."""
    for moment in moments(trial.env, trial.seed, trial.actions(0)):
        reward = np.asarray(moment.reward)
        if reward.shape != () or reward.dtype.kind not in "fiu" or not np.isfinite(reward):
            raise Broken(f"the reward is {moment.reward!r} ({moment})", "return a finite float")
        for name, flag in (("terminated", moment.terminated), ("truncated", moment.truncated)):
            if not isinstance(flag, bool | np.bool_):
                raise Broken(f"{name} is {flag!r}, a {type(flag).__name__} ({moment})", "return a bool")


# ---- seeds and episodes --------------------------------------------------------------------------


def same_seed_same_numbers(trial: EnvTrial) -> None:
    """Check that seed and actions determine episodes bit for bit, without the global generators."""
    advice = "draw from self.np_random alone, which super().reset(seed=seed) makes"
    actions = trial.actions(0)
    with global_generators_at_rest("it", advice):
        plays = []
        for _ in range(2):
            with trial.another() as env:
                play(env, trial.seed + 1, actions[:SHORT])
                plays.append(play(env, trial.seed, actions))
        _expect_equal(plays[0], plays[1], f"two plays under seed {trial.seed} differ", advice)


def seeds_differ(trial: EnvTrial) -> None:
    """Check that another seed gives another episode, and so does a reset without a seed."""
    actions = trial.actions(0, SHORT)
    seeds = [play(trial.env, trial.seed + number, actions) for number in range(SEEDS)]
    if all(first_difference(seeds[0], other) is None for other in seeds[1:]):
        untouched = seeding.np_random(trial.seed + SEEDS - 1)[0].bit_generator.state
        if trial.env.unwrapped.np_random.bit_generator.state == untouched:
            raise NotTried("it never draws from np_random, and all its episodes begin alike")
        raise Broken(
            f"under seeds {trial.seed} to {trial.seed + SEEDS - 1} all episodes are alike",
            "begin from what self.np_random draws",
        )
    trial.env.reset(seed=trial.seed)
    following = [Moment(copied(trial.env.reset()[0])) for _ in range(SEEDS)]
    seeded = [begun[0] for begun in seeds]
    if _all_alike(following) and not _all_alike(seeded):
        raise Broken(
            f"after reset(seed={trial.seed}), {SEEDS} calls of reset() begin the same episode",
            "seed only when a seed is given: super().reset(seed=seed), and draw from self.np_random",
        )


def reset_forgets_the_episode(trial: EnvTrial) -> None:
    """Check that an episode does not depend on earlier ones."""
    actions = trial.actions(0)
    with trial.another() as env:
        usual = play(env, trial.seed, actions)
        for history in (5, LIMIT):
            play(env, trial.seed + 1, trial.actions(1, history))
            _expect_equal(
                usual,
                play(env, trial.seed, actions),
                f"seed {trial.seed} gives another episode after {history} steps of another",
                "begin everything anew in reset(): velocities, counters, what is carried",
            )


def instances_are_apart(trial: EnvTrial) -> None:
    """Check that two envs do not affect each other."""
    if trial.make is None:
        raise NotTried("it takes make=..., to make a second env")
    mine, theirs = trial.actions(0, SHORT), trial.actions(1, SHORT)
    with trial.another() as env:
        usual = play(env, trial.seed, mine)
    with trial.another() as one, trial.another() as two:
        beside = zip(moments(one, trial.seed, mine), moments(two, trial.seed + 1, theirs), strict=False)
        together = [moment for moment, _ in beside]
    _expect_equal(
        usual[: len(together)],
        together,
        "an env plays differently beside another",
        "keep everything in self: nothing in the class, the module or a default argument",
    )


# ---- arrays --------------------------------------------------------------------------------------


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
    _expect_equal(usual, written, "writing into what was returned changes the episode", advice)


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
    _expect_equal(
        usual, written, "writing into an action after its step changes the episode", "keep a copy of it"
    )


# ---- the time rule, ends, rewards ----------------------------------------------------------------


def actions_show_in_their_own_step(trial: EnvTrial) -> None:
    """Check that action[t] changes the observation at t + 1."""
    if trial.passive:
        raise NotTried("its metadata claim that it is passive")
    late: set[int] = set()
    first, *others = trial.extremes()
    for seed in range(trial.seed, trial.seed + SEEDS):
        before, after = trial.actions(seed, 2), trial.actions(seed + 1, 5)
        usual = play(trial.env, seed, [*before, first, *after])
        for other in others:
            changed = play(trial.env, seed, [*before, other, *after])
            pairs = zip(usual[len(before) + 1 :], changed[len(before) + 1 :], strict=False)
            late |= {delay for delay, pair in enumerate(pairs) if not same_observation(*pair)}
            if 0 in late:
                return
    if not late:
        raise Broken(
            "no action changes anything that is seen within 6 steps",
            "use the action in step(); if there is nothing to move, put 'passive': True into metadata",
        )
    raise Broken(
        f"an action changes what is seen {min(late)} step{'s' * (min(late) > 1)} late, never in its own",
        "step() first acts and then observes; where the world itself is slow, let velocities be seen",
    )


def terminated_is_no_clock(trial: EnvTrial) -> None:
    """Check that the end of the world is terminated, and the time limit truncated."""
    ends = []
    clock = env_spec(trial.env).max_steps
    for seed in range(trial.seed, trial.seed + SEEDS):
        for moment in moments(trial.env, seed, trial.actions(seed, LONG)):
            if clock is not None and moment.step > clock:
                raise Broken(
                    f"its max_steps is {clock}, and an episode (seed {seed}) goes on after that",
                    "return truncated=True from that step on: evaluation waits for the end of each episode",
                )
            if moment.over:
                ends.append(moment)
                break
    if not ends:
        raise NotTried(f"no episode ended within {LONG} steps")
    lengths = sorted({end.step for end in ends})
    terminated, truncated = [end for end in ends if end.terminated], [end for end in ends if end.truncated]
    if len(terminated) == SEEDS and not truncated and len(lengths) == 1 and lengths[0] > 1:
        raise Broken(
            f"{SEEDS} episodes of random actions all end as terminated after step {lengths[0]}",
            "return truncated, not terminated, where only the time is over",
        )
    if truncated and not terminated and len(lengths) > 1:
        raise Broken(
            f"episodes end as truncated after steps {', '.join(map(str, lengths))}, and never as terminated",
            "return terminated where the world brings an end about; truncated is the clock's",
        )


def its_task_agrees(trial: EnvTrial) -> None:
    """Check that ``env.task.reward_and_terminated``, which a learned env uses, agrees with step()."""
    task = env_spec(trial.env).task
    if not isinstance(task, HasReward):
        raise NotTried("it has no task.reward_and_terminated")
    for before, after in pairwise(moments(trial.env, trial.seed, trial.actions(0))):
        if after.step == 0:
            continue
        reward, terminated = task.reward_and_terminated(_row(before), _row(after))
        said, did = (float(reward[0]), bool(terminated[0])), (float(after.reward), bool(after.terminated))
        if abs(said[0] - did[0]) > TOLERANCE or said[1] != did[1]:
            raise Broken(
                f"task.reward_and_terminated says {said[0]:.4g} and {said[1]} where step() returned "
                f"{did[0]:.4g} and {did[1]} ({after})",
                "let step() ask the task, about the observations before and after",
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
    _expect_equal(
        usual, watched, "render() changes the episode", "only look: draw nothing at random, step nothing"
    )


PROPERTIES: tuple[Property[EnvTrial], ...] = (
    Property(spaces_that_other_pieces_take),
    Property(gymnasiums_checker_passes),
    Property(observations_are_of_their_space),
    Property(rewards_and_flags),
    Property(same_seed_same_numbers),
    Property(seeds_differ),
    Property(reset_forgets_the_episode),
    Property(instances_are_apart),
    Property(what_is_returned_is_the_callers),
    Property(actions_are_only_read),
    Property(actions_show_in_their_own_step),
    Property(terminated_is_no_clock),
    Property(its_task_agrees),
    Property(pictures),
    Property(a_vector_env_is_single_ones),
    Property(workers_are_single_ones),
)


# ---- helpers ------------------------------------------------------------------------------------


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


def _all_alike(beginnings: list[Moment]) -> bool:
    return all(same_observation(beginnings[0], other) for other in beginnings[1:])


def _expect_equal(usual: list[Moment], other: list[Moment], problem: str, advice: str) -> None:
    where = first_difference(usual, other)
    if where is not None:
        raise Broken(f"{problem}, first at {where}", advice)


def _row(moment: Moment) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value[None]) for key, value in moment.observation.items()}


def _array(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{list(value.shape)} of {value.dtype}"
    return shown(value)
