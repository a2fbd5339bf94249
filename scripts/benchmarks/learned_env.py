"""World models as vector envs, next to the real one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import torch

import wmplay
from wmplay.envs.learned.env import LearnedVectorEnv
from wmplay.envs.learned.starts import real_starts
from wmplay.vector.stepping import TensorEnv

from .measure import Check, Result, Side, Timing, take_turns

ENVS, STEPS, REPEATS = 512, 50, 7
MODELS = ("gru", "mlp", "rssm", "fbt")  # of the default sizes
BAR = 50_000  # transitions per second, for the first


def benchmark() -> Result:
    env = wmplay.make_env("luxo", task="body_goal")
    with closing(wmplay.make_env("luxo", num_envs=64, task="body_goal")) as few:
        starts = real_starts(few, 1024, context=1, seed=0)
    sides = []
    for name in MODELS:
        torch.manual_seed(0)
        model = wmplay.make("model", name, env=env, reward_weight=0.0, continuation_weight=0.0).eval()
        sides.append(Side(f"learned, {name}", _stepper(LearnedVectorEnv(model, env, starts, ENVS))))
    with closing(wmplay.make_env("luxo", num_envs=ENVS, task="body_goal")) as real:
        timings = take_turns([*sides, Side("real", _stepper(real))], REPEATS)
    return Result(
        "learned-env: a world model as a vector env",
        f"{STEPS} steps of {ENVS} envs of Luxo's body goal under random actions, sampled; reward and ending "
        "come from the task's own function of the predicted joints, and nothing else is decoded. Models have "
        "their default sizes, no heads for outcomes, and untrained weights. Real: the batched env, one "
        "process.",
        timings,
        ENVS * STEPS,
        "transitions",
        [_speed(timings[0])],
    )


def _speed(timing: Timing) -> Check:
    rate, best = (ENVS * STEPS / seconds for seconds in (timing.median, timing.best))
    return Check(f"{timing.name}, {ENVS} envs", rate, BAR, " transitions/s", at_least=True, shortest=best)


def _stepper(env: object) -> Callable[[], Callable[[], None]]:
    """Return a function that steps an env from a fresh reset."""
    tensors = TensorEnv(env, torch.device("cpu"))  # type: ignore[arg-type]
    actions = 2 * torch.rand(STEPS, ENVS, 3) - 1

    def ready() -> Callable[[], None]:
        tensors.reset(0)

        def steps() -> None:
            for action in actions:
                tensors.step(action)

        return steps

    return ready
