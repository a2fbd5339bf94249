"""Trains every method on one ground, with equal real steps, and prints one table.

    nice python scripts/methods.py runs/methods                     all runs that are not yet finished
    nice python scripts/methods.py runs/methods --ground luxo --seeds 0 1 --methods pets mbpo
    python scripts/methods.py table                                 what has been measured, as Markdown

The grounds are Pendulum-v1 from state after 2,000 real steps, Luxo's body goal after 20,000 at most, and
Catch from its screen after 3,150. Each run is a directory <ground>/<method>-<seed>, which `wmplay report`
shows; a stopped one goes on. The seeds come first, so that a drift of the machine meets all methods alike.
What is measured goes to docs/measured/methods.json after each run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import wmplay
from wmplay.evaluation.statistics import mean_interval

FILE = Path(__file__).parents[1] / "docs" / "measured" / "methods.json"
EPISODES = {"pendulum": 10, "luxo": 128, "catch": 100}  # of each evaluation
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
QUICK = ["planner.horizon=12", "planner.candidates=32", "planner.iterations=2"]  # the quickstart's, for Luxo
RSSM = [  # small, for what is seen at once
    *("model=rssm", "model.deter=64", "model.stoch=16", "model.hidden=64"),
    *("fit.lr=3e-3", "fit.batch_size=32", "fit.length=16"),
]
IN_MODEL = [  # PPO practises in the model
    *("experiment=sim2real_engine", "collect.env={}", "collect.num_workers=0"),
    *("policy.changes=true", "improve.num_envs=256"),
]
# by the model's rewards, from any stored state: the episodes of Pendulum begin alike
BY_MODEL = ["model.reward_weight=1", "learned.reward=model", "learned.starts=store", "learned.context=3"]
ONCE = ["iterations=1", "evaluate.every=1", "collect.episodes=0"]
METHODS = {  # the overrides of each on the grounds where it can be
    "oracle": {  # the ceiling: plans in the world itself
        "pendulum": ["experiment=pets", "model=oracle", "planner.particles=0", *ALONE],
        "luxo": [
            *("experiment=quickstart", "collect.env={}", "collect.num_workers=0", "model=oracle"),
            *("planner.candidates=32", "planner.iterations=2", "evaluate.policy.episodes=16", *ALONE),
        ],
        "catch": ["model=oracle", "planner=random_shooting", "planner.horizon=9", "explorer=null", *ALONE],
    },
    "mlp + cem": {
        "pendulum": ["experiment=planet_cartpole"],
        "luxo": ["experiment=planet_cartpole", *QUICK, *TO_GOALS],
    },
    "rssm + cem": {
        "pendulum": ["experiment=planet_cartpole", *RSSM],
        "luxo": ["experiment=planet_cartpole", "model=rssm", "fit.lr=3e-3", *QUICK, *TO_GOALS],
    },
    "pets": {
        "pendulum": ["experiment=pets"],
        "luxo": ["experiment=pets", "model.frames=2", "planner.particles=2", *QUICK, *TO_GOALS],
    },
    "pets, mean": {
        "pendulum": ["experiment=pets", "planner.particles=0"],
        "luxo": ["experiment=pets", "planner.particles=0", "model.frames=2", *QUICK, *TO_GOALS],
    },
    "tdmpc2": {
        "pendulum": ["experiment=tdmpc2"],
        "luxo": [
            *("experiment=tdmpc2", "model.frames=3", "model.continuation_weight=1"),
            *("fit.replay_ratio=0.1", "policy.replan_every=2"),
        ],
    },
    "dreamer v3": {
        "pendulum": ["experiment=dreamer_v3"],
        "luxo": [  # its model does not see goals, and cannot know their rewards
            *("experiment=dreamer_v3", "env.reward=progress", "policy.reward=task", "model.keys=[proprio]"),
            *("model.reward_weight=0", "model.continuation_weight=0"),
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
    "sim2real engine": {
        "pendulum": [*IN_MODEL, *BY_MODEL, "fit.steps=200", "improve.steps=50000"],
        "luxo": [*IN_MODEL, "env.reward=progress", "fit.steps=500", "improve.steps=200000"],
    },
    "ppo, in a model of random data": {
        "pendulum": [
            *(*IN_MODEL, *BY_MODEL, *ONCE, "collect.random_episodes=10"),
            *("fit.steps=1800", "improve.steps=450000"),
        ],
        "luxo": [
            *(*IN_MODEL, *ONCE, "env.reward=progress", "collect.random_episodes=200"),
            *("fit.steps=4500", "improve.steps=1800000"),
        ],
    },
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


def train(folder: Path, method: str, ground: str, seed: int) -> dict[str, Any] | None:
    """Train a method, or go on, and return its row; leave a finished run as it is, and return None."""
    path = folder / ground / f"{method.replace(', ', '_').replace(' ', '_')}-{seed}"
    started = (path / "run.json").exists()
    if started and json.loads((path / "run.json").read_text()).get("status") == "finished":
        return None
    begin = time.process_time()
    if started:
        wmplay.train([f"run={path}"])
    else:
        wmplay.train(command(method, ground, seed), dir=path)
    spent = None if started else round(time.process_time() - begin)
    return {"ground": ground, "method": method, "seed": seed, **said(path, ground), "seconds": spent}


def said(path: Path, ground: str) -> dict[str, Any]:
    """Return the real steps, updates of the model and practised steps of a finished run, and its scores."""
    last = json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])
    scores = json.loads((path / "evaluation.json").read_text())["policies"]
    what = "success" if ground == "luxo" else "mean_return"
    counts = {"real_steps": last["real_steps"], "updates": last["step"], "practised": last["learned_steps"]}
    return counts | {name: [round(x, 3) for x in score[what]] for name, score in scores.items()}


def kept(row: dict[str, Any]) -> None:
    """Add a row to the file, in the place of an earlier one of the same run."""
    which = [row[key] for key in ("ground", "method", "seed")]
    rows = json.loads(FILE.read_text())
    others = [each for each in rows if [each[key] for key in ("ground", "method", "seed")] != which]
    order, grounds = list(METHODS), list(GROUNDS)
    found = sorted(
        [*others, row], key=lambda x: (grounds.index(x["ground"]), order.index(x["method"]), x["seed"])
    )
    FILE.write_text("[\n" + ",\n".join(map(json.dumps, found)) + "\n]\n")


def table(rows: list[dict[str, Any]], ground: str) -> str:
    """Return what is known of a ground as Markdown: the mean over episodes of each seed."""
    lines = [
        "| method | real steps | updates | practised | seeds | mean [95% t interval over seeds] | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    here = [row for row in rows if row["ground"] == ground]
    for method in METHODS:
        runs = [row for row in here if row["method"] == method]
        if not runs:
            continue
        values = [100 ** (ground == "luxo") * row.get("policy_sampled", row["policy"])[0] for row in runs]
        mean, low, high = mean_interval(np.array(values))
        cells = [method, *(count(runs, key) for key in ("real_steps", "updates", "practised"))]
        cells += [" / ".join(map(shown, values))]
        cells += [shown(mean) + (f" [{shown(low)}, {shown(high)}]" if len(values) > 1 else "")]
        lines.append(f"| {' | '.join([*cells, count(runs, 'seconds')])} |")
    if here:
        floor = np.mean([100 ** (ground == "luxo") * row["random"][0] for row in here])
        lines.append(f"| random | 0 | | | | {shown(float(floor))} | |")
    return "\n".join(lines)


def count(runs: list[dict[str, Any]], key: str) -> str:
    """Return the mean of a number over runs, empty if it is not known."""
    known = [row[key] for row in runs if row.get(key) is not None]
    return f"{np.mean(known):,.0f}" if known else ""


def shown(number: float) -> str:
    """Return a number with two decimals if it is small, else with none."""
    return f"{number:.2f}" if abs(number) < 10 else f"{number:,.0f}"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of the runs, or 'table'")
    parser.add_argument("--ground", choices=GROUNDS, default="pendulum")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    given = parser.parse_args()
    if given.folder == Path("table"):
        print("\n\n".join(table(json.loads(FILE.read_text()), ground) for ground in GROUNDS))
        return
    for seed, method in itertools.product(given.seeds, given.methods):
        if given.ground in METHODS[method]:
            row = train(given.folder, method, given.ground, seed)
            if row is not None:
                kept(row)
    print(table(json.loads(FILE.read_text()), given.ground))


if __name__ == "__main__":
    main()
