"""Screens as images: their colours, grids of them, legends; PNG and GIF files.

A screen pixel is drawn as a whole number of image pixels, so that single ones can be seen.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from wmplay.contracts import Array
from wmplay.report.colours import INK, ORANGE, PAPER, QUIET, RED, SKY, Rgb, rgb
from wmplay.report.style import font

WIDTH = 960  # of moving pictures; still ones have twice as many pixels
MARGIN = 12
GAP = 12
BORDER = 4
LABELS = 92  # width of the column with the names of the rows
WORDS = 300  # room next to the labels for a line of text, however narrow the screens
MILLISECONDS = 200  # per frame: half the speed of a world with 10 frames per second
LAST_MILLISECONDS = 1400

DIFFERENCES = ((INK, "both lit"), (ORANGE, "missed"), (SKY, "false"))

# From observations to colours ---------------------------------------------------------------------------


def is_binary(frames: Array) -> bool:
    """Return whether frames [..., H, W] are a screen of zeros and ones, or of probabilities."""
    screen = frames.dtype.kind == "f" or frames.dtype == np.uint8
    return screen and (frames.size == 0 or bool(frames.max() <= 1))


def paint(frame: Array, *, binary: bool) -> Array:
    """Return a frame as [H, W, 3] uint8: a binary screen's probability from paper to ink, an image
    unchanged. Of a binary screen with channels, the largest probability of each pixel."""
    if binary:
        return _blend(np.clip(_flat(frame).astype(np.float32), 0, 1), rgb(INK))
    if frame.ndim == 3:
        return np.broadcast_to(np.clip(frame, 0, 255).astype(np.uint8), (*frame.shape[:2], 3))
    return np.repeat(np.clip(frame, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def paint_difference(truth: Array, prediction: Array, *, binary: bool) -> Array:
    """Return the difference of two frames as [H, W, 3] uint8.

    Of binary screens, pixels that are lit in both, missed, or false have three colours; of images, the error
    is red.
    """
    if not binary:
        away = np.abs(truth.astype(np.float32) - prediction.astype(np.float32)) / 255
        return _blend(np.clip(2 * (away.mean(-1) if away.ndim == 3 else away), 0, 1), rgb(RED))
    lit, guessed = _flat(truth) > 0, _flat(prediction) > 0.5
    picture = np.full((*lit.shape, 3), rgb(PAPER), dtype=np.uint8)
    for where, (colour, _) in zip((lit & guessed, lit & ~guessed, ~lit & guessed), DIFFERENCES, strict=True):
        picture[where] = rgb(colour)
    return picture


def paint_goal(frame: Array, goal: Array | None) -> Array:
    """Return a binary screen with its goal beneath, or any other frame alone, as [H, W, 3] uint8."""
    if not is_binary(frame):
        return paint(frame, binary=False)
    picture = paint(frame, binary=True)
    if goal is not None:
        picture[(_flat(goal) > 0) & (_flat(frame) <= 0.5)] = rgb(ORANGE)
    return picture


def _flat(screen: Array) -> Array:
    """Return a screen [H, W] or [H, W, C] as [H, W]."""
    return screen.max(-1) if screen.ndim == 3 else screen


def _blend(amount: Array, colour: Rgb) -> Array:
    paper = np.array(rgb(PAPER), dtype=np.float32)
    return np.round(paper + amount[..., None] * (np.array(colour) - paper)).astype(np.uint8)


# Drawing ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One screen in a picture."""

    pixels: Array  # [H, W, 3] uint8
    border: str  # colour


def columns_for(count: int, height: int, width: int) -> int:
    """Return the number of screens in a row that are still large: two if wide with many pixels, else
    three."""
    return min(count, 3 if width < 48 or width <= height else 2)


def pitch(width: int) -> int:
    """Return the distance between the left edges of two neighbouring cells, in pixels."""
    return width + 2 * BORDER + GAP


def grid(
    columns: Sequence[Sequence[Cell]],
    scale: int,
    *,
    top: int,
    bottom: int,
    text: int,
    labels: int = LABELS,
    names: Sequence[str],
) -> Image.Image:
    """Draw columns of cells with the rows' names at the left, and margins at the top and bottom."""
    height, width = (scale * size for size in columns[0][0].pixels.shape[:2])
    canvas = Image.new(
        "RGB",
        (
            labels + max(len(columns) * pitch(width) - GAP, WORDS) + MARGIN,
            top + len(names) * pitch(height) - GAP + bottom,
        ),
        PAPER,
    )
    draw = ImageDraw.Draw(canvas)
    for i, column in enumerate(columns):
        for j, cell in enumerate(column):
            x, y = labels + i * pitch(width), top + j * pitch(height)
            corner = (x + width + 2 * BORDER - 1, y + height + 2 * BORDER - 1)
            draw.rectangle((x, y, *corner), fill=cell.border)
            big = np.repeat(np.repeat(cell.pixels, scale, axis=0), scale, axis=1)
            canvas.paste(Image.fromarray(big), (x + BORDER, y + BORDER))
    for j, name in enumerate(names):
        middle = top + j * pitch(height) + BORDER + height // 2
        draw.text((labels - MARGIN // 2, middle), name, fill=QUIET, font=font(text), anchor="rm")
    return canvas


def legend(draw: ImageDraw.ImageDraw, x: int, y: int, entries: Sequence[tuple[str, str]], size: int) -> None:
    """Draw coloured squares with their meaning."""
    for colour, text in entries:
        draw.rectangle((x, y + 2, x + size - 2, y + size), fill=colour)
        draw.text((x + size + 4, y), text, fill=QUIET, font=font(size))
        x += size + 24 + int(font(size).getlength(text))


def stack(pictures: Sequence[Image.Image]) -> Image.Image:
    """Return one image with the given images below each other."""
    canvas = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), PAPER)
    y = 0
    for picture in pictures:
        canvas.paste(picture, (0, y))
        y += picture.height
    return canvas


def png(picture: Image.Image) -> bytes:
    """Return an image as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def gif(frames: Sequence[Image.Image]) -> bytes:
    """Return frames as an endless GIF that rests on its last one."""
    small = [frame.quantize(128, dither=Image.Dither.NONE) for frame in frames]
    buffer = io.BytesIO()
    small[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=small[1:],
        duration=[MILLISECONDS] * (len(small) - 1) + [LAST_MILLISECONDS],
        loop=0,
        optimize=False,
    )
    return buffer.getvalue()
