"""Dreamer: gradients against closed forms, which numbers belong together, and what it may not touch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from clock_model import Clock, Featured, Linear
from gymnasium.spaces import Box, Dict, Discrete
from refusals import refused
from torch import Tensor, nn

from wmplay.contracts import EnvSpec, Practice, Segment
from wmplay.errors import ConfigError
from wmplay.models.rssm import RSSM
from wmplay.nets import layers
from wmplay.policies.actor_critic import real_returns
from wmplay.policies.disagreement import Disagreement
from wmplay.policies.dreamer import Dreamer
from wmplay.policies.imagination import GoalInputs, Imagined, imagine, roots_of, weights_of

ACTION = Box(np.array([-2, 1], np.float32), np.array([2, 5], np.float32))
WIDTHS = {"bounded_normal": (-1.0, 0.2), "tanh_normal": (-5.4, -4.8)}  # outputs for narrow Gaussians
SMALL: dict[str, Any] = {"hidden": 7, "layers": 1, "batch_size": 3, "length": 5, "horizon": 3, "lr": 1e-2}


def spec(size: int, action: Any = ACTION, goals: bool = False, task: Any = None) -> EnvSpec:
    space = {"x": Box(-np.inf, np.inf, (size,), np.float32)}
    if goals:
        space |= {"goal_x": Box(-4, 4, (size,), np.float32), "goal_lcd": Box(0, 1, (5, 3), np.uint8)}
    return EnvSpec(Dict(space), action, task)


def dreamer(model: Featured, env: EnvSpec, seed: int = 3, **config: Any) -> Dreamer:
    torch.manual_seed(seed)
    return Dreamer(env, model, **{**SMALL, **config})


def segments(length: int = 5, rows: int = 3, size: int = 1, seed: int = 0) -> Segment:
    """x counts the frames of each row from row * 10; row 1 ends after its third step, row 2 is padded."""
    generator = torch.Generator().manual_seed(seed)
    start = 10.0 * torch.arange(rows)[:, None, None]
    x = start + torch.arange(length + 1.0)[None, :, None].expand(rows, -1, size)
    mask, terminated = torch.ones(rows, length, dtype=torch.bool), torch.zeros(rows, length, dtype=torch.bool)
    mask[1, 3:], mask[2, 4:], terminated[1, 2] = False, False, True
    action = torch.rand(rows, length, 2, generator=generator)
    reward = torch.randn(rows, length, generator=generator)
    return Segment({"x": x}, action, reward, terminated, mask)


class Store:
    steps = 100

    def __init__(self, segment: Segment) -> None:
        self.segment = segment

    def sample(self, batch_size: int, length: int, generator: Any, *, ends: bool = False) -> Segment:
        return self.segment


def rollout(policy: Dreamer, segment: Segment, seed: int = 1) -> Imagined:
    roots = roots_of(policy.model, segment, policy.goals)
    with torch.set_grad_enabled(policy.gradient == "dynamics"):
        generator = torch.Generator().manual_seed(seed)
        return imagine(policy.model, roots, policy.agent.actor, policy.outcome, policy.horizon, generator)


# ---- what belongs together -------------------------------------------------------------------------


@pytest.mark.parametrize("discrete", [False, True])
def test_each_imagined_number_belongs_to_its_step(discrete: bool) -> None:
    policy = dreamer(Clock(), spec(1, Discrete(4) if discrete else ACTION))
    found = rollout(policy, segments())
    roots = (10 * torch.arange(3.0)[:, None] + torch.arange(6.0)).flatten()
    time = roots[:, None] + torch.arange(4)
    assert torch.equal(found.state[..., 0], time)
    acted = found.action.float() if discrete else found.action[..., 0]
    torch.testing.assert_close(found.reward, 100 * time[:, :-1] + acted)
    torch.testing.assert_close(found.discount, 1 / (time[:, :-1] + 2))


def test_only_frames_that_something_follows_are_roots() -> None:
    root = rollout(dreamer(Clock(), spec(1)), segments()).root.reshape(3, 6)
    assert root.tolist() == [[1] * 6, [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]]


def test_a_step_weighs_as_much_as_the_episode_is_likely_to_have_come_to_it() -> None:
    discount = torch.tensor([[0.5, 0.25, 0.1], [0.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    imagined = Imagined(torch.zeros(3, 4, 1), discount, discount, discount, torch.tensor([1.0, 1.0, 0.0]))
    expected = torch.tensor([[1, 0.45, 0.9 * 0.9 * 0.125], [1, 0, 0], [0, 0, 0]]) / (2 * 3)
    torch.testing.assert_close(weights_of(imagined, 0.9), expected)


def test_advantage_baseline_and_likelihood_are_of_the_same_step() -> None:
    policy = dreamer(Clock(), spec(1), critic="mse", slow_critic="none", return_scale=False, decay=0.0)
    policy.agent.critic.network = nn.Sequential(Square())  # type: ignore[assignment]
    found = rollout(policy, segments())
    values = found.state[..., 0] ** 2
    returns = found.reward + policy.agent.rules.gamma * found.discount * values[:, 1:]
    actions = policy.agent.actor(found.state[:, :-1])
    expected = actions.log_prob(found.action) * (returns - values[:, :-1])
    expected = expected + policy.agent.rules.entropy * actions.entropy()
    torch.testing.assert_close(policy.agent.aim(found, returns, values)[0], expected)
    losses, metrics = policy.agent.losses(found)
    weight = weights_of(found, policy.agent.rules.gamma)
    torch.testing.assert_close(losses["actor"], -(expected * weight).sum())
    torch.testing.assert_close(metrics["return"], returns[found.root > 0].mean())


def test_entropies_of_imagined_actions_are_the_actors(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = dreamer(Clock(), spec(1), gradient="dynamics", entropy=0.1)
    found = rollout(policy, segments())
    expected = policy.agent.actor(found.state[:, :-1].detach()).entropy()
    _, entropy = policy.agent.aim(found, found.reward, found.state[..., 0])
    torch.testing.assert_close(entropy, expected)
    gradients = [
        torch.autograd.grad(x.sum(), [*policy.agent.actor.parameters()]) for x in (entropy, expected)
    ]
    torch.testing.assert_close(*gradients)
    output = policy.agent.critic(found.state)
    monkeypatch.setattr(layers, "ROWS", 7)  # not all rows at once
    torch.testing.assert_close(policy.agent.critic(found.state), output)


class Square(nn.Module):
    def forward(self, state: Tensor) -> Tensor:
        return state[..., :1] ** 2


def test_real_returns_stop_at_ends_and_bootstrap_where_the_segment_stops() -> None:
    segment = segments()
    rules = dreamer(Clock(), spec(1), gamma=0.9, decay=0.8).agent.rules
    values = torch.randn(3, 6)
    found = real_returns(segment, values, rules)
    reward = segment.reward
    assert found[1, 2].item() == pytest.approx(reward[1, 2].item())  # terminated
    assert found[2, 3].item() == pytest.approx((reward[2, 3] + 0.9 * values[2, 4]).item())  # cut, not ended
    last = reward[0, 4] + 0.9 * values[0, 5]
    assert found[0, 4].item() == pytest.approx(last.item())
    before = reward[0, 3] + 0.9 * (0.2 * values[0, 4] + 0.8 * last)
    assert found[0, 3].item() == pytest.approx(before.item())


# ---- gradients, in a model with known returns ------------------------------------------------------


def credit(model: Linear, u: Tensor, steps: int, gamma: float, decay: float) -> list[Tensor]:
    """The derivative of the lambda return of each step with its own action, [A]."""
    reach = [torch.linalg.matrix_power(model.A, k) @ model.B for k in range(steps)]
    found = []
    for t in range(steps):
        left = steps - t
        parts = [(gamma * decay) ** k * (model.w + gamma * (1 - decay) * u) @ reach[k] for k in range(left)]
        found.append(torch.stack(parts).sum(0) + (gamma * decay) ** left * u @ reach[left - 1])
    return found


def linear_dreamer(gradient: str, distribution: str) -> tuple[Dreamer, Tensor, nn.Linear]:
    """A Dreamer whose critic is u x and whose actor has the same distribution everywhere."""
    plain = {"critic": "mse", "slow_critic": "none", "return_scale": False, "entropy": 0.0, "gamma": 0.9}
    policy = dreamer(
        Linear(), spec(2), gradient=gradient, decay=0.8, replay_value=0.0, distribution=distribution, **plain
    )
    critic, u = nn.Linear(2, 1, bias=False), torch.tensor([0.7, -0.3])
    actor = nn.Linear(2, 4)
    with torch.no_grad():
        critic.weight.copy_(u)
        actor.weight.zero_()
        actor.bias.copy_(torch.tensor([0.3, -0.4, *(WIDTHS[distribution])]))
    policy.agent.critic.network, policy.agent.actor.network = nn.Sequential(critic), nn.Sequential(actor)
    return policy, u, actor


def from_one_state(rows: int) -> Segment:
    x = torch.tensor([0.5, -1.0]).expand(rows, 2, 2)
    step = torch.zeros(rows, 1)
    return Segment({"x": x}, torch.zeros(rows, 1, 2), step, step > 0, step == 0)


@pytest.mark.parametrize("distribution", ["bounded_normal", "tanh_normal"])
def test_the_dynamics_gradient_is_that_of_the_closed_form_return(distribution: str) -> None:
    policy, u, actor = linear_dreamer("dynamics", distribution)
    segment = from_one_state(5)
    found = rollout(policy, segment)
    losses, _ = policy.agent.losses(found)
    (got,) = torch.autograd.grad(losses["actor"], actor.bias)

    model, gamma, decay, steps = policy.model, 0.9, 0.8, policy.horizon
    generator = torch.Generator().manual_seed(1)
    roots = roots_of(model, segment, policy.goals)
    x, state = roots.belief, [roots.belief]
    for _ in range(steps):  # the same draws, from the actor's bias alone
        acted = policy.agent.actor(torch.zeros(len(x), 2)).sample(generator)
        x = x @ model.A.T + acted @ model.B.T
        state.append(x)
    total = torch.zeros(())
    for t in range(steps):
        value = (gamma * decay) ** (steps - t) * (state[steps] @ u)
        for k in range(steps - t):
            after = state[t + k + 1]
            value = value + (gamma * decay) ** k * (after @ model.w + gamma * (1 - decay) * after @ u)
        total = total + gamma**t * value.mean() / steps
    (expected,) = torch.autograd.grad(-total, actor.bias)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("distribution", ["bounded_normal", "tanh_normal"])
def test_the_reinforce_gradient_has_the_mean_of_the_closed_form(distribution: str) -> None:
    policy, u, actor = linear_dreamer("reinforce", distribution)
    found = rollout(policy, from_one_state(50_000))  # two frames each
    losses, _ = policy.agent.losses(found)
    (got,) = torch.autograd.grad(losses["actor"], actor.bias)
    gains = credit(policy.model, u, policy.horizon, 0.9, 0.8)
    acted = policy.agent.actor(torch.zeros(100_000, 2)).sample(torch.Generator().manual_seed(2)).mean(0)
    worth = sum(0.9**t * (gain @ acted) for t, gain in enumerate(gains)) / policy.horizon
    (expected,) = torch.autograd.grad(-worth, actor.bias)
    assert (got - expected).norm() < 0.03 * expected.norm() + 0.01


def test_discrete_actions_have_a_dynamics_gradient_too() -> None:
    policy = dreamer(OneHot(), spec(2, Discrete(2)), gradient="dynamics")
    losses, _ = policy.agent.losses(rollout(policy, segments(size=2)))
    gradients = torch.autograd.grad(losses["actor"], [*policy.agent.actor.parameters()])
    assert all(bool(gradient.any()) for gradient in gradients)


class OneHot(Linear):
    """Takes relaxed discrete actions, as ``ActionEncoder`` does."""


# ---- goals, rewards of the task -------------------------------------------------------------------


class Near:
    """The task: to be near the goal."""

    def reward_and_terminated(self, before: Any, after: Any) -> tuple[Any, Any]:
        distance = (after["x"] - after["goal_x"]).abs().sum(-1)
        return 10 * before["x"][..., 0] - distance, distance < 0.1


def with_goals(segment: Segment) -> Segment:
    shape = segment.observation["x"].shape
    goal = torch.full(shape, 2.0)
    screen = torch.zeros(*shape[:2], 5, 3, dtype=torch.uint8)
    observation = {**segment.observation, "goal_x": goal, "goal_lcd": screen}
    return Segment(observation, segment.action, segment.reward, segment.terminated, segment.mask)


def test_actors_see_goals_in_units_of_their_bounds() -> None:
    policy = dreamer(Clock(), spec(1, goals=True))
    found = rollout(policy, with_goals(segments()))
    assert found.state.shape[-1] == 2
    assert (found.state[..., 1] == 0.5).all()


def test_without_goals_there_are_no_inputs_whatever_comes_first() -> None:
    space = Dict({"lcd": Box(0, 1, (5, 3), np.uint8), "x": Box(-1, 1, (2,), np.float32)})
    frames = {"lcd": torch.zeros(7, 11, 5, 3), "x": torch.zeros(7, 11, 2)}
    assert GoalInputs(space)(frames).shape == (7, 11, 0)


def test_rewards_of_the_task_are_those_of_the_imagined_frames_and_the_goal() -> None:
    policy = dreamer(Clock(), spec(1, goals=True, task=Near()), reward="task")
    found = rollout(policy, with_goals(segments()))
    time = found.state[..., 0]
    distance = (time[:, 1:] - 2).abs()
    torch.testing.assert_close(found.reward, 10 * time[:, :-1] - distance)
    assert torch.equal(found.discount == 0, distance < 0.1)


# ---- what it may not touch ------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", ["reinforce", "dynamics"])
def test_no_gradient_reaches_the_model_and_all_else_is_trained(gradient: Any) -> None:
    policy = dreamer(Linear(), spec(2), gradient=gradient, slow_every=2)
    before = {name: weight.clone() for name, weight in policy.agent.named_parameters()}
    store: Any = Store(segments(size=2))
    practice = Practice(None, 3 * 6 * 3 * 4, 5, torch.device("cpu"), store, policy.model)  # type: ignore[arg-type]
    policy.improve(practice)
    weight = policy.model.weight
    assert (weight.item(), weight.requires_grad, weight.grad) == (1, True, None)
    for name, now in policy.agent.named_parameters():
        assert not torch.equal(now, before[name]), name


def test_a_slow_critic_moves_when_it_is_due() -> None:
    policy = dreamer(Clock(), spec(1), slow_critic="target", slow_rate=1.0, slow_every=3)
    agent, segment = policy.agent, segments()
    assert agent.slow is not None
    first = [weight.clone() for weight in agent.slow.parameters()]
    for update in range(1, 4):
        agent.learn(rollout(policy, segment), segment)
        now = [*agent.slow.parameters()]
        assert all(torch.equal(x, y) for x, y in zip(now, first, strict=True)) == (update < 3)
    assert all(torch.equal(x, y) for x, y in zip(now, agent.critic.parameters(), strict=True))


def test_practice_without_experience_or_features_or_reward_is_refused() -> None:
    policy = dreamer(Clock(), spec(1))
    with refused(ConfigError, advice="collect.episodes"):
        policy.improve(Practice(None, 1, 0, torch.device("cpu")))  # type: ignore[arg-type]
    with refused(ConfigError, "features"):
        Dreamer(spec(1), nn.Linear(1, 1))
    with refused(ConfigError, advice="env.task"):
        dreamer(Clock(), spec(1), reward="task")


# ---- exploration ----------------------------------------------------------------------------------


def test_an_ensemble_takes_each_action_for_the_one_that_led_to_the_next_features() -> None:
    torch.manual_seed(0)
    ensemble = Disagreement(2, ACTION, members=3, hidden=31, layers=1, lr=1e-2)
    generator = torch.Generator().manual_seed(1)
    for _ in range(150):
        action = torch.rand(61, 5, 2, generator=generator) * 2 + 1
        features = torch.randn(61, 6, 2, generator=generator)  # the second tells the action before the frame
        features[:, 1:, 0] = action[..., 0]
        mask = torch.ones(61, 5, dtype=torch.bool)
        mask[:, 3:] = False
        features[:, 4:] = 100.0  # where the mask leaves out steps
        loss = ensemble.learn(features, action, mask, generator)
    assert loss < 0.6  # the other feature alone makes 0.5; an action that is not known, 0.17 more
    known = features[:, :3].repeat(2, 1, 1)
    seen, unseen = ensemble(known, torch.cat([action[:, :3], action[:, :3] + 20])).detach().chunk(2)
    assert unseen.mean() > 20 * seen.mean()


def test_the_explorer_is_paid_by_disagreement_and_acts_where_the_policy_explores() -> None:
    policy = dreamer(Linear(), spec(2), ensemble=3)
    assert policy.explorer is not None
    roots = roots_of(policy.model, segments(size=2), policy.goals)
    found = policy.imagined(roots, policy.explorer, torch.Generator().manual_seed(0))
    assert policy.disagreement is not None
    paid = policy.disagreement(found.state[:, :-1], found.action)
    torch.testing.assert_close(found.reward / found.reward.mean(), paid / paid.mean())
    with torch.no_grad():
        policy.explorer.actor.network[-1].bias.copy_(torch.tensor([5.0, 5.0, -9.0, -9.0]))
        policy.agent.actor.network[-1].bias.copy_(torch.tensor([-5.0, -5.0, -9.0, -9.0]))
    now, still, first = {"x": torch.zeros(7, 2)}, torch.zeros(7, 2), torch.ones(7, dtype=torch.bool)
    for explore in (False, True):
        action, _ = policy.act(None, now, still, first, explore=explore)
        assert bool((action > 0.9 * torch.tensor([0.5, 3.5])).all()) == explore


def test_the_ensemble_takes_as_many_steps_as_it_is_given() -> None:
    policy = dreamer(Linear(), spec(2), ensemble=3, ensemble_updates=5)
    policy.update(segments(size=2), torch.Generator().manual_seed(0))
    assert policy.disagreement is not None
    taken = {int(state["step"]) for state in policy.disagreement.optimizer.state.values()}
    assert taken == {5}


def test_an_rssm_with_rewards_in_bins_learns_their_mean_from_zero() -> None:
    torch.manual_seed(0)
    space = Dict(x=Box(-1, 1, (1,), np.float32))
    model = RSSM(space, ACTION, deter=7, stoch=2, hidden=7, image_hidden=7, two_hot=True)
    segment = segments()
    given = Segment(
        {"x": torch.zeros(3, 6, 1)},
        segment.action,
        torch.full((3, 5), 40.0),
        segment.terminated,
        segment.mask,
    )
    start = model.initial({"x": torch.zeros(3, 1)})
    assert torch.equal(model.predict(start, given.action).reward, torch.zeros(3, 5))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(40):
        loss, _ = model.loss(given)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(model.predict(start, given.action).reward, given.reward, atol=4.0, rtol=0)
