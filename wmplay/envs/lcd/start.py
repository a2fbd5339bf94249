"""Where an episode begins: a random start, or one read back from an observation.

A state is [bodies, 6]: x, y, angle and their velocities, in metres, radians and seconds, in the order of
``World.bodies``. It is all there is to a world but the solver's warm-start memory, which a reset clears.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from wmplay.arrays import Array
from wmplay.envs.lcd.world import Object, Robot, World
from wmplay.errors import ConfigError, ShapeError

LOWER_PART = 0.375  # of the height: where objects start next to a robot, as published


@dataclass(frozen=True)
class Start:
    """The first state of an episode, and which of its shapes each body has."""

    state: Array  # [bodies, 6]
    shape: tuple[int, ...]  # [bodies], an index into World.shapes


def sample_start(world: World, rng: np.random.Generator) -> Start:
    """A random start, at rest. The same number of draws for each, whatever they give."""
    poses: list[tuple[float, float, float]] = []
    shapes: list[int] = []
    for item in world.objects:
        shapes.append(int(rng.integers(len(item.shapes))))
        poses.append(_sample_object(world, item, item.shapes[shapes[-1]].reach, rng))
    for robot in world.robots:
        poses.extend(_sample_robot(world, robot, rng))
    state = np.zeros((len(world.bodies), 6))
    state[:, :3] = np.asarray(poses, np.float32)  # what Box2D will hold
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
    """[bodies, 6] from what ``reset(options={"state": ...})`` was given.

    Args:
        world: whose state it is.
        state: [bodies, 6], or a ``full_state`` observation [bodies * 4], which is taken to be at rest.

    Raises:
        ShapeError: for another shape.
        ConfigError: for values that are not finite numbers.
    """
    count = len(world.bodies)
    try:
        array = np.asarray(state, np.float64)
    except (TypeError, ValueError):
        raise ConfigError(
            f"reset option 'state' is a {type(state).__name__}, expected an array of numbers"
        ) from None
    if array.shape not in ((count, 6), (count * 4,)):
        hint = f"or a full_state observation [{count * 4}]"
        raise ShapeError("reset option 'state'", array.shape, (count, 6), hint)
    if not np.isfinite(array).all():
        raise ConfigError("reset option 'state' has values that are not finite: pass numbers only")
    return array if array.ndim == 2 else _from_observation(world, array.reshape(count, 4))


def _from_observation(world: World, observation: Array) -> Array:
    """The state at rest that has this [bodies, 4] of scaled x and y, cos and sin.

    An observation knows angles up to whole turns only. A part's angle is taken in the turn that brings
    its joint nearest to the middle of its limits.
    """
    state = np.zeros((len(observation), 6))
    state[:, :2] = (observation[:, :2] + 1) / 2 * (world.width, world.height)
    state[:, 2] = np.arctan2(observation[:, 3], observation[:, 2])
    for robot in world.robots:
        for joint in robot.joints:
            parent, child = world.index(robot, joint.parent), world.index(robot, joint.child)
            middle = state[parent, 2] + robot.bend(joint) + sum(joint.limits) / 2
            offset = state[child, 2] - middle
            state[child, 2] = middle + math.atan2(math.sin(offset), math.cos(offset))
    return state


def _rotate(point: tuple[float, float], angle: float) -> tuple[float, float]:
    x, y = point
    return math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y
