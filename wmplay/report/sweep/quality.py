"""Plots of success against model quality, over evaluations."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wmplay.evaluation.model_quality import Point, correlation
from wmplay.evaluation.statistics import Interval
from wmplay.report.colours import BLUE, OTHERS, QUIET
from wmplay.report.labels import QUALITIES
from wmplay.report.numbers import counted
from wmplay.report.plots.figures import legend_below, panels_of_page
from wmplay.report.style import drawing

LEAST = 3  # evaluations, because two points always lie on a line

OUTCOMES = {"policy/success": "success", "policy_sampled/success": "success, actions sampled"}
RETURN = ("policy/return", "return")  # in a task without a goal


def quality_plot(points: Sequence[Point]) -> Figure | None:
    """Plot each outcome against each quality; return None for fewer than three evaluations with both."""
    panels_of = _pairs(points)
    if not panels_of:
        return None
    labels = list(dict.fromkeys(point.label for point in points))
    colours = dict(zip(labels, _colours(len(labels)), strict=True))
    with drawing():
        figure, panels = panels_of_page(len(panels_of), columns=3, height=2.9)
        for axes, (quality, x_label, outcome, y_label) in zip(panels, panels_of, strict=True):
            both = _with(points, quality, outcome)
            for label in labels:
                some = [point.numbers for point in both if point.label == label]
                axes.scatter(
                    [each[quality] for each in some],
                    [each[outcome] for each in some],
                    s=22,
                    color=colours[label],
                    alpha=0.8,
                    linewidths=0,
                    label=label or None,
                )
            axes.set_title(_in_words(correlation(both, quality, outcome), len(both)), fontsize=8.5)
            axes.set_xlabel(f"{x_label} (lower is better)")
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.set_ylabel(y_label)
            if y_label.startswith("success"):
                axes.set_ylim(-0.03, 1.03)
        if any(labels):
            legend_below(figure, panels)
    return figure


def _pairs(points: Sequence[Point]) -> list[tuple[str, str, str, str]]:
    """Return (quality, its label, outcome, its label) of each panel."""
    names = list(dict.fromkeys(name for point in points for name in point.numbers))
    errors = {name: f"{name.split('/')[1]} error at 1 step" for name in names if name.endswith("/mae@1")}
    outcomes = {name: label for name, label in OUTCOMES.items() if name in names} or dict([RETURN])
    return [
        (quality, x_label, outcome, y_label)
        for outcome, y_label in outcomes.items()
        for quality, x_label in {**errors, **QUALITIES}.items()
        if len(_with(points, quality, outcome)) >= LEAST
    ]


def _with(points: Sequence[Point], *names: str) -> list[Point]:
    return [point for point in points if all(name in point.numbers for name in names)]


def _in_words(rho: Interval, count: int) -> str:
    evaluations = counted(count, "evaluation")
    if not math.isfinite(rho.value):
        return f"no order to compare, {evaluations}"
    ends = f" [{rho.low:.2f}, {rho.high:.2f}]" if math.isfinite(rho.low) else ""
    return f"rank correlation {rho.value:.2f}{ends}\n{evaluations}"


def _colours(count: int) -> list[str]:
    chosen = [BLUE, *OTHERS]
    return [chosen[i] if i < len(chosen) else QUIET for i in range(count)]
