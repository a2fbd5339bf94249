"""Tree search: golden numbers of Gumbel MuZero, bandits, and two rooms whose values are known."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarks import plain_search
from gymnasium.spaces import Box, Discrete
from torch import Tensor, nn

from wmplay.contracts import Prediction
from wmplay.envs.exact.two_rooms import MOVES, TwoRooms
from wmplay.errors import ConfigError, SpaceError
from wmplay.nets.search import Reached, exploration_rate, halving, search
from wmplay.planners.mcts import MCTS

RULES: Any = ("gumbel", "puct")
REWARDS = torch.tensor([20.0, 3, -1, 10])


def bandit(rewards: Tensor, logits: Tensor, value: float) -> tuple[Any, Reached]:
    """One choice per row: ``expand`` and the root, for rewards and logits [B, C]."""
    nothing = torch.zeros(len(rewards))

    def expand(belief: Tensor, action: Tensor) -> Reached:
        reward = rewards.gather(1, action.unsqueeze(1)).squeeze(1)
        return Reached(belief, reward, nothing, torch.zeros_like(rewards), nothing)

    return expand, Reached(torch.zeros(len(rewards), 1), nothing, nothing, logits, nothing + value)


def test_golden_numbers_of_gumbel_muzero() -> None:
    expand, root = bandit(REWARDS.repeat(2, 1), torch.tensor([0.0, -1, 2, 3]).repeat(2, 1), -5.0)
    settings: Any = {"simulations": 17, "depth": 3, "value_scale": 0.05, "visit_offset": 60.0}
    found = search(expand, root, **settings)
    assert found.visits.tolist() == [[6, 2, 2, 7]] * 2
    assert found.action.tolist() == [3, 3]
    torch.testing.assert_close(
        found.policy[0], torch.tensor([0.1866, 0.0046, 0.0484, 0.7604]), atol=5e-5, rtol=0
    )
    allowed = torch.tensor([[False, True, True, False]] * 2)
    found = search(expand, root, allowed=allowed, **settings)
    assert found.visits[0].tolist() == [0, 9, 8, 0]
    assert found.action.tolist() == [1, 1]
    assert found.policy[0].tolist() == pytest.approx([0, 0.6019, 0.3981, 0], abs=5e-5)


@pytest.mark.parametrize("rule", RULES)
def test_a_model_in_half_precision_is_searched_as_one_in_full(rule: Any) -> None:
    expand, root = bandit(REWARDS.repeat(2, 1), torch.tensor([0.0, -1, 2, 3]).repeat(2, 1), -5.0)

    def half(reached: Reached) -> Reached:
        return Reached(reached.belief, *(x.bfloat16() for x in _numbers(reached)))

    found = [
        search(expand, root, 17, rule=rule),
        search(lambda belief, action: half(expand(belief, action)), half(root), 17, rule=rule),
    ]
    assert found[0].visits.tolist() == found[1].visits.tolist()


def _numbers(reached: Reached) -> tuple[Tensor, ...]:
    return reached.reward, reached.discount, reached.logits, reached.value


def test_halving_visits_the_better_half_more_often() -> None:
    assert halving(4, 17) == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    assert halving(1, 3) == [0, 1, 2]
    assert len(halving(7, 31)) == 31


@pytest.mark.parametrize("simulations", [2, 5, 16, 64])
def test_the_choice_is_no_worse_in_the_mean_than_the_priors(simulations: int) -> None:
    generator = torch.Generator().manual_seed(0)
    rewards = torch.rand(1024, 7, generator=generator)
    logits = torch.randn(1024, 7, generator=generator)
    expand, root = bandit(rewards, logits, 0.0)
    uniform = torch.rand(1024, 7, generator=generator)
    noise = -(-uniform.log()).log()
    chosen = search(expand, root, simulations, gumbel=noise).action
    prior = (logits + noise).argmax(1)
    reached, before = (float(rewards.gather(1, x.unsqueeze(1)).mean()) for x in (chosen, prior))
    assert reached > before


class Rooms:
    """Two rooms as a model: the belief is the number of the walker's cell and of the goal's."""

    def __init__(self, gamma: float) -> None:
        env = TwoRooms()
        number = {tuple(cell): i for i, cell in enumerate(env.cells.tolist())}
        cells = enumerate(env.cells)
        ways = [[number.get(tuple((cell + move).tolist()), i) for move in MOVES] for i, cell in cells]
        self.next = torch.tensor(ways)  # [73, 4]
        self.gamma = gamma
        self.value = torch.from_numpy(gamma ** (env.distances() - 1)).float()  # of cell and goal
        self.value.fill_diagonal_(0)
        self.distance = torch.from_numpy(env.distances())

    def expand(self, belief: Tensor, action: Tensor) -> Reached:
        cell, goal = belief.unbind(1)
        after = self.next[cell, action]
        reached = (after == goal) & (cell != goal)
        return self.at(torch.stack([after, goal], 1), reached.float(), (~reached).float() * self.gamma)

    def at(self, belief: Tensor, reward: Tensor, discount: Tensor) -> Reached:
        return Reached(
            belief, reward, discount, torch.zeros(len(belief), 4), self.value[belief[:, 0], belief[:, 1]]
        )


@pytest.mark.parametrize("rule", RULES)
def test_with_the_true_model_the_first_step_is_on_a_shortest_way(rule: Any) -> None:
    rooms = Rooms(0.95)
    pairs = torch.tensor([(i, j) for i in range(73) for j in range(73) if i != j])
    nothing = torch.zeros(len(pairs))
    found = search(rooms.expand, rooms.at(pairs, nothing, nothing), 32, rule=rule, depth=8)
    after = rooms.next[pairs[:, 0], found.action]
    nearer = rooms.distance[after, pairs[:, 1]] < rooms.distance[pairs[:, 0], pairs[:, 1]]
    assert float(nearer.float().mean()) >= 0.99


@pytest.mark.parametrize("rule", RULES)
def test_each_tree_is_searched_by_itself(rule: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    rewards, logits = torch.rand(5, 3, generator=generator), torch.randn(5, 3, generator=generator)
    expand, root = bandit(rewards, logits, 0.3)
    together = search(expand, root, 11, rule=rule)
    for row in range(5):
        alone_expand, alone = bandit(rewards[row : row + 1], logits[row : row + 1], 0.3)
        found = search(alone_expand, alone, 11, rule=rule)
        assert torch.equal(found.visits[0], together.visits[row])
        torch.testing.assert_close(found.policy[0], together.policy[row])


def test_values_are_discounted_sums_along_the_path() -> None:
    def expand(belief: Tensor, action: Tensor) -> Reached:  # a single action, which pays 1 in each step
        one = torch.ones(len(action))
        return Reached(belief, one, 0.5 * one, torch.zeros(len(action), 1), 0 * one)

    nothing = torch.zeros(2)
    root = Reached(torch.zeros(2, 1), nothing, nothing, torch.zeros(2, 1), nothing)
    returns = [1, 1.5, 1.75]  # of each simulation; PUCT counts what the root was worth before, 0, as well
    for rule, mean in (("gumbel", sum(returns) / 3), ("puct", sum(returns) / 4)):
        found = search(expand, root, 3, rule=rule)  # type: ignore[arg-type]
        torch.testing.assert_close(found.value, torch.full((2,), mean))


def test_the_weight_of_the_prior_grows_with_the_visits() -> None:
    rates = exploration_rate(torch.tensor([1.0, 19_652 * 2]))
    assert rates.tolist() == pytest.approx([1.2501, 1.25 + math.log(3)], abs=1e-4)


@pytest.mark.parametrize("rule", RULES)
def test_of_one_simulation_the_action_is_the_priors(rule: Any) -> None:
    expand, root = bandit(torch.zeros(2, 3), torch.tensor([[0.0, 2, 1], [3.0, 2, 1]]), 0.0)
    assert search(expand, root, 1, rule=rule).visits.tolist() == [[0, 1, 0], [1, 0, 0]]


class Lines(nn.Module):
    """A random model: a state of 7 numbers, 3 actions with K outcomes each."""

    def __init__(self, outcomes: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.outcomes = outcomes

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        self.moves, self.said, self.chances = (
            random(3 * outcomes, 7, 7),
            random(7, 5),
            random(7, 3 * outcomes),
        )

    def at(self, belief: Tensor, reward: Tensor) -> Reached:
        said = belief @ self.said
        chance = (belief @ self.chances).unflatten(1, (3, -1)).softmax(-1) if self.outcomes > 1 else None
        return Reached(belief, reward, torch.full_like(reward, 0.9), said[:, :3], said[:, 3], chance)

    def expand(self, belief: Tensor, action: Tensor, outcome: Tensor | int = 0) -> Reached:
        after = (belief.unsqueeze(1) @ self.moves[action * self.outcomes + outcome]).squeeze(1).tanh()
        return self.at(after, (after @ self.said)[:, 4])

    def said_of(self, reached: Reached) -> Any:
        chance = None if reached.chance is None else reached.chance[0].tolist()
        numbers = (float(reached.reward), float(reached.discount), reached.logits[0].tolist())
        return plain_search.Said(reached.belief, *numbers, float(reached.value), chance)

    def step(self, belief: Any, action: int, outcome: int) -> Any:
        return self.said_of(self.expand(belief, torch.tensor([action]), torch.tensor([outcome])))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("outcomes", [1, 2])
def test_searches_are_those_of_the_plain_reference(rule: Any, outcomes: int) -> None:
    model = Lines(outcomes, 3)
    belief = torch.randn(5, 7, generator=torch.Generator().manual_seed(4)).tanh()
    root = model.at(belief, torch.zeros(5))
    found = search(model.expand, root, 23, rule=rule)
    for row in range(5):
        alone = model.said_of(model.at(belief[row : row + 1], torch.zeros(1)))
        visits, policy, value = plain_search.plain_search(model.step, alone, 23, rule)
        assert found.visits[row].tolist() == visits
        assert found.policy[row].tolist() == pytest.approx(policy, abs=1e-4)
        assert float(found.value[row]) == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("rule", RULES)
def test_with_one_outcome_chance_changes_nothing(rule: Any) -> None:
    model = Lines(1, 5)
    root = model.at(torch.randn(5, 7, generator=torch.Generator().manual_seed(6)), torch.zeros(5))

    def certain(reached: Reached) -> Reached:
        return replace(reached, chance=torch.ones(5, 3, 1))

    usual = search(model.expand, root, 19, rule=rule)
    sure = search(lambda b, a, *_: certain(model.expand(b, a)), certain(root), 19, rule=rule)
    assert torch.equal(usual.visits, sure.visits)
    torch.testing.assert_close(usual.policy, sure.policy)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("fair", [True, False])
def test_a_sure_prize_is_better_than_a_fair_coin(rule: Any, fair: bool) -> None:
    """Action 0 pays .6, action 1 pays 1 or nothing; a model that knows one outcome alone expects a win."""
    nothing = torch.zeros(3)
    chance = torch.tensor([[1.0, 0], [0.5, 0.5] if fair else [1, 0]]).expand(3, 2, 2)

    def expand(belief: Tensor, action: Tensor, outcome: Tensor) -> Reached:
        reward = torch.where(action == 0, 0.6, 1.0 - outcome)
        return Reached(belief, reward, nothing, torch.zeros(3, 2), nothing, chance)

    root = Reached(torch.zeros(3, 1), nothing, nothing, torch.zeros(3, 2), nothing, chance)
    found = search(expand, root, 32, rule=rule)
    assert found.action.tolist() == [0 if fair else 1] * 3


# ---- the planner -----------------------------------------------------------------------------------


class Counter(nn.Module):
    """The belief counts up by the action [B]; the reward is minus the distance of the count to 7."""

    def predict(self, belief: Any, action: Tensor, **_: Any) -> Prediction:
        count = belief["count"].unsqueeze(1) + action.cumsum(1)
        return Prediction(
            count.unsqueeze(-1), -(count - 7.0).abs(), None, {"count": count[:, -1]}, lambda x: {}
        )


def total(prediction: Prediction) -> Tensor:
    assert prediction.reward is not None
    return prediction.reward.sum(1)


@pytest.mark.parametrize("rule", RULES)
def test_a_plan_is_valid_and_never_worse_than_the_warm_start(rule: Any) -> None:
    belief = {"count": torch.tensor([0, 5, 9])}
    best = torch.tensor([[3, 3, 1, 0, 0], [2, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    planner = MCTS(Discrete(4), horizon=5, simulations=7, tails=3, rule=rule)
    generator = torch.Generator().manual_seed(0)
    cold = planner.plan(Counter(), belief, total, generator=generator)
    warm = planner.plan(Counter(), belief, total, warm_start=best, generator=generator)
    for plan in (cold, warm):
        assert (plan.action.shape, plan.action.dtype) == ((3, 5), torch.int64)
        torch.testing.assert_close(plan.score, total(Counter().predict(belief, plan.action)))
        assert plan.spread is not None
        torch.testing.assert_close(plan.spread.sum(1), torch.ones(3))
    torch.testing.assert_close(warm.score, total(Counter().predict(belief, best)))
    assert belief["count"].tolist() == [0, 5, 9]


def test_more_simulations_are_never_worse() -> None:
    belief = {"count": torch.arange(9)}
    means = [
        float(
            MCTS(Discrete(4), horizon=4, simulations=n, tails=1).plan(Counter(), belief, total).score.mean()
        )
        for n in (2, 8, 32, 128)
    ]
    assert means == sorted(means)
    assert means[-1] > means[0]


def test_random_futures_show_rewards_beyond_the_depth_of_the_tree() -> None:
    """Action 1 pays from its fourth time on: 24 simulations reach no reward, random futures do."""

    class Late(Counter):
        def predict(
            self, belief: Any, action: Tensor, *, generator: torch.Generator | None = None
        ) -> Prediction:
            count = belief["count"].unsqueeze(1) + (action == 1).cumsum(1)
            reward = (count >= 4).float()
            return Prediction(count, reward, None, {"count": count[:, -1]}, dict)

    belief = {"count": torch.zeros(32, dtype=torch.int64)}

    def chosen(rollouts: int) -> float:
        planner = MCTS(Discrete(2), horizon=8, simulations=24, tails=1, rollouts=rollouts)
        plan = planner.plan(Late(), belief, total, generator=torch.Generator().manual_seed(0))
        return float((plan.action[:, 0] == 1).float().mean())

    assert chosen(rollouts=8) > 0.9
    assert chosen(rollouts=0) in (0.0, 1.0)  # nothing decides: the same action everywhere


class Knowing(Counter):
    """Says what a state is worth, and proposes action 2."""

    gamma = 0.5

    def initial(self, observation: Any) -> Any: ...

    def observe(self, belief: Any, action: Tensor, observation: Any) -> Any: ...

    def decode(self, latent: Any) -> Any: ...

    def loss(self, segment: Any) -> Any: ...

    def value(self, belief: Any) -> Tensor:
        return 100.0 * (belief["count"] == 3)

    def policy(self, belief: Any) -> Any:
        return SimpleNamespace(logits=torch.tensor([0.0, 0, 3, 0]).repeat(len(belief["count"]), 1))


def test_values_and_proposals_of_the_model_are_used() -> None:
    planner = MCTS(Discrete(4), horizon=1, simulations=12)
    plan = planner.plan(Knowing(), {"count": torch.tensor([0, 2])}, total)
    assert plan.action[:, 0].tolist() == [3, 1]  # where the value is, against the proposal
    assert plan.spread is not None
    assert plan.spread.argmax(1).tolist() == [3, 1]
    model = Knowing()
    model.value = lambda belief: 0.0 * belief["count"]  # type: ignore[method-assign]
    model.predict = lambda belief, action, **_: replace(  # type: ignore[method-assign]
        Counter.predict(model, belief, action), reward=torch.zeros(action.shape)
    )
    assert planner.plan(model, {"count": torch.tensor([0, 2])}, total).action[:, 0].tolist() == [2, 2]


def test_a_discount_that_is_not_that_of_the_values_is_refused() -> None:
    model = Knowing()
    MCTS(Discrete(4), gamma=model.gamma, model=model)
    MCTS(Discrete(4), gamma=0.5, model=Counter())
    with pytest.raises(ConfigError) as error:
        MCTS(Discrete(4), gamma=model.gamma / 2, model=model)
    assert error.value.got == model.gamma / 2


@pytest.mark.parametrize("space", [Box(-1, 1, (2,)), Discrete(3, start=1)], ids=str)
def test_spaces_it_does_not_take(space: Any) -> None:
    with pytest.raises(SpaceError) as error:
        MCTS(space)
    assert error.value.expected is not None


@pytest.mark.parametrize("wrong", [{"simulations": 0}, {"rule": "ucb"}, {"gamma": 1.5}, {"tails": 0}])
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        MCTS(Discrete(3), **wrong)
