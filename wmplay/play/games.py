"""Games of a run, or of an env alone: everything that a session needs, built from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wmplay import registry
from wmplay.config.constructors import default_settings
from wmplay.config.kinds import PIECE
from wmplay.config.overrides import env_values
from wmplay.contracts import GOAL_PREFIX, env_spec, observation_spaces
from wmplay.envs import build_env, env_config
from wmplay.errors import ConfigError
from wmplay.play.game.keeping import keeper
from wmplay.play.game.learned import LearnedWorld
from wmplay.play.game.screen import shown_key
from wmplay.play.game.session import Driver, Session
from wmplay.play.game.timeline import LONGEST
from wmplay.runs.load import LoadedRun
from wmplay.runs.pieces import env_config as config_of_run
from wmplay.simulation import Actor

FPS = 10.0  # of envs that name no pace


class Games:
    """A factory of sessions, and what the page says about them.

    Attributes:
        world: name of the world.
        fps: its steps per second.
        config: of its env.
        shown: its screen.
    """

    def __init__(self, config: Mapping[str, Any], run: LoadedRun | None, cases: Path, seed: int) -> None:
        own = default_settings(registry.target(dict(config)))
        endless = {"max_steps": 10 * LONGEST} if "max_steps" in own else {}  # a player is not cut off
        self.config = {**config, **endless}
        self._run, self._cases, self._seed = run, cases, seed
        with_picture = build_env(self.config)
        self.shown = shown_key(observation_spaces(with_picture.observation_space))
        self.world = str(config.get("id") or config.get("world") or name_of(config))
        self.fps = float(with_picture.metadata.get("render_fps") or FPS)
        with_picture.close()
        if run is not None and run.model is None:
            raise ConfigError(f"{run.path} has no world model", advice="play its env: wmplay play env=...")
        if run is not None:
            self._learned(run)  # refuses a model that predicts no screen

    def session(self) -> Session:
        """Return a new game."""
        env, run = build_env(self.config), self._run
        if run is None:
            return Session(env, seed=self._seed)
        return Session(env, self._learned(run), _drivers(run), self._seed, keeper(self._cases, run, env))

    def _learned(self, run: LoadedRun) -> LearnedWorld:
        return LearnedWorld(run.model, self.shown, run.device)


def games_of_run(run: LoadedRun, cases: Path, seed: int = 0) -> Games:
    """Return the games of a run, in its world and in its model.

    Raises:
        ConfigError: for a run without a model, or if nothing can be seen.
    """
    return Games(config_of_run(run.settings), run, cases, seed)


def games_of_env(name: str, overrides: list[str], cases: Path, seed: int = 0) -> Games:
    """Return the games of an env alone. Raises UnknownName, ConfigError."""
    return Games(env_config(name, **env_values(overrides)), None, cases, seed)


def _drivers(run: LoadedRun) -> dict[str, Callable[[], Driver]]:
    """Return the drivers that a run has: its own policy, and a planner in its model."""
    drivers: dict[str, Callable[[], Driver]] = {}
    if run.policy is not None:
        drivers["policy"] = lambda: Actor(run.acting(), run.env, device=run.device)
    planned = run.settings.policy is not None and name_of(run.settings.policy) == "mpc"
    if run.model is not None and not planned:
        drivers["planner"] = lambda: Actor(_planner(run), run.env, device=run.device)
    return drivers


def _planner(run: LoadedRun) -> Any:
    """Return model-predictive control by the cross-entropy method: to the goal, or for rewards."""
    goal = any(key.startswith(GOAL_PREFIX) for key in observation_spaces(env_spec(run.env).observation_space))
    objective = registry.make("objective", "goal_distance" if goal else "sum_of_rewards", env=run.env)
    planner = registry.make("planner", "cem", env=run.env)
    return registry.make("policy", "mpc", env=run.env, model=run.model, planner=planner, objective=objective)


def name_of(config: Mapping[str, Any]) -> str:
    """Return the name of the piece that a config builds."""
    return str(config[PIECE]).rpartition("/")[2]
