"""LCD worlds: 2D rigid-body physics on a tiny binary screen, after boxLCD (Wilson 2021).

A world is data and imports no physics; the environments are imported at their first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wmplay.envs.lcd.worlds.built_in import ROBOTS, WORLDS
from wmplay.envs.lcd.worlds.world import (
    Body,
    Circle,
    Joint,
    Object,
    Occluder,
    Polygon,
    Robot,
    Static,
    World,
    box,
)

if TYPE_CHECKING:
    from wmplay.envs.lcd.env import LcdEnv
    from wmplay.envs.lcd.vector import LcdVectorEnv

__all__ = [
    "ROBOTS",
    "WORLDS",
    "Body",
    "Circle",
    "Joint",
    "LcdEnv",
    "LcdVectorEnv",
    "Object",
    "Occluder",
    "Polygon",
    "Robot",
    "Static",
    "World",
    "box",
]


def __getattr__(name: str) -> Any:
    if name == "LcdEnv":
        from wmplay.envs.lcd.env import LcdEnv

        return LcdEnv
    if name == "LcdVectorEnv":
        from wmplay.envs.lcd.vector import LcdVectorEnv

        return LcdVectorEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
