"""The card of an export says how well the run does, and verifying it finds what does not agree."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from refusals import assert_tokens, failure, refusal, refused

import wmplay
from wmplay.cards.verify import Comparison, check_agreement, verify
from wmplay.cli import main
from wmplay.errors import CardError, DamagedError, RunError, UnknownName, UsageError, WmplayError
from wmplay.evaluation.statistics import Interval

RUN = (
    *("experiment=tiny", "iterations=1", "report=false", "fit.steps=2", "collect.episodes=0"),
    *("evaluate.prediction.episodes=3", "evaluate.prediction.horizon=3", "evaluate.policy.episodes=3"),
    *("model=mlp", "planner.iterations=1", "env.max_steps=6", "collect.env.max_steps=6"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and its export."""
    path = tmp_path_factory.mktemp("cards")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        wmplay.train([*RUN, "dir=run"])
        assert main(["export", "run", "--out", "out", "--licence", "MIT"]) == 0
    return path


@pytest.fixture(autouse=True)
def out(made: Path, tmp_path: Path) -> Path:
    """A copy of the export that a test may change."""
    return Path(shutil.copytree(made / "out", tmp_path / "out"))


def card_of(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "card.json").read_text())
    return content


def forge(out: Path, change: Mapping[str, Any]) -> None:
    """Change a card, and seal it as if it had been exported like this."""
    card = {**card_of(out), **change}
    card.pop("checksum", None)
    (out / "card.json").write_text(json.dumps(card))
    about = json.loads((out / "export.json").read_text())
    about.pop("checksum", None)
    about["card_sha256"] = hashlib.sha256((out / "card.json").read_bytes()).hexdigest()
    (out / "export.json").write_text(json.dumps(about))


def test_a_card_says_what_the_run_is_and_how_well_it_does(out: Path) -> None:
    card, page = card_of(out), (out / "card.md").read_text()
    assert card["pieces"]["model"] == "mlp"
    assert (card["data"]["episodes"], card["work"]["updates"]) == (7, 2)
    assert card["work"]["gflop"] > 0
    assert card["train"] == "wmplay train " + " ".join(RUN)
    for name in ("policy/success", "policy/return", "prediction/lcd/iou@3", "rewards/error@1"):
        score = card["numbers"][name]
        assert score["low"] <= score["value"] <= score["high"]
        assert score["n"] == 3
        assert f"| {name} |" in page
    assert "random" in card["numbers"]["policy/success"]["beside"]
    assert "copy-last" in card["numbers"]["prediction/lcd/iou@1"]["beside"]
    for text in (card["manifest"], card["held_out"], card["train"], "wmplay eval out --verify", "MIT"):
        assert text in page
    assert "/tmp" not in page + json.dumps(card) + (out / "config.yaml").read_text()


def test_a_run_agrees_with_its_card(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(out), "--verify"]) == 0
    assert f"{out} agrees with its card" in capsys.readouterr().out
    assert not any(each.name.startswith("policy") for each in verify(out, episodes=0))
    few = verify(out, episodes=2)
    assert all(each.agrees for each in few)
    assert next(each for each in few if each.name == "policy/success").card.value in (0, 0.5, 1)


def test_other_numbers_on_a_card_are_found(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    better = {"value": 0.99, "low": 0.98, "high": 1.0, "n": 3, "beside": {}}
    forge(out, {"numbers": {**card_of(out)["numbers"], "prediction/lcd/iou@3": better}})
    assert main(["eval", str(out), "--verify"]) == 2
    assert_tokens(capsys.readouterr().err.splitlines()[-1], (out, "prediction/lcd/iou@3", "0.99"))


def test_other_episodes_are_not_scored(out: Path) -> None:
    for key in ("manifest", "held_out"):
        kept = card_of(out)[key]
        forge(out, {key: "0123456789abcdef"})
        with refused(CardError, "out", got=kept, expected="0123456789abcdef"):
            verify(out)
        forge(out, {key: kept})


@pytest.mark.parametrize("name", ["card.json", "card.md"])
@pytest.mark.parametrize("how", ["gone", "changed"])
def test_a_missing_or_changed_card_is_one_line(out: Path, name: str, how: str) -> None:
    if how == "gone":
        (out / name).unlink()
    else:
        (out / name).write_text((out / name).read_text().replace("0.", "1.", 1))
    with refused(RunError if how == "gone" else DamagedError, name):
        verify(out)
    assert wmplay.load_run(out).model is not None


def test_changed_weights_are_not_scored(out: Path) -> None:
    content = bytearray((out / "weights.safetensors").read_bytes())
    content[-3] ^= 1
    (out / "weights.safetensors").write_bytes(content)
    with refused(DamagedError, "weights.safetensors"):
        verify(out)


def test_an_export_without_a_card(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about = json.loads((out / "export.json").read_text())
    for key in ("card_sha256", "page_sha256", "checksum"):
        del about[key]
    (out / "export.json").write_text(json.dumps(about))
    assert_tokens(refusal(capsys, "eval", str(out), "--verify"), ("out", "card"))


def test_what_has_no_card_to_verify(made: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with refused(RunError, made / "run", advice="wmplay export"):
        verify(made / "run")
    forge(out, {"numbers": {}})
    with refused(CardError, out):
        verify(out)
    with refused(UsageError, "episodes", got=1):
        verify(out, episodes=1)
    assert_tokens(refusal(capsys, "eval", str(out), "--verify", "seed=1"), ("--verify", "seed=1"))
    assert_tokens(refusal(capsys, "eval", str(out), "--episodes", "3"), ("--episodes", "--verify"))
    for damage in ({"numbers": 3}, {"episodes": {"policy": {"returns": "x"}}}, {"evaluate": {"seed": "x"}}):
        forge(out, {"numbers": {"x": {"value": 1, "low": 1, "high": 1, "n": 1, "beside": {}}}, **damage})
        with refused(WmplayError):
            verify(out)


@pytest.mark.parametrize(
    ("card", "here", "agrees"),
    [
        (Interval(0.9, 0.8, 1.0), Interval(0.85, 0.7, 0.95), True),
        (Interval(1.0, 1.0, 1.0), Interval(0.75, 0.1, 1.4), True),  # no variance on the card
        (Interval(0.9, 0.8, 1.0), Interval(0.5, 0.3, 0.7), False),
        (Interval(0.9, 0.8, 1.0), Interval(0.7, 0.59, 0.81), True),
        (Interval(0.9, 0.8, 1.0), Interval(0.7, 0.61, 0.79), False),
        (Interval(2.0, float("nan"), float("nan")), Interval(2.0, float("nan"), float("nan")), True),
        (Interval(2.0, 1.0, 3.0), Interval(*[float("nan")] * 3), False),
    ],
)
def test_when_numbers_agree(card: Interval, here: Interval, agrees: bool) -> None:
    comparison = Comparison("x", card, here)
    assert comparison.agrees is agrees
    if not agrees:
        with refused(CardError, ("run", "x"), got=["x"]):
            check_agreement(Path("run"), [comparison])
    else:
        check_agreement(Path("run"), [comparison])


def test_a_name_that_is_neither_a_run_nor_a_trained_one() -> None:
    with refused(UnknownName, "luxo-mlq", got="luxo-mlq", advice=("luxo-mlp",)):
        wmplay.load_run("luxo-mlq")


@pytest.mark.parametrize("command", [["train", "run={}"], ["export", "{}", "--out", "x"], ["eval", "{}"]])
@pytest.mark.parametrize("name", ["luxo-mlp", "out"])
def test_an_export_is_no_run_to_go_on_with(
    command: list[str], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_tokens(failure(capsys, *(text.format(name) for text in command)), (name, "wmplay report"))


def test_the_report_of_an_export_is_its_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "luxo-mlp"]) == 0
    assert capsys.readouterr().out.startswith("# luxo-mlp")
