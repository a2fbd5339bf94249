"""Plans to goals across a region that should not be entered, with and without a constraint.

    nice python scripts/hazard.py runs/hazard             fits a model if there is none, and prints the table
    nice python scripts/hazard.py runs/hazard --episodes 8

All policies have the same starts, goals and model. Plans are those of ``planner=lagrangian`` in the model;
one objective has the depth in the hazard as a constraint, the other does not know the hazard.
"""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import wmplay
from wmplay import registry
from wmplay.evaluation.metrics.policy import score_episodes
from wmplay.evaluation.scores import PolicyScore
from wmplay.policies.mpc import MPC

FIT = [
    *("experiment=quickstart", "env=luxo_hazard", "env.physics=fast", "collect.env.hazard=null"),
    *("planner=lagrangian", "objective=safe_goal_distance", "collect.num_workers=0", "threads=1"),
    *("collect.random_episodes=600", "fit.steps=1000", "report=false"),
    *("evaluate.policy.episodes=0", "evaluate.prediction.episodes=0", "evaluate.generation.clips=0"),
]
OBJECTIVES = {"without the constraint": "goal_distance", "with the constraint": "safe_goal_distance"}
REPLAN = 4  # steps to follow a plan


def evaluated(run: Any, objective: str | None, episodes: int, seed: int) -> PolicyScore:
    """Return the score of a planner with an objective, or of random actions without one."""
    policy = None
    world = wmplay.make_env("luxo_hazard", physics="fast")
    if objective is not None:
        parts = {
            "planner": registry.make(
                "planner", "lagrangian", action_space=world.action_space, rounds=4, candidates=6
            ),
            "objective": registry.make("objective", objective, env=world),
        }
        policy = MPC(run.model, **parts, replan_every=REPLAN, env=world)
    with closing(wmplay.make_env("luxo_hazard", physics="fast", num_envs=episodes)) as env:
        return score_episodes(wmplay.simulate(env, policy, episodes=episodes, seed=seed), seed)


def table(found: dict[str, PolicyScore]) -> str:
    """Return the scores as a Markdown table."""
    lines = ["| plan | goal reached | steps in the hazard per episode | episodes that entered it |"]
    lines.append("|---|---|---|---|")
    for name, score in found.items():
        assert score.mean_cost is not None
        assert score.costs is not None
        assert score.success is not None
        success, cost = score.success, score.mean_cost
        entered = sum(each > 0 for each in score.costs)
        lines.append(
            f"| {name} | {100 * success.value:.0f}% [{100 * success.low:.0f}, {100 * success.high:.0f}] | "
            f"{cost.value:.2f} [{cost.low:.2f}, {cost.high:.2f}] | {entered} of {score.episodes} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Fit the model if it is missing, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    path = options.folder / f"seed_{options.seed}"
    if not (path / "run.json").exists():
        wmplay.train([*FIT, f"seed={options.seed}"], dir=path)
    run = wmplay.load_run(path)
    found = {}
    for name, objective in {"random actions": None, **OBJECTIVES}.items():
        found[name] = evaluated(run, objective, options.episodes, options.seed)
        kept = {each: {"successes": score.successes, "costs": score.costs} for each, score in found.items()}
        (path / "hazard.json").write_text(json.dumps(kept) + "\n")
        print(table(found), flush=True)


if __name__ == "__main__":
    main()
