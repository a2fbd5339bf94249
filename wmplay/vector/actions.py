"""Validation of actions, from whoever chooses them: of one env, or of each env of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete, Space

from wmplay.errors import ActionError
from wmplay.system.arrays import Array


def checked_action(
    action: Any,
    space: Space[Any],
    envs: Sequence[int] | None = None,
    *,
    who: str = "action",
    floats: bool = False,
    finite: bool = False,
) -> Array:
    """Return an action as an array of numbers [A], or [] int64 if discrete; not clipped to its bounds.

    Args:
        action: of one env, or of each of ``envs``.
        space: of one env's actions: a Box or a Discrete.
        envs: the numbers of the envs in a batch, for messages; None for a single env.
        who: begins the messages.
        floats: whether to refuse continuous actions of whole numbers.
        finite: whether to refuse infinities, too.

    Raises:
        ActionError: for another shape or kind of number, NaN, or a choice that does not exist.
    """
    batch = () if envs is None else (len(envs),)
    each = f", one for each of {len(envs)} envs" if envs is not None else ""
    try:
        values = np.asarray(action)
    except (TypeError, ValueError):
        raise ActionError(
            f"{who} is a {type(action).__name__}", got=type(action).__name__, expected="an array of numbers"
        ) from None
    if isinstance(space, Discrete):
        first, last = int(space.start), int(space.start + space.n - 1)
        expected = f"an integer in {first} .. {last}{each}"
        if values.dtype.kind not in "iu":
            shown = repr(action) if values.ndim == 0 else f"{values.dtype} {list(values.shape)}"
            raise ActionError(f"{who} is {shown}", got=shown, expected=expected)
        if values.shape != batch:
            raise ActionError(f"{who} has shape {list(values.shape)}", got=values.shape, expected=expected)
        if values.min(initial=first) < first or values.max(initial=last) > last:
            worst = values.ravel()[np.argmax((values < first) | (values > last))]
            raise ActionError(f"{who} is {worst}", got=int(worst), expected=expected)
        return values.astype(np.int64)
    if values.dtype.kind not in "biuf":
        raise ActionError(
            f"{who} is a {type(action).__name__}", got=type(action).__name__, expected="an array of numbers"
        )
    if values.shape != (*batch, *(space.shape or ())):
        shape = [*batch, *(space.shape or ())]
        raise ActionError(
            f"{who} has shape {list(values.shape)}", got=values.shape, expected=f"{shape}{each}"
        )
    if floats and values.dtype.kind != "f":
        raise ActionError(f"{who} is {values.dtype}", got=values.dtype, expected="floats")
    bad = ~np.isfinite(values) if finite else np.isnan(values)
    if np.count_nonzero(bad):
        index = np.argwhere(bad)[0].tolist()
        place = index if envs is None else [int(envs[index[0]]), *index[1:]]
        what = "NaN" if np.isnan(values[tuple(index)]) else "infinity"
        raise ActionError(f"{who} has {what} at {place}", expected=f"{'finite ' * finite}numbers")
    return values


def clipped(action: Array, low: Array, high: Array) -> Array:
    """Return an action clipped to its bounds, in their dtype."""
    return action.astype(low.dtype).clip(low, high)
