"""Box2D, and nothing else: one world, stepped, read and put into a state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import Box2D
import numpy as np
from numpy.typing import NDArray

from wmplay.envs.lcd.start import Start
from wmplay.envs.lcd.world import Body, Circle, Joint, Object, Shape, World

Array: TypeAlias = NDArray[Any]
Physics: TypeAlias = Literal["faithful", "fast"]

# (velocity, position) iterations of the solver: the original testbed's, and those Box2D recommends.
ITERATIONS: dict[str, tuple[int, int]] = {"faithful": (180, 60), "fast": (8, 3)}
FLOOR = 1000.0  # in widths to each side, where there are no walls


class Simulation:
    """One Box2D world.

    Each start builds it anew: Box2D warm-starts its solver from the contacts of the step before, so a
    world in which something has happened does not repeat itself bit for bit.
    """

    def __init__(self, world: World, physics: Physics) -> None:
        self.world = world
        substeps = 3 if world.fps < 30 else 1
        self._substeps = range(substeps)
        self._arguments = (1 / (substeps * world.fps), *ITERATIONS[physics])
        self._fixtures = [
            [_fixture(body, shape) for shape in shapes]
            for body, shapes in zip(world.bodies, world.shapes, strict=True)
        ]
        self._motors: list[Any] = []
        self._bodies: list[Any] = []
        self._positions: list[tuple[Any, Any]] = []

    def start(self, start: Start) -> None:
        """Builds the world in this state."""
        # Positions point into the old world's memory, so they must go before it does.
        self._positions.clear()
        self._motors.clear()
        self._b2world = b2world = Box2D.b2World(gravity=self.world.gravity)
        _build_walls(b2world, self.world)
        states = start.state.tolist()
        # Robots first, as in the original: the order of creation is the order in which Box2D solves.
        order = [*range(len(self.world.objects), len(states)), *range(len(self.world.objects))]
        built = {
            i: _build_body(b2world, self.world.bodies[i], self._fixtures[i][start.shape[i]], states[i])
            for i in order
        }
        self._bodies = [built[i] for i in range(len(states))]
        for robot in self.world.robots:
            for joint in robot.joints:
                ends = (self._bodies[self.world.index(robot, name)] for name in (joint.parent, joint.child))
                motor = _build_joint(b2world, joint, *ends)
                if joint.moves:
                    self._motors.append(motor)
        self._positions = [(body.position, body) for body in self._bodies]  # live views, read every step

    def step(self, speeds: Sequence[float], torques: Sequence[float] | None = None) -> None:
        """One env step: sets each motor's speed (and greatest torque), then runs the sub-steps."""
        for motor, speed in zip(self._motors, speeds, strict=True):
            motor.motorSpeed = speed
        if torques is not None:
            for motor, torque in zip(self._motors, torques, strict=True):
                motor.maxMotorTorque = torque
        step = self._b2world.Step
        for _ in self._substeps:
            step(*self._arguments)

    def read_pose(self, into: list[float]) -> None:
        """Appends x, y and angle of each body."""
        for position, body in self._positions:
            into += (position.x, position.y, body.angle)

    @property
    def state(self) -> Array:
        """[bodies, 6] as ``start`` takes it."""
        rows = []
        for body in self._bodies:
            velocity = body.linearVelocity
            rows.append((*body.position, body.angle, *velocity, body.angularVelocity))
        return np.array(rows, np.float64)


def _shape(shape: Shape) -> Any:
    if isinstance(shape, Circle):
        return Box2D.b2CircleShape(radius=shape.radius)
    return Box2D.b2PolygonShape(vertices=list(shape.vertices))


def _fixture(body: Body | Object, shape: Shape) -> Any:
    return Box2D.b2FixtureDef(
        shape=_shape(shape),
        density=body.density,
        friction=body.friction,
        restitution=body.restitution,
        categoryBits=body.category,
        maskBits=body.mask,
    )


def _build_walls(b2world: Any, world: World) -> None:
    w, h = world.width, world.height
    if world.walls:
        edges = [((0, 0), (w, 0)), ((0, 0), (0, h)), ((w, 0), (w, h)), ((0, h), (w, h))]
    else:
        edges = [((-FLOOR * w, 0), (FLOOR * w, 0))]
    ground = b2world.CreateStaticBody()
    for edge in edges:
        ground.CreateFixture(shape=Box2D.b2EdgeShape(vertices=list(edge)))  # of Box2D's friction, 0.2
    for static in world.statics:
        body = b2world.CreateStaticBody(position=static.position, angle=static.angle)
        body.CreateFixture(
            shape=_shape(static.shape), friction=static.friction, restitution=static.restitution
        )


def _build_body(b2world: Any, body: Body | Object, fixture: Any, state: list[float]) -> Any:
    x, y, angle, vx, vy, spin = state
    return b2world.CreateDynamicBody(
        position=(x, y),
        angle=angle,
        linearVelocity=(vx, vy),
        angularVelocity=spin,
        linearDamping=body.linear_damping,
        angularDamping=body.angular_damping,
        fixtures=fixture,
    )


def _build_joint(b2world: Any, joint: Joint, parent: Any, child: Any) -> Any:
    return b2world.CreateRevoluteJoint(
        bodyA=parent,
        bodyB=child,
        localAnchorA=joint.parent_anchor,
        localAnchorB=joint.child_anchor,
        enableLimit=joint.limited,
        lowerAngle=joint.limits[0],
        upperAngle=joint.limits[1],
        enableMotor=True,
        motorSpeed=0.0,
        maxMotorTorque=joint.torque,
    )
