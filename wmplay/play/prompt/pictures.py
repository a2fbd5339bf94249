"""Frames out of a picture file: a moving one, or a strip of frames next to each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from wmplay.contracts import Array
from wmplay.errors import DataError
from wmplay.play.game.screen import Shown

DARK, LIGHT = 64, 191  # brightest dark and darkest light value of a binary screen's pixels, of 0 .. 255
GREY = 48  # largest difference of a pixel's red, green and blue that still counts as grey
MOST = 1000  # frames of a picture


def read_frames(path: Path, shown: Shown) -> Array:
    """Return the frames of a picture as the env would show them, [F, *shape] uint8.

    Each image of the file is a strip of one or more frames from left to right. Frames have the screen's size,
    or are a whole number of times larger. Pixels of a binary screen are dark or light, and the rarer of the
    two are lit.

    Raises:
        DataError: if the file is no picture, or if its size or its colours are not those of the screen.
    """
    frames: list[Array] = []
    try:
        with Image.open(path) as file:
            for image in ImageSequence.Iterator(file):
                frames += _cut(path, _on_white(image), shown)
                if len(frames) > MOST:
                    raise DataError(f"{path} has more than {MOST} frames", advice="cut it")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        why = getattr(error, "strerror", None) or "it is no picture that can be read"
        raise DataError(f"cannot read {path} ({why})", expected="a GIF or PNG, a case or a store") from error
    pixels = np.stack(frames)
    if shown.binary:
        return _lit(path, pixels)
    return pixels if shown.size[2] == 3 else _grey(path, pixels)


def _on_white(image: Image.Image) -> Array:
    """Return an image as uint8 [h, w, 3], with white behind what is transparent."""
    whole = image.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB"))


def _cut(path: Path, strip: Array, shown: Shown) -> list[Array]:
    """Return the frames of a strip, from left to right, at the screen's size."""
    height, width, _ = shown.size
    times, uneven = divmod(strip.shape[0], height)
    if uneven or times == 0 or strip.shape[1] % (times * width):
        raise DataError(
            f"{path} is {strip.shape[1]} x {strip.shape[0]} pixels",
            got=[strip.shape[1], strip.shape[0]],
            expected=f"frames of {width} x {height} pixels from left to right, or a whole multiple of this",
        )
    middle = times // 2
    small = strip[middle::times, middle::times]
    return np.split(small, small.shape[1] // width, axis=1)


def _lit(path: Path, pixels: Array) -> Array:
    """Return frames [F, h, w, 3] as a binary screen [F, h, w] of 0 and 1."""
    brightness = _grey(path, pixels)[..., 0]
    unclear = (brightness > DARK) & (brightness < LIGHT)
    if unclear.any():
        _refuse(path, pixels, unclear)
    dark: Array = brightness <= DARK
    lit: Array = dark if dark.mean() <= 0.5 else ~dark
    return lit.astype(np.uint8)


def _grey(path: Path, pixels: Array) -> Array:
    """Return frames [F, h, w, 3] without colours as [F, h, w, 1]."""
    coloured = np.ptp(pixels.astype(np.int16), axis=-1) > GREY
    if coloured.any():
        _refuse(path, pixels, coloured)
    grey: Array = pixels.mean(-1, keepdims=True).round().astype(np.uint8)
    return grey


def _refuse(path: Path, pixels: Array, where: Array) -> None:
    """Raise DataError for the first of the pixels [F, h, w] that are True."""
    frame, y, x = (int(each) for each in np.argwhere(where)[0])
    red, green, blue = pixels[frame, y, x]
    raise DataError(
        f"{path}: pixel ({x}, {y}) of frame {frame} is #{red:02x}{green:02x}{blue:02x}",
        got=[int(red), int(green), int(blue)],
        expected="a dark or a light grey, as this world's screen has no colours",
    )
