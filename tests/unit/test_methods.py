"""The table of methods on one ground: equal real steps, and nothing that does not compose."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from wmplay import registry
from wmplay.config.settings import Settings


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    return importlib.import_module("methods")


def real_steps(settings: Settings, episode: int) -> int:
    """The real steps of a run, if every episode has the same length."""
    per_turn = settings.collect.episodes * episode
    if settings.improve.steps and settings.improve.world == "real":
        per_turn += settings.improve.steps
    return settings.collect.random_episodes * episode + settings.iterations * per_turn


@pytest.mark.parametrize(
    ("ground", "episode", "steps"), [("pendulum", 200, 2_000), ("luxo", 100, 20_000), ("catch", 9, 3_150)]
)
def test_all_methods_have_equal_real_steps(
    methods: ModuleType, ground: str, episode: int, steps: int
) -> None:
    for method, grounds in methods.METHODS.items():
        if ground not in grounds or method == "oracle":
            continue
        settings = registry.compose(methods.command(method, ground, 3))
        assert real_steps(settings, episode) == steps, method
        assert settings.seed == 3
        assert settings.evaluate.policy.episodes == methods.EPISODES[ground]
        assert settings.evaluate.every == settings.iterations


def finished(path: Path, policies: dict[str, Any]) -> Path:
    path.mkdir(parents=True)
    (path / "evaluation.json").write_text(json.dumps({"policies": policies}))
    last = {"real_steps": 2000, "step": 700, "learned_steps": 90}
    (path / "metrics.jsonl").write_text(f'{{"real_steps": 200}}\n{json.dumps(last)}\n')
    return path


def test_the_table_of_what_is_kept(
    methods: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "FILE", tmp_path / "methods.json")
    methods.FILE.write_text("[]")
    random = {"mean_return": [-1300.0, 0, 0]}
    sampled = {"mean_return": [-400.0, 0, 0]}
    runs = [("mbpo", 0, {"policy": random, "policy_sampled": sampled, "random": random})]
    runs += [
        ("pets, mean", seed, {"policy": {"mean_return": [own, 0, 0]}, "random": random})
        for seed, own in ((0, 11.0), (1, -170.0), (0, -150.0))
    ]
    for number, (method, seed, scores) in enumerate(runs):
        row = methods.said(finished(tmp_path / str(number), scores), "pendulum")
        methods.kept({"ground": "pendulum", "method": method, "seed": seed, **row, "seconds": 11})
    _, _, *rows = methods.table(json.loads(methods.FILE.read_text()), "pendulum").splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[0] for row in cells] == ["pets, mean", "mbpo", "random"]
    assert cells[0][1:5] == ["2,000", "700", "90", "-150 / -170"]
    assert cells[0][5].startswith("-160 [")
    assert cells[1][5:] == ["-400", "11"]
    assert cells[2][5] == "-1,300"
