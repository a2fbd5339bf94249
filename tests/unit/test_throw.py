"""Throws by gradient through a simulator: the true answer of a known one, and the script at a tiny size."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

import wmplay


@pytest.fixture
def throw(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    return importlib.import_module("throw")


def flight(throws: torch.Tensor, steps: int) -> torch.Tensor:
    """Places [B, steps, 2] of a ball that nothing stops, with a known Jacobian of a tenth of the step."""
    time = 0.1 * torch.arange(1, steps + 1).double()
    return throws.double()[:, None] * time[:, None] - torch.stack([0 * time, 5 * time**2], -1)


@pytest.mark.parametrize("method", ["by_gradient", "by_cem"])
def test_a_known_flight_is_solved(throw: ModuleType, method: str) -> None:
    goals = flight(throw.draw_throws(5, seed=3), 10)[:, -1]
    found = getattr(throw, method)(flight, goals, 10, 200, 0)
    assert (flight(found, 10)[:, -1] - goals).norm(dim=-1).median() < 0.1
    jacobian = throw._jacobians(flight, found, 4)
    assert torch.allclose(jacobian[:, 3], 0.4 * torch.eye(2).double().expand(5, 2, 2))


def test_the_real_world_answers_to_throws_as_the_prompt_assumes(throw: ModuleType) -> None:
    """The second frame that the model is shown is the real one."""
    real = throw.RealWorld()
    torch.manual_seed(0)
    model = wmplay.make("model", "mlp", env=real.env, hidden=13, image_hidden=7, frames=2).eval()
    learned, throws = throw.LearnedWorld(model, real), torch.tensor([[3.0, -1.0], [-2.0, 4.0]])
    assert torch.allclose(learned(throws, 2)[:, 0], real(throws, 1)[:, 0], atol=1e-3)
    rows = throw.compare(model, 2, 5)
    assert [row["by"] for row in rows] == ["gradient", "gradient, 5 starts", "cem", "first throw"] * 2

    first = throw.gradients(model, 2, 3)[0]
    assert first["model"] == pytest.approx(first["real"], rel=0.02) == pytest.approx(0.1 * 2**0.5, rel=0.02)
