"""Runs, exports, stores and sweeps of version 0.1.0 are read by this one, with the same numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import wmplay
from wmplay.cli import main

WORLD = ("task=body_goal", "physics=fast", "max_steps=7")
RELEASE = Path(__file__).parents[1] / "fixtures" / "release_0.1"
EXPECTED: dict[str, dict[str, Any]] = json.loads((RELEASE / "expected.json").read_text())


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    shutil.unpack_archive(RELEASE / "pieces.tar.xz", folder)
    return folder


@pytest.fixture
def there(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(unpacked)
    return unpacked


@pytest.mark.parametrize("path", [path for path in EXPECTED if not path.startswith("stores")])
@pytest.mark.usefixtures("there")
def test_a_run_predicts_what_it_did(path: str) -> None:
    run, expected = wmplay.load_run(path), EXPECTED[path]
    assert type(run.env).__name__ == expected["env"]
    assert type(run.policy).__name__ == expected["policy"]
    assert type(run.model).__name__ == expected["model"]
    if "predicted" in expected:
        store = wmplay.load_trajectories(Path("runs") / Path(path).name / "trajectories")
        batch = store.sample(batch_size=2, length=4, generator=0)
        belief = wmplay.observe(run.model, batch, context=2)
        future = wmplay.predict(run.model, belief, batch.action[:, 1:])
        means = {key: float(value.detach().double().mean()) for key, value in future.observation.items()}
        assert means == pytest.approx(expected["predicted"], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("path", [path for path in EXPECTED if path.startswith("stores")])
@pytest.mark.usefixtures("there")
def test_a_store_holds_what_it_did(path: str) -> None:
    store, expected = wmplay.load_trajectories(path), EXPECTED[path]
    assert len(store) == expected["episodes"]
    assert len(store[0].reward) == expected["length"]
    sums = {key: float(value.astype("float64").sum()) for key, value in store[0].observation.items()}
    assert sums == pytest.approx(expected["sums"])


@pytest.mark.parametrize("path", ["runs/rssm", "runs/ppo", "runs/plugin", "runs/sac"])
@pytest.mark.usefixtures("there")
def test_a_run_goes_on(path: str) -> None:
    assert main(["train", f"run={path}", "iterations=3", "report=false"]) == 0


def test_finished_jobs_of_a_sweep_are_not_run_again(there: Path) -> None:
    metrics = {path: path.read_bytes() for path in there.glob("sweep/*/metrics.jsonl")}
    assert main(["train", "-m", "hydra.sweep.dir=sweep"]) == 0
    assert {path: path.read_bytes() for path in there.glob("sweep/*/metrics.jsonl")} == metrics
    assert len(metrics) == 2


@pytest.mark.usefixtures("there")
def test_a_store_goes_on_growing() -> None:
    before = len(wmplay.load_trajectories("stores/luxo"))
    assert main(["simulate", "luxo", "--episodes", "2", "--out", "stores/luxo", "max_steps=7"]) == 0
    assert len(wmplay.load_trajectories("stores/luxo")) == before + 2


@pytest.mark.usefixtures("there")
def test_an_export_acts_in_the_world() -> None:
    assert (
        main(["simulate", "luxo", "--run", "exports/rssm", "--out", "acted", "--episodes", "2", *WORLD]) == 0
    )
