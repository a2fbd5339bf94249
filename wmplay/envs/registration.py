"""The LCD worlds under their Gymnasium ids: ``gymnasium.make("wmplay/LuxoBodyGoal-v0")``.

Imports neither Box2D nor torch: an environment's module is imported when it is made.
"""

from __future__ import annotations

import gymnasium

from wmplay.envs.lcd.worlds import WORLDS

TASK_SUFFIX = {"body_goal": "BodyGoal", "cube_goal": "CubeGoal"}


def register_envs() -> None:
    """Registers every built-in world, alone and with each task that it can have; again does nothing."""
    for world, content in WORLDS.items():
        name = "".join(word.capitalize() for word in world.split("_"))
        _register(name, {"world": world})
        if content.robots:
            _register(name + TASK_SUFFIX["body_goal"], {"world": world, "task": "body_goal"})
        if content.robots and "cube" in world:
            _register(name + TASK_SUFFIX["cube_goal"], {"world": world, "task": "cube_goal"})


def _register(name: str, arguments: dict[str, str]) -> None:
    env_id = f"wmplay/{name}-v0"
    if env_id not in gymnasium.registry:
        gymnasium.register(
            env_id,
            entry_point="wmplay.envs.lcd.env:LcdEnv",
            vector_entry_point="wmplay.envs.lcd.vector:LcdVectorEnv",
            kwargs=arguments,
        )
