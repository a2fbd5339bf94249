"""Figures of the page's width, in the common look."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wmplay.contracts import Array
from wmplay.evaluation.gallery import ShownClips
from wmplay.evaluation.scores import Curve
from wmplay.report.colours import GREEN
from wmplay.report.style import drawing, plain_ticks

Line: TypeAlias = dict[str, Any]  # properties of a matplotlib line

WIDTH = 9.6  # inches of every figure: they share the page's width
ENTRIES = 8  # of a vector that are drawn


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    buffer = io.BytesIO()
    with drawing():
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def panels_of_page(count: int, *, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure of page width with ``count`` axes in rows."""
    columns = min(columns, max(count, 2))
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH, height * rows + 0.25), layout="constrained")
    grid = figure.add_gridspec(rows, columns)
    return figure, [figure.add_subplot(grid[i // columns, i % columns]) for i in range(count)]


def legend_below(figure: Figure, panels: Sequence[Axes]) -> None:
    """Draw one legend for all panels, below them."""
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), 6))


def draw_curves(axes: Axes, curves: Mapping[str, tuple[Curve, Line]], title: str) -> None:
    """Draw curves by horizon with their 95% bands.

    Args:
        axes: to draw in.
        curves: {label: (curve, properties of its line)}.
        title: of the axes.
    """
    for label, (curve, line) in curves.items():
        mean, low, high = (np.array(values, float) for values in (curve.mean, curve.low, curve.high))
        horizons = np.arange(1, len(mean) + 1)
        axes.plot(horizons, mean, marker="." if len(mean) == 1 else None, label=label, **line)
        axes.fill_between(horizons, low, high, color=line["color"], alpha=0.18, linewidth=0)
    axes.set_title(title)
    axes.set_xlabel("steps predicted")
    axes.set_ylim(bottom=0)
    axes.set_xlim(1, max(len(mean), 2))
    plain_ticks(axes)


def entries_of_vector(clips: ShownClips, key: str, draw: Callable[[Axes, Array, int], None]) -> Figure:
    """Return a figure with a panel for each of a vector's first entries, over time.

    Args:
        clips: with that vector.
        key: of the vector.
        draw: adds the lines: (axes, steps of the truth, number of the entry). Step 0 is the last context
            frame.
    """
    truth = clips.truth[key]
    steps = np.arange(truth.shape[1]) - clips.context + 1
    shown = min(truth.shape[2], ENTRIES)
    with drawing():
        figure, panels = panels_of_page(shown, columns=4, height=1.75)
        for i, axes in enumerate(panels):
            axes.axvspan(steps[0] - 0.5, 0, color=GREEN, alpha=0.12, linewidth=0, label="context")
            draw(axes, steps, i)
            axes.set_title(f"{key}[{i}]", fontsize=8.5)
            axes.margins(x=0)
            plain_ticks(axes)
        for axes in panels[-4:]:
            axes.set_xlabel("steps predicted")
        legend_below(figure, panels)
    return figure
