"""The waiting times of a user: the command line and the demo."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .measure import Check, Result, Side, Timing, take_turns

WMPLAY = str(Path(sys.executable).with_name("wmplay"))
REPEATS = 10
HELP, LIST = 0.5, 1.5  # seconds
DEMO, MEMORY = 300.0, 4.0  # seconds, GB
SAMPLE = 0.2  # seconds between looks at the memory


def benchmark_cli() -> Result:
    def command(*arguments: str) -> Side:
        def run() -> None:
            subprocess.run([WMPLAY, *arguments], check=True, stdout=subprocess.DEVNULL)

        return Side(" ".join(["wmplay", *arguments]), lambda: run)

    timings = take_turns([command("--help"), command("list")], REPEATS)
    return Result(
        "cli: the command line",
        "Whole processes, from start to exit, with the files in the page cache.",
        timings,
        1,
        "commands",
        [
            Check(f"`{timing.name}`", timing.median, bar, " s", shortest=timing.best)
            for timing, bar in zip(timings, (HELP, LIST), strict=True)
        ],
    )


def benchmark_demo() -> Result:
    with tempfile.TemporaryDirectory() as directory:
        seconds, memory = run_measured([WMPLAY, "train", "experiment=quickstart"], Path(directory))
    return Result(
        "demo: the quickstart",
        "`wmplay train experiment=quickstart`, which `make demo` runs after the installation, from the "
        "start to the report. Memory is the resident memory of the process and its workers; shared pages "
        "count more than once.",
        [Timing("wmplay train experiment=quickstart", [seconds])],
        1,
        "runs",
        [
            Check("quickstart, wall time", seconds, DEMO, " s"),
            Check("quickstart, peak memory", memory / 1e9, MEMORY, " GB"),
        ],
    )


def run_measured(command: list[str], directory: Path) -> tuple[float, int]:
    """Run a command; return its wall seconds and the peak of its processes' resident bytes.

    Raises:
        SystemExit: if the command fails.
    """
    begin = time.perf_counter()
    peak = 0
    process = subprocess.Popen(command, cwd=directory)
    while process.poll() is None:
        peak = max(peak, sum(_resident_bytes(pid) for pid in _with_children(process.pid)))
        time.sleep(SAMPLE)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}")
    return time.perf_counter() - begin, peak


def _with_children(pid: int) -> list[int]:
    """Return a process and its descendants, from Linux's /proc; processes that have just ended are
    missing."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            found += _with_children(int(child))
    return found


def _resident_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
