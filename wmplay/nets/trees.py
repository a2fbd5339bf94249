"""Operations on the rows of beliefs and carries: on every tensor of a pytree, batch first."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map


def rows(tree: Any) -> int:
    """Return the number of rows of a tree."""
    return int(tree_leaves(tree)[0].shape[0])


def device_of(tree: Any) -> torch.device:
    """Return the device of a tree's tensors."""
    device: torch.device = tree_leaves(tree)[0].device
    return device


def take_rows(tree: Any, index: Tensor) -> Any:
    """Return the rows at index [R]."""
    return tree_map(lambda x: x[index], tree)


def repeat_rows(tree: Any, times: int) -> Any:
    """Repeat each row ``times`` times: row b becomes rows b * times to b * times + times - 1."""
    return tree_map(lambda x: x.repeat_interleave(times, dim=0), tree)


def put_rows(tree: Any, index: Tensor, values: Any) -> Any:
    """Return ``tree`` with the rows at index [R] replaced by the R rows of ``values``."""
    return tree_map(lambda x, y: x.index_copy(0, index, y.to(x.dtype)), tree, values)


def where_rows(condition: Tensor, tree: Any, other: Any) -> Any:
    """Return the rows of ``tree`` where condition [B] is True, and those of ``other`` elsewhere."""

    def choose(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(condition.reshape(-1, *[1] * (x.ndim - 1)), x, y)

    return tree_map(choose, tree, other)
