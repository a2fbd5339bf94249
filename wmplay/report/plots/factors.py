"""The plot of scores by the value of a factor, inside and outside of the range that was learned in."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wmplay.evaluation.scores import Curve, FactorScore, FactorSweep
from wmplay.report.colours import BLUE, GREEN, QUIET, RED
from wmplay.report.labels import METRICS
from wmplay.report.plots.figures import legend_below, panels_of_page
from wmplay.report.style import drawing, plain_ticks


def factors_plot(score: FactorScore) -> Figure:
    """Plot each factor's scores by value, with the range that the run learned in shaded."""
    parts = [(name, key) for name, sweep in score.sweeps.items() for key in (*sweep.model, None)]
    shown = [(name, key) for name, key in parts if key is not None or score.sweeps[name].policies]
    with drawing():
        figure, panels = panels_of_page(len(shown), columns=3, height=2.7)
        for axes, (name, key) in zip(panels, shown, strict=True):
            sweep = score.sweeps[name]
            _range(axes, sweep)
            if key is None:
                _line(axes, sweep, sweep.policies["random"], "random", QUIET, ":")
                _line(axes, sweep, sweep.policies["policy"], "policy", BLUE, "-")
                axes.set_title(f"policy: {score.measure}\n(higher is better)")
                if score.measure == "success":
                    axes.set_ylim(-0.03, 1.03)
            else:
                _line(axes, sweep, sweep.copy_last[key], "copy last frame", RED, "--")
                _line(axes, sweep, sweep.model[key], "model", BLUE, "-")
                better = "higher" if score.metrics[key] == "iou" else "lower"
                axes.set_title(f"{key}: {METRICS[score.metrics[key]]}\n({better} is better)")
                axes.set_ylim(bottom=0)
            axes.set_xlabel(name)
            plain_ticks(axes)
        legend_below(figure, panels)
    return figure


def _range(axes: Axes, sweep: FactorSweep) -> None:
    low, high = sweep.trained
    if low == high:
        axes.axvline(low, color=GREEN, linewidth=5, alpha=0.25, label="learned in")
    else:
        axes.axvspan(low, high, color=GREEN, alpha=0.15, linewidth=0, label="learned in")


def _line(axes: Axes, sweep: FactorSweep, curve: Curve, label: str, colour: str, style: str) -> None:
    order = np.argsort(sweep.values)
    x, mean, low, high = (
        np.array(values, float)[order] for values in (sweep.values, curve.mean, curve.low, curve.high)
    )
    axes.plot(x, mean, color=colour, linestyle=style, marker="o", markersize=3, label=label)
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
