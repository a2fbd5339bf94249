"""Plots of a study: the scores of the arms in each world, and performance profiles."""

from __future__ import annotations

import math

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wmplay.report.colours import BLUE, GREEN, ORANGE, OTHERS, QUIET, RED
from wmplay.report.plots.figures import legend_below, panels_of_page
from wmplay.report.style import drawing
from wmplay.studies.analysis import Answers
from wmplay.studies.results import Results

LINES = (BLUE, ORANGE, RED, *OTHERS, QUIET)


def scores_plot(results: Results, answers: Answers) -> Figure:
    """Plot a panel for each world with a row for each arm: seeds, score, floor and ceiling."""
    asked = results.question
    arms, worlds = list(asked.arms), list(asked.worlds)
    with drawing():
        figure, panels = panels_of_page(len(worlds), columns=3, height=0.9 + 0.34 * len(arms))
        for i, (axes, world) in enumerate(zip(panels, worlds, strict=True)):
            if math.isfinite(results.floor(world)):
                axes.axvline(results.floor(world), color=QUIET, linestyle="--", linewidth=1, label="random")
            for row in (each for each in answers.rows if each.world == world):
                y = len(arms) - 1 - arms.index(row.arm)
                values = [run.value for run in results.of(row.arm, world)]
                axes.plot(values, [y] * len(values), "o", color=QUIET, alpha=0.45, markersize=3.5)
                if math.isfinite(row.score.low):
                    ends = [row.score.low, row.score.high]
                    axes.plot(ends, [y, y], color=BLUE, linewidth=2.6, alpha=0.45, solid_capstyle="butt")
                axes.plot(row.score.value, y, "|", color=BLUE, markersize=11, markeredgewidth=2.2)
                if row.ceiling is not None:
                    axes.plot(row.ceiling.value, y, "D", color=GREEN, markersize=4.5)
            axes.set_title(world)
            axes.set_ylim(-0.6, len(arms) - 0.4)
            axes.set_yticks(range(len(arms)), arms[::-1] if i % 3 == 0 else [])
            axes.set_xlabel(asked.metric)
            axes.xaxis.set_major_locator(MaxNLocator(4))
    return figure


def profile_plot(answers: Answers) -> Figure:
    """Plot the share of runs above each threshold, by arm."""
    with drawing():
        figure, panels = panels_of_page(1, columns=1, height=3.2)
        (axes,) = panels
        for i, (arm, (share, low, high)) in enumerate(answers.profiles.items()):
            colour = LINES[i % len(LINES)]
            axes.plot(answers.thresholds, share, color=colour, label=arm)
            axes.fill_between(answers.thresholds, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("score")
        axes.set_ylabel("share of runs above")
        legend_below(figure, panels)
    return figure
