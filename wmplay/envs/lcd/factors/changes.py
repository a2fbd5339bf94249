"""Changes of a world by one factor each; the factors that act on the physics, and on colours."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import replace

from wmplay.envs.lcd.worlds.world import Body, Circle, Joint, Object, Polygon, Robot, Shape, World


def gravity(world: World, value: float) -> World:
    """Return a world with this gravity downwards, in m/s^2."""
    return replace(world, gravity=(world.gravity[0], -value))


def friction(world: World, value: float) -> World:
    """Return a world in which the friction of each moving body is multiplied."""
    return _each(
        world,
        lambda item: replace(item, friction=item.friction * value),
        lambda body: replace(body, friction=body.friction * value),
    )


def restitution(world: World, value: float) -> World:
    """Return a world in which each moving body has this restitution."""
    return _each(
        world, lambda item: replace(item, restitution=value), lambda body: replace(body, restitution=value)
    )


def mass(world: World, value: float) -> World:
    """Return a world in which the mass of each moving body is multiplied."""
    return _each(
        world,
        lambda item: replace(item, density=item.density * value),
        lambda body: replace(body, density=body.density * value),
    )


def size(world: World, value: float) -> World:
    """Return a world in which all lengths of the moving bodies are multiplied, at the same density."""
    changed = _each(
        world,
        lambda item: replace(item, shapes=tuple(_scaled(shape, value) for shape in item.shapes)),
        lambda body: replace(body, shape=_scaled(body.shape, value)),
    )

    def robot(robot: Robot) -> Robot:
        joints = tuple(_stretched(joint, value) for joint in robot.joints)
        return replace(robot, joints=joints, margin=robot.margin * value)

    return replace(changed, robots=tuple(map(robot, changed.robots)))


def motor(world: World, value: float) -> World:
    """Return a world in which the speed and the torque of each motor are multiplied."""

    def robot(robot: Robot) -> Robot:
        joints = (replace(j, speed=j.speed * value, torque=j.torque * value) for j in robot.joints)
        return replace(robot, joints=tuple(joints))

    return replace(world, robots=tuple(map(robot, world.robots)))


def hue(world: World, value: float) -> World:
    """Return a world in which the colours of the moving bodies are turned, by a part of the whole circle."""
    return _each(
        world,
        lambda item: replace(item, color=_turned(item.color, value)),
        lambda body: replace(body, color=_turned(body.color, value)),
    )


def _each(world: World, item: Callable[[Object], Object], body: Callable[[Body], Body]) -> World:
    robots = (replace(r, root=body(r.root), parts=tuple(map(body, r.parts))) for r in world.robots)
    return replace(world, objects=tuple(map(item, world.objects)), robots=tuple(robots))


def _scaled(shape: Shape, factor: float) -> Shape:
    if isinstance(shape, Circle):
        return Circle(shape.radius * factor)
    return Polygon(tuple((x * factor, y * factor) for x, y in shape.vertices))


def _stretched(joint: Joint, factor: float) -> Joint:
    parent, child = ((x * factor, y * factor) for x, y in (joint.parent_anchor, joint.child_anchor))
    return replace(joint, parent_anchor=parent, child_anchor=child)


def _turned(color: str, part: float) -> str:
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    turn, light, saturation = colorsys.rgb_to_hls(red, green, blue)
    turned = colorsys.hls_to_rgb((turn + part) % 1, light, saturation)
    return "#" + "".join(f"{round(255 * each):02x}" for each in turned)
