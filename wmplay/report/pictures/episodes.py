"""Moving images of episodes, with the goal drawn in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

from wmplay.contracts import GOAL_PREFIX, Trajectory
from wmplay.report.colours import GREEN, INK, ORANGE, PAPER, QUIET, RULE
from wmplay.report.numbers import counted
from wmplay.report.pictures.canvas import (
    BORDER,
    GAP,
    LABELS,
    MARGIN,
    WIDTH,
    Cell,
    columns_for,
    gif,
    grid,
    legend,
    paint_goal,
    pitch,
    stack,
)
from wmplay.report.style import font


def shown_key(worlds: Mapping[str, Sequence[Trajectory]]) -> str | None:
    """Return the first image key, except goals, that the episodes of all worlds have, or None."""
    shown, *others = (each[0].observation for each in worlds.values())
    images = [key for key in shown if not key.startswith(GOAL_PREFIX)]
    return next((key for key in images if all(key in other for other in others)), None)


def episodes_gif(worlds: Mapping[str, Sequence[Trajectory]]) -> bytes:
    """Return a GIF of up to three episodes in columns, the goal beneath; a border marks how each ended.

    Args:
        worlds: {name: episodes}, a row for each, with an image that all have. The first episodes of several
            worlds begin alike, and so do the second ones, and so on.
    """
    episodes, key = next(iter(worlds.values())), shown_key(worlds)
    assert key is not None, "nothing to look at"
    height, width = episodes[0].observation[key].shape[1:3]
    columns = columns_for(min(len(each) for each in worlds.values()), height, width)
    labels = LABELS if len(worlds) > 1 else MARGIN
    scale = max(1, min(((WIDTH - labels - MARGIN) // columns - GAP - 2 * BORDER) // width, 240 // height))
    has_goal = GOAL_PREFIX + key in episodes[0].observation
    frames = []
    for t in range(max(len(episode) for each in worlds.values() for episode in each[:columns]) + 1):
        rows = [
            _row(each[:columns], key, t, scale, labels, name if len(worlds) > 1 else "")
            for name, each in worlds.items()
        ]
        if has_goal:
            rows.append(Image.new("RGB", (rows[0].width, 26), PAPER))
            legend(ImageDraw.Draw(rows[-1]), labels, 4, ((INK, "now"), (ORANGE, "goal")), 13)
        frames.append(stack(rows))
    return gif(frames)


def _row(episodes: Sequence[Trajectory], key: str, t: int, scale: int, labels: int, name: str) -> Image.Image:
    """Draw frame t of several episodes in a row, each with its caption below."""
    cells, captions = [], []
    for episode in episodes:
        now, goal = min(t, len(episode)), episode.observation.get(GOAL_PREFIX + key)
        border, caption = _ending(episode, now, goal is not None)
        frame = paint_goal(episode.observation[key][now], None if goal is None else goal[now])
        cells.append([Cell(frame, border)])
        captions.append((border if border != RULE else QUIET, caption))
    canvas = grid(cells, scale, top=MARGIN, bottom=34, text=14, labels=labels, names=(name,))
    draw = ImageDraw.Draw(canvas)
    height, width = (scale * size for size in cells[0][0].pixels.shape[:2])
    below = MARGIN + height + 2 * BORDER + GAP
    for i, (colour, caption) in enumerate(captions):
        draw.text((labels + i * pitch(width), below), caption, fill=colour, font=font(14, bold=True))
    return canvas


def _ending(episode: Trajectory, now: int, has_goal: bool) -> tuple[str, str]:
    """Return the border's colour and the caption of an episode at frame ``now``."""
    if now < len(episode):
        return RULE, f"step {now} of {len(episode)}"
    if not episode.terminated.any():
        return QUIET, f"out of time after {counted(len(episode), 'step')}"
    verb = "reached the goal" if has_goal else "ended"
    return GREEN, f"{verb} after {counted(len(episode), 'step')}"
