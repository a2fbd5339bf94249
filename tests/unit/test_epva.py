"""EPVA: what is drawn by analogy, what is fed back, and how the weight of foresight rises."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from refusals import refused

from wmplay.contracts import Segment
from wmplay.errors import ConfigError, SpaceError
from wmplay.models.video.epva import EPVA

STILL = torch.zeros(7, 6, dtype=torch.long)


def make(*shape: int, **settings: Any) -> EPVA:
    torch.manual_seed(0)
    space = Dict({"seen": Box(0, 1 if len(shape) == 2 else 255, shape, np.uint8)})
    sizes = {"width": 2, "code": 11, "units": 13, "hidden": 5, "context": 3}
    return EPVA(space, Discrete(3), **{**sizes, **settings})


def walks(rows: int = 7, steps: int = 6, side: int = 9) -> Segment:
    """Return videos of a pixel that moves to the right, one column a step, in a row of its own."""
    seen = torch.zeros(rows, steps + 1, side, side, dtype=torch.uint8)
    for row in range(rows):
        for t in range(steps + 1):
            seen[row, t, row % side, (row + t) % side] = 1
    nothing = torch.zeros(rows, steps)
    return Segment({"seen": seen}, nothing.long(), nothing, nothing.bool(), ~nothing.bool())


def test_a_frame_is_the_first_one_behind_a_mask() -> None:
    """With the mask shut, every future is the first frame; open, it is what the decoder draws alone."""
    model, segment = make(9, 5, 3), torch.randint(256, (4, 9, 5, 3), dtype=torch.uint8)
    belief, out = model.initial({"seen": segment}), model.decoder.out
    assert out.bias is not None
    found = {}
    with torch.no_grad():
        for shut in (-100.0, 100.0):
            out.bias[-1] = shut
            out.weight[-1] = 0
            found[shut] = model.predict(belief, STILL[:4]).observation["seen"]
    torch.testing.assert_close(found[-100.0], segment.unsqueeze(1).expand(-1, 6, -1, -1, -1).float())
    assert not torch.isclose(found[100.0], found[-100.0]).any(0).all()


def test_only_differences_of_codes_are_drawn() -> None:
    model, belief = make(9, 9), make(9, 9).initial({"seen": walks().observation["seen"][:, 0]})
    change, shift = torch.randn(7, 1, 11), torch.randn(11)
    with torch.no_grad():
        code = model._encode(belief["first"])
        here = model._draw(code.unsqueeze(1) + change, belief["first"])
        model.difference.weight[:, 0] = 0  # so that the first number of a code is not seen
        shift[1:] = 0
        drawn = [model._draw(code.unsqueeze(1) + change + s, belief["first"]) for s in (0 * shift, shift)]
    torch.testing.assert_close(*drawn)
    assert not torch.allclose(here, drawn[0])


@pytest.mark.parametrize("feedback", ["code", "pixels"])
def test_pixels_are_fed_back_by_the_twin_alone(feedback: str) -> None:
    model, first = make(9, 9, feedback=feedback), {"seen": walks().observation["seen"][:, 0]}
    with torch.no_grad():
        codes = []
        for _ in range(2):
            codes.append(model.predict(model.initial(first), STILL).latent[..., :11])
            model.decoder.out.bias += 3
    torch.testing.assert_close(codes[0][:, 0], codes[1][:, 0])
    assert torch.allclose(*codes) == (feedback == "code")


def test_foresight_is_of_codes_that_follow_the_context_alone() -> None:
    model, segment = make(9, 9), walks()
    seen = segment.observation["seen"]
    with torch.no_grad():
        belief = model.initial({"seen": seen[:, 0]})
        belief = model.observe(belief, segment.action[:, :2], {"seen": seen[:, 1:3]})
        alone = model.predict(belief, segment.action[:, 2:]).latent[..., :11]
        codes = model._encode(model.frames.planes(segment.observation))
        missed = (alone - codes[:, 3:]).square().sum((1, 2)).mean()
        both = [float(model.loss(each)[1]["loss/foresight"]) for each in (segment, segment.steps(0, 2))]
    assert 6 * both[0] == pytest.approx(2 * both[1] + float(missed), rel=1e-5)


def test_the_weight_of_foresight_rises_late() -> None:
    model, segment = make(9, 9, foresight=3.0, delay=0.2), walks()
    for progress, part in (
        (0.0, 1 / (1 + math.exp(10))),
        (0.2, 0.5),
        (0.22, 1 / (1 + math.exp(-1))),
        (1.0, 1),
    ):
        model.after_update(progress)
        total, terms = model.loss(segment)
        found = float(
            total.detach() - sum(terms[f"loss/{name}"] for name in ("seen", "reward", "continuation"))
        )
        assert found == pytest.approx(3 * part * float(terms["loss/foresight"]), rel=1e-3, abs=1e-3)


def test_codes_collapse_where_foresight_is_all_that_counts() -> None:
    """The reason for the ramp: codes that are all equal are foreseen without an error."""
    segment, variance = walks(5, 4, 5), []
    for foresight in (0.0, 1000.0):
        model = make(5, 5, foresight=foresight)
        model.after_update(1.0)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(15):
            loss, terms = model.loss(segment)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        variance.append(float(terms["code_variance"]))
    assert variance[0] > 3 * variance[1]


def test_other_spaces_and_values_are_refused() -> None:
    with pytest.raises(SpaceError):
        EPVA(Dict({"place": Box(-1, 1, (2,), np.float32)}), Discrete(3))
    for wrong in ({"feedback": "frames"}, {"delay": 0.0}, {"context": 0}, {"layers": 0}, {"foresight": -1.0}):
        with refused(ConfigError, got=next(iter(wrong.values()))):
            make(9, 9, **wrong)
