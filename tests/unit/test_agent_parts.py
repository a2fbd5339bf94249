"""Parts of agents: distributions of actions, returns and their scale, against numbers from outside."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import AffineTransform, TanhTransform

from wmplay.nets.agents.distributions import BoundedNormal, Categorical, SquashedNormal
from wmplay.nets.agents.returns import ReturnScale, lambda_returns

LOW, HIGH = torch.tensor([-2.0, 1.0, 0.0]), torch.tensor([2.0, 7.0, 0.5])
CENTER, SCALE = (LOW + HIGH) / 2, (HIGH - LOW) / 2
MEAN = torch.tensor([[0.2, -0.7, 1.4], [-3.0, 0.0, 0.5]])
SIGMA = torch.tensor([[0.5, 1.0, 0.1], [0.3, 2.0, 0.9]])


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def many(tensor: Tensor, count: int = 100_003) -> Tensor:
    return tensor[:1].expand(count, -1)


# ---- squashed Gaussians --------------------------------------------------------------------------


def test_squashed_log_densities_are_torchs() -> None:
    ours = SquashedNormal(MEAN.double(), SIGMA.double(), LOW.double(), HIGH.double())
    transforms = [TanhTransform(), AffineTransform(CENTER.double(), SCALE.double())]
    theirs = TransformedDistribution(Normal(MEAN.double(), SIGMA.double()), transforms)
    action, log_prob = ours.drawn(generator())
    expected = theirs.log_prob(action).sum(-1)
    torch.testing.assert_close(log_prob, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.log_prob(action), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.mode(), CENTER + SCALE * MEAN.double().tanh())


def test_squashed_entropy_is_the_mean_of_minus_the_log_density() -> None:
    for sigma in (0.3, 1.0, 4.0):
        _, log_prob = SquashedNormal(many(MEAN), torch.full((1, 3), sigma), LOW, HIGH).drawn(generator())
        entropy = SquashedNormal(MEAN[:1], torch.full((1, 3), sigma), LOW, HIGH).entropy().item()
        assert entropy == pytest.approx(-log_prob.mean().item(), abs=0.03 * max(1, sigma))


def test_a_squashed_draw_far_out_is_on_the_bound_with_a_finite_density_and_gradient() -> None:
    mean = torch.full((1, 3), 30.0, requires_grad=True)
    far = SquashedNormal(mean, torch.ones(1, 3), LOW, HIGH)
    action, log_prob = far.drawn(generator())
    assert torch.equal(action[0].detach(), HIGH)
    (slope,) = torch.autograd.grad(log_prob.sum(), mean)
    assert log_prob.isfinite().all()
    assert slope.isfinite().all()
    assert far.log_prob(action).isfinite().all()


# ---- bounded Gaussians -----------------------------------------------------------------------------


def test_bounded_draws_stay_within_the_bounds_and_reach_them() -> None:
    action = BoundedNormal(many(MEAN), many(SIGMA), LOW, HIGH).sample(generator())
    assert bool(((action >= LOW) & (action <= HIGH)).all())
    tails = (action == HIGH).float().mean(0), (action == LOW).float().mean(0)
    above = 1 - Normal(MEAN[0], SIGMA[0]).cdf(torch.ones(3))
    torch.testing.assert_close(tails[0], above, atol=0.01, rtol=0)
    torch.testing.assert_close(tails[1], Normal(MEAN[0], SIGMA[0]).cdf(-torch.ones(3)), atol=0.01, rtol=0)


def test_bounded_likelihoods_sum_to_one_over_the_range_and_both_bounds() -> None:
    count = 20_001
    for row in range(2):
        for entry in range(3):
            mean, sigma = MEAN[row, entry], SIGMA[row, entry]
            low, high = LOW[entry : entry + 1], HIGH[entry : entry + 1]
            grid = torch.linspace(0, 1, count + 2)[1:-1, None] * (high - low) + low
            one = BoundedNormal(mean.expand(count, 1), sigma.expand(count, 1), low, high)
            inside = one.log_prob(grid).exp().mean() * (high - low)
            bounds = [one.log_prob(bound.expand(count, 1))[0].exp() for bound in (low, high)]
            assert (inside + sum(bounds)).item() == pytest.approx(1, abs=1e-3)


def test_the_gradient_of_bounded_likelihoods_has_the_mean_that_clipping_calls_for() -> None:
    """With E[f(clip(x))] for f(a) = a: its derivative with the mean is the part of draws inside."""
    mean = torch.tensor([[0.2, -0.7, 1.4]], requires_grad=True)
    policy = BoundedNormal(mean.expand(400_003, -1), SIGMA[:1].expand(400_003, -1), LOW, HIGH)
    action = policy.sample(generator()).detach()
    score = torch.stack([policy.log_prob(action) * action[:, entry] for entry in range(3)]).mean(1)
    for entry in range(3):
        (found,) = torch.autograd.grad(score[entry], mean, retain_graph=True)
        cdf = Normal(MEAN[0, entry], SIGMA[0, entry]).cdf
        inside = SCALE[entry] * (cdf(torch.tensor(1.0)) - cdf(torch.tensor(-1.0)))
        assert found[0, entry].item() == pytest.approx(inside.item(), abs=0.05 * SCALE[entry].item() + 0.02)


def test_bounded_entropy_is_that_before_clipping() -> None:
    entropy = BoundedNormal(MEAN, SIGMA, LOW, HIGH).entropy()
    torch.testing.assert_close(entropy, Normal(CENTER + SCALE * MEAN, SCALE * SIGMA).entropy().sum(-1))


# ---- discrete --------------------------------------------------------------------------------------


def test_unimix_bounds_every_probability_from_below() -> None:
    sure = Categorical(torch.tensor([[50.0, 0.0, 0.0, 0.0, 0.0]]), unimix=0.01)
    assert sure.logits is not None
    expected = torch.tensor([[0.99 + 0.002, 0.002, 0.002, 0.002, 0.002]])
    torch.testing.assert_close(sure.logits.exp(), expected)
    assert sure.log_prob(torch.tensor([3])).item() == pytest.approx(math.log(0.002))
    assert sure.mode().tolist() == [0]


def test_categorical_draws_entropy_and_likelihoods_agree() -> None:
    policy = Categorical(torch.tensor([[1.0, -1.0, 0.5]]).expand(100_003, -1), unimix=0.1)
    action = policy.sample(generator())
    assert policy.logits is not None
    parts = torch.bincount(action, minlength=3) / len(action)
    torch.testing.assert_close(parts, policy.logits[0].exp(), atol=0.01, rtol=0)
    assert -policy.log_prob(action).mean().item() == pytest.approx(policy.entropy()[0].item(), abs=0.01)


def test_straight_through_actions_are_one_hot_with_the_gradient_of_probabilities() -> None:
    logits = torch.tensor([[1.0, -1.0, 0.5]], requires_grad=True)
    policy = Categorical(logits)
    hard = policy.straight_through(torch.tensor([2]))
    assert hard.detach().tolist() == [[0.0, 0.0, 1.0]]
    weights = torch.tensor([3.0, 5.0, 7.0])
    (found,) = torch.autograd.grad((hard * weights).sum(), logits)
    (expected,) = torch.autograd.grad((logits.softmax(-1) * weights).sum(), logits)
    torch.testing.assert_close(found, expected)


# ---- returns ---------------------------------------------------------------------------------------


def test_lambda_returns_are_those_worked_out_by_hand() -> None:
    reward, value = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 1.5, 2.0]])
    found = lambda_returns(reward, torch.full((1, 3), 0.9), value, 0.8)
    torch.testing.assert_close(found, torch.tensor([[5.3027, 5.7260, 4.8]]), atol=1e-4, rtol=0)


def test_nothing_follows_a_step_without_discount() -> None:
    reward, value = torch.tensor([[1.0, 2.0, 3.0]]), torch.full((1, 3), 100.0)
    found = lambda_returns(reward, torch.tensor([[0.9, 0.0, 0.9]]), value, 0.95)
    assert found[0, 1].item() == 2
    assert found[0, 0].item() == pytest.approx(1 + 0.9 * (0.05 * 100 + 0.95 * 2))


@pytest.mark.parametrize("floored", [False, True])
def test_equal_returns_leave_the_scale_at_one(floored: bool) -> None:
    scale = ReturnScale(floored=floored)
    for _ in range(5):
        scale.update(torch.full((7, 11), 13.0))
    assert scale().item() == 1


def test_the_scale_follows_the_spread_from_its_first_value() -> None:
    returns = torch.linspace(0, 100, 1001)  # from the 5th to the 95th percentile: 90
    begun_at_0, begun_at_1 = ReturnScale(), ReturnScale(floored=True)
    for scale in (begun_at_0, begun_at_1):
        scale.update(returns)
        scale.update(returns)
    assert begun_at_0().item() == pytest.approx(90 * (1 - 0.99**2), rel=1e-4)
    assert begun_at_1().item() == pytest.approx(90 - 89 * 0.99**2, rel=1e-4)


def test_small_spreads_count_as_one_where_each_is_floored() -> None:
    scale, plain = ReturnScale(rate=0.5, floored=True), ReturnScale(rate=0.5)
    for each in (scale, plain):
        each.update(torch.linspace(0, 0.1, 101))
        each.update(torch.linspace(0, 10, 101))  # 9
    assert scale().item() == pytest.approx(5)
    assert plain().item() == pytest.approx(0.5 * (9 + 0.5 * 0.09))
