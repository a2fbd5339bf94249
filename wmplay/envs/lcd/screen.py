"""The binary screen: all bodies of all envs at once, as spans of lit columns per row.

As in the original testbed, which drew with Pillow's ImageDraw, corners are truncated to whole pixels, a
polygon lights in each row the columns between its outermost crossings with that row's line, and a disc is an
ellipse that fits the pixels of its bounding box. The crossings of polygons are rounded in one of two ways:

- ``outwards``: away from the polygon's inside, so that thin limbs never break up (Luxo lights 9% more pixels
  than in the original, Urchin 13%);
- ``original``: to the nearest column, and a pointed corner grows towards the row next to it. These are the
  pixels of Pillow 13; the testbed's Pillow 9 differs from 13 by .6% of the lit pixels.

A span becomes a word of bits, the words of a row are ORed over the bodies, and the bits are unpacked into
pixels at the end, so that a body costs a few machine words per row.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from wmplay.envs.lcd.worlds.world import Circle, Occluder, Polygon, Shape, Static, World
from wmplay.errors import UnknownName
from wmplay.system.arrays import Array

Rounding: TypeAlias = Literal["outwards", "original"]

ROUNDINGS = ("outwards", "original")
WORD = 64
# _BELOW[k] has the bits 0 .. k-1: the span [a, b) of a word is _BELOW[b] & ~_BELOW[a], empty if b <= a.
_BELOW = np.array([(1 << k) - 1 for k in range(WORD + 1)], "<u8")
# A disc lights pixels within its box's half-size + 0.4 pixels, which is nearest to Pillow's small ellipses.
_ROUNDING = 0.8


class Screen:
    """A renderer of poses of one world's bodies. It holds no state: the same poses give the same pixels.

    Args:
        world: the bodies' shapes, and the size of the screen.
        rounding: of a polygon's crossings, "outwards" or "original" (see above).

    Raises:
        UnknownName: for another rounding.
    """

    def __init__(self, world: World, rounding: Rounding = "outwards") -> None:
        if rounding not in ROUNDINGS:
            raise UnknownName("screen", rounding, ROUNDINGS)
        self.shape = (world.lcd_height, world.lcd_width)
        self._scale = world.pixels_per_metre
        self._scrolls = not world.walls
        self._root = len(world.objects)  # the body the view follows
        self._width, self._moving = world.width, len(world.bodies)
        fixed: tuple[Static | Occluder, ...] = (*world.statics, *world.occluders)
        statics = [(s.shape, (*s.position, s.angle)) for s in fixed]
        self._static_pose = np.array([pose for _, pose in statics]).reshape(len(statics), 3)
        shapes = [*world.shapes, *((shape,) for shape, _ in statics)]
        drawn = [(body, i, shape) for body, options in enumerate(shapes) for i, shape in enumerate(options)]
        self._polygons = _Polygons(drawn, self._scale, rounding)
        self._circles = _Circles(drawn, self._scale)
        self._varies = any(len(options) > 1 for options in shapes)
        # Row 0 is the top of the picture, y = 0 its bottom. All below is [H, shapes, N]: long inner axes.
        self._rows = np.arange(world.lcd_height - 1, -1, -1, dtype=np.float32)[:, None, None]

    def draw(self, pose: Array, shape: Array, size: Array | None = None) -> Array:
        """Draw the screens of N worlds.

        Args:
            pose: [N, bodies, 3], x, y and angle.
            shape: [N, bodies], the index of each body's shape.
            size: [N], the factor of all lengths of moving bodies, 1 by default.

        Returns:
            [N, H, W] uint8, 1 where a body is.
        """
        pose, shape = self._with_statics(pose, shape)
        drawn = [layer for layer in (self._polygons, self._circles) if layer.count]
        layers = [layer.spans(pose, self._rows, self._sizes(layer.body, size)) for layer in drawn]
        first = np.concatenate([first for first, _ in layers], axis=1)  # [H, shapes, N]
        last = np.concatenate([last for _, last in layers], axis=1)
        if self._varies:
            body = np.concatenate([self._polygons.body, self._circles.body])
            option = np.concatenate([self._polygons.option, self._circles.option])
            last[:, (shape[:, body] != option).T] = -1
        return self._lit(first, last)

    def _sizes(self, body: Array, size: Array | None) -> Array | float:
        """Return the factor [shapes, N] of the lengths of the bodies [shapes] that are drawn."""
        return 1.0 if size is None else np.where((body < self._moving)[:, None], size, 1.0)

    def _with_statics(self, pose: Array, shape: Array) -> tuple[Array, Array]:
        rows, count = len(pose), len(self._static_pose)
        if count:
            pose = np.concatenate([pose, np.broadcast_to(self._static_pose, (rows, count, 3))], axis=1)
            shape = np.concatenate([shape, np.zeros((rows, count), shape.dtype)], axis=1)
        if self._scrolls:
            pose = pose.copy()
            pose[:, :, 0] -= pose[:, self._root, 0, None] - self._width / 2
        return pose, shape

    def _lit(self, first: Array, last: Array) -> Array:
        """Return pixels [N, H, W] from the spans' first and last columns [H, shapes, N]."""
        width = self.shape[1]
        words = []
        for offset in range(0, width, WORD):
            columns = min(WORD, width - offset)
            begin = (first - offset).clip(0, columns).astype(np.intp)
            end = (last + (1 - offset)).clip(0, columns).astype(np.intp)
            words.append(np.bitwise_or.reduce(_BELOW.take(end) & ~_BELOW.take(begin), axis=1).T)
        packed = np.stack(words, axis=-1).view(np.uint8)
        return np.unpackbits(packed, axis=-1, count=width, bitorder="little")


class _Polygons:
    """All polygons of a world, padded to the same number of corners by repeating the last."""

    def __init__(self, drawn: list[tuple[int, int, Shape]], scale: float, rounding: Rounding) -> None:
        mine = [(body, option, s.vertices) for body, option, s in drawn if isinstance(s, Polygon)]
        self.count = len(mine)
        self.body = np.array([body for body, _, _ in mine], np.intp)
        self.option = np.array([option for _, option, _ in mine], np.intp)
        corners = max((len(v) for _, _, v in mine), default=0)
        padded = [(*v, *[v[-1]] * (corners - len(v))) for _, _, v in mine]
        local = np.array(padded, np.float64).reshape(len(mine), corners, 2) * scale
        self._x, self._y = local[:, :, 0].T[:, :, None].copy(), local[:, :, 1].T[:, :, None].copy()
        self._scale = scale
        self._outwards = rounding == "outwards"

    def spans(self, pose: Array, rows: Array, size: Array | float) -> tuple[Array, Array]:
        """Return the first and last lit column, [H, polygons, N] each; no column if last < first."""
        x, y, angle = (np.ascontiguousarray(pose[:, self.body, i].T) for i in range(3))  # [polygons, N]
        cos, sin = np.cos(angle), np.sin(angle)
        local_x, local_y = self._x * size, self._y * size
        corner_x = np.trunc(x * self._scale + cos * local_x - sin * local_y).astype(np.float32)
        corner_y = np.trunc(y * self._scale + sin * local_x + cos * local_y).astype(np.float32)
        left = np.full((len(rows), *x.shape), np.inf, np.float32)
        right = np.full_like(left, -np.inf)
        for i in range(len(corner_x)):  # the edge from corner i - 1 to corner i
            rise = corner_y[i] - corner_y[i - 1]
            slope = (corner_x[i] - corner_x[i - 1]) / np.where(rise == 0, 1, rise)
            up = rows - corner_y[i - 1]
            crossing = up * slope + corner_x[i - 1]
            meets = up * (up - rise) <= 0  # the row is between the edge's ends
            np.minimum(left, np.where(meets, crossing, np.inf), out=left)
            np.maximum(right, np.where(meets, crossing, -np.inf), out=right)
        if self._outwards:
            return np.floor(left), np.ceil(right)
        for end, inwards in ((corner_y.min(0), 1), (corner_y.max(0), -1)):
            _grow_tip(left, right, rows, corner_x, corner_y, end, inwards)
        return _nearest(left), np.copysign(
            np.ceil(np.abs(right) - 0.5), right
        )  # of two equally near, the inner


def _grow_tip(
    left: Array, right: Array, rows: Array, corner_x: Array, corner_y: Array, end: Array, inwards: int
) -> None:
    """Let a polygon's pointed end, a single corner, grow up to the span of the row next to it.

    Args:
        left: [H, polygons, N] crossings, changed in place, as is ``right``.
        right: see ``left``.
        rows: [H, 1, 1] the rows' y.
        corner_x: [corners, polygons, N] in whole pixels, as is ``corner_y``.
        corner_y: see ``corner_x``.
        end: [polygons, N] the y of the polygons' first or last row.
        inwards: +1 or -1, from that row to the one next to it.
    """
    before_x, before_y = np.roll(corner_x, 1, 0), np.roll(corner_y, 1, 0)
    rise, run = corner_y - before_y, corner_x - before_x
    meets = (rise != 0) & ((corner_y == end) | (before_y == end))  # edges that begin or end in that row
    tip = np.where(corner_y == end, corner_x, before_x)
    following = tip + inwards * run / np.where(rise == 0, 1, rise)
    first, last = np.where(meets, tip, np.inf).min(0), np.where(meets, tip, -np.inf).max(0)
    next_first = np.where(meets, following, np.inf).min(0)
    next_last = np.where(meets, following, -np.inf).max(0)
    pointed = (rows == end) & (first == last) & ~(meets & (run == 0)).any(0)
    np.copyto(left, _nearest(next_last) + 1, where=pointed & (first > next_last + 1))
    np.copyto(right, _nearest(next_first) - 1, where=pointed & (first < next_first - 1))


def _nearest(x: Array) -> Array:
    """Return the nearest whole numbers; halves are rounded away from 0."""
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


class _Circles:
    """All discs of a world."""

    def __init__(self, drawn: list[tuple[int, int, Shape]], scale: float) -> None:
        mine = [(body, option, s.radius) for body, option, s in drawn if isinstance(s, Circle)]
        self.count = len(mine)
        self.body = np.array([body for body, _, _ in mine], np.intp)
        self.option = np.array([option for _, option, _ in mine], np.intp)
        self._radius = np.array([radius for _, _, radius in mine])[:, None]
        self._scale = scale

    def spans(self, pose: Array, rows: Array, size: Array | float) -> tuple[Array, Array]:
        """Return the first and last lit column, [H, circles, N] each; no column if last < first."""
        x, y = pose[:, self.body, 0].T, pose[:, self.body, 1].T  # [circles, N]
        radius = self._radius * size
        left, right, bottom, top = (
            np.trunc(edge * self._scale).astype(np.float32)
            for edge in (x - radius, x + radius, y - radius, y + radius)
        )
        across = (2 * rows - bottom - top) / (top - bottom + _ROUNDING)
        # Pixel i of a row is lit if |2 i - left - right| <= reach.
        reach = np.sqrt(np.maximum(1 - across * across, 0)) * (right - left + _ROUNDING)
        first = np.ceil((left + right - reach) / 2)
        last = np.where((rows >= bottom) & (rows <= top), left + right - first, -1)
        return first, last
