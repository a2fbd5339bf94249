"""The belief of a policy that holds a world model, which is only lent to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from wmplay.contracts import Belief, WorldModel, seen_by
from wmplay.nets.trees import where_rows


def followed(
    model: WorldModel,
    belief: Belief | None,
    observation: dict[str, Tensor],
    last_action: Tensor,
    first: Tensor,
) -> Belief:
    """Return the beliefs of B rows after their present frames.

    Args:
        model: keeps the belief.
        belief: before this frame; None before any.
        observation: {key: [B, ...]}, now.
        last_action: [B, A], or [B] int64, as it was executed.
        first: [B] bool, rows in which an episode has just begun.
    """
    seen = seen_by(model, observation)
    if belief is None or bool(first.all()):
        return model.initial(seen)
    new = {key: value.unsqueeze(1) for key, value in seen.items()}
    belief = model.observe(belief, last_action.unsqueeze(1), new)
    return where_rows(first, model.initial(seen), belief) if bool(first.any()) else belief


@contextmanager
def fixed(model: Any) -> Iterator[None]:
    """Keep gradients away from a model's weights within the block; they pass through the model."""
    weights = [*model.parameters()] if isinstance(model, nn.Module) else []
    trained = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(False)
        yield
    finally:
        for weight, before in zip(weights, trained, strict=True):
            weight.requires_grad_(before)
