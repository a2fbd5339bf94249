"""The common look of all images and plots, and their typeface."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator
from PIL import ImageFont

from wmplay.report.colours import INK, PAPER, QUIET, RULE


@contextmanager
def drawing() -> Iterator[None]:
    """Apply matplotlib's settings for figures within the block, and restore the old ones afterwards."""
    settings: Any = {
        "font.size": 9,
        "font.family": "DejaVu Sans",
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlecolor": INK,
        "axes.labelcolor": QUIET,
        "axes.edgecolor": QUIET,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": RULE,
        "grid.linewidth": 0.6,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "legend.labelcolor": INK,
        "lines.linewidth": 1.6,
        "figure.facecolor": PAPER,
        "savefig.dpi": 160,
        "text.parse_math": False,  # names of observations may have dollars
    }
    with matplotlib.rc_context(settings):
        yield


def plain_ticks(axes: Axes) -> None:
    """Set few ticks, and write 20k rather than 20000, so that labels never overlap."""
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_locator(MaxNLocator(5))


def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the plots' typeface, which comes with matplotlib, for drawing on images."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
