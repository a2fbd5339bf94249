"""Segments that are too short for all of a model to be fitted on them."""

from pathlib import Path

import pytest
from refusals import refusal

import wmplay

TINY = ["experiment=tiny", "report=false", "iterations=1", "collect.episodes=0", "fit.steps=2"]
TINY += ["evaluate.policy.episodes=0", "evaluate.prediction.episodes=0"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["model=fbt"], "FBT"),
        (["model=fit"], "FIT"),
        (["model=frnld"], "FRNLD"),
        (["model=ensemble", "model.of=fit", "model.members=2"], "Ensemble"),
    ],
)
def test_a_window_longer_than_the_segments_is_refused(
    overrides: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(capsys, "train", *TINY, *overrides)
    assert message == (
        f"fit.length is 7, but {name} looks back over 12 steps, some of which it would never be fitted "
        "on: set fit.length=12, or lower the model's context"
    )


@pytest.mark.parametrize("overrides", [["fit.length=12"], ["model.context=7"], ["fit.steps=0"]], ids=str)
def test_one_that_is_not_is_fitted(overrides: list[str]) -> None:
    run = wmplay.train([*TINY, "model=fit", *overrides])
    assert run.model.least_length == (7 if "model.context=7" in overrides else 12)
