"""The plot of calibration: reliability diagrams, spread to skill, and CRPS."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wmplay.evaluation.scores import CalibrationScore, Curve, ScreenCalibration
from wmplay.report.colours import BLUE, GREEN, INK, ORANGE, PURPLE, QUIET, RED, SKY
from wmplay.report.plots.figures import Line, draw_curves, legend_below, panels_of_page
from wmplay.report.style import drawing

SHADES = (SKY, BLUE, PURPLE)  # of horizons, near to far
KEYS = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY)


def calibration_plot(score: CalibrationScore) -> Figure:
    """Plot each screen's reliability at some horizons, and each vector's ratio and CRPS by horizon."""
    with drawing():
        figure, panels = panels_of_page(len(score.screens) + 2 * len(score.vectors), columns=3, height=2.6)
        for axes, (key, screen) in zip(panels, score.screens.items(), strict=False):
            _draw_reliability(axes, key, screen)
        rest = panels[len(score.screens) :]
        for number, (key, vector) in enumerate(score.vectors.items()):
            ratio: Line = {"color": BLUE, "linestyle": "-"}
            draw_curves(rest[2 * number], {"model": (vector.ratio, ratio)}, f"{key}: spread to skill")
            rest[2 * number].axhline(1, color=INK, linewidth=0.8)
            curves: dict[str, tuple[Curve, Line]] = {
                "model": (vector.crps, ratio),
                "copy last frame": (vector.copy_last, {"color": RED, "linestyle": "--"}),
            }
            draw_curves(rest[2 * number + 1], curves, f"{key}: CRPS (lower is better)")
        legend_below(figure, panels)
    return figure


def _draw_reliability(axes: Axes, key: str, screen: ScreenCalibration) -> None:
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8)
    for colour, (horizon, diagram) in zip(SHADES, screen.diagrams.items(), strict=False):
        observed = np.array(diagram.observed).reshape(-1, 3)
        steps = "1 step" if horizon == "1" else f"{horizon} steps"
        axes.plot(diagram.forecast, observed[:, 0], ".-", color=colour, label=f"after {steps}")
        axes.fill_between(diagram.forecast, observed[:, 1], observed[:, 2], color=colour, alpha=0.18, lw=0)
    axes.set_title(f"{key}: reliability")
    axes.set_xlabel("probability of a pixel")
    axes.set_ylabel("part that is lit")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
