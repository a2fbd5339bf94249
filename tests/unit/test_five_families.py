"""The five families: equal numbers of weights, equal steps and updates, and verdicts that seeds carry."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path
from types import ModuleType

import pytest

from wmplay import registry
from wmplay.envs import build_env
from wmplay.runs.pieces import env_config


@pytest.fixture
def families(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    return importlib.import_module("five_families")


def test_equal_weights_steps_and_updates(families: ModuleType) -> None:
    for world, arms in families.ARMS.items():
        weights, amounts, env = [], set(), None
        for mode, arm in itertools.product(families.MODES, arms):
            run = registry.compose(families.command(world, mode, arm, 3))
            episodes = run.collect.random_episodes + run.iterations * run.collect.episodes
            amounts.add((episodes, run.iterations * run.fit.steps))
            if mode == "offline":
                env = env or build_env(env_config(run))
                model = registry.build(run.pieces()["model"], env=env)
                weights.append(sum(parameter.numel() for parameter in model.parameters()))
        assert len(amounts) == 1, world
        assert max(weights) < 1.1 * sum(weights) / len(weights), (world, weights)
        assert min(weights) > 0.9 * sum(weights) / len(weights), (world, weights)


def test_verdicts(families: ModuleType, tmp_path: Path) -> None:
    results = families.Results(tmp_path, "catch", [])
    scores = {"R": -0.5, "OT-OR": 0.5, "OT-LR": 0.52, "LT-OR": 0.5, "LT-LR": 0.49}
    for seed, (arm, score), mode in itertools.product(range(5), scores.items(), families.MODES):
        wrong = {
            "rewards": 1 - score + 0.01 * seed,
            "image": 0.1 * (1 - score),
            "constant": 1,
            "random": -0.6,
        }
        if arm == "R":
            del wrong["image"]
        results.numbers[mode, arm, seed] = {"score": score + 0.01 * seed, **wrong}
    first, second, _, fourth, fifth = results.claims()
    assert ": holds" in first
    assert ": holds" in second
    assert "does not hold" in fourth
    assert ": holds" in fifth
    assert results.table().count("\n") == 1 + 10
    for key in [key for key in results.numbers if key[2] > 3]:
        del results.numbers[key]
    assert all("cannot tell here" in line for line in results.claims())
