"""Trains wmplay's PPO and SAC and those of stable-baselines3 alike: what comes of it, and how fast.

    nice python scripts/verify_policies.py                          all runs that are not yet in the results
    nice python scripts/verify_policies.py --algorithm sac --task pendulum --seeds 0 1
    python scripts/verify_policies.py --table                       what the results say, as Markdown

It runs where both are installed (`make bench` makes such an environment). Each run is added to the results
when it is done, so that the whole can be done in pieces; seeds come first, so that a drift of the machine
meets all sides alike. Both have the same number of envs, network sizes, gradient updates and settings,
normalised observations, and actions in units of half their range.

Sides: `wmplay`; `sb3`, with single envs in its DummyVecEnv, as its own `make_vec_env` makes them; and
`sb3-batched`, the same learner on wmplay's vector env, so that nothing but the learner differs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

import wmplay
from wmplay.contracts import Practice
from wmplay.evaluation.statistics import mean_interval
from wmplay.vector.stepping import TensorEnv

EPISODES = 200  # of each evaluation
EVALUATION_SEED = 1000
ALGORITHMS, TASKS, SIDES = ("ppo", "sac"), ("pendulum", "luxo"), ("wmplay", "sb3", "sb3-batched")


@dataclass(frozen=True)
class Budget:
    """The settings that both sides share, in wmplay's terms."""

    steps: int
    num_envs: int
    settings: Mapping[str, Any]


PLAIN = {"hidden": 256, "log_std": -0.5, "target_kl": 0.0}  # PPO without what the peer's has not
BUDGETS = {
    ("ppo", "pendulum"): Budget(
        100_000,
        16,
        {**PLAIN, "gamma": 0.95, "rollout": 128, "minibatch": 512, "epochs": 10, "lr": 1e-3},
    ),
    ("ppo", "luxo"): Budget(
        150_000,
        64,
        {**PLAIN, "gamma": 0.99, "rollout": 64, "minibatch": 512, "epochs": 8, "lr": 5e-4},
    ),
    ("sac", "pendulum"): Budget(6_000, 4, {"hidden": 256, "lr": 1e-3, "random_steps": 1000}),
    ("sac", "luxo"): Budget(
        15_000, 16, {"hidden": 256, "lr": 1e-3, "random_steps": 1000, "updates_per_step": 0.5}
    ),
}
KEYS = {"pendulum": ("vector",), "luxo": ("proprio", "goal_proprio")}  # what is looked at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, choices in (("algorithm", ALGORITHMS), ("task", TASKS), ("side", SIDES)):
        parser.add_argument(f"--{name}", nargs="+", choices=choices, default=list(choices))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--results", type=Path, default=Path("runs/verify_policies.jsonl"))
    parser.add_argument("--table", action="store_true", help="only print what is there")
    parser.add_argument("--steps", type=int, help="another budget, for a trial (with results of its own)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.table:
        todo = itertools.product(options.seeds, options.algorithm, options.task, options.side)
        for seed, algorithm, task, side in todo:
            run_one(options.results, options.steps, algorithm, task, side, seed)
    print(table(read(options.results)))


def run_one(results: Path, steps: int | None, algorithm: str, task: str, side: str, seed: int) -> None:
    """Run one training and add it to the results, unless they have it."""
    budget = BUDGETS[algorithm, task]
    what = {"algorithm": algorithm, "task": task, "side": side, "seed": seed, "steps": steps or budget.steps}
    if any(what.items() <= record.items() for record in read(results)):
        return
    train = train_wmplay if side == "wmplay" else train_sb3
    wall, cpu = time.perf_counter(), time.process_time()
    policy, taken = train(algorithm, task, side, seed, budget, what["steps"])
    spent = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    record = {**what, "taken": taken, **spent, **evaluate(policy, task)}
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a") as file:
        file.write(json.dumps(record) + "\n")
    print(json.dumps(record), flush=True)


def read(results: Path) -> list[dict[str, Any]]:
    """Return all results so far."""
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


# ---- envs ----------------------------------------------------------------------------------------


def make_env(task: str, num_envs: int | None = None) -> Any:
    if task == "pendulum":
        return wmplay.make_env("Pendulum-v1", num_envs=num_envs)
    return wmplay.make_env("luxo", task="body_goal", num_envs=num_envs)


def evaluate(policy: Any, task: str) -> dict[str, Any]:
    """Return the mean return and rate of terminated episodes, for sampled and for the most likely actions."""
    env = make_env(task, 50)
    torch.manual_seed(EVALUATION_SEED)  # from which the peer draws
    found = {}
    for name, explore in (("sampled", True), ("mean", False)):
        played = wmplay.simulate(env, policy, EPISODES, EVALUATION_SEED, explore=explore)
        found[name] = {
            "return": float(np.mean([trajectory.reward.sum() for trajectory in played])),
            "success": float(np.mean([trajectory.terminated[-1] for trajectory in played])),
        }
    return found


# ---- wmplay --------------------------------------------------------------------------------------


def train_wmplay(
    algorithm: str, task: str, side: str, seed: int, budget: Budget, steps: int
) -> tuple[Any, int]:
    env = make_env(task, budget.num_envs)
    torch.manual_seed(seed)
    policy = wmplay.make("policy", algorithm, env=env, **budget.settings)
    taken = []
    policy.improve(
        Practice(env, steps, seed, torch.device("cpu"), advance=lambda done, metrics: taken.append(done))
    )
    return policy, taken[-1]


# ---- stable-baselines3 ---------------------------------------------------------------------------


def train_sb3(algorithm: str, task: str, side: str, seed: int, budget: Budget, steps: int) -> tuple[Any, int]:
    from stable_baselines3 import PPO, SAC
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    if side == "sb3":
        env: Any = make_vec_env(lambda: _single(task), n_envs=budget.num_envs, seed=seed)
    else:
        env = _batched(task, budget.num_envs, seed)
    env = VecNormalize(env, norm_obs=True, norm_reward=False)
    given = budget.settings
    network = {"net_arch": [given["hidden"]] * 2}
    if algorithm == "ppo":
        model: Any = PPO(
            "MlpPolicy",
            env,
            learning_rate=given["lr"],
            n_steps=given["rollout"],
            batch_size=given["minibatch"],
            n_epochs=given["epochs"],
            gamma=given["gamma"],
            vf_coef=0.25,  # of the squared error, where ours is 0.5 of half of it
            policy_kwargs={**network, "log_std_init": given["log_std"]},
            seed=seed,
            device="cpu",
        )
    else:
        model = SAC(
            "MlpPolicy",
            env,
            learning_rate=given["lr"],
            learning_starts=given["random_steps"],
            gradient_steps=round(budget.num_envs * given.get("updates_per_step", 1.0)),
            policy_kwargs=network,
            seed=seed,
            device="cpu",
        )
    model.learn(steps)
    return Peer(model, env, task), int(model.num_timesteps)


def _single(task: str) -> gymnasium.Env[Any, Any]:
    from gymnasium import wrappers

    env = wrappers.FilterObservation(make_env(task), KEYS[task])
    return wrappers.RescaleAction(wrappers.FlattenObservation(env), -1.0, 1.0)


def _batched(task: str, num_envs: int, seed: int) -> Any:
    """Return wmplay's vector env as a ``VecEnv`` of stable-baselines3."""
    from stable_baselines3.common.vec_env import VecEnv, VecMonitor

    inner = TensorEnv(make_env(task, num_envs), torch.device("cpu"))
    single = _single(task)

    class Batched(VecEnv):
        def reset(self) -> Any:
            return _flat(inner.reset(seed), task)

        def step_async(self, actions: Any) -> None:
            self.actions = torch.from_numpy(_native(single, actions))

        def step_wait(self) -> Any:
            step = inner.step(self.actions)
            infos: list[dict[str, Any]] = [{} for _ in range(num_envs)]
            ended = step.terminated | step.truncated
            if ended.any():
                last, cut = _flat(step.arrived, task), step.truncated & ~step.terminated
                for slot in ended.nonzero().flatten().tolist():
                    infos[slot] = {"terminal_observation": last[slot], "TimeLimit.truncated": bool(cut[slot])}
            return _flat(step.observation, task), step.reward.numpy(), ended.numpy(), infos

        def close(self) -> None:
            inner.env.close()

        def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
            return [getattr(inner.env, attr_name, None)] * num_envs

        def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
            raise NotImplementedError

        def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
            raise NotImplementedError

        def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
            return [False] * num_envs

    return VecMonitor(Batched(num_envs, single.observation_space, single.action_space))


def _flat(observation: Mapping[str, Any], task: str) -> Any:
    """Return the vectors [B, D] in alphabetical order, as Gymnasium flattens them for stable-baselines3."""
    return torch.cat([observation[key] for key in sorted(KEYS[task])], dim=-1).numpy()


def _native(env: gymnasium.Env[Any, Any], action: Any) -> Any:
    """Return actions in the env's own units, given actions in -1..1."""
    space = env.unwrapped.action_space
    return (space.low + (np.clip(action, -1, 1) + 1) * (space.high - space.low) / 2).astype(np.float32)


class Peer:
    """A model of stable-baselines3 as a policy of wmplay."""

    def __init__(self, model: Any, env: Any, task: str) -> None:
        self.model, self.env, self.task, self.single = model, env, task, _single(task)

    def initial(self, batch_size: int) -> Any:
        """Return an empty carry."""
        return ()

    def act(
        self, carry: Any, observation: Any, last_action: Any, first: Any, *, explore: bool, generator: Any
    ) -> Any:
        """Return the model's predictions, sampled with ``explore``."""
        seen = self.env.normalize_obs(_flat(observation, self.task))
        action, _ = self.model.predict(seen, deterministic=not explore)
        return torch.from_numpy(_native(self.single, action)), carry


# ---- what came of it -----------------------------------------------------------------------------


def table(records: Iterable[Mapping[str, Any]]) -> str:
    """Return means over the seeds with Student's t intervals, median speeds, and the ratio of speeds."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for record in records:
        key = tuple(record[name] for name in ("task", "algorithm", "steps", "side"))
        groups.setdefault(key, []).append(record)
    columns = ["task", "algorithm", "steps", "side", "seeds", "sampled", "mean action"]
    columns += ["steps/s", "ours", "steps/CPU s", "ours"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for (*what, side), runs in sorted(groups.items(), key=str):
        score, digits = ("return", 1) if what[0] == "pendulum" else ("success", 3)
        cells = [*map(str, what), side, str(len(runs))]
        for kind in ("sampled", "mean"):
            mean, low, high = mean_interval(np.array([run[kind][score] for run in runs]))
            cells.append(f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]")
        for clock in ("seconds", "cpu_seconds"):
            speed, ours = (_speed(group, clock) for group in (runs, groups.get((*what, "wmplay"), [])))
            cells += [f"{speed:,.0f}", f"{ours / speed:.2f} x"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _speed(runs: Iterable[Mapping[str, Any]], clock: str) -> float:
    speeds = [run["taken"] / run[clock] for run in runs]
    return float(np.median(speeds)) if speeds else float("nan")


if __name__ == "__main__":
    main()
