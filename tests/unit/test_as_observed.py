"""Expected values as an env of any dtype would show them."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from wmplay.envs.learned.env import as_observed


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (Box(0, 1, (5,), np.uint8), [0, 0, 1, 1, 0]),
        (Box(0, 1, (5,), np.bool_), [False, False, True, True, False]),
        (Box(0, 255, (5,), np.uint8), [0, 0, 1, 3, 0]),
        (Box(-2, 2, (5,), np.int32), [0, 0, 1, 2, -2]),
        (Box(-2, 2, (5,), np.float32), [0, 0.25, 0.75, 2, -2]),
        (Box(-2, np.inf, (5,), np.float64), [0, 0.25, 0.75, 3, -2]),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_have_the_dtype_and_the_bounds_of_the_space(space, expected, dtype):
    shown = as_observed(torch.tensor([[0, 0.25, 0.75, 3, -7]], dtype=dtype), space)
    assert shown.tolist() == [expected]
    assert shown.numpy().dtype == space.dtype
    assert space.contains(shown[0].numpy())
