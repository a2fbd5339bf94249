"""The command line, as a person types it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wmplay
from wmplay.cli import main


def test_list_shows_kinds_names_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    output = capsys.readouterr().out
    for word in ("env", "luxo", "rssm", "cem", "quickstart"):
        assert word in output
    assert main(["list", "model"]) == 0
    assert "luxo" not in capsys.readouterr().out


def test_simulate_fills_a_store_and_appends(capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "simulate",
        "urchin",
        "physics=fast",
        "max_steps=13",
        "--episodes",
        "5",
        "--out",
        "data/urchin",
    ]
    assert main(command) == 0
    assert main([*command, "--seed", "1", "--num-envs", "2"]) == 0
    store = wmplay.load_trajectories("data/urchin")
    assert len(store) == 10
    assert store.steps == 130
    assert "10 episodes, 130 steps" in capsys.readouterr().err


RECALL = """
import torch
import wmplay

@wmplay.register("policy", "recall")
class Recall(torch.nn.Module):
    open_loop = True

    def __init__(self, action_space, planner, objective):
        super().__init__()
        self.parts = planner, objective  # the untrained one beside it is built with these, too
        self.place = torch.nn.Parameter(torch.zeros(action_space.shape[0]))

    def initial(self, batch_size):
        return ()

    def act(self, carry, observation, last_action, first, *, explore=False, generator=None):
        return self.place.detach().expand(len(first), -1), carry

    def improve(self, practice):
        seen = practice.store.sample(5, 3, practice.seed).action.mean((0, 1))
        self.place.data += (seen - self.place.data) / 2
        practice.advance(practice.steps, {"moved": seen.norm().item()})
        return {}

    def learner_state(self):
        return {}

    def load_learner_state(self, state):
        pass
"""


def test_a_policy_may_learn_from_the_store_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("plugins").mkdir()
    Path("plugins/recall.py").write_text(RECALL)
    assert main(["check", "policy=recall"]) == 0
    assert re.search("^ok .*weight", capsys.readouterr().out, re.MULTILINE)
    learn = ["improve.steps=1", "improve.world=real", "iterations=1", "report=false", "dir=run"]
    assert main(["train", "experiment=tiny", "policy=recall", *learn]) == 0
    out, err = capsys.readouterr()
    assert "moved" in next(line for line in err.splitlines() if line.startswith("improve"))  # its metric
    assert "report:" not in out


def test_a_run_can_be_evaluated_reported_and_acted_with(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["model=mlp", "model.hidden=17", "model.image_hidden=11", "env.max_steps=11"]
    few = ["evaluate.prediction.episodes=3", "evaluate.prediction.horizon=3", "evaluate.generation.clips=2"]
    assert main(["train", "experiment=tiny", "iterations=1", "dir=run", *small, *few]) == 0
    assert "report: run/report.html" in capsys.readouterr().out
    (Path("run") / "report.html").unlink()
    metrics = (Path("run") / "metrics.jsonl").read_bytes()
    assert main(["eval", "run", "evaluate.policy.episodes=5"]) == 0
    assert "5" in capsys.readouterr().out
    assert main(["report", "run"]) == 0
    assert (Path("run") / "report.html").stat().st_size > 10_000
    assert (Path("run") / "metrics.jsonl").read_bytes() == metrics
    command = [
        "simulate",
        "luxo",
        "task=body_goal",
        "physics=fast",
        "--run",
        "run",
        "--episodes",
        "3",
        "--out",
        "d",
    ]
    assert main([*command, "--explore"]) == 0
    assert len(wmplay.load_trajectories("d")) == 3


def test_cfg_prints_the_config_and_stops(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--cfg", "experiment=tiny", "seed=17"]) == 0
    assert "seed: 17" in capsys.readouterr().out
    assert not Path("runs").exists()


def test_importing_wmplay_registers_its_envs_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, wmplay, gymnasium; print('wmplay/LuxoBodyGoal-v0' in gymnasium.registry, "
        "sorted({'torch', 'Box2D', 'hydra', 'matplotlib'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.strip() == "True []"


def test_functions_keep_their_names_beside_modules_of_the_same_name() -> None:
    from wmplay.loop.train import train
    from wmplay.simulation import simulate

    assert wmplay.simulate is simulate
    assert wmplay.train is train
    assert set(wmplay.__all__) <= set(dir(wmplay))
    with pytest.raises(AttributeError, match="'simulat'"):
        _ = wmplay.simulat


def test_the_worked_example_is_used_as_a_user_would(capsys: pytest.CaptureFixture[str]) -> None:
    example = Path(__file__).parents[2] / "plugins" / "my_gru.py"
    assert len(example.read_text().splitlines()) <= 60
    Path("plugins").mkdir()
    shutil.copy(example, "plugins")
    assert main(["list", "model"]) == 0
    assert "plugins/my_gru.py" in capsys.readouterr().out
    settings = ["iterations=1", "report=false", "dir=run", "model=my_gru", "model.hidden=17"]
    assert main(["train", "experiment=tiny", *settings]) == 0
    model = wmplay.load_run("run").model
    assert (type(model).__name__, model.cell.hidden_size) == ("GRU", 17)
