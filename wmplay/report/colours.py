"""The colours of all images and the page: a few that colour-blind readers can tell apart.

The hues are from Okabe and Ito's palette ("Color Universal Design", 2008).
"""

from __future__ import annotations

from typing import TypeAlias

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
    "constant": (ORANGE, "-.", "the best constant"),
    "mean": (ORANGE, "-.", "mean of the data"),
}
OTHERS = (PURPLE, SKY, GREEN)  # sampled futures, and whatever else


def predictor_style(name: str, others: list[str]) -> tuple[str, str, str]:
    """Return colour, line style and label of a predictor; ``others`` are those without a fixed style."""
    if name in PREDICTORS:
        return PREDICTORS[name]
    return OTHERS[others.index(name) % len(OTHERS)], "-", name


def rgb(colour: str) -> Rgb:
    """Return ``#rrggbb`` as three numbers."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
