"""SV2P and reward_only: golden numbers of their parts, and what both promise beside the check of models."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from refusals import refused
from small_models import ACTIONS, B, H, T, observations, seed_spaces, segment
from small_models import actions as random_actions
from torch import Tensor

from wmplay.contracts import Segment, capabilities
from wmplay.errors import ConfigError, SpaceError
from wmplay.models.rssm import RSSM
from wmplay.models.video.cdna import compose, kernels, move
from wmplay.models.video.latent import Evidence, log_mean_exp, ramp
from wmplay.models.video.reward_only import RewardOnly
from wmplay.models.video.sv2p import SV2P

SCREEN = Box(0, 1, (7, 5), np.uint8)
SPACES = {
    "screen": Dict({"lcd": SCREEN}),
    "goal": Dict({"lcd": SCREEN, "goal_lcd": SCREEN, "proprio": Box(-1, 1, (3,), np.float32)}),
    "colours": Dict({"lcd": Box(0, 1, (5, 7, 3), np.uint8)}),
    "pixels": Dict({"camera": Box(0, 255, (37, 41, 3), np.uint8)}),
}
SMALL: dict[str, Any] = {"channels": 2, "kernels": 3, "kernel_size": 3, "hidden": 7, "draws": 2}
TINY: dict[str, Any] = {"code": 3, "encoder_hidden": 7, "sizes": (7, 5), "horizon": 3, "every": 2}


@pytest.fixture(autouse=True)
def _seeds() -> None:
    seed_spaces()
    for space in SPACES.values():
        space.seed(3)
    torch.manual_seed(1)


def sv2p(space: str = "screen", **settings: Any) -> SV2P:
    return SV2P(SPACES[space], ACTIONS["continuous"], **{**SMALL, **settings})


def data(space: str = "screen") -> Segment:
    return segment(SPACES[space], ACTIONS["continuous"])


# ---- CDNA ----------------------------------------------------------------------------------------


def test_kernels_are_distributions() -> None:
    kernel = kernels(torch.randn(B, 11 * 9), 11, 3)
    assert kernel.shape == (B, 11, 3, 3)
    assert (kernel > 0).all()
    torch.testing.assert_close(kernel.sum((-1, -2)), torch.ones(B, 11))
    frame, output = torch.rand(B, 3, 7, 5), torch.zeros(B, 2, 25)
    output[:, :, 12] = 100
    still = move(frame, kernels(output.flatten(1), 2, 5))
    torch.testing.assert_close(still, frame.unsqueeze(1).expand(-1, 2, -1, -1, -1))
    blurred = move(torch.ones(B, 1, 5, 5), kernels(torch.zeros(B, 25), 1, 5))
    assert blurred[0, 0, 0, 2, 2].item() == pytest.approx(1)
    assert blurred[0, 0, 0, 0, 0].item() == pytest.approx(9 / 25)


def test_a_kernel_with_one_entry_moves_each_row_by_itself() -> None:
    frame = torch.rand(2, 3, 7, 5)
    kernel = torch.zeros(2, 2, 3, 3)
    kernel[0, 0, 2, 1] = kernel[0, 1, 1, 0] = kernel[1, 0, 0, 0] = kernel[1, 1, 1, 1] = 1
    moved = move(frame, kernel)
    assert moved.shape == (2, 2, 3, 7, 5)
    torch.testing.assert_close(moved[0, 0, :, :-1], frame[0, :, 1:])  # the pixel below comes up
    torch.testing.assert_close(moved[0, 1, :, :, 1:], frame[0, :, :, :-1])  # the one to the left comes over
    torch.testing.assert_close(moved[1, 0, :, 1:, 1:], frame[1, :, :-1, :-1])
    torch.testing.assert_close(moved[1, 1], frame[1])
    assert (moved[0, 0, :, -1] == 0).all()  # nothing comes from outside


def test_masks_choose_between_layers_pixel_by_pixel() -> None:
    layers = torch.rand(B, 3, 2, 5, 7)
    logits = torch.zeros(B, 3, 5, 7)
    torch.testing.assert_close(compose(layers, logits), layers.mean(1))
    logits[0, 2, 1, 4] = 100
    made = compose(layers, logits)
    torch.testing.assert_close(made[0, :, 1, 4], layers[0, 2, :, 1, 4])
    torch.testing.assert_close(made[0, :, 1, 3], layers[0, :, :, 1, 3].mean(0))


# ---- the latent ----------------------------------------------------------------------------------


def test_the_posterior_is_the_product_of_its_factors() -> None:
    """Two factors N(1, 1/2) and N(3, 1/4) and the prior N(0, 1): precision 7, mean (2 + 12) / 7 = 2."""
    evidence = Evidence(torch.tensor([[[6.0]]]), torch.tensor([[[2 * 1.0 + 4 * 3.0]]]))
    mean, log_variance = evidence.gaussian()
    assert mean.item() == pytest.approx(2)
    assert log_variance.item() == pytest.approx(-math.log(7))
    assert evidence.kl().item() == pytest.approx(0.5 * (4 + 1 / 7 - 1 + math.log(7)))
    nothing = Evidence(torch.zeros(B, 2, 3), torch.zeros(B, 2, 3))
    assert not nothing.kl().any()
    sure = Evidence(torch.tensor([[[1e6]]]), torch.tensor([[[0.0]]]))
    assert sure.gaussian()[1].item() == -5  # the floor


def test_ramps() -> None:
    at = torch.tensor([0.0, 0.2, 0.3, 0.6, 1.0])
    torch.testing.assert_close(ramp(at, 0.2, 0.6), torch.tensor([0.0, 0.0, 0.25, 1.0, 1.0]))
    torch.testing.assert_close(ramp(at, 0.3, 0.3), torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0]))


def test_draws_from_the_prior_estimate_a_known_density() -> None:
    """z ~ N(0, 1), x = z + N(0, 1): log N(x; 0, 2). One draw gives the mean log-likelihood, which is less."""
    x, constant = 1.5, 0.5 * math.log(2 * math.pi)
    exact = -0.5 * x**2 / 2 - constant - 0.5 * math.log(2)
    z = torch.randn(64, 2000, dtype=torch.float64)
    log_likelihood = -0.5 * (x - z).square() - constant
    many, one = log_mean_exp(log_likelihood).mean().item(), log_mean_exp(log_likelihood[:1]).mean().item()
    assert many == pytest.approx(exact, abs=0.02)
    assert many < exact
    assert one == pytest.approx(-0.5 * (x**2 + 1) - constant, abs=0.1)
    assert log_mean_exp(torch.full((7, 2), -1e4)).tolist() == [-1e4, -1e4]  # no underflow


@torch.no_grad()
@pytest.mark.parametrize("vector", [0, 3])
def test_the_surprise_of_a_video_is_the_log_mean_of_its_likelihoods(vector: int) -> None:
    """By hand: one pass for each latent, whose draws are those of the global generator."""
    model, given = sv2p(vector=vector), data()
    torch.manual_seed(5)
    found = model.surprise(given)
    assert found.kind == "bound"
    assert found.nats.shape == (B, T)
    torch.manual_seed(5)
    frames = model.frames.planes(given.observation)
    acted = model.encode_action(given.action)
    each = []
    for _ in range(2):
        state = model.predictor.blank(B, frames.device)
        latent = torch.randn(B, 1, *model.predictor.latent_shape)
        total = torch.zeros(B)
        for t in range(T):
            conditions = model.predictor.conditions(acted[:, t : t + 1], latent)
            maps, state = model.predictor(state, frames[:, t : t + 1], conditions)
            image = model.frames.image(model.predictor.decode(maps, frames[:, t : t + 1]))
            total += model.frames.distribution(image[:, 0]).log_prob(
                given.observation["lcd"][:, t + 1].float()
            )
        each.append(total)
    torch.testing.assert_close(-found.nats.sum(1), log_mean_exp(torch.stack(each)), rtol=1e-4, atol=1e-4)
    assert sv2p(stochastic=False).surprise(given).kind == "exact"


# ---- SV2P ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("reward_from", ["frames", "features"])
@torch.no_grad()
def test_beliefs_and_predictions_of_any_image(space: str, reward_from: str) -> None:
    model, given = sv2p(space, reward_from=reward_from), data(space)
    (key,) = model.predicted
    belief = model.initial({k: v[:, 0] for k, v in given.observation.items()})
    whole = model.observe(belief, given.action, {k: v[:, 1:] for k, v in given.observation.items()})
    for t in range(T):
        after = {k: v[:, t + 1 : t + 2] for k, v in given.observation.items()}
        belief = model.observe(belief, given.action[:, t : t + 1], after)
    for name, value in whole.items():
        torch.testing.assert_close(belief[name], value, msg=name)
    future = model.predict(whole, random_actions(ACTIONS["continuous"], B, H))
    assert future.reward.shape == future.discount.shape == (B, H)
    assert future.observation[key].shape == (B, H, *SPACES[space][key].shape)
    assert future.observation[key].max() <= model.frames.largest * 1.001


@pytest.mark.parametrize("vector", [0, 3])
@torch.no_grad()
def test_a_future_keeps_the_latent_that_it_drew(vector: int) -> None:
    model, given = sv2p(vector=vector), data()
    belief = model.initial({k: v[:, 0] for k, v in given.observation.items()})
    generator = torch.Generator().manual_seed(0)
    drawn = model.predict(belief, given.action[:, :1], generator=generator).belief
    later = model.predict(drawn, given.action[:, 1:], generator=generator).belief
    assert torch.equal(drawn["z"], later["z"])
    assert not drawn["open"].any()
    again = model.predict(belief, given.action[:, :1], generator=generator).belief
    assert not torch.equal(again["z"], drawn["z"])
    assert model.observe(drawn, given.action[:, 1:2], {"lcd": given.observation["lcd"][:, 2:3]})["open"].all()


@pytest.mark.parametrize("vector", [0, 3])
def test_before_the_second_frame_the_latent_has_its_prior(vector: int) -> None:
    model, given = sv2p(vector=vector), data()
    belief = model.initial({k: v[:, 0] for k, v in given.observation.items()})
    wide = model.initial({"lcd": given.observation["lcd"][:1, 0].expand(997, -1, -1)})
    z = model.predict(wide, given.action[:1, :1].expand(997, -1, -1), generator=torch.Generator()).belief["z"]
    assert z.mean().item() == pytest.approx(0, abs=0.1)
    assert z.std().item() == pytest.approx(1, abs=0.1)
    seen = model.observe(belief, given.action[:, :1], {"lcd": given.observation["lcd"][:, 1:2]})
    assert (seen["precision"] > 0).all()


def gradients(model: SV2P, given: Segment, name: str) -> dict[str, Tensor]:
    """The gradient of one term of the loss with respect to each weight that it reaches."""
    keep = {"reward": 0.0, "continuation": 0.0, "kl": 0.0, name: 1.0}
    model.outcome.weights = {key: keep[key] for key in ("reward", "continuation")}
    model.zero_grad()
    torch.manual_seed(2)
    loss, _ = model.loss(given)
    loss.backward()
    return {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("reward_from", "reached"), [("frames", False), ("features", True)])
def test_no_gradient_goes_from_rewards_to_frames_that_are_only_seen(reward_from: str, reached: bool) -> None:
    model, given = sv2p(reward_from=reward_from), data()
    model.after_update(1.0)
    weights = [
        key for key, _ in model.named_parameters() if not key.startswith(("outcome", "reader", "goal"))
    ]
    without, with_rewards = (gradients(model, given, name) for name in ("kl", "reward"))
    changed = [key for key in weights if not torch.equal(without[key], with_rewards[key])]
    assert bool(changed) is reached
    assert "outcome.reward.0.weight" in with_rewards


def test_the_phases_of_the_training() -> None:
    model, given = sv2p(posterior_from=0.1, kl_ramp=(0.2, 0.6), sampling=(0.0, 0.5)), data()

    def kl_and_gap(progress: float) -> tuple[float, float]:
        model.after_update(progress)
        torch.manual_seed(0)
        loss, metrics = model.loss(given)
        rest = sum(value for name, value in metrics.items() if name != "loss/kl")
        return float(metrics["loss/kl"]), float(loss.detach() - rest)

    assert kl_and_gap(0.05)[0] == 0  # drawn from the prior
    kl, gap = kl_and_gap(0.2)
    assert kl > 0
    assert gap == pytest.approx(0, abs=1e-4)
    for progress, weight in ((0.4, 0.5), (1.0, 1.0)):
        kl, gap = kl_and_gap(progress)
        assert gap == pytest.approx(weight * kl, abs=1e-3)


@torch.no_grad()
def test_scheduled_sampling_feeds_real_frames_first_and_predicted_ones_last() -> None:
    model, given = sv2p(context=2, stochastic=False), data()
    frames = model.frames.planes(given.observation)
    conditions = model.predictor.conditions(model.encode_action(given.action), None)
    for progress, real in ((0.0, T), (1.0, 2)):
        model.after_update(progress)
        rollout = model._practise(frames, conditions)
        torch.testing.assert_close(rollout.before[:, :real], frames[:, :real])
        torch.testing.assert_close(rollout.before[:, real:], rollout.after[:, real - 1 : -1])
    model.after_update(0.3)
    fed = model._practise(frames.repeat(97, 1, 1, 1, 1), conditions.repeat(97, 1, 1, 1, 1)).before[:, 2:]
    part = (fed == frames.repeat(97, 1, 1, 1, 1)[:, 2:-1]).flatten(2).all(-1).float().mean()
    assert part.item() == pytest.approx(0.5, abs=0.1)


def test_masked_frames_are_no_evidence() -> None:
    model, given = sv2p(), data()
    model.after_update(1.0)
    mask = torch.arange(T) < torch.tensor([[T], [2]])
    other = given.observation["lcd"].clone()
    other[1, 3:] = 1 - other[1, 3:]
    losses = []
    for lcd in (given.observation["lcd"], other):
        torch.manual_seed(0)
        losses.append(model.loss(replace(given, observation={"lcd": lcd}, mask=mask))[1]["loss/kl"])
    assert torch.equal(*losses)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 4},
        {"kl_ramp": [0.5, 0.2]},
        {"sampling": [0.5]},
        {"reward_from": "x"},
        {"teacher": 2.0},
    ],
    ids=str,
)
def test_settings_out_of_range(settings: dict[str, Any]) -> None:
    with refused(ConfigError, next(iter(settings))):
        sv2p(**settings)


def test_one_image_is_needed() -> None:
    for spaces in ({"a": SCREEN, "b": SCREEN}, {"place": Box(-1, 1, (3,), np.float32)}):
        with refused(SpaceError, got=list(spaces)):
            SV2P(Dict(spaces), ACTIONS["continuous"])


# ---- reward_only ---------------------------------------------------------------------------------


@pytest.mark.parametrize("recurrent", [True, False])
@torch.no_grad()
def test_unrolls_of_the_loss_are_predictions(recurrent: bool) -> None:
    model, given = RewardOnly(SPACES["goal"], ACTIONS["continuous"], recurrent, **TINY), data("goal")
    assert capabilities(model).predicted == ()
    belief = model.initial({k: v[:, 0] for k, v in given.observation.items()})
    beliefs = [belief]
    for t in range(T):
        after = {k: v[:, t + 1 : t + 2] for k, v in given.observation.items()}
        beliefs.append(model.observe(beliefs[-1], given.action[:, t : t + 1], after))
    errors = []
    for start in range(0, T, 2):
        future = model.predict(beliefs[start], given.action[:, start : start + 3])
        errors.append((future.reward - given.reward[:, start : start + 3]).square().flatten())
    expected = 0.5 * torch.cat(errors).mean()
    torch.testing.assert_close(model.loss(given)[1]["loss/reward"], expected)
    tracked = model.track(given)
    for name, value in beliefs[3].items():
        torch.testing.assert_close(tracked[name].unflatten(0, (B, T + 1))[:, 3], value)


def test_keys_choose_what_is_read() -> None:
    model = RewardOnly(SPACES["goal"], ACTIONS["continuous"], keys=["lcd"], **TINY)
    assert list(model.reads) == ["lcd"]
    other = observations(SPACES["goal"], B)
    first = observations(SPACES["goal"], B)
    same = {**first, "proprio": other["proprio"]}
    assert torch.equal(model.initial(first)["code"], model.initial(same)["code"])
    wanted = {**first, "goal_lcd": other["goal_lcd"]}
    assert not torch.equal(model.initial(first)["code"], model.initial(wanted)["code"])
    with refused(ConfigError, "keys", got=["x"]):
        RewardOnly(SPACES["goal"], ACTIONS["continuous"], keys=["x"], **TINY)


# ---- rssm ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reward_from", "reached"), [("frames", False), ("latent", True)])
def test_the_rewards_of_a_state_space_model_may_be_seen_in_its_frames_alone(
    reward_from: str, reached: bool
) -> None:
    sizes = {"deter": 7, "stoch": 3, "hidden": 11, "image_hidden": 5}
    model = RSSM(SPACES["goal"], ACTIONS["continuous"], **sizes, goals=True, reward_from=reward_from)
    given = data("goal")
    with torch.no_grad():
        tracked = model.track(given)
        belief = model.observe(
            model.initial({k: v[:, 0] for k, v in given.observation.items()}),
            given.action,
            {k: v[:, 1:] for k, v in given.observation.items()},
        )
        torch.testing.assert_close(tracked["goal"].unflatten(0, (B, T + 1))[:, -1], belief["goal"])
        future = random_actions(ACTIONS["continuous"], B, H)
        reward = model.predict(belief, future).reward
        half = model.predict(belief, future[:, :1])
        rest = model.predict(half.belief, future[:, 1:])
        torch.testing.assert_close(torch.cat([half.reward, rest.reward], 1), reward)
        elsewhere = {**belief, "goal": belief["goal"].flip(0)}
        assert not torch.equal(model.predict(elsewhere, future).reward, reward)
    reads = (*model.encoder.parameters(), *model.cell.parameters())
    model.outcome.weights = {"reward": 0.0, "continuation": 0.0}
    slopes = []
    for weight in (0.0, 1.0):
        model.outcome.weights["reward"] = weight
        torch.manual_seed(2)
        slopes.append(torch.autograd.grad(model.loss(given)[0], reads))
    assert any(not torch.equal(x, y) for x, y in zip(*slopes, strict=True)) is reached
    with refused(ConfigError, "reward_from"):
        RSSM(SPACES["goal"], ACTIONS["continuous"], reward_from="pixels")
