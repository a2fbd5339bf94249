"""Optimisers of weights: torch's own without the import of its compiler, and LaProp."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn, optim

LEAST_WEIGHT = 1e-3  # a norm of weights below this counts as this, so that zero weights can learn


class Eager(optim.Optimizer):
    """An optimiser that is never compiled.

    Torch wraps these methods so that ``torch.compile`` leaves them out, and imports the compiler, which takes
    a second, when the first of them is called.
    """

    add_param_group = inspect.unwrap(optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(optim.Optimizer.load_state_dict)


class Adam(Eager, optim.Adam):
    """``torch.optim.Adam``."""

    step = torch.no_grad()(inspect.unwrap(optim.Adam.step))


class AdamW(Eager, optim.AdamW):
    """``torch.optim.AdamW``."""

    step = torch.no_grad()(inspect.unwrap(optim.AdamW.step))


class LaProp(Eager):
    """LaProp (Ziyin et al. 2020, arXiv 2002.04839): gradients are scaled first, and momentum is taken then.

    Both running means are without bias, so that the first step is ``lr`` in every entry. DreamerV3 (arXiv
    2301.04104) uses it after adaptive gradient clipping (``clip_by_weight_``).

    Args:
        params: weights, or groups of them.
        lr: step size.
        betas: decay of the momentum and of the squared gradients.
        eps: added to the root of the squared gradients.
        weight_decay: part of the weights that is taken away in each step, times ``lr``.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 4e-5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-20,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step along the gradients."""
        for group in self.param_groups:
            first, second = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["step"] = torch.zeros(())
                    state["momentum"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
                state["step"] += 1
                count, gradient = int(state["step"]), weight.grad
                square = state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
                scaled = gradient / ((square / (1 - second**count)).sqrt() + group["eps"])
                momentum = state["momentum"].mul_(first).add_(scaled, alpha=1 - first)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(momentum, alpha=-group["lr"] / (1 - first**count))


@torch.no_grad()
def clip_by_weight_(weights: Iterable[nn.Parameter], most: float) -> None:
    """Scale each tensor's gradient down to a norm of at most ``most`` times the norm of its weights.

    Adaptive gradient clipping (Brock et al. 2021, arXiv 2102.06171), per tensor as in DreamerV3.
    """
    for weight in weights:
        if weight.grad is not None:
            limit = most * weight.norm().clamp(min=LEAST_WEIGHT)
            weight.grad.mul_((limit / weight.grad.norm().clamp(min=1e-38)).clamp(max=1))
