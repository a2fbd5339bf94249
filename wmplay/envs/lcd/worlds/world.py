"""Worlds as data: bodies, joints, walls and a clock, built in Python or in YAML (see ``parse``).

Lengths are in metres, angles in radians (counter-clockwise), times in seconds. x goes right from 0 to
``width``, y goes up from 0 to ``height``.

>>> ramp = Static(Polygon(((0, 0), (3, 0), (0, 1.5)))) >>> ball = Object("ball", (Circle(0.4),),
restitution=0.8) >>> world = World(width=5, objects=(ball,), statics=(ramp,))  # then LcdEnv(world=world)
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from wmplay.errors import ConfigError, UnknownName

Point: TypeAlias = tuple[float, float]

# Collision filter bits of the original testbed: two shapes meet if each one's category is in the other's
# mask.
WALL_CATEGORY = 0x0001  # Box2D's default category
ROBOT_CATEGORY = 0x0020
OBJECT_CATEGORY = 0x0110
MEETS_WALLS = WALL_CATEGORY
MEETS_WALLS_AND_OBJECTS = 0x011
MEETS_ALL = 0xFFFF

MAX_VERTICES = 8


@dataclass(frozen=True)
class Circle:
    """A disc around the body's origin."""

    radius: float

    def __post_init__(self) -> None:
        _positive("circle radius", self.radius)

    @property
    def reach(self) -> float:
        """The largest extent from the origin along an axis, unrotated."""
        return self.radius


@dataclass(frozen=True)
class Polygon:
    """A convex polygon, of 3 to 8 vertices in order, in the body's frame."""

    vertices: tuple[Point, ...]

    def __post_init__(self) -> None:
        if not 3 <= len(self.vertices) <= MAX_VERTICES:
            raise ConfigError(
                f"a polygon has {len(self.vertices)} vertices",
                got=len(self.vertices),
                expected=f"3 to {MAX_VERTICES}",
            )
        if not _is_convex(self.vertices):
            raise ConfigError(f"polygon {list(self.vertices)} is not convex: split it into convex ones")

    @property
    def reach(self) -> float:
        """The largest extent from the origin along an axis, unrotated."""
        return max(abs(coordinate) for vertex in self.vertices for coordinate in vertex)


Shape: TypeAlias = Circle | Polygon


def box(half_width: float, half_height: float) -> Polygon:
    """Return the rectangle around the body's origin."""
    _positive("box half-width", half_width)
    _positive("box half-height", half_height)
    w, h = half_width, half_height
    return Polygon(((-w, -h), (w, -h), (w, h), (-w, h)))


@dataclass(frozen=True)
class Body:
    """One part of a robot. ``mask`` is the set of categories that the part collides with (ORed)."""

    name: str
    shape: Shape
    density: float = 1.0
    friction: float = 1.0
    restitution: float = 0.0
    linear_damping: float = 0.0
    angular_damping: float = 0.0
    category: int = ROBOT_CATEGORY
    mask: int = MEETS_WALLS
    color: str = "#e8590c"

    def __post_init__(self) -> None:
        _check_matter(f"body '{self.name}'", self)


@dataclass(frozen=True)
class Joint:
    """A motor hinge that holds ``child``'s point ``child_anchor`` to ``parent``'s ``parent_anchor``.

    ``angle`` is the child's start angle relative to the robot's *root*; ``limits`` bound the joint's angle
    relative to its start. A joint with two equal limits does not move and takes no action.
    """

    parent: str
    child: str
    parent_anchor: Point = (0.0, 0.0)
    child_anchor: Point = (0.0, 0.0)
    angle: float = 0.0
    limits: Point = (-1.0, 1.0)
    limited: bool = True
    speed: float = 8.0  # rad/s at action 1
    torque: float = 150.0  # N m at most

    def __post_init__(self) -> None:
        if self.limits[0] > self.limits[1]:
            raise ConfigError(
                f"joint of '{self.child}' has limits {list(self.limits)}",
                got=self.limits,
                expected="the lower one first",
            )
        _positive(f"joint speed of '{self.child}'", self.speed)
        _positive(f"joint torque of '{self.child}'", self.torque)

    @property
    def moves(self) -> bool:
        """True if the joint takes an action."""
        return self.limits[0] != self.limits[1]


@dataclass(frozen=True)
class Robot:
    """A root body and parts, each attached to the root or to an earlier part by one joint.

    Parts never collide with each other. At a reset the root's x is uniform, at least ``margin`` from the side
    walls; its y is ``margin``.
    """

    name: str
    root: Body
    parts: tuple[Body, ...] = ()
    joints: tuple[Joint, ...] = ()
    margin: float = 1.5
    random_angle: bool = False

    def __post_init__(self) -> None:
        _positive(f"robot '{self.name}' margin", self.margin)
        names = [body.name for body in self.bodies]
        _check_unique(f"bodies of robot '{self.name}'", names)
        for joint in self.joints:
            for name in (joint.parent, joint.child):
                if name not in names:
                    raise UnknownName(f"body in a joint of robot '{self.name}'", name, names)
        placed = {self.root.name}
        for joint in self.joints:
            if joint.parent not in placed or joint.child in placed:
                raise ConfigError(
                    f"joint '{joint.parent}' -> '{joint.child}' of robot '{self.name}' is out of order: "
                    "each joint hangs one new part on the root or on a part placed before"
                )
            placed.add(joint.child)
        for name in names:
            if name not in placed:
                raise ConfigError(f"part '{name}' of robot '{self.name}' has no joint")

    @property
    def bodies(self) -> tuple[Body, ...]:
        """The root, then the parts."""
        return (self.root, *self.parts)

    def bend(self, joint: Joint) -> float:
        """Return (child angle - parent angle) at the start, the zero of the joint's limits."""
        angles = {self.root.name: 0.0, **{other.child: other.angle for other in self.joints}}
        return joint.angle - angles[joint.parent]


@dataclass(frozen=True)
class Object:
    """A free body. With several shapes, each reset draws one of them.

    ``x`` and ``y`` are the ranges of its start. By default the body starts anywhere in the box or, in a world
    with a robot, in the lowest 3/8 of the height, as in the original testbed. ``speed`` is the range of its
    speed at the start, in m/s, in a random direction; without it the body starts at rest.
    """

    name: str
    shapes: tuple[Shape, ...]
    density: float = 1.0
    friction: float = 0.5
    restitution: float = 0.0
    linear_damping: float = 0.0
    angular_damping: float = 0.0
    category: int = OBJECT_CATEGORY
    mask: int = MEETS_ALL
    random_angle: bool = True
    x: Point | None = None
    y: Point | None = None
    color: str = "#4263eb"
    speed: Point | None = None

    def __post_init__(self) -> None:
        _check_matter(f"object '{self.name}'", self)
        if not self.shapes:
            raise ConfigError(f"object '{self.name}' has no shape", advice="give it at least one")
        for name, interval in (("x", self.x), ("y", self.y), ("speed", self.speed)):
            if interval is not None and interval[0] > interval[1]:
                raise ConfigError(f"object '{self.name}' has {name} {list(interval)}", expected="[low, high]")


@dataclass(frozen=True)
class Static:
    """A body that never moves, for example a ramp or an inner wall; drawn on the screen like other bodies."""

    shape: Shape
    position: Point = (0.0, 0.0)
    angle: float = 0.0
    friction: float = 0.2
    restitution: float = 0.0
    color: str = "#868e96"

    def __post_init__(self) -> None:
        _not_negative("static friction", self.friction)
        _not_negative("static restitution", self.restitution)
        _check_color("static", self.color)


@dataclass(frozen=True)
class Occluder:
    """A shape that is drawn in front of all bodies, which pass behind it."""

    shape: Shape
    position: Point = (0.0, 0.0)
    angle: float = 0.0
    color: str = "#868e96"

    def __post_init__(self) -> None:
        _check_color("occluder", self.color)


@dataclass(frozen=True)
class World:
    """The description of an LCD environment.

    ``walls`` puts a wall on each of the four sides. Without walls the world has only a long floor, the view
    scrolls with the first robot, and x in the observations is unbounded.
    """

    width: float = 10.0
    height: float = 5.0
    gravity: Point = (0.0, -9.81)
    walls: bool = True
    objects: tuple[Object, ...] = ()
    robots: tuple[Robot, ...] = ()
    statics: tuple[Static, ...] = ()
    lcd_height: int = 16  # pixels; the width is lcd_height * width / height
    steps: int = 100  # per episode
    fps: int = 10  # env steps per second
    control: Literal["speed", "torque"] = "speed"  # the quantity of a joint that an action sets
    background: str = "#f8f9fa"
    occluders: tuple[Occluder, ...] = ()

    def __post_init__(self) -> None:
        _positive("world width", self.width)
        _positive("world height", self.height)
        _positive("world lcd_height", self.lcd_height)
        _positive("world steps", self.steps)
        _positive("world fps", self.fps)
        if not (self.objects or self.robots):
            raise ConfigError("the world is empty", advice="give it at least one object or robot")
        if self.control not in ("speed", "torque"):
            raise ConfigError(
                f"world control is '{self.control}'", got=self.control, expected="'speed' or 'torque'"
            )
        if self.lcd_width < 1:
            raise ConfigError(f"world of {self.width} x {self.height} leaves the screen no column")
        if not (self.walls or self.robots):
            raise ConfigError("a world without walls needs a robot for its view to follow")
        _check_color("world background", self.background)
        _check_unique(
            "objects and robots of the world", [o.name for o in self.objects] + [r.name for r in self.robots]
        )
        self._check_room()

    def _check_room(self) -> None:
        for robot in self.robots:
            if 2 * robot.margin > self.width or robot.margin > self.height:
                raise ConfigError(
                    f"robot '{robot.name}' keeps {robot.margin} from the walls, which a world of "
                    f"{self.width} x {self.height} has no room for"
                )
        for item in self.objects:
            reach = max(shape.reach for shape in item.shapes)
            if 2 * reach > min(self.width, self.height):
                raise ConfigError(
                    f"object '{item.name}' of half-size {reach} does not fit into a world of "
                    f"{self.width} x {self.height}"
                )

    @property
    def lcd_width(self) -> int:
        """The width in pixels, from the exact world width: the original testbed rounded 1.5 x 5 down to 7."""
        return round(self.lcd_height * self.width / self.height)

    @property
    def pixels_per_metre(self) -> float:
        """The number of pixels per metre, the same along both axes."""
        return self.lcd_height / self.height

    @cached_property
    def bodies(self) -> tuple[Object | Body, ...]:
        """All moving bodies, in the order of ``full_state``: the objects, then each robot's root and
        parts."""
        return (*self.objects, *(body for robot in self.robots for body in robot.bodies))

    @cached_property
    def shapes(self) -> tuple[tuple[Shape, ...], ...]:
        """The possible shapes of each of the bodies."""
        return tuple(b.shapes if isinstance(b, Object) else (b.shape,) for b in self.bodies)

    @cached_property
    def motors(self) -> tuple[Joint, ...]:
        """The joints that take an action, in order."""
        return tuple(joint for robot in self.robots for joint in robot.joints if joint.moves)

    def index(self, robot: Robot, name: str) -> int:
        """Return the index of a robot's body among ``bodies``."""
        start = len(self.objects)
        for other in self.robots:
            if other is robot:
                return start + [body.name for body in robot.bodies].index(name)
            start += len(other.bodies)
        raise AssertionError(f"robot {robot.name} is not of this world")


def _check_matter(what: str, body: Body | Object) -> None:
    _positive(f"{what} density", body.density)
    _not_negative(f"{what} friction", body.friction)
    _not_negative(f"{what} restitution", body.restitution)
    _not_negative(f"{what} linear_damping", body.linear_damping)
    _not_negative(f"{what} angular_damping", body.angular_damping)
    _check_color(what, body.color)


def _positive(what: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{what} is {value}", got=value, expected="a positive number")


def _not_negative(what: str, value: float) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise ConfigError(f"{what} is {value}", got=value, expected="zero or more")


def _check_color(what: str, color: str) -> None:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", color):
        raise ConfigError(f"{what} has color '{color}'", got=color, expected="one like '#e8590c'")


def _check_unique(what: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"two {what} are called '{twice[0]}'", got=twice[0], advice="give each its own name"
        )


def _is_convex(vertices: Sequence[Point]) -> bool:
    """Return whether all corners turn the same way (or not at all) and the area is not zero."""
    turns = []
    for i, (x, y) in enumerate(vertices):
        (x0, y0), (x1, y1) = vertices[i - 1], vertices[(i + 1) % len(vertices)]
        turns.append((x - x0) * (y1 - y) - (y - y0) * (x1 - x))
    return any(turns) and (min(turns) >= 0 or max(turns) <= 0)
