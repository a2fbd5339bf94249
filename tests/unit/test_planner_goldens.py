"""Planners against numbers from outside: what one update of each does, and linear control."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import Tensor

from wmplay.contracts import Prediction
from wmplay.errors import ConfigError
from wmplay.planners.cem import CEM
from wmplay.planners.gradcem import GradCEM
from wmplay.planners.gradient import Gradient, project_to_simplex
from wmplay.planners.icem import ICEM
from wmplay.planners.mppi import MPPI, path_weights
from wmplay.planners.proposals import Gaussian, coloured_noise


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


def test_path_weights_multiply_two_gaussians() -> None:
    proposal, drawn = standard(200_000)
    scores = -2 * (drawn.flatten(1) - 0.7) ** 2
    order = scores.argsort(1, descending=True)
    weights = path_weights(scores.gather(1, order), 1 / float(scores.std(correction=0)))
    fitted = proposal.fit(drawn[torch.zeros_like(order), order], weights)
    assert float(fitted.mean) == pytest.approx(0.560, abs=0.01)
    assert float(fitted.std) == pytest.approx(0.4472, abs=0.01)


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
