"""``wmplay check``, as a person types it."""

from __future__ import annotations

import json
import re
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

COST = """
import wmplay

@wmplay.register("objective", "cost")
class Cost:
    def __call__(self, prediction, observation):
        return -prediction.reward.sum(1)
"""

STALE = """
import gymnasium
import numpy as np
import wmplay
from gymnasium.spaces import Box, Dict

@wmplay.register("env", "stale")
class Stale(gymnasium.Env):
    def __init__(self, max_steps: int = 5):
        self.max_steps = max_steps
        self.action_space = Box(-1, 1, (2,))
        self.observation_space = Dict(place=Box(-1, 1, (2,)))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.time = self.np_random.uniform(-1, 1, 2).astype(np.float32), 0
        return {"place": self.place.copy()}, {}

    def step(self, action):
        before, self.time = self.place, self.time + 1
        self.place = 0.9 * self.place + 0.1 * action
        return {"place": before.copy()}, 0.0, False, self.time >= self.max_steps, {}
"""

ODD = """
import gymnasium
import wmplay

@wmplay.register("env", "scheme")
class Scheme(gymnasium.Env):
    def __init__(self, colour):
        pass

@wmplay.register("env", "plain")
class Plain:
    def __init__(self, size: int = 3):
        pass
"""


@pytest.mark.parametrize("model", [["model=rssm_small", "env.physics=fast"], ["model=mlp", *SMALL]])
def test_a_built_in_model_passes(model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *model]) == 0
    seen = capsys.readouterr()
    lines = seen.out.splitlines()
    assert "ok   no peeking" in lines
    assert all(line.startswith(("ok   ", "--   ")) for line in lines)
    assert "ok   predictions are on time" in lines
    for told in ("short fit 100 updates in ", "alignment (150|450) updates in "):
        assert re.search(f"^{told}", seen.err, re.MULTILINE)


def test_a_plugin_that_knows_the_future_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    Path("plugins").mkdir()
    Path("plugins/leaky.py").write_text(LEAKY)
    assert main(["check", "model=leaky", *SMALL]) == 2
    seen = capsys.readouterr()
    assert "FAIL no peeking: changing action[1:] changes what is predicted before" in seen.out
    error = seen.err.splitlines()[-1]
    assert re.match(r"wmplay: error: model=leaky: \d of \d\d properties do not hold", error)


@pytest.mark.parametrize("piece", ["env=bounce env.physics=fast", "planner=random_shooting planner.hold=2"])
def test_a_built_in_env_and_planner_pass(piece: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *piece.split()]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 10
    assert not any(line.startswith("FAIL") for line in lines)


def test_a_plugin_env_that_observes_before_it_acts_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    Path("plugins").mkdir()
    Path("plugins/stale.py").write_text(STALE)
    assert main(["check", "env=stale", "env.max_steps=7"]) == 2
    seen = capsys.readouterr()
    assert "FAIL actions show in their own step: an action changes what is seen 1 step late" in seen.out
    assert seen.err.startswith("wmplay: error: env=stale: 1 of 11 properties do not hold")
    assert seen.err.count("\n") == 1


@pytest.mark.parametrize("objective", ["sum_of_rewards", "cost"])
def test_a_report_is_one_json_object(objective: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("plugins").mkdir()
    Path("plugins/cost.py").write_text(COST)
    code = main(["check", f"objective={objective}", "env.physics=fast", "--json", "--quick"])
    seen = capsys.readouterr()
    report = json.loads(seen.out)
    status = {finding["name"]: finding["status"] for finding in report["findings"]}
    expected = (2, False, "failed") if objective == "cost" else (0, True, "ok")
    assert (code, report["passed"], status["better is higher"]) == expected
    assert set(status.values()) <= {"ok", "failed", "not tried"}


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        ("modle=mlp", "unknown kind to check 'modle': did you mean 'model'?"),
        ("model=mpl", "unknown model 'mpl': did you mean"),
        ("model", "model"),
        ("env=bonuce", "unknown env 'bonuce': did you mean 'bounce'"),
        ("env=gym env.id=Cartpole-v7", "unknown Gymnasium environment 'Cartpole-v7'"),
        ("env=bounce env.max_step=3", "max_step"),
        ("env=bounce env.max_steps=0", "max_steps is 0, expected at least 1"),
        ("env=scheme", "Scheme needs colour from the run"),
        ("env=plain", "Plain is no gymnasium.Env, as every env is: let it inherit from that"),
        ("planner=cme", "unknown planner 'cme': did you mean 'cem'"),
        ("planner=cem planner.candidates=0", "cem: candidates is 0, expected at least 1"),
        ("planner=cem planner.candidate=9", "candidate"),
    ],
)
def test_what_cannot_be_checked_is_one_line(
    piece: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("plugins").mkdir()
    Path("plugins/odd.py").write_text(ODD)
    assert main(["check", *piece.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
