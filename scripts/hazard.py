"""Plans to goals across a region that should not be entered, with and without a constraint.

    nice python scripts/hazard.py RUN            prints the table; RUN has a model of Luxo (physics=fast)
    nice python scripts/hazard.py RUN --episodes 8

All policies have the same starts, goals and model. Plans are those of ``planner=lagrangian`` in the model;
one objective has the depth in the hazard as a constraint, the other does not know the hazard.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import Any

import wmplay
from wmplay import registry
from wmplay.evaluation.metrics.policy import score_episodes
from wmplay.evaluation.scores import PolicyScore
from wmplay.policies.mpc import MPC

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
    """Print the table, which grows from policy to policy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0, help="of the starts and goals")
    options = parser.parse_args()
    run, found = wmplay.load_run(options.run), {}
    for name, objective in {"random actions": None, **OBJECTIVES}.items():
        found[name] = evaluated(run, objective, options.episodes, options.seed)
        print(table(found), flush=True)


if __name__ == "__main__":
    main()
