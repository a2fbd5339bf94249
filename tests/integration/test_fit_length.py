"""A model that looks back further than segments are long."""

from typing import Any

import pytest

import wmplay
from wmplay.contracts import Segment
from wmplay.models.boxlcd.fit import FIT

TINY = ["experiment=tiny", "report=false", "iterations=1", "collect.episodes=0", "fit.steps=2"]
TINY += ["evaluate.policy.episodes=0", "evaluate.prediction.episodes=0"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["model=fit"], 12),
        (["model=fit", "model.context=5"], 7),
        (["model=fit", "fit.length=13"], 13),
        (["model=ensemble", "model.of=fit", "model.members=2"], 12),
    ],
    ids=str,
)
def test_segments_are_no_shorter_than_its_window(
    overrides: list[str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = []
    usual = FIT.loss

    def loss(self: Any, segment: Segment) -> Any:
        lengths.append(segment.action.shape[1])
        return usual(self, segment)

    monkeypatch.setattr(FIT, "loss", loss)
    wmplay.train([*TINY, *overrides])
    assert lengths[-1] == expected
