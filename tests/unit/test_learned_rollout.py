"""Rollouts of a learned env: what it would do, with gradients that are those of finite differences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium.utils.env_checker import data_equivalence
from learned_push import N, drawn, learned
from push import Truth
from torch import Tensor, nn

import wmplay
from wmplay.envs.learned.env import LearnedVectorEnv
from wmplay.envs.learned.starts import real_starts


class Tape(nn.Module):
    """Acts from a tape [B, H, A] of actions."""

    def __init__(self, tape: Tensor) -> None:
        super().__init__()
        self.tape = tape

    def initial(self, batch_size: int) -> Any:
        return 0

    def act(self, carry: Any, observation: Any, last_action: Tensor, first: Tensor, **_: Any) -> Any:
        expected = self.tape[:, carry - 1] if carry else torch.zeros_like(last_action)
        assert torch.equal(last_action, expected), "told what was executed"
        assert (first == (carry == 0)).all()
        return self.tape[:, carry], carry + 1


class Steering(nn.Module):
    """Acts by a linear law of where it is and has to go; explores by adding noise."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.law = nn.Linear(4, 2, dtype=dtype)

    def initial(self, batch_size: int) -> Any:
        return ()

    def act(
        self,
        carry: Any,
        observation: Any,
        last_action: Tensor,
        first: Tensor,
        *,
        explore: bool,
        generator: Any,
    ) -> Any:
        seen = torch.cat([observation["x"], observation["goal_x"]], -1).to(self.law.weight.dtype)
        action = self.law(seen).tanh()
        if explore:
            action = action + 0.1 * torch.randn(action.shape, generator=generator, dtype=action.dtype)
        return action, carry


def precise(env: LearnedVectorEnv, count: int = 2) -> tuple[Any, dict[str, Tensor]]:
    """A beginning in float64, so that finite differences mean something."""
    env.model.double()
    env.reset_tensors(seed=1)
    belief, observation, _ = env.begin(torch.arange(count))
    double = {key: value.double() for key, value in observation.items()}
    return {key: 0.3 * value.double() for key, value in belief.items()}, {**double, "x": 0.3 * double["x"]}


@pytest.mark.parametrize("noise", [None, 0.05])
def test_the_gradient_of_reward_to_actions_is_that_of_finite_differences(noise: float | None) -> None:
    env = learned(Truth(noise=noise or 0.0))
    belief, observation = precise(env)
    torch.manual_seed(5)
    actions = (torch.rand(2, 3, 2, dtype=torch.float64) - 0.5).requires_grad_()

    def worth(actions: Tensor) -> Tensor:
        generator = None if noise is None else torch.Generator().manual_seed(7)
        return env.rollout(belief, Tape(actions), observation, 3, generator).reward.sum()

    assert torch.autograd.gradcheck(worth, (actions,), eps=1e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(worth(actions), actions)
    assert gradient.abs().min() > 1e-3, "every action matters"


@pytest.mark.parametrize("sampled", [False, True])
def test_the_gradient_of_reward_to_a_policys_weights_is_that_of_finite_differences(sampled: bool) -> None:
    env, policy = learned(Truth(noise=0.05)), Steering()
    belief, observation = precise(env)

    def worth(weight: Tensor, bias: Tensor) -> Tensor:
        def act(*told: Any, **how: Any) -> Any:
            return torch.func.functional_call(policy, {"law.weight": weight, "law.bias": bias}, told, how)

        bound = Steering()
        bound.act = act  # type: ignore[method-assign]
        generator = torch.Generator().manual_seed(7) if sampled else None
        return env.rollout(belief, bound, observation, 3, generator).reward.sum()

    policy.forward = policy.act  # type: ignore[method-assign]
    weights = [parameter.detach().clone().requires_grad_() for parameter in policy.law.parameters()]
    assert torch.autograd.gradcheck(worth, weights, eps=1e-6, atol=1e-6)
    assert all(gradient.abs().min() > 1e-4 for gradient in torch.autograd.grad(worth(*weights), weights))


def test_gradients_pass_through_a_fitted_kind_of_model_and_the_tasks_of_the_worlds() -> None:
    real = wmplay.make_env("luxo", task="body_goal", physics="fast", num_envs=2)
    single = wmplay.make_env("luxo", task="body_goal", physics="fast")
    torch.manual_seed(2)
    model = wmplay.make(
        "model", "mlp", env=single, hidden=17, layers=1, reward_weight=0, continuation_weight=0
    )
    env = LearnedVectorEnv(model, single, real_starts(real, 5, 3, 0), 2, precision="float32")
    env.reset_tensors(0)
    belief, observation, _ = env.begin(torch.arange(2))
    actions = torch.zeros(2, 3, *single.action_space.shape)
    direction = torch.randn(actions.shape, generator=torch.Generator().manual_seed(1))

    def worth(step: float) -> Tensor:
        return env.rollout(belief, Tape(actions + step * direction), observation, 3).reward.sum()

    actions.requires_grad_()
    worth(0.0).backward()
    assert actions.grad is not None
    with torch.no_grad():
        expected = (worth(0.03) - worth(-0.03)) / 0.06
    assert float((actions.grad * direction).sum()) == pytest.approx(float(expected), rel=0.05)
    assert abs(float(expected)) > 1e-4


def test_a_rollout_is_what_the_env_would_do() -> None:
    env = learned(temperature=0.0)
    observation = env.reset_tensors(seed=0)
    torch.manual_seed(5)
    tape = 2 * torch.rand(N, 3, 2) - 1
    imagined = env.rollout(env.belief, Tape(tape), observation, 3)
    assert imagined.reward.shape == imagined.terminated.shape == (N, 3)
    assert torch.equal(imagined.action, tape)
    alive = torch.ones(N, dtype=torch.bool)
    for t in range(3):
        step = env.step_tensors(tape[:, t])
        assert torch.equal(imagined.reward[alive, t], step.reward[alive])
        assert torch.equal(imagined.terminated[alive, t], step.terminated[alive])
        assert torch.equal(imagined.observation[t]["x"][alive], step.arrived["x"][alive])
        alive &= ~step.terminated
    assert 0 < alive.sum() < N


def test_a_rollout_leaves_the_env_as_it_was() -> None:
    def after(imagine: bool) -> Any:
        env = learned(Truth(noise=0.1, reward=0.1, discount=0.5), reward="model")
        observation = env.reset_tensors(seed=1)
        if imagine:
            policy = Steering(torch.float32)
            sampled = [
                env.rollout(env.belief, policy, observation, 3, torch.Generator().manual_seed(s))
                for s in (2, 2, 3)
            ]
            assert torch.equal(sampled[0].terminated, sampled[1].terminated), (
                "the generator given is the only one"
            )
            assert not torch.equal(sampled[0].terminated, sampled[2].terminated)
            likely = env.rollout(env.belief, policy, observation, 3)
            assert torch.equal(likely.reward, env.rollout(env.belief, policy, observation, 3).reward)
        return [env.step(action) for action in drawn(env, 5)]

    assert data_equivalence(after(True), after(False), exact=True)
