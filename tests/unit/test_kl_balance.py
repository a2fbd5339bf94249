"""What the balance of the RSSM's KL means, as its docstring has it."""

import torch
from gymnasium.spaces import Box, Dict

from wmplay.models.rssm import RSSM


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
