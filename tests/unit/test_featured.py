"""Models that show what they know as numbers: at every frame at once, and after each predicted step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Dict
from refusals import refused
from small_models import ACTIONS, MODELS, OBSERVATIONS, A, B, H, T, actions, make_model, seed_spaces, segment
from torch import nn
from torch.utils._pytree import tree_leaves

from wmplay.contracts import Featured, Segment, capabilities, featured
from wmplay.errors import ConfigError
from wmplay.models.ensemble import Ensemble
from wmplay.models.mlp import MLP
from wmplay.models.vector_state import histories
from wmplay.nets.trees import take_rows

SPACE, ACTED = OBSERVATIONS["screen and vector"], ACTIONS["continuous"]
FEATURED = [name for name in MODELS if name != "ensemble"]


def model(name: str, observation: Dict = SPACE, action: Any = ACTED) -> Any:
    seed_spaces()
    if name != "all members":
        return make_model(name, observation, action).eval()
    torch.manual_seed(7)
    settings = {"hidden": 17, "image_hidden": 19}
    return Ensemble(observation, action, of="gru", members=3, settings=settings, choose="step").eval()


def believed(model: Any, data: Segment, frames: int) -> Any:
    """The belief after some frames, one step at a time."""
    belief = model.initial({key: value[:, 0] for key, value in data.observation.items()})
    for t in range(frames - 1):
        seen = {key: value[:, t + 1 : t + 2] for key, value in data.observation.items()}
        belief = model.observe(belief, data.action[:, t : t + 1], seen)
    return belief


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", [*FEATURED, "all members"])
@torch.no_grad()
def test_tracked_is_what_would_be_believed_at_each_frame(name: str, action: str) -> None:
    trial, data = model(name, action=ACTIONS[action]), segment(SPACE, ACTIONS[action])
    tracked = trial.track(data)
    assert {len(leaf) for leaf in tree_leaves(tracked)} == {B * (T + 1)}
    plan = actions(ACTIONS[action], B, H)
    for t in range(T + 1):
        rows = torch.arange(B) * (T + 1) + t
        own, expected = take_rows(tracked, rows), believed(trial, data, t + 1)
        torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-4)
        futures = [trial.predict(belief, plan) for belief in (own, expected)]
        torch.testing.assert_close(futures[0].reward, futures[1].reward, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [*FEATURED, "all members"])
@torch.no_grad()
def test_features_are_of_the_last_predicted_step(name: str) -> None:
    trial, data = model(name), segment(SPACE, ACTED)
    plan = actions(ACTED, B, H)
    belief = believed(trial, data, T + 1)
    seen = trial.features(belief)
    assert seen.shape == (B, seen.shape[1])
    whole = trial.features(trial.predict(belief, plan).belief)
    for step in plan.split(1, 1):
        belief = trial.predict(belief, step).belief
    torch.testing.assert_close(trial.features(belief), whole)
    assert (whole - seen).abs().sum(1).min() > 0


@torch.no_grad()
def test_the_latent_of_an_rssm_is_its_features() -> None:
    trial, data = model("rssm"), segment(SPACE, ACTED)
    future = trial.predict(believed(trial, data, T), actions(ACTED, B, H))
    assert torch.equal(trial.features(future.belief), future.latent[:, -1])


@pytest.mark.parametrize("name", ["rssm", "mlp", "gru", "fbt"])
@torch.no_grad()
def test_features_remember_what_the_newest_frame_does_not_show(name: str) -> None:
    """Two pasts that end in the same frame have other features, because their futures differ."""
    trial, data = model(name), segment(SPACE, ACTED)
    other = {key: value.clone() for key, value in data.observation.items()}
    for value in other.values():
        value[:, T - 1] = value[:, T - 1].flip(0)
    was = Segment(other, *(getattr(data, name) for name in ("action", "reward", "terminated", "mask")))
    one, two = (trial.features(take_rows(trial.track(x), torch.arange(B) * (T + 1) + T)) for x in (data, was))
    assert ((one - two).abs().sum(1) > 1e-6).all()


@pytest.mark.parametrize("name", ["rssm", "mlp", "gru"])
def test_gradients_reach_the_actions_and_the_frames(name: str) -> None:
    trial, data = model(name), segment(SPACE, ACTED)
    plan = actions(ACTED, B * (T + 1), H).requires_grad_()
    trial.features(trial.predict(trial.track(data), plan).belief).sum().backward()
    assert plan.grad is not None
    assert (plan.grad[:, -1].abs().sum(-1) > 0).all()
    assert any(weight.grad is not None and weight.grad.any() for weight in trial.parameters())


@pytest.mark.parametrize("frames", [1, 2, 3])
@torch.no_grad()
def test_the_size_of_the_features_of_a_short_memory(frames: int) -> None:
    trial = MLP(Dict({"x": Box(-1, 1, (5,))}), ACTED, frames=frames, hidden=7)
    data = segment(Dict({"x": Box(-1, 1, (5,))}), ACTED)
    assert trial.features(trial.track(data)).shape == (B * (T + 1), frames * 5 + (frames - 1) * A)


def test_fitting_by_windows_is_as_it_was() -> None:
    """The loss of ``mlp`` reads the frames up to each step, and no later one."""
    trial, data = model("mlp"), segment(SPACE, ACTED)
    states = trial.states(data.observation)
    seen, before = histories(states, data.action, 3).values()
    assert seen.shape[:3] == (B, T + 1, 3)
    assert before.shape == (B, T + 1, 2, A)
    assert torch.equal(seen[:, 3], states[:, 1:4])
    assert torch.equal(before[:, 3], data.action[:, 1:3])
    assert torch.equal(seen[:, 0], states[:, :1].expand(-1, 3, -1))
    assert not before[:, 0].any()


class Pixels(nn.Module):
    """Features of another meaning."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Linear(2, 3)


def test_a_model_without_features_is_refused_by_name() -> None:
    assert capabilities(Pixels()).features is None
    with refused(ConfigError, "dreamer", got="Pixels"):
        featured(Pixels(), "dreamer")
    trial = model("gru")
    assert featured(trial, "dreamer") is trial
    assert isinstance(trial, Featured)
    few = model("ensemble")
    assert capabilities(few).features is None, "a row follows one member, others are out of date"
