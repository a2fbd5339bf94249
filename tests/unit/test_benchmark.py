"""The benchmark script's arithmetic and tables; nothing here is timed."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("benchmarks.measure")


@pytest.fixture
def document(measure: ModuleType) -> ModuleType:
    return importlib.import_module("benchmarks.document")


def test_sides_take_turns_and_the_first_turns_do_not_count(measure: ModuleType) -> None:
    log: list[str] = []

    def side(name: str) -> object:
        def ready() -> Callable[[], None]:
            log.append(f"ready {name}")
            return lambda: log.append(name)

        return measure.Side(name, ready)

    timings = measure.take_turns([side("a"), side("b")], repeats=3, warm_up=2)
    assert log == ["ready a", "a", "ready b", "b"] * 5
    assert [timing.name for timing in timings] == ["a", "b"]
    assert [len(timing.seconds) for timing in timings] == [3, 3]


def test_ratios_are_taken_turn_by_turn(measure: ModuleType) -> None:
    ours, other = measure.Timing("ours", [2.0, 9.0, 6.0]), measure.Timing("other", [4.0, 3.0, 2.0])
    time = measure.time_ratio("it", ours, other, at_most=2.9)
    assert (time.value, time.shortest, time.met) == (3.0, 1.0, False)
    speed = measure.speed_ratio("it", ours, other, at_least=0.3)
    assert (speed.value, speed.shortest, speed.met) == (pytest.approx(1 / 3), 1.0, True)


@pytest.mark.parametrize(
    ("value", "text"), [(0.70512, "0.705"), (1.0, "1"), (99.94, "99.9"), (1234567.8, "1,234,568")]
)
def test_numbers_have_three_digits_that_matter(document: ModuleType, value: float, text: str) -> None:
    assert document.number(value) == text


def test_some_sections_are_written_anew_and_the_others_stay(
    document: ModuleType, measure: ModuleType
) -> None:
    page = "# Page\n\nhead\n\n## one: old\n\nfirst\n\n## two: kept\n\nsecond\n"
    result = measure.Result("one: old", "anew", [measure.Timing("it", [1.0])], 3, "runs", [])
    got = document.updated(page, [result], "its setting")
    assert "first" not in got
    assert got.index("head") < got.index("anew") < got.index("its setting") < got.index("## two: kept")
    other = measure.Result("three", "more", [measure.Timing("it", [1.0])], 3, "runs", [])
    assert document.updated(got, [other], "").index("second") < document.updated(got, [other], "").index(
        "more"
    )


def test_the_page_says_which_bars_are_met(document: ModuleType, measure: ModuleType) -> None:
    result = measure.Result(
        "store: windows",
        "This and that.",
        [measure.Timing("wmplay", [0.25, 0.5, 0.75]), measure.Timing("numpy", [2.0, 2.0, 2.0])],
        10,
        "windows",
        [measure.Check("size", 147.2, 160, " bytes"), measure.Check("speed", 5, 7, " x", at_least=True)],
        ["A note."],
    )
    page = document.document([result], "The setting.")
    assert "\n\nThe setting.\n\n## The bars\n\n" in page
    assert "| size | 147 bytes |  | at most 160 | yes |" in page
    assert "| speed | 5 x |  | at least 7 | **no** |" in page
    assert "| wmplay | 250 ms | 500 ms | 20 windows/s | 3 |" in page
    assert "| numpy | 2 s | 2 s | 5 windows/s | 3 |" in page
    assert "## store: windows\n\nThis and that.\n\n|" in page
    assert page.endswith("\n\nA note.\n")


def test_an_unknown_benchmark_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "benchmark.py"), "lcdd"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "unknown benchmark 'lcdd': did you mean 'lcd'?" in done.stderr
