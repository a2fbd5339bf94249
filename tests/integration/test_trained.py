"""The trained runs that come with wmplay: small, without pickles, and as good as their cards say."""

from pathlib import Path

import pytest

import wmplay
from wmplay.cards.verify import check_agreement, verify
from wmplay.runs import shipped
from wmplay.runs.load import ExportedRun

SLOW = ["pendulum-pets"]  # plans for 200 steps of an episode: its predictions alone are compared here
MOST = 3_000_000  # bytes of all together


def test_they_are_small_and_of_safe_formats() -> None:
    files = [path for path in shipped.folder().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST
    assert {path.suffix for path in files} == {".safetensors", ".json", ".yaml", ".md"}
    for name in shipped.names():
        card = (shipped.folder() / name / "card.md").read_text()
        assert f"# {name}\n" in card
        assert "| licence | MIT |" in card


@pytest.mark.parametrize("name", shipped.names())
def test_a_trained_run_is_as_good_as_its_card_says(name: str) -> None:
    assert isinstance(wmplay.load_run(name), ExportedRun)
    comparisons = verify(Path(name), episodes=0 if name in SLOW else 2)
    assert comparisons
    check_agreement(Path(name), comparisons)
