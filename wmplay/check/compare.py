"""Comparisons that the properties share, and descriptions of values for messages."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmplay.check.report import Broken

TOLERANCE = 1e-4  # relative and absolute: float32 sums in another order


def same(got: Tensor, expected: Tensor, problem: str, advice: str, tolerance: float = TOLERANCE) -> None:
    """Raise Broken, with the first place where they differ, unless two outcomes [B, T, N] are equal."""
    close = torch.isclose(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True).all(-1)
    if not close.all():
        row, step = (int(index) for index in (~close).nonzero()[0])
        worst = float((got[row, step] - expected[row, step]).abs().max())
        raise Broken(f"{problem} (row {row}, step {step}, by {worst:.2g})", advice)


def shown(value: Any) -> str:
    """Return a description of a value by its type, or of a tensor by its shape and dtype."""
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    return f"a {type(value).__name__}"


def claim(piece: Any, name: str, default: Any = None) -> Any:
    """Return what a piece says of itself by an attribute."""
    return getattr(piece, name, default)


def listed(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names, and the number of the remaining ones."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


@torch.no_grad()
def blank(module: torch.nn.Module) -> None:
    """Set all tensors that a state_dict restores to zero."""
    for value in module.state_dict().values():
        value.copy_(torch.zeros_like(value))


@contextmanager
def global_generators_at_rest(who: str, advice: str) -> Iterator[None]:
    """Raise Broken if the block changes the random state of torch, numpy or Python, which is restored."""
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    torch.rand(1), np.random.random(), random.random()  # noqa: NPY002  # no seed leads to what is compared
    before = _random_states()
    try:
        yield
        for name, state in _random_states().items():
            if state != before[name]:
                raise Broken(f"{who} draws from {name}'s global generator", advice)
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        random.setstate(kept[2])


def _random_states() -> dict[str, Any]:
    numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002  # this one is compared
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (numpy["state"]["key"].tobytes(), numpy["state"]["pos"], numpy["has_gauss"]),
        "Python": random.getstate(),
    }
