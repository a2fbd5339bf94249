"""The script that keeps the scores of runs: rows by command and seed, and their table."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    return importlib.import_module("seeds")


def finished(path: Path, seed: int, means: list[float], name: str = "return") -> Path:
    """A run that was evaluated after 10, 20, ... real steps."""
    path.mkdir()
    overrides = ["experiment=tiny", "fit.lr=0.1", f"seed={seed}", f"dir={path}"]
    run = {"overrides": overrides, "seed": seed, "git": "abc", "wall": {"fit": 1.25, "collect": 1}}
    (path / "run.json").write_text(json.dumps(run))
    lines = [{"step": 0, "phase": "collect", "real_steps": 10, "collect/return": 99.0}]
    for number, mean in enumerate(means, 1):
        scores = {f"policy/{name}{end}": mean + x for end, x in (("", 0), ("_low", -1), ("_high", 1))}
        counts = {"real_steps": 10 * number, "learned_steps": 7, "step": 3 * number}
        lines.append({"phase": "evaluate", **counts, **scores})
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_row_holds_every_evaluation_and_no_place(seeds: ModuleType, tmp_path: Path) -> None:
    row = seeds.measured(finished(tmp_path / "a", 4, [2.0, 5.0]))
    assert (row["command"], row["seed"], row["commit"], row["seconds"]) == (
        "experiment=tiny fit.lr=0.1",
        4,
        "abc",
        2,
    )
    assert [score["policy"] for score in row["scores"]] == [[2, 1, 3], [5, 4, 6]]
    assert [score["real_steps"] for score in row["scores"]] == [10, 20]
    success = seeds.measured(finished(tmp_path / "b", 4, [0.5], "success"))
    assert success["scores"][0]["policy"][0] == 0.5


def test_seeds_are_added_and_replaced(
    seeds: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "kept.json"
    for name, seed, mean in (("a", 0, 100.0), ("b", 1, 300.0), ("c", 0, 500.0)):
        monkeypatch.setattr(
            sys, "argv", ["seeds.py", str(file), str(finished(tmp_path / name, seed, [mean]))]
        )
        seeds.keep(seeds.measured, seeds.table, None)
    assert [(row["seed"], row["scores"][0]["policy"][0]) for row in json.loads(file.read_text())] == [
        (0, 500),
        (1, 300),
    ]
    last = capsys.readouterr().out.splitlines()[-1]
    assert "500 (0) / 300 (1)" in last
    assert "400 [-871, 1,671]" in last  # t of one degree of freedom
