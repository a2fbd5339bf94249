"""PPO: its advantages, densities and normaliser by slow references, and that it finds known optima."""

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
from push import CONTINUOUS, DISCRETE, Push, Reach, Truth, vector
from torch import Tensor, nn
from torch.distributions import Categorical, Normal

import wmplay
from wmplay.contracts import Learner, Practice
from wmplay.envs.learned import LearnedVectorEnv
from wmplay.envs.starts import real_starts
from wmplay.errors import ActionError, ConfigError, SpaceError
from wmplay.nets.inputs import LARGEST, VectorInputs
from wmplay.policies.ppo import PPO, generalised_advantage
from wmplay.stepping import TensorEnv, Transition

CPU = torch.device("cpu")
N = 5
SPACE = Push().observation_space
SMALL: dict[str, Any] = {
    "hidden": 13,
    "log_std": -0.5,
    "rollout": 7,
    "epochs": 2,
    "minibatch": 17,
    "precision": "float32",
}


def learner(actions: Any = CONTINUOUS, seed: int = 3, space: Any = SPACE, **config: Any) -> PPO:
    torch.manual_seed(seed)
    return PPO(space, actions, **{**SMALL, **config})


def practise(policy: PPO, env: Any = None, steps: int = 70, seed: int = 5, **more: Any) -> dict[str, float]:
    return policy.improve(Practice(vector() if env is None else env, steps, seed, CPU, **more))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def observation(rows: int = 101) -> dict[str, Tensor]:
    return {key: torch.randn(rows, 2, generator=seeded(1)) for key in ("x", "goal_x")}


def act(policy: PPO, seed: int | None = None, explore: bool = False, seen: Any = None) -> Tensor:
    seen = observation() if seen is None else seen
    generator = None if seed is None else seeded(seed)
    nothing, first = torch.zeros(len(seen["x"]), 2), torch.ones(len(seen["x"]), dtype=torch.bool)
    with torch.no_grad():
        return policy.act((), seen, nothing, first, explore=explore, generator=generator)[0]


def same(left: Any, right: Any) -> None:
    for (name, a), (_, b) in zip(left.state_dict().items(), right.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


# ---- advantages ----------------------------------------------------------------------------------


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
    batch, now, _ = policy.collect(env, first, seeded(4))
    advantage = batch.advantage.reshape(rounds, N)

    def value(seen: Any) -> Tensor:
        return 3 * policy.inputs.flat(seen)[:, 0] + 5  # nothing is normalised yet

    assert all(torch.equal(now[key], env.steps[-1].observation[key]) for key in now)
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


# ---- densities and actions -----------------------------------------------------------------------


@pytest.mark.parametrize("actions", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
def test_log_probabilities_are_those_of_the_distributions(actions: Any) -> None:
    policy = learner(actions, rollout=101)
    with torch.no_grad():
        for weight in policy.actor.parameters():
            weight.mul_(30)  # so that states matter
    env = TensorEnv(vector(actions=actions), CPU)
    batch, _, _ = policy.collect(env, env.reset(1), seeded(2))
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
    batch, _, _ = policy.collect(env, first, seeded(2))
    expected = (policy.inputs.flat(first) - before) / (policy.inputs.variance + 1e-8).sqrt()
    assert not torch.equal(policy.inputs.mean, before)
    assert not torch.allclose(batch.inputs[:N], expected.clamp(-10, 10)), "that is of another variance"
    assert policy.update(batch, seeded(1))["kl"] == pytest.approx(0, abs=1e-5)


def test_actions_keep_to_the_spaces_bounds() -> None:
    policy = learner(log_std=1.0)
    practise(policy)
    low, high = torch.from_numpy(CONTINUOUS.low), torch.from_numpy(CONTINUOUS.high)
    drawn = act(policy, 1, explore=True)
    assert all(CONTINUOUS.contains(action) for action in drawn.numpy())
    assert ((drawn == low).any(0) & (drawn == high).any(0)).all(), "some are cut, on both sides"
    policy.actor[-1].bias.data = torch.tensor([0.0, 0.5])
    policy.actor[-1].weight.data.zero_()
    torch.testing.assert_close(act(policy)[0], torch.tensor([0.0, 2.0]))  # half-ranges 2 and 2 around 0 and 1
    policy.actor[-1].bias.data = torch.tensor([-3.0, 3.0])
    torch.testing.assert_close(act(policy)[0], torch.tensor([-2.0, 3.0]))


@pytest.mark.parametrize("actions", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
def test_without_exploration_it_does_what_is_most_likely(actions: Any) -> None:
    policy = learner(actions)
    assert isinstance(policy, Learner)
    assert torch.equal(act(policy), act(policy, 1))
    assert torch.equal(act(policy, 1, explore=True), act(policy, 1, explore=True))
    assert not torch.equal(act(policy, 1, explore=True), act(policy, 2, explore=True))
    with torch.no_grad():
        output = policy.actor(policy.inputs(policy.inputs.flat(observation())))
    if actions is DISCRETE:
        assert torch.equal(act(policy), output.argmax(-1))
        assert act(policy, 1, explore=True).dtype == torch.int64
    else:
        torch.testing.assert_close(act(policy), policy.center + policy.scale * output.clamp(-1, 1))


# ---- what it sees --------------------------------------------------------------------------------


def test_the_normaliser_is_numpys_over_all_chunks() -> None:
    space = Dict(
        {"x": Box(-1, 1, (3,), np.float32), "b": Box(-1, 1, (2,), np.float64), "goal_x": Box(-1, 1, (3,))}
    )
    inputs = VectorInputs(space)
    assert inputs.size == 3 + 2 + 3 + 3
    rng = np.random.default_rng(1)
    shown = []
    for rows, offset in ((1, 0), (7, 1), (131, 5), (2, -3), (997, 2)):
        seen = {
            "x": rng.normal(offset, 2, (rows, 3)),
            "b": rng.normal(100 * offset, 30, (rows, 2)),
            "goal_x": rng.normal(0, 1e-3, (rows, 3)),
        }
        parts = [seen[key] for key in inputs.keys]
        shown.append(np.concatenate([*parts, seen["goal_x"] - seen["x"]], -1))
        flat = inputs.flat({key: torch.from_numpy(value) for key, value in seen.items()})
        np.testing.assert_allclose(flat.numpy(), shown[-1], rtol=1e-5, atol=1e-6)
        inputs.update(flat if rows != 2 else flat.reshape(2, 1, -1))
        everything = np.concatenate(shown)
        np.testing.assert_allclose(inputs.mean.numpy(), everything.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(inputs.variance.numpy(), everything.var(0), rtol=1e-4, atol=1e-6)
        assert inputs.count == len(everything)
    normal = (everything - everything.mean(0)) / everything.std(0)
    given = torch.from_numpy(everything).float()
    np.testing.assert_allclose(inputs(given).numpy(), normal.clip(-LARGEST, LARGEST), rtol=1e-2, atol=1e-2)
    assert inputs(given * 1000).abs().max() == LARGEST


def test_the_normaliser_knows_many_small_chunks() -> None:
    inputs = VectorInputs(Box(-1, 1, (1,)))
    values = torch.randn(20_011, 1, generator=seeded(1)) * 0.01 + 7
    for chunk in values.split(11):
        inputs.update(chunk)
    assert float(inputs.mean) == pytest.approx(float(values.mean()), abs=1e-5)
    assert float(inputs.variance.sqrt()) == pytest.approx(float(values.std()), rel=1e-3)


def test_images_are_not_looked_at() -> None:
    starts = real_starts(vector(), 31, 1, 3)
    env = LearnedVectorEnv(Truth(blind=True), Push(), starts, N, precision="float32")
    policy = learner()
    before = copy.deepcopy(policy)
    practise(policy, env)
    assert not torch.equal(policy.actor[0].weight, before.actor[0].weight)
    seen = observation()
    assert torch.equal(act(policy, seen=seen), act(policy, seen={**seen, "lcd": torch.ones(101, 5, 7)}))


def test_spaces_and_values_that_cannot_be_are_one_line() -> None:
    for space in (Dict({"lcd": SPACE["lcd"]}), Box(0, 255, (5, 7, 3), np.uint8), Discrete(3)):
        with pytest.raises(SpaceError, match="expected a vector among them: this policy sees no images"):
            learner(space=space)
    for actions in (Box(-np.inf, np.inf, (2,)), Box(-1, 1, (2, 3)), gym.spaces.MultiDiscrete([2, 3])):
        with pytest.raises(SpaceError, match=r"action space is .*, expected"):
            learner(actions)
    with pytest.raises(SpaceError, match="expected a Discrete from 0"):
        learner(Discrete(3, start=1))
    for name, value in (
        ("hidden", 0),
        ("rollout", 0),
        ("lr", 0.0),
        ("clip", -1.0),
        ("gamma", 1.5),
        ("gae_lambda", -0.1),
    ):
        with pytest.raises(ConfigError, match=rf"ppo: {name} is {value}, expected"):
            learner(**{name: value})


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            Dict({"lcd": SPACE["lcd"], "goal_x": SPACE["x"]}),
            r"the vector 'x' of size 2, which is missing in the obs",
        ),
        (
            Dict({"x": Box(-1, 1, (3,)), "goal_x": SPACE["x"]}),
            r"'x' of size 2, which is of size 3 in the observ",
        ),
    ],
)
def test_another_envs_observations_are_named(space: Any, message: str) -> None:
    class Other(Push):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = space

        def seen(self) -> Any:
            return self.observation_space.sample()

        def step(self, action: Any) -> Any:
            return self.seen(), 0.0, False, True, {}

    with pytest.raises(SpaceError, match=message):
        wmplay.simulate(Other(), learner(), 1)
    with pytest.raises(SpaceError, match=message):
        practise(learner(), SyncVectorEnv([Other] * 2, autoreset_mode=AutoresetMode.SAME_STEP))


def test_another_envs_actions_are_named() -> None:
    policy = learner(Box(-1, 1, (3,), np.float32))
    with pytest.raises(ActionError, match=r"PPO returned an action of shape \[1, 3\], expected \[1, 2\]"):
        wmplay.simulate(Push(), policy, 1)
    with pytest.raises(ActionError, match=r"PPO returned an action of shape \[1, 2\], expected \[1\]"):
        wmplay.simulate(Push(DISCRETE), learner(), 1)
    starts = real_starts(vector(), 31, 1, 3)
    with pytest.raises(ActionError, match=r"action has shape \[5, 3\], expected \[5, 2\]"):
        practise(policy, LearnedVectorEnv(Truth(), Push(), starts, N))


# ---- learning ------------------------------------------------------------------------------------


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
            starts = real_starts(env, 31, 3, 3)
            env = LearnedVectorEnv(Truth(noise=0.1), Push(actions), starts, N)
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


def test_its_loss_is_the_clipped_one() -> None:
    """One step of plain gradient descent, against the formula of the paper worked out by autograd."""
    policy = learner(epochs=1, minibatch=997, max_gradient=1e9, value_weight=0.7, entropy_weight=0.03)
    env = TensorEnv(vector(), CPU)
    batch, _, _ = policy.collect(env, env.reset(1), seeded(2))
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
