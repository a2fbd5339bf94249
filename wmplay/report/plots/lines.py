"""The line plots of a report, each a matplotlib figure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wmplay.contracts import Array
from wmplay.evaluation.gallery import ShownClips
from wmplay.evaluation.scores import MODEL, Curve, PredictionScore
from wmplay.report.colours import BLUE, GREEN, INK, ORANGE, OTHERS, PURPLE, QUIET, RED, SKY, predictor_style
from wmplay.report.labels import METRICS, QUALITIES, policy_label
from wmplay.report.plots.figures import Line, draw_curves, entries_of_vector, legend_below, panels_of_page
from wmplay.report.style import drawing, plain_ticks

SMOOTHED_POINTS = 150  # a curve with more points than this is drawn pale, with its running mean over it
FLAT = 3  # where the first tenth of a curve widens its range more than this, it runs out of the picture


ACTORS = {  # colours of who acts, by label
    "policy": BLUE,
    "policy, sampled": SKY,
    **dict.fromkeys(("learned world", "learned world, sampled"), PURPLE),
    **dict.fromkeys(("untrained", "untrained, sampled"), ORANGE),
    **dict.fromkeys(("trained in reality", "trained in reality, sampled"), RED),
    "random": QUIET,
    "collect": GREEN,
    "model": BLUE,
}


@dataclass(frozen=True)
class Series:
    """One named line: x and y of equal length, and optionally the ends of an interval."""

    x: Array
    y: Array
    low: Array | None = None
    high: Array | None = None


def prediction_plot(score: PredictionScore) -> Figure:
    """Plot each key's metric by horizon: model, baselines and sampled futures, with 95% bands."""
    names = list(dict.fromkeys(name for key in score.keys.values() for name in key.curves))
    others = [name for name in names if predictor_style(name, names)[2] == name and name != MODEL]
    with drawing():
        figure, panels = panels_of_page(len(score.keys), columns=2, height=3.0)
        for axes, (key, result) in zip(panels, score.keys.items(), strict=True):
            curves: dict[str, tuple[Curve, Line]] = {}
            for name, curve in result.curves.items():
                colour, style, label = predictor_style(name, others)
                width, order = (2.2, 3) if name == MODEL else (1.5, 2)
                line: Line = {"color": colour, "linestyle": style, "linewidth": width, "zorder": order}
                curves[label] = curve, line
            direction = "higher is better" if result.higher_is_better else "lower is better"
            draw_curves(axes, curves, f"{key}: {METRICS[result.metric]} ({direction})")
            axes.set_ylim(top=1 if result.metric == "iou" else None)
            every = max(1, round(score.horizon / 4))
            axes.set_xticks(sorted({1, *range(every, score.horizon + 1, every)}))
        legend_below(figure, panels)
    return figure


def loss_plot(metrics: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Plot everything that fitting logs, losses first, in small panels; return None if nothing was fitted."""
    series = _by_name(line for line in metrics if line.get("phase") == "fit")
    order = sorted(series, key=lambda name: (name != "loss/total", not name.startswith("loss/"), name))
    return _small_multiples({name: series[name] for name in order}, "fit/", "updates")


def practice_plot(metrics: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Plot everything that a policy's practice logs, in small panels; return None without practice."""
    lines = [line for line in metrics if line.get("phase") == "improve"]
    learned = any(line.get("learned_steps") for line in lines)
    x, label = (
        ("learned_steps", "steps in learned world") if learned else ("real_steps", "steps in real world")
    )
    return _small_multiples(_by_name(lines, x=x), "improve/", label)


def _small_multiples(series: Mapping[str, Series], phase: str, x_label: str) -> Figure | None:
    known = {name: s for name, s in series.items() if np.isfinite(s.y).any()}
    if not known:
        return None
    with drawing():
        figure, panels = panels_of_page(len(known), columns=4, height=1.75)
        for axes, (name, one) in zip(panels, known.items(), strict=True):
            _trend(axes, one, QUIET if name.startswith("fit/") else BLUE)
            axes.set_title(name.removeprefix(phase), fontsize=8.5)
            axes.margins(x=0.02)
            plain_ticks(axes)
        for axes in panels[-4:]:
            axes.set_xlabel(x_label)
    return figure


def progress_plot(metrics: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Plot returns, success and prediction over iterations; return None for fewer than two of each."""
    lines = [line for line in metrics if line.get("phase") in ("collect", "evaluate")]
    series = {name: s for name, s in _by_name(lines, x="iteration").items() if len(s.x) > 1}
    panels_of: dict[str, dict[str, Series]] = {}
    for name, one in series.items():
        who, _, what = name.rpartition("/")
        if what in ("return", "success"):
            panels_of.setdefault(what, {})[policy_label(who)] = one
        elif who.startswith("prediction/"):
            metric, _, horizon = what.partition("@")
            title = f"{who.removeprefix('prediction/')}: {METRICS.get(metric, metric)}"
            panels_of.setdefault(title, {})["1 step" if horizon == "1" else f"{horizon} steps"] = one
        elif who.startswith("features/") and what == "r2":
            panels_of.setdefault("R2 of features", {})[who.removeprefix("features/")] = one
        elif name in QUALITIES:
            panels_of.setdefault(QUALITIES[name], {})["model"] = one
    if not panels_of:
        return None
    first = ("success", "return")
    panels_of = {title: panels_of[title] for title in (*first, *panels_of) if title in panels_of}
    with drawing():
        figure, panels = panels_of_page(len(panels_of), columns=2, height=2.6)
        for axes, (title, lines_of) in zip(panels, panels_of.items(), strict=True):
            for colour, (who, one) in zip(_colours(lines_of), lines_of.items(), strict=True):
                axes.plot(one.x, one.y, "o-", markersize=3, color=colour, label=who)
                if one.low is not None and one.high is not None:
                    axes.fill_between(one.x, one.low, one.high, color=colour, alpha=0.15, linewidth=0)
            axes.set_title(title)
            axes.set_xlabel("iteration")
            # over curves, the words stay readable and the curves visible
            axes.legend(
                loc="best",
                ncols=1 if len(lines_of) < 4 else 2,
                frameon=True,
                framealpha=0.75,
                edgecolor="none",
            )
            plain_ticks(axes)
            if title == "success":
                axes.set_ylim(-0.02, 1.02)
    return figure


def vector_plot(clips: ShownClips, key: str) -> Figure:
    """Plot the first entries of a vector in the first clip, real and predicted."""
    truth, prediction = clips.truth[key][0], clips.prediction[key][0]

    def draw(axes: Axes, steps: Array, i: int) -> None:
        axes.plot(steps, truth[:, i], color=INK, label="truth")
        axes.plot(steps[clips.context :], prediction[:, i], "--", color=BLUE, label="prediction")

    return entries_of_vector(clips, key, draw)


def _colours(names: Iterable[str]) -> list[Any]:
    """Return the colours of a panel's lines: one for each actor, or shades for ordered horizons."""
    names = list(names)
    if all(name.endswith(("step", "steps")) for name in names):
        return [matplotlib.colormaps["viridis"](0.85 * i / max(len(names) - 1, 1)) for i in range(len(names))]
    others = [name for name in names if name not in ACTORS]
    return [ACTORS.get(name) or OTHERS[others.index(name) % len(OTHERS)] for name in names]


def _trend(axes: Axes, series: Series, colour: str) -> None:
    """Draw a curve; a long one is pale, with its running mean over it."""
    x, y = series.x, series.y
    if len(x) <= SMOOTHED_POINTS:
        axes.plot(x, y, "." if len(x) == 1 else "-", color=colour, linewidth=1.2)
    else:
        window = max(len(x) // 50, 2)
        kernel = np.ones(window) / window
        axes.plot(x, y, color=colour, alpha=0.25, linewidth=0.7)
        axes.plot(x[window - 1 :], np.convolve(y, kernel, mode="valid"), color=colour, linewidth=1.4)
    later = y[len(y) // 10 :]
    later = later[np.isfinite(later)]
    if len(later) and np.nanmax(y) - np.nanmin(y) > FLAT * np.ptp(later) > 0:
        margin = 0.05 * np.ptp(later)
        axes.set_ylim(later.min() - margin, later.max() + margin)


def _by_name(lines: Iterable[Mapping[str, Any]], x: str = "step") -> dict[str, Series]:
    """Return every logged number as a series; ``<name>_low`` and ``<name>_high`` become its interval."""
    points: dict[str, dict[float, float]] = {}  # a second value at the same x takes the first one's place
    for line in lines:
        for name, value in line.items():
            if "/" in name and isinstance(value, int | float) and not isinstance(value, bool):
                known = float(value) if math.isfinite(value) else math.nan
                points.setdefault(name, {})[float(line.get(x, 0))] = known
    arrays = {name: np.array(list(pairs.items())) for name, pairs in points.items()}
    series = {}
    for name, pairs in arrays.items():
        if name.endswith(("_low", "_high")) and name.rpartition("_")[0] in arrays:
            continue
        low, high = (_aligned(arrays.get(name + end), pairs) for end in ("_low", "_high"))
        series[name] = Series(pairs[:, 0], pairs[:, 1], low, high)
    return series


def _aligned(end: Array | None, pairs: Array) -> Array | None:
    """Return the y of one end of an interval, if it was logged as often as the value [N, 2] itself."""
    return end[:, 1] if end is not None and len(end) == len(pairs) else None
