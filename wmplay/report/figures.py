"""What the plots share: figures of the page's width, in one look."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wmplay.report.style import drawing

WIDTH = 9.6  # inches of every figure: they share the page's width


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    with drawing():
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def panels_of_page(count: int, *, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of page width with ``count`` axes in rows."""
    columns = min(columns, max(count, 2))
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH, height * rows + 0.25), layout="constrained")
    grid = figure.add_gridspec(rows, columns)
    return figure, [figure.add_subplot(grid[i // columns, i % columns]) for i in range(count)]


def legend_below(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend for all panels, outside of them."""
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), 6))
