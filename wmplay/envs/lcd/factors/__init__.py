"""Factors: properties of a world that differ from episode to episode, shown or hidden."""

from wmplay.envs.lcd.factors.conditions import Conditions
from wmplay.envs.lcd.factors.ranges import FACTORS, Factors, read_factors, value_of

__all__ = ["FACTORS", "Conditions", "Factors", "read_factors", "value_of"]
