"""The plot of a model's features: what linear probes read from them, and how well they are predicted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wmplay.evaluation.scores import FeatureScore
from wmplay.evaluation.statistics import Interval
from wmplay.report.colours import BLUE, INK, QUIET, RED
from wmplay.report.plots.figures import draw_curves, panels_of_page
from wmplay.report.style import drawing

BAR = 0.36  # height of a bar; rows have a height of 1


def features_plot(score: FeatureScore) -> Figure:
    """Plot R2 of each vector, and the latent error by horizon next to that of the last latent."""
    with drawing():
        keys = {key: each for key, each in score.keys.items() if np.isfinite(each.r2.value)}
        figure, panels = panels_of_page(2 if keys else 1, columns=2, height=2.8)
        if keys:
            _bars(panels[0], "model", BLUE, -BAR / 2, [each.r2 for each in keys.values()])
            before = [each.untrained for each in keys.values()]
            known = [each for each in before if each is not None]
            if len(known) == len(before):
                _bars(panels[0], "untrained", QUIET, BAR / 2, known)
            panels[0].set_yticks(range(len(keys)), list(keys))
            panels[0].invert_yaxis()
            panels[0].set_xlim(0, 1)
            panels[0].set_title("R2 of vectors, read linearly from the features")
            panels[0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
        curves = {
            "predicted": (score.error, {"color": BLUE, "linestyle": "-"}),
            "copy last latent": (score.copy_last, {"color": RED, "linestyle": "--"}),
        }
        draw_curves(panels[-1], curves, "latent error (lower is better)")
        panels[-1].legend()
    return figure


def _bars(axes: Axes, label: str, colour: str, offset: float, values: Sequence[Interval]) -> None:
    shown = np.array([each.value for each in values]).clip(min=0)
    ends = np.array([(each.value - each.low, each.high - each.value) for each in values]).clip(min=0)
    at = np.arange(len(values)) + offset
    axes.barh(at, shown, BAR, color=colour, label=label, xerr=np.nan_to_num(ends).T, ecolor=INK)
    for y, each in zip(at, values, strict=True):
        inside = each.value > 0.3
        place = (
            min(float(np.nan_to_num(each.low, nan=each.value)), 1) - 0.02
            if inside
            else 0.02 + max(np.nan_to_num(each.high), 0)
        )
        axes.text(
            place,
            y,
            f"{each.value:.2f}",
            va="center",
            ha="right" if inside else "left",
            color="white" if inside else "black",
            fontsize=8,
        )
