"""Numbers in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from wmplay.evaluation.statistics import Interval


def number(value: float) -> str:
    """Return three significant digits, without exponents in the middle range; a dash for NaN and infinity."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e7:
        return f"{value:.2e}"
    decimals = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3 if size >= 0.1 else 4
    return f"{value:,.{decimals}f}"


def interval(x: Interval) -> str:
    """Return ``0.742 [0.731, 0.753]``, to two digits of the uncertainty, without unknown ends."""
    return _alike(x, x.value) + (f" [{_alike(x, x.low)}, {_alike(x, x.high)}]" if _known(x) else "")


def broken(text: str) -> str:
    """Return an interval with its bracket on a second line, for narrow columns."""
    return text.replace(" [", "\n[")


def plus_minus(x: Interval) -> str:
    """Return ``±0.011``, half of an interval's width, or a dash if the ends are unknown."""
    return f"±{_alike(x, (x.high - x.low) / 2)}" if _known(x) else "–"


def _alike(x: Interval, value: float) -> str:
    """Return one of an interval's numbers, with as many decimals as the others."""
    half = (x.high - x.low) / 2
    decimals = 1 - math.floor(math.log10(half)) if _known(x) and half > 0 else math.inf
    return f"{value:,.{max(0, int(decimals))}f}" if decimals < 6 else number(value)


def percent(x: Interval) -> str:
    """Return ``98.4% [95.9, 99.4]``."""
    if not math.isfinite(x.value):
        return "–"
    return f"{100 * x.value:.1f}%" + (f" [{100 * x.low:.1f}, {100 * x.high:.1f}]" if _known(x) else "")


def _known(x: Interval) -> bool:
    return math.isfinite(x.low) and math.isfinite(x.high)


def duration(seconds: float) -> str:
    """Return ``0.8 s``, ``47 s``, ``2 min 05 s`` or ``3 h 07 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def wall_times(info: Mapping[str, Any]) -> str:
    """Return the time of each phase of a run, as ``collect 12 s, fit 1 min 05 s``, without those near
    zero."""
    wall: Mapping[str, float] = info.get("wall") or {}
    return ", ".join(f"{phase} {duration(seconds)}" for phase, seconds in wall.items() if seconds >= 0.05)


def counted(n: int, what: str) -> str:
    """Return ``1 step`` or ``2 steps``."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
