"""Planners against numbers from outside: what one update of each does, and linear control."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from refusals import refused
from torch import Tensor

from wmplay.contracts import Prediction
from wmplay.errors import ConfigError, ShapeError
from wmplay.nets.agents.distributions import SquashedNormal
from wmplay.objectives import DiscountedReturn
from wmplay.planners.candidates import policy_plans
from wmplay.planners.cem import CEM
from wmplay.planners.gradcem import GradCEM
from wmplay.planners.gradient import Gradient, project_to_simplex
from wmplay.planners.icem import ICEM
from wmplay.planners.lagrangian import Lagrangian
from wmplay.planners.mppi import MPPI, path_weights
from wmplay.planners.proposals import Gaussian, coloured_noise
from wmplay.planners.random_shooting import RandomShooting


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def standard(number: int) -> tuple[Gaussian, Tensor]:
    """A standard normal proposal of one action, and draws [1, N, 1, 1] of it."""
    one = torch.ones(1)
    proposal = Gaussian(torch.zeros(1, 1, 1), torch.ones(1, 1, 1), -50 * one, 50 * one, 0 * one)
    return proposal, proposal.sample(number, seeded())


def test_the_best_tenth_of_a_linear_score_moves_by_their_mean() -> None:
    proposal, drawn = standard(200_000)
    elites = drawn.sort(1, descending=True).values[:, :20_000]
    fitted = proposal.fit(elites)
    assert float(fitted.mean) == pytest.approx(1.755, abs=0.01)
    assert float(fitted.std) == pytest.approx(0.4113, abs=0.01)


def test_a_truncated_gaussian_is_narrower_and_within_its_bounds() -> None:
    one = torch.ones(1)
    wide = Gaussian(torch.zeros(1, 1, 1), torch.ones(1, 1, 1), -50 * one, 50 * one, 0 * one, truncated=True)
    drawn = wide.sample(200_000, seeded())
    assert float(drawn.std()) == pytest.approx(0.8796, abs=0.005)
    assert float(drawn.abs().max()) <= 2
    near = Gaussian(torch.full((1, 1, 1), 0.7), torch.ones(1, 1, 1), -one, one, 0 * one, truncated=True)
    drawn = near.sample(200_000, seeded())  # .3 from the upper bound: a deviation of .15
    assert float(drawn.std()) == pytest.approx(0.15 * 0.8796, abs=0.002)
    assert float(drawn.max()) <= 1
    assert float(drawn[:, 0]) == pytest.approx(0.7)


def test_momentum_is_the_old_part_of_mean_and_deviation() -> None:
    proposal, drawn = standard(200_000)
    elites = drawn.sort(1, descending=True).values[:, :20_000]
    blended = proposal.fit(elites).blend(proposal, 0.1)
    assert float(blended.mean) == pytest.approx(0.9 * 1.755, abs=0.01)
    assert float(blended.std) == pytest.approx(0.1 + 0.9 * 0.4113, abs=0.01)


def test_path_weights_multiply_two_gaussians() -> None:
    proposal, drawn = standard(200_000)
    scores = -2 * (drawn.flatten(1) - 0.7) ** 2
    order = scores.argsort(1, descending=True)
    weights = path_weights(scores.gather(1, order), 1 / float(scores.std(correction=0)))
    fitted = proposal.fit(drawn[torch.zeros_like(order), order], weights)
    assert float(fitted.mean) == pytest.approx(0.560, abs=0.01)
    assert float(fitted.std) == pytest.approx(0.4472, abs=0.01)


def test_constant_widths_remain_and_the_mean_moves() -> None:
    proposal, drawn = standard(1_000)
    elites, weights = drawn[:, :10], torch.full((1, 10), 0.1)
    for each in (None, weights):
        fitted = proposal.fit(elites, each, widths=False)
        assert fitted.std is proposal.std
        torch.testing.assert_close(fitted.mean, proposal.fit(elites, each).mean)


def test_weights_by_the_score_itself() -> None:
    weights = path_weights(torch.tensor([[3.0, 1.0, 1.0]]), 2.0, scaled=False)
    torch.testing.assert_close(weights, torch.tensor([[0.0, -1, -1]]).softmax(1))


@pytest.mark.parametrize("scores", [[0.0, 0.0], [0.0, -3e38], [-3e38, -3.4e38]])
def test_path_weights_of_any_scores_are_a_distribution(scores: list[float]) -> None:
    weights = path_weights(torch.tensor([scores]), 0.5)
    assert float(weights.sum()) == pytest.approx(1)
    assert float(weights[0, 0]) >= 0.5


@pytest.mark.parametrize("steps", [16, 17])
@pytest.mark.parametrize("beta", [0.25, 1.0, 3.0])
def test_coloured_noise_has_its_slope_and_unit_variance(beta: float, steps: int) -> None:
    noise = coloured_noise((10_000, steps), beta, seeded())
    assert float(noise.var()) == pytest.approx(1, abs=0.03)
    interior = slice(1, (steps + 1) // 2)
    power = torch.fft.rfft(noise).abs().square().mean(0)[interior].log().numpy()
    slope, _ = np.polyfit(np.log(np.fft.rfftfreq(steps)[interior]), power, 1)
    assert slope == pytest.approx(-beta, abs=0.05)


def test_the_nearest_probabilities() -> None:
    found = project_to_simplex(torch.tensor([[0.5, 1.2, -0.3], [0.2, 0.3, 0.5], [-1.0, -1.0, 5.0]]))
    expected = torch.tensor([[0.15, 0.85, 0.0], [0.2, 0.3, 0.5], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(found, expected)


# ---- a double integrator, whose best control is known ---------------------------------------------

DT, HORIZON, COST, EFFORT = 0.1, 20, (1.0, 0.1), 0.01
STEP = np.array([[1, DT], [0, 1]]), np.array([[0], [DT]])
SPACE = Box(-10, 10, (1,), np.float32)


class Integrator:
    """Position and velocity [B, 2], pushed by the action; the reward is minus the cost."""

    initial = observe = decode = loss = dict  # none is called

    def predict(self, belief: Tensor, action: Tensor, **_: Any) -> Prediction:
        rewards, state = [], belief
        for push in action.unbind(1):
            rewards.append(
                -(COST[0] * state[:, 0] ** 2 + COST[1] * state[:, 1] ** 2 + EFFORT * push[:, 0] ** 2)
            )
            state = torch.stack([state[:, 0] + DT * state[:, 1], state[:, 1] + DT * push[:, 0]], 1)
        rewards[-1] = rewards[-1] - (COST[0] * state[:, 0] ** 2 + COST[1] * state[:, 1] ** 2)
        return Prediction(action, torch.stack(rewards, 1), None, state, lambda latent: {})


def riccati() -> tuple[Any, Any]:
    """The first gain and the matrix of the cost from the first state, by backward recursion."""
    a, b = STEP
    value = np.diag(COST)
    for _ in range(HORIZON):
        gain = np.linalg.solve(EFFORT + b.T @ value @ b, b.T @ value @ a)
        value = np.diag(COST) + a.T @ value @ (a - b @ gain)
    return gain[0], value


def cost(planner: Any, seed: int = 0) -> tuple[float, float]:
    """The cost of a plan from position 1, and its first action."""
    plan = planner.plan(
        Integrator(), torch.tensor([[1.0, 0.0]]), lambda p: p.reward.sum(1), generator=seeded(seed)
    )
    return -float(plan.score), float(plan.action[0, 0, 0])


def test_the_best_control_is_the_golden_one() -> None:
    gain, value = riccati()
    assert gain == pytest.approx([7.604, 4.977], abs=0.001)
    assert value[0, 0] == pytest.approx(6.545, abs=0.001)


def test_gradients_find_the_best_control() -> None:
    found, first = cost(Gradient(SPACE, HORIZON, candidates=3, steps=300, lr=0.03))
    assert found == pytest.approx(6.545, abs=0.01)
    assert first == pytest.approx(-7.604, abs=0.2)


class Valued(Integrator):
    """The integrator with the value of its best control from any state on, and a policy that pushes fully."""

    gamma = 1.0

    def __init__(self, cost_to_go: Any) -> None:
        self.cost_to_go = torch.tensor(cost_to_go, dtype=torch.float32)

    def value(self, belief: Tensor) -> Tensor:
        return -((belief @ self.cost_to_go) * belief).sum(1)

    def policy(self, belief: Tensor) -> SquashedNormal:
        one = torch.ones(len(belief), 1)
        return SquashedNormal(-9 * one, 0.01 * one, -10 * one[0], 10 * one[0])


def short(valued: Integrator, **settings: Any) -> float:
    """The first action of a plan of three steps from position 1."""
    objective = DiscountedReturn(1.0, bootstrap=isinstance(valued, Valued), model=valued)
    planner = MPPI(SPACE, 3, candidates=512, hold=1, min_std=0, **settings)
    state = torch.tensor([[1.0, 0.0]])
    plan = planner.plan(valued, state, lambda p: objective(p, {}), generator=seeded())
    assert plan.action.shape == (1, 3, 1)
    return float(plan.action[0, 0, 0])


def test_with_the_value_of_what_follows_a_short_plan_begins_as_the_best_control_does() -> None:
    a, b = STEP
    value = np.diag(COST)
    for _ in range(300):
        gain = np.linalg.solve(EFFORT + b.T @ value @ b, b.T @ value @ a)
        value = np.diag(COST) + a.T @ value @ (a - b @ gain)
    valued = Valued(value - np.diag(COST))  # the last reward has the state that it leads to already
    assert short(valued, iterations=24) == pytest.approx(-gain[0, 0], abs=0.1)
    assert short(valued, iterations=24, draws=True) == pytest.approx(-gain[0, 0], abs=0.1)
    assert short(Integrator(), iterations=24) > -0.7 * gain[0, 0]  # what comes later is not seen


def test_a_plan_begins_with_an_elite_drawn_by_its_weight() -> None:
    planner = MPPI(SPACE, 3, candidates=64, iterations=1, hold=2, draws=True, explores=True, temperature=1e6)
    belief = torch.zeros(3000, 2)
    plan = planner.plan(Integrator(), belief, lambda p: p.latent[:, 0, 0], generator=seeded())
    assert plan.spread is not None
    first = plan.action[:, 0]
    assert torch.equal(first, plan.action[:, 1])
    torch.testing.assert_close(plan.score, first.squeeze(1))
    # the first action is drawn among 8 of about the same width, the last one is their mean
    assert float((first - first.mean()).square().mean().sqrt()) > float(plan.spread.mean()) * 0.9
    assert float(plan.action[:, 2].std()) < 0.6 * float(first.std()) + 3


@pytest.mark.parametrize("hold", [1, 2])
def test_plans_of_the_models_own_policy(hold: int) -> None:
    valued = Valued(np.eye(2))
    state = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    plans = policy_plans(valued, state, 5, 3, hold, seeded())
    assert plans is not None
    assert plans.shape == (2, 5, 3, 1)
    torch.testing.assert_close(plans, torch.full_like(plans, -10))
    assert policy_plans(Integrator(), state, 5, 3, hold, seeded()) is None
    assert policy_plans(valued, state, 0, 3, hold, seeded()) is None


@pytest.mark.parametrize("kind", [MPPI, CEM, ICEM])
def test_plans_of_the_policy_are_candidates(kind: Any) -> None:
    """A reward that only full pushes to the left have: none is drawn from a narrow distribution, but
    proposed."""

    def found(model: Integrator) -> float:
        planner = kind(SPACE, 4, candidates=32, iterations=2, std=0.01)
        score = lambda p: -(p.latent + 10).abs().sum((1, 2))  # noqa: E731
        return float(planner.plan(model, torch.zeros(1, 2), score, generator=seeded()).score)

    assert found(Integrator()) < -30
    assert found(Valued(np.eye(2))) > -10


PLANNERS = {
    "cem": lambda: CEM(SPACE, HORIZON, candidates=512, iterations=24, elite_fraction=0.1, hold=1, min_std=0),
    "cem_mean": lambda: CEM(SPACE, HORIZON, 512, 24, 0.1, hold=1, min_std=0, returns="mean"),
    "mppi": lambda: MPPI(SPACE, HORIZON, candidates=512, iterations=24, hold=1, min_std=0),
    "icem": lambda: ICEM(
        SPACE, HORIZON, candidates=512, iterations=24, decay=1.02, elites=40, noise_beta=1.0
    ),
    "gradcem": lambda: GradCEM(SPACE, HORIZON, candidates=16, iterations=8, steps=12),
}


@pytest.mark.parametrize("name", PLANNERS)
def test_all_come_within_two_percent_of_the_best_control(name: str) -> None:
    assert cost(PLANNERS[name]())[0] < 1.02 * 6.545


def test_gradient_steps_pay_at_equal_calls() -> None:
    # 576 predictions of one candidate each; a gradient step counts as two
    plain = [cost(CEM(SPACE, HORIZON, candidates=96, iterations=6, hold=1), seed)[0] for seed in range(5)]
    climbing = GradCEM(SPACE, HORIZON, candidates=6, iterations=4, steps=11)
    assert np.mean([cost(climbing, seed)[0] for seed in range(5)]) < np.mean(plain)


def test_slow_noise_reaches_further_than_white_noise() -> None:
    def reach(beta: float, seed: int) -> float:
        planner = ICEM(SPACE, HORIZON, candidates=32, iterations=1, noise_beta=beta)
        plan = planner.plan(
            Integrator(), torch.zeros(1, 2), lambda p: p.latent.sum((1, 2)), generator=seeded(seed)
        )
        return float(plan.score)

    slow, white = ([reach(beta, seed) for seed in range(5)] for beta in (2.0, 0.0))
    assert min(slow) > max(white)


def test_a_score_without_gradient_is_one_line() -> None:
    with pytest.raises(ConfigError) as error:
        Gradient(SPACE, HORIZON).plan(
            Integrator(), torch.zeros(1, 2), lambda p: p.reward.detach().sum(1), generator=seeded()
        )
    assert error.value.advice is not None


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (CEM, {"returns": "median"}),
        (MPPI, {"temperature": 0.0}),
        (MPPI, {"elite_fraction": 0.0}),
        (ICEM, {"decay": 0.5}),
        (ICEM, {"momentum": 1.0}),
        (ICEM, {"kept": 1.5}),
        (Gradient, {"lr": 0.0}),
        (Gradient, {"optimizer": "newton"}),
        (GradCEM, {"steps": 0}),
    ],
)
def test_settings_out_of_range(kind: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        kind(SPACE, **wrong)


# ---- a gamble, whose mean no most likely future shows ----------------------------------------------


class Gamble:
    """A step a >= 0 is worth a for sure; below 0 it is worth 3 |a| in one of two futures, else -|a|."""

    def predict(
        self, belief: Tensor, action: Tensor, *, generator: torch.Generator | None = None
    ) -> Prediction:
        won = torch.zeros(len(action), 1, dtype=torch.bool)
        if generator is not None:
            won = torch.rand(len(action), 1, generator=generator) < 0.5
        step = action[..., 0]
        reward = torch.where(step >= 0, 0.5 * step, step.abs() * torch.where(won, 3.0, -1.0))
        return Prediction(action, reward, None, belief, lambda latent: {})


SAMPLING: dict[str, Any] = {"cem": CEM, "icem": ICEM, "mppi": MPPI, "random_shooting": RandomShooting}


@pytest.mark.parametrize("name", SAMPLING)
def test_particles_score_a_plan_by_the_mean_of_its_futures(name: str) -> None:
    space, rows = Box(-1, 1, (1,), np.float32), torch.zeros(2, 1)
    score = lambda prediction: prediction.reward.sum(1)  # noqa: E731
    for particles, sign in ((0, 1), (61, -1)):
        planner = SAMPLING[name](space, horizon=1, candidates=67, particles=particles)
        plan = planner.plan(Gamble(), rows, score, generator=seeded(3))
        assert plan.action.shape == (2, 1, 1)
        assert (plan.action.sign() == sign).all()


def test_particles_of_an_unseeded_search_follow_torchs_seed() -> None:
    space = Box(-1, 1, (1,), np.float32)
    planner = CEM(space, horizon=1, candidates=5, particles=3)
    plans = []
    for _ in range(2):
        torch.manual_seed(7)
        plans.append(planner.plan(Gamble(), torch.zeros(1, 1), lambda p: p.reward.sum(1)))
    assert torch.equal(plans[0].score, plans[1].score)


@pytest.mark.parametrize("wrong", [{"particles": -1}, {"momentum": 1.0}, {"momentum": -0.1}])
def test_settings_of_cem_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        CEM(SPACE, **wrong)


# ---- constraints ---------------------------------------------------------------------------------


class Shown:
    """A model that shows the actions."""

    def predict(self, belief: Any, action: Tensor, *, generator: Any = None) -> Prediction:
        return Prediction(action, None, None, belief, lambda latent: {})


class Bounded:
    """Score -(a - 2)^2 of the first action, with row b's own bounds a <= limit[b]."""

    def __init__(self, *limits: float) -> None:
        self.limits = torch.tensor(limits)

    def __call__(self, prediction: Prediction) -> Tensor:
        return -(prediction.latent[:, 0, 0] - 2).square()  # type: ignore[index]

    def constraints(self, prediction: Prediction) -> Tensor:
        limits = self.limits.repeat_interleave(len(prediction.latent) // len(self.limits))
        return (prediction.latent[:, 0, 0] - limits).unsqueeze(1)  # type: ignore[index]


def lagrangian(**settings: Any) -> Lagrangian:
    return Lagrangian(Box(-4, 4, (1,), np.float32), **{"horizon": 1, **settings})


def test_a_bound_on_a_parabola_has_the_multiplier_of_its_slope() -> None:
    planner, score = lagrangian(rounds=7, steps=150, decay=0.5), Bounded(1.0)
    free = torch.tensor([-0.9, -0.2, 0.1, 0.4, 0.9]).reshape(5, 1, 1)
    ends, multipliers = planner.climb(Shown(), torch.zeros(5, 1), score, free)  # type: ignore[arg-type]
    assert multipliers is not None
    assert planner.climber.actions(ends[-1]).flatten().tolist() == pytest.approx([1] * 5, abs=2e-3)
    assert multipliers.flatten().tolist() == pytest.approx([2] * 5, abs=0.1)


def test_a_bound_that_does_not_bind_costs_nothing() -> None:
    planner = lagrangian(rounds=5, steps=60, decay=0.5)
    free = torch.tensor([-0.9, 0.1, 0.9]).reshape(3, 1, 1)
    ends, multipliers = planner.climb(Shown(), torch.zeros(3, 1), Bounded(3.0), free)  # type: ignore[arg-type]
    assert multipliers is not None
    assert multipliers.tolist() == [[0]] * 3
    assert planner.climber.actions(ends[-1]).flatten().tolist() == pytest.approx([2] * 3, abs=0.01)


def test_each_row_keeps_its_own_bound() -> None:
    limits = (1.0, 3.0, -1.5, 0.0, 2.5)
    plan = lagrangian().plan(Shown(), torch.zeros(5, 1), Bounded(*limits), generator=seeded())  # type: ignore[arg-type]
    action = plan.action.flatten()
    assert (action <= torch.tensor(limits) + 1e-3).all()
    assert action.tolist() == pytest.approx([1, 2, -1.5, 0, 2], abs=0.1)


def test_without_a_plan_that_is_allowed_the_least_violation_counts() -> None:
    plan = lagrangian().plan(Shown(), torch.zeros(2, 1), Bounded(-5.0, -7.0), generator=seeded())  # type: ignore[arg-type]
    assert plan.action.flatten().tolist() == pytest.approx([-4, -4], abs=1e-3)


def test_a_warm_start_that_keeps_the_bound_is_never_lost() -> None:
    planner = lagrangian(candidates=1, rounds=1, steps=1)
    plan = planner.plan(  # type: ignore[arg-type]
        Shown(), torch.zeros(2, 1), Bounded(1.0, -1.0), warm_start=torch.tensor([[[1.0]], [[-1.0]]])
    )
    assert plan.action.flatten().tolist() == pytest.approx([1, -1])


def test_choices_keep_bounds_that_the_rounded_plan_has_to_keep() -> None:
    class Numbers(Bounded):
        """The number of the choice, which relaxed choices mix."""

        def value(self, prediction: Prediction) -> Tensor:
            latent: Any = prediction.latent
            return latent.float() if latent.ndim == 2 else latent @ torch.arange(5.0)

        def __call__(self, prediction: Prediction) -> Tensor:
            return self.value(prediction).sum(1)

        def constraints(self, prediction: Prediction) -> Tensor:
            return self.value(prediction) - 2.5

    planner = Lagrangian(Discrete(5), horizon=3, candidates=31)
    plan = planner.plan(Shown(), torch.zeros(2, 1), Numbers(), generator=seeded())  # type: ignore[arg-type]
    assert (plan.action <= 2).all()
    assert (plan.action.sum(1) >= 4).all()


def test_constraints_of_another_shape_are_refused() -> None:
    score = Bounded(1.0)
    score.constraints = lambda prediction: prediction.latent[:, 0, 0]  # type: ignore[method-assign,index]
    with refused(ShapeError, "constraints"):
        lagrangian().plan(Shown(), torch.zeros(1, 1), score)  # type: ignore[arg-type]
