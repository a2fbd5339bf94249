"""Lending of a piece's parts, which must come back unchanged: weights, training modes, frozen weights,
gradients."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from wmplay.errors import WmplayError
from wmplay.runs.pieces import Parts


@contextmanager
def lent(what: str, module: Any, who: str, *, but: Any = None) -> Iterator[None]:
    """Lend a module: within the block its weights must not change, and all other state is restored after it.

    Training modes (of every part), ``requires_grad`` and gradients are restored in any case. Weights and
    buffers are compared by checksums, once before and once after.

    Args:
        what: name of the module in an error, for example "model".
        module: the module; anything but an ``nn.Module`` has nothing to protect.
        who: name of the borrower in an error.
        but: a module whose weights may change, even if they are among those of ``module``.

    Raises:
        WmplayError: if the weights changed; names one of them, and ``who``.
    """
    if not isinstance(module, nn.Module):
        yield
        return
    free = {id(tensor) for tensor in _tensors(but).values()}
    modes = [(part, part.training) for part in module.modules()]
    gradients = [(weight, weight.requires_grad, weight.grad) for weight in module.parameters()]
    held = {name: tensor for name, tensor in _tensors(module).items() if id(tensor) not in free}
    before = {name: _checksum(tensor) for name, tensor in held.items()}
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
        for weight, trained, gradient in gradients:
            weight.requires_grad_(trained)
            weight.grad = gradient
    after = _tensors(module)
    changed = [
        name
        for name, sum_ in before.items()
        if after.get(name) is not held[name] or _checksum(held[name]) != sum_
    ]
    if changed:
        raise WmplayError(
            f"{who} changed the {what}, which is only lent: {len(changed)} weights, such as {changed[0]}; "
            f"let it work with a copy (copy.deepcopy), or hold the {what}'s weights fixed"
        )


def _tensors(module: Any) -> dict[str, Tensor]:
    """Return the weights and buffers of a module, by name."""
    if not isinstance(module, nn.Module):
        return {}
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _checksum(tensor: Tensor) -> int:
    flat = tensor.detach().reshape(-1).contiguous().cpu()
    return zlib.crc32(flat.view(torch.uint8).numpy().data) if flat.numel() else 0


@contextmanager
def lending(parts: Parts, phase: str) -> Iterator[None]:
    """Lend the parts that a phase of the loop does not change: all but a fitted model or a learning policy.

    Raises:
        WmplayError: if lent weights changed.
    """
    acting = [parts.explorer, parts.policy, parts.planner, parts.objective]
    actors = " or ".join(dict.fromkeys(type(piece).__name__ for piece in acting if piece is not None))
    if phase == "fit":
        with lent("policy", parts.policy, f"the loss of {type(parts.model).__name__}", but=parts.model):
            yield
    elif phase == "improve":
        with lent("model", parts.model, f"{type(parts.policy).__name__}.improve"):
            yield
    else:
        with (
            lent("model", parts.model, f"{actors}, while acting," if actors else "predicting"),
            lent("policy", parts.policy, actors, but=parts.policy),
        ):
            yield
