"""A process that makes envs and loads runs for days does not grow: neither in memory nor in open files."""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import wmplay
from wmplay.envs.lcd.physics import Blueprint, Simulation
from wmplay.envs.lcd.start import sample_start

CALLS = 12
BLOCKS = 40  # of Python's allocator that one call may leave behind, about 4 kB; the leaks were 200 and more


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "run"
    wmplay.train(
        ["experiment=tiny", "iterations=1", "model=mlp", "model.hidden=7", "report=false", f"dir={path}"]
    )
    return path


def make_env(_: Path) -> None:
    env = wmplay.make_env("luxo", physics="fast")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    env.close()


def make_vector_env(_: Path) -> None:
    env = wmplay.make_env("luxo", num_envs=2, physics="fast")
    env.reset(seed=0)
    env.close()


def load_run(run: Path) -> None:
    wmplay.load_run(run).model  # noqa: B018


def act(run: Path) -> None:
    loaded = wmplay.load_run(run)
    loaded.actor()(loaded.env.reset(seed=0)[0])


def read_store(run: Path) -> None:
    store = wmplay.load_run(run).trajectories  # type: ignore[union-attr]
    store.sample(2, 3, np.random.default_rng(0))
    list(store)


def counts() -> dict[str, int]:
    gc.collect()
    return {
        "blocks": sys.getallocatedblocks(),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "modules": len(sys.modules),
    }


@pytest.mark.parametrize("call", [make_env, make_vector_env, load_run, act, read_store])
def test_nothing_is_left_of_a_call(run: Path, call: Callable[[Path], None]) -> None:
    for _ in range(8):  # what is loaded and kept once
        call(run)
    before = counts()
    for _ in range(CALLS):
        call(run)
    after = counts()
    left = {name: (after[name] - before[name]) / CALLS for name in before}
    assert left.pop("blocks") < BLOCKS
    assert left == {"files": 0, "threads": 0, "modules": 0}


def test_worlds_that_are_built_anew_leave_no_memory_to_the_system() -> None:
    """Box2D's memory is none of Python's."""
    world = wmplay.make_env("urchin").unwrapped.world  # type: ignore[attr-defined]

    def build(count: int) -> None:
        for seed in range(count):
            simulation = Simulation(Blueprint(world, "fast"))
            simulation.start(sample_start(world, np.random.default_rng(seed)))

    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    build(100)
    before = resident()
    build(1000)
    assert resident() - before < 400_000  # 400 bytes a world
