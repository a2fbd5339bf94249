"""The plot of violation of expectation: pairs of episodes, with a model's surprise under their frames."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wmplay.contracts import Array
from wmplay.evaluation.gallery import ShownPair, ShownPairs
from wmplay.evaluation.scores import ViolationScore
from wmplay.report.colours import BLUE, INK, ORANGE
from wmplay.report.style import drawing

EVERY = 2  # of the frames that are drawn
GAP = 2  # pixels between frames
LIT = 0.8  # grey of lit pixels: the page is white


def violation_plot(score: ViolationScore, pairs: ShownPairs) -> Figure:
    """Plot one pair of each kind: the possible and the impossible frames, and the surprise at each step."""
    with drawing():
        figure = Figure(figsize=(10, 2.1 * len(pairs)), layout="constrained")
        grid = figure.subplots(2 * len(pairs), 1, height_ratios=[1.6, 1] * len(pairs), squeeze=False)[:, 0]
        for row, (name, pair) in enumerate(pairs.items()):
            _draw_frames(grid[2 * row], pair.frames)
            grid[2 * row].set_title(score.kinds[name].what, loc="left")
            _draw_surprise(grid[2 * row + 1], pair, score)
    return figure


def _draw_frames(axes: Axes, frames: Array) -> None:
    rows = [_side_by_side(each[::EVERY]) for each in frames]
    between = np.ones((GAP, rows[0].shape[1]))
    axes.imshow(
        np.concatenate([rows[0], between, rows[1]]),
        cmap="gray",
        vmin=0,
        vmax=1,
        interpolation="nearest",
        aspect="equal",
    )
    axes.set_axis_off()


def _side_by_side(frames: Array) -> Array:
    between = np.ones((frames.shape[1], GAP))
    parts = [part for frame in frames for part in (LIT * (frame > 0), between)]
    return np.concatenate(parts[:-1], axis=1)


def _draw_surprise(axes: Axes, pair: ShownPair, score: ViolationScore) -> None:
    steps = np.arange(1, pair.surprise.shape[1] + 1)
    axes.plot(steps, pair.surprise[0], color=BLUE, linestyle="--", label="possible")
    axes.plot(steps, pair.surprise[1], color=ORANGE, label="impossible")
    axes.axvline(score.event, color=INK, linewidth=0.8)
    axes.set_xlim(0, steps[-1])
    axes.set_ylabel(score.unit)
    axes.legend(loc="upper left", fontsize="small")
