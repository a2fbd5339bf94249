"""Planners, on a model whose best plans are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from refusals import refused
from torch import Tensor, nn

from wmplay.contracts import Prediction
from wmplay.errors import ConfigError, ShapeError, SpaceError
from wmplay.planners.cem import CEM
from wmplay.planners.gradcem import GradCEM
from wmplay.planners.gradient import Gradient
from wmplay.planners.icem import ICEM
from wmplay.planners.mppi import MPPI
from wmplay.planners.random_shooting import RandomShooting

B, H, N, A = 2, 5, 101, 3

BOX = Box(np.array([-1, -2, 0], np.float32), np.array([1, 3, 5], np.float32))
CHOICE = Discrete(7)


class Walk(nn.Module):
    """x[t + 1] = x[t] + the action's sum; the belief is x [B]. Counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, ...]] = []

    def predict(self, belief: Any, action: Tensor, *, generator: torch.Generator | None = None) -> Prediction:
        assert generator is None, "planners plan for the most likely future"
        assert len(belief["x"]) == len(action)
        self.asked.append(tuple(action.shape))
        if action.shape[-1] == CHOICE.n and action.ndim == 3:  # relaxed discrete actions
            action = action @ torch.arange(float(CHOICE.n))
        step = action.float() if action.ndim == 2 else action.sum(-1)
        x = belief["x"].unsqueeze(1) + step.cumsum(1)
        return Prediction(torch.cat([x.unsqueeze(-1), step.unsqueeze(-1)], -1), step, None, {}, lambda x: {})


def belief() -> dict[str, Tensor]:
    return {"x": torch.tensor([0.0, 1.0])}


def toward(target: Tensor) -> Any:
    """Score: minus the squared distance of each step to a row's target [B, H]."""

    def score(prediction: Prediction) -> Tensor:
        assert isinstance(prediction.latent, Tensor)
        step = prediction.latent[..., 1]
        each = len(step) // len(target)
        return -(step - target.repeat_interleave(each, 0)).square().sum(1)

    return score


PLANNERS = {
    "cem": lambda space, **config: CEM(space, **{"horizon": H, "candidates": N, "hold": 1, **config}),
    "mppi": lambda space, **config: MPPI(space, **{"horizon": H, "candidates": N, "hold": 1, **config}),
    "random_shooting": lambda space, **config: RandomShooting(
        space, **{"horizon": H, "candidates": N, **config}
    ),
}
OTHERS = {  # without ``hold``
    "icem": lambda space, **config: ICEM(space, **{"horizon": H, "candidates": N, **config}),
    "gradient": lambda space, **config: Gradient(
        space, **{"horizon": H, "candidates": N, "steps": 3, **config}
    ),
    "gradcem": lambda space, **config: GradCEM(
        space, **{"horizon": H, "candidates": N, "steps": 2, **config}
    ),
}
EVERY = PLANNERS | OTHERS
each_planner = pytest.mark.parametrize("make", EVERY.values(), ids=EVERY.keys())
each_that_holds = pytest.mark.parametrize("make", PLANNERS.values(), ids=PLANNERS.keys())
each_space = pytest.mark.parametrize("space", [BOX, CHOICE], ids=["box", "discrete"])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@each_planner
@each_space
def test_a_plan_is_valid_and_its_score_is_true(make: Any, space: Any) -> None:
    planner, target = make(space), torch.tensor([[1.0], [3.0]]).expand(B, H)
    model = Walk()
    before = belief()
    plan = planner.plan(model, before, toward(target), generator=seeded())
    assert torch.equal(before["x"], belief()["x"])
    assert plan.action.shape == ((B, H) if space is CHOICE else (B, H, A))
    for row in plan.action:
        for action in row.numpy():
            assert space.contains(action if space is CHOICE else action.astype(np.float32))
    achieved = toward(target)(model.predict(belief(), plan.action))
    torch.testing.assert_close(plan.score, achieved)
    assert model.asked[0][:2] == (B * N, H)


@each_planner
@each_space
def test_all_randomness_is_the_generators(make: Any, space: Any) -> None:
    planner, target = make(space, candidates=7), torch.full((B, H), 5.3)
    state = torch.get_rng_state()

    def plan(seed: int) -> Tensor:
        return planner.plan(Walk(), belief(), toward(target), generator=seeded(seed)).action

    assert torch.equal(plan(2), plan(2))
    assert not torch.equal(plan(2), plan(3))
    assert torch.equal(torch.get_rng_state(), state)


@each_planner
@each_space
def test_never_worse_than_the_warm_start(make: Any, space: Any) -> None:
    planner, target = make(space, candidates=2), torch.tensor([[2.0, 1, 4, 1, 5]]).expand(B, H)
    warm = target.long() if space is CHOICE else torch.stack([0 * target, 0 * target, target], -1)
    plan = planner.plan(Walk(), belief(), toward(target), warm_start=warm, generator=seeded())
    torch.testing.assert_close(plan.score, torch.zeros(B))
    torch.testing.assert_close(plan.action, warm)


@each_space
def test_each_row_gets_its_own_plan(space: Any) -> None:
    target = torch.tensor([[0.0, 1, 2, 3, 4], [5, 4, 3, 2, 1]])
    planner = CEM(space, horizon=H, candidates=307, iterations=11, hold=1)
    plan = planner.plan(Walk(), belief(), toward(target), generator=seeded())
    found = plan.action.float() if space is CHOICE else plan.action.sum(-1)
    torch.testing.assert_close(found, target, atol=0.35, rtol=0)


@each_space
@pytest.mark.parametrize("fraction", [1e-9, 2 / N, 0.1, 1.0], ids=["one", "two", "tenth", "all"])
def test_any_number_of_elites(space: Any, fraction: float) -> None:
    planner = CEM(space, horizon=H, candidates=N, iterations=3, elite_fraction=fraction, hold=1)
    plan = planner.plan(Walk(), belief(), toward(torch.ones(B, H)), generator=seeded())
    assert plan.score.isfinite().all()


@each_space
def test_more_iterations_find_better_plans(space: Any) -> None:
    target = torch.tensor([[0.0, 1, 2, 3, 4], [5, 4, 3, 2, 1]])

    def score(**config: Any) -> Tensor:
        planner = CEM(space, horizon=H, candidates=37, hold=1, **config)
        scores = [
            planner.plan(Walk(), belief(), toward(target), generator=seeded(seed)).score for seed in range(7)
        ]
        return torch.stack(scores).mean()

    assert score(iterations=7) > 0.5 * score(iterations=1)  # scores are negative
    assert score(iterations=7, elite_fraction=0.1) > score(iterations=7, elite_fraction=1.0)


@each_that_holds
@each_space
@pytest.mark.parametrize("hold", [1, 2, 3, H, 2 * H])
def test_actions_are_held(make: Any, space: Any, hold: int) -> None:
    target = torch.tensor([[0.0, 1, 2, 3, 4], [5, 4, 3, 2, 1]])
    plan = make(space, hold=hold).plan(Walk(), belief(), toward(target), generator=seeded())
    assert len(plan.action[0]) == H
    for t in range(H):
        assert torch.equal(plan.action[:, t], plan.action[:, t - t % hold])


@each_planner
def test_the_planner_survives_futures_that_are_not_numbers(make: Any) -> None:
    def score(prediction: Prediction) -> Tensor:
        value = toward(torch.zeros(B, H))(prediction)
        return torch.where(value > value.median(), torch.nan, value)

    plan = make(BOX).plan(Walk(), belief(), score, generator=seeded())
    assert plan.score.isfinite().all()
    assert plan.action.isfinite().all()


@each_planner
def test_a_score_of_the_wrong_shape_is_one_line(make: Any) -> None:
    with refused(ShapeError, ("score", "2")):
        make(BOX).plan(Walk(), belief(), lambda p: p.reward[:, :2], generator=seeded())


@each_planner
@pytest.mark.parametrize(
    "space", [Box(-np.inf, np.inf, (3,)), Box(-1, 1, (2, 3)), Dict({"a": CHOICE})], ids=str
)
def test_unsupported_spaces_are_one_line(make: Any, space: Any) -> None:
    with refused(SpaceError, "action", got=space):
        make(space)


@each_planner
@pytest.mark.parametrize("name", ["horizon", "candidates"])
def test_numbers_out_of_range(make: Any, name: str) -> None:
    with refused(ConfigError, got=0, expected="1"):
        make(BOX, **{name: 0})


@each_that_holds
def test_holding_for_no_step(make: Any) -> None:
    with refused(ConfigError, got=0, expected="1"):
        make(BOX, hold=0)


@pytest.mark.parametrize(
    "config", [{"elite_fraction": 0.0}, {"smoothing": 2.0}, {"std": 0.0}, {"iterations": 0}]
)
def test_cem_numbers_out_of_range(config: dict[str, Any]) -> None:
    with refused(ConfigError, ("cem", next(iter(config))), got=next(iter(config.values()))):
        CEM(BOX, **config)


@pytest.mark.parametrize("name", ["cem", "icem"])
@pytest.mark.parametrize("space", [BOX, CHOICE], ids=["box", "discrete"])
def test_a_planner_that_explores_says_how_sure_it_is_of_the_first_action(name: str, space: Any) -> None:
    target = torch.tensor([[1.0] * H, [2.0] * H])
    found = [
        EVERY[name](space, iterations=rounds, explores=explores).plan(
            Walk(), belief(), toward(target), generator=torch.Generator().manual_seed(0)
        )
        for rounds, explores in ((1, True), (7, True), (7, False))
    ]
    sizes = (B, A) if space is BOX else (B, CHOICE.n)
    early, late = (plan.spread for plan in found[:2])
    assert found[2].spread is None
    assert torch.equal(found[1].action, found[2].action)
    assert early.shape == late.shape == sizes
    if space is BOX:
        assert (late < early).all()
    else:
        torch.testing.assert_close(late.sum(1), torch.ones(B))
        assert late.argmax(1).tolist() == [1, 2]
