"""Trains every method on one ground, with equal real steps, and prints one table.

    nice python scripts/methods.py runs/methods                     all runs that are not yet finished
    nice python scripts/methods.py runs/methods --ground luxo --seeds 0 1 --methods pets mbpo
    nice python scripts/methods.py runs/methods --table             what the finished runs say, as Markdown

The grounds are Pendulum-v1 from state after 2,000 real steps, Luxo's body goal after 20,000 at most, and
Catch from its screen after 3,150. Each run is a directory <ground>/<method>-<seed>, which `wmplay report`
shows; a stopped one goes on. The seeds come first, so that a drift of the machine meets all methods alike.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

import wmplay
from wmplay.evaluation.statistics import mean_interval

EPISODES = {"pendulum": 10, "luxo": 256, "catch": 100}  # of each evaluation
TURNS = {"pendulum": 9, "luxo": 9, "catch": 5}  # after a random beginning
EVERYWHERE = ["threads=1", "report=false", "evaluate.prediction.episodes=0", "evaluate.generation.clips=0"]
GROUNDS = {
    "pendulum": ["env=gym", "env.id=Pendulum-v1", "collect.random_episodes=1", "collect.episodes=1"],
    "luxo": ["env=luxo", "env.task=body_goal", "collect.random_episodes=20", "collect.episodes=20"],
    "catch": ["env=catch", "collect.random_episodes=100", "collect.episodes=50"],
}
# without data and in one turn
ALONE = ["fit.steps=0", "collect.random_episodes=0", "collect.episodes=0", "iterations=1", "evaluate.every=1"]
REAL = [  # practice in the real world alone, in one turn
    *("policy=ppo", "model=null", "planner=null", "objective=null", "explorer=null", *ALONE),
    *("improve.world=real", "improve.num_envs=10"),
]
TO_GOALS = ["objective=goal_distance", "model.reward_weight=0", "model.continuation_weight=0"]
METHODS = {  # the overrides of each on the grounds where it can be
    "oracle": {  # the ceiling: plans in the world itself
        "pendulum": ["experiment=pets", "model=oracle", "planner.particles=0", *ALONE],
        "catch": ["model=oracle", "planner=random_shooting", "planner.horizon=9", "explorer=null", *ALONE],
    },
    "pets": {"pendulum": ["experiment=pets"], "luxo": ["experiment=pets", "model.frames=2", *TO_GOALS]},
    "pets, mean": {
        "pendulum": ["experiment=pets", "planner.particles=0"],
        "luxo": ["experiment=pets", "planner.particles=0", "model.frames=2", *TO_GOALS],
    },
    "mlp + cem": {
        "pendulum": ["experiment=planet_cartpole"],
        "luxo": ["experiment=planet_cartpole", *TO_GOALS],
    },
    "tdmpc2": {
        "pendulum": ["experiment=tdmpc2"],
        "luxo": [
            "experiment=tdmpc2",
            "model.frames=3",
            "model.continuation_weight=1",
            "fit.replay_ratio=0.2",
        ],
    },
    "mbpo": {
        "pendulum": ["experiment=mbpo"],
        "luxo": ["experiment=mbpo", "model.frames=2", "learned.reward=task"],
    },
    "sac, as many updates": {
        "pendulum": ["experiment=mbpo", "policy.real_fraction=1"],
        "luxo": ["experiment=mbpo", "policy.real_fraction=1", "learned.reward=task"],
    },
    "dreamer v3": {"pendulum": ["experiment=dreamer_v3"], "luxo": ["experiment=dreamer_v3"]},
    "muzero": {"catch": ["experiment=muzero"]},
    "simple": {"catch": ["experiment=simple"]},
    "ppo, real": {
        "pendulum": [*REAL, "improve.steps=2000", "policy.rollout=20"],
        "luxo": [*REAL, "improve.steps=20000", "policy.rollout=20"],
        "catch": ["experiment=simple", *REAL, "improve.steps=3150", "policy.rollout=35"],
    },
}


def command(method: str, ground: str, seed: int) -> list[str]:
    """Return the overrides of a run; a method's own replace those of the ground."""
    parts, turns = METHODS[method][ground], TURNS[ground]
    experiment = [text for text in parts if text.startswith("experiment=")]
    own = [text for text in parts if text not in experiment]
    given = {text.partition("=")[0] for text in own}
    shared = [
        f"iterations={turns}",
        f"evaluate.every={turns}",
        f"evaluate.policy.episodes={EPISODES[ground]}",
    ]
    shared = [*EVERYWHERE, *shared, *GROUNDS[ground]]
    return [*experiment, *(x for x in shared if x.partition("=")[0] not in given), *own, f"seed={seed}"]


def place(folder: Path, method: str, ground: str, seed: int) -> Path:
    """Return the directory of a run."""
    return folder / ground / f"{method.replace(', ', '_').replace(' ', '_')}-{seed}"


def train(folder: Path, method: str, ground: str, seed: int) -> None:
    """Train a method, or go on; leave a finished run as it is."""
    path = place(folder, method, ground, seed)
    if (path / "run.json").exists():
        if json.loads((path / "run.json").read_text()).get("status") != "finished":
            wmplay.train([f"run={path}"])
        return
    wmplay.train(command(method, ground, seed), dir=path)


def scores(path: Path) -> dict[str, Any] | None:
    """Return {policy: its score} of a run, None unless it is finished."""
    file = path / "evaluation.json"
    if not file.exists() or json.loads((path / "run.json").read_text()).get("status") != "finished":
        return None
    found: dict[str, Any] = json.loads(file.read_text())["policies"]
    return found


def table(folder: Path, ground: str, seeds: list[int]) -> str:
    """Return the finished runs of a ground as a Markdown table: the mean over episodes of each seed."""
    lines = [
        "| method | real steps | seeds | mean [95% t interval over seeds] | seconds, each |",
        "|---|---|---|---|---|",
    ]
    floor: list[float] = []
    for method in METHODS:
        values, steps, seconds = [], [], []
        for seed in seeds:
            path = place(folder, method, ground, seed)
            found = scores(path)
            if found is None:
                continue
            values.append(value(found.get("policy_sampled", found["policy"]), ground))
            floor.append(value(found["random"], ground))
            last = json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])
            steps.append(last["real_steps"])
            seconds.append(sum(json.loads((path / "run.json").read_text())["wall"].values()))
        if values:
            mean, low, high = mean_interval(np.array(values))
            interval = f" [{shown(low)}, {shown(high)}]" if len(values) > 1 else ""
            each, took = " / ".join(shown(x) for x in values), f"{np.mean(seconds):.0f}"
            lines.append(f"| {method} | {np.mean(steps):,.0f} | {each} | {shown(mean)}{interval} | {took} |")
    if floor:
        lines.append(f"| random | 0 | | {shown(float(np.mean(floor)))} | |")
    return "\n".join(lines)


def value(score: dict[str, Any], ground: str) -> float:
    """Return the mean return, or the success in percent where there is a goal."""
    return float(100 * score["success"][0] if ground == "luxo" else score["mean_return"][0])


def shown(number: float) -> str:
    """Return a number with two decimals if it is small, else with none."""
    return f"{number:.2f}" if abs(number) < 10 else f"{number:,.0f}"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ground", choices=GROUNDS, default="pendulum")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="train nothing")
    given = parser.parse_args()
    if not given.table:
        for seed, method in itertools.product(given.seeds, given.methods):
            if given.ground in METHODS[method]:
                train(given.folder, method, given.ground, seed)
    print(table(given.folder, given.ground, given.seeds))


if __name__ == "__main__":
    main()
