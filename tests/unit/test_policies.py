"""MPC, the random policy and the explorers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from refusals import refused
from small_models import ACTIONS, OBSERVATIONS, make_model, observations, seed_spaces
from torch import Tensor

from wmplay.contracts import EnvSpec, Plan, Prediction
from wmplay.errors import ConfigError, ShapeError, SpaceError
from wmplay.explorers import EpsilonGreedy, GaussianNoise, RandomColdStart, Randomizer
from wmplay.objectives import DiscountedReturn
from wmplay.planners.cem import CEM
from wmplay.planners.mcts import MCTS
from wmplay.policies.mpc import MPC
from wmplay.policies.random import RandomPolicy

B, H = 2, 5
BOX = Box(np.array([-1, -2], np.float32), np.array([1, 6], np.float32))
YES, NO = torch.ones(B, dtype=torch.bool), torch.zeros(B, dtype=torch.bool)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- model-predictive control --------------------------------------------------------------------


class Tape:
    """A model whose belief is the tape of all it was told, [B, 13] and how much of it is written."""

    def initial(self, observation: dict[str, Tensor]) -> Any:
        x = observation["x"]
        return {
            "tape": torch.zeros(len(x), 13).index_copy(1, torch.tensor([0]), x),
            "end": torch.ones_like(x),
        }

    def observe(self, belief: Any, action: Tensor, observation: dict[str, Tensor]) -> Any:
        tape, end = belief["tape"].clone(), belief["end"].clone()
        for t in range(action.shape[1]):
            for told in (action[:, t].float().reshape(-1, 1), observation["x"][:, t]):
                tape.scatter_(1, end.long(), told)
                end += 1
        return {"tape": tape, "end": end}

    def predict(self, belief: Any, action: Tensor, *, generator: torch.Generator | None = None) -> Prediction:
        return Prediction(action.float().unsqueeze(-1), action.float(), None, belief, lambda x: {})


class Counter:
    """A planner that plans 10, 11, 12 ... on its first call, 20, 21 ... on its second, and takes notes."""

    horizon = H

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def plan(
        self,
        model: Any,
        belief: Any,
        score: Any,
        *,
        warm_start: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        rows = len(belief["tape"])
        self.calls.append({"tape": belief["tape"], "warm": warm_start, "rows": rows})
        plan = 10 * len(self.calls) + torch.arange(H).expand(rows, H)
        repeated = {k: v.repeat_interleave(3, 0) for k, v in belief.items()}
        self.calls[-1]["score"] = score(model.predict(repeated, plan.repeat_interleave(3, 0)))
        return Plan(plan, torch.zeros(rows))


def first_goal(prediction: Prediction, observation: dict[str, Tensor]) -> Tensor:
    assert len(observation["goal_x"]) == len(prediction.latent)
    return observation["goal_x"][:, 0]


def run(policy: MPC, firsts: list[Tensor]) -> tuple[list[list[int]], Any]:
    carry, last = policy.initial(B), torch.zeros(B, dtype=torch.long)
    actions = []
    for t, first in enumerate(firsts):
        x = torch.tensor([[100.0 + t], [200.0 + t]])
        now = {"x": x, "goal_x": torch.tensor([[7.0], [8.0]])}
        last, carry = policy.act(carry, now, last.where(~first, 0), first, generator=seeded())
        actions.append(last.tolist())
    return actions, carry


def test_mpc_follows_a_plan_and_replans_from_what_is_left() -> None:
    planner = Counter()
    actions, _ = run(MPC(Tape(), planner, first_goal, replan_every=2), [YES, NO, NO, NO, NO])
    assert actions == [[10, 10], [11, 11], [20, 20], [21, 21], [30, 30]]
    assert [call["warm"] is None for call in planner.calls] == [True, False, False]
    assert planner.calls[1]["warm"].tolist() == [[12, 13, 14, 14, 14]] * B
    assert planner.calls[0]["score"].tolist() == [7, 7, 7, 8, 8, 8]


def test_mpc_believes_what_was_executed() -> None:
    policy = MPC(Tape(), Counter(), first_goal, replan_every=3)
    _, carry = run(policy, [YES, NO, NO])
    assert carry.belief["tape"][:, :6].tolist() == [[100, 10, 101, 11, 102, 0], [200, 10, 201, 11, 202, 0]]
    executed = torch.tensor([55, 66])  # by an explorer, say
    now = {"x": torch.tensor([[103.0], [203.0]]), "goal_x": torch.zeros(B, 1)}
    _, carry = policy.act(carry, now, executed, NO)
    assert carry.belief["tape"][:, 5:7].tolist() == [[55, 103], [66, 203]]


def test_mpc_rows_begin_and_replan_on_their_own() -> None:
    planner = Counter()
    second_begins = torch.tensor([False, True])
    actions, carry = run(
        MPC(Tape(), planner, first_goal, replan_every=2), [YES, second_begins, NO, NO, second_begins]
    )
    assert [row[0] for row in actions] == [10, 11, 30, 31, 60]
    assert [row[1] for row in actions] == [10, 20, 21, 40, 50]
    assert [call["rows"] for call in planner.calls] == [2, 1, 1, 1, 1, 1]
    assert [call["warm"] is None for call in planner.calls] == [True, True, False, False, True, False]
    assert carry.belief["tape"][1, :2].tolist() == [204, 0]
    assert carry.belief["tape"][0, 0] == 100


@dataclass
class Spreads:
    """Plans the same for all rows, with a spread."""

    action: Tensor
    spread: Tensor | None
    horizon: int = 2

    def plan(self, model: Any, belief: Any, score: Any, **_: Any) -> Plan:
        rows = len(belief["tape"])
        spread = self.spread if self.spread is None or len(self.spread) > 1 else self.spread.expand(rows, -1)
        return Plan(self.action.expand(rows, *self.action.shape), torch.zeros(rows), spread)


def first_two(planner: Spreads, rows: int, explore: bool, seed: int = 0, env: Any = None) -> Tensor:
    """The actions [2, rows, ...] of a plan."""
    policy, first = MPC(Tape(), planner, first_goal, env=env), torch.ones(rows, dtype=torch.bool)
    now = {"x": torch.zeros(rows, 1), "goal_x": torch.zeros(rows, 1)}
    last = planner.action[:1].expand(rows, *planner.action.shape[1:])
    one, carry = policy.act(policy.initial(rows), now, last, first, explore=explore, generator=seeded(seed))
    tape = torch.zeros(rows, dtype=torch.long)
    two, _ = policy.act(carry, now, tape, ~first, explore=explore, generator=seeded(seed))
    return torch.stack([one, two])


def test_mpc_explores_by_the_widths_of_a_plan() -> None:
    planner = Spreads(torch.tensor([[0.5, -1.0, 2.0], [7, 8, 9]]), torch.tensor([[0.0, 0.1, 3.0]]))
    assert torch.equal(first_two(planner, 5, explore=False), planner.action.unsqueeze(1).expand(2, 5, 3))
    one, two = first_two(planner, 997, explore=True)
    assert torch.equal(two, planner.action[1].expand(997, 3)), "later steps are the plan's"
    assert (one[:, 0] == 0.5).all()
    assert one.mean(0).tolist() == pytest.approx([0.5, -1, 2], abs=0.3)
    assert one.std(0).tolist() == pytest.approx([0, 0.1, 3], rel=0.1)
    assert torch.equal(one, first_two(planner, 997, explore=True)[0])
    assert not torch.equal(one, first_two(planner, 997, explore=True, seed=1)[0])
    bounds = Box(np.float32([-1, -1.05, 1]), np.float32([1, 1, 4]))
    within, _ = first_two(planner, 997, explore=True, env=EnvSpec(Dict(), bounds))
    assert torch.equal(within, one.clamp(torch.from_numpy(bounds.low), torch.from_numpy(bounds.high)))
    planner.spread = None
    assert torch.equal(first_two(planner, 5, explore=True)[0], planner.action[0].expand(5, 3))


def test_mpc_explores_by_the_probabilities_of_a_plan() -> None:
    planner = Spreads(torch.tensor([4, 3]), torch.tensor([[0.25, 0.0, 0.0, 0.0, 0.75]]))
    one, two = first_two(planner, 997, explore=True)
    assert (two == 3).all()
    assert (torch.bincount(one, minlength=5) / 997).tolist() == pytest.approx([0.25, 0, 0, 0, 0.75], abs=0.05)


@pytest.mark.parametrize(
    ("action", "spread"),
    [(torch.zeros(2, 3), torch.ones(1, 5)), (torch.zeros(2, dtype=torch.long), torch.ones(7, 1, 5))],
)
def test_a_spread_of_another_shape_is_refused(action: Tensor, spread: Tensor) -> None:
    with refused(ShapeError, "spread"):
        first_two(Spreads(action, spread), 7, explore=True)


class Fenced:
    """An objective with the present as a constraint."""

    def __call__(self, prediction: Prediction, observation: dict[str, Tensor]) -> Tensor:
        return first_goal(prediction, observation)

    def constraints(self, prediction: Prediction, observation: dict[str, Tensor]) -> Tensor:
        assert len(observation["x"]) == len(prediction.latent)
        return torch.cat([observation["x"], observation["goal_x"]], 1)


class Keeper(Counter):
    keeps_constraints = True

    def plan(self, model: Any, belief: Any, score: Any, **given: Any) -> Plan:
        plan = super().plan(model, belief, score, **given)
        future = model.predict({k: v.repeat_interleave(3, 0) for k, v in belief.items()}, torch.zeros(6, 2))
        self.calls[-1]["limits"] = score.constraints(future).tolist()
        return plan


def test_constraints_reach_a_planner_that_keeps_them_and_no_other() -> None:
    planner = Keeper()
    run(MPC(Tape(), planner, Fenced()), [YES])
    assert planner.calls[0]["limits"] == [[100, 7]] * 3 + [[200, 8]] * 3
    assert planner.calls[0]["score"].tolist() == [7, 7, 7, 8, 8, 8]
    with refused(ConfigError, "constraints", got="Counter"):
        MPC(Tape(), Counter(), Fenced())


class Valuing(Tape):
    """A model with values."""

    gamma = 0.9

    def decode(self, latent: Any) -> Any:
        return {}

    def loss(self, segment: Any) -> Any:
        raise NotImplementedError

    def value(self, belief: Any) -> Tensor:
        return belief["end"]

    def policy(self, belief: Any) -> Any:
        raise NotImplementedError


def test_values_that_would_count_twice_are_refused() -> None:
    model = Valuing()
    search, returns = MCTS(Discrete(3), horizon=5), DiscountedReturn(None, True, model)
    with refused(ConfigError, ("MCTS", "twice"), advice="bootstrap=false"):
        MPC(model, search, returns)
    MPC(model, search, DiscountedReturn(None, False, model))


@pytest.mark.parametrize("action", ["continuous", "discrete"])
@pytest.mark.parametrize("model", ["rssm", "mlp"])
def test_mpc_with_real_pieces(model: str, action: str) -> None:
    seed_spaces()
    space, action_space = OBSERVATIONS["screen and vector"], ACTIONS[action]
    net = make_model(model, space, action_space)
    planner = CEM(action_space, horizon=H, candidates=7, iterations=2)

    def objective(prediction: Prediction, observation: dict[str, Tensor]) -> Tensor:
        return (
            -(prediction.observation["proprio"] - observation["goal_proprio"].unsqueeze(1)).abs().mean((1, 2))
        )

    policy = MPC(net, planner, objective)

    def play(seed: int) -> Tensor:
        seed_spaces()
        carry, generator, executed = policy.initial(B), seeded(seed), []
        last = torch.zeros(B, 11) if action == "continuous" else torch.zeros(B, dtype=torch.long)
        for first in (YES, NO, torch.tensor([False, True]), NO):
            last, carry = policy.act(carry, observations(space, B), last, first, generator=generator)
            assert all(action_space.contains(a) for a in last.numpy())
            assert not last.requires_grad
            executed.append(last)
        return torch.stack(executed)

    assert torch.equal(play(1), play(1))
    assert not torch.equal(play(1), play(2))


@pytest.mark.parametrize("every", [0, H + 1])
def test_mpc_replans_within_its_horizon(every: int) -> None:
    with refused(ConfigError, expected=("1", "5")):
        MPC(Tape(), Counter(), first_goal, replan_every=every)


# ---- random and exploration ----------------------------------------------------------------------


class Still:
    """Always takes the same action; carries how often it has acted, and what it was told."""

    def __init__(self, action: Tensor) -> None:
        self.action = action

    def initial(self, batch_size: int) -> Any:
        return torch.zeros(batch_size), None

    def act(
        self,
        carry: Any,
        observation: dict[str, Tensor],
        last_action: Tensor,
        first: Tensor,
        *,
        explore: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Any]:
        action = self.action.expand(len(first), *self.action.shape).clone()
        return action, (carry[0] + 1, last_action)


def play(policy: Any, rows: int, firsts: list[bool], explore: bool = True, seed: int = 0) -> Tensor:
    """[steps, rows, ...] actions; checks that the wrapped policy hears what was executed."""
    carry, generator = policy.initial(rows), seeded(seed)
    last, actions = torch.zeros(rows, 2), []
    for t, first in enumerate(firsts):
        before = last
        last, carry = policy.act(
            carry, {}, last, torch.full((rows,), first), explore=explore, generator=generator
        )
        assert torch.equal(carry.policy[1], before)
        assert (carry.policy[0] == t + 1).all()
        actions.append(last)
    return torch.stack(actions)


HALF = torch.tensor([0.5, 0.5])
EXPLORERS = {
    "random_cold_start": lambda policy, space: RandomColdStart(policy, space, steps=2),
    "gaussian_noise": lambda policy, space: GaussianNoise(policy, space, std=0.3),
    "epsilon_greedy": lambda policy, space: EpsilonGreedy(policy, space, epsilon=0.3),
    "randomizer": lambda policy, space: Randomizer(policy, space, probability=0.3),
}
each_explorer = pytest.mark.parametrize("make", EXPLORERS.values(), ids=EXPLORERS.keys())


@each_explorer
def test_explorers_act_only_while_exploring(make: Any) -> None:
    policy = make(Still(HALF), BOX)
    firsts = [True, False, False, True, False]
    assert (play(policy, 101, firsts, explore=False) == HALF).all()
    explored = play(policy, 101, firsts)
    assert (explored != HALF).any()
    low, high = torch.as_tensor(BOX.low), torch.as_tensor(BOX.high)
    assert ((explored >= low) & (explored <= high)).all()
    assert torch.equal(explored, play(policy, 101, firsts))
    assert not torch.equal(explored, play(policy, 101, firsts, seed=1))


@each_explorer
def test_explorers_refuse_unbounded_actions(make: Any) -> None:
    with refused(SpaceError, ("action", "inf"), expected="finite"):
        make(Still(HALF), Box(-np.inf, np.inf, (2,), np.float32))


@pytest.mark.parametrize("name", [name for name in EXPLORERS if name != "gaussian_noise"])
def test_explorers_of_discrete_actions(name: str) -> None:
    policy = EXPLORERS[name](Still(torch.tensor(4)), Discrete(5))
    actions = play(policy, 101, [True, False])
    assert actions.dtype == torch.int64
    assert set(actions.flatten().tolist()) == set(range(5))


def test_gaussian_noise_is_in_half_ranges_and_needs_continuous_actions() -> None:
    middle = torch.tensor([0.0, 2.0])
    noise = play(GaussianNoise(Still(middle), BOX, std=0.1), 1009, [True, False, False]) - middle
    torch.testing.assert_close(noise.std((0, 1)), torch.tensor([0.1, 0.4]), rtol=0.05, atol=0)
    torch.testing.assert_close(noise.mean((0, 1)), torch.zeros(2), rtol=0, atol=0.03)
    with refused(SpaceError, advice="explorer=epsilon_greedy"):
        GaussianNoise(Still(torch.tensor(1)), Discrete(5))


def test_cold_start_begins_every_episode_at_random() -> None:
    changed = (
        play(EXPLORERS["random_cold_start"](Still(HALF), BOX), 101, [True, False] * 2 + [False] * 2) != HALF
    )
    assert changed.any(-1).all(-1).tolist() == [True, True, True, True, False, False]


def test_epsilon_greedy_chooses_rows_and_steps() -> None:
    changed = (play(EXPLORERS["epsilon_greedy"](Still(HALF), BOX), 1009, [True, False, False]) != HALF).any(
        -1
    )
    assert 0.27 < changed.float().mean() < 0.33
    assert not torch.equal(changed[0], changed[1])


def test_randomizer_chooses_episodes() -> None:
    firsts = [True, False, False, True, False]
    changed = (play(EXPLORERS["randomizer"](Still(HALF), BOX), 1009, firsts) != HALF).any(-1)
    assert 0.25 < changed[0].float().mean() < 0.35
    assert torch.equal(changed[0], changed[1])
    assert torch.equal(changed[0], changed[2])
    assert not torch.equal(changed[0], changed[3])
    assert torch.equal(changed[3], changed[4])


@pytest.mark.parametrize("space", [BOX, Discrete(5, start=2)], ids=["box", "discrete"])
def test_random_policy_is_uniform(space: Any) -> None:
    policy = RandomPolicy(space)
    first = torch.ones(1009, dtype=torch.bool)
    actions, _ = policy.act(policy.initial(1009), {}, torch.zeros(1009), first, generator=seeded())
    again, _ = policy.act((), {}, torch.zeros(1009), first, generator=seeded())
    assert torch.equal(actions, again)
    assert all(space.contains(action) for action in actions.numpy())
    if isinstance(space, Box):
        torch.testing.assert_close(actions.mean(0), torch.tensor([0.0, 2.0]), rtol=0, atol=0.25)
        torch.testing.assert_close(actions.amax(0), torch.tensor([1.0, 6.0]), rtol=0, atol=0.1)
    else:
        assert set(actions.tolist()) == {2, 3, 4, 5, 6}


def test_out_of_range() -> None:
    for make, name, value in (
        (RandomColdStart, "steps", -1),
        (GaussianNoise, "std", -1.0),
        (EpsilonGreedy, "epsilon", 1.5),
        (Randomizer, "probability", -0.5),
    ):
        with refused(ConfigError, name, got=value):
            make(Still(HALF), BOX, **{name: value})
    with refused(SpaceError, "action", got=Dict({"a": BOX}), expected="Box"):
        RandomPolicy(Dict({"a": BOX}))
