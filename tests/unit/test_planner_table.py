"""The table of planners: equal calls, and optima that no plan exceeds."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    module = importlib.import_module("planners")
    monkeypatch.setattr(module, "SEEDS", range(2))
    return module


def test_no_planner_has_more_calls_or_a_better_plan_than_there_is(table: ModuleType) -> None:
    calls, planned = 1_000, 0
    grounds = [(table.cart(), table.PLANNERS), (table.exact("catch", 9), (*table.PLANNERS, table.TREES[1]))]
    for ground, names in grounds:
        for name in names:
            row = table.planned(ground, name, calls)
            if row is None:
                assert "gradient" in name or name in ("gradcem", "lagrangian")
                continue
            planned += 1
            assert 0.5 * calls <= row["counted"] <= 1.02 * calls, name
            assert row["lacking"][0] >= -1e-4, name
    assert planned == 7 + 5


def test_the_optimum_of_a_bounded_cart_keeps_its_bound_at_a_cost(table: ModuleType) -> None:
    model, start = table.Cart(), torch.tensor([0.5, 0.0])
    free, far, near = model.best(start), model.best(start, 0.4), model.best(start, 0.2)
    assert free == pytest.approx(far)
    assert near < free
