"""Box2D simulation of a world: stepping, reading and setting its state."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import Box2D
import numpy as np

from wmplay.envs.lcd.factors.sound import Ear
from wmplay.envs.lcd.start import Start
from wmplay.envs.lcd.worlds.world import Body, Circle, Joint, Object, Robot, Shape, Static, World
from wmplay.system.arrays import Array

Physics: TypeAlias = Literal["faithful", "fast"]

# (velocity, position) iterations of the solver: those of the original testbed, and those Box2D recommends.
ITERATIONS: dict[str, tuple[int, int]] = {"faithful": (180, 60), "fast": (8, 3)}
FLOOR = 1000.0  # in widths to each side, in a world without walls
_GROUND = Box2D.b2BodyDef()


class Blueprint:
    """A world's parts as Box2D definitions, made once and shared by its simulations."""

    def __init__(self, world: World, physics: Physics, sound: bool = False) -> None:
        self._made_of = world, physics, sound
        self.sound = sound
        self.shapes = world.shapes
        self.gravity = world.gravity
        self.substeps = 3 if world.fps < 30 else 1
        self.pace = (1 / (self.substeps * world.fps), *ITERATIONS[physics])
        self.ground = [_fixture(edge) for edge in _edges(world)]  # with Box2D's default friction, 0.2
        self.statics = [_static(static) for static in world.statics]
        self.bodies = [
            [_movable(body, shape) for shape in shapes]
            for body, shapes in zip(world.bodies, world.shapes, strict=True)
        ]
        # Robots first, as in the original: Box2D solves in the order of creation.
        first = len(world.objects)
        self.order = [*range(first, len(world.bodies)), *range(first)]
        self.joints = [
            (
                _hinge(robot, joint),
                world.index(robot, joint.parent),
                world.index(robot, joint.child),
                joint.moves,
            )
            for robot in world.robots
            for joint in robot.joints
        ]

    def __reduce__(self) -> Any:
        return Blueprint, self._made_of


class Simulation:
    """One Box2D world.

    Each start builds the world anew: Box2D warm-starts its solver from the contacts of the previous step, so
    that a used world does not repeat itself bit for bit. A copy (``copy.deepcopy`` or pickled) repeats all
    steps from the start, and so continues with the same numbers.

    ``b2world`` and ``motors``, its joints that move, are Box2D's own objects; ``ear`` listens to it, if the
    blueprint has sound.
    """

    def __init__(self, blueprint: Blueprint) -> None:
        self._blueprint = blueprint
        self._pace = blueprint.pace
        self._substeps = range(blueprint.substeps)
        self.b2world: Any = None
        self.ear: Ear | None = None
        self.motors: list[Any] = []
        self._bodies: list[Any] = []
        self._positions: list[tuple[Any, Any]] = []
        self._start: Start | None = None
        self._count = 0  # steps since the start
        self._set = array("d")  # of each step: the speeds, and the torques if they are controlled

    def __reduce__(self) -> Any:
        return _replayed, (self._blueprint, self._start, self._count, self._set)

    def start(self, start: Start) -> None:
        """Build the world in this state."""
        self._start, self._count, self._set = start, 0, array("d")
        # Positions point into the old world's memory, so they are deleted first.
        self._positions, self.motors, self._bodies = [], [], []
        plan = self._blueprint
        self.b2world = b2world = Box2D.b2World(gravity=plan.gravity)
        ground = b2world.CreateBody(_GROUND)
        for edge in plan.ground:
            ground.CreateFixture(edge)
        for static in plan.statics:
            b2world.CreateBody(static)
        built: dict[int, Any] = {}
        states = start.state.tolist()
        for i in plan.order:
            definition = plan.bodies[i][start.shape[i]]
            x, y, definition.angle, vx, vy, spin = states[i]
            definition.position = (x, y)
            built[i] = body = b2world.CreateBody(definition)
            body.userData = i
            # Set afterwards, because Box2D's velocity is that of the centre of mass, which depends on the
            # shape.
            body.linearVelocity, body.angularVelocity = (vx, vy), spin
        self._bodies = [built[i] for i in range(len(states))]
        for hinge, parent, child, moves in plan.joints:
            hinge.bodyA, hinge.bodyB = self._bodies[parent], self._bodies[child]
            joint = b2world.CreateJoint(hinge)
            if moves:
                self.motors.append(joint)
        self._positions = [(body.position, body) for body in self._bodies]  # live views, read every step
        if plan.sound:
            b2world.contactListener = self.ear = Ear(
                [shapes[i] for shapes, i in zip(plan.shapes, start.shape, strict=True)]
            )

    def step(self, speeds: Sequence[float], torques: Sequence[float] | None = None) -> None:
        """Take one env step: set each motor's speed (and greatest torque), then run the substeps."""
        for motor, speed in zip(self.motors, speeds, strict=True):
            motor.motorSpeed = speed
        if torques is not None:
            for motor, torque in zip(self.motors, torques, strict=True):
                motor.maxMotorTorque = torque
        self._count += 1
        self._set.extend(speeds)
        if torques is not None:
            self._set.extend(torques)
        step, ear = self.b2world.Step, self.ear
        for _ in self._substeps:
            if ear is not None:
                ear.forget()
            step(*self._pace)

    def touching(self) -> list[tuple[int | None, int | None]]:
        """Return the pairs of bodies that touch at the start; None is a static one, walls are left out."""
        self.b2world.Step(0.0, 0, 0)  # no time passes: Box2D only finds the contacts
        meet = [(each.fixtureA.body, each.fixtureB.body) for each in self.b2world.contacts if each.touching]
        number = {body: index for index, body in enumerate(self._bodies)}
        ground = self.b2world.bodies[0]  # made first
        return [
            (number.get(first), number.get(second)) for first, second in meet if ground not in (first, second)
        ]

    def read_pose(self, into: list[float]) -> None:
        """Append x, y and angle of each body."""
        for position, body in self._positions:
            into += (position.x, position.y, body.angle)

    @property
    def state(self) -> Array:
        """The state [bodies, 6] in the form that ``start`` takes."""
        rows = []
        for body in self._bodies:
            velocity = body.linearVelocity
            rows.append((*body.position, body.angle, *velocity, body.angularVelocity))
        return np.array(rows, np.float64)


def _replayed(blueprint: Blueprint, start: Start | None, count: int, values: Sequence[float]) -> Simulation:
    """Return a simulation that has repeated the same steps."""
    simulation = Simulation(blueprint)
    if start is not None:
        simulation.start(start)
        motors, each = len(simulation.motors), len(values) // max(count, 1)
        for first in range(0, count * each, each) if each else [0] * count:
            torques = values[first + motors : first + each] if each > motors else None
            simulation.step(values[first : first + motors], torques)
    return simulation


def _shape(shape: Shape) -> Any:
    if isinstance(shape, Circle):
        return Box2D.b2CircleShape(radius=shape.radius)
    return Box2D.b2PolygonShape(vertices=list(shape.vertices))


def _edges(world: World) -> list[Any]:
    w, h = world.width, world.height
    if world.walls:
        ends = [((0, 0), (w, 0)), ((0, 0), (0, h)), ((w, 0), (w, h)), ((0, h), (w, h))]
    else:
        ends = [((-FLOOR * w, 0), (FLOOR * w, 0))]
    return [Box2D.b2EdgeShape(vertices=list(pair)) for pair in ends]


def _fixture(shape: Any, **settings: Any) -> Any:
    fixture = Box2D.b2FixtureDef(shape=shape, **settings)
    shape.thisown = True  # pybox2d passes ownership to the definition, which never frees it
    fixture.kept = shape
    return fixture


def _static(static: Static) -> Any:
    fixture = _fixture(_shape(static.shape), friction=static.friction, restitution=static.restitution)
    return Box2D.b2BodyDef(position=static.position, angle=static.angle, fixtures=fixture)


def _movable(body: Body | Object, shape: Shape) -> Any:
    fixture = _fixture(
        _shape(shape),
        density=body.density,
        friction=body.friction,
        restitution=body.restitution,
        categoryBits=body.category,
        maskBits=body.mask,
    )
    return Box2D.b2BodyDef(
        type=Box2D.b2_dynamicBody,
        linearDamping=body.linear_damping,
        angularDamping=body.angular_damping,
        fixtures=fixture,
    )


def _hinge(robot: Robot, joint: Joint) -> Any:
    # As in the original, the zero of a joint's angle is its angle at the start.
    return Box2D.b2RevoluteJointDef(
        localAnchorA=joint.parent_anchor,
        localAnchorB=joint.child_anchor,
        referenceAngle=robot.bend(joint),
        enableLimit=joint.limited,
        lowerAngle=joint.limits[0],
        upperAngle=joint.limits[1],
        enableMotor=True,
        motorSpeed=0.0,
        maxMotorTorque=joint.torque,
    )
