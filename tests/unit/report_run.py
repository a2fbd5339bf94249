"""A run directory as a run leaves it, built without running anything."""

import json

import numpy as np
from conveyor import Conveyor, episodes

from wmplay.evaluate import evaluate_prediction, predict_clips, score_episodes
from wmplay.scores import save_evaluation


def write_run(path, *, late=1, seed=0, overrides=(), success=True, **info):
    path.mkdir(parents=True, exist_ok=True)
    (path / "run.json").write_text(
        json.dumps(
            {
                "name": "conveyor <belt>",
                "seed": seed,
                "overrides": [*overrides, f"seed={seed}"],
                "command": "wmplay train env=conveyor",
                "versions": {"python": "3.11", "wmplay": "0.1.0"},
                "git": "abc1234",
                "machine": {"system": "Linux", "threads": 2, "cuda": []},
                "started": "2026-11-03T10:12:44",
                "status": "finished",
                "wall": {"collect": 0.5, "fit": 61.2, "improve": 0.0, "evaluate": 3.0},
                **info,
            }
        )
    )
    (path / "config.yaml").write_text("seed: 0\nenv:\n  name: <conveyor>\n")
    write_metrics(path, range(0, 1000, 5))
    store = episodes(11, seed=seed, goal=True)
    save_evaluation(
        path,
        prediction=evaluate_prediction(Conveyor(late=late), store, horizon=7, samples=2),
        clips=predict_clips(Conveyor(late=late), store, horizon=7),
        episodes=[*episodes(1, goal=True, terminated=True, steps=5), *episodes(1, goal=True, steps=7)],
        policy=score_episodes(episodes(5, goal=True, terminated=success), seed),
        random=score_episodes(episodes(5, goal=True), seed),
    )
    return path


def write_metrics(path, steps):
    rng = np.random.default_rng(0)
    lines = [
        {
            "step": step,
            "phase": "fit",
            "iteration": 0,
            "time": 1.0,
            "loss/total": 9 / (1 + step),
            "fit/lr": 1e-3,
        }
        for step in steps
    ]
    for iteration in range(3):
        where = {"step": 100 * iteration, "iteration": iteration, "time": 1.0}
        value = float(rng.random())
        lines.append({**where, "phase": "collect", "collect/return": value})
        ends = {
            "policy/success": value,
            "policy/success_low": value - 0.1,
            "policy/success_high": value + 0.1,
        }
        lines.append({**where, "phase": "evaluate", **ends, "prediction/lcd/iou@5": value})
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
