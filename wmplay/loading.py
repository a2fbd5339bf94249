"""``load_run``: a run, or an exported one, to look at and to act with; and exporting."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import gymnasium
from gymnasium.spaces import Space
from omegaconf import OmegaConf

from wmplay import registry
from wmplay.configuration import plain
from wmplay.envs import build_env
from wmplay.errors import ConfigError, RunError
from wmplay.origin import Origin, as_origin, known_origin
from wmplay.portable import PortableDirectory, is_portable, write_portable
from wmplay.run import LoadedRun, Run, env_config, plugins_of

TOLD = (
    "name",
    "seed",
    "command",
    "plugins",
    "versions",
    "git",
    "started",
)  # of run.json, and told in an export


def load_run(path: str | Path) -> Run | ExportedRun:
    """A run from its directory: ``.config .env .model .policy .metrics .actor()``.

    Args:
        path: of a run, or of what ``wmplay export`` made of one; that has no metrics and no trajectories.

    Raises:
        RunError: if the directory is neither, or damaged.
    """
    path = Path(path)
    return ExportedRun(path) if is_portable(path) else Run(path)


def export_run(path: Path, out: Path) -> None:
    """Writes a run's last checkpoint as one portable folder; see ``wmplay.portable``.

    Args:
        path: of the run.
        out: a path that is free.

    Raises:
        RunError: there is no run, it has no checkpoint, or there is something at ``out``.
        ConfigError: it cannot be built here.
        SpaceError: its spaces cannot be written.
        WriteError: no space, no permission; nothing is left behind.
    """
    run = Run(path)
    if out.exists():
        raise RunError(f"{out} is there already: choose another --out, or move it away")
    weights = {name: module.state_dict() for name, module in run.parts.modules().items()}
    config = run.config.copy()
    OmegaConf.set_readonly(config, False)
    config.device = "auto"  # where it was trained says nothing about where it will act
    env = run.env
    about = {key: value for key, value in run.directory.read().items() if key in TOLD}
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    write_portable(out, config, weights, spaces, {**about, "made_with": known_origin(env)})


class ExportedRun(LoadedRun):
    """An exported run. Its env is only built when somebody, or a piece, asks for more than its spaces."""

    def __init__(self, path: Path) -> None:
        self.directory = PortableDirectory(path)
        super().__init__(path, self.directory.config())

    def sources(self) -> tuple[gymnasium.Env[Any, Any], Mapping[str, Any]]:
        """An env, or what is known of its spaces, and the weights."""
        try:
            env = self.env if self._env_is_needed() else Spaces(self.directory.spaces(), self._origin())
            return env, self.directory.weights()
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error}{plugins_of(self.directory.about)}") from error

    @cached_property
    def env(self) -> gymnasium.Env[Any, Any]:
        """A single env of the run's kind. Raises ConfigError where it cannot be made."""
        env: gymnasium.Env[Any, Any] = build_env(env_config(self.config))
        return env

    def _env_is_needed(self) -> bool:
        pieces = [plain(self.config[kind]) for kind in registry.KINDS if kind != "env" and self.config[kind]]
        return any("env" in registry.needs(piece) for piece in pieces)

    def _origin(self) -> Origin | None:
        return as_origin(self.directory.about.get("made_with"))


class Spaces(gymnasium.Env[Any, Any]):
    """What pieces need to know of an env that may not be installed."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # as Gymnasium declares it

    def __init__(self, spaces: Mapping[str, Space[Any]], origin: Origin | None) -> None:
        self.observation_space, self.action_space = spaces["observation_space"], spaces["action_space"]
        self.wmplay_origin = origin

    def reset(self, **_: Any) -> NoReturn:
        """Refuses. Raises ConfigError."""
        raise ConfigError("there are only the spaces of this env: use .env of the run")

    def step(self, action: Any) -> NoReturn:
        """Refuses. Raises ConfigError."""
        self.reset()
