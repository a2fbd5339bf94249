"""Moving and still images of predictions: truth, prediction and difference; several futures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from wmplay.evaluation.gallery import ShownClips
from wmplay.evaluation.scores import selected_horizons
from wmplay.report.colours import BLUE, GREEN, INK, QUIET, RULE
from wmplay.report.pictures.canvas import (
    BORDER,
    DIFFERENCES,
    GAP,
    LABELS,
    MARGIN,
    WIDTH,
    Cell,
    columns_for,
    gif,
    grid,
    is_binary,
    legend,
    paint,
    paint_difference,
    pitch,
    png,
    stack,
)
from wmplay.report.style import font

ROWS = ("truth", "prediction", "difference")
DREAM_ROWS = ("real", "generated")


def image_keys(clips: ShownClips) -> list[str]:
    """Return the keys of clips that can be shown: [N, T, H, W] or [N, T, H, W, C] with one or three
    channels."""
    return [k for k, v in clips.truth.items() if v.ndim == 4 or (v.ndim == 5 and v.shape[-1] in (1, 3))]


def clip_cells(clips: ShownClips, key: str, clip: int, t: int) -> list[Cell]:
    """Return truth, prediction and difference of one clip at frame t of context + H; real frames in the
    context."""
    truth = clips.truth[key][clip, t]
    binary = is_binary(clips.truth[key])
    real = paint(truth, binary=binary)
    if t < clips.context:
        blank = np.full_like(real, 240)
        return [Cell(real, GREEN), Cell(real, GREEN), Cell(blank, RULE)]
    guess = clips.prediction[key][clip, t - clips.context]
    difference = paint_difference(truth, guess, binary=binary)
    return [Cell(real, RULE), Cell(paint(guess, binary=binary), BLUE), Cell(difference, RULE)]


def clips_gif(clips: ShownClips, key: str, rows: Sequence[str] = ROWS) -> bytes:
    """Return a GIF of up to three clips in columns, with a timeline above.

    Rows are truth, prediction and difference; without the third row (``DREAM_ROWS``) no difference is shown.
    """
    count, total, height, width = clips.truth[key].shape[:4]
    columns = columns_for(count, height, width)
    room = (WIDTH - LABELS - MARGIN) // columns - GAP - 2 * BORDER
    scale = max(1, min(room // width, 200 // height))
    explained = is_binary(clips.truth[key]) and len(rows) == len(ROWS)
    frames = []
    for t in range(total):
        cells = [clip_cells(clips, key, clip, t)[: len(rows)] for clip in range(columns)]
        canvas = grid(cells, scale, top=58, bottom=30 if explained else MARGIN, text=14, names=rows)
        draw = ImageDraw.Draw(canvas)
        ahead = t - clips.context + 1
        if ahead <= 0:
            text, colour = f"context: real frame {t + 1} of {clips.context}", GREEN
        else:
            text, colour = f"predicted: step {ahead} of {total - clips.context}", BLUE
        draw.text((LABELS, 6), text, fill=colour, font=font(15, bold=True))
        _timeline(draw, (LABELS, 32, canvas.width - MARGIN, 46), t, clips.context, total)
        if explained:
            legend(draw, LABELS, canvas.height - 24, DIFFERENCES, 13)
        frames.append(canvas)
    return gif(frames)


def film_strip(clips: ShownClips, key: str) -> bytes:
    """Return a still of up to two clips: the context's frames, then selected horizons, as columns."""
    count, total = clips.truth[key].shape[:2]
    shown = _selected_frames(clips.context, total)
    strips = []
    for clip in range(min(count, 2)):
        cells = [clip_cells(clips, key, clip, t) for t in shown]
        ahead = [t - clips.context + 1 for t in shown]
        strips.append(_strip(cells, ahead, ROWS, f"clip {clip + 1}", 240))
    return png(stack(strips))


def futures_strip(clips: ShownClips, key: str) -> bytes:
    """Return a still of several futures of one start in rows, between the real future and their mean."""
    truth, futures = clips.truth[key][0], clips.prediction[key]
    binary = is_binary(clips.truth[key])
    names = ["what happened", *(f"future {i + 1}" for i in range(len(futures))), "mean of all"]
    shown = _selected_frames(clips.context, len(truth))
    columns = []
    for t in shown:
        real = paint(truth[t], binary=binary)
        if t < clips.context:
            columns.append([Cell(real, GREEN)] * len(names))
            continue
        step = futures[:, t - clips.context].astype(np.float32)
        pictures = [paint(frame, binary=binary) for frame in (*step, step.mean(0))]
        columns.append([Cell(real, RULE), *(Cell(picture, BLUE) for picture in pictures)])
    return png(_strip(columns, [t - clips.context + 1 for t in shown], names, "", 100))


def _selected_frames(context: int, total: int) -> list[int]:
    """Return the frames that a strip shows: the last of the context, then selected horizons."""
    horizons = selected_horizons(total - context)
    return [*range(max(0, context - 3), context), *(context - 1 + h for h in horizons)]


def _strip(
    columns: Sequence[Sequence[Cell]], ahead: Sequence[int], names: Sequence[str], title: str, height: int
) -> Image.Image:
    """Return columns of cells, each headed by its horizon; a cell is at most ``height`` pixels high."""
    labels = 2 * LABELS
    rows, across = columns[0][0].pixels.shape[:2]
    scale = ((2 * WIDTH - labels - 2 * MARGIN) // len(columns) - 2 * GAP - 2 * BORDER) // across
    scale = max(1, min(scale, height // rows))
    strip = grid(columns, scale, top=56, bottom=16, text=22, labels=labels, names=names)
    draw = ImageDraw.Draw(strip)
    for i, steps in enumerate(ahead):
        centre = labels + i * pitch(scale * across) + BORDER + scale * across // 2
        text, colour = (f"+{steps}", BLUE) if steps > 0 else (f"{steps}", GREEN)
        draw.text((centre, 26), text, fill=colour, font=font(24, bold=True), anchor="mm")
    draw.text((MARGIN, 26), title, fill=QUIET, font=font(24), anchor="lm")
    return strip


def _timeline(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], t: int, context: int, total: int
) -> None:
    """Draw a cell for each frame, green in the context and blue after it, filled up to the current one."""
    left, top, right, bottom = box
    edges = np.linspace(left, right, total + 1).round().astype(int)
    for i in range(total):
        colour = GREEN if i < context else BLUE
        inner = (int(edges[i]) + 1, top, int(edges[i + 1]) - 2, bottom)
        draw.rectangle(inner, fill=colour if i <= t else None, outline=colour)
    if context < total:
        x = int(edges[context]) - 1
        draw.line((x, top - 5, x, bottom + 5), fill=INK, width=2)
