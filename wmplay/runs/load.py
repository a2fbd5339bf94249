"""Loading of a run, or an exported one, to analyse it and to act with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

import gymnasium
import torch
from gymnasium.vector import AutoresetMode
from omegaconf import OmegaConf

from wmplay import registry
from wmplay.config.plugins import failed_at, in_one_line
from wmplay.config.settings import Settings, settings_of
from wmplay.contracts import EnvSpec, Policy
from wmplay.envs import build_env
from wmplay.envs.learned.env import LearnedVectorEnv
from wmplay.envs.learned.shells import LearnedEnv, LearnedModes
from wmplay.errors import ConfigError, RunError, WmplayError
from wmplay.runs.disk.directory import RunDirectory
from wmplay.runs.disk.metrics_file import read_metrics
from wmplay.runs.disk.portable import PortableDirectory, is_portable
from wmplay.runs.pieces import Parts, assemble, env_config
from wmplay.runs.resume import plugins_of, read_settings
from wmplay.runs.shipped import where
from wmplay.runs.weights import check_sizes, load_weights
from wmplay.runs.worlds import learned_env
from wmplay.simulation import Actor
from wmplay.store import Store, load_trajectories
from wmplay.store.provenance import as_origin
from wmplay.system.device import Threads, choose_device
from wmplay.vector.autoreset import Autoreset, autoreset_mode


def load_run(path: str | Path) -> Run | ExportedRun:
    """Return a run from its directory: ``.config .env .model .policy .metrics .actor()``.

    Args:
        path: of a run, or of an export by ``wmplay export``, which has no metrics and no trajectories; or the
            name of a trained run that comes with wmplay, such as "luxo-mlp" (``wmplay list trained``).

    Raises:
        UnknownName: for a single word that is neither a directory nor such a name.
        RunError: if the directory is neither, or is damaged.
    """
    path = where(Path(path))
    return ExportedRun(path) if is_portable(path) else Run(path)


class LoadedRun(ABC):
    """A loaded run, to act and to predict with; its parts are built at their first use.

    Attributes:
        path: its directory.
        config: as saved, read-only: its values are attributes, as in ``run.config.fit.lr``.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path, self.config = path, OmegaConf.create(dict(config))
        OmegaConf.set_readonly(self.config, True)

    @cached_property
    @abstractmethod
    def settings(self) -> Settings:
        """The typed settings. Raises ConfigError if the present version does not accept the config."""

    @abstractmethod
    def sources(self) -> tuple[gymnasium.Env[Any, Any] | EnvSpec, Mapping[str, Any]]:
        """Return the env that the pieces are built for, and {part: weights} for them."""

    @cached_property
    def parts(self) -> Parts:
        """The pieces, with their weights.

        Raises:
            RunError: if weights are missing, or belong to another model.
            ConfigError: if the config is of another version, or if a plugin that it needs is missing.
        """
        try:
            env, weights = self.sources()
            check_sizes(
                lambda: assemble(self.settings, torch.device("meta"), env).modules(), weights, self.path
            )
            parts = assemble(self.settings, self.device, env)
            load_weights(parts.modules(), weights, self.path)
        except Exception as error:
            if isinstance(error, WmplayError) or failed_at(error) is not None:
                raise
            raise RunError(
                f"{self.path}: its pieces cannot be built as its config.yaml says ({in_one_line(error)})",
                advice="restore it from a copy",
            ) from error
        for module in parts.modules().values():
            module.eval()
        return parts

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return choose_device(self.settings.device)

    @property
    def threads(self) -> Threads:
        """The number of threads that the settings ask for."""
        return self.settings.threads or "auto"

    @property
    def env(self) -> gymnasium.Env[Any, Any]:
        """A single env of the run's kind."""
        env: gymnasium.Env[Any, Any] = self.parts.env
        return env

    @property
    def model(self) -> Any:
        """The fitted world model."""
        return self.parts.model

    @property
    def policy(self) -> Policy:
        """The policy, without exploration."""
        return self.parts.policy

    def acting(self, explore: bool = False) -> Policy:
        """Return the policy, or the explorer around it. Raise RunError if the run has none."""
        policy: Policy | None = self.parts.explorer if explore else self.policy
        if policy is None:
            raise RunError(
                f"{self.path} has no policy, it is a run that only fits a model",
                advice="choose one that acts",
            )
        return policy

    def actor(self, *, explore: bool = False, seed: int = 0) -> Actor:
        """Return the policy for one env, step by step: ``action = act(observation)``."""
        return Actor(self.acting(explore), self.parts.env, device=self.device, explore=explore, seed=seed)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"


class Run(LoadedRun):
    """A run, finished or not."""

    def __init__(self, path: Path) -> None:
        self.directory = RunDirectory(path)
        super().__init__(path, self.directory.config())

    @cached_property
    def settings(self) -> Settings:
        """The settings, typed."""
        return read_settings(self.directory)

    def sources(self) -> tuple[gymnasium.Env[Any, Any] | EnvSpec, Mapping[str, Any]]:
        """Return an env of the run's kind, and the weights of the last checkpoint."""
        return build_env(env_config(self.settings)), self.directory.read_checkpoint()["weights"]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``; damaged lines are left out and reported. Raises RunError."""
        lines = read_metrics(self.directory.metrics)
        lines.warn(self.directory.metrics)
        return lines.sound

    @overload
    def learned_env(self, num_envs: None, seed: int = 0) -> LearnedEnv: ...

    @overload
    def learned_env(self, num_envs: int = 1, seed: int = 0) -> LearnedVectorEnv: ...

    @overload
    def learned_env(
        self, num_envs: int, seed: int, autoreset: Literal["next_step", "disabled"]
    ) -> LearnedModes: ...

    def learned_env(self, num_envs: int | None = 1, seed: int = 0, autoreset: Autoreset = "same_step") -> Any:
        """Return the world model as an environment, set up as the run's config says.

        Args:
            num_envs: of a vector env; None for a single ``gymnasium.Env``.
            seed: of the real frames that episodes begin with.
            autoreset: the mode in which a vector env begins the next episode: "same_step", "next_step" or
                "disabled".

        Raises:
            ConfigError: if the run has no model, or one without a usable reward.
            UnknownName: for another autoreset mode.
        """
        store = self.trajectories if self.settings.learned.starts == "store" else None
        env = learned_env(self.settings, self.parts, store, self.device, num_envs or 1, seed)
        if num_envs is None:
            return LearnedEnv(env)
        mode = autoreset_mode(autoreset)
        return env if mode is AutoresetMode.SAME_STEP else LearnedModes(env, mode)

    @property
    def trajectories(self) -> Store:
        """The collected episodes."""
        return load_trajectories(self.directory.trajectories)


class ExportedRun(LoadedRun):
    """An exported run. Its env is only built if more than its spaces is needed."""

    def __init__(self, path: Path) -> None:
        self.directory = PortableDirectory(path)
        super().__init__(path, self.directory.config())

    @cached_property
    def settings(self) -> Settings:
        """The settings, typed."""
        return settings_of(self.directory.config())

    def sources(self) -> tuple[gymnasium.Env[Any, Any] | EnvSpec, Mapping[str, Any]]:
        """Return an env, or its spaces, and the weights."""
        try:
            if self._env_is_needed():
                return self.env, self.directory.weights()
            spaces, provenance = self.directory.spaces(), as_origin(self.directory.about.get("made_with"))
            known = EnvSpec(spaces["observation_space"], spaces["action_space"], provenance=provenance)
            return known, self.directory.weights()
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error}{plugins_of(self.directory.about)}") from error

    @cached_property
    def env(self) -> gymnasium.Env[Any, Any]:
        """A single env of the run's kind. Raises ConfigError if it cannot be made."""
        env: gymnasium.Env[Any, Any] = build_env(env_config(self.settings))
        return env

    def _env_is_needed(self) -> bool:
        pieces = self.settings.pieces()
        return any("env" in registry.needs(piece) for kind, piece in pieces.items() if kind != "env")
