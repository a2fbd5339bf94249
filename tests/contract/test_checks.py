"""Every built-in environment and planner keeps what its kind promises."""

from functools import partial
from typing import Any

import pytest

from wmplay import registry
from wmplay.check import check_env, check_planner
from wmplay.envs import build_env, env_config

# Others are of the same kind, with two bodies more, other statics or a task (see below).
OF_A_KIND = {"lcd", "luxo_ramps", "walls", "luxo_hazard"} | {
    f"{robot}_{objects}" for robot in ("luxo", "urchin") for objects in ("balls", "cubes")
}


def worlds() -> list[str]:
    """Those of ours, which need no extra."""
    names = [name for name in registry.names("env") if registry.piece_config("env", name).get("world")]
    return [name for name in names if name not in OF_A_KIND]


def in_this_process(config: Any, num_envs: int | None = None, autoreset: Any = "same_step") -> Any:
    """As ``build_env``, without the worker processes that are tried below."""
    return build_env(config, num_envs, 0, autoreset)


@pytest.mark.parametrize("name", [*worlds(), "gym", "CartPole-v1"])
def test_built_in_envs_pass(name: str) -> None:
    settings = {"physics": "fast"} if name in worlds() else {}
    make = partial(in_this_process, env_config(name, **settings))
    report = check_env(make(), make)
    assert report.passed, str(report)


@pytest.mark.parametrize("task", ["body_goal", "cube_goal"])
def test_tasks_and_workers_and_pictures_pass(task: str) -> None:
    config = env_config("luxo_cube", task=task, physics="fast", render_mode="rgb_array")
    make = partial(build_env, config)
    report = check_env(make(), make)
    assert report.passed, str(report)
    assert [each.name for each in report.findings if not each.tried] == [
        "no key is left behind",
        "buttons differ",
        "ends are told at once",
        "held actions are repeated steps",
    ]


CHEAPER: dict[str, Any] = {
    "gradient": {"steps": 5},
    "gradcem": {"steps": 2},
    "lagrangian": {"rounds": 2, "steps": 2, "candidates": 5},
    "mcts": {"simulations": 40},
}


@pytest.mark.parametrize("name", registry.names("planner"))
def test_built_in_planners_pass(name: str) -> None:
    planner = registry.target(registry.piece_config("planner", name))
    few = name == "mcts"  # simulations, one after the other
    made = partial(planner, **CHEAPER.get(name, {}))
    report = check_planner(made, tolerance=0.4 if few else 0.1, quick=few)
    assert report.passed, str(report)
