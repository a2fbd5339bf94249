"""The script that compares a GPU with the CPU, here with the CPU alone: its arithmetic, and that it runs."""

from __future__ import annotations

import importlib
import math
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch
from small_models import ACTIONS, OBSERVATIONS, make_model, segment

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("verify_gpu")
    monkeypatch.setattr(module, "DRAWS", 2)
    monkeypatch.setattr(module, "CONTEXT", 2)
    return module


def report(gpu: ModuleType, seconds: float = 100.0) -> object:
    return gpu.Report(torch.device("cpu"), True, time.monotonic() + seconds)


def test_differences_are_parts_of_the_largest_value(gpu: ModuleType) -> None:
    one, other = {"a": torch.tensor([4.0, 1.0]), "b": None}, {"a": torch.tensor([4.0, 3.0]), "b": None}
    assert gpu.difference(one, other) == 0.5
    found = report(gpu)
    for value in (0.5, math.nan):
        found.differs("it", value, 0.1)
    found.differs("it", 0.05, 0.1)
    assert len(found.broken) == 2


def test_a_model_is_like_itself_and_what_there_is_no_time_for_is_said(gpu: ModuleType) -> None:
    space, actions = OBSERVATIONS["screen and vector"], ACTIONS["continuous"]
    models, data = [("mlp", make_model("mlp", space, actions))], segment(space, actions)
    for section in (gpu.parity_of_models, gpu.speed_of_updates, gpu.compiled):
        found, late = report(gpu), report(gpu, -1.0)
        section(found, models, data)
        section(late, models, data)
        assert not found.broken
        assert any("`mlp`" in part for part in found.parts)
        assert not any("`mlp`" in part for part in late.parts)
