"""The worlds that a run's policy practises in: the real one, or the run's world model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from wmplay.config.settings import Settings
from wmplay.contracts import EnvSpec, env_spec
from wmplay.envs import build_env
from wmplay.envs.lcd.factors import FACTORS
from wmplay.envs.learned.env import LearnedVectorEnv
from wmplay.envs.learned.starts import real_starts, stored_starts
from wmplay.errors import ConfigError
from wmplay.runs.pieces import Parts, env_config
from wmplay.store import Store


class NoWorld(VectorEnv[Any, Any, Any]):
    """The env of a practice without steps in an env: its spaces are known, and it refuses to begin.

    Args:
        known: the real env's spec.
        num_envs: its number of slots.
    """

    def __init__(self, known: EnvSpec, num_envs: int) -> None:
        self.num_envs, self.metadata = num_envs, {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space, self.single_action_space = known.observation_space, known.action_space
        self.observation_space = batch_space(known.observation_space, num_envs)
        self.action_space = batch_space(known.action_space, num_envs)

    def reset(self, **_: Any) -> Any:
        """Raise ConfigError."""
        raise ConfigError(
            "improve.world is none, and the policy practises in an env",
            advice="give improve.world=real, or learned",
        )

    def step(self, actions: Any) -> Any:
        """Raise ConfigError."""
        self.reset()


def practice_env(
    settings: Settings, parts: Parts, store: Store | None, device: torch.device, seed: int
) -> VectorEnv[Any, Any, Any]:
    """Return the vector env that a policy practises in, as ``improve`` asks for."""
    cfg = settings.improve
    env: VectorEnv[Any, Any, Any]
    if cfg.world == "none":
        env = NoWorld(env_spec(parts.env), cfg.num_envs)
    elif cfg.world == "learned":
        env = learned_env(settings, parts, store, device, cfg.num_envs, seed)
    else:
        workers = min(cfg.num_workers, cfg.num_envs)
        env = build_env(env_config(settings), num_envs=cfg.num_envs, num_workers=workers)
    return env


def real_env(
    settings: Settings, episodes: int, overrides: Mapping[str, Any] | None = None
) -> VectorEnv[Any, Any, Any]:
    """Return a run's env as a vector env for ``episodes`` episodes, as ``collect`` asks for."""
    num_envs = min(settings.collect.num_envs, episodes)
    workers = 0 if settings.collect.over_ray else min(settings.collect.num_workers, num_envs)
    env: VectorEnv[Any, Any, Any] = build_env(
        env_config(settings, overrides), num_envs=num_envs, num_workers=workers
    )
    return env


def collected_in(settings: Settings, iteration: int) -> dict[str, Any]:
    """Return the settings of the env in which an iteration collects, where they differ from the run's own.

    Factors in ``collect.drift`` move linearly from the first iteration to the last.

    Raises:
        ConfigError: for a drift without two ends, or in a run of one iteration.
    """
    changed, drift = dict(settings.collect.env), settings.collect.drift
    if not drift:
        return changed
    if settings.iterations < 2:
        raise ConfigError("collect.drift needs two iterations", got=1, expected="iterations=2 or more")
    part = iteration / (settings.iterations - 1)
    own: Mapping[str, Any] = {**settings.env, **changed}.get("factors", {})
    return {**changed, "factors": {**own, **{name: _moved(name, drift[name], part) for name in drift}}}


def _moved(name: str, ends: Any, part: float) -> Any:
    """Return a factor's value, or its range, at a part of the way between two ends."""
    try:
        first, last = np.array(ends, np.float64)
    except (ValueError, TypeError):
        raise ConfigError(
            f"collect.drift.{name} is {ends!r}",
            got=ends,
            expected="[first, last], two numbers or two ranges [low, high]",
        ) from None
    value = (1 - part) * first + part * last
    return (value.round() if name in FACTORS and FACTORS[name].whole else value).tolist()


def longest_episode(settings: Settings, env: Any) -> int | None:
    """Return the largest number of steps of an episode that is collected in an env; None = unlimited."""
    limits = env_spec(env).max_steps, settings.collect.max_episode_steps
    return min((limit for limit in limits if limit), default=None)


def steps_of_starts(settings: Settings) -> int:
    """Return the number of real steps that recording the starts of practice in the model takes.

    Each fresh reset takes ``context - 1`` of them.
    """
    cfg = settings.learned
    fresh = settings.improve.world == "learned" and cfg.starts == "env"
    return cfg.count * (cfg.context - 1) if fresh else 0


def learned_env(
    settings: Settings, parts: Parts, store: Store | None, device: torch.device, num_envs: int, seed: int
) -> LearnedVectorEnv:
    """Return a run's world model as a vector env, as ``learned`` asks for; its starts follow from the seed.

    Without a store the starts are fresh resets.

    Raises:
        ConfigError: if the run has no model, if the model does not predict the inputs of the task, or if no
            start has the required length.
    """
    cfg = settings.learned
    if parts.model is None:
        raise ConfigError(
            "there is no world model to practise in", advice="choose a model, or improve.world=real"
        )
    from_store = store is not None and cfg.starts == "store"
    with closing(build_env(env_config(settings), num_envs=min(cfg.count, 64))) as env:
        starts = real_starts(env, cfg.count, 1 if from_store else cfg.context, seed)
    if from_store:
        assert store is not None
        starts = stored_starts(store, starts, cfg.count, cfg.context, seed)
    return LearnedVectorEnv(
        parts.model,
        parts.env,
        starts,
        num_envs,
        reward=cfg.reward,
        temperature=cfg.temperature,
        max_steps=cfg.max_steps,
        device=device,
        seed=seed,
    )
