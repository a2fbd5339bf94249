"""Trajectories: simulated by an environment and a policy, predicted by a world model."""

from wmplay.simulation.actor import Actor
from wmplay.simulation.blocks import simulate_blocks
from wmplay.simulation.ray_pool import RayPool
from wmplay.simulation.rollout import observe, predict
from wmplay.simulation.simulate import simulate

__all__ = ["Actor", "RayPool", "observe", "predict", "simulate", "simulate_blocks"]
