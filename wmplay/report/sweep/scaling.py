"""Scaling curves of a sweep: each error by the amount of data, weights or work, with its power law."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from wmplay.contracts import Array
from wmplay.evaluation.seeds import SHARED, Job
from wmplay.report.colours import BLUE, GREEN, ORANGE, OTHERS, QUIET, RED
from wmplay.report.numbers import broken, counted, interval, number
from wmplay.report.plots.figures import legend_below, panels_of_page
from wmplay.report.style import drawing
from wmplay.report.sweep.power_law import FEWEST_AMOUNTS, PowerLaw, fit_power_law
from wmplay.report.tables import Grid

MOST_CURVES = 40  # of a table and a plot
DECADE = 10  # of an axis, from which its ticks are powers of 10, and 3 times these
MOST_TICKS = 7  # below each plot
LINES = (BLUE, ORANGE, RED, GREEN, *OTHERS)
NOTE = (
    "error = a (x / x0)^-b + c of the geometric mean over seeds, by least squares of relative errors; 95% "
    "bootstrap intervals over seeds. c is the error that no amount takes away; 0: none is seen. Misfit: the "
    "largest distance of a mean from the law, and the p-value of a test of lack of fit over seeds; below .05 "
    "the errors follow no power law, so that a, b and c describe nothing (dotted lines)."
)
UNFIT = 0.05  # p-value below which a law is said not to hold


@dataclass(frozen=True)
class ScalingCurve:
    """The errors of jobs that are equal up to one number and the seed."""

    setting: str  # whose number it is
    rest: str  # the jobs' other overrides
    metric: str  # an error
    amounts: Array  # [N], from low to high
    errors: list[Array]  # of the seeds of each
    law: PowerLaw


def scaling_curves(jobs: Sequence[Job]) -> list[ScalingCurve]:
    """Return a curve for each error that finished jobs have at four or more values of a whole number."""
    return list(_curves([job for job in jobs if job.counts]))


def _curves(jobs: Sequence[Job]) -> Iterator[ScalingCurve]:
    keys = dict.fromkeys(key for job in jobs for key in _numbers(job))
    metrics = dict.fromkeys(name for job in jobs for name in _errors(job))
    for key in keys:
        rests = dict.fromkeys(_rest(job, key) for job in jobs if key in _numbers(job))
        for metric in metrics:
            for rest in rests:
                found: dict[float, list[float]] = {}
                for job in jobs:
                    amount, error = _numbers(job).get(key, 0.0), _errors(job).get(metric, 0.0)
                    if amount > 0 and error > 0 and _rest(job, key) == rest:
                        found.setdefault(amount, []).append(error)
                if len(found) >= FEWEST_AMOUNTS:
                    amounts, errors = np.array(sorted(found)), [np.array(found[x]) for x in sorted(found)]
                    yield ScalingCurve(key, rest, metric, amounts, errors, fit_power_law(amounts, errors))


def _numbers(job: Job) -> dict[str, float]:
    """Return the values of those of a job's overrides that are whole numbers, as all amounts are."""
    pairs = (text.partition("=")[::2] for text in job.overrides)
    return {key: float(value) for key, value in pairs if value.isdecimal()}


def _rest(job: Job, key: str) -> str:
    return " ".join(text for text in job.overrides if text.partition("=")[0] != key)


def _errors(job: Job) -> dict[str, float]:
    """Return a job's results as errors: what is best at 1 (success, IoU) less than 1."""
    found = {}
    for name, result in job.results.items():
        if name.startswith(SHARED) or " iou@" in name:
            found[f"1 - {name}"] = 1 - result.value
        elif any(part in name for part in (" mae@", " mse@", "bits per frame", "Frechet")):
            found[name] = result.value
    return found


def scaling_grid(curves: Sequence[ScalingCurve]) -> Grid:
    """Return a table with a row for each curve: its amounts and its law."""
    rows = []
    for curve in curves[:MOST_CURVES]:
        law = curve.law
        seeds = counted(min(map(len, curve.errors)), "seed")
        rows.append(
            [
                f"{curve.setting}\n{curve.rest}".strip(),
                curve.metric,
                f"{number(curve.amounts[0])} to {number(curve.amounts[-1])}\n{seeds}",
                broken(interval(law.exponent)),
                f"{number(law.scale)} at {number(law.unit)}",
                broken(interval(law.floor)),
                _misfit(law),
            ]
        )
    return Grid(
        "Power laws", ["x", "error", "amounts", "exponent b", "a at x0", "stays: c", "misfit"], rows, NOTE
    )


def _misfit(law: PowerLaw) -> str:
    """Return the distance of a law from the errors and its p-value, and whether it holds."""
    if math.isnan(law.fits):
        return f"{100 * law.distance:.0f}%"
    p = "p<.001" if law.fits < 0.001 else f"p={law.fits:.3f}".replace("0.", ".")
    words = "\nno law" if law.fits < UNFIT else ""
    return f"{100 * law.distance:.0f}%\n{p}{words}"


def scaling_plot(curves: Sequence[ScalingCurve]) -> Figure:
    """Plot a panel for each swept number and error: seeds, means and laws on logarithmic axes."""
    curves = curves[:MOST_CURVES]
    shown = list(dict.fromkeys((curve.setting, curve.metric) for curve in curves))
    rests = list(dict.fromkeys(curve.rest for curve in curves))
    with drawing():
        figure, panels = panels_of_page(len(shown), columns=3, height=2.8)
        for axes, (setting, metric) in zip(panels, shown, strict=True):
            for curve in curves:
                if (curve.setting, curve.metric) == (setting, metric):
                    _draw(axes, curve, LINES[rests.index(curve.rest) % len(LINES)])
            axes.set_xscale("log")
            axes.set_yscale("log")
            amounts = sorted(
                {x for curve in curves if curve.setting == setting for x in curve.amounts.tolist()}
            )
            low, high = axes.get_ylim()
            axes.xaxis.set_major_locator(FixedLocator(amounts[:: 1 + len(amounts) // MOST_TICKS]))
            axes.yaxis.set_major_locator(MaxNLocator(4) if high < DECADE * low else LogLocator(subs=(1, 3)))
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_minor_locator(NullLocator())
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.set_xlabel(setting)
            axes.set_title(metric)
        legend_below(figure, panels)
    return figure


def _draw(axes: Axes, curve: ScalingCurve, colour: str) -> None:
    label = curve.rest or "power law"
    for amount, errors in zip(curve.amounts, curve.errors, strict=True):
        axes.plot([amount] * len(errors), errors, "o", color=QUIET, alpha=0.45, markersize=3)
    means = [np.exp(np.log(errors).mean()) for errors in curve.errors]
    axes.plot(curve.amounts, means, "o", color=colour, markersize=4.5)
    between = np.geomspace(curve.amounts[0], curve.amounts[-1], 60)
    holds = not curve.law.fits < UNFIT
    axes.plot(between, curve.law.at(between), "-" if holds else ":", color=colour, label=label)
