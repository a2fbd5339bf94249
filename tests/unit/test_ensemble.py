"""The ensemble of models: who predicts what, and what each member learns from."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from refusals import refused
from small_models import ACTIONS, OBSERVATIONS, SMALL, H, T, actions, seed_spaces, segment
from torch import Tensor, nn

from wmplay import registry
from wmplay.config import catalogue
from wmplay.contracts import Prediction, Segment, Stage, Surprise
from wmplay.errors import ConfigError, UnknownName
from wmplay.models.ensemble import Ensemble
from wmplay.nets.observations import ImageHead
from wmplay.nets.trees import take_rows, where_rows

B, M = 7, 3
LINE = Dict({"x": Box(-np.inf, np.inf, (1,), np.float32), "bit": Box(0, 1, (2,), np.uint8)})
PUSH = Box(-1, 1, (2,), np.float32)


class Walk(nn.Module):
    """A model whose every step adds its weight: what it predicts says who it is. Counts what it is asked."""

    def __init__(self, observation_space: Any, action_space: Any, stride: float = 1.0) -> None:
        super().__init__()
        self.stride = nn.Parameter(torch.tensor(stride))
        self.bias = nn.Parameter(torch.rand(()))
        self.asked = {"predict": 0, "observe": 0}
        self.temperature = 1.0

    def initial(self, observation: Any) -> Any:
        return {"x": observation["x"], "bit": observation["bit"].float()}

    def observe(self, belief: Any, action: Tensor, observation: Any) -> Any:
        self.asked["observe"] += action.shape[0] * action.shape[1]
        return {"x": observation["x"][:, -1], "bit": observation["bit"][:, -1].float()}

    def predict(
        self, belief: Any, action: Tensor, *, generator: Any = None, temperature: float = 1.0
    ) -> Prediction:
        self.asked["predict"] += action.shape[0] * action.shape[1]
        self.temperature = temperature
        x = belief["x"].unsqueeze(1) + self.stride * torch.arange(1, action.shape[1] + 1).reshape(1, -1, 1)
        return Prediction(x, x.squeeze(-1), None, {"x": x[:, -1], "bit": belief["bit"]}, self.decode)

    def decode(self, latent: Tensor) -> Any:
        return {"x": latent, "bit": (self.bias + 0 * latent).expand(*latent.shape[:-1], 2)}

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        error = (segment.observation["x"] - self.stride).square().mean()
        return error, {"loss/x": error.detach()}


class Staged(Walk):
    """Learns its bias first."""

    def stages(self) -> list[Stage]:
        return [
            Stage("bias", 0.25, nn.ParameterList([self.bias]), self.bias_loss),
            Stage("rest", 0.75, self, self.loss),
        ]

    def bias_loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        error = (segment.observation["x"].mean() - self.bias).square()
        return error, {"loss/bias": error.detach()}

    def surprise(self, segment: Segment) -> Surprise:
        return Surprise(self.stride * torch.ones(segment.mask.shape), "exact")


class Sober(Walk):
    """Knows no temperature."""

    def predict(self, belief: Any, action: Tensor, *, generator: Any = None) -> Prediction:
        return super().predict(belief, action, generator=generator)


@pytest.fixture(autouse=True)
def _register_walkers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, walker in {"walk": Walk, "staged": Staged, "sober": Sober}.items():
        monkeypatch.setitem(catalogue._registered, ("model", name), walker)


def walkers(of: str = "walk", **config: Any) -> Any:
    """Three whose strides are 1, 10 and 100."""
    model = Ensemble(LINE, PUSH, of=of, members=M, **config)
    for i, member in enumerate(model.members):
        nn.init.constant_(member.stride, 10.0**i)
    return model


def frames(*batch: int) -> dict[str, Tensor]:
    return {"x": torch.zeros(*batch, 1), "bit": torch.zeros(*batch, 2, dtype=torch.uint8)}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def close(left: Any, right: Any) -> None:
    torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_row_is_its_members_own_prediction() -> None:
    seed_spaces()
    space, action_space = OBSERVATIONS["screen and vector"], ACTIONS["continuous"]
    model: Any = Ensemble(space, action_space, of="rssm", members=M, settings=SMALL)
    data, future = segment(space, action_space, B, T), actions(action_space, B, H)
    first, later = (
        {key: value[:, part] for key, value in data.observation.items()} for part in (0, slice(1, None))
    )
    belief = model.observe(model.initial(first), data.action, later)
    generator, same_draws = seeded(5), seeded(5)
    predicted = model.predict(belief, future, generator=generator)
    member = predicted.belief["member"]
    assert torch.equal(member, torch.randint(M, (B,), generator=same_draws))
    assert set(member.tolist()) == set(range(M)), "a seed with which every member has a row"
    for i, alone in enumerate(model.members):
        rows = (member == i).nonzero().squeeze(1)
        own = alone.observe(alone.initial(first), data.action, later)
        expected = alone.predict(take_rows(own, rows), future[rows], generator=same_draws)
        close(predicted.reward[rows], expected.reward)
        close(predicted.discount[rows], expected.discount)
        for key in ("lcd", "proprio"):
            close(predicted.observation[key][rows], expected.observation[key])


@torch.no_grad()
def test_a_row_stays_with_its_member() -> None:
    model = walkers()
    push = torch.zeros(B, H, 2)
    start = model.predict(model.initial(frames(B)), push, generator=seeded(5))
    stride = 10.0 ** start.belief["member"]
    assert set(stride.tolist()) == {1, 10, 100}
    close(start.reward, stride.unsqueeze(1) * torch.arange(1, H + 1))
    rest = model.predict(start.belief, push, generator=seeded(3))
    close(rest.reward[:, -1], 2 * H * stride)
    # also without a generator: the others know nothing of where the row has come to
    likely = model.predict(rest.belief, push)
    close(likely.reward[:, -1], 3 * H * stride)
    seen = {**frames(B, 1), "x": torch.full((B, 1, 1), 7.0)}
    after = model.predict(model.observe(likely.belief, push[:, :1], seen), push)
    close(after.reward[:, 0], 7 + stride)


@torch.no_grad()
def test_rows_that_begin_anew_draw_anew() -> None:
    model = walkers()
    push, new = torch.zeros(B, 1, 2), torch.arange(B) % 2 == 0
    drawn = set()
    for seed in range(11):
        running = model.predict(model.initial(frames(B)), push, generator=seeded(seed))
        fresh = model.initial({**frames(B), "x": torch.full((B, 1), 0.5)})
        belief = where_rows(new, fresh, running.belief)
        future = model.predict(belief, push, generator=seeded(seed + 100))
        stride = 10.0 ** future.belief["member"]
        close(future.reward[new, 0], 0.5 + stride[new])
        close(future.reward[~new], 2 * running.reward[~new])
        close(model.predict(belief, push).reward[new], torch.full((4, 1), 0.5 + 37))  # open: the mean
        drawn.add(tuple(stride[new].tolist()))
    assert len(drawn) > 5


@torch.no_grad()
def test_without_a_generator_it_is_the_mean() -> None:
    model = walkers()
    future = model.predict(model.initial(frames(B)), torch.zeros(B, H, 2))
    steps = torch.arange(1.0, H + 1).expand(B, H)
    close(future.reward, 37 * steps)
    close(future.observation["x"], 37 * steps.unsqueeze(-1))
    assert future.discount is None
    assert (future.belief["member"] == -1).all()
    apart = model.disagreement(future.latent)
    close(apart["x"], float(np.std([1, 10, 100])) * steps)
    biases = [float(member.bias) for member in model.members]
    close(apart["bit"], torch.full((B, H), float(np.std(biases))))
    close(model.predict(future.belief, torch.zeros(B, 1, 2)).reward[:, 0], torch.full((B,), 37.0 * (H + 1)))


@torch.no_grad()
def test_a_member_for_each_step() -> None:
    model = walkers(choose="step")
    future = model.predict(model.initial(frames(B)), torch.zeros(B, T, 2), generator=seeded(1))
    strides = future.reward.diff(dim=1, prepend=torch.zeros(B, 1))
    close(strides, 10.0 ** future.latent["member"].squeeze(-1))
    assert all(len(set(row.tolist())) > 1 for row in strides)
    close(future.observation["x"].squeeze(-1), future.reward)
    for own in future.belief["members"]:
        close(own["x"], future.reward[:, -1:])  # they have all seen it
        assert ((own["bit"] == 0) | (own["bit"] == 1)).all(), "screens are seen as they would be in the world"
    assert (future.belief["member"] == -1).all()


@pytest.mark.parametrize(("choose", "observed"), [("episode", 0), ("step", M * B * H)])
def test_a_sampled_prediction_costs_one_model(choose: str, observed: int) -> None:
    model = walkers(choose=choose)
    model.predict(model.initial(frames(B)), torch.zeros(B, H, 2), generator=seeded())
    assert sum(member.asked["predict"] for member in model.members) == B * H
    assert sum(member.asked["observe"] for member in model.members) == observed


@pytest.mark.parametrize("choose", ["episode", "step"])
def test_a_sampled_future_has_gradients(choose: str) -> None:
    seed_spaces()
    space, action_space = OBSERVATIONS["screen and vector"], ACTIONS["continuous"]
    model: Any = Ensemble(space, action_space, of="rssm", members=M, settings=SMALL, choose=choose)
    first = {key: value[:, 0] for key, value in segment(space, action_space, B, 1).observation.items()}
    push = actions(action_space, B, H).requires_grad_()
    model.predict(model.initial(first), push, generator=seeded()).reward[:, -1].sum().backward()
    assert push.grad is not None
    assert push.grad.flatten(2).any(-1).all(), "each action of each row matters for the last reward"


def test_each_member_learns_from_its_own_part() -> None:
    model = walkers()
    seed_spaces()
    data = segment(LINE, PUSH, B, T)
    total, metrics = model.loss(data)
    total.backward()
    means = [part.mean().item() for part in torch.tensor_split(data.observation["x"], [2, 4])]
    for i, (member, mean) in enumerate(zip(model.members, means, strict=True)):
        assert member.stride.grad.item() == pytest.approx(2 * (10.0**i - mean) / M, rel=1e-4)
    assert metrics["loss/x"].item() == pytest.approx(total.item())
    weights = [next(iter(member.parameters())) for member in _rssm().members]
    assert not torch.equal(weights[0], weights[1])


def _rssm(**config: Any) -> Any:
    return Ensemble(
        OBSERVATIONS["vector"], ACTIONS["continuous"], of="rssm", members=2, settings=SMALL, **config
    )


def test_stages_are_joined() -> None:
    assert not hasattr(walkers(), "stages")
    model = copy.deepcopy(walkers("staged"))
    first, second = model.stages()
    assert [(s.name, s.share) for s in (first, second)] == [("bias", 0.25), ("rest", 0.75)]
    assert {id(p) for p in first.module.parameters()} == {id(member.bias) for member in model.members}
    assert {id(p) for p in second.module.parameters()} == {id(p) for p in model.parameters()}
    seed_spaces()
    data = segment(LINE, PUSH, B, T)
    loss, metrics = first.loss(data)
    loss.backward()
    assert list(metrics) == ["loss/bias"]
    assert all(member.bias.grad is not None and member.stride.grad is None for member in model.members)
    assert torch.equal(second.loss(data)[0], model.loss(data)[0])


@torch.no_grad()
def test_the_surprise_is_that_of_an_even_mixture() -> None:
    assert not hasattr(walkers(), "surprise")
    model = walkers("staged")
    for member, nats in zip(model.members, (0.5, 1.0, 3.0), strict=True):
        nn.init.constant_(member.stride, nats)
    surprise = model.surprise(segment(LINE, PUSH, 2, T))
    joint = [np.mean([math.exp(-nats * t) for nats in (0.5, 1.0, 3.0)]) for t in range(T + 1)]
    close(surprise.nats, torch.tensor(-np.diff(np.log(joint)), dtype=torch.float32).expand(2, T))
    assert surprise.kind == "exact"


def test_settings_reach_the_members() -> None:
    model = walkers(settings={"stride": 3.0})
    model.predict(model.initial(frames(B)), torch.zeros(B, 1, 2), generator=seeded(), temperature=0.5)
    assert {member.temperature for member in model.members} == {0.5}
    assert _rssm(reward_weight=0.0).members[1].outcome.reward is None
    config = registry.compose(["model=ensemble", "model.of=rssm", "model.settings={deter: 13}"])
    assert config.model["settings"] == {"deter": 13}


@pytest.mark.parametrize(
    ("config", "error", "fields"),
    [
        ({"members": 0}, ConfigError, {"about": "members", "got": 0, "expected": "1"}),
        ({"of": "mpl"}, UnknownName, {"about": "model", "got": "mpl", "advice": "mlp"}),
        ({"settings": {"hiden": 3}}, ConfigError, {"got": "hiden", "advice": "hidden"}),
        (
            {"settings": {"hidden": "3"}},
            ConfigError,
            {"about": ("hidden", "3", "str"), "got": "'3' (str)", "expected": "int"},
        ),
        ({"of": "walk", "reward_weight": 0.0}, ConfigError, {"about": "Walk", "got": "reward_weight"}),
    ],
)
def test_mistakes_are_one_line(
    config: dict[str, Any], error: type[Exception], fields: dict[str, object]
) -> None:
    with refused(error, **fields):
        Ensemble(LINE, PUSH, **config)


def test_a_batch_has_a_part_for_everyone() -> None:
    with refused(ConfigError, ("ensemble", "3"), got=2, advice="fit.batch_size"):
        walkers().loss(segment(LINE, PUSH, 2, T))


def test_members_without_temperature_say_so() -> None:
    model = walkers("sober")
    assert model.predict(model.initial(frames(B)), torch.zeros(B, 1, 2), generator=seeded()).reward.any()
    with refused(ConfigError, "temperature", got=0.5, expected="1"):
        model.predict(model.initial(frames(B)), torch.zeros(B, 1, 2), temperature=0.5)


def test_screens_that_no_member_reads_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    space, action_space = OBSERVATIONS["screen and vector"], ACTIONS["continuous"]
    settings = {"hidden": 7, "image_hidden": 7}
    model = Ensemble(space, action_space, of="mlp", members=3, settings=settings, choose="step")
    first = {key: value[:, 0] for key, value in segment(space, action_space, 5, 1).observation.items()}
    drawn = 0

    def draw(self: ImageHead, latent: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        nonlocal drawn
        drawn += 1
        return latent.new_zeros(*latent.shape[:-1], *self.shape)

    monkeypatch.setattr(ImageHead, "forward", draw)
    with torch.no_grad():
        belief, push = model.initial(first), actions(action_space, 5, 4)
        future = model.predict(belief, push, generator=torch.Generator().manual_seed(0))
        assert drawn == 0
        assert future.observation["proprio"].shape[:2] == (5, 4)
        assert drawn == 0
        assert future.observation["lcd"].shape[:2] == (5, 4)
        assert drawn > 0
