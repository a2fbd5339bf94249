"""What vectors are normalised by: the mean and the variance of all that was shown."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from refusals import refused

from wmplay.errors import SpaceError
from wmplay.nets.inputs import LARGEST, VectorInputs


def test_the_normaliser_is_numpys_over_all_chunks() -> None:
    space = Dict(
        {"x": Box(-1, 1, (3,), np.float32), "b": Box(-1, 1, (2,), np.float64), "goal_x": Box(-1, 1, (3,))}
    )
    inputs = VectorInputs(space)
    assert inputs.size == 3 + 2 + 3 + 3
    rng = np.random.default_rng(1)
    shown = []
    for rows, offset in ((1, 0), (7, 1), (131, 5), (2, -3), (997, 2)):
        seen = {
            "x": rng.normal(offset, 2, (rows, 3)),
            "b": rng.normal(100 * offset, 30, (rows, 2)),
            "goal_x": rng.normal(0, 1e-3, (rows, 3)),
        }
        parts = [seen[key] for key in inputs.keys]
        shown.append(np.concatenate([*parts, seen["goal_x"] - seen["x"]], -1))
        flat = inputs.flat({key: torch.from_numpy(value) for key, value in seen.items()})
        np.testing.assert_allclose(flat.numpy(), shown[-1], rtol=1e-5, atol=1e-6)
        inputs.update(flat if rows != 2 else flat.reshape(2, 1, -1))
        everything = np.concatenate(shown)
        np.testing.assert_allclose(inputs.mean.numpy(), everything.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(inputs.variance.numpy(), everything.var(0), rtol=1e-4, atol=1e-6)
        assert inputs.count == len(everything)
    normal = (everything - everything.mean(0)) / everything.std(0)
    given = torch.from_numpy(everything).float()
    np.testing.assert_allclose(inputs(given).numpy(), normal.clip(-LARGEST, LARGEST), rtol=1e-2, atol=1e-2)
    assert inputs(given * 1000).abs().max() == LARGEST


def test_changes_of_what_is_no_goal() -> None:
    space = Dict({"x": Box(-1, 1, (2,)), "goal_x": Box(-1, 1, (2,)), "b": Box(-1, 1, (1,))})
    inputs = VectorInputs(space, changes=True)
    before, now = ({key: torch.randn(5, 3, box.shape[0]) for key, box in space.items()} for _ in range(2))
    flat = inputs.flat(now, inputs.flat(before))
    assert flat.shape == (5, 3, inputs.size)
    expected = torch.cat([now[key] - before[key] for key in inputs.keys if key != "goal_x"], -1)
    torch.testing.assert_close(flat[..., -3:], expected)
    assert torch.equal(flat[..., :-3], VectorInputs(space).flat(now))
    assert (inputs.flat(now)[..., -3:] == 0).all()


def test_pixels_of_binary_screens_where_they_are_asked_for() -> None:
    screen, grey = Box(0, 1, (3, 2), np.uint8), Box(0, 255, (3, 2), np.uint8)
    space = Dict({"screen": screen, "x": Box(-1, 1, (2,)), "picture": grey})
    seen = {"screen": torch.randint(2, (5, 7, 3, 2)), "x": torch.randn(5, 7, 2)}
    assert VectorInputs(space).size == 2
    inputs = VectorInputs(space, screens=True)
    assert torch.equal(inputs.flat(seen), torch.cat([seen["screen"].flatten(-2), seen["x"]], -1))
    with refused(SpaceError, ("screen", "3x2", "2x3")):
        inputs.flat({**seen, "screen": seen["screen"].mT})
    with refused(SpaceError):
        VectorInputs(Dict({"screen": screen}))
    with refused(SpaceError):
        VectorInputs(Dict({"picture": grey}), screens=True)


def test_the_normaliser_knows_many_small_chunks() -> None:
    inputs = VectorInputs(Box(-1, 1, (1,)))
    values = torch.randn(20_011, 1, generator=torch.Generator().manual_seed(1)) * 0.01 + 7
    for chunk in values.split(11):
        inputs.update(chunk)
    assert float(inputs.mean) == pytest.approx(float(values.mean()), abs=1e-5)
    assert float(inputs.variance.sqrt()) == pytest.approx(float(values.std()), rel=1e-3)
