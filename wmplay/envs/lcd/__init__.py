"""LCD worlds: 2D rigid-body physics on a tiny binary screen, after boxLCD (Wilson 2021)."""

from __future__ import annotations

from wmplay.envs.lcd.env import LcdEnv
from wmplay.envs.lcd.vector import LcdVectorEnv
from wmplay.envs.lcd.world import Body, Circle, Joint, Object, Polygon, Robot, Static, World, box
from wmplay.envs.lcd.worlds import WORLDS

__all__ = [
    "WORLDS",
    "Body",
    "Circle",
    "Joint",
    "LcdEnv",
    "LcdVectorEnv",
    "Object",
    "Polygon",
    "Robot",
    "Static",
    "World",
    "box",
]
