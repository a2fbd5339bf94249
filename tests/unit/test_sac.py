"""Soft actor-critic: its densities, its targets, what it remembers, and that it finds a known optimum."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from refusals import refused
from torch import Tensor
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from wmplay.contracts import Practice, Segment
from wmplay.errors import ConfigError, SpaceError
from wmplay.policies.sac import SAC

SPACE = Dict({"x": Box(-np.inf, np.inf, (1,), np.float32), "lcd": Box(0, 1, (5, 7), np.uint8)})
ACTION = Box(np.array([-1, 2], np.float32), np.array([1, 6], np.float32))
SMALL: dict[str, Any] = {
    "hidden": 31,
    "batch_size": 61,
    "random_steps": 40,
    "replay": 997,
    "rollout": 5,
    "precision": "float32",
}


class Walk(gym.Env[Any, Any]):
    """x counts the steps; after three of them the world ends, or the clock. Each step is worth 1."""

    observation_space, action_space = SPACE, ACTION

    def __init__(self, ends: str = "truncated") -> None:
        self.ends = ends

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x = 0
        return self.frame(), {}

    def step(self, action: Any) -> Any:
        self.x += 1
        over = self.x == 3
        return self.frame(), 1.0, over and self.ends == "terminated", over and self.ends == "truncated", {}

    def frame(self) -> dict[str, Any]:
        return {"x": np.array([self.x], np.float32), "lcd": np.zeros((5, 7), np.uint8)}


class Aim(Walk):
    """One step: the nearer the second action, in half-ranges, is to x, the better."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        gym.Env.reset(self, seed=seed)
        self.x = self.np_random.uniform(-0.8, 0.8)
        return self.frame(), {}

    def step(self, action: Any) -> Any:
        return self.frame(), -4 * ((action[1] - 4) / 2 - self.x) ** 2, True, False, {}


def vector(make: Any, slots: int = 7) -> SyncVectorEnv:
    return SyncVectorEnv([make] * slots, autoreset_mode=AutoresetMode.SAME_STEP)


def learner(seed: int = 3, **config: Any) -> SAC:
    torch.manual_seed(seed)
    return SAC(SPACE, ACTION, **{**SMALL, **config})


def practise(policy: SAC, make: Any = Walk, steps: int = 140, seed: int = 5, **more: Any) -> dict[str, float]:
    return policy.improve(Practice(vector(make), steps, seed, torch.device("cpu"), **more))


def rows(policy: SAC) -> Any:
    """What the replay holds."""
    return policy.replay.batch(policy.replay.rows[: policy.replay.added])


# ---- densities -----------------------------------------------------------------------------------


def test_log_probabilities_are_those_of_a_squashed_gaussian() -> None:
    policy = learner()
    with torch.no_grad():
        for weight in policy.actor.weights:
            weight.mul_(1.5)
        x = 2 * torch.randn(101, 1)
        mean, log_std = policy.gaussian(x)
        action, log_prob = policy.sample(x, torch.Generator().manual_seed(1))
    assert 0.9 < action.abs().max() <= 1, "some are squashed"
    normal = Independent(Normal(mean.double(), log_std.double().exp()), 1)
    squashed = TransformedDistribution(normal, TanhTransform())
    inside = (action.abs() < 0.999).all(-1)  # where float32 still knows what was squashed
    expected = squashed.log_prob(action.double())
    torch.testing.assert_close(log_prob[inside, 0].double(), expected[inside], rtol=1e-3, atol=1e-3)
    assert inside.sum() > 50


def test_the_log_probability_of_far_actions_is_finite() -> None:
    policy = learner()
    with torch.no_grad():
        policy.actor.biases[-1][..., :2] = torch.tensor([30.0, -30.0])
        policy.actor.biases[-1][..., 2:] = 0.0
    x = torch.zeros(1, 1, requires_grad=True)
    action, log_prob = policy.sample(x, torch.Generator().manual_seed(1))
    assert torch.equal(action.detach(), torch.tensor([[1.0, -1.0]]))
    assert 100 < log_prob.item() < 130  # log(1 - tanh(30)^2) is 2 (log 2 - 30) each
    (gradient,) = torch.autograd.grad(log_prob.sum(), policy.actor.biases[-1])
    assert gradient.isfinite().all()


def test_actions_are_in_the_spaces_range() -> None:
    policy = learner()
    observation = {"x": torch.randn(1009, 1), "lcd": torch.zeros(1009, 5, 7, dtype=torch.uint8)}
    nothing, first = torch.zeros(1009, 2), torch.ones(1009, dtype=torch.bool)

    def act(seed: int, explore: bool) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            return policy.act((), observation, nothing, first, explore=explore, generator=generator)[0]

    assert torch.equal(act(1, True), act(1, True))
    assert not torch.equal(act(1, True), act(2, True))
    assert torch.equal(act(1, False), act(2, False))
    drawn = act(1, True).numpy()
    assert all(ACTION.contains(action) for action in drawn)
    assert (drawn.std(0) > np.array([0.3, 0.6])).all(), "a new policy tries everything"
    with torch.no_grad():
        mean = policy.gaussian(policy.inputs(observation["x"]))[0].tanh()
    torch.testing.assert_close(act(1, False), policy.center + policy.scale * mean)


# ---- what it learns from -------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["truncated", "terminated"])
def test_transitions_are_kept_as_they_happened(ends: str) -> None:
    policy = learner(random_steps=1000)
    practise(policy, lambda: Walk(ends))
    batch = rows(policy)
    assert policy.replay.added == 140
    assert batch.flat[:21, 0].tolist() == [0] * 7 + [1] * 7 + [2] * 7
    torch.testing.assert_close(batch.after, batch.flat + 1)  # the last frame, not the next episode's first
    assert torch.equal(batch.terminated.bool(), (batch.after == 3) & (ends == "terminated"))
    assert (batch.action.abs() <= 1).all()
    assert (batch.action.amax(0) > 0.9).all()
    assert (batch.action.amin(0) < -0.9).all()
    assert policy.inputs.mean.item() == pytest.approx(batch.flat.mean().item(), abs=1e-5)


class Blind(Walk):
    """All steps look alike."""

    def frame(self) -> dict[str, Any]:
        return {"x": np.zeros(1, np.float32), "lcd": np.zeros((5, 7), np.uint8)}


@pytest.mark.parametrize(("ends", "worth"), [("truncated", 2.0), ("terminated", 1.5)])
def test_values_go_on_at_the_end_of_time_and_stop_at_the_end_of_the_world(ends: str, worth: float) -> None:
    """v = 1 + v / 2 where time is merely up, v = 1 + 2/3 v / 2 where each third step is the last."""
    policy = learner(gamma=0.5, temperature=1e-6, lr=1e-2, tau=0.1, updates_per_step=0.5)
    practise(policy, lambda: Blind(ends), steps=490)
    with torch.no_grad():
        value = policy.critic(torch.cat([torch.zeros(101, 1), 2 * torch.rand(101, 2) - 1], -1))
    assert value.mean().item() == pytest.approx(worth, abs=0.12)


def test_the_ring_forgets_the_oldest() -> None:
    policy = learner(replay=50, random_steps=1000)
    practise(policy)
    assert policy.replay.rows.shape == (50, 6)
    kept = policy.replay.rows.clone()
    practise(policy, steps=35)
    replaced = (policy.replay.rows != kept).any(1)
    assert set(replaced.nonzero().squeeze(1).tolist()) <= {(140 + i) % 50 for i in range(35)}
    assert replaced.sum() > 30
    policy.replay.add(torch.arange(60.0).unsqueeze(1).expand(60, 6))  # more than it holds
    assert sorted(policy.replay.rows[:, 0].tolist()) == list(range(10, 60))


def test_it_makes_as_many_updates_as_it_owes(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, made, told = learner(updates_per_step=0.3, random_steps=40), [], []
    update = policy.update
    monkeypatch.setattr(policy, "update", lambda *args: made.append(len(args[0].reward)) or update(*args))
    practise(policy, steps=140, advance=lambda steps, metrics: told.append((steps, metrics)))
    counted = 140 - 35  # 42 random ones: six steps of seven slots, the last of which is followed by updates
    assert len(made) == math.floor(0.3 * counted + 1e-9)
    assert set(made) == {61}
    assert [steps for steps, _ in told] == [35, 70, 105, 140]
    assert told[0][1] == {"reward": 1.0}
    assert told[-1][1].keys() == {"reward", "entropy", "critic_loss", "value", "temperature"}
    assert policy.owed == pytest.approx(0.3 * counted % 1)


# ---- real experience -----------------------------------------------------------------------------


class Store:
    """Transitions from x = 100 on."""

    steps = 13

    def __init__(self, *keys: str) -> None:
        self.keys = keys

    def sample(self, batch_size: int, length: int, generator: Any) -> Segment:
        x = (
            100
            + torch.from_numpy(generator.integers(13, size=(batch_size, 1, 1))).float()
            + torch.arange(2).reshape(1, 2, 1)
        )
        action = torch.tensor([0.5, 5.0]).expand(batch_size, length, 2)
        terminated = torch.ones(batch_size, length, dtype=torch.bool)
        return Segment(
            dict.fromkeys(self.keys, x), action, torch.full((batch_size, length), 7.0), terminated, terminated
        )


def test_part_of_a_batch_is_real(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, seen = learner(real_fraction=0.25), []
    update = policy.update
    monkeypatch.setattr(policy, "update", lambda *args: seen.append(args[0]) or update(*args))
    practise(policy, store=Store("x", "lcd"))
    for batch in seen:
        real = batch.reward[:, 0] == 7
        assert real.sum() == 15
        assert len(real) == 61
        assert (batch.flat[real] >= 100).all()
        torch.testing.assert_close(batch.after[real], batch.flat[real] + 1)
        torch.testing.assert_close(batch.action[real], torch.tensor([0.5, 0.5]).expand(15, 2))
        assert batch.terminated[real].all()
    assert len({tuple(batch.flat[batch.flat >= 100].tolist()) for batch in seen}) == len(seen)
    assert policy.inputs.mean.item() < 3, "the normaliser is of the env in which it practises"


def test_real_experience_that_is_not_there_is_one_line() -> None:
    with refused(ConfigError, ("real_fraction", "collect.episodes", "env.data")):
        practise(learner(real_fraction=0.5))
    with refused(ConfigError, ("real_fraction", "'x'", "lcd", "collect.env.task")):
        practise(learner(real_fraction=0.5), store=Store("lcd"))


# ---- the whole -----------------------------------------------------------------------------------


def test_it_finds_a_known_optimum() -> None:
    policy = learner(lr=3e-3, updates_per_step=0.25, tau=0.05)
    metrics = practise(policy, Aim, steps=2100)
    x = torch.linspace(-0.8, 0.8, 11).unsqueeze(1)
    with torch.no_grad():
        action, _ = policy.act((), {"x": x}, torch.zeros(11, 2), torch.ones(11, dtype=torch.bool))
    assert ((action[:, 1] - 4) / 2 - x[:, 0]).abs().mean() < 0.1
    assert metrics["temperature"] < 0.5, "so much randomness is not worth it"


def test_the_same_seed_gives_the_same_numbers() -> None:
    def weights(seed: int) -> Tensor:
        policy = learner()
        practise(policy, steps=105, seed=seed)
        return torch.cat([value.double().flatten() for value in policy.state_dict().values()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_a_checkpoint_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    policy = learner(updates_per_step=0.3, replay=89)
    practise(policy, steps=105)
    torch.save({"weights": policy.state_dict(), "learner": policy.learner_state()}, tmp_path / "saved")
    saved = torch.load(tmp_path / "saved", weights_only=True)
    other = learner(seed=4, updates_per_step=0.3, replay=89)
    other.load_state_dict(saved["weights"])
    other.load_learner_state(saved["learner"])
    for each in (policy, other):
        practise(each, steps=70, seed=6)
    for (name, value), again in zip(policy.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(value, again), name
    assert policy.inputs.count == 175
    with refused(ConfigError, ("replay", "89"), got=97):
        learner(replay=97).load_learner_state(saved["learner"])


@pytest.mark.parametrize(
    ("space", "action", "fields"),
    [
        (SPACE, Discrete(3), {"got": Discrete(3), "expected": "Box"}),
        (SPACE, Box(-np.inf, np.inf, (2,), np.float32), {"about": "inf", "expected": "finite"}),
        (Dict({"lcd": SPACE["lcd"]}), ACTION, {"got": ["lcd"]}),
    ],
)
def test_other_spaces_are_refused(space: Any, action: Any, fields: dict[str, object]) -> None:
    with refused(SpaceError, **fields):
        SAC(space, action)


@pytest.mark.parametrize(
    "config",
    [
        {"hidden": 0},
        {"lr": 0.0},
        {"gamma": 1.5},
        {"real_fraction": -0.1},
        {"random_steps": -1},
        {"replay": 0},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(config: dict[str, Any]) -> None:
    with refused(ConfigError, "sac"):
        learner(**config)
