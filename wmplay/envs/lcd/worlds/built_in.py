"""The built-in worlds: those of the original testbed (boxLCD, Wilson 2021), with its sizes and
clocks, worlds in which something happens out of sight, and worlds with ramps and inner walls."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wmplay.envs.lcd.worlds import robots
from wmplay.envs.lcd.worlds.world import (
    MEETS_WALLS,
    Circle,
    Object,
    Occluder,
    Polygon,
    Robot,
    Shape,
    Static,
    World,
    box,
)

HEIGHT = 5.0


def _bouncer(number: int, *shapes: Shape) -> Object:
    return Object(f"object_{number}", shapes, density=0.1, restitution=0.8)


def _cube(number: int) -> Object:
    return Object(f"cube_{number}", (box(0.4, 0.4),), density=0.5, linear_damping=1.0, angular_damping=0.2)


def _ball(number: int) -> Object:
    return Object(f"ball_{number}", (Circle(0.5),), density=0.2, restitution=0.8)


def _passive(steps: int, *objects: Object) -> World:
    return World(width=HEIGHT, height=HEIGHT, objects=objects, steps=steps)


def _with_objects(robot: Robot, aspect: float, steps: int, *objects: Object) -> World:
    return World(width=aspect * HEIGHT, height=HEIGHT, robots=(robot,), objects=objects, steps=steps)


def _large(robot: Robot, *objects: Object) -> World:
    return World(width=2 * HEIGHT, height=HEIGHT, robots=(robot,), objects=objects, lcd_height=32)


def _behind() -> World:
    """Return a world of two weightless bodies that pass behind a curtain in the middle."""
    shapes = (Circle(0.4), Circle(0.7), box(0.4, 0.4))
    objects = (
        Object(
            f"object_{i}",
            shapes,
            density=0.1,
            friction=0.0,
            restitution=1.0,
            mask=MEETS_WALLS,
            random_angle=False,
            speed=(2.0, 5.0),
        )
        for i in range(2)
    )
    curtain = Occluder(box(1.6, HEIGHT / 2), (HEIGHT, HEIGHT / 2))
    return World(gravity=(0.0, 0.0), objects=tuple(objects), occluders=(curtain,), steps=50)


def _hidden_floor() -> World:
    """Return a world of a ball that bounces on a floor behind a curtain."""
    ball = Object("object_0", (Circle(0.4),), density=0.1, friction=0.0, restitution=0.95, speed=(0.0, 1.5))
    return World(height=10.0, objects=(ball,), occluders=(Occluder(box(5.0, 1.5), (5.0, 1.5)),), steps=50)


def _ramp() -> World:
    """Return a world of a ball that rolls down a ramp towards a low wall."""
    ball = Object("ball_0", (Circle(0.4),), density=0.2, restitution=0.5, x=(0.5, 2.0), y=(2.5, 4.5))
    ramp, wall = Polygon(((0, 0), (3, 0), (0, 1.8))), box(0.1, 0.5)
    return World(width=HEIGHT, objects=(ball,), statics=(Static(ramp), Static(wall, (4.2, 0.5))), steps=50)


def _walls() -> World:
    """Return a world of two balls between inner walls."""
    balls = (
        Object(f"ball_{i}", (Circle(0.4),), density=0.2, restitution=0.8, x=x, y=(3.2, 4.5), speed=(0.0, 3.0))
        for i, x in enumerate(((0.5, 2.0), (3.0, 4.5)))
    )
    walls = (
        Static(box(0.1, 0.9), (2.5, 0.9)),
        Static(box(0.8, 0.1), (0.8, 2.2)),
        Static(box(0.8, 0.1), (4.2, 1.2)),
    )
    return World(width=HEIGHT, objects=tuple(balls), statics=walls, steps=50)


def _luxo_ramps() -> World:
    """Return Luxo's world with a ramp on the left and a low wall on the right."""
    statics = Static(Polygon(((0, 0), (1.2, 0), (0, 0.6)))), Static(box(0.1, 0.3), (9.2, 0.3))
    return World(robots=(robots.luxo(),), statics=statics)


def _luxo_hall() -> World:
    """Return a long hall with a hump every 10 m, in which the view follows Luxo."""
    hump = Polygon(((-1, 0), (1, 0), (0, 0.4)))
    humps = (Static(hump, (10.0 * i, 0.0)) for i in range(-5, 7))
    return World(robots=(robots.luxo(),), statics=tuple(humps), walls=False, steps=150)


def _worlds() -> dict[str, World]:
    either = (Circle(0.5), box(0.5, 0.5))
    worlds = {
        "dropbox": _passive(25, Object("object_0", (box(0.7, 0.7),), density=0.1)),
        "bounce": _passive(50, _bouncer(0, Circle(0.5))),
        "bounce2": _passive(50, *(_bouncer(i, Circle(0.5)) for i in range(2))),
        "object2": _passive(50, *(_bouncer(i, *either) for i in range(2))),
        "object3": _passive(50, *(_bouncer(i, *either) for i in range(3))),
        "behind": _behind(),
        "hidden_floor": _hidden_floor(),
        "ramp": _ramp(),
        "walls": _walls(),
        "luxo_ramps": _luxo_ramps(),
        "luxo_hall": _luxo_hall(),
    }
    for name, robot in (("urchin", robots.urchin()), ("luxo", robots.luxo())):
        worlds[name] = _with_objects(robot, 2.0, 100)
        for kind, make in (("cube", _cube), ("ball", _ball)):
            worlds[f"{name}_{kind}"] = _with_objects(robot, 1.5, 150, make(0))
            worlds[f"{name}_{kind}s"] = _with_objects(robot, 2.0, 100, *(make(i) for i in range(3)))
    worlds["crab"] = _large(robots.crab())
    worlds["crab_cube"] = _large(robots.crab(), Object("cube_0", (box(0.4, 0.4),), friction=1.0))
    small_cube = Object("cube_0", (box(0.3, 0.3),), density=0.1, friction=1.0)
    worlds["spider_cube"] = _large(robots.spider(), small_cube)
    return worlds


WORLDS: Mapping[str, World] = _worlds()
ROBOTS: Mapping[str, Callable[[], Robot]] = {
    "urchin": robots.urchin,
    "luxo": robots.luxo,
    "crab": robots.crab,
    "spider": robots.spider,
}
