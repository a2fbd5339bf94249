"""Compatibility of data and policies with an env: the same observations and actions, the same world."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import Any

import gymnasium
from gymnasium.spaces import Discrete

from wmplay.config.settings import Settings
from wmplay.contracts import Provenance, env_spec, model_keys, observation_spaces, provenance_of
from wmplay.envs import build_env
from wmplay.errors import SpaceError, StoreError, WorldError
from wmplay.runs.load import LoadedRun, Run
from wmplay.runs.pieces import env_config
from wmplay.store import Store
from wmplay.store.provenance import in_words, same_world


def check_spaces(env: Any, like: gymnasium.Env[Any, Any], who: str) -> None:
    """Raise SpaceError unless a policy made for one env can act in another (single or vector).

    Raises:
        SpaceError: if an observation is missing or different, or the actions are.
    """
    known, expected = env_spec(env), env_spec(like)
    there = observation_spaces(known.observation_space)
    for key, space in observation_spaces(expected.observation_space).items():
        if key not in there:
            raise SpaceError(
                f"{who} needs the observation '{key}', the env has {', '.join(there)}",
                advice="give it the settings of the run's env",
            )
        if there[key] != space:
            raise SpaceError(f"{who} knows '{key}' as {space}, in this env it is {there[key]}")
    if known.action_space != expected.action_space:
        raise SpaceError(f"{who} acts in {expected.action_space}, this env takes {known.action_space}")


def adopt_settings(run: Run, settings: Settings) -> None:
    """Give a run, whose pieces are not built yet, other settings.

    Raises:
        SpaceError: if they make an env in which the run's policy cannot act.
    """
    before = build_env(env_config(run.settings))
    with closing(build_env(env_config(settings))) as env, closing(before):
        check_spaces(env, before, f"the policy of {run.path}")
    run.settings = settings


def check_policy(run: LoadedRun, env: Any, hint: str | None) -> None:
    """Check that a run's policy can act in an env of the same world.

    Args:
        run: the policy's run.
        env: single or vector.
        hint: the end of the error for another world; None allows any world.

    Raises:
        RunError: if the run has no policy.
        SpaceError, WorldError: in one line, if the spaces or the world differ.
    """
    run.acting()
    who = f"the policy of {run.path}"
    origin = provenance_of(run.parts.env)
    if origin is not None and hint is not None:
        check_same_world(who, [origin], env, hint)
    check_spaces(env, run.parts.env, who)


def check_same_world(who: str, made_with: Iterable[Provenance], env: Any, hint: str) -> None:
    """Compare the worlds in the provenance of data or of a policy, as far as known, with an env's world.

    Args:
        who: the first words of the error.
        made_with: the known provenance of the data or the policy.
        env: single or vector.
        hint: the end of the error: the next step.

    Raises:
        WorldError: with the names of both worlds.
    """
    here = provenance_of(env)
    other = next((origin for origin in made_with if here is not None and not same_world(origin, here)), None)
    if here is not None and other is not None:
        raise WorldError(
            f"{who} was made with {in_words(other)}, the env here is {in_words(here)}",
            advice=f"use the same world, or {hint}",
        )


def check_store(store: Store, env: Any, *, every_key: bool) -> None:
    """Compare the arrays of a store with the observations and actions of an env.

    Args:
        store: of trajectories.
        env: single or vector.
        every_key: whether the env's trajectories will be added to the store: then its observations must be
            the env's. Otherwise the store needs only those that models read, and may have others.

    Raises:
        StoreError: if an observation or the action is missing or different.
    """
    known = env_spec(env)
    spaces, action = observation_spaces(known.observation_space), known.action_space
    needed = list(spaces) if every_key else model_keys(spaces)
    given: dict[str, tuple[Any, Any]] = {
        f"observation.{key}": (spaces[key].dtype, spaces[key].shape) for key in needed
    }
    given["action"] = ("int64", ()) if isinstance(action, Discrete) else ("float32", action.shape)
    held = store.space
    observations = [name for name in held if name.startswith("observation.")]
    for name, (dtype, shape) in given.items():
        if name not in held:
            raise StoreError(
                f"store {store.path} has no {name}, which the env gives (it has {', '.join(observations)})",
                advice="use another store, or the env with which it was made",
            )
        if (held[name].dtype, held[name].shape) != (dtype, shape):
            raise StoreError(
                f"store {store.path} has {name} as {held[name]}, the env gives {dtype} {list(shape)}",
                advice="use another store, or the env with which it was made",
            )
    more = [name for name in observations if name not in given]
    if every_key and more:
        raise StoreError(
            f"store {store.path} has {more[0]}, which the env does not give",
            advice="use another store, or the env with which it was made",
        )
