"""The RSSM's options, as its docstring has them: the balance of the KL, and DreamerV3's cell in blocks."""

import pytest
import torch
from gymnasium.spaces import Box, Dict
from torch.nn import functional as F

from wmplay.contracts import Segment
from wmplay.errors import ConfigError
from wmplay.models.rssm import RSSM
from wmplay.nets.layers import BlockGRU
from wmplay.nets.trees import take_rows

SPACE, ACTIONS = Dict({"x": Box(-1, 1, (3,))}), Box(-1, 1, (2,))


def test_half_balance_at_twice_the_weight_has_the_gradient_of_the_plain_kl():
    torch.manual_seed(0)
    model = RSSM(Dict({"x": Box(-1, 1, (3,))}), Box(-1, 1, (2,)), deter=7, stoch=5, hidden=11, kl_balance=0.5)
    posterior, prior = (torch.randn(2, 3, 10, requires_grad=True) for _ in range(2))

    def gradients(kl):
        return torch.autograd.grad(kl.sum(), [posterior, prior])

    plain = gradients(model.latent.kl(posterior, prior))
    for ours, theirs in zip(gradients(2 * model._balanced_kl(posterior, prior)), plain, strict=True):
        torch.testing.assert_close(ours, theirs)
    model.kl_balance = 0.8
    for part, ours, theirs in zip(
        (0.2, 0.8), gradients(model._balanced_kl(posterior, prior)), plain, strict=True
    ):
        torch.testing.assert_close(ours, part * theirs)


def test_each_block_sees_itself_and_what_all_share():
    """Computed once more, block by block."""
    torch.manual_seed(0)
    cell = BlockGRU(inputs=5, state=6, hidden=4, blocks=3)
    with torch.no_grad():
        for bias in cell.biases:
            bias.uniform_(-1, 1)
    x, state = torch.randn(7, 5), torch.randn(7, 6)
    linear, norm, _ = cell.whole
    shared = torch.cat([F.silu(norm(linear(state))), x], 1)
    own = state.split(2, 1)
    hidden = torch.cat(
        [torch.cat([own[k], shared], 1) @ cell.weights[0][k] + cell.biases[0][k] for k in range(3)], 1
    )
    hidden = F.silu(hidden / (hidden.square().mean(1, keepdim=True) + 1e-4).sqrt())
    after = []
    for k, part in enumerate(hidden.split(2, 1)):
        reset, candidate, update = (part @ cell.weights[1][k] + cell.biases[1][k]).split(2, 1)
        update = (update - 1).sigmoid()
        after.append(update * (reset.sigmoid() * candidate).tanh() + (1 - update) * own[k])
    torch.testing.assert_close(cell(x, state), torch.cat(after, 1))


def test_a_model_in_blocks_believes_alike_in_all_ways_and_learns_by_all_weights():
    torch.manual_seed(0)
    model = RSSM(SPACE, ACTIONS, deter=6, stoch=3, classes=4, hidden=11, image_hidden=5, blocks=2)
    action, mask = torch.rand(4, 5, 2), torch.ones(4, 5, dtype=torch.bool)
    segment = Segment({"x": torch.rand(4, 6, 3)}, action, torch.rand(4, 5), ~mask, mask)
    seen = segment.observation
    belief = model.initial({"x": seen["x"][:, 0]})
    for t in range(5):
        belief = model.observe(belief, action[:, t : t + 1], {"x": seen["x"][:, t + 1 : t + 2]})
    last = take_rows(model.track(segment), torch.arange(4) * 6 + 5)
    for name, value in belief.items():
        torch.testing.assert_close(value, last[name])
    future = model.predict(belief, action)
    torch.testing.assert_close(future.latent[:, -1], model.features(future.belief))
    model.loss(segment)[0].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("blocks", [-1, 4])
def test_blocks_that_do_not_divide_the_state(blocks):
    with pytest.raises(ConfigError):
        RSSM(SPACE, ACTIONS, deter=6, blocks=blocks)
