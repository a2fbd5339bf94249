"""Optimisers that go on."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer


def load_moments(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Takes over what an optimiser knows of its weights; its settings stay those it was built with.

    Raises:
        ValueError: if the state is of other weights.
    """
    settings = [
        {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
    ]
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)
