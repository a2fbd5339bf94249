"""``wmplay eval RUN policies=...``: with the true dynamics as the model, both worlds rank policies alike."""

import json
from pathlib import Path

import pytest
from refusals import assert_tokens, failure

import wmplay
from wmplay.cli import main

TINY = ("experiment=tiny", "iterations=1", "collect.random_episodes=2", "collect.episodes=0", "fit.steps=0")
TINY += ("evaluate.prediction.episodes=0", "evaluate.policy.episodes=0", "report=false")
PENDULUM = ("env=gym", "env.id=Pendulum-v1", "env.max_steps=9", "learned.reward=model")
PENDULUM += ("model=oracle", "objective=discounted_return", "planner.horizon=3", "planner.candidates=8")
CARTPOLE = (
    "env=gym",
    "env.id=CartPole-v1",
    "model=gru",
    "policy=random",
    "planner=null",
    "objective=null",
    "explorer=null",
)
FEW = ("evaluate.policy.episodes=5", "collect.num_envs=3")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the true dynamics, its export, and a run in another world."""
    path = tmp_path_factory.mktemp("made")
    wmplay.train([*TINY, *PENDULUM, f"dir={path / 'true'}"])
    wmplay.train([*TINY, *CARTPOLE, f"dir={path / 'cart'}"])
    assert main(["export", str(path / "true"), "--out", str(path / "exported")]) == 0
    return path


@pytest.fixture(autouse=True)
def _here(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)


def test_runs_exports_planners_and_the_random_policy(capsys: pytest.CaptureFixture[str]) -> None:
    policies = ("own", "random", "exported", "icem")
    assert main(["eval", "true", f"policies={','.join(policies)}", "imagined=11", *FEW]) == 0
    assert_tokens(capsys.readouterr().out, (*policies, "true/ranking.json"))
    found = json.loads(Path("true/ranking.json").read_text())
    assert (found["measure"], found["real_episodes"], found["imagined_episodes"]) == ("return", 5, 11)
    ranks = found["policies"]
    assert list(ranks) == list(policies)
    assert ranks["random"]["optimism"] == pytest.approx([0, 0, 0], abs=1e-4), "the same starts and actions"
    assert ranks["exported"]["real"] == ranks["own"]["real"]
    assert found["horizons"] == [1, 2, 5, 9]
    assert all(rank["width"] <= rank["real_width"] for rank in ranks.values())


@pytest.mark.parametrize(
    ("arguments", "tokens"),
    [
        (("policies=random",), ("policies", "random", "two")),
        (("policies=",), ("policies", "two")),
        (("imagined=20",), ("policies", "two")),
        (("policies=own,own",), ("policies", "own", "two")),
        (("policies=own,icme",), ("icme", "icem")),
        (("policies=own,gone/run",), ("gone/run",)),
        (("policies=own,cart",), ("cart", "CartPole-v1", "Pendulum-v1")),
        (("policies=own,random", "evaluate.policy.episodes=1"), ("evaluate.policy.episodes", "1", "2")),
        (("policies=own,random", "evaluate.policy.episodes=9", "imagined=10"), ("imagined", "10", "11")),
        (("policies=own,random", "imagined=many"), ("imagined", "many")),
        (("policies=own,random", "env.id=CartPole-v1"), ("Pendulum-v1", "CartPole-v1")),
    ],
)
def test_what_cannot_be_ranked(
    arguments: tuple[str, ...], tokens: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_tokens(failure(capsys, "eval", "true", *FEW, *arguments), tokens)


def test_a_planner_needs_an_objective(capsys: pytest.CaptureFixture[str]) -> None:
    assert_tokens(failure(capsys, "eval", "cart", "policies=random,cem", *FEW), ("cart", "objective", "cem"))
