"""What the loop gives to pieces, and what they may do to it."""

from __future__ import annotations

from pathlib import Path

import pytest

import wmplay
from wmplay.check import check_model

TINY = ["experiment=tiny", "report=false", "iterations=1", "collect.random_episodes=2", "fit.steps=2"]

STRICT = """
import wmplay
from wmplay.models.mlp import MLP

def look(observation):
    assert observation and not [key for key in observation if key.startswith("goal_")], list(observation)

@wmplay.register("model", "strict")
class Strict(MLP):
    def __init__(self, observation_space, action_space):
        super().__init__(observation_space, action_space, hidden=13, image_hidden=11)

    def initial(self, observation):
        look(observation)
        return super().initial(observation)

    def observe(self, belief, action, observation):
        look(observation)
        return super().observe(belief, action, observation)

    def loss(self, segment):
        look(segment.observation)
        return super().loss(segment)
"""


@pytest.fixture(autouse=True)
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugins").mkdir()
    return tmp_path / "plugins"


def test_no_model_is_given_goals(plugins: Path) -> None:
    (plugins / "strict.py").write_text(STRICT)
    run = wmplay.train(
        [*TINY, "model=strict", "evaluate.prediction.episodes=2", "evaluate.policy.episodes=2"]
    )
    assert "goal_proprio" in run.trajectories[0].observation
    check_model(run.model, run.env)  # its own findings do not matter here
    run.learned_env(2).reset(seed=3)
