"""Environments: any registered one by name, single or as a vector env."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, overload, runtime_checkable

from wmplay import registry
from wmplay.config.references import settings
from wmplay.errors import ConfigError

if TYPE_CHECKING:
    import gymnasium
    from gymnasium.vector import VectorEnv

    from wmplay.vector.autoreset import Autoreset


@runtime_checkable
class Batched(Protocol):
    """A class of envs with a batched form of its own."""

    def vector(self, num_envs: int, autoreset: Autoreset, **config: Any) -> VectorEnv[Any, Any, Any] | None:
        """Return N envs of this class; None where these settings have no batched form."""


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
    """Make a registered environment by name, or any environment that Gymnasium registers by its id.

    Args:
        name: of a piece in ``wmplay list``, for example "luxo", or a Gymnasium id, for example "CartPole-v1".
        num_envs: None for a ``gymnasium.Env``; a number N for a ``gymnasium.vector.VectorEnv`` of N slots.
        num_workers: processes that share the slots of a vector env; 0 for this process alone.
        autoreset: the mode in which a vector env begins the next episode: "same_step", "next_step" or
            "disabled".
        overrides: of the env's config.

    Raises:
        UnknownName, ConfigError, SpaceError: for an env that cannot be made; one line.
    """
    return build_env(env_config(name, **overrides), num_envs, num_workers, autoreset)


def env_config(name: str, **overrides: Any) -> dict[str, Any]:
    """Return the config from which ``make_env`` builds the env of this name.

    Raises:
        UnknownName: if neither the registry nor Gymnasium has the name.
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
    """Build an environment, as ``make_env`` does, from its resolved config, and attach its provenance.

    A class may define ``vector(num_envs, autoreset, **config)``, which returns its own vector env, or None if
    it has none for these settings; the slots of all others are stepped one by one.
    """
    from wmplay.contracts import PROVENANCE  # importing wmplay must not load torch
    from wmplay.store.provenance import origin_of

    env = _build(config, num_envs, num_workers, autoreset)
    vars(env).setdefault(PROVENANCE, origin_of(config))  # an env made of data brings that of the data
    return env


def _build(config: Mapping[str, Any], num_envs: int | None, num_workers: int, autoreset: Autoreset) -> Any:
    if num_envs is None:
        if num_workers:
            raise ConfigError(
                f"num_workers={num_workers} needs num_envs: one env cannot be spread", got=num_workers
            )
        return registry.build(config)
    if num_envs < 1:
        raise ConfigError(
            f"num_envs is {num_envs}", got=num_envs, expected="at least 1 (None for a single env)"
        )
    if num_workers:
        from wmplay.envs.worker_processes import WorkerVectorEnv

        return WorkerVectorEnv(_build_vector, config, num_envs, num_workers, autoreset)
    return _build_vector(config, num_envs, autoreset)


def _build_vector(config: Mapping[str, Any], num_envs: int, autoreset: Autoreset) -> Any:
    from gymnasium.vector import SyncVectorEnv

    from wmplay.vector.answers import held
    from wmplay.vector.autoreset import autoreset_mode

    mode = autoreset_mode(autoreset)
    first = registry.build(config)  # validates the config, also for a class with its own vector env
    made: Any = type(first)
    if isinstance(made, Batched):
        venv = made.vector(num_envs, autoreset, **settings(config))
        if venv is not None:
            first.close()
            return venv
    ready = [first]
    return SyncVectorEnv(
        [lambda: held(ready.pop() if ready else registry.build(config)) for _ in range(num_envs)],
        autoreset_mode=mode,
    )
