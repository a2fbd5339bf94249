"""What is lent comes back as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from refusals import refused
from torch import nn

from wmplay.errors import WmplayError
from wmplay.loop.lending import lent


def network() -> nn.Sequential:
    network = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Dropout(), nn.Linear(5, 2))
    network.eval()
    network[2].train()  # a part may be in a mode of its own
    network[3].weight.requires_grad_(False)
    return network


def test_modes_frozen_weights_and_gradients_are_put_back_also_after_an_error() -> None:
    net = network()
    net[0].weight.grad = kept = torch.ones(5, 3)

    def meddle() -> None:
        with lent("model", net, "somebody"):
            net.train().requires_grad_(True)
            net(torch.randn(7, 3)).sum().backward()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        meddle()
    assert [part.training for part in net] == [False, False, True, False]
    assert [weight.requires_grad for weight in net.parameters()] == [True] * 4 + [False, True]
    assert net[0].weight.grad is kept
    assert net[0].bias.grad is None


CHANGES: dict[str, Callable[[nn.Sequential], object]] = {
    "in place": lambda net: net[0].weight.data.add_(1e-7),
    "another tensor": lambda net: setattr(net[0], "bias", nn.Parameter(net[0].bias.detach().clone())),
    "other storage": lambda net: setattr(net[0].bias, "data", net[0].bias.data + 1),
    "a buffer": lambda net: net.train()(torch.randn(7, 3)),  # of the normalisation
    "loaded": lambda net: net.load_state_dict({k: v * 2 for k, v in net.state_dict().items()}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_weights_are_named_with_who_did_it(change: str) -> None:
    net = network()
    with (
        refused(WmplayError, "Somebody.improve"),
        lent("model", net, "Somebody.improve"),
    ):
        CHANGES[change](net)


def test_weights_of_another_module_may_change_within_it() -> None:
    net = network()
    with lent("policy", net, "the loss", but=net[0]):
        net[0].weight.data.add_(1)
    with pytest.raises(WmplayError), lent("policy", net, "the loss", but=net[0]):
        net[3].weight.data.add_(1)


def test_what_is_no_module_has_nothing_to_hold() -> None:
    with lent("policy", object(), "somebody"), lent("model", None, "somebody"):
        pass
