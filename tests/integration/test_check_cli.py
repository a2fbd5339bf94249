"""``wmplay check``, as a person types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from wmplay.cli import main

SMALL = ["model.hidden=17", "model.image_hidden=19", "env.physics=fast"]

LEAKY = """
import wmplay
from wmplay.models.mlp import MLP

@wmplay.register("model", "leaky")
class Leaky(MLP):
    def predict(self, belief, action, **draws):
        return super().predict(belief, action + action.mean(1, keepdim=True), **draws)
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_built_in_model_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model=mlp", *SMALL]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "ok   no peeking" in lines
    assert all(line.startswith("ok   ") for line in lines)


def test_a_plugin_that_knows_the_future_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    Path("plugins").mkdir()
    Path("plugins/leaky.py").write_text(LEAKY)
    assert main(["check", "model=leaky", *SMALL]) == 2
    seen = capsys.readouterr()
    assert "FAIL no peeking: changing action[1:] changes what is predicted before" in seen.out
    assert seen.err.startswith("wmplay: error: model=leaky: 2 of 14 properties do not hold")
    assert len(seen.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        ("modle=mlp", "unknown kind to check 'modle': did you mean 'model'?"),
        ("model=mpl", "unknown model 'mpl': did you mean"),
        ("model", "model"),
    ],
)
def test_what_cannot_be_checked_is_one_line(
    piece: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", piece]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
