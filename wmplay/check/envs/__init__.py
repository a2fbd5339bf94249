"""The check of environments.

An env is played with random and extreme actions, under a few seeds, to the ends of episodes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium

from wmplay.check.envs.basics import (
    actions_are_only_read,
    gymnasiums_checker_passes,
    observations_are_of_their_space,
    pictures,
    pictures_show_something,
    rewards_and_flags,
    spaces_that_other_pieces_take,
    what_is_returned_is_the_callers,
)
from wmplay.check.envs.clocks import (
    goals_are_paid,
    no_key_is_left_behind,
    the_same_step_is_the_same_at_any_time,
)
from wmplay.check.envs.delays import (
    actions_show_in_their_own_step,
    buttons_differ,
    each_entry_of_the_action_counts,
    each_key_is_on_time,
    goals_stand,
)
from wmplay.check.envs.ends import ends_are_told_at_once, its_task_agrees, terminated_is_no_clock
from wmplay.check.envs.frames import (
    episodes_begin_where_their_first_frame_is,
    held_actions_are_repeated_steps,
    the_last_frame_is_its_own_episodes,
)
from wmplay.check.envs.rewards import rewards_belong_to_their_step, the_last_step_is_paid
from wmplay.check.envs.seeds import (
    instances_are_apart,
    no_start_is_skipped,
    reset_forgets_the_episode,
    same_seed_same_numbers,
    seeds_differ,
)
from wmplay.check.envs.slots import a_vector_env_is_single_ones, workers_are_single_ones
from wmplay.check.fixtures.played_env import SEEDS, EnvTrial
from wmplay.check.report import Property, Report, examine
from wmplay.contracts.envs import provenance_of
from wmplay.envs.gym import InOurForm
from wmplay.errors import CheckError

FEW = 3  # random plays, to be quick

PROPERTIES: tuple[Property[EnvTrial], ...] = (
    Property(spaces_that_other_pieces_take),
    Property(observations_are_of_their_space),
    Property(pictures_show_something),
    Property(rewards_and_flags, decisive=True),
    Property(same_seed_same_numbers, decisive=True),
    Property(seeds_differ),
    Property(reset_forgets_the_episode, decisive=True, slow=True),
    Property(instances_are_apart, decisive=True, slow=True),
    Property(what_is_returned_is_the_callers, decisive=True),
    Property(actions_are_only_read, decisive=True),
    Property(gymnasiums_checker_passes),
    Property(actions_show_in_their_own_step, decisive=True),
    Property(each_key_is_on_time),
    Property(no_key_is_left_behind, slow=True),
    Property(each_entry_of_the_action_counts),
    Property(buttons_differ, slow=True),
    Property(the_same_step_is_the_same_at_any_time, after=(each_key_is_on_time,)),
    Property(goals_stand),
    Property(episodes_begin_where_their_first_frame_is),
    Property(the_last_frame_is_its_own_episodes, slow=True),
    Property(no_start_is_skipped, slow=True, after=(the_last_frame_is_its_own_episodes,)),
    Property(terminated_is_no_clock),
    Property(ends_are_told_at_once, after=(terminated_is_no_clock,)),
    Property(its_task_agrees),
    Property(rewards_belong_to_their_step, after=(its_task_agrees, each_key_is_on_time)),
    Property(goals_are_paid, after=(goals_stand, rewards_belong_to_their_step)),
    Property(the_last_step_is_paid, after=(its_task_agrees, rewards_belong_to_their_step)),
    Property(held_actions_are_repeated_steps, slow=True),
    Property(pictures),
    Property(a_vector_env_is_single_ones, slow=True),
    Property(workers_are_single_ones, slow=True, after=(a_vector_env_is_single_ones,)),
)


def check_env(
    env: gymnasium.Env[Any, Any],
    make: Callable[..., Any] | None = None,
    *,
    seed: int = 0,
    verbose: bool = False,
    quick: bool = False,
) -> Report:
    """Check all properties of an environment.

    Entries of its ``metadata`` may claim what it is: ``passive`` (actions change nothing), ``delay`` (the
    number of steps that actions show late), ``unused_actions`` (entries of the action, or discrete ones,
    without any use), ``unused_half`` (entries with a half of their range that has no use; True: all entries)
    and ``fixed_length`` (the task itself ends after a number of steps).

    An env of Gymnasium's registry is checked as ``env=gym`` would use it: with named arrays as its
    observations, and made again for the properties that need a second one.

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
        SpaceError: for an env of another library with spaces that ``env=gym`` does not take.
    """
    if not isinstance(env, gymnasium.Env):
        raise CheckError(
            f"{type(env).__name__} is no gymnasium.Env, as every env is", advice="let it inherit from that"
        )
    name = type(env.unwrapped).__name__
    if _of_another_library(env):
        make = make or (partial(gymnasium.make, env.spec) if env.spec is not None else None)
        env, make = InOurForm(env), None if make is None else _in_our_form(make)
    trial = EnvTrial(env, make, seed, plays=FEW if quick else SEEDS)
    return examine(name, PROPERTIES, trial, verbose, quick)


def _of_another_library(env: gymnasium.Env[Any, Any]) -> bool:
    """Return whether an env was not made as a piece, and has an id, or observations without names."""
    if provenance_of(env) is not None:
        return False
    return env.spec is not None or not isinstance(
        env.observation_space, gymnasium.spaces.Dict | gymnasium.spaces.Tuple
    )


def _in_our_form(make: Callable[..., Any]) -> Callable[[], Any]:
    return lambda: InOurForm(make())
