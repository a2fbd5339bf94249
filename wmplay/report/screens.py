"""Moving and still pictures of screens: truth, prediction and difference; episodes with their goal.

Everything is drawn at a whole number of picture pixels per screen pixel, so that single ones can be seen.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from wmplay.contracts import GOAL_PREFIX, Array, Trajectory
from wmplay.report.style import BLUE, GREEN, INK, ORANGE, PAPER, QUIET, RED, RULE, SKY, Rgb, font, rgb
from wmplay.report.words import counted
from wmplay.scores import selected_horizons
from wmplay.showcase import Clips

WIDTH = 960  # of moving pictures; still ones have twice as many pixels
MARGIN = 12
GAP = 12
BORDER = 4
LABELS = 92  # width of the column with the names of the rows
MILLISECONDS = 200  # per frame: half the speed of a world with 10 frames per second
LAST_MILLISECONDS = 1400

ROWS = ("truth", "prediction", "difference")
LEGEND = ((INK, "both lit"), (ORANGE, "missed"), (SKY, "false"))


def is_binary(frames: Array) -> bool:
    """Whether frames [..., H, W] are a screen of zeros and ones."""
    return frames.dtype == np.uint8 and (frames.size == 0 or int(frames.max()) <= 1)


def image_keys(clips: Clips) -> list[str]:
    """The keys of clips that can be shown: [N, T, H, W] or [N, T, H, W, C] with one or three channels."""
    return [k for k, v in clips.truth.items() if v.ndim == 4 or (v.ndim == 5 and v.shape[-1] in (1, 3))]


# From observations to colours ---------------------------------------------------------------------------


def paint(frame: Array, *, binary: bool) -> Array:
    """[H, W, 3] uint8: a binary screen's probability [H, W] from paper to ink, an image as it is."""
    if binary:
        return _blend(np.clip(frame.astype(np.float32), 0, 1), rgb(INK))
    if frame.ndim == 3:
        return np.broadcast_to(np.clip(frame, 0, 255).astype(np.uint8), (*frame.shape[:2], 3))
    return np.repeat(np.clip(frame, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def paint_difference(truth: Array, prediction: Array, *, binary: bool) -> Array:
    """[H, W, 3] uint8: of binary screens what is lit in both, missed, or false; else how far off, in red."""
    if not binary:
        away = np.abs(truth.astype(np.float32) - prediction.astype(np.float32)) / 255
        return _blend(np.clip(2 * (away.mean(-1) if away.ndim == 3 else away), 0, 1), rgb(RED))
    lit, guessed = truth > 0, prediction > 0.5
    picture = np.full((*truth.shape, 3), rgb(PAPER), dtype=np.uint8)
    for where, (colour, _) in zip((lit & guessed, lit & ~guessed, ~lit & guessed), LEGEND, strict=True):
        picture[where] = rgb(colour)
    return picture


def paint_goal(frame: Array, goal: Array | None) -> Array:
    """[H, W, 3] uint8: a screen with its goal beneath, where they are binary; else the frame alone."""
    if not is_binary(frame):
        return paint(frame, binary=False)
    picture = paint(frame, binary=True)
    if goal is not None:
        picture[(goal > 0) & (frame == 0)] = rgb(ORANGE)
    return picture


def _blend(amount: Array, colour: Rgb) -> Array:
    paper = np.array(rgb(PAPER), dtype=np.float32)
    return np.round(paper + amount[..., None] * (np.array(colour) - paper)).astype(np.uint8)


# Clips ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One screen in a picture."""

    pixels: Array  # [H, W, 3] uint8
    border: str  # colour


def clip_cells(clips: Clips, key: str, clip: int, t: int) -> list[Cell]:
    """Truth, prediction and difference of one clip at frame t of context + H; in the context, real frames."""
    truth = clips.truth[key][clip, t]
    binary = is_binary(clips.truth[key])
    real = paint(truth, binary=binary)
    if t < clips.context:
        blank = np.full_like(real, 240)
        return [Cell(real, GREEN), Cell(real, GREEN), Cell(blank, RULE)]
    guess = clips.prediction[key][clip, t - clips.context]
    difference = paint_difference(truth, guess, binary=binary)
    return [Cell(real, RULE), Cell(paint(guess, binary=binary), BLUE), Cell(difference, RULE)]


def clips_gif(clips: Clips, key: str) -> bytes:
    """Up to three clips side by side: rows truth, prediction, difference, with a timeline above."""
    count, total, height, width = clips.truth[key].shape[:4]
    columns = _columns(count, height, width)
    room = (WIDTH - LABELS - MARGIN) // columns - GAP - 2 * BORDER
    scale = max(1, min(room // width, 200 // height))
    binary = is_binary(clips.truth[key])
    frames = []
    for t in range(total):
        cells = [clip_cells(clips, key, clip, t) for clip in range(columns)]
        canvas = _grid(cells, scale, top=58, bottom=30 if binary else MARGIN, text=14)
        draw = ImageDraw.Draw(canvas)
        ahead = t - clips.context + 1
        if ahead <= 0:
            text, colour = f"context: real frame {t + 1} of {clips.context}", GREEN
        else:
            text, colour = f"predicted: step {ahead} of {total - clips.context}", BLUE
        draw.text((LABELS, 6), text, fill=colour, font=font(15, bold=True))
        _timeline(draw, (LABELS, 32, canvas.width - MARGIN, 46), t, clips.context, total)
        if binary:
            _legend(draw, LABELS, canvas.height - 24, LEGEND, 13)
        frames.append(canvas)
    return gif(frames)


def film_strip(clips: Clips, key: str) -> bytes:
    """A still of up to two clips: the context's frames, then selected horizons, as columns."""
    count, total, height, width = clips.truth[key].shape[:4]
    shown = [*range(max(0, clips.context - 3), clips.context)]
    shown += [clips.context - 1 + h for h in selected_horizons(total - clips.context)]
    margins = 2 * (LABELS + MARGIN)
    scale = max(1, ((2 * WIDTH - margins) // len(shown) - 2 * GAP - 2 * BORDER) // width)
    scale = max(1, min(scale, 240 // height))
    strips = []
    for clip in range(min(count, 2)):
        cells = [clip_cells(clips, key, clip, t) for t in shown]
        strip = _grid(cells, scale, top=56, bottom=16, text=24, labels=2 * LABELS)
        draw = ImageDraw.Draw(strip)
        for i, t in enumerate(shown):
            ahead = t - clips.context + 1
            centre = 2 * LABELS + i * _pitch(scale * width) + BORDER + scale * width // 2
            text = f"+{ahead}" if ahead > 0 else f"{ahead}"
            draw.text(
                (centre, 26), text, fill=BLUE if ahead > 0 else GREEN, font=font(24, bold=True), anchor="mm"
            )
        draw.text((MARGIN, 26), f"clip {clip + 1}", fill=QUIET, font=font(24), anchor="lm")
        strips.append(strip)
    return png(_stack(strips))


# Episodes ---------------------------------------------------------------------------------------------


def episodes_gif(episodes: Sequence[Trajectory]) -> bytes:
    """Up to three episodes side by side, the goal beneath; a border tells how each one ended."""
    key = next(key for key in episodes[0].observation if not key.startswith(GOAL_PREFIX))
    height, width = episodes[0].observation[key].shape[1:3]
    columns = _columns(len(episodes), height, width)
    scale = max(1, min(((WIDTH - 2 * MARGIN) // columns - GAP - 2 * BORDER) // width, 240 // height))
    goals = [episode.observation.get(GOAL_PREFIX + key) for episode in episodes]
    has_goal = goals[0] is not None
    frames = []
    for t in range(max(len(episode) for episode in episodes[:columns]) + 1):
        cells, captions = [], []
        for episode, goal in zip(episodes[:columns], goals, strict=False):
            now = min(t, len(episode))
            border, caption = _ending(episode, now, has_goal)
            frame = paint_goal(episode.observation[key][now], None if goal is None else goal[now])
            cells.append([Cell(frame, border)])
            captions.append((border if border != RULE else QUIET, caption))
        canvas = _grid(
            cells, scale, top=MARGIN, bottom=60 if has_goal else 34, text=14, labels=MARGIN, names=("",)
        )
        draw = ImageDraw.Draw(canvas)
        below = MARGIN + scale * height + 2 * BORDER + GAP
        for i, (colour, caption) in enumerate(captions):
            draw.text(
                (MARGIN + i * _pitch(scale * width), below), caption, fill=colour, font=font(14, bold=True)
            )
        if has_goal:
            _legend(draw, MARGIN, below + 24, ((INK, "now"), (ORANGE, "goal")), 13)
        frames.append(canvas)
    return gif(frames)


def _ending(episode: Trajectory, now: int, has_goal: bool) -> tuple[str, str]:
    """The border's colour and the caption of an episode at frame ``now``."""
    if now < len(episode):
        return RULE, f"step {now} of {len(episode)}"
    if not episode.terminated.any():
        return QUIET, f"out of time after {counted(len(episode), 'step')}"
    verb = "reached the goal" if has_goal else "ended"
    return GREEN, f"{verb} after {counted(len(episode), 'step')}"


# Drawing ----------------------------------------------------------------------------------------------


def _columns(count: int, height: int, width: int) -> int:
    """How many screens side by side are still large: two of the wide ones with many pixels, else three."""
    return min(count, 3 if width < 48 or width <= height else 2)


def _pitch(width: int) -> int:
    """From one cell's left edge to the next one's."""
    return width + 2 * BORDER + GAP


def _grid(
    columns: Sequence[Sequence[Cell]],
    scale: int,
    *,
    top: int,
    bottom: int,
    text: int,
    labels: int = LABELS,
    names: Sequence[str] = ROWS,
) -> Image.Image:
    """Columns of cells with the rows' names at the left, and room above and below."""
    height, width = (scale * size for size in columns[0][0].pixels.shape[:2])
    canvas = Image.new(
        "RGB",
        (
            labels + len(columns) * _pitch(width) - GAP + MARGIN,
            top + len(names) * _pitch(height) - GAP + bottom,
        ),
        PAPER,
    )
    draw = ImageDraw.Draw(canvas)
    for i, column in enumerate(columns):
        for j, cell in enumerate(column):
            x, y = labels + i * _pitch(width), top + j * _pitch(height)
            corner = (x + width + 2 * BORDER - 1, y + height + 2 * BORDER - 1)
            draw.rectangle((x, y, *corner), fill=cell.border)
            big = np.repeat(np.repeat(cell.pixels, scale, axis=0), scale, axis=1)
            canvas.paste(Image.fromarray(big), (x + BORDER, y + BORDER))
    for j, name in enumerate(names):
        middle = top + j * _pitch(height) + BORDER + height // 2
        draw.text((labels - MARGIN // 2, middle), name, fill=QUIET, font=font(text), anchor="rm")
    return canvas


def _timeline(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], t: int, context: int, total: int
) -> None:
    """A cell for each frame, green in the context and blue after it, filled up to now."""
    left, top, right, bottom = box
    edges = np.linspace(left, right, total + 1).round().astype(int)
    for i in range(total):
        colour = GREEN if i < context else BLUE
        inner = (int(edges[i]) + 1, top, int(edges[i + 1]) - 2, bottom)
        draw.rectangle(inner, fill=colour if i <= t else None, outline=colour)
    if context < total:
        x = int(edges[context]) - 1
        draw.line((x, top - 5, x, bottom + 5), fill=INK, width=2)


def _legend(draw: ImageDraw.ImageDraw, x: int, y: int, entries: Sequence[tuple[str, str]], size: int) -> None:
    """Coloured squares with their meaning."""
    for colour, text in entries:
        draw.rectangle((x, y + 2, x + size - 2, y + size), fill=colour)
        draw.text((x + size + 4, y), text, fill=QUIET, font=font(size))
        x += size + 24 + int(font(size).getlength(text))


def _stack(pictures: Sequence[Image.Image]) -> Image.Image:
    canvas = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), PAPER)
    y = 0
    for picture in pictures:
        canvas.paste(picture, (0, y))
        y += picture.height
    return canvas


def png(picture: Image.Image) -> bytes:
    """An image as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def gif(frames: Sequence[Image.Image]) -> bytes:
    """Frames as an endless GIF that rests on its last one."""
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
