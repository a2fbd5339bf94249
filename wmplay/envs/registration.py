"""Gymnasium ids of the LCD worlds: ``gymnasium.make("wmplay/LuxoBodyGoal-v0")``.

Neither Box2D nor torch is imported: an environment's module is imported when the environment is made.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from wmplay.envs.lcd.worlds.built_in import WORLDS

NO_CLOCK = 2**31 - 1  # steps; Gymnasium's own wrapper is the clock

TASK_SUFFIX = {"body_goal": "BodyGoal", "cube_goal": "CubeGoal"}


def register_envs() -> None:
    """Register every built-in world, alone and with each of its tasks. A second call has no effect."""
    for world, content in WORLDS.items():
        name = "".join(word.capitalize() for word in world.split("_"))
        _register(name, content.steps, {"world": world})
        if content.robots:
            _register(name + TASK_SUFFIX["body_goal"], content.steps, {"world": world, "task": "body_goal"})
        if content.robots and "cube" in world:
            _register(name + TASK_SUFFIX["cube_goal"], content.steps, {"world": world, "task": "cube_goal"})


def make_single(max_steps: int | None = None, **settings: Any) -> gymnasium.Env[Any, Any]:
    """Make an ``LcdEnv`` for ``gymnasium.make``, whose clock is ``max_episode_steps``."""
    from wmplay.envs.lcd.env import LcdEnv

    return LcdEnv(max_steps=max_steps or NO_CLOCK, **settings)


def make_vector(
    num_envs: int,
    max_episode_steps: int,
    max_steps: int | None = None,
    autoreset_mode: str | gymnasium.vector.AutoresetMode = gymnasium.vector.AutoresetMode.NEXT_STEP,
    **settings: Any,
) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """Make an ``LcdVectorEnv`` for ``gymnasium.make_vec``, in next-step mode like Gymnasium's own by default.

    Args:
        num_envs: N.
        max_episode_steps: the clock; Gymnasium passes that of the spec.
        max_steps: a shorter clock.
        autoreset_mode: as in ``gymnasium.vector.SyncVectorEnv``, or the mode's name, for example "same_step".
        settings: as for ``LcdVectorEnv``.

    Raises:
        UnknownName: for another mode.
    """
    from wmplay.envs.lcd.vector import LcdVectorEnv

    mode = autoreset_mode if isinstance(autoreset_mode, str) else autoreset_mode.name.lower()
    clock = min(max_episode_steps, max_steps or max_episode_steps)
    return LcdVectorEnv(num_envs, autoreset=mode, max_steps=clock, **settings)  # type: ignore[arg-type]


def _register(name: str, steps: int, arguments: dict[str, str]) -> None:
    env_id = f"wmplay/{name}-v0"
    if env_id not in gymnasium.registry:
        gymnasium.register(
            env_id,
            entry_point="wmplay.envs.registration:make_single",
            vector_entry_point="wmplay.envs.registration:make_vector",
            max_episode_steps=steps,
            kwargs=arguments,
        )
