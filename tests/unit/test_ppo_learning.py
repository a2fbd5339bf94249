"""PPO learns: known optima, the same numbers once more, going on from a checkpoint."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from learned_push import learned
from ppo_learner import act, learner, observation, practise, same
from push import CONTINUOUS, DISCRETE, Push, Truth, vector

from wmplay.policies.ppo import PPO


class Aim(Push):
    """One step: the nearer the action, in half-ranges, is to half of x, the better."""

    def step(self, action: Any) -> Any:
        error = (action - np.array([0, 1])) / 2 - self.x / 2
        return self.seen(), -float((error**2).sum()), True, False, {}


def test_it_finds_the_optimum_of_a_quadratic_bandit() -> None:
    policy = learner(rollout=8, minibatch=256, lr=3e-3, hidden=31, epochs=6)
    env = SyncVectorEnv([Aim] * 64, autoreset_mode=AutoresetMode.SAME_STEP)
    seen = observation()
    seen = {key: value.clamp(-1, 1) for key, value in seen.items()}

    def error() -> float:
        return float(((act(policy, seen=seen) - torch.tensor([0, 1])) / 2 - seen["x"] / 2).abs().mean())

    assert error() > 0.2
    metrics = practise(policy, env, steps=64 * 8 * 40)
    assert error() < 0.05
    assert metrics["terminated"] == 1
    assert metrics["std"] < math.exp(-0.5), "noise costs reward"
    assert metrics["reward"] > -2 * metrics["std"] ** 2 - 0.02


class Chain(gym.Env[Any, Any]):
    """Five places in a row. Every step to the left is worth 0.05, the step off the right end 10."""

    observation_space = Dict({"place": Box(0, 1, (5,), np.float32)})
    action_space = Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place, self.time = int(self.np_random.integers(5)), 0
        return self.seen(), {}

    def seen(self) -> dict[str, Any]:
        return {"place": np.eye(5, dtype=np.float32)[min(self.place, 4)]}

    def step(self, action: Any) -> Any:
        self.place, self.time = max(self.place + 2 * int(action) - 1, 0), self.time + 1
        reward = 0.0 if action else 0.05
        return self.seen(), 10.0 if self.place == 5 else reward, self.place == 5, self.time == 11, {}


def test_it_finds_the_way_along_a_chain() -> None:
    space = Chain.observation_space
    policy = learner(Discrete(2), space=space, gamma=0.8, rollout=16, minibatch=256, lr=3e-3, hidden=31)
    practise(policy, SyncVectorEnv([Chain] * 32, autoreset_mode=AutoresetMode.SAME_STEP), steps=32 * 16 * 50)
    with torch.no_grad():
        x = policy.inputs(policy.inputs.flat({"place": torch.eye(5)}))
        output, value = policy.actor(x), policy.critic(x).squeeze(-1)
    assert (output.softmax(-1)[:, 1] > 0.9).all()
    torch.testing.assert_close(value, 10 * 0.8 ** torch.arange(4.0, -1, -1), rtol=0.1, atol=0.3)


def test_entropy_is_worth_what_its_weight_says() -> None:
    plain, random = (learner(entropy_weight=weight) for weight in (0.0, 1.0))
    for policy in (plain, random):
        practise(policy, steps=350)
    assert random.log_std.mean() > plain.log_std.mean() + 0.01


@pytest.mark.parametrize("kind", ["real", "learned"])
@pytest.mark.parametrize("actions", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
def test_the_same_seed_gives_the_same_numbers(kind: str, actions: Any) -> None:
    def run(seed: int) -> tuple[PPO, dict[str, float]]:
        policy, env = learner(actions), vector(actions=actions)
        if kind == "learned":
            env = learned(Truth(noise=0.1), 3, actions, precision="auto")
        state = torch.get_rng_state()
        metrics = practise(policy, env, seed=seed)
        assert torch.equal(torch.get_rng_state(), state), "all draws come from the practice's seed"
        return policy, metrics

    (first, metrics), (again, same_metrics), (other, _) = run(1), run(1), run(2)
    assert metrics == same_metrics
    same(first, again)
    assert not torch.equal(first.actor[0].weight, other.actor[0].weight)
    assert all(math.isfinite(value) for value in metrics.values())


def test_a_checkpoint_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    whole = learner()
    practise(whole, seed=1)
    torch.save({"weights": whole.state_dict(), "learner": whole.learner_state()}, tmp_path / "a.pt")
    practise(whole, seed=2)
    broken = learner(seed=11)
    saved = torch.load(tmp_path / "a.pt", weights_only=True)
    assert {"inputs.mean", "inputs.variance", "inputs.count"} <= saved["weights"].keys()
    broken.load_state_dict(saved["weights"])
    broken.load_learner_state(saved["learner"])
    practise(broken, seed=2)
    same(whole, broken)
    assert torch.equal(act(whole), act(broken))
    without = learner(seed=11)
    without.load_state_dict(saved["weights"])
    practise(without, seed=2)
    assert not torch.equal(whole.actor[0].weight, without.actor[0].weight), "the optimiser's state matters"


def test_a_lower_rate_counts_from_where_a_checkpoint_goes_on() -> None:
    whole, slower, quicker = learner(), learner(lr=1e-4), learner(lr=1.0)
    rate = whole.optimizer.param_groups[0]["lr"]
    for other, expected in ((slower, 1e-4), (quicker, rate)):
        other.load_learner_state(whole.learner_state())
        assert other.optimizer.param_groups[0]["lr"] == expected


def test_an_annealed_rate_falls_to_zero_in_each_practice() -> None:
    rates: list[float] = []
    policy = learner(anneal=True, target_kl=0)

    def advance(steps: int, metrics: Any) -> None:
        rates.append(metrics["lr"])

    for _ in range(2):
        practise(policy, steps=35 * 5, advance=advance)
    assert rates == pytest.approx([policy.lr * (1 - part / 5) for part in range(5)] * 2)


def test_a_copy_may_practise_and_leave_the_policy_as_it_is() -> None:
    policy = learner()
    before = {key: value.clone() for key, value in policy.state_dict().items()}
    practise(copy.deepcopy(policy))
    assert all(torch.equal(value, before[key]) for key, value in policy.state_dict().items())
    assert not policy.learner_state()["state"]


def test_it_takes_the_steps_it_is_given_and_tells_after_each_round() -> None:
    told: list[int] = []

    def advance(steps: int, metrics: Any) -> None:
        assert {"reward", "terminated", "kl", "value_loss", "std"} <= metrics.keys()
        told.append(steps)

    practise(learner(), steps=71, advance=advance)
    assert told == [35, 70, 105]

    class Stop(Exception):
        pass

    def stop(steps: int, metrics: Any) -> None:
        raise Stop

    with pytest.raises(Stop):
        practise(learner(), advance=stop)


def test_a_last_minibatch_of_one_step_breaks_nothing() -> None:
    policy = learner(rollout=7, minibatch=17)  # 7 x 5 = 17 + 17 + 1
    practise(policy, steps=35)
    assert all(value.isfinite().all() for value in policy.state_dict().values())
    lonely = learner(rollout=1, minibatch=1)
    practise(lonely, vector(1), steps=3)
    assert all(value.isfinite().all() for value in lonely.state_dict().values())
