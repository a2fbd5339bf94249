"""The gamma-model on a chain of two states, whose discounted future is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor

from wmplay.contracts import Segment
from wmplay.envs.exact.ring import occupancy
from wmplay.errors import ConfigError, SpaceError
from wmplay.models.gamma import GammaModel, Mixture

SPACE, ACTION = Dict({"screen": Box(0, 1, (1, 2), np.uint8)}), Box(-1, 1, (1,), np.float32)
CHAIN = np.array([[0.9, 0.1], [0.2, 0.8]])
KNOWN = {
    0.5: [[0.8462, 0.1538], [0.3077, 0.6923]],
    0.9: [[0.7297, 0.2703], [0.5405, 0.4595]],
    0.99: [[0.6743, 0.3257], [0.6515, 0.3485]],
}
ROWS = 30000


def tell(mixture: Mixture, chances: Tensor) -> None:
    """Let a mixture without hidden layers draw state j after state i with probability chances[i, j]."""
    linear = mixture.out[0]
    assert isinstance(linear, torch.nn.Linear)
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.copy_(torch.tensor([0.0, 30, -30, 0, -30, 30]))
        linear.weight[0::3, :2] = chances.T.log()


def chain(gamma: float) -> GammaModel:
    return GammaModel(SPACE, ACTION, frames=1, layers=0, components=2, gamma=gamma)


def steps(terminated: bool = False, length: int = 2) -> Segment:
    """Return steps of the chain from state 0 and from state 1, half of the rows each."""
    generator = np.random.default_rng(0)
    state = np.zeros((ROWS, length + 1), int)
    state[ROWS // 2 :, 0] = 1
    for t in range(length):
        state[:, t + 1] = generator.random(ROWS) < CHAIN[state[:, t], 1]
    screen = torch.nn.functional.one_hot(torch.as_tensor(state), 2).unsqueeze(-2)
    kept = torch.ones(ROWS, length, dtype=torch.bool)
    ended = torch.zeros_like(kept)
    ended[:, -1] = terminated
    nothing = torch.zeros(ROWS, length)
    return Segment(
        {"screen": screen.to(torch.uint8)}, nothing.unsqueeze(-1), nothing, ended, kept, kept[:, 0]
    )


def targets(model: GammaModel, segment: Segment) -> Tensor:
    """Return how often the future of state i is drawn to be state j, from the first steps."""
    states, action = model.states(segment.observation), model.encode_action(segment.action)
    x = model._inputs(states[:, :-1].unsqueeze(2), action.unsqueeze(2))
    drawn, known = model._targets(x, states, segment)
    assert known[:, 0].all()
    assert bool(known[:, -1].any()) == bool(segment.terminated.any())
    return drawn[:, 0].reshape(2, -1, 2).mean(1)


@pytest.mark.parametrize("gamma", KNOWN)
def test_the_exact_future_is_what_its_own_targets_are_drawn_from(gamma: float) -> None:
    torch.manual_seed(0)
    exact = torch.as_tensor(occupancy(CHAIN, gamma)).float()
    torch.testing.assert_close(exact, torch.tensor(KNOWN[gamma]), atol=1e-4, rtol=0)
    model = chain(gamma)
    tell(model.slow, exact)
    torch.testing.assert_close(targets(model, steps()), exact, atol=0.01, rtol=0)
    even = torch.full((2, 2), 0.5)
    tell(model.slow, even)
    once = (1 - gamma) * torch.as_tensor(CHAIN).float() + gamma * even
    torch.testing.assert_close(targets(model, steps()), once, atol=0.01, rtol=0)


def test_a_state_that_ends_the_episode_is_its_own_future() -> None:
    model = chain(0.9)
    tell(model.slow, torch.full((2, 2), 0.5))
    exact = torch.as_tensor(0.1 * CHAIN + 0.9 * CHAIN @ CHAIN).float()
    torch.testing.assert_close(targets(model, steps(True)), exact, atol=0.01, rtol=0)


def test_errors_of_the_slow_copy_count_only_from_the_end_of_a_segment() -> None:
    model, even = chain(0.9), torch.full((2, 2), 0.5)
    tell(model.slow, even)
    seen = sum(0.1 * 0.9**n * np.linalg.matrix_power(CHAIN, n + 1) for n in range(3))
    exact = torch.as_tensor(seen).float() + 0.9**3 * even
    torch.testing.assert_close(targets(model, steps(length=4)), exact, atol=0.01, rtol=0)


@pytest.mark.parametrize("gamma", KNOWN)
def test_likelihoods_draws_and_values_are_those_of_the_chain(gamma: float) -> None:
    model = chain(gamma)
    exact = torch.as_tensor(occupancy(CHAIN, gamma)).float()
    tell(model.future, exact)
    arrival, action = model.arrival, torch.zeros(2, 1)
    assert arrival is not None
    reward = torch.tensor([1.0, -2.0])
    belief = model.initial({"screen": torch.eye(2, dtype=torch.uint8).unsqueeze(1)})
    with torch.no_grad():
        for j in range(2):
            likely = model.likelihood(belief, action, torch.eye(2)[[j, j]]).exp()
            torch.testing.assert_close(likely, exact[:, j])
        generator = torch.Generator().manual_seed(0)
        drawn = model.jump(belief, action, ROWS, generator)
        torch.testing.assert_close(drawn.mean(1), exact, atol=0.01, rtol=0)
        model.arrival = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False))
        model.arrival[0].weight.copy_(reward.unsqueeze(0))
        returns = np.linalg.solve(np.eye(2) - gamma * CHAIN, CHAIN @ reward.numpy())
        found = (1 - gamma) * model.value(belief, action, ROWS, generator)
        torch.testing.assert_close(found, (1 - gamma) * torch.as_tensor(returns).float(), atol=0.03, rtol=0)


def test_what_cannot_be_modelled_is_refused() -> None:
    with pytest.raises(SpaceError):
        GammaModel(Dict({"image": Box(0, 255, (8, 8, 3), np.uint8)}), ACTION)
    for wrong in ({"gamma": 1.0}, {"gamma": -0.1}, {"components": 0}, {"tau": 2.0}):
        with pytest.raises(ConfigError):
            GammaModel(SPACE, ACTION, **wrong)  # type: ignore[arg-type]
    model = GammaModel(SPACE, ACTION, reward_weight=0)
    belief = model.initial({"screen": torch.ones(1, 1, 2)})
    with pytest.raises(ConfigError):
        model.value(belief, torch.zeros(1, 1), 2, torch.Generator())
