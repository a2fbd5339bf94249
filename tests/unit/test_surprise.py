import math

import numpy as np
import pytest
import torch
from conveyor import HEIGHT, WIDTH, Conveyor, episodes
from refusals import refused
from small_models import ACTIONS, OBSERVATIONS, B, T, make_model, seed_spaces, segment
from torch.distributions import Bernoulli

from wmplay.contracts import Surprise
from wmplay.errors import ShapeError, SpaceError
from wmplay.evaluation.clips import cut_clips
from wmplay.evaluation.metrics.surprise import copy_last_nats, evaluate_surprise, marginal_nats
from wmplay.models.rssm import RSSM

PIXELS = HEIGHT * WIDTH


class Guess(Conveyor):
    """Gives every pixel of the right screen the same probability."""

    def __init__(self, probability):
        super().__init__()
        self.probability = probability

    def surprise(self, segment):
        nats = -math.log(self.probability) * PIXELS * torch.ones(segment.mask.shape)
        return Surprise(nats, "exact")


class Draws(Conveyor):
    def surprise(self, segment):
        return Surprise(torch.rand(segment.mask.shape), "bound")


def test_a_coin_for_each_pixel_is_one_bit_for_each():
    score = evaluate_surprise(Guess(0.5), cut_clips(episodes(7), horizon=5))
    assert score.bits.value == pytest.approx(PIXELS)
    assert (score.kind, score.clips, score.frames, score.pixels) == ("exact", 7, 5, PIXELS)
    assert evaluate_surprise(Guess(1.0), cut_clips(episodes(7), horizon=5)).bits == (0, 0, 0)
    assert score.row()["bits"] == pytest.approx(PIXELS)


def test_the_frames_of_the_context_do_not_count():
    class Late(Conveyor):
        def surprise(self, segment):
            step = torch.arange(segment.mask.shape[1]).expand(segment.mask.shape)
            return Surprise((step < 4).float(), "exact")

    assert evaluate_surprise(Late(), cut_clips(episodes(3), context=5, horizon=3)).bits.value == 0
    assert evaluate_surprise(Late(), cut_clips(episodes(3), context=4, horizon=3)).bits.value > 0


def test_draws_follow_from_the_seed_and_leave_the_global_generator_alone():
    store = episodes(5)
    before = torch.get_rng_state()
    one, same, other = (
        evaluate_surprise(Draws(), cut_clips(store, horizon=3, seed=s)).bits for s in (2, 2, 3)
    )
    assert one == same != other
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_to_say():
    assert evaluate_surprise(Conveyor(), cut_clips(episodes(3))) is None
    store = [
        type(t)({"place": t.observation["place"]}, t.action, t.reward, t.terminated, t.truncated)
        for t in episodes(3)
    ]
    assert evaluate_surprise(Guess(0.5), cut_clips(store)) is None


def test_a_wrong_shape_is_named():
    class Wrong(Conveyor):
        def surprise(self, segment):
            return Surprise(torch.zeros(len(segment.mask)), "exact")

    with refused(ShapeError, "Wrong.surprise", got=(3,)):
        evaluate_surprise(Wrong(), cut_clips(episodes(3)))


def test_marginal_by_hand():
    lit = torch.tensor([[True, False], [True, False], [False, False]])  # (2 + .5) / 4 and .5 / 4
    frames = torch.tensor([[[True, True]], [[False, False]]])
    nats = marginal_nats(lit, frames)
    expected = [-math.log(2.5 / 4) - math.log(0.5 / 4), -math.log(1.5 / 4) - math.log(3.5 / 4)]
    assert nats[:, 0].tolist() == pytest.approx(expected)


def test_copy_last_takes_the_best_chance_to_flip():
    frames = torch.rand(5, 8, 11, generator=torch.Generator().manual_seed(0)) < 0.3
    nats = copy_last_nats(frames).mean().item()
    flips = (frames[:, 1:] != frames[:, :-1]).float()

    def with_rate(rate):
        return -Bernoulli(torch.tensor(rate)).log_prob(flips).sum(-1).mean().item()

    best = float(flips.mean())
    assert nats == pytest.approx(with_rate(best), rel=1e-5)
    assert nats < min(with_rate(best - 0.05), with_rate(best + 0.05))
    assert copy_last_nats(torch.ones(2, 3, 5, dtype=torch.bool)).abs().max() == 0


def test_baselines_are_of_the_same_frames():
    score = evaluate_surprise(Guess(0.5), cut_clips(episodes(53), horizon=5))
    chance = 2 / WIDTH  # every column is lit as often
    entropy = -(chance * math.log2(chance) + (1 - chance) * math.log2(1 - chance)) * PIXELS
    assert score.baselines["marginal"].value == pytest.approx(entropy, rel=0.03)
    # half of the shifts change 2 columns, the other half 4
    chance = 3 / WIDTH
    entropy = -(chance * math.log2(chance) + (1 - chance) * math.log2(1 - chance)) * PIXELS
    assert score.baselines["copy-last"].value == pytest.approx(entropy, rel=0.03)


@pytest.mark.parametrize("name", ["rssm", "rssm discrete"])
@torch.no_grad()
def test_rssm_pays_for_its_screen_and_its_latent(name):
    seed_spaces()
    space = OBSERVATIONS["screen and vector"]
    model, data = make_model(name, space, ACTIONS["continuous"]), segment(space, ACTIONS["continuous"])
    torch.manual_seed(3)
    surprise = model.surprise(data)
    assert surprise.kind == "bound"
    assert surprise.nats.shape == (B, T)
    torch.manual_seed(3)
    latent, posterior, prior = model.reconstruct(data, model.embed_frames(data))
    kl = model.latent.kl(posterior, prior)
    pixels = -model.decode(latent)["lcd"].log_prob(data.observation["lcd"].float())
    torch.testing.assert_close(surprise.nats, (kl + pixels)[:, 1:])
    assert (kl >= 0).all()


@torch.no_grad()
def test_rssm_bounds_what_can_be_computed():
    """Without its latent a model has an exact likelihood: the bound is that, and the KL on top."""
    seed_spaces()
    space = OBSERVATIONS["screen"]
    model, data = make_model("rssm", space, ACTIONS["continuous"]), segment(space, ACTIONS["continuous"])
    for parameter in model.image_heads.parameters():
        parameter.zero_()
    nats = model.surprise(data).nats
    exact = math.log(2) * np.prod(space["lcd"].shape)
    assert (nats > exact - 1e-4).all()
    for module in (model.prior[-1], model.posterior_out):  # q = p: nothing is paid for the latent
        module.weight.zero_(), module.bias.zero_()
    assert model.surprise(data).nats.numpy() == pytest.approx(exact, rel=1e-5)


def test_rssm_without_a_screen_says_so():
    space = OBSERVATIONS["vector"]
    model = RSSM(space, ACTIONS["discrete"], deter=5, stoch=3, hidden=7)
    with refused(SpaceError, got=["angle", "state"]):
        model.surprise(segment(space, ACTIONS["discrete"]))
