"""PPO's advantages, densities and loss, by slow references."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from ppo_learner import CPU, N, learner, practise, seeded
from push import CONTINUOUS, DISCRETE, Reach, vector
from torch import Tensor, nn
from torch.distributions import Categorical, Normal

from wmplay.policies.ppo import generalised_advantage
from wmplay.vector.stepping import TensorEnv, Transition


class Recorder(TensorEnv):
    """Keeps what the env said and was told."""

    def __init__(self, env: Any) -> None:
        super().__init__(env, CPU)
        self.steps: list[Transition] = []

    def step(self, action: Tensor) -> Transition:
        self.steps.append(super().step(action))
        return self.steps[-1]


class Worth(nn.Module):
    """A value function that anybody can compute: three times the first input, plus five."""

    def forward(self, inputs: Tensor) -> Tensor:
        return 3 * inputs[..., :1] + 5


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
def test_advantages_are_those_of_plain_loops(gae_lambda: float) -> None:
    """Over a round with episodes that are terminated, out of time, both at once, and cut by its end."""
    task = Reach()
    task.radius = 0.45
    gamma, rounds = 0.9, 31
    policy = learner(rollout=rounds, gamma=gamma, gae_lambda=gae_lambda)
    policy.critic = torch.nn.Sequential(Worth())
    env = Recorder(vector(task=task, max_steps=4))
    first = env.reset(2)
    batch, now, _ = policy.collect(env, policy.inputs.flat(first), seeded(4))
    advantage = batch.advantage.reshape(rounds, N)

    def value(seen: Any) -> Tensor:
        return 3 * policy.inputs.flat(seen)[:, 0] + 5  # nothing is normalised yet

    assert torch.equal(now, policy.inputs.flat(env.steps[-1].observation))
    before = [first, *(step.observation for step in env.steps[:-1])]
    kinds = set()
    for n in range(N):
        for t in range(rounds):
            expected, weight = 0.0, 1.0
            for k in range(t, rounds):
                step = env.steps[k]
                over, late = bool(step.terminated[n]), bool(step.truncated[n])
                next_value = 0.0 if over else float(value(step.arrived)[n])
                error = float(step.reward[n]) + gamma * next_value - float(value(before[k])[n])
                expected += weight * error
                weight *= gamma * gae_lambda
                kinds.add((over, late))
                if over or late:
                    break
            assert float(advantage[t, n]) == pytest.approx(expected, abs=1e-4)
    assert kinds == {(False, False), (True, False), (False, True), (True, True)}
    torch.testing.assert_close(batch.target, batch.advantage + torch.cat([value(seen) for seen in before]))


def test_errors_are_summed_within_their_episode() -> None:
    error = torch.tensor([[1.0, 2.0], [4.0, 8.0], [16.0, 32.0]])
    ended = torch.tensor([[False, True], [False, False], [True, False]])
    expected = torch.tensor([[1 + 2 + 4, 2.0], [4 + 8, 8 + 16], [16.0, 32.0]])
    assert torch.equal(generalised_advantage(error, ended, 0.5), expected)


@pytest.mark.parametrize("actions", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
def test_log_probabilities_are_those_of_the_distributions(actions: Any) -> None:
    policy = learner(actions, rollout=101)
    with torch.no_grad():
        for weight in policy.actor.parameters():
            weight.mul_(30)  # so that states matter
    env = TensorEnv(vector(actions=actions), CPU)
    batch, _, _ = policy.collect(env, policy.inputs.flat(env.reset(1)), seeded(2))
    with torch.no_grad():
        output = policy.actor(batch.inputs).double()
    if actions is DISCRETE:
        distribution = Categorical(logits=output)
        expected = distribution.log_prob(batch.action)
        assert len(batch.action.unique()) == 5
        frequency = torch.bincount(batch.action) / len(batch.action)
        torch.testing.assert_close(frequency, distribution.probs.mean(0).float(), atol=0.06, rtol=0)
    else:
        normal = Normal(output, torch.full((2,), -0.5, dtype=torch.float64).exp())
        expected = normal.log_prob(batch.action.double()).sum(-1)
        spread = (batch.action - output).std(0)
        torch.testing.assert_close(spread.float(), torch.full((2,), math.exp(-0.5)), rtol=0.1, atol=0)
        assert batch.action.abs().max() > 1, "its density is that of the action before it is cut"
    torch.testing.assert_close(batch.log_prob.double(), expected, rtol=1e-4, atol=1e-4)
    assert output.std(0).min() > 0.1


def test_a_round_is_learned_from_as_it_was_acted() -> None:
    """The normaliser moves on only between rounds: in the first minibatch all ratios are 1."""
    policy = learner(lr=1e-12, epochs=1, minibatch=997)
    practise(policy, steps=35)
    env = TensorEnv(vector(), CPU)
    first = env.reset(1)
    before = policy.inputs.mean.clone()
    batch, _, _ = policy.collect(env, policy.inputs.flat(first), seeded(2))
    expected = (policy.inputs.flat(first) - before) / (policy.inputs.variance + 1e-8).sqrt()
    assert not torch.equal(policy.inputs.mean, before)
    assert not torch.allclose(batch.inputs[:N], expected.clamp(-10, 10)), "that is of another variance"
    assert policy.update(batch, seeded(1))["kl"] == pytest.approx(0, abs=1e-5)


def test_changes_are_of_the_same_episode() -> None:
    """In practice, and where it acts: the change of x in the last step, and none where an episode begins."""
    policy = learner(changes=True, rollout=31)
    env = Recorder(vector(max_steps=4))
    first = env.reset(2)
    batch, now, _ = policy.collect(env, policy.inputs.flat(first), seeded(4))
    seen = torch.cat([batch.inputs.reshape(31, N, -1), now[None]])  # nothing was normalised yet
    frames = [first, *(step.observation for step in env.steps)]
    began = [torch.ones(N, dtype=torch.bool), *(step.terminated | step.truncated for step in env.steps)]
    assert 3 * N <= torch.stack(began).sum() < 20 * N
    carry, before, standing = policy.initial(N), frames[0]["x"], learner().inputs.flat
    for t, frame in enumerate(frames):
        change = torch.where(began[t][:, None], 0.0, frame["x"] - before)
        torch.testing.assert_close(seen[t], torch.cat([standing(frame), change], -1))
        _, carry = policy.act(carry, dict(frame), torch.zeros(N, 2), began[t])
        torch.testing.assert_close(carry, seen[t])
        before = frame["x"]


def test_its_loss_is_the_clipped_one() -> None:
    """One step of plain gradient descent, against the formula of the paper worked out by autograd."""
    policy = learner(epochs=1, minibatch=997, max_gradient=1e9, value_weight=0.7, entropy_weight=0.03)
    env = TensorEnv(vector(), CPU)
    batch, _, _ = policy.collect(env, policy.inputs.flat(env.reset(1)), seeded(2))
    off = torch.linspace(-0.6, 0.6, len(batch.target))
    batch = batch._replace(log_prob=batch.log_prob + off)
    reference = copy.deepcopy(policy)
    policy.optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
    policy.update(batch, seeded(1))

    output, value = reference.actor(batch.inputs), reference.critic(batch.inputs)[:, 0]
    normal = Normal(output, reference.log_std.exp())
    ratio = (normal.log_prob(batch.action).sum(-1) - batch.log_prob).exp()
    assert ((ratio > 1.2) | (ratio < 0.8)).sum() > 5
    gain = (batch.advantage - batch.advantage.mean()) / batch.advantage.std(correction=0)
    surrogate = torch.stack(
        [min(r * g, r.clamp(0.8, 1.2) * g) for r, g in zip(ratio, gain, strict=True)]
    ).mean()
    loss = (
        -surrogate + 0.7 * 0.5 * ((value - batch.target) ** 2).mean() - 0.03 * normal.entropy().sum(-1).mean()
    )
    gradients = torch.autograd.grad(loss, list(reference.parameters()))
    for moved, start, gradient in zip(policy.parameters(), reference.parameters(), gradients, strict=True):
        torch.testing.assert_close(moved, start - 0.1 * gradient, rtol=1e-4, atol=1e-5)
