"""The results of the benchmarks as Markdown."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .measure import Check, Result

PACKAGES = ("wmplay", "torch", "numpy", "gymnasium", "box2d", "torchrl", "stable-worldmodel", "pylance")


def document(results: Sequence[Result], setting: str) -> str:
    """Return the whole page; the setting is that before the first benchmark."""
    parts = [
        "# Benchmarks",
        "The command below writes this page; no figure is typed by hand. Each comparison is measured in one "
        "run in which the sides alternate (A B A B ...). A ratio is the median of the turns' ratios, so that "
        "a machine whose speed drifts slows both sides equally. The next column has the ratio of the "
        "shortest times. Absolute figures are medians.",
        setting,
        "## The bars",
        bars([check for result in results for check in result.checks]),
        *(section(result) for result in results),
    ]
    return "\n\n".join(parts) + "\n"


def updated(page: str, results: Sequence[Result], setting: str) -> str:
    """Return the page with some sections replaced, each with its bars and setting."""
    head, *old = re.split(r"(?m)^(?=## )", page)
    sections = {text.partition("\n")[0]: text.strip() for text in old}
    for result in results:
        checks = bars(result.checks) if result.checks else ""
        parts = [section(result), checks, "Measured separately:", setting]
        sections[f"## {result.title}"] = "\n\n".join(part for part in parts if part)
    return "\n\n".join([head.strip(), *sections.values()]) + "\n"


def section(result: Result) -> str:
    """Return the section of one benchmark: the compared sides, and the time of each."""
    rows = []
    for timing in result.timings:
        rate = f"{number(result.work / timing.median)} {result.unit}/s"
        rows.append([timing.name, seconds(timing.best), seconds(timing.median), rate, len(timing.seconds)])
    parts = [
        f"## {result.title}",
        result.compared,
        table(["", "shortest", "median", "at the median", "turns"], rows),
        *result.notes,
    ]
    return "\n\n".join(parts)


def bars(checks: Iterable[Check]) -> str:
    """Return each figure next to the bar that it must reach."""
    rows = [
        [
            check.what,
            number(check.value) + check.unit,
            "" if check.shortest is None else number(check.shortest),
            f"{'at least' if check.at_least else 'at most'} {number(check.bar)}",
            "yes" if check.met else "**no**",
        ]
        for check in checks
    ]
    return table(["what", "measured", "from the shortest times", "bar", "met"], rows)


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def number(value: float) -> str:
    """Return a number with three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def seconds(value: float) -> str:
    """Return a duration in a suitable unit."""
    return f"{number(value)} s" if value >= 1 else f"{number(value * 1000)} ms"


def describe_setting(command: str, threads: int) -> str:
    """Return machine, versions, commit, date and command."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    rows = [
        ["command", f"`{command}`"],
        ["date", date.today().isoformat()],
        ["commit", _commit()],
        ["processor", f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB of memory"],
        ["load at the start", f"{os.getloadavg()[0]:.2f} (running programs, average of a minute)"],
        ["threads", f"{threads} for torch; one process, but for Lance's own threads and the demo's workers"],
        ["system", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"],
        ["versions", ", ".join(f"{package} {_version(package)}" for package in PACKAGES)],
    ]
    return table(["", ""], rows)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "wmplay", "configs", "scripts")
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")
