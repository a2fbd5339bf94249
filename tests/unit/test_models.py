"""What holds for every built-in model, over kinds of observations and actions."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, Text
from refusals import refused
from small_models import (
    ACTIONS,
    LCD,
    MODELS,
    OBSERVATIONS,
    PROPRIO,
    B,
    H,
    T,
    make_model,
    seed_spaces,
    segment,
    takes,
)
from small_models import actions as random_actions
from torch.utils._pytree import tree_leaves, tree_map

from wmplay.contracts import Prediction, Segment, WorldModel, model_keys
from wmplay.errors import ConfigError, SpaceError
from wmplay.models.boxlcd.fbt import FBT
from wmplay.models.boxlcd.fit import FIT
from wmplay.models.boxlcd.frnld import FRNLD
from wmplay.models.mlp import MLP
from wmplay.models.rssm import RSSM
from wmplay.nets.by_key import ModulesByKey
from wmplay.nets.heads import OutcomeHeads
from wmplay.nets.modalities import modalities

EVERY_CASE = [
    pytest.param(model, observation, action, id=f"{model}-{observation}-{action}")
    for model in MODELS
    for observation in OBSERVATIONS
    for action in ACTIONS
    if takes(model, observation)
]


class Case:
    """A model, and a segment to show it."""

    def __init__(self, model: str, observation: str, action: str) -> None:
        seed_spaces()
        self.space, self.actions = OBSERVATIONS[observation], ACTIONS[action]
        self.model = make_model(model, self.space, self.actions)
        self.segment = segment(self.space, self.actions)
        self.future = random_actions(self.actions, B, H)

    def frames(self, start: int, stop: int) -> dict[str, torch.Tensor]:
        return {key: value[:, start:stop] for key, value in self.segment.observation.items()}

    def believe(self, rows: slice = slice(None)) -> Any:
        first = {key: value[rows, 0] for key, value in self.segment.observation.items()}
        later = {key: value[rows, 1:] for key, value in self.segment.observation.items()}
        return self.model.observe(self.model.initial(first), self.segment.action[rows], later)


def same(tree: Any, other: Any, tolerance: float = 1e-5) -> None:
    for x, y in zip(tree_leaves(tree), tree_leaves(other), strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)


def numbers(prediction: Prediction) -> torch.Tensor:
    """All that is in a latent, [B, H, N]."""
    return torch.cat([leaf.flatten(2).float() for leaf in tree_leaves(prediction.latent)], -1)


@pytest.mark.parametrize("model", [*MODELS])
def test_heads_that_nobody_reads_are_not_evaluated(model: str) -> None:
    case = Case(model, "screen and vector", "continuous")
    belief = case.believe()
    read: list[str] = []
    for module in case.model.modules():
        if isinstance(module, OutcomeHeads):
            module.reward.register_forward_hook(lambda *_: read.append("reward"))
            module.continuation.register_forward_hook(lambda *_: read.append("discount"))
    with torch.no_grad():
        future = case.model.predict(belief, case.future)
    assert future.observation.keys()
    assert not read
    assert future.reward is future.reward
    assert set(read) == {"reward"}
    number = len(read)
    assert not future.reward.requires_grad  # as where the prediction was made
    assert future.discount.shape == (B, H)
    assert len(read) == 2 * number
    assert case.model.predict(belief, case.future).reward.requires_grad


@pytest.mark.parametrize(("model", "observation", "action"), EVERY_CASE)
@torch.no_grad()
def test_the_four_verbs(model: str, observation: str, action: str) -> None:
    case = Case(model, observation, action)
    net, data = case.model, case.segment
    assert isinstance(net, WorldModel)
    belief = case.believe()

    # seeing steps one by one is seeing them all at once
    stepwise = net.initial({key: value[:, 0] for key, value in data.observation.items()})
    for t in range(T):
        stepwise = net.observe(stepwise, data.action[:, t : t + 1], case.frames(t + 1, t + 2))
    same(stepwise, belief)

    # a prediction has the right shapes and types, and leaves the belief as it was
    before = tree_map(torch.clone, belief)
    future = net.predict(belief, case.future)
    same(belief, before, tolerance=0)
    assert future.reward.shape == future.discount.shape == (B, H)
    assert ((future.discount >= 0) & (future.discount <= 1)).all()
    assert list(future.observation) == model_keys(case.space.spaces)
    for key, value in future.observation.items():
        assert value.shape == (B, H, *case.space[key].shape)
        assert value.dtype == torch.float32

    # predictions can be continued
    half = net.predict(belief, case.future[:, :1])
    rest = net.predict(half.belief, case.future[:, 1:])
    same(torch.cat([numbers(half), numbers(rest)], 1), numbers(future))
    same(torch.cat([half.reward, rest.reward], 1), future.reward)
    same(rest.belief, future.belief)

    # a row of a batch is that row alone
    alone = net.predict(case.believe(slice(1, 2)), case.future[1:2])
    same(numbers(alone), numbers(future)[1:2])
    same(alone.reward, future.reward[1:2])

    # what was seen and what is done both matter
    other = net.predict(net.initial(_first(case)), case.future)
    assert not torch.allclose(numbers(other), numbers(future), atol=1e-4)
    done_differently = net.predict(belief, case.future.flip(1))
    assert not torch.allclose(numbers(done_differently), numbers(future), atol=1e-4)


def _first(case: Case) -> dict[str, torch.Tensor]:
    return {key: value[:, 0] for key, value in case.segment.observation.items()}


@pytest.mark.parametrize(("model", "observation", "action"), EVERY_CASE)
def test_the_loss_is_a_scalar_that_trains_every_weight(model: str, observation: str, action: str) -> None:
    case = Case(model, observation, action)
    loss, metrics = case.model.loss(case.segment)
    assert loss.shape == ()
    assert {f"loss/{key}" for key in model_keys(case.space.spaces)} <= metrics.keys()
    assert {"loss/reward", "loss/continuation"} <= metrics.keys()
    assert all(not value.requires_grad and value.isfinite() for value in metrics.values())
    loss.backward()
    untrained = [name for name, p in case.model.named_parameters() if p.grad is None or not p.grad.any()]
    assert untrained == []


@pytest.mark.parametrize("model", MODELS)
def test_masked_steps_contribute_nothing(model: str) -> None:
    case = Case(model, "screen and vector", "continuous")
    real = 3
    mask = torch.arange(T).expand(B, T) < torch.tensor([[T], [real]])
    masked = dataclasses.replace(case.segment, mask=mask)
    other = {key: value.clone() for key, value in masked.observation.items()}
    for key in other:
        other[key][1, real + 1 :] = 1 - other[key][1, real + 1 :]
    padded = [x.clone() for x in (masked.action, masked.reward, masked.terminated)]
    padded[0][1, real:] = 0.3
    padded[1][1, real:] = 1e6
    padded[2][1, real:] = True
    junk = dataclasses.replace(
        masked, observation=other, action=padded[0], reward=padded[1], terminated=padded[2]
    )

    def loss(data: Any) -> tuple[float, list[torch.Tensor]]:
        torch.manual_seed(5)
        case.model.zero_grad()
        value, _ = case.model.loss(data)
        value.backward()
        return value.item(), [p.grad.clone() for p in case.model.parameters()]

    value, gradients = loss(masked)
    junk_value, junk_gradients = loss(junk)
    assert junk_value == pytest.approx(value, rel=1e-5)
    same(junk_gradients, gradients, tolerance=1e-4)
    unmasked, _ = loss(dataclasses.replace(junk, mask=torch.ones_like(mask)))
    assert unmasked > 2 * value


@pytest.mark.parametrize("model", ["rssm", "rssm discrete", "fbt", "fit", "frnld"])
@torch.no_grad()
def test_a_generator_samples_futures(model: str) -> None:
    case = Case(model, "screen and vector", "continuous")
    belief = case.believe()

    def latent(seed: int | None) -> torch.Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return case.model.predict(belief, case.future, generator=generator).latent

    assert torch.equal(latent(2), latent(2))
    assert not torch.allclose(latent(2), latent(3))
    assert not torch.allclose(latent(2), latent(None))
    state = torch.get_rng_state()
    latent(2), latent(None)
    assert torch.equal(torch.get_rng_state(), state), "the global generator is for the loss alone"


@pytest.mark.parametrize("model", MODELS)
def test_goals_are_left_alone(model: str) -> None:
    case = Case(model, "screen and vector", "continuous")
    other = {**case.segment.observation, "goal_proprio": torch.zeros(B, T + 1, 3)}
    torch.manual_seed(1)
    loss, metrics = case.model.loss(case.segment)
    torch.manual_seed(1)
    assert torch.equal(loss, case.model.loss(dataclasses.replace(case.segment, observation=other))[0])
    assert "loss/goal_proprio" not in metrics
    without = {key: value for key, value in case.segment.observation.items() if not key.startswith("goal_")}
    torch.manual_seed(1)
    assert torch.equal(loss, case.model.loss(dataclasses.replace(case.segment, observation=without))[0])


@pytest.mark.parametrize(
    ("config", "updates"),
    [
        ({"classes": 0, "stoch": 11, "deter": 61, "hidden": 61, "image_hidden": 61}, 150),
        ({"classes": 7, "stoch": 11, "free_nats": 0.0}, 300),
        ({"frames": 2, "hidden": 61}, 150),
    ],
    ids=str,
)
def test_learns_to_move_a_point(config: dict[str, Any], updates: int) -> None:
    """A point that each action moves: the place is predicted far better than by standing still."""
    space, action_space = Dict({"place": Box(-1, 1, (1,), np.float32)}), Box(-1, 1, (1,), np.float32)
    torch.manual_seed(0)
    net = MLP(space, action_space, **config) if "frames" in config else RSSM(space, action_space, **config)

    def draw(batch: int) -> Segment:
        action = 2 * torch.rand(batch, T, 1) - 1
        place = torch.cat([2 * torch.rand(batch, 1, 1) - 1, 0.3 * action], dim=1).cumsum(1).clamp(-1, 1)
        nothing = torch.zeros(batch, T, dtype=torch.bool)
        return Segment({"place": place}, action, place[:, 1:, 0] ** 2, nothing, ~nothing)

    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(updates):
        optimizer.zero_grad()
        loss, _ = net.loss(draw(32))
        loss.backward()
        optimizer.step()
    test = draw(128)
    truth = test.observation["place"][:, 1:]
    first = test.observation["place"][:, 0]
    with torch.no_grad():
        future = net.predict(net.initial({"place": first}), test.action)
    standing_still = (truth - first.unsqueeze(1)).abs().mean(0)
    assert ((future.observation["place"] - truth).abs().mean(0) < 0.7 * standing_still).all()
    assert (future.reward - test.reward).square().mean() < 0.4 * test.reward.var()
    assert future.discount.min() > 0.8


@pytest.mark.parametrize("model", MODELS)
def test_heads_of_weight_zero_are_left_out(model: str) -> None:
    seed_spaces()
    space, action_space = OBSERVATIONS["screen and vector"], ACTIONS["continuous"]
    make = {"mlp": MLP, "fbt": FBT, "fit": FIT, "frnld": FRNLD}.get(model, RSSM)
    net = make(space, action_space, reward_weight=0, continuation_weight=0)
    data = segment(space, action_space)
    _, metrics = net.loss(data)
    assert not {"loss/reward", "loss/continuation"} & metrics.keys()
    with torch.no_grad():
        future = net.predict(net.initial({k: v[:, 0] for k, v in data.observation.items()}), data.action)
    assert future.reward is None
    assert future.discount is None


@pytest.mark.parametrize("make", [RSSM, MLP, FBT, FIT, FRNLD])
@pytest.mark.parametrize(
    "space",
    [
        Discrete(5),
        Dict({}),
        Dict({"goal_lcd": LCD}),
        Dict({"word": Text(7)}),
        Dict({"grid": Box(0, 1, (3, 5), np.float32)}),
        Dict({"lcd": LCD, "count": Discrete(3)}),
    ],
    ids=str,
)
def test_an_unsupported_observation_space_is_one_line(make: Any, space: Any) -> None:
    with refused(SpaceError) as caught:
        make(space, ACTIONS["continuous"])
    assert caught.value.got is not None
    assert caught.value.expected


@pytest.mark.parametrize("make", [RSSM, MLP, FBT, FIT, FRNLD])
@pytest.mark.parametrize(
    "space", [Box(-1, 1, (2, 3)), Discrete(3, start=1), Dict({"a": Discrete(2)})], ids=str
)
def test_an_unsupported_action_space_is_one_line(make: Any, space: Any) -> None:
    with refused(SpaceError, "action", got=space, expected="Discrete"):
        make(OBSERVATIONS["screen"], space)


@pytest.mark.parametrize(
    ("make", "config"),
    [
        (RSSM, {"classes": 1}),
        (RSSM, {"deter": 0}),
        (RSSM, {"kl_balance": 1.5}),
        (MLP, {"frames": 0}),
        (MLP, {"code": -1}),
        (MLP, {"change_scale": 0.0}),
        (FBT, {"size": 10, "heads": 4}),
        (FBT, {"layers": 0}),
        (FBT, {"patch": 3}),
        (FBT, {"bits": 0}),
        (FBT, {"autoencoder_share": 1.0}),
        (FBT, {"entropy_weight": -1.0}),
        (FRNLD, {"channels": 0}),
        (FIT, {"context": 0}),
        (FIT, {"hidden": 0}),
        (FIT, {"min_sigma": 0.0}),
        (FIT, {"vector_sigma": 0.0}),
    ],
)
def test_values_out_of_range_are_refused(make: Any, config: dict[str, Any]) -> None:
    with refused(ConfigError, "channels" if "bits" in config else next(iter(config))):
        make(Dict({"lcd": LCD, "proprio": PROPRIO}), ACTIONS["continuous"], **config)


def test_a_code_needs_a_screen() -> None:
    with refused(ConfigError, got=3, expected="0"):
        MLP(Dict({"proprio": PROPRIO}), ACTIONS["continuous"], code=3)
    with refused(ConfigError, got=0):
        MLP(Dict({"lcd": LCD}), ACTIONS["continuous"], code=0)


@pytest.mark.parametrize("model", MODELS)
@torch.no_grad()
def test_the_temperature_is_the_spread_of_sampled_futures(model: str) -> None:
    observation = next(name for name in OBSERVATIONS if takes(model, name))
    case = Case(model, observation, "continuous")
    if "temperature" not in inspect.signature(case.model.predict).parameters:
        pytest.skip("this model takes none")
    belief = case.believe()

    def draw(temperature: float, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return numbers(case.model.predict(belief, case.future, generator=generator, temperature=temperature))

    def spread(temperature: float) -> float:
        return float(torch.stack([draw(temperature, seed) for seed in range(11)]).var(0).mean())

    if model not in (
        "ensemble",
        "fit",
        "pets",
    ):  # members still differ; a most likely screen of fit's is grey
        same(draw(0.0), numbers(case.model.predict(belief, case.future)))
    assert spread(0.2) < spread(1.0) < spread(3.0)


ODD_KEYS = [
    ("images.top", "images%2Etop", "images_top"),
    ("forward", "%66orward", "training"),
    ("reward", "continuation", "observation.reward"),
    ("code", "kl", "total"),
    ("", "%", "a/b c"),
    ("_names", "registered", "ж\n$x$"),
]


@pytest.mark.parametrize("keys", ODD_KEYS, ids=ascii)
@pytest.mark.parametrize("model", MODELS)
@torch.no_grad()
def test_any_key_can_be_modelled(model: str, keys: tuple[str, str, str]) -> None:
    """A model of the same observations by other names: the same numbers, a term for each, weights by name."""
    plain = ("lcd", "proprio", "speed")
    spaces = (LCD, PROPRIO, Box(-1, 1, (2,), np.float32))
    seed_spaces()
    case = segment(Dict(list(zip(plain, spaces, strict=True))), ACTIONS["continuous"])
    named = dict(zip(plain, keys, strict=True))
    renamed = dataclasses.replace(case, observation={named[k]: v for k, v in case.observation.items()})
    numbers, shapes = [], []
    for names, data in ((plain, case), (keys, renamed)):
        space = Dict(list(zip(names, spaces, strict=True)))
        net = make_model(model, space, ACTIONS["continuous"])
        again = make_model(model, space, ACTIONS["continuous"])
        again.load_state_dict(net.state_dict())
        torch.manual_seed(3)
        loss, metrics = net.loss(data)
        first = {key: value[:, 0] for key, value in data.observation.items()}
        future = net.predict(net.initial(first), data.action).observation
        shapes.append([future[key].shape[2:] for key in names if key in future])
        numbers.append([float(loss), *sorted(map(float, metrics.values()))])
    assert shapes[0] == shapes[1]
    assert numbers[0] == pytest.approx(numbers[1])


def test_plain_keys_name_their_weights() -> None:
    """As in version 0.1.0, whose weights load."""
    net = ModulesByKey({key: torch.nn.Linear(1, 1) for key in ("lcd", "keys", "a/b", "x-1", "été")})
    assert [name.removesuffix(".bias") for name in net.state_dict() if name.endswith("bias")] == list(net)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 7, 5), (4, 84, 84)])
def test_pictures_whose_channels_come_first_are_refused_at_once(shape: tuple[int, ...]) -> None:
    for model in (MLP, RSSM):
        with refused(SpaceError, "'camera'", got=list(shape), expected=str([*shape[1:], shape[0]])):
            model(Dict(camera=Box(0, 255, shape, np.uint8)), Discrete(2))
    modalities(Dict(camera=Box(0, 255, (3, 32, 3), np.uint8)), vector_sigma=1, pixel_sigma=1)
