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
LIT = 0.8  # grey of lit pixels: the page is white
WIDTH, CURVE, BETWEEN = 10.0, 0.8, 0.6  # inches: of the figure, of a curve's height, of titles and ticks


def violation_plot(score: ViolationScore, pairs: ShownPairs) -> Figure:
    """Plot one pair of each kind: the possible and the impossible frames, and the surprise at each step."""
    heights: list[float] = []
    for pair in pairs.values():
        _, count, height, width = pair.frames.shape
        heights += [2 * WIDTH * EVERY / (count + 1) * height / width, CURVE]
    with drawing():
        figure = Figure(figsize=(WIDTH, sum(heights) + BETWEEN * len(pairs)), layout="constrained")
        grid = figure.subplots(2 * len(pairs), 1, height_ratios=heights, squeeze=False)[:, 0]
        for row, (name, pair) in enumerate(pairs.items()):
            _draw_frames(grid[2 * row], pair.frames)
            grid[2 * row].set_title(score.kinds[name].what, loc="left")
            _draw_surprise(grid[2 * row + 1], pair, score)
            for axes in grid[2 * row : 2 * row + 2]:
                axes.set_xlim(-1, pair.frames.shape[1])
    return figure


def _draw_frames(axes: Axes, frames: Array) -> None:
    """Draw two rows of frames [2, T + 1, H, W], each above its step."""
    for row, each in enumerate(frames):
        for step in range(0, len(each), EVERY):
            left, right = step - 0.48 * EVERY, step + 0.48 * EVERY
            axes.imshow(
                LIT * (each[step] > 0),
                cmap="gray",
                vmin=0,
                vmax=1,
                interpolation="nearest",
                aspect="auto",
                extent=(left, right, -row - 0.97, -row - 0.03),
            )
    axes.set_ylim(-2, 0)
    axes.set_axis_off()


def _draw_surprise(axes: Axes, pair: ShownPair, score: ViolationScore) -> None:
    steps = np.arange(1, pair.surprise.shape[1] + 1)
    axes.plot(steps, pair.surprise[0], color=BLUE, linestyle="--", label="possible")
    axes.plot(steps, pair.surprise[1], color=ORANGE, label="impossible")
    axes.axvline(score.event, color=INK, linewidth=0.8)
    axes.set_ylabel(score.unit)
    axes.legend(loc="lower left", fontsize="small")
