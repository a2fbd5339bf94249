"""One LCD world as a ``gymnasium.Env``."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import gymnasium

from wmplay.envs.lcd.batch import Batch
from wmplay.envs.lcd.factors import read_factors
from wmplay.envs.lcd.options import (
    RENDER_MODES,
    Observation,
    RenderMode,
    check_options,
    enlarged,
    make_task,
    metadata_of,
)
from wmplay.envs.lcd.physics import Blueprint, Physics, Simulation
from wmplay.envs.lcd.screen import Rounding
from wmplay.envs.lcd.simulator import LcdSimulator
from wmplay.envs.lcd.start import Start, given_state
from wmplay.envs.lcd.tasks import Reward
from wmplay.envs.lcd.worlds.built_in import WORLDS
from wmplay.envs.lcd.worlds.parse import find_world
from wmplay.envs.lcd.worlds.world import World
from wmplay.system.arrays import Array
from wmplay.vector.actions import checked_action
from wmplay.vector.autoreset import Autoreset


class LcdEnv(gymnasium.Env[Observation, Array]):
    """A 2D world of rigid bodies, seen on a tiny binary screen.

    Observations: ``lcd`` [H, W] uint8, 1 where a body is; ``proprio`` [4 x robot bodies] float32: x, y, cos
    and sin of each, scaled to [-1, 1] (a single zero without a robot); with ``full_state``, the same of
    objects and robots; with a task, its ``goal_`` keys; with ``sound``, the energies of impacts [4] float32;
    with factors that are shown, their values as ``factors`` [F] float32. Velocities are not observed: one
    frame is not a Markov state. Actions: one number in [-1, 1] for each movable joint (one ignored number
    without any).

    ``reset(options={"state": state})`` starts in a given state: [bodies, 6] of x, y, angle and their
    velocities, as ``state`` returns it, or a ``full_state`` observation, with velocities of zero.

    Args:
        world: a built-in name, a mapping or YAML file that describes one (see ``parse``), or a ``World``.
        task: "body_goal" or "cube_goal"; without one, rewards are 0 and only the clock ends an episode.
        physics: solver iterations: "faithful" (180/60, as published) or "fast" (8/3).
        full_state: whether to observe ``full_state``; by default only if the task needs it.
        max_steps: per episode; the world's own by default.
        render_mode: result of ``render``: "lcd", "rgb_array", or "human" (a window; needs pygame).
        reward: "distance" or "progress"; by default as published: distance for body_goal, progress for
            cube_goal.
        goal_threshold: the distance below which the goal is reached.
        screen: rounding of polygons: "outwards", so that thin limbs never break up, or "original", which
            lights the pixels of the original testbed.
        factors: {factor: a number, or a range [low, high] that each episode draws from}, and {"shown": the
            factors that are observed} (see ``factors.ranges``); ``info["factors"]`` has the values of all.
        sound: whether to observe ``sound`` (see ``factors.sound``).
        hazard: [left, bottom, right, top] in metres: a region that is not to be entered. ``info["cost"]`` is
            1 if a body of the robot is in it. For envs with a task.

    Raises:
        ConfigError, UnknownName: for an unknown or impossible world or task.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES, "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        world: str | Mapping[str, Any] | World = "luxo",
        task: Literal["body_goal", "cube_goal"] | None = None,
        physics: Physics = "faithful",
        full_state: bool | None = None,
        max_steps: int | None = None,
        render_mode: RenderMode | None = None,
        reward: Reward | None = None,
        goal_threshold: float = 0.05,
        screen: Rounding = "outwards",
        factors: Mapping[str, Any] = {},
        sound: bool = False,
        hazard: Sequence[float] | None = None,
    ) -> None:
        self.world = find_world(world)
        self.task = make_task(self.world, task, reward, goal_threshold, hazard)
        self.factors = read_factors(factors, self.world)
        self.screen = screen
        self.max_steps = check_options(self.world, physics, max_steps, render_mode)
        self.render_mode = render_mode
        self.metadata = metadata_of(self.world, self.factors)
        self._batches = partial(
            Batch, self.world, self.task, physics, full_state, screen, self.factors, sound
        )
        self._batch = self._batches(1)
        self.observation_space: gymnasium.Space[Any] = self._batch.observation_space
        self.action_space = self._batch.action_space
        self._window: Any = None

    @classmethod
    def vector(
        cls, num_envs: int, autoreset: Autoreset, **config: Any
    ) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
        """Return the vector env of the same config."""
        from wmplay.envs.lcd.vector import LcdVectorEnv

        return LcdVectorEnv(num_envs, autoreset=autoreset, **config)

    @staticmethod
    def world_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that define the world: its name, or a digest of its content, physics and
        screen."""
        if not {"world", "physics"} <= settings.keys():  # of a subclass with settings of its own
            return dict(settings)
        world = find_world(settings["world"])
        name = next((name for name, built_in in WORLDS.items() if built_in == world), None)
        digest = hashlib.sha256(_as_text(world).encode()).hexdigest()[:12]
        origin: dict[str, Any] = {"world": name or f"custom-{digest}"}
        origin |= {key: settings[key] for key in ("physics", "screen") if key in settings}
        if world.robots and world.objects:  # 0.1.0 started objects higher, and has no entry
            origin["object_starts"] = "lowest 3/8"
        factors = read_factors(settings.get("factors", {}), world)
        if factors:
            origin |= {"world": f"{origin['world']} with factors", "factors": factors.as_config()}
        return origin

    @property
    def state(self) -> Array:
        """The state [bodies, 6]: x, y, angle and their velocities, in metres, radians and seconds."""
        return self._batch.simulations[0].state

    @property
    def simulator(self) -> LcdSimulator | None:
        """The true dynamics; None where factors differ between episodes, or are observed."""
        if self.factors and not (self.factors.are_known and not self.factors.shown):
            return None
        return LcdSimulator(self._batches, self.max_steps)

    def touches(self, state: Array, bodies: Collection[int]) -> bool:
        """Return whether any of these bodies would touch another body in a state [bodies, 6].

        Raises:
            ConfigError, ShapeError: for a state that no reset takes.
        """
        world = self._batch.world_of(0)
        simulation = Simulation(Blueprint(world, "fast"))
        simulation.start(Start(given_state(world, state), tuple(self._batch.shape[0].tolist())))
        return any((first in bodies) != (second in bodies) for first, second in simulation.touching())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode, at random or in ``options["state"]``."""
        super().reset(seed=seed)
        state = (options or {}).get("state")
        self._batch.reset([0], [self.np_random], None if state is None else [state])
        self._observation = self._batch.observe()
        if self.render_mode == "human":
            self.render()
        return self._first(self._observation), self._info(False)

    def step(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one step of 1 / fps seconds. Actions outside [-1, 1] are clipped.

        Raises:
            ActionError: for an action of the wrong shape, or with NaN.
        """
        values = checked_action(action, self.action_space).astype(float).clip(-1, 1)
        self._batch.step(values[None])
        before, self._observation = self._observation, self._batch.observe()
        reward, terminated = 0.0, False
        if self.task is not None:
            rewards, reached = self.task.reward_and_terminated(before, self._observation)
            reward, terminated = float(rewards[0]), bool(reached[0])
        truncated = bool(self._batch.time[0] >= self.max_steps)
        if self.render_mode == "human":
            self.render()
        return self._first(self._observation), reward, terminated, truncated, self._info(terminated)

    @staticmethod
    def _first(observation: Observation) -> Observation:
        """Return a copy, so that a caller cannot change the data of the next reward."""
        return {key: values[0].copy() for key, values in observation.items()}

    def _info(self, success: bool) -> dict[str, Any]:
        info: dict[str, Any] = {}
        if self.task is not None:
            info = {"distance": float(self.task.distance(self._observation)[0]), "success": success}
            if self.task.hazard is not None:
                info["cost"] = float(self.task.cost(self._observation)[0])
        if self._batch.conditions is not None:
            info["factors"] = self._batch.conditions.info(0)
        return info

    def render(self) -> Any:
        """Return the current image, uint8 [h, w, 3]; "human" shows it in a window.

        "lcd" is the screen, white bodies on black, with 8 x 8 pixels for each of its own; "rgb_array" a
        coloured image.
        """
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs a render_mode: make the env with render_mode='rgb_array'")
            return None
        if self.render_mode == "lcd":
            return enlarged(self._observation["lcd"][0])
        from wmplay.envs.lcd.render import Window, paint

        picture = paint(self._batch, 0)
        if self.render_mode == "rgb_array":
            return picture
        self._window = self._window or Window(self.world)
        self._window.show(picture)
        return None

    def close(self) -> None:
        """Close the window, if one is open."""
        if self._window is not None:
            self._window.close()
            self._window = None


def _as_text(world: World) -> str:
    """Return a world as text, without fields that 0.1.0 did not have, where these are not used."""
    return repr(world).replace(", occluders=()", "").replace(", speed=None", "")
