"""TD-MPC2: golden numbers, which part is fitted by what, and what it reads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from refusals import refused
from torch import Tensor

import wmplay
from wmplay.check import check_model
from wmplay.contracts import EnvSpec, Segment, Valued, env_spec
from wmplay.errors import ConfigError, SpaceError
from wmplay.loop.fitter import Fitter
from wmplay.models.tdmpc2 import TDMPC2
from wmplay.nets.agents.frames import FrameInputs

PUSH = Box(-2, 2, (1,), np.float32)
PLACE = Box(-1, 1, (3,), np.float32)
SCREEN = Box(0, 1, (5, 7), np.uint8)


def spec(max_steps: int | None = 200, action: Any = PUSH, **keys: Any) -> EnvSpec:
    return EnvSpec(Dict(keys or {"place": PLACE}), action, max_steps=max_steps)


def small(env: EnvSpec | None = None, **settings: Any) -> TDMPC2:
    torch.manual_seed(0)
    sizes = {"latent": 16, "hidden": 11, "encoder_hidden": 13, **settings}
    return TDMPC2(spec() if env is None else env, **sizes)


def segment(batch: int = 5, steps: int = 7, **changed: Any) -> Segment:
    generator = torch.Generator().manual_seed(1)
    made = Segment(
        {"place": torch.rand(batch, steps + 1, 3, generator=generator) * 2 - 1},
        torch.rand(batch, steps, 1, generator=generator) * 4 - 2,
        torch.randn(batch, steps, generator=generator),
        torch.zeros(batch, steps, dtype=torch.bool),
        torch.ones(batch, steps, dtype=torch.bool),
        torch.zeros(batch, dtype=torch.bool),
    )
    return Segment(**(vars(made) | changed))


@pytest.mark.parametrize(
    ("steps", "gamma"), [(200, 0.975), (500, 0.99), (1000, 0.995), (10, 0.95), (None, 0.995)]
)
def test_the_discount_follows_the_time_limit(steps: int | None, gamma: float) -> None:
    assert small(spec(steps)).gamma == pytest.approx(gamma)


def test_latents_are_simplices_and_a_new_model_is_worth_nothing() -> None:
    model = small().eval()
    belief = model.initial({"place": torch.rand(2, 3)})
    future = model.predict(belief, torch.rand(2, 3, 1))
    torch.testing.assert_close(future.latent.unflatten(-1, (-1, 8)).sum(-1), torch.ones(2, 3, 2))
    assert future.reward is not None
    assert future.reward.tolist() == [[0.0] * 3] * 2
    assert future.discount is None
    assert isinstance(model, Valued)
    assert model.value(future.belief).tolist() == [0.0, 0.0]


def gradients(model: TDMPC2, loss: Tensor) -> set[str]:
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}


def test_the_policy_is_fitted_by_the_values_and_nothing_else_is() -> None:
    model = small(continuation_weight=1.0)
    for last in (model.critics.weights[-1], model.reward[-1].weight):
        torch.nn.init.normal_(last, std=0.1)  # type: ignore[arg-type]
    others = {"encoder", "dynamics", "reward", "critics", "continuation"}
    assert gradients(model, model.loss(segment())[0]) == {*others, "proposal"}
    latent, known = torch.rand(5, 4, 16), torch.ones(5, 4, dtype=torch.bool)
    assert gradients(model, model._policy_loss(latent, known).sum()) == {"proposal"}


def test_the_policy_of_a_flat_value_has_the_entropy_before_squashing() -> None:
    env = spec(action=Box(-3, 3, (2,), np.float32))
    model = small(env, entropy_weight=1.0)
    latent = torch.rand(1, 1, 16).expand(20_000, 1, 16)
    losses = model._policy_loss(latent, torch.ones(20_000, 1, dtype=torch.bool))
    _, log_std = model._gaussian(latent[0, 0])
    entropy = float((log_std + 0.5 * math.log(2 * math.pi * math.e)).sum().detach())
    assert -float(losses.detach().mean()) == pytest.approx(2 * entropy, abs=0.05)  # times the dimensions


def test_targets_are_rewards_and_the_value_of_where_each_step_led() -> None:
    model = small()
    bias = model.slow.biases[-1]
    with torch.no_grad():
        bias.copy_(model.bins.encode(torch.tensor(7.0)).log().clamp(min=-50))  # worth 7 everywhere
    ended = torch.zeros(5, 7, dtype=torch.bool)
    ended[1, 3] = True
    given = segment(terminated=ended)
    target = model._targets(torch.rand(5, 7, 16), given)
    torch.testing.assert_close(target, given.reward + 0.975 * 7 * (~ended), rtol=1e-4, atol=1e-4)


def test_slow_networks_and_the_scale_move_only_after_updates() -> None:
    model = small(tau=0.25)
    with torch.no_grad():
        for weight in model.critics.parameters():
            weight.add_(1.0)
    before = [p.clone() for p in model.slow.parameters()]
    model.loss(segment())
    assert all(torch.equal(x, y) for x, y in zip(before, model.slow.parameters(), strict=True))
    assert float(model.scale()) == 1
    belief = model.initial({"place": torch.rand(2, 3)})
    worth = model.value(belief)
    with torch.no_grad():
        model.after_update(0.5)
    for old, now, quick in zip(before, model.slow.parameters(), model.critics.parameters(), strict=True):
        torch.testing.assert_close(now, old + 0.25 * (quick - old))
    assert torch.equal(model.value(belief), worth)


def test_padding_and_what_precedes_a_whole_history_count_for_nothing() -> None:
    model = small(frames=3).eval()
    assert model.least_length == 5
    given = segment(first=torch.tensor([True, False, False, False, False]))
    frames, known, steps = model._rollouts(given)
    assert frames.shape[:3] == (5 + 4 * 3, 4, 3)  # from the first row 5, from the others 3
    assert bool(known.all())
    assert torch.equal(steps.reward[0], given.reward[0, :3])
    assert torch.equal(steps.reward[4], given.reward[0, 4:])
    assert torch.equal(steps.reward[5], given.reward[1, 2:5])
    assert torch.equal(steps.reward[-1], given.reward[4, 4:])


def test_frames_are_stacked_in_the_loss_as_they_are_observed() -> None:
    model = small(frames=3).eval()
    given = segment()
    belief = model.initial({"place": given.observation["place"][:, 0]})
    tracked = model.track(given)["latent"].unflatten(0, (5, 8))
    torch.testing.assert_close(tracked[:, 0], belief["latent"])
    for step in range(7):
        seen = {"place": given.observation["place"][:, step + 1 : step + 2]}
        belief = model.observe(belief, given.action[:, step : step + 1], seen)
        torch.testing.assert_close(tracked[:, step + 1], model.features(belief))


def test_goals_are_read_with_their_differences_and_screens_only_alone() -> None:
    space = Dict({"place": PLACE, "lcd": SCREEN, "goal_place": PLACE, "goal_lcd": SCREEN})
    inputs = FrameInputs(space, 2, None)
    assert inputs.size == 2 * 3 + 3 + 3
    frames = torch.tensor([[0.1, 0.2, 0.3], [0.2, 0.2, 0.1]])
    seen = {"place": frames, "goal_place": torch.ones(2, 3), "lcd": torch.zeros(2, 5, 7)}
    found = inputs.history(inputs(seen))
    expected = [0.2, 0.2, 0.1, 1, 0, -2, 1, 1, 1, 0.8, 0.8, 0.9]
    torch.testing.assert_close(found, torch.tensor(expected))
    assert FrameInputs(Dict({"lcd": SCREEN, "goal_lcd": SCREEN}), 3, None).size == 3 * 35 + 2 * 35
    assert FrameInputs(space, 1, True).size == 3 * (3 + 35)
    with refused(ConfigError, "images"):
        FrameInputs(Dict({"lcd": SCREEN}), 1, False)


@pytest.mark.parametrize(
    ("error", "settings"),
    [
        (SpaceError, {"env": spec(action=Discrete(3))}),
        (SpaceError, {"env": spec(action=Box(-np.inf, np.inf, (1,), np.float32))}),
        (ConfigError, {"latent": 20}),
        (ConfigError, {"critics": 1}),
        (ConfigError, {"gamma": 1.5}),
        (ConfigError, {"reward_weight": 0.0}),
    ],
)
def test_what_cannot_be_is_one_line(error: Any, settings: dict[str, Any]) -> None:
    with refused(error, ()):
        small(**settings)


def test_values_are_those_of_the_state_that_they_belong_to() -> None:
    """A ring of three places, of which the step from the first pays 1: the values tell which step pays."""
    places = torch.eye(3)
    phase = (torch.arange(5).unsqueeze(1) + torch.arange(8)) % 3
    reward = (phase[:, :-1] == 0).float()
    given = segment(observation={"place": places[phase]}, reward=reward)
    model = small(gamma=0.5, tau=0.2)
    fitter = Fitter(model, torch.device("cpu"), 160, lr=1e-2, precision="float32", schedule="constant")
    model.train()
    for number in range(160):
        fitter.update(given, number, (0, 160))
    model.eval()
    belief = model.initial({"place": places})
    worth = 1 / (1 - 0.5**3)
    expected = [worth, worth / 4, worth / 2]
    assert model.value(belief).tolist() == pytest.approx(expected, abs=0.12)
    reward = model.predict(belief, torch.zeros(3, 3, 1)).reward
    assert reward is not None
    torch.testing.assert_close(reward, torch.eye(3)[:, [0, 2, 1]], atol=0.15, rtol=0)


def test_it_keeps_what_every_model_promises() -> None:
    env = wmplay.make_env("luxo", task="body_goal", physics="fast")
    model = small(env_spec(env), frames=2, continuation_weight=1.0)
    report = check_model(model, env, quick=True)
    assert report.passed, str(report)
