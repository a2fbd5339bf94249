"""Large images of a world for people: coloured and antialiased, with goal and hazard as outlines."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageDraw

from wmplay.envs.lcd.batch import Batch
from wmplay.envs.lcd.tasks import Region
from wmplay.envs.lcd.worlds.world import Circle, Shape, World, box
from wmplay.errors import ConfigError
from wmplay.system.arrays import Array

Pose: TypeAlias = tuple[float, float, float]

PIXELS_PER_METRE = 48
OVERSAMPLE = 3  # factor by which the image is drawn larger, then averaged down
GOAL_COLOR = "#2b8a3e"
HAZARD_COLOR = "#c92a2a"
FLOOR_COLOR = "#adb5bd"


def paint(batch: Batch, row: int) -> Array:
    """Return an image of one of the batch's worlds: [height, width, 3] uint8 at 48 pixels per metre."""
    world = batch.world_of(row)
    canvas = _Canvas(world, _view_left(world, batch.pose[row]))
    canvas.floor()
    for static in world.statics:
        canvas.solid(static.shape, (*static.position, static.angle), static.color)
    shapes = [options[i] for options, i in zip(world.shapes, batch.shape[row], strict=True)]
    for i in _painting_order(world):
        canvas.solid(shapes[i], tuple(batch.pose[row, i]), world.bodies[i].color)
    for occluder in world.occluders:
        canvas.solid(occluder.shape, (*occluder.position, occluder.angle), occluder.color)
    if batch.task is not None:
        for i in batch.task.goal_bodies:
            canvas.outline(shapes[i], tuple(batch.goal_pose[row, i]), GOAL_COLOR)
        if batch.task.hazard is not None:
            canvas.outline(*_frame(batch.task.hazard), HAZARD_COLOR)
    return canvas.finish()


def _frame(region: Region) -> tuple[Shape, Pose]:
    """Return a region as a shape and its pose."""
    width, height = region.right - region.left, region.top - region.bottom
    return box(width / 2, height / 2), (region.left + width / 2, region.bottom + height / 2, 0.0)


def _painting_order(world: World) -> list[int]:
    """Return objects, then each robot from its last part to its root, so that joints lie under their
    parents."""
    order = list(range(len(world.objects)))
    start = len(order)
    for robot in world.robots:
        order += range(start + len(robot.bodies) - 1, start - 1, -1)
        start += len(robot.bodies)
    return order


def _view_left(world: World, pose: Array) -> float:
    return 0.0 if world.walls else float(pose[len(world.objects), 0]) - world.width / 2


class _Canvas:
    def __init__(self, world: World, left: float) -> None:
        self._scale = PIXELS_PER_METRE * OVERSAMPLE
        self._left, self._height = left, world.height
        self._size = round(world.width * PIXELS_PER_METRE), round(world.height * PIXELS_PER_METRE)
        large = self._size[0] * OVERSAMPLE, self._size[1] * OVERSAMPLE
        self._image = Image.new("RGB", large, world.background)
        self._draw = ImageDraw.Draw(self._image)

    def floor(self) -> None:
        width, height = self._image.size
        self._draw.rectangle((0, height - self._scale // 16, width, height), fill=FLOOR_COLOR)

    def solid(self, shape: Shape, pose: Pose, color: str) -> None:
        edge = _darker(color)
        width = self._scale // 32
        if isinstance(shape, Circle):
            self._draw.ellipse(self._bounds(shape, pose), fill=color, outline=edge, width=width)
            self._draw.line(self._spoke(shape, pose), fill=edge, width=width)
        else:
            corners = self._corners(shape.vertices, pose)
            self._draw.polygon(corners, fill=color)
            self._draw.line([*corners, *corners[:2]], fill=edge, width=width, joint="curve")

    def outline(self, shape: Shape, pose: Pose, color: str) -> None:
        width = self._scale // 24
        if isinstance(shape, Circle):
            self._draw.ellipse(self._bounds(shape, pose), outline=color, width=width)
        else:
            corners = self._corners(shape.vertices, pose)
            self._draw.line([*corners, *corners[:2]], fill=color, width=width, joint="curve")

    def finish(self) -> Array:
        return np.array(self._image.resize(self._size, Image.Resampling.BOX))

    def _pixel(self, x: float, y: float) -> tuple[float, float]:
        return (x - self._left) * self._scale, (self._height - y) * self._scale

    def _corners(self, vertices: Any, pose: Pose) -> list[tuple[float, float]]:
        x, y, angle = pose
        cos, sin = math.cos(angle), math.sin(angle)
        return [self._pixel(x + cos * vx - sin * vy, y + sin * vx + cos * vy) for vx, vy in vertices]

    def _bounds(self, circle: Circle, pose: Pose) -> tuple[float, float, float, float]:
        x, y, r = pose[0], pose[1], circle.radius
        return (*self._pixel(x - r, y + r), *self._pixel(x + r, y - r))

    def _spoke(self, circle: Circle, pose: Pose) -> list[tuple[float, float]]:
        """Return a line from the centre to the rim, which shows a disc's angle."""
        x, y, angle = pose
        rim = x + circle.radius * math.cos(angle), y + circle.radius * math.sin(angle)
        return [self._pixel(x, y), self._pixel(*rim)]


def _darker(color: str) -> str:
    parts = (round(0.7 * int(color[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{part:02x}" for part in parts)


class Window:
    """A window that shows images at the world's own speed.

    Raises:
        ConfigError: without pygame or without a display.
    """

    def __init__(self, world: World) -> None:
        try:
            import pygame
        except ImportError:
            raise ConfigError(
                "render_mode 'human' needs pygame: pip install 'wmplay[human]', or use 'rgb_array'",
                got="human",
            ) from None
        self._pygame = pygame
        size = round(world.width * PIXELS_PER_METRE), round(world.height * PIXELS_PER_METRE)
        try:
            pygame.display.init()
            self._surface = pygame.display.set_mode(size)
        except pygame.error as error:
            raise ConfigError(
                f"render_mode 'human' needs a display ({error})", got="human", advice="use 'rgb_array'"
            ) from None
        pygame.display.set_caption("wmplay")
        self._clock, self._fps = pygame.time.Clock(), world.fps

    def show(self, picture: Array) -> None:
        """Show one image [height, width, 3], then wait until the next is due."""
        self._pygame.event.pump()
        self._pygame.surfarray.blit_array(self._surface, picture.transpose(1, 0, 2))
        self._pygame.display.flip()
        self._clock.tick(self._fps)

    def close(self) -> None:
        """Close the window."""
        self._pygame.display.quit()
