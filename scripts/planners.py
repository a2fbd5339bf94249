"""Compares all planners at equal numbers of model calls, and prints tables.

    nice python scripts/planners.py exact                       plans against the known optimum
    nice python scripts/planners.py luxo runs/quickstart/...    Luxo's body goal, with that run's model
    nice python scripts/planners.py oracle runs/quickstart/...  the same, with the simulator as the model
    python scripts/planners.py table                            what has been measured, as Markdown

A model call is one predicted step of one candidate; a step whose gradient is taken counts twice. What is
measured goes to docs/measured/planners.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

import wmplay
from wmplay import registry
from wmplay.contracts import Plan, Prediction
from wmplay.errors import ConfigError, SpaceError
from wmplay.evaluation.metrics.policy import score_episodes
from wmplay.evaluation.statistics import mean_interval, success_rate
from wmplay.nets.trees import rows
from wmplay.policies.mpc import MPC
from wmplay.runs.episodes import run_episodes
from wmplay.runs.worlds import real_env

FILE = Path(__file__).parents[1] / "docs" / "measured" / "planners.json"
CALLS = (1_000, 4_000, 16_000)  # for each plan
SEEDS, STARTS = range(5), 4  # starts of each seed
PLANS, EPISODES = 64, {"luxo": 16, "oracle": 2}  # on Luxo: plans tried for each plan, episodes of a seed


def sized(name: str, plans: int, calls: int, horizon: int) -> dict[str, Any]:
    """Return the settings of a planner that predicts about as many plans as given, with its own proportions.

    Args:
        name: of the planner.
        plans: predictions of a whole plan.
        calls: predicted steps, for tree search, which predicts steps one by one.
        horizon: steps H.
    """
    shooting = {"hold": 1, "candidates": plans}
    few = max(2, round((plans / 10) ** 0.5))  # starts of gradients, each with half as many steps to go
    rounds, alone = (8, max(1, plans // 178)) if plans >= 178 else (4, 1)
    own: dict[str, dict[str, Any]] = {
        "random_shooting": shooting,
        "cem": {**shooting, "candidates": plans // 3, "iterations": 3},
        "mppi": {**shooting, "candidates": plans // 6, "iterations": 6},
        "icem": {"candidates": plans // 3, "elites": max(2, plans // 18), "iterations": 3},
        "gradient": {"candidates": few, "steps": max(1, plans // (2 * few))},
        "gradcem": {"candidates": max(1, plans // 27), "iterations": 3, "steps": 4},
        "lagrangian": {"candidates": alone, "rounds": rounds, "steps": 10 if rounds == 8 else plans // 10},
        "mcts": {"simulations": calls - 4 * horizon, "tails": 4, "least_range": 1.0},
        "mcts, rollouts": {"simulations": calls // (horizon + 1) - 4, "tails": 4, "rollouts": 1},
    }
    return {"horizon": horizon, **own[name]}


PLANNERS = ("random_shooting", "cem", "icem", "mppi", "gradient", "gradcem", "lagrangian")
TREES = ("mcts", "mcts, rollouts")  # values 0, or of a random future


class Counted:
    """A model that counts the steps that it predicts."""

    def __init__(self, model: Any) -> None:
        self.model, self.calls = model, 0
        self.initial, self.observe, self.decode = model.initial, model.observe, model.decode

    def predict(self, belief: Any, action: Tensor, *, generator: torch.Generator | None = None) -> Prediction:
        """Return the model's prediction."""
        self.calls += (1 + action.requires_grad) * action.shape[0] * action.shape[1]
        found: Prediction = self.model.predict(belief, action, generator=generator)
        return found


# ---- plans against the known optimum ---------------------------------------------------------------


class Cart:
    """A cart on a line, whose pushes cost, and whose best control is linear: differentiable, and exact.

    The belief is place and speed [B, 2]; the score is minus the cost. With ``bound`` the place after
    ``BOUND_AT`` steps may be at most ``bound``.
    """

    initial = observe = decode = dict
    space = Box(-10, 10, (1,), np.float32)
    STEP, HORIZON, PLACE, SPEED, EFFORT, BOUND_AT = 0.1, 20, 1.0, 0.1, 0.01, 5  # seconds; steps; costs; steps

    def predict(
        self, belief: Tensor, action: Tensor, *, generator: torch.Generator | None = None
    ) -> Prediction:
        """Return places [R, H] as the latent, and the costs."""
        place, speed = belief.unbind(1)
        places, rewards = [], []
        for push in action[..., 0].unbind(1):
            place, speed = place + self.STEP * speed, speed + self.STEP * push
            rewards.append(-(self.PLACE * place**2 + self.SPEED * speed**2 + self.EFFORT * push**2))
            places.append(place)
        latent = torch.stack(places, 1)
        return Prediction(latent, torch.stack(rewards, 1), None, torch.stack([place, speed], 1), dict)

    def best(self, start: Tensor, bound: float | None = None) -> float:
        """Return the highest score from a place and a speed [2]: a quadratic programme of one constraint."""
        number, actions = self.HORIZON, torch.zeros(1, self.HORIZON, 1, dtype=torch.float64)

        def cost(pushes: Tensor) -> Tensor:
            reward = self.predict(start.double().unsqueeze(0), pushes.reshape(1, -1, 1)).reward
            assert reward is not None
            return -reward.sum()

        def place(pushes: Tensor) -> Tensor:
            latent: Any = self.predict(start.double().unsqueeze(0), pushes.reshape(1, -1, 1)).latent
            return latent[0, self.BOUND_AT - 1]

        flat = actions.flatten()
        curve = torch.autograd.functional.hessian(cost, flat)
        slope = torch.autograd.functional.jacobian(cost, flat)
        pushes = torch.linalg.solve(curve, -slope)
        if bound is not None and place(pushes) > bound:
            line = torch.autograd.functional.jacobian(place, flat)
            whole = torch.zeros(number + 1, number + 1, dtype=torch.float64)
            whole[:number, :number], whole[:number, number], whole[number, :number] = curve, line, line
            right = torch.cat([-slope, (bound - place(flat)).reshape(1)])
            pushes = torch.linalg.solve(whole, right)[:number]
        assert pushes.abs().max() <= 10, "the best control is within the bounds of the actions"
        return -float(cost(pushes))


def rewards(prediction: Prediction) -> Tensor:
    """Return the scores [R]."""
    assert prediction.reward is not None
    return prediction.reward.sum(1)


class Bounded:
    """The score of a cart that keeps its bound."""

    def __init__(self, bound: float) -> None:
        self.bound = bound

    def __call__(self, prediction: Prediction) -> Tensor:
        """Return the scores [R]."""
        return rewards(prediction)

    def constraints(self, prediction: Prediction) -> Tensor:
        """Return how far the place is beyond the bound [R, 1]."""
        latent: Any = prediction.latent
        return latent[:, [Cart.BOUND_AT - 1]] - self.bound


@dataclass(frozen=True)
class Ground:
    """A world whose best plan is known."""

    name: str
    space: Any
    horizon: int
    model: Any
    score: Callable[[Prediction], Tensor]
    starts: list[tuple[Any, float]]  # of each seed: beliefs of STARTS rows, and the mean of their best scores
    gamma: float = 1.0


def cart(bound: float | None = None) -> Ground:
    """Return the cart's ground; the constraint is of the place after some steps."""
    model = Cart()

    def start(seed: int) -> tuple[Any, float]:
        places = torch.rand(STARTS, 2, generator=torch.Generator().manual_seed(seed)) - 0.5
        if bound is not None:
            places = 0.4 * places + torch.tensor([0.45, 0])
        return places, float(np.mean([model.best(place, bound) for place in places]))

    starts = [start(seed) for seed in SEEDS]
    if bound is None:
        return Ground("cart", Cart.space, Cart.HORIZON, model, rewards, starts)
    return Ground("cart, bounded", Cart.space, Cart.HORIZON, model, Bounded(bound), starts)


def exact(name: str, horizon: int, gamma: float = 1.0) -> Ground:
    """Return the ground of an exact world of discrete actions, predicted by the oracle."""
    env: Any = wmplay.make_env(name)
    model = registry.make("model", "oracle", env=env)
    objective = registry.make("objective", "discounted_return", gamma=gamma)

    def start(seed: int) -> tuple[Any, float]:
        seen = [env.reset(seed=1000 * seed + number)[0] for number in range(STARTS)]
        belief = model.initial({key: torch.as_tensor(np.stack([o[key] for o in seen])) for key in seen[0]})
        world = env.unwrapped
        if name != "two_rooms":
            return belief, world.optimum()
        cells = [tuple(cell) for cell in world.cells]
        apart = world.distances()
        ends = belief["state"].numpy().reshape(STARTS, 2, 2)
        ways = [apart[cells.index(tuple(here)), cells.index(tuple(goal))] for here, goal in ends]
        return belief, float(np.mean([gamma ** (way - 1) for way in ways]))

    def score(prediction: Prediction) -> torch.Tensor:
        return objective(prediction, {})

    starts = [start(seed) for seed in SEEDS]
    return Ground(name, env.action_space, horizon, model, score, starts, gamma)


def against_optimum() -> list[dict[str, Any]]:
    """Return a row for each ground, planner and number of calls."""
    grounds = [
        cart(),
        cart(bound=0.2),
        exact("deep_sea", 10),
        exact("catch", 9),
        exact("two_rooms", 16, 0.95),
    ]
    found = []
    for ground in grounds:
        for name in (*PLANNERS, *TREES):
            if (name == "lagrangian") != (ground.name == "cart, bounded"):
                continue
            for calls in CALLS[: 2 if name == "mcts" else None]:  # a plan of 16,000 takes it six seconds
                row = planned(ground, name, calls)
                if row is not None:
                    found.append(row)
                    print(row, flush=True)
    return found


def planned(ground: Ground, name: str, calls: int) -> dict[str, Any] | None:
    """Return by how much a planner's plans are below the optimum; None if it cannot plan there."""
    settings = sized(name, calls // ground.horizon, calls, ground.horizon)
    settings |= {"gamma": ground.gamma} if name in TREES else {}
    model = Counted(ground.model)
    lacking, kept, seconds = [], [], 0.0
    try:
        planner = registry.make("planner", name.split(",")[0], action_space=ground.space, **settings)
        for seed, (belief, optimum) in zip(SEEDS, ground.starts, strict=True):
            generator = torch.Generator().manual_seed(seed)
            begin = time.process_time()
            plan = planner.plan(model, belief, ground.score, generator=generator)
            seconds += time.process_time() - begin
            lacking.append(optimum - float(plan.score.mean()))
            if isinstance(ground.score, Bounded):
                beyond = ground.score.constraints(ground.model.predict(belief, plan.action))
                kept.append(float((beyond <= 2e-3).float().mean()))
    except (SpaceError, ConfigError):
        return None
    plans = len(SEEDS) * STARTS
    return {
        "ground": ground.name,
        "planner": name,
        "calls": calls,
        "counted": model.calls // plans,
        "lacking": [round(x, 4) for x in mean_interval(np.array(lacking))],
        "optimum": round(float(np.mean([optimum for _, optimum in ground.starts])), 4),
        "kept": round(float(np.mean(kept)), 3) if kept else None,
        "seconds": round(seconds / plans, 5),
    }


# ---- Luxo's body goal ------------------------------------------------------------------------------


class Timed:
    """A planner that measures the processor time of its plans."""

    def __init__(self, planner: Any) -> None:
        self.planner, self.horizon = planner, planner.horizon
        self.seconds, self.plans = 0.0, 0

    def plan(self, model: Any, belief: Any, score: Any, **how: Any) -> Plan:
        """Return the planner's plan."""
        begin = time.process_time()
        found: Plan = self.planner.plan(model, belief, score, **how)
        self.seconds += time.process_time() - begin
        self.plans += rows(found.score)
        return found


def on_luxo(run: Path, part: str) -> list[dict[str, Any]]:
    """Return a row for each planner: success with a run's model, or with the simulator ("oracle")."""
    loaded: Any = wmplay.load_run(run)
    settings = replace(loaded.settings, collect=replace(loaded.settings.collect, num_workers=0))
    env, space = loaded.env, loaded.env.action_space
    model = loaded.model if part == "luxo" else registry.make("model", "oracle", env=env)
    objective = registry.make("objective", "goal_distance", env=env)
    planners = {
        "random_shooting": {"candidates": PLANS, "hold": 2},
        "cem": {"candidates": PLANS // 2, "iterations": 2},
        "icem": {"candidates": PLANS // 2, "iterations": 2, "decay": 1.0, "elites": 5},
        "mppi": {"candidates": PLANS // 2, "iterations": 2},
        "gradient": {"candidates": 2, "steps": PLANS // 4},
        "gradcem": {"candidates": 6, "iterations": 2, "steps": 2},
    }
    found = []
    for name, own in planners.items():
        if part == "oracle" and name.startswith("grad"):
            continue  # the simulator has no gradient
        found.append(reached(name, own, model, objective, space, settings, EPISODES[part], part))
        print(found[-1], flush=True)
    found.append(reached("random", None, model, objective, space, settings, EPISODES[part], part))
    return found


def reached(
    name: str,
    own: dict[str, Any] | None,
    model: Any,
    objective: Any,
    space: Any,
    settings: Any,
    episodes: int,
    part: str,
) -> dict[str, Any]:
    """Return the success of a planner (None = random actions) on the episodes of all seeds."""
    planner = None if own is None else Timed(registry.make("planner", name, action_space=space, **own))
    policy = None if planner is None else MPC(model, planner, objective)
    successes, each = 0, []
    for seed in SEEDS:
        env, device = real_env(settings, episodes), torch.device("cpu")
        score = score_episodes(list(run_episodes(env, policy, episodes, seed, name, device=device)), seed)
        assert score.successes is not None
        successes += sum(score.successes)
        each.append(sum(score.successes) / episodes)
    return {
        "ground": part,
        "planner": name,
        "success": [round(x, 4) for x in success_rate(successes, len(SEEDS) * episodes)],
        "each": each,
        "episodes": len(SEEDS) * episodes,
        "seconds": None if planner is None else round(planner.seconds / planner.plans, 5),
    }


# ---- tables ----------------------------------------------------------------------------------------


def tables(found: Mapping[str, list[dict[str, Any]]]) -> str:
    """Return what has been measured as Markdown."""
    lines = [
        "| ground, optimum | planner | " + " | ".join(f"{calls:,}" for calls in CALLS) + " | ms per plan |"
    ]
    lines.append("|---|---|" + "---|" * (len(CALLS) + 1))
    kept = {(row["ground"], row["planner"], row["calls"]): row for row in found.get("exact", [])}
    for ground, planner in dict.fromkeys((one, two) for one, two, _ in kept):
        each = [kept[ground, planner, calls] for calls in CALLS if (ground, planner, calls) in kept]
        cells = [
            f"{mean:.3f} [{low:.3f}, {high:.3f}]" for mean, low, high in (row["lacking"] for row in each)
        ]
        first = f"{ground}, {each[0]['optimum']:.3f}"
        if each[0]["kept"] is not None:
            cells = [f"{cell}; kept {row['kept']:.0%}" for cell, row in zip(cells, each, strict=True)]
        cells += ["" for _ in CALLS[len(cells) :]]
        lines.append(f"| {first} | `{planner}` | {' | '.join(cells)} | {1000 * each[-1]['seconds']:.0f} |")
    lines += ["", "| model | planner | success | seeds | ms per plan |", "|---|---|---|---|---|"]
    for part in ("luxo", "oracle"):
        for row in found.get(part, []):
            rate, low, high = (100 * x for x in row["success"])
            each = " / ".join(f"{100 * x:.0f}" for x in row["each"])
            spent = "" if row["seconds"] is None else f"{1000 * row['seconds']:.1f}"
            interval = f"{rate:.1f}% [{low:.1f}, {high:.1f}]"
            lines.append(f"| {part} | `{row['planner']}` | {interval} | {each} | {spent} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what the command line asks for, keep it and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["exact", "luxo", "oracle", "table"])
    parser.add_argument("run", type=Path, nargs="?", help="a finished run on Luxo's body goal")
    given = parser.parse_args()
    torch.set_num_threads(1)
    measured = None
    if given.part != "table":
        if given.part != "exact" and given.run is None:
            parser.error(f"{given.part} needs a run")
        measured = against_optimum() if given.part == "exact" else on_luxo(given.run, given.part)
    found = (
        json.loads(FILE.read_text()) if FILE.exists() else {}
    )  # read last: another part may have been kept since
    if measured is not None:
        found[given.part] = measured
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(json.dumps(found, indent=1) + "\n")
    print(tables(found))


if __name__ == "__main__":
    main()
