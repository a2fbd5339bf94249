"""FBT, FIT and FRNLD, beside what tests/unit/test_models.py holds all models to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from refusals import refused
from small_models import (
    ACTIONS,
    LCD,
    OBSERVATIONS,
    PROPRIO,
    B,
    H,
    T,
    make_model,
    observations,
    seed_spaces,
    segment,
)
from small_models import actions as random_actions
from torch import Tensor

from wmplay import registry
from wmplay.contracts import Segment, model_keys
from wmplay.errors import ConfigError, SpaceError
from wmplay.models.boxlcd.bvae import BVAE
from wmplay.models.boxlcd.fbt import FBT
from wmplay.models.boxlcd.fit import FIT
from wmplay.models.boxlcd.frnld import FRNLD
from wmplay.models.boxlcd.rnlda import RNLDA
from wmplay.models.symbols import Bits, Levels
from wmplay.nets.trees import where_rows

ANCESTORS = ["fbt", "fbt published", "fit", "frnld"]
TWO_STAGE = ["fbt", "fbt published", "frnld"]
SPACE, MOVES = OBSERVATIONS["screen and vector"], ACTIONS["continuous"]


@pytest.fixture(autouse=True)
def _seeds() -> None:
    seed_spaces()
    torch.manual_seed(1)


def start(model: Any, data: Segment) -> Any:
    return model.initial({key: value[:, 0] for key, value in data.observation.items()})


def weights(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# ---- the cache -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANCESTORS)
@torch.no_grad()
def test_a_long_future_is_that_of_one_pass_over_its_codes(name: str) -> None:
    """Predictions with the cache, far beyond the window, against the whole sequence without one."""
    model, steps = make_model(name, SPACE, MOVES), 13
    data, future = segment(SPACE, MOVES), random_actions(MOVES, B, steps)
    belief = model.observe(
        start(model, data), data.action, {key: value[:, 1:] for key, value in data.observation.items()}
    )
    generator = torch.Generator().manual_seed(2)
    rollout = model.dynamics.predict(belief, future, generator, 1.0)
    seen = model._likely_code(data.observation) if name != "fit" else model._code(data.observation)
    code = torch.cat([seen, rollout.code[:, :-1]], 1)
    step = model.dynamics(code, torch.cat([data.action, future], 1))
    torch.testing.assert_close(step.output[:, T:], rollout.output, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ANCESTORS)
@torch.no_grad()
def test_rows_may_begin_anew_at_different_times(name: str) -> None:
    model, data = make_model(name, SPACE, MOVES), segment(SPACE, MOVES)
    future = random_actions(MOVES, B, H)
    old = model.predict(start(model, data), data.action).belief
    fresh = model.initial(observations(SPACE, B))
    mixed = where_rows(torch.tensor([True, False]), fresh, old)
    latent = model.predict(mixed, future).latent
    torch.testing.assert_close(latent[0], model.predict(fresh, future).latent[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(latent[1], model.predict(old, future).latent[1], rtol=1e-5, atol=1e-5)


# ---- sampling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANCESTORS)
@torch.no_grad()
def test_temperature_zero_is_the_most_likely_future(name: str) -> None:
    model, data = make_model(name, SPACE, MOVES), segment(SPACE, MOVES)
    belief, future = start(model, data), random_actions(MOVES, B, H)

    def codes(temperature: float | None) -> Tensor:
        generator = None if temperature is None else torch.Generator().manual_seed(3)
        return model.dynamics.predict(belief, future, generator, temperature or 0.0).code

    assert torch.equal(codes(0.0), codes(None))
    likely = codes(None)
    distances = [float((codes(temperature) - likely).abs().mean()) for temperature in (0.1, 1.0, 3.0)]
    assert distances == sorted(distances)
    assert distances[0] < distances[-1]
    with refused(ConfigError, ("temperature", "-1"), got=-1.0):
        model.predict(belief, future, temperature=-1.0)


def test_bits_are_sampled_with_their_probabilities() -> None:
    bits, logits = Bits(3), torch.tensor([-2.0, 0.3, 4.0]).expand(20_000, 3)
    drawn = bits.pick(logits, bits.noise(logits, torch.Generator().manual_seed(0)))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.mean(0), logits[0].sigmoid(), atol=0.02, rtol=0)


def test_levels_round_to_the_nearest_and_noise_keeps_the_mean() -> None:
    levels = Levels(5)
    output = torch.tensor([-3.0, -0.3, 0.1, 0.51, 3.0]).atanh().nan_to_num(20.0)
    output[0] = -20.0
    likely = levels.pick(output, None)
    torch.testing.assert_close(likely, torch.tensor([-0.75, -0.25, 0.25, 0.75, 0.75]))
    inner = torch.tensor([-0.6, -0.3, 0.1, 0.51, 0.7]).atanh().expand(20_000, 5)
    drawn = levels.pick(inner, levels.noise(inner, torch.Generator().manual_seed(0)))
    assert {round(value, 4) for value in drawn.unique().tolist()} <= {-0.75, -0.25, 0.25, 0.75}
    torch.testing.assert_close(drawn.mean(0), inner[0].tanh(), atol=0.02, rtol=0)


@pytest.mark.parametrize("symbols", [Bits(3), Levels(3)], ids=["bits", "levels"])
def test_symbols_pass_on_the_gradient_of_their_mean(symbols: Any) -> None:
    output = torch.tensor([-1.3, 0.2, 0.7], requires_grad=True)
    (picked,) = torch.autograd.grad(symbols.pick(output, symbols.noise(output)).sum(), output)
    (mean,) = torch.autograd.grad(symbols.expected(output).sum(), output)
    torch.testing.assert_close(picked, mean)


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("name", ANCESTORS)
def test_gradients_reach_actions_and_the_belief(name: str, sampled: bool) -> None:
    model, data = make_model(name, SPACE, MOVES), segment(SPACE, MOVES)
    belief = start(model, data)
    belief["code"] = belief["code"].detach().requires_grad_()
    future = random_actions(MOVES, B, H).requires_grad_()
    generator = torch.Generator().manual_seed(0) if sampled else None
    prediction = model.predict(belief, future, generator=generator)
    for key in ("lcd", "proprio"):
        wanted = (future, belief["code"])
        gradients = torch.autograd.grad(prediction.observation[key][:, -1].sum(), wanted, retain_graph=True)
        assert gradients[0][:, 0].any(), f"from {key} to the first action"
        assert gradients[1].any(), f"from {key} to the belief"


# ---- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TWO_STAGE)
def test_a_stage_trains_all_of_its_module_and_nothing_else(name: str) -> None:
    model, data = make_model(name, SPACE, MOVES), segment(SPACE, MOVES)
    stages = model.stages()
    assert [stage.name for stage in stages] == ["autoencoder", "dynamics"]
    assert sum(stage.share for stage in stages) == pytest.approx(1)
    assert stages[0].share == 0.3
    assert sum(weights(stage.module) for stage in stages) == weights(model)
    for stage in stages:
        model.zero_grad()
        loss, metrics = stage.loss(data)
        loss.backward()
        own = {id(parameter) for parameter in stage.module.parameters()}
        trained = {id(p) for p in model.parameters() if p.grad is not None and p.grad.any()}
        assert trained == own
        assert all(not value.requires_grad for value in metrics.values())


@pytest.mark.parametrize("name", TWO_STAGE)
def test_the_joint_loss_is_the_sum_of_the_stages(name: str) -> None:
    model, data = make_model(name, SPACE, MOVES), segment(SPACE, MOVES)
    torch.manual_seed(5)
    joint, metrics = model.loss(data)
    torch.manual_seed(5)
    parts = [stage.loss(data) for stage in model.stages()]
    torch.testing.assert_close(joint, parts[0][0] + parts[1][0])
    assert metrics.keys() == parts[0][1].keys() | parts[1][1].keys()


def moving_dot(batch: int, side: int = 13) -> tuple[Dict, Segment]:
    """A dot of 2 x 2 pixels that goes left or right as told, with its place beside the screen."""
    space = Dict({"lcd": Box(0, 1, (5, side), np.uint8), "place": Box(-1, 1, (1,), np.float32)})
    move = torch.randint(0, 2, (batch, T)) * 2 - 1
    begin = torch.randint(T, side - 1 - T, (batch, 1))
    column = torch.cat([begin, move], 1).cumsum(1)
    columns = torch.arange(side)
    lit = (columns == column[..., None]) | (columns == column[..., None] + 1)
    lcd = torch.zeros(batch, T + 1, 5, side, dtype=torch.uint8)
    lcd[:, :, 1:3] = lit[:, :, None].to(torch.uint8)
    place = column[..., None].float() / (side - 2) * 2 - 1
    no = torch.zeros(batch, T, dtype=torch.bool)
    return space, Segment({"lcd": lcd, "place": place}, move[..., None].float(), place[:, 1:, 0], no, ~no)


@pytest.mark.parametrize("make", [FBT, FIT, FRNLD])
def test_learns_to_move_a_dot(make: Any) -> None:
    torch.manual_seed(0)
    space, _ = moving_dot(1)
    model = make(space, Box(-1, 1, (1,)), size=44, heads=2, context=T)
    stages = model.stages() if make is not FIT else [None]
    for stage in stages:
        module, loss_of = (model, model.loss) if stage is None else (stage.module, stage.loss)
        optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3)
        for _ in range(150):
            optimizer.zero_grad()
            loss, _ = loss_of(moving_dot(32)[1])
            loss.backward()
            optimizer.step()
    _, test = moving_dot(64)
    with torch.no_grad():
        future = model.predict(start(model, test), test.action[:, :H])
    truth = test.observation["lcd"][:, 1 : H + 1] > 0
    drawn = future.observation["lcd"] > 0.5
    overlap = (truth & drawn).sum() / (truth | drawn).sum()
    still = truth & (test.observation["lcd"][:, :1] > 0)
    assert overlap > 0.8 > 0.5 > still.sum() / (2 * truth.sum() - still.sum())
    assert (future.observation["place"] - test.observation["place"][:, 1 : H + 1]).abs().mean() < 0.15


@pytest.mark.parametrize("name", ["fbt", "fbt published", "fit"])
def test_surprise(name: str) -> None:
    model, data = make_model(name, SPACE, MOVES), segment(SPACE, MOVES)
    surprise = model.surprise(data)
    assert surprise.nats.shape == (B, T)
    assert surprise.kind == ("exact" if name == "fit" else "bound")
    assert not surprise.nats.requires_grad
    # a frame's number depends on no frame after it
    other = {key: value.clone() for key, value in data.observation.items()}
    for value in other.values():
        value[:, -1] = 1 - value[:, -1]
    torch.manual_seed(1)
    ours = model.surprise(data).nats
    torch.manual_seed(1)
    theirs = model.surprise(Segment(other, data.action, data.reward, data.terminated, data.mask)).nats
    torch.testing.assert_close(ours[:, :-1], theirs[:, :-1])
    assert not torch.allclose(ours[:, -1], theirs[:, -1])


@torch.no_grad()
def test_the_surprise_of_fit_is_a_likelihood() -> None:
    """Over all screens of 2 x 2 pixels that may come next, probabilities add up to one."""
    space = Dict({"lcd": Box(0, 1, (2, 2), np.uint8)})
    model = make_model("fit", space, MOVES)
    screens = torch.tensor([[i >> bit & 1 for bit in range(4)] for i in range(16)]).reshape(16, 1, 2, 2)
    lcd = torch.cat([torch.ones(16, 1, 2, 2, dtype=torch.int64), screens], 1)
    no = torch.zeros(16, 1, dtype=torch.bool)
    action = random_actions(MOVES, 1, 1).expand(16, 1, -1)
    nats = model.surprise(Segment({"lcd": lcd}, action, no.float(), no, ~no)).nats
    assert (-nats).exp().sum().item() == pytest.approx(1, rel=1e-4)


@torch.no_grad()
def test_the_surprise_of_fbt_is_a_bound() -> None:
    """With a single bit per frame, the probabilities of all screens can be added up over its two values."""
    space = Dict({"lcd": Box(0, 1, (2, 2), np.uint8)})
    torch.manual_seed(7)
    model = FBT(space, MOVES, bits=1, width=3, size=22, heads=2)
    screens = torch.tensor([[i >> bit & 1 for bit in range(4)] for i in range(16)]).reshape(16, 1, 2, 2)
    lcd = torch.cat([torch.ones(16, 1, 2, 2, dtype=torch.int64), screens], 1)
    no = torch.zeros(16, 1, dtype=torch.bool)
    data = Segment({"lcd": lcd}, random_actions(MOVES, 1, 1).expand(16, 1, -1), no.float(), no, ~no)
    bounds = torch.stack([model.surprise(data).nats for _ in range(200)]).mean(0)
    values = torch.tensor([0.0, 1.0]).reshape(2, 1, 1).expand(2, 16, 1)
    drawn = torch.stack(
        [model.autoencoder.decode(value)["lcd"].log_prob(screens[:, 0].float()) for value in values]
    )
    first = model.autoencoder({"lcd": lcd[:, 0]}).sigmoid().reshape(16)
    exact = torch.zeros(16)
    for past, weight in ((0.0, 1 - first), (1.0, first)):
        code = torch.full((16, 1, 1), past)
        prior = model.dynamics(code, data.action).output.sigmoid().reshape(16)
        exact += weight * ((1 - prior) * drawn[0].exp() + prior * drawn[1].exp())
    assert exact.sum().item() == pytest.approx(1, rel=1e-3), "a distribution"
    assert (bounds[:, 0] > -exact.log() - 0.02).all()


# ---- spaces and sizes ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANCESTORS)
@pytest.mark.parametrize("shape", [(16, 16), (16, 24), (16, 32), (32, 64), (7, 5), (2, 3)], ids=str)
@torch.no_grad()
def test_screens_of_any_size(name: str, shape: tuple[int, int]) -> None:
    space = Dict({"lcd": Box(0, 1, shape, np.uint8), "proprio": PROPRIO})
    model = make_model(name, space, MOVES)
    future = model.predict(model.initial(observations(space, B)), random_actions(MOVES, B, H))
    assert list(future.observation) == ["lcd", "proprio"]
    assert future.observation["lcd"].shape == (B, H, *shape)
    assert ((future.observation["lcd"] >= 0) & (future.observation["lcd"] <= 1)).all()


@pytest.mark.parametrize("make", [FBT, FIT, FRNLD])
@pytest.mark.parametrize("observation", ["vector", "pixels", "large pixels"])
def test_spaces_without_one_binary_screen_are_refused(make: Any, observation: str) -> None:
    with refused(SpaceError, got=list(OBSERVATIONS[observation].spaces), expected=("screen", "[H, W]")):
        make(OBSERVATIONS[observation], MOVES)
    with refused(SpaceError, got=["lcd", "map"], expected=("screen", "[H, W]")):
        make(Dict({"lcd": LCD, "map": LCD}), MOVES)


def test_reading_a_vector_draws_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TWO_STAGE:
        model, data = make_model(name, SPACE, MOVES), segment(SPACE, MOVES)
        future = model.predict(start(model, data), random_actions(MOVES, B, H))
        monkeypatch.setattr(model.autoencoder.frames.screen_head, "forward", lambda code: 1 / 0)
        assert future.observation["proprio"].shape == (B, H, 3)
        with pytest.raises(ZeroDivisionError):
            future.observation["lcd"]


def test_fit_without_vectors_is_blind_to_them() -> None:
    model = FIT(SPACE, MOVES, vectors=False, size=22, heads=2)
    data = segment(SPACE, MOVES)
    _, metrics = model.loss(data)
    assert "loss/proprio" not in metrics
    without = Segment({"lcd": data.observation["lcd"]}, data.action, data.reward, data.terminated, data.mask)
    future = model.predict(start(model, without), data.action)
    assert list(future.observation) == ["lcd"]


@pytest.mark.parametrize(
    ("name", "millions", "autoencoder"),
    [("fbt_published", 13.0, 0.07), ("frnld_published", 12.8, 0.05), ("fit_published", 1.8, None)],
)
def test_the_published_sizes(name: str, millions: float, autoencoder: float | None) -> None:
    luxo = Dict({"lcd": Box(0, 1, (16, 32), np.uint8), "proprio": Box(-1, 1, (16,), np.float32)})
    given = {"observation_space": luxo, "action_space": Box(-1, 1, (3,), np.float32)}
    model = registry.build(registry.piece_config("model", name), **given)
    dynamics = weights(model.dynamics) - weights(model.dynamics.outcome)
    assert dynamics / 1e6 == pytest.approx(millions, abs=0.05)
    if autoencoder is not None:
        assert weights(model.autoencoder) / 1e6 == pytest.approx(autoencoder, abs=0.005)


@pytest.mark.parametrize("make", [BVAE, RNLDA])
def test_autoencoders_reconstruct(make: Any) -> None:
    torch.manual_seed(0)
    space, _ = moving_dot(1)
    model = make(space)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss, metrics = model.loss(moving_dot(32)[1])
        loss.backward()
        optimizer.step()
    assert {f"loss/{key}" for key in model_keys(space.spaces)} <= metrics.keys()
    _, test = moving_dot(64)
    with torch.no_grad():
        decoded = model.decode(model.symbols.pick(model(test.observation), None))
    truth, drawn = test.observation["lcd"] > 0, decoded["lcd"].mean > 0.5
    assert (truth & drawn).sum() / (truth | drawn).sum() > 0.9
    assert (decoded["place"].mean - test.observation["place"]).abs().mean() < 0.2
