"""What the loop gives to pieces, and what they may do to it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from refusals import refused

import wmplay
from wmplay.errors import WmplayError
from wmplay.runs.weights import load_weights

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
def plugins(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    return tmp_path / "plugins"


def test_no_model_is_given_goals(plugins: Path) -> None:
    (plugins / "strict.py").write_text(STRICT)
    run = wmplay.train(
        [*TINY, "model=strict", "evaluate.prediction.episodes=2", "evaluate.policy.episodes=2"]
    )
    assert "goal_proprio" in run.trajectories[0].observation
    run.learned_env(2).reset(seed=3)


LEARNER = """
import copy
import torch
import wmplay

@wmplay.register("policy", "{name}")
class Meddler(torch.nn.Module):
    def __init__(self, action_space, model):
        super().__init__()
        self.borrowed = [model]
        self.place = torch.nn.Parameter(torch.zeros(action_space.shape[0]))

    def initial(self, batch_size):
        return ()

    def act(self, carry, observation, last_action, first, *, explore=False, generator=None):
        {act}
        return self.place.detach().expand(len(first), -1), carry

    def improve(self, practice):
        {improve}
        self.place.data += 0.1
        practice.advance(practice.steps, {{"moved": 1.0}})
        return {{}}

    def learner_state(self):
        return {{}}

    def load_learner_state(self, state):
        pass
"""
PRACTICE = ["improve.steps=4", "improve.num_envs=2", "learned.count=2", "collect.episodes=1"]


def train_with(plugins: Path, name: str, *, act: str = "pass", improve: str = "pass") -> wmplay.runs.load.Run:
    (plugins / f"{name}.py").write_text(LEARNER.format(name=name, act=act, improve=improve))
    small = ["model=mlp", "model.hidden=13", "model.image_hidden=11", "evaluate.prediction.episodes=2"]
    return wmplay.train([*TINY, *small, f"policy={name}", *PRACTICE, "evaluate.policy.episodes=2", "dir=run"])


@pytest.mark.parametrize(
    ("name", "where", "code"),
    [
        ("trainer", "improve", "next(practice.model.parameters()).data.add_(0.5)"),
        ("worker", "act", "next(self.borrowed[0].parameters()).data.add_(1.5)"),
    ],
)
def test_a_lent_model_is_not_to_be_changed(plugins: Path, name: str, where: str, code: str) -> None:
    with refused(WmplayError, ("Meddler", "model", "copy.deepcopy")):
        train_with(plugins, name, **{where: code})
    assert not Path("run").exists()


def test_what_else_is_done_to_a_lent_model_is_put_back(plugins: Path) -> None:
    marks = "practice.model.requires_grad_(False).train(); self.train()"
    run = train_with(plugins, "freezer", improve=marks, act="self.borrowed[0].train()")
    assert run.metrics[-1]["phase"] == "evaluate"


HOLDER = """
import torch
import wmplay
from wmplay.contracts import featured, seen_by

@wmplay.register("policy", "{name}")
class Holder(torch.nn.Module):
    def __init__(self, observation_space, action_space, model):
        super().__init__()
        self.model = featured(model, "holder")
        zeros = {{key: torch.zeros(1, *space.shape) for key, space in observation_space.items()}}
        size = model.features(model.initial(seen_by(model, zeros))).shape[1]
        self.actor = torch.nn.Linear(size, action_space.shape[0])

    def initial(self, batch_size):
        return None

    def act(self, carry, observation, last_action, first, *, explore=False, generator=None):
        belief = self.model.initial(seen_by(self.model, observation))
        return self.actor(self.model.features(belief)).tanh().detach(), belief

    def improve(self, practice):
        assert practice.model is self.model
        {steps}
        with torch.no_grad():
            for weight in {trained}.parameters():
                weight.add_(0.25)
        practice.advance(practice.steps, {{"moved": 1.0}})
        return {{}}

    def learner_state(self):
        return {{}}

    def load_learner_state(self, state):
        pass
"""


def hold(plugins: Path, name: str, trained: str = "self.actor", steps: str = "pass") -> wmplay.runs.load.Run:
    (plugins / f"{name}.py").write_text(HOLDER.format(name=name, trained=trained, steps=steps))
    model = ["model=mlp", "model.hidden=13", "model.image_hidden=11", "evaluate.prediction.episodes=0"]
    practice = ["improve.world=none", "improve.steps=4", "evaluate.policy.episodes=2", "dir=held"]
    return wmplay.train([*TINY, *model, f"policy={name}", *practice])


def test_a_policy_that_holds_the_model_saves_its_own_weights_alone(plugins: Path) -> None:
    run = hold(plugins, "holder")
    assert run.metrics[-1]["learned_steps"] == 4
    assert run.policy.model is run.model
    weights = run.directory.read_checkpoint()["weights"]
    assert {*weights["policy"]} == {"actor.weight", "actor.bias"}
    # as a version before this one wrote it, with the model's weights twice
    policy = {**weights["policy"], **{f"model.{key}": 0 * value for key, value in weights["model"].items()}}
    load_weights(run.parts.modules(), {**weights, "policy": policy}, run.path)
    assert all(torch.equal(value, weights["model"][key]) for key, value in run.model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "how", "says"),
    [
        ("greedy", {"trained": "self"}, ("Holder.improve", "model")),
        ("walker", {"steps": "practice.env.reset(seed=0)"}, ("improve.world", "none")),
    ],
)
def test_a_policy_that_trains_the_held_model_or_steps_no_world_is_refused_before_the_run(
    plugins: Path, name: str, how: dict[str, str], says: tuple[str, ...]
) -> None:
    with refused(WmplayError, says):
        hold(plugins, name, **how)
    assert not Path("held").exists()
