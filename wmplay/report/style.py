"""The common look of all images and the page: a few colours that colour-blind readers can tell apart.

The hues are from Okabe and Ito's palette ("Color Universal Design", 2008).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator
from PIL import ImageFont

Rgb: TypeAlias = tuple[int, int, int]

INK = "#1f2933"
QUIET = "#66727f"  # axes, captions
RULE = "#d8dee4"  # grid lines, borders
PAPER = "#ffffff"
BLUE = "#0072b2"  # the model, the policy
ORANGE = "#e69f00"
GREEN = "#009e73"  # real frames: the context
RED = "#d55e00"
SKY = "#56b4e9"
PURPLE = "#aa4499"

# predictors of a curve: colour, line style, what to call it
PREDICTORS: dict[str, tuple[str, str, str]] = {
    "model": (BLUE, "-", "model"),
    "copy-last": (RED, "--", "copy last frame"),
    "background": (QUIET, ":", "all background"),
    "marginal": (ORANGE, "-.", "per-pixel marginal"),
    "mean": (ORANGE, "-.", "mean of the data"),
}
OTHERS = (PURPLE, SKY, GREEN)  # sampled futures, and whatever else


def predictor_style(name: str, others: list[str]) -> tuple[str, str, str]:
    """Return colour, line style and label of a predictor; ``others`` are those without a fixed style."""
    if name in PREDICTORS:
        return PREDICTORS[name]
    return OTHERS[others.index(name) % len(OTHERS)], "-", name


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


def rgb(colour: str) -> Rgb:
    """Return ``#rrggbb`` as three numbers."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the plots' typeface, which comes with matplotlib, for drawing on images."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
