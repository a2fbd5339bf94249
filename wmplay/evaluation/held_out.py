"""Held-out episodes: random ones that no model is fitted on, simulated once per run directory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium
import torch

from wmplay.config.settings import Settings
from wmplay.contracts import Trajectory
from wmplay.envs.recorded import RecordedEnv
from wmplay.errors import StoreError
from wmplay.runs.episodes import Check, run_episodes
from wmplay.runs.pieces import env_config
from wmplay.runs.worlds import real_env
from wmplay.store import Store, load_trajectories, save_trajectories
from wmplay.store.manifest import exists as is_store
from wmplay.store.provenance import origin_of
from wmplay.store.split import hold_out


def given_episodes(settings: Settings, env: gymnasium.Env[Any, Any], folder: Path) -> Iterable[Trajectory]:
    """Return the episodes of ``env.data`` to fit on. Without a simulator, some of them are held out."""
    assert settings.recorded.data is not None
    store, episodes = load_trajectories(settings.recorded.data), settings.evaluate.prediction.episodes
    if not isinstance(env, RecordedEnv) or not episodes:
        return store
    rest, held_out = hold_out(store, episodes, settings.evaluate.seed)
    path = _path(folder, settings.evaluate.seed, episodes)
    if not is_store(path):  # otherwise the run was stopped here, and begins again
        save_trajectories(held_out, path, env=env)
    return rest


def held_out_episodes(
    settings: Settings, episodes: int, folder: Path, device: torch.device, check: Check
) -> Store:
    """Return ``episodes`` held-out episodes, simulated if the folder has none.

    Raises:
        StoreError: if those in the folder are damaged.
    """
    seed = settings.evaluate.seed
    path = _path(folder, seed, episodes)
    if not is_store(path):  # a killed run may have left the folder of one
        held_out = run_episodes(
            real_env(settings, episodes, settings.collect.env),
            None,
            episodes,
            seed,
            "hold out",
            max_steps=settings.collect.max_episode_steps,
            device=device,
            check=check,
        )
        save_trajectories(list(held_out), path, env=origin_of(env_config(settings, settings.collect.env)))
    try:
        return load_trajectories(path)
    except StoreError as error:
        raise StoreError(f"{error}; or delete {path}: its episodes are then simulated anew") from error


def _path(folder: Path, seed: int, episodes: int) -> Path:
    return folder / f"seed{seed}-{episodes}"
