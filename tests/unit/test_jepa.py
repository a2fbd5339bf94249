"""Latent models without a decoder: what keeps them from collapse, what they hold, how goals are given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conveyor import episodes
from gymnasium.spaces import Box, Dict
from refusals import refused
from small_models import ACTIONS, OBSERVATIONS, B, H, T, actions, segment
from torch import Tensor, nn

import wmplay
from wmplay.contracts import WorldModel, capabilities
from wmplay.errors import ConfigError, ShapeError
from wmplay.evaluation.clips import ClipSet, cut_clips
from wmplay.evaluation.metrics.probes import effective_rank
from wmplay.evaluation.metrics.spread import evaluate_spread
from wmplay.models.jepa.frozen import FrozenJEPA
from wmplay.models.jepa.lewm import LeWM
from wmplay.models.jepa.pldm import PLDM
from wmplay.models.jepa.regularisers import covariance, sigreg, unit_directions, variance_hinge
from wmplay.models.mlp import MLP
from wmplay.objectives import LatentDistance

N, E = 4001, 7
SPACE, ACTED = OBSERVATIONS["screen and vector"], ACTIONS["continuous"]
SMALL: dict[str, Any] = {"code": E, "hidden": 19, "channels": 3}
BELT = Dict({"lcd": Box(0, 1, (5, 11), np.uint8), "place": Box(0, 11, (1,), np.float32)})
FAMILY: dict[str, Callable[..., Any]] = {
    "lewm": lambda o, a, **more: LeWM(o, a, **{**SMALL, "width": 17, "directions": 13, **more}),
    "pldm": lambda o, a, **more: PLDM(o, a, **{**SMALL, "memory": 17, **more}),
    "frozen": lambda o, a, **more: FrozenJEPA(
        o, a, **{"settings": SMALL, "width": 17, "own_steps": 1, "hidden": 19, **more}
    ),
}


def statistic(latent: Tensor) -> float:
    torch.manual_seed(3)
    directions = unit_directions(latent.shape[-1], 64, latent.device)
    return float(sigreg(latent, directions, torch.ones(latent.shape[:-1], dtype=torch.bool)))


def test_sigreg_is_the_same_for_gaussians_of_any_number_and_grows_for_others() -> None:
    torch.manual_seed(0)
    for n in (53, 97):
        samples = torch.randn(401, n, E)
        every = torch.ones(401, n, dtype=torch.bool)
        found = sigreg(samples, unit_directions(E, 64, samples.device), every)
        assert float(found.mean()) == pytest.approx(1.0525, rel=0.06)
    assert statistic(torch.zeros(N, E)) / N == pytest.approx(0.4020, abs=1e-4)
    signs = torch.tensor([-1.0, 1.0]).repeat(N)[:, None]
    assert statistic(signs) / (2 * N) == pytest.approx(0.1028, abs=1e-4)
    assert statistic(2 * torch.randn(20 * N, 1)) / (20 * N) == pytest.approx(0.2361, rel=0.02)


def test_frames_that_the_mask_leaves_out_count_nowhere() -> None:
    torch.manual_seed(0)
    latent, mask = torch.randn(3, 31, E), torch.arange(31).expand(3, 31) < 23
    other = torch.where(mask[..., None], latent, 100.0)
    directions = unit_directions(E, 11, latent.device)
    for term in (lambda x: sigreg(x, directions, mask), lambda x: variance_hinge(x, mask)):
        torch.testing.assert_close(term(other), term(latent))
    torch.testing.assert_close(covariance(other, mask), covariance(latent[:, :23], mask[:, :23]))
    assert not sigreg(latent, directions, mask & False).any()


def test_variance_and_covariance_of_known_samples() -> None:
    every = torch.ones(4, dtype=torch.bool)
    square = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(variance_hinge(square, every)) == 0
    assert float(variance_hinge(square * 0, every)) == pytest.approx(0.99)
    assert float(covariance(square, every)) == 0
    line = square[:, :1].expand(-1, 2)
    assert float(covariance(line, every)) == pytest.approx((4 / 3) ** 2)


def fitted(make: Callable[[], Any], updates: int) -> tuple[Any, ClipSet]:
    """A model after some updates on the conveyor belt, and held-out clips."""
    torch.manual_seed(0)
    model = make()
    data = cut_clips(episodes(47, steps=20), 1, 6).segment
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for update in range(updates):
        start = 16 * (update % 2)
        loss, _ = model.loss(data.rows(slice(start, start + 31)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, cut_clips(episodes(31, seed=1, steps=20), 3, 5)


@pytest.mark.parametrize(("weight", "collapses"), [(0.0, True), (0.09, False)])
def test_without_sigreg_the_latents_collapse(weight: float, collapses: bool) -> None:
    sizes = {"code": 8, "hidden": 24, "channels": 4, "width": 16, "layers": 1, "directions": 16}
    model, clips = fitted(lambda: LeWM(BELT, Box(0, 3, (1,)), sigreg_weight=weight, **sizes), 120)
    with torch.no_grad():
        rank = effective_rank(model.embed(clips.frames).flatten(0, 1))
    assert rank < 2 if collapses else rank > 3


@pytest.mark.parametrize("observation", ["screen and vector", "vector", "pixels"])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", FAMILY)
def test_beliefs_predictions_and_features_agree(name: str, action: str, observation: str) -> None:
    space, acted = OBSERVATIONS[observation], ACTIONS[action]
    torch.manual_seed(7)
    model = FAMILY[name](space, acted)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    data, plan = segment(space, acted), actions(acted, B, H)
    assert isinstance(model, WorldModel)
    first = model.initial({key: value[:, 0] for key, value in data.observation.items()})
    later = {key: value[:, 1:] for key, value in data.observation.items()}
    belief = model.observe(first, data.action, later)
    tracked = model.track(data)
    for key, value in belief.items():
        torch.testing.assert_close(tracked[key].unflatten(0, (B, T + 1))[:, T], value)
    future = model.predict(belief, plan)
    assert future.latent.shape == (B, H, E)
    assert dict(future.observation) == {}
    size = model.encode_action.size
    after = model.features(future.belief)
    assert after.shape == (B, 3 * E + 2 * size)
    torch.testing.assert_close(after[:, 2 * E : 3 * E], future.latent[:, -1])
    once = model.predict(model.predict(belief, plan[:, :1]).belief, plan[:, 1:])
    torch.testing.assert_close(once.latent[:, -1], future.latent[:, -1])


@pytest.mark.parametrize("name", FAMILY)
def test_padded_steps_count_nowhere(name: str) -> None:
    model, data = FAMILY[name](SPACE, ACTED), segment(SPACE, ACTED, batch=5)
    mask = torch.ones_like(data.mask)
    mask[:, T - 1 :] = False
    other = {
        key: torch.cat([value[:, :T], value[:, T:].flip(0)], 1) for key, value in data.observation.items()
    }
    torch.manual_seed(5)
    one, _ = model.loss(dataclasses.replace(data, mask=mask))
    torch.manual_seed(5)
    two, _ = model.loss(dataclasses.replace(data, mask=mask, observation=other))
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("name", FAMILY)
def test_a_decoder_is_only_looked_at(name: str) -> None:
    blind, seeing = (FAMILY[name](SPACE, ACTED, decoder=decoder) for decoder in (False, True))
    assert (list(capabilities(blind).predicted or []), list(capabilities(seeing).predicted or [])) == (
        [],
        ["lcd"],
    )
    data = segment(SPACE, ACTED)
    latent = seeing.embed(data.observation)
    terms: dict[str, Tensor] = {}
    loss, metrics = seeing.total(terms, {}, data, latent)
    loss.backward()
    assert "loss/lcd" in metrics
    touched = {key.partition(".")[0] for key, weight in seeing.named_parameters() if weight.grad is not None}
    assert touched == {"heads"}


def test_pictures_are_left_out_where_nothing_is_predicted() -> None:
    model = LeWM(BELT, Box(0, 3, (1,)), **SMALL).eval()
    assert evaluate_spread(model, cut_clips(episodes(3, steps=20), 3, 5), 2) is None


def test_keys_that_do_not_exist_are_refused() -> None:
    with refused(ConfigError, "keys", got=["odd"]):
        LeWM(SPACE, ACTED, keys=["odd"])
    assert LeWM(SPACE, ACTED, keys=["proprio"]).reads == ["proprio"]


# ---- goals ---------------------------------------------------------------------------------------


class World:
    """The spec of an env whose goals are these keys."""

    def __init__(self, *goals: str) -> None:
        spaces = {key: SPACE[key] for key in ("lcd", "proprio")}
        self.observation_space = Dict(spaces | {f"goal_{key}": spaces[key] for key in goals})
        self.action_space = ACTED


@pytest.mark.parametrize("steps", ["last", "all"])
@pytest.mark.parametrize("name", FAMILY)
@torch.no_grad()
def test_a_plan_to_the_goal_scores_best(name: str, steps: Any) -> None:
    torch.manual_seed(1)
    model, data = FAMILY[name](SPACE, ACTED), segment(SPACE, ACTED)
    objective = LatentDistance(World("lcd"), model, steps)
    goal = {"goal_lcd": data.observation["lcd"][:, -1]}
    future = model.predict(model.track(data), actions(ACTED, B * (T + 1), H))
    there = model.embed({"lcd": goal["goal_lcd"]}).repeat_interleave(T + 1, 0)
    every = {"goal_lcd": goal["goal_lcd"].repeat_interleave(T + 1, 0)}
    perfect = dataclasses.replace(future, latent=there.unsqueeze(1).expand(-1, H, -1))
    assert objective(perfect, every).abs().max() < 1e-6
    assert (objective(future, every) < -1e-4).all()
    late = torch.cat([future.latent[:, 1:], there.unsqueeze(1)], 1)
    early = late.flip(1)
    scores = [objective(dataclasses.replace(future, latent=each), every) for each in (late, early)]
    assert (scores[0] > scores[1]).all(), "later steps weigh more"


@torch.no_grad()
def test_models_whose_latents_are_no_features_are_compared_by_features() -> None:
    model, data = MLP(SPACE, ACTED, hidden=7, image_hidden=7), segment(SPACE, ACTED)
    objective = LatentDistance(World("lcd", "proprio"), model)
    last = {f"goal_{key}": data.observation[key][:, -1] for key in ("lcd", "proprio")}
    belief = model.initial({key: data.observation[key][:, 0] for key in ("lcd", "proprio")})
    future = model.predict(belief, actions(ACTED, B, H))
    goal = model.features(model.initial({key: last[f"goal_{key}"] for key in ("lcd", "proprio")}))
    expected = -(model.features(future.belief) - goal).square().sum(-1)
    torch.testing.assert_close(objective(future, last), expected)
    with refused(ConfigError, "all", expected="last"):
        LatentDistance(World("lcd", "proprio"), model, "all")(future, last)


@torch.no_grad()
def test_a_model_that_takes_goals_sees_the_goal_there_too() -> None:
    class Wanting(MLP):
        goals = True

        def initial(self, observation: Any) -> Any:
            assert torch.equal(observation["goal_lcd"], observation["lcd"])
            return super().initial(observation)

    model, data = Wanting(SPACE, ACTED, hidden=7, image_hidden=7), segment(SPACE, ACTED)
    now = {key: data.observation[key][:, 0] for key in ("lcd", "proprio")}
    goal = {f"goal_{key}": data.observation[key][:, -1] for key in ("lcd", "proprio")}
    future = model.predict(MLP.initial(model, now), actions(ACTED, B, H))
    assert LatentDistance(World("lcd", "proprio"), model)(future, {**now, **goal}).shape == (B,)


def test_what_no_goal_can_be_given_to_is_refused_at_once() -> None:
    class Featureless(nn.Module):
        pass

    with refused(ConfigError, "latent_distance", got="Featureless"):
        LatentDistance(World("lcd"), Featureless())
    for goals, model, lacking in (
        ((), FAMILY["lewm"](SPACE, ACTED), "goal_lcd"),
        (("lcd",), MLP(SPACE, ACTED, hidden=7), "goal_proprio"),
    ):
        with refused(ConfigError, "latent_distance", expected=lacking):
            LatentDistance(World(*goals), model)


# ---- a frozen encoder ----------------------------------------------------------------------------


def encoder(name: str, embed: Callable[[Any, Any], Tensor] | None, scale: float = 1.0) -> str:
    """Register an encoder of screens, as a plugin does."""

    class Brought(nn.Module):
        def __init__(self, observation_space: Any, gain: float = scale) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((1,), gain))

    if embed is not None:
        Brought.embed = embed  # type: ignore[attr-defined]
    wmplay.register("model", name)(Brought)
    return name


def rows_of_screen(self: Any, observation: Any) -> Tensor:
    return self.weight * observation["lcd"].float().mean(-1)


def test_a_frozen_encoder_is_not_fitted_and_saved_once() -> None:
    model = FrozenJEPA(SPACE, ACTED, encoder=encoder("rows", rows_of_screen), width=17)
    assert [key for key in model.state_dict() if "frozen" in key] == ["frozen.weight"]
    assert model.embed(segment(SPACE, ACTED).observation).shape == (B, T + 1, 5)
    loss, _ = model.loss(segment(SPACE, ACTED))
    loss.backward()
    trained = {key for key, weight in model.named_parameters() if weight.grad is not None}
    assert not any(key.startswith("frozen") for key in trained)
    assert any(key.startswith("predictor") for key in trained)
    assert not model.train().frozen.training
    assert model.predictor.training


def test_a_frozen_encoder_that_does_not_fit_is_refused() -> None:
    with refused(ConfigError, "no_embed", expected="embed"):
        FrozenJEPA(SPACE, ACTED, encoder=encoder("no_embed", None))
    with refused(ConfigError, "rows_2", got=5, expected="7"):
        FrozenJEPA(SPACE, ACTED, encoder=encoder("rows_2", rows_of_screen), code=7)
    with refused(ShapeError, "pixels"):
        FrozenJEPA(SPACE, ACTED, encoder=encoder("pixels", lambda self, seen: seen["lcd"].float()))
