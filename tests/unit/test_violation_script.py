"""The table of what models notice: over training, pooled over seeds."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from wmplay import registry


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    return importlib.import_module("violation")


def test_every_run_composes(script: ModuleType) -> None:
    for model in script.MODELS.values():
        settings = registry.compose(["env=behind", *script.EVERYWHERE, *model])
        assert (settings.iterations, settings.evaluate.violation.pairs) == (script.TURNS, script.PAIRS)


def finished(folder: Path, course: list[float]) -> None:
    folder.mkdir(parents=True)
    lines = [json.dumps({"phase": "fit"}), *(json.dumps({"violation/stays": share}) for share in course)]
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    kind = {"pairs": 20, "accuracy": {"model": [0.5, 0, 1]}, "sets": {"model": [course[-1], 0, 1]}}
    (folder / "evaluation.json").write_text(json.dumps({"violation": {"kinds": {"stays": kind}}}))


def test_seeds_are_pooled_and_unfinished_runs_left_out(script: ModuleType, tmp_path: Path) -> None:
    finished(tmp_path / "behind" / "rssm-0", [0.5, 0.6, 0.7, 0.8])
    finished(tmp_path / "behind" / "rssm-1", [0.5, 0.8, 0.9, 1.0])
    finished(tmp_path / "behind" / "rssm-2", [0.5])
    found = script.read(tmp_path)
    head, _, row, *_ = script.table(found).splitlines()
    assert head == "| behind | rssm (2) |"
    assert row.startswith("| `stays` | 50, 70, 80, **90%** [70, 97] |")  # 18 of 20 sets
    (tmp_path / "kept.json").write_text(json.dumps(found))
    assert script.read(tmp_path / "kept.json") == found
