"""Bits per video of Shapes16: no model needs fewer than 3, and a script that measures them says so."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import wmplay
from wmplay.envs.exact.shapes16 import Shapes16
from wmplay.models.video.sv2p import SV2P, Rollout

SMALL: dict[str, Any] = {"channels": 2, "kernels": 3, "kernel_size": 3, "hidden": 7, "draws": 2}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    torch.manual_seed(1)
    return importlib.import_module("shapes_bits")


class Leaky(SV2P):
    """A model that predicts the frame that it has seen."""

    def _practise(self, frames: Tensor, conditions: Tensor) -> Rollout:
        return super()._practise(frames, conditions)._replace(after=frames[:, 1:])


def built(kind: type[SV2P], **settings: Any) -> SV2P:
    world = Shapes16()
    return kind(world.observation_space, world.action_space, **{**SMALL, **settings}).eval()


def test_all_videos_are_equally_likely(script: ModuleType) -> None:
    every = script.videos()
    assert every.shape == (36, 8, 5, 16, 16)
    assert len(every.flatten(0, 1).flatten(1).unique(dim=0)) == 288
    assert (
        len(every[:, :, 0].flatten(0, 1).flatten(1).unique(dim=0)) == 36
    )  # the first frame tells no direction


@pytest.mark.parametrize(("stochastic", "least"), [(True, 3.0), (False, 20.1)])
def test_no_model_is_below_the_optimum(script: ModuleType, stochastic: bool, least: float) -> None:
    bound, estimate = script.bits(built(SV2P, stochastic=stochastic), script.videos()[::5], 2)
    assert bound > least
    assert estimate > least


def test_a_bound_below_the_optimum_is_an_error(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    model = built(Leaky, posterior_from=1.0)
    monkeypatch.setattr(wmplay, "load_run", lambda path: SimpleNamespace(model=model))
    monkeypatch.setattr(script, "drawn", lambda model, every: (0.0, 1.0))
    monkeypatch.setattr(sys, "argv", ["shapes_bits.py", "run", "--draws", "1"])
    with pytest.raises(SystemExit, match="optimum"):
        script.main()
