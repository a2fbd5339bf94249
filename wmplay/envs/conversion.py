"""Construction, actions and images of foreign environments, shared by their adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, Space

from wmplay.config import plugins
from wmplay.errors import ConfigError, SpaceError, UnknownName
from wmplay.system.arrays import Array
from wmplay.system.extras import how_to_install
from wmplay.vector.answers import Held

FAMILIES = {  # prefix of a package's ids -> the env piece for them, its setting, its extra
    "ALE/": ("atari", "env.game=<game>", "atari"),
    "BabyAI-": ("minigrid", "env.id=<id>", "minigrid"),
    "MiniGrid-": ("minigrid", "env.id=<id>", "minigrid"),
    "dm_control/": ("dm_control", "env.domain=<domain> env.task=<task>", "dm-control"),
}


def action_space(space: Space[Any], what: str, limit: float | None = None) -> Box | Discrete:
    """Return an action space in wmplay's form: float32 [A] from a Box of any shape, or Discrete from 0.

    ``limit`` bounds the entries of a Box that have no bounds.

    Raises:
        SpaceError: for any other space.
    """
    if isinstance(space, Discrete):
        return Discrete(int(space.n))
    if isinstance(space, Box) and space.dtype.kind == "f":
        low, high = (bound.astype(np.float32).reshape(-1) for bound in (space.low, space.high))
        if limit is not None:
            low, high = np.where(np.isfinite(low), low, -limit), np.where(np.isfinite(high), high, limit)
        return Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)
    raise SpaceError(
        f"{what} is {space}",
        got=space,
        expected="a Box of floats or a Discrete",
        advice="make one of it by gymnasium.wrappers.TransformAction",
    )


def resized(frame: Array, size: int) -> Array:
    """Resize an image [H, W, 3 or more] uint8 to [size, size, 3]; each pixel is the mean of those it
    covers."""
    from PIL import Image

    image = Image.fromarray(frame[..., :3])
    return np.array(image.resize((size, size), Image.Resampling.BOX))


def registered(
    env_id: str, kwargs: Mapping[str, Any], max_steps: int | None, what: str = "Gymnasium environment"
) -> gymnasium.Env[Any, Any]:
    """Make an environment of Gymnasium's registry, wrapped in ``Held``.

    Raises:
        UnknownName: if Gymnasium has no environment of this id.
        ConfigError: if the environment cannot be made.
    """

    def make() -> gymnasium.Env[Any, Any]:
        env = gymnasium.make(env_id, max_episode_steps=max_steps, disable_env_checker=True, **kwargs)
        return Held(env)  # replaces Gymnasium's own checker, with more detail

    env: gymnasium.Env[Any, Any] = made(make, env_id, what)
    return env


def made(make: Callable[[], Any], env_id: str, what: str) -> Any:
    """Return the result of ``make`` for an id of Gymnasium's registry. Raise as ``registered``."""
    if env_id not in gymnasium.registry:
        plugins.load_all()  # a plugin may register the id
    try:
        return make()
    except gymnasium.error.UnregisteredEnv:
        raise UnknownName(what, env_id, gymnasium.registry, _who_has(env_id)) from None
    except ImportError as error:
        raise ConfigError(f"{what} '{env_id}' needs a module: {one_line(error)}", got=env_id) from error
    except (gymnasium.error.Error, TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"{what} '{env_id}' cannot be made: {one_line(error)}", got=env_id) from error


def _who_has(env_id: str) -> str:
    """Return advice for an id of a family that is not registered, else an empty string."""
    name = env_id.rpartition(":")[2]
    family = next((each for each in FAMILIES if name.startswith(each)), name.rpartition("/")[0])
    if not family or any(each.startswith(family) for each in gymnasium.registry):
        return ""
    if family in FAMILIES:
        piece, setting, extra = FAMILIES[family]
        return f"use env={piece} {setting}, which needs {how_to_install(extra)}"
    return f"no '{family}/...' is registered here: give module:{name}, or import the module in a plugin"


def one_line(error: Exception) -> str:
    """Return an error's message as one line."""
    return " ".join(str(error).split())
