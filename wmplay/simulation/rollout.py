"""The verbs ``observe`` and ``predict``, which run a world model over real and imagined steps."""

from __future__ import annotations

import torch
from torch import Tensor

from wmplay.contracts import Belief, Prediction, Segment, WorldModel, seen_by
from wmplay.errors import ShapeError, WmplayError
from wmplay.nets.trees import rows


def observe(model: WorldModel, segment: Segment, context: int | None = None) -> Belief:
    """Return the model's belief after a segment's first ``context`` frames.

    Args:
        model: any world model.
        segment: observation {key: [B, T+1, ...]}, action [B, T, A].
        context: number of frames to show, 1 to T + 1; None shows all of them. With ``context=k`` the next
            action to predict with is ``segment.action[:, k - 1]``.

    Returns:
        A belief of B rows.

    Raises:
        WmplayError: if the context is not in 1 .. T + 1.
    """
    most = segment.action.shape[1] + 1
    shown = most if context is None else context
    if not 1 <= shown <= most:
        raise WmplayError(f"context is {shown} frames", expected=f"1 to {most}: the segment has no more")
    frames = seen_by(model, segment.observation)
    with torch.no_grad():
        belief = model.initial({key: value[:, 0] for key, value in frames.items()})
        if shown == 1:
            return belief
        later = {key: value[:, 1:shown] for key, value in frames.items()}
        return model.observe(belief, segment.action[:, : shown - 1], later)


def predict(
    model: WorldModel, belief: Belief, actions: Tensor, *, generator: torch.Generator | None = None
) -> Prediction:
    """Return the model's prediction of the steps after each of H actions.

    Args:
        model: any world model.
        belief: of B rows, from ``observe``.
        actions: [B, H, A], or [B, H] int64 for discrete actions.
        generator: draws one sampled future per row; without it each row is the most likely future.

    Returns:
        A Prediction; its ``observation`` is decoded at the first use.

    Raises:
        ShapeError: if the actions are not a sequence for each row, or if the model returns rewards or
            discounts that are not [B, H].
        WmplayError: if the model does not return a Prediction.
    """
    if actions.ndim < 2:
        raise ShapeError("actions", actions.shape, ("B", "H", "A"), advice="a batch of action sequences")
    if actions.shape[0] != rows(belief) or actions.shape[1] < 1:
        expected = (rows(belief), "H", *actions.shape[2:])
        raise ShapeError("actions", actions.shape, expected, advice="a sequence for each row of the belief")
    with torch.no_grad():
        prediction = model.predict(belief, actions, generator=generator)
    if not isinstance(prediction, Prediction):
        raise WmplayError(
            f"{type(model).__name__}.predict returned a {type(prediction).__name__}", expected="a Prediction"
        )
    for name, value in (("reward", prediction.reward), ("discount", prediction.discount)):
        if value is not None and value.shape != actions.shape[:2]:
            raise ShapeError(f"{type(model).__name__}.predict: {name}", value.shape, actions.shape[:2])
    return prediction
