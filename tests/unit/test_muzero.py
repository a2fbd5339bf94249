"""MuZero: the alignment of its targets, ends of episodes, the slow copy, rows, frames and chance codes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from torch import Tensor

from wmplay.contracts import Segment, Valued, capabilities
from wmplay.errors import ConfigError, SpaceError
from wmplay.models.muzero import MuZero
from wmplay.nets.trees import take_rows

SPACE, ACTIONS = Dict({"place": Box(-1, 1, (2,))}), Discrete(3)
B, T = 2, 7


def model(**settings: Any) -> MuZero:
    torch.manual_seed(0)
    small = {"latent": 13, "hidden": 11, "simulations": 5, "unroll": 3}
    return MuZero(SPACE, ACTIONS, **{**small, **settings})  # type: ignore[arg-type]


def segment(lengths: tuple[int, ...] = (T, T), ended: tuple[bool, ...] = (False, False)) -> Segment:
    """A segment whose reward of step t is 10^t, with padding after some steps."""
    generator = torch.Generator().manual_seed(1)
    steps = torch.arange(T)
    length = torch.tensor(lengths).unsqueeze(1)
    last = (steps == length - 1) & torch.tensor(ended).unsqueeze(1)
    reward = torch.where(steps < length, 10.0**steps, 7.0)  # of padding, which must not count
    place = torch.rand(B, T + 1, 2, generator=generator) * 2 - 1
    action = torch.randint(3, (B, T), generator=generator)
    return Segment(
        {"place": place}, action, reward, last | (steps >= length), steps < length, torch.ones(B) > 0
    )


def test_values_sum_up_the_next_rewards_and_no_others() -> None:
    targets = model(simulations=0, steps=2, gamma=0.5).targets(segment())
    expected = [10.0**t + 0.5 * 10.0 ** (t + 1) for t in range(T - 1)] + [10.0 ** (T - 1), 0]
    assert targets.value[:, : T + 1].tolist() == [expected] * B  # a new model's own values are 0


def test_a_cut_episode_goes_on_and_an_ended_one_is_worth_nothing_more() -> None:
    one = model(simulations=0, steps=2, gamma=0.5)
    with torch.no_grad():
        one.slow.prediction[-1].bias[-1] = 100.0  # the largest value for every state
    most = float(one.slow.scalars.mean(one.slow.judge(torch.zeros(1, 13))[1]))
    cut, ended = one.targets(segment((4, 4), (False, True))).value
    assert cut[3].item() == pytest.approx(1000 + 0.5 * most)
    assert cut[4].item() == pytest.approx(most)
    assert ended[2:].tolist() == [600, 1000, *[0] * (T + one.unroll - 3)]


def test_what_is_known_beyond_the_end() -> None:
    targets = model(unroll=3).targets(segment((4, 4), (False, True)))
    frames = torch.arange(T + 1 + 3)
    assert torch.equal(targets.known, torch.stack([frames <= 4, frames >= 0]))
    assert torch.equal(targets.searched, torch.stack([frames <= 4, frames < 4]))
    assert torch.equal(targets.seen, (frames <= 4).expand(B, -1))


def test_a_part_of_the_rows_is_searched() -> None:
    searched = model(searched=0.5).targets(segment()).searched
    assert searched.any(1).tolist() == [True, False]


def test_the_policy_is_that_of_a_search_in_the_slow_copy() -> None:
    one = model()
    before = one.targets(segment()).policy
    with torch.no_grad():
        one.networks.prediction[-1].bias[:3] += torch.tensor([5.0, 0, 0])
    assert torch.equal(one.targets(segment()).policy, before)
    one.after_update(0.5)
    assert not torch.equal(one.targets(segment()).policy, before)


def test_the_slow_copy_has_no_gradient_and_moves_after_updates_alone() -> None:
    one = model(slow_rate=0.25)
    loss, _ = one.loss(segment())
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is None for weight in one.slow.parameters())
    slow, fast = one.slow.encoder[0].weight, one.networks.encoder[0].weight
    with torch.no_grad():
        fast += 1
    expected = slow + 0.25 * (fast - slow)
    one.after_update(1.0)
    torch.testing.assert_close(slow, expected)


def test_rewards_are_learned_at_their_own_step() -> None:
    """The reward is the number of the action: a shift by one would tell another action's."""
    one = model(unroll=2, simulations=0, consistency=0)
    optimizer = torch.optim.Adam(one.parameters(), lr=2e-2)
    data = segment()
    data = Segment(data.observation, data.action, data.action.float(), data.terminated, data.mask, data.first)
    for _ in range(60):
        optimizer.zero_grad()
        one.loss(data)[0].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    first = {key: value[:, 0] for key, value in data.observation.items()}
    predicted = one.predict(one.initial(first), data.action[:, :2]).reward
    assert predicted is not None
    torch.testing.assert_close(predicted, data.reward[:, :2], atol=0.2, rtol=0)


def test_consistency_alone_draws_unrolled_states_to_real_ones() -> None:
    only = {"value_weight": 0.0, "reward_weight": 0.0, "simulations": 0}
    one, data = model(consistency=2.0, **only), segment()
    optimizer = torch.optim.Adam(one.parameters(), lr=1e-2)
    likeness = []
    for _ in range(40):
        optimizer.zero_grad()
        loss, metrics = one.loss(data)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        likeness.append(float(metrics["loss/consistency"]))
    assert likeness[-1] < likeness[0] - 0.3  # minus a cosine
    without = model(consistency=0.0, **only)
    loss, metrics = without.loss(data)
    assert "loss/consistency" not in metrics
    assert float(loss.detach()) == 0


def test_later_steps_of_an_unroll_can_weigh_less() -> None:
    data = segment((4, T), (True, False))
    losses = [
        model(unroll=unroll, rho=rho, consistency=0).loss(data)[0].item()
        for unroll, rho in ((3, 1.0), (3, 1e-9), (1, 1.0), (1, 0.5))
    ]
    assert losses[1:] == pytest.approx([losses[2]] * 3)
    assert losses[0] != pytest.approx(losses[2])


@pytest.mark.parametrize("frames", [1, 3])
def test_beliefs_of_frames_one_by_one_at_once_and_tracked(frames: int) -> None:
    one, data = model(frames=frames), segment()
    belief = one.initial({key: value[:, 0] for key, value in data.observation.items()})
    later = {key: value[:, 1:] for key, value in data.observation.items()}
    at_once = one.observe(belief, data.action, later)
    for t in range(T):
        belief = one.observe(
            belief, data.action[:, t : t + 1], {k: v[:, t : t + 1] for k, v in later.items()}
        )
    tracked = take_rows(one.track(data), torch.arange(1, B + 1) * (T + 1) - 1)
    for name, value in at_once.items():
        torch.testing.assert_close(value, belief[name])
        torch.testing.assert_close(value, tracked[name])


@pytest.mark.parametrize("codes", [1, 4])
def test_rows_are_apart(codes: int) -> None:
    one, data = model(codes=codes), segment()
    order = torch.tensor([1, 0])
    there = Segment(
        {key: value[order] for key, value in data.observation.items()},
        *(x[order] for x in (data.action, data.reward, data.terminated, data.mask)),
        data.first,
    )
    here, moved = one.targets(data), one.targets(there)
    for name, value in vars(here).items():
        torch.testing.assert_close(getattr(moved, name), value[order])
    belief = one.track(data)
    torch.testing.assert_close(one.value(take_rows(belief, order)), one.value(belief)[order])


@pytest.mark.parametrize("codes", [1, 4])
def test_padding_counts_for_nothing(codes: int) -> None:
    data = segment((T, 4))
    frames = data.observation["place"].clone()
    frames[1, 5:] = 0.5
    padded = replace(
        data, observation={"place": frames}, action=data.action.where(data.mask, torch.tensor(2))
    )
    losses = []
    for each in (data, padded):
        torch.manual_seed(1)
        losses.append(model(codes=codes).loss(each)[0])
    torch.testing.assert_close(*losses)


def test_what_it_offers() -> None:
    one = model()
    assert isinstance(one, Valued)
    assert list(capabilities(one).predicted or ()) == []
    belief = one.track(segment())
    future = one.predict(belief, torch.zeros(B * (T + 1), 3, dtype=torch.long))
    assert torch.equal(one.features(future.belief), future.latent[:, -1])
    assert one.policy(belief).logits.shape == (B * (T + 1), 3)  # type: ignore[union-attr]
    assert future.latent.detach().amin() == 0
    assert future.latent.detach().amax() == 1


def test_codes_tell_what_chance_did() -> None:
    """A ticket wins or not: with codes there are two futures, without codes only their mean."""
    generator = torch.Generator().manual_seed(2)
    won = torch.randint(2, (16, 1), generator=generator).float()
    place = torch.stack([torch.zeros(16, 2), torch.cat([won, 1 - won], 1)], 1)
    yes = torch.ones(16, 1, dtype=torch.bool)
    data = Segment({"place": place}, torch.zeros(16, 1, dtype=torch.long), won, yes, yes, yes[:, 0])
    one = model(codes=2, simulations=0, unroll=1, consistency=0)
    optimizer = torch.optim.Adam(one.parameters(), lr=2e-2)
    for _ in range(100):
        optimizer.zero_grad()
        one.loss(data)[0].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    belief = one.initial({"place": place[:1, 0]})
    chances = one.chances(belief)
    assert chances is not None
    assert chances[0, 0].tolist() == pytest.approx([0.5, 0.5], abs=0.2)
    rewards = sorted(_reward(one, belief, code) for code in (0, 1))
    assert rewards == pytest.approx([0, 1], abs=0.2)


def _reward(one: MuZero, belief: dict[str, Tensor], code: int) -> float:
    reward = one.outcome(belief, torch.tensor([0]), torch.tensor([code])).reward
    assert reward is not None
    return float(reward.detach())


def test_it_sees_the_goal_and_how_far_it_is() -> None:
    torch.manual_seed(0)
    one = MuZero(Dict({**SPACE.spaces, "goal_place": Box(-1, 1, (2,))}), ACTIONS, latent=13, hidden=11)
    assert capabilities(one).goals
    place, goal = torch.zeros(3, 2), torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.5, 0.0]])
    place[2] = goal[2]
    inputs = one.networks.inputs
    seen = inputs.history(inputs({"place": place, "goal_place": goal}).unsqueeze(1))
    torch.testing.assert_close(seen, torch.cat([place, goal, goal - place], 1))
    states = one.initial({"place": place, "goal_place": goal})["latent"]
    assert not torch.allclose(states[0], states[1])


@pytest.mark.parametrize("space", [Box(-1, 1, (2,)), Discrete(3, start=1)], ids=str)
def test_spaces_it_does_not_take(space: Any) -> None:
    with pytest.raises(SpaceError) as error:
        MuZero(SPACE, space)
    assert error.value.expected is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"gamma": 1.5},
        {"unroll": 0},
        {"rho": 0.0},
        {"rho": 1.1},
        {"searched": 2.0},
        {"bins": 2},
        {"bins": 6},
        {"codes": 0},
    ],
)
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        model(**wrong)
