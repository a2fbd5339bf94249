"""Starts of episodes: random, or read from an observation.

A state is [bodies, 6]: x, y, angle and their velocities, in metres, radians and seconds, in the order of
``World.bodies``. It is the whole state of a world except for the solver's warm-start memory, which a reset
clears.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from wmplay.envs.lcd.worlds.world import Object, Robot, World
from wmplay.errors import ConfigError, ShapeError
from wmplay.system.arrays import Array

PUSHED = 0.25  # m; the furthest that a strong push squeezes a body's origin into a wall
LOWER_PART = 0.375  # of the height: range of objects' starts in a world with a robot, as published


@dataclass(frozen=True)
class Start:
    """The first state of an episode, and the index of each body's shape."""

    state: Array  # [bodies, 6]
    shape: tuple[int, ...]  # [bodies], an index into World.shapes


def sample_start(world: World, rng: np.random.Generator) -> Start:
    """Draw a random start, at rest but for objects with a speed, with the same number of draws each time."""
    poses: list[tuple[float, float, float]] = []
    shapes: list[int] = []
    for item in world.objects:
        shapes.append(int(rng.integers(len(item.shapes))))
        poses.append(_sample_object(world, item, item.shapes[shapes[-1]].reach, rng))
    for robot in world.robots:
        poses.extend(_sample_robot(world, robot, rng))
    state = np.zeros((len(world.bodies), 6))
    state[:, :3] = np.asarray(poses, np.float32)  # Box2D stores float32
    for index, item in enumerate(world.objects):
        if item.speed is not None:
            speed, direction = rng.uniform(*item.speed), rng.uniform(-math.pi, math.pi)
            state[index, 3:5] = speed * math.cos(direction), speed * math.sin(direction)
    return Start(state, (*shapes, *(0 for _ in range(len(poses) - len(shapes)))))


def _sample_object(
    world: World, item: Object, reach: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    highest = world.height - reach
    if world.robots:
        highest = max(reach, min(highest, LOWER_PART * world.height))
    low_x, high_x = item.x or (reach, world.width - reach)
    low_y, high_y = item.y or (reach, highest)
    x, y, angle = rng.uniform(low_x, high_x), rng.uniform(low_y, high_y), rng.uniform(-math.pi, math.pi)
    return x, y, angle if item.random_angle else 0.0


def _sample_robot(world: World, robot: Robot, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    x, angle = rng.uniform(robot.margin, world.width - robot.margin), rng.uniform(-math.pi, math.pi)
    poses = {robot.root.name: (x, robot.margin, angle if robot.random_angle else 0.0)}
    root_angle = poses[robot.root.name][2]
    for joint in robot.joints:
        parent_x, parent_y, parent_angle = poses[joint.parent]
        child_angle = root_angle + joint.angle
        ax, ay = _rotate(joint.parent_anchor, parent_angle)
        bx, by = _rotate(joint.child_anchor, child_angle)
        poses[joint.child] = (parent_x + ax - bx, parent_y + ay - by, child_angle)
    return [poses[body.name] for body in robot.bodies]


def given_state(world: World, state: Any) -> Array:
    """Return the state [bodies, 6] that ``reset(options={"state": ...})`` asks for.

    Args:
        world: of the state.
        state: [bodies, 6], or a ``full_state`` observation [bodies * 4], with velocities of zero.

    Raises:
        ShapeError: for another shape.
        ConfigError: for values that are not finite numbers, and bodies outside of the walls.
    """
    count = len(world.bodies)
    try:
        array = np.asarray(state, np.float64)
    except (TypeError, ValueError):
        raise ConfigError(
            f"reset option 'state' is a {type(state).__name__}",
            got=type(state).__name__,
            expected="an array of numbers",
        ) from None
    if array.shape not in ((count, 6), (count * 4,)):
        hint = f"or a full_state observation [{count * 4}]"
        raise ShapeError("reset option 'state'", array.shape, (count, 6), hint)
    if not np.isfinite(array).all():
        raise ConfigError("reset option 'state' has values that are not finite", advice="pass numbers only")
    placed = array.copy() if array.ndim == 2 else _from_observation(world, array.reshape(count, 4))
    if world.walls:
        beyond = np.maximum(-placed[:, :2], placed[:, :2] - (world.width, world.height))
        if beyond.max() > PUSHED:
            body = int(beyond.max(1).argmax())
            raise ConfigError(
                f"reset option 'state' puts body {body} at {placed[body, :2].round(3).tolist()}, outside of "
                f"{world.width:g} x {world.height:g}: place all bodies between the walls",
                got=placed[body, :2].round(3).tolist(),
            )
    return _unwound(world, placed)


def _from_observation(world: World, observation: Array) -> Array:
    """Return the state at rest with this [bodies, 4] of scaled x and y, cos and sin."""
    state = np.zeros((len(observation), 6))
    state[:, :2] = (observation[:, :2] + 1) / 2 * (world.width, world.height)
    state[:, 2] = np.arctan2(observation[:, 3], observation[:, 2])
    return state


def _unwound(world: World, state: Array) -> Array:
    """Return a state [bodies, 6] in which the parts of a robot are in the same turn.

    Angles are often known only up to whole turns, but a joint counts turns. A part's angle is moved to the
    turn that brings its joint nearest to the middle of its limits; an angle in that turn is not changed.
    """
    for robot in world.robots:
        for joint in robot.joints:
            if joint.limited:
                parent, child = world.index(robot, joint.parent), world.index(robot, joint.child)
                middle = state[parent, 2] + robot.bend(joint) + sum(joint.limits) / 2
                state[child, 2] -= 2 * math.pi * round((state[child, 2] - middle) / (2 * math.pi))
    return state


def _rotate(point: tuple[float, float], angle: float) -> tuple[float, float]:
    x, y = point
    return math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y
