"""The tasks of DeepMind's Control Suite (Tassa et al. 2018, arXiv 1801.00690), through its own package.

Importing ``dm_control`` fixes how the process renders. Without a display the package would still choose a
window system, so this module sets ``MUJOCO_GL`` (unless it is set) before the import.
"""

from __future__ import annotations

import ctypes.util
import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict

from wmplay.envs.conversion import one_line
from wmplay.envs.observations import Observation
from wmplay.errors import ActionError, ConfigError, UnknownName, check_values
from wmplay.system.arrays import Array
from wmplay.system.extras import import_extra
from wmplay.vector.actions import checked_action, clipped

UNBOUNDED = 1e9  # MuJoCo writes 1e10 for "no limit"
PICTURE = (240, 320)  # height, width of the image that render() returns
RENDERERS = (("egl", "EGL"), ("osmesa", "OSMesa"))  # without a display: value of MUJOCO_GL, and its library
ADVICE = (
    "install EGL (Debian: apt-get install libegl1 libopengl0) or OSMesa (libosmesa6), and choose one with "
    "MUJOCO_GL=egl or MUJOCO_GL=osmesa"
)


class DmControlEnv(gymnasium.Env[Observation, Array]):
    """A task of the suite. A discount of 0 terminates an episode; the time limit truncates it.

    Observations: the task's own by name, each flat float32 [D] without bounds, for example ``position`` and
    ``velocity``; ``pixels`` uint8 [size, size, 3]. Actions: float32 [A], clipped to the task's bounds.

    Args:
        domain: for example "cartpole", "walker", "cheetah".
        task: of the domain, for example "swingup".
        state: whether to observe the task's own observations.
        pixels: whether to observe a camera's image.
        size: of ``pixels``, in both directions.
        camera: its number or name; -1 is the free camera.
        shadows: whether images have shadows, as in the published benchmarks; software renders faster without.
        action_repeat: control steps for which each action is held; their rewards are summed.
        max_steps: per episode, in control steps; the task's own limit (mostly 1,000) by default.
        render_mode: "rgb_array" makes ``render`` return images.

    Raises:
        UnknownName: for an unknown domain, task or camera.
        ConfigError: without the package, or for pixels without a renderer.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012  # as Gymnasium declares it

    def __init__(
        self,
        domain: str = "cartpole",
        task: str = "swingup",
        state: bool = True,
        pixels: bool = False,
        size: int = 64,
        camera: int | str = 0,
        shadows: bool = True,
        action_repeat: int = 1,
        max_steps: int | None = None,
        render_mode: Literal["rgb_array"] | None = None,
    ) -> None:
        limits = {} if max_steps is None else {"max_steps": max_steps}
        check_values("env dm_control", at_least_one={"size": size, "action_repeat": action_repeat, **limits})
        if not (pixels or state):
            raise ConfigError("state=false leaves nothing to observe", advice="set pixels=true with it")
        suite = _import_suite(needs_renderer=pixels)
        _check_task(suite.TASKS_BY_DOMAIN, domain, task)
        # A fixed seed keeps a world that is itself drawn at random (lqr's springs) the same.
        settings = {"random": 0, **({} if max_steps is None else {"time_limit": float("inf")})}
        self._env = suite.load(domain, task, task_kwargs=settings)
        self._repeat, self._max_steps, self._taken = action_repeat, max_steps, 0
        self._size, self._camera, self._flags = size, camera, {"shadow": shadows}
        self.render_mode = render_mode
        self._pixels = pixels
        shapes = self._env.observation_spec() if state else {}
        self._keys = [key for key, spec in shapes.items() if np.prod(spec.shape)]
        spaces: dict[str, gymnasium.Space[Any]] = {
            key: Box(-np.inf, np.inf, (int(np.prod(shapes[key].shape)),), np.float32) for key in self._keys
        }
        if pixels or render_mode is not None:
            self._check_renderer(f"camera of {domain} {task}")
        if pixels:
            spaces["pixels"] = Box(0, 255, (size, size, 3), np.uint8)
        self.observation_space: gymnasium.Space[Any] = Dict(spaces)
        actions = self._env.action_spec()
        self._low, self._high = (
            _limits(bound, actions.shape) for bound in (actions.minimum, actions.maximum)
        )
        self.action_space = Box(self._low.astype(np.float32), self._high.astype(np.float32), dtype=np.float32)

    @staticmethod
    def world_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that define the world; the choice and size of observations do not."""
        return {key: settings[key] for key in ("domain", "task", "camera", "shadows", "action_repeat")}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self._env.task.random.seed(int(self.np_random.integers(2**32)))
        self._taken = 0
        return self._observe(self._env.reset().observation), {}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Hold an action for ``action_repeat`` control steps, or until the episode ends.

        Raises:
            ActionError: for an action of the wrong shape or type, or with NaN, or after the episode's end.
        """
        action = clipped(checked_action(action, self.action_space), self._low, self._high)
        total, terminated, truncated = 0.0, False, False
        for _ in range(self._repeat):
            now = self._env.step(action)
            if now.first():  # dm_env has begun the next episode itself
                raise ActionError(
                    "step was called before reset, or after the episode's end", advice="call reset first"
                )
            total += float(now.reward)
            self._taken += 1
            terminated = now.last() and now.discount == 0
            truncated = (now.last() and not terminated) or self._taken == self._max_steps
            if terminated or truncated:
                break
        return self._observe(now.observation), total, terminated, truncated, {}

    def render(self) -> Any:
        """Return the current image, [240, 320, 3] uint8, or None without a render mode."""
        return None if self.render_mode is None else self._picture(*PICTURE)

    def close(self) -> None:
        """Free the simulation and its renderer."""
        self._env.close()

    def _observe(self, seen: Any) -> Observation:
        observation = {key: np.array(seen[key], np.float32).reshape(-1) for key in self._keys}
        if self._pixels:
            observation["pixels"] = self._picture(self._size, self._size)
        return observation

    def _picture(self, height: int, width: int) -> Array:
        picture: Array = self._env.physics.render(
            height, width, camera_id=self._camera, render_flag_overrides=self._flags
        )
        return picture

    def _check_renderer(self, what: str) -> None:
        """Render once to find out whether it works. Raise UnknownName or ConfigError."""
        model = self._env.physics.model
        names = [model.id2name(number, "camera") for number in range(model.ncam)]
        if isinstance(self._camera, str) and self._camera not in names:
            raise UnknownName(what, self._camera, names)
        if isinstance(self._camera, int) and not -1 <= self._camera < model.ncam:
            raise ConfigError(
                f"{what} is {self._camera}", got=self._camera, expected=f"-1 .. {model.ncam - 1} or a name"
            )
        largest = min(model.vis.global_.offwidth, model.vis.global_.offheight)
        if self._size > largest:
            raise ConfigError(
                f"size is {self._size}", got=self._size, expected=f"at most {largest}, the renderer's buffer"
            )
        try:
            self._env.reset()
            self._picture(self._size, self._size)
        except Exception as error:  # each OpenGL binding raises its own type
            raise ConfigError(f"pictures cannot be rendered here ({one_line(error)}): {ADVICE}") from error


def _limits(bound: Any, shape: tuple[int, ...]) -> Array:
    """Return the bounds of actions, infinite where MuJoCo has none."""
    return np.broadcast_to(np.where(np.abs(bound) < UNBOUNDED, bound, np.sign(bound) * np.inf), shape)


def _check_task(tasks: Any, domain: str, task: str) -> None:
    if domain not in tasks:
        raise UnknownName("dm_control domain", domain, tasks)
    if task not in tasks[domain]:
        raise UnknownName(f"task of dm_control's {domain}", task, tasks[domain])


def _import_suite(*, needs_renderer: bool) -> Any:
    """Import ``dm_control.suite``, set up to render without a display if the machine has none.

    Raises:
        ConfigError: if the package is not installed, or needs a renderer that is missing.
    """
    import_extra("dm_control", "dm-control", "env dm_control")
    chosen = _renderer() if "dm_control.suite" not in sys.modules else None
    if chosen is not None:
        os.environ["MUJOCO_GL"] = chosen
    try:
        return importlib.import_module("dm_control.suite")
    except Exception as error:  # each OpenGL binding raises its own type
        if needs_renderer or chosen is None:
            raise ConfigError(f"dm_control cannot be imported ({one_line(error)}): {ADVICE}") from error
        os.environ["MUJOCO_GL"] = "disabled"
        return importlib.import_module("dm_control.suite")


def _renderer() -> str | None:
    """Return the value for ``MUJOCO_GL``, or None to leave the choice to dm_control."""
    if sys.platform != "linux" or any(
        name in os.environ for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")
    ):
        return None
    return next((name for name, library in RENDERERS if ctypes.util.find_library(library)), None)
