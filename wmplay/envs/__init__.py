"""Environments: any registered one by name, alone or as a batch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, overload

from wmplay import registry
from wmplay.config.references import settings
from wmplay.errors import ConfigError

if TYPE_CHECKING:
    import gymnasium
    from gymnasium.vector import VectorEnv

    from wmplay.vector.autoreset import Autoreset


@overload
def make_env(name: str, num_envs: None = None, **overrides: Any) -> gymnasium.Env[Any, Any]: ...


@overload
def make_env(
    name: str, num_envs: int, num_workers: int = 0, autoreset: Autoreset = "same_step", **overrides: Any
) -> VectorEnv[Any, Any, Any]: ...


def make_env(
    name: str,
    num_envs: int | None = None,
    num_workers: int = 0,
    autoreset: Autoreset = "same_step",
    **overrides: Any,
) -> Any:
    """A registered environment by name, or any environment that Gymnasium knows by its id.

    Args:
        name: such as "luxo", as ``wmplay list`` shows it, or a Gymnasium id such as "CartPole-v1".
        num_envs: None for a ``gymnasium.Env``; a number for a ``gymnasium.vector.VectorEnv`` of that many.
        num_workers: processes to spread a vector env over; 0 for this process.
        autoreset: what a vector env does when an episode ends: "same_step", "next_step" or "disabled".
        overrides: of the env's config.

    Raises:
        UnknownName, ConfigError, SpaceError: in one line, for an env that cannot be made.
    """
    return build_env(env_config(name, **overrides), num_envs, num_workers, autoreset)


def env_config(name: str, **overrides: Any) -> dict[str, Any]:
    """The config that ``make_env`` builds for a name.

    Raises:
        UnknownName: if neither the registry nor Gymnasium has it.
    """
    if name not in registry.names("env"):
        import gymnasium

        if name in gymnasium.registry or ":" in name or re.search(r"-v\d+$", name):
            return registry.piece_config("env", "gym", id=name, **overrides)
    return registry.piece_config("env", name, **overrides)


def build_env(
    config: Mapping[str, Any],
    num_envs: int | None = None,
    num_workers: int = 0,
    autoreset: Autoreset = "same_step",
) -> Any:
    """An environment from its resolved config; otherwise as ``make_env``. It knows its origin.

    A class may offer ``vector(num_envs, autoreset, **config)``, its own batched form, or None where it has
    none with these settings; others are stepped one by one.
    """
    from wmplay.store.provenance import ATTRIBUTE, origin_of  # torch, which importing wmplay does not load

    env = _build(config, num_envs, num_workers, autoreset)
    if not hasattr(env, ATTRIBUTE):
        setattr(env, ATTRIBUTE, origin_of(config))
    return env


def _build(config: Mapping[str, Any], num_envs: int | None, num_workers: int, autoreset: Autoreset) -> Any:
    if num_envs is None:
        if num_workers:
            raise ConfigError(f"num_workers={num_workers} needs num_envs: one env cannot be spread")
        return registry.build(config)
    if num_envs < 1:
        raise ConfigError(f"num_envs is {num_envs}, expected at least 1 (None for a single env)")
    if num_workers:
        from wmplay.envs.worker_processes import WorkerVectorEnv

        return WorkerVectorEnv(_build_vector, config, num_envs, num_workers, autoreset)
    return _build_vector(config, num_envs, autoreset)


def _build_vector(config: Mapping[str, Any], num_envs: int, autoreset: Autoreset) -> Any:
    from gymnasium.vector import SyncVectorEnv

    from wmplay.vector.answers import held
    from wmplay.vector.autoreset import autoreset_mode

    mode = autoreset_mode(autoreset)
    first = registry.build(config)  # checks the config, also for a class that batches itself
    batched = getattr(type(first), "vector", None)
    if batched is not None:
        venv = batched(num_envs, autoreset, **settings(config))
        if venv is not None:
            first.close()
            return venv
    ready = [first]
    return SyncVectorEnv(
        [lambda: held(ready.pop() if ready else registry.build(config)) for _ in range(num_envs)],
        autoreset_mode=mode,
    )
