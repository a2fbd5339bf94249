"""The script that holds policies against their peers: what it writes down, and what it makes of it."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def verify(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    return importlib.import_module("verify_policies")


def test_each_run_is_done_once(verify: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = verify.Budget(20, 2, {"hidden": 7, "rollout": 5, "minibatch": 5})
    monkeypatch.setattr(verify, "BUDGETS", {("ppo", "luxo"): small})
    monkeypatch.setattr(verify, "EPISODES", 2)
    results = tmp_path / "runs" / "results.jsonl"
    for seed in (0, 1, 0):
        verify.run_one(results, None, "ppo", "luxo", "wmplay", seed)
    records = verify.read(results)
    assert [(record["seed"], record["taken"]) for record in records] == [(0, 20), (1, 20)]
    assert all(0 <= record[kind]["success"] <= 1 for record in records for kind in ("sampled", "mean"))


def test_the_table_compares_speeds_and_gives_intervals(verify: ModuleType) -> None:
    def record(side: str, seed: int, score: float, seconds: float) -> dict[str, object]:
        scores = {"return": -score, "success": score}
        return {
            "task": "luxo",
            "algorithm": "sac",
            "steps": 100,
            "side": side,
            "seed": seed,
            "taken": 105,
            "seconds": seconds,
            "cpu_seconds": seconds / 3,
            "sampled": scores,
            "mean": {**scores, "success": 0.5},
        }

    peer = [record("sb3", seed, 0.9, 21.0) for seed in range(3)]
    ours = [record("wmplay", seed, score, 7.0) for seed, score in enumerate((0.7, 0.8, 0.9))]
    _, _, first, second = verify.table([*peer, *ours]).splitlines()
    assert first.startswith("| luxo | sac | 100 | sb3 | 3 | 0.900 [0.900, 0.900] | 0.500 [0.500, 0.500] |")
    assert first.endswith("| 5 | 3.00 x | 15 | 3.00 x |")
    assert second.startswith("| luxo | sac | 100 | wmplay | 3 | 0.800 [0.552, 1.048] |")
    assert second.endswith("| 15 | 1.00 x | 45 | 1.00 x |")
