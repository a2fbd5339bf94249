"""Collection over Ray: the same episodes as in one process, whatever happens to the actors."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from refusals import refused
from waiting_world import Waiting, Walker

import wmplay
from wmplay.cli import main
from wmplay.contracts import Trajectory
from wmplay.errors import ActionError, ConfigError, SpaceError, UnknownName, WmplayError
from wmplay.simulation import RayPool, simulate, simulate_blocks
from wmplay.simulation import ray_pool as actors_module

ray = pytest.importorskip("ray")

EPISODES, SEED = 23, 5


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray on this machine, for all tests here that need it."""
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


@pytest.fixture(scope="module")
def two(cluster: None) -> Iterator[RayPool]:
    with RayPool(2) as actors:
        yield actors


def vector(slots: int, **settings: Any) -> SyncVectorEnv:
    return SyncVectorEnv(
        [partial(Waiting, **settings) for _ in range(slots)], autoreset_mode=AutoresetMode.SAME_STEP
    )


def assert_same(one: Sequence[Trajectory], other: Sequence[Trajectory]) -> None:
    """The same trajectories, in the same order, to the bit."""
    assert [len(trajectory) for trajectory in one] == [len(trajectory) for trajectory in other]
    for a, b in zip(one, other, strict=True):
        for name in ("action", "reward", "terminated", "truncated"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        for key in a.observation:
            np.testing.assert_array_equal(a.observation[key], b.observation[key])


# ---- blocks, without Ray -------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the actors."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def here(env: Any, policy: Any = None, episodes: int = EPISODES, **settings: Any) -> list[Trajectory]:
    return simulate(env, policy, episodes, SEED, **settings)


def test_an_episode_of_a_single_env_is_its_seeds_and_numbers_alone() -> None:
    many = here(Waiting(), Walker(), explore=True)
    few = here(Waiting(), Walker(), episodes=7, explore=True)
    assert_same(few, many[:7])
    other = Waiting()
    other.reset(seed=99)  # whatever was done in it before
    assert_same(here(other, Walker(), explore=True), many)
    assert len({trajectory.observation["place"][0].tobytes() for trajectory in many}) == EPISODES
    assert len({trajectory.action[0].tobytes() for trajectory in many}) == EPISODES


def test_a_block_is_one_episode_of_each_slot() -> None:
    episodes = here(partial(vector, 5))
    assert_same(here(vector(5), episodes=10), episodes[:10])
    sizes = [len({t.observation["place"][0].tobytes() for t in episodes[i : i + 5]}) for i in (0, 5, 10, 15)]
    assert sizes == [5, 5, 5, 5]
    assert len(episodes) == EPISODES  # 5 + 5 + 5 + 5 + 3


def test_progress_is_told_and_may_stop() -> None:
    told: list[tuple[int, int]] = []

    def progress(done: int, steps: int) -> None:
        told.append((done, steps))
        if done >= 10:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        here(partial(vector, 5), progress=progress)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == 10


# ---- over Ray ------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [None, 5])
def test_actors_give_the_same_as_one_process(two: RayPool, slots: int | None) -> None:
    env = Waiting if slots is None else partial(vector, slots)
    for policy, explore in ((None, False), (Walker(), True)):
        alone = here(env, policy, explore=explore, max_steps=11)
        shared = simulate_blocks(env, policy, EPISODES, SEED, actors=two, explore=explore, max_steps=11)
        assert_same(list(shared), alone)


def test_an_env_and_a_policy_of_this_script_go_along(two: RayPool) -> None:
    class Mine(Waiting):
        def reset(self, **how: Any) -> Any:
            observation, info = super().reset(**how)
            return {"place": observation["place"] * 0 + 3}, info

    class Still:
        def initial(self, batch_size: int) -> None:
            return None

        def act(self, carry: Any, observation: Any, last_action: Any, *_: Any, **how: Any) -> Any:
            return 0 * last_action + 0.5, carry

    for trajectory in simulate_blocks(Mine(), Still(), 3, SEED, actors=two):
        assert (trajectory.observation["place"][0] == 3).all()
        assert (trajectory.action == 0.5).all()


def test_a_plugin_is_found_by_the_actors(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "far_world.py").write_text(
        "import wmplay\nfrom waiting_world import Waiting\n\n"
        '@wmplay.register("env", "far_away")\nclass FarAway(Waiting):\n'
        "    def __init__(self, wait: float = 0.0) -> None:\n        super().__init__(wait)\n"
    )
    monkeypatch.setenv("WMPLAY_PLUGINS", str(folder))
    monkeypatch.chdir(tmp_path)
    alone = here(partial(wmplay.make_env, "far_away", num_envs=3), episodes=7)
    arguments = ["simulate", "far_away", "--episodes", "7", "--num-envs", "3", "--seed", str(SEED)]
    for workers in ("1", "0"):
        assert main([*arguments, "--out", workers, "--workers", "ray", "--num-workers", workers]) == 0
        assert_same(list(wmplay.load_trajectories(workers)), alone)


def kill_now_and_then(
    folder: Path, times: int, pause: float, killed: list[int], stop: threading.Event
) -> None:
    """Kills processes that have left a note in the folder, one after the other; this one lives."""
    while len(killed) < times and not stop.is_set():
        for pid in {int(note.name) for note in folder.iterdir()} - {os.getpid(), *killed}:
            if len(killed) < times:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                stop.wait(pause)
        stop.wait(0.02)


def collect_under_fire(folder: Path, episodes: int, kills: int, pause: float) -> list[Trajectory]:
    """Episodes whose actors are killed so many times meanwhile."""
    killed: list[int] = []
    stop = threading.Event()
    killer = threading.Thread(target=kill_now_and_then, args=(folder, kills, pause, killed, stop))
    killer.start()
    try:
        with RayPool(2) as actors:
            env = partial(Waiting, wait=0.001, note=folder)
            found: list[Trajectory] = []
            for trajectory in simulate_blocks(env, Walker(), episodes, SEED, actors=actors, explore=True):
                found.append(trajectory)
                if len(killed) < kills and len(found) > episodes // 2:
                    time.sleep(0.1)  # until the actors that were killed are back to be killed again
    finally:
        stop.set()
        killer.join()
    assert len(killed) == len(set(killed)) == kills
    return found


def test_no_episode_is_lost_or_doubled_by_actors_that_are_killed(cluster: None, tmp_path: Path) -> None:
    found = collect_under_fire(tmp_path, episodes=40, kills=2, pause=0.2)
    assert_same(found, here(Waiting(), Walker(), episodes=40, explore=True))


def test_errors_arrive_as_themselves_and_the_actors_go_on(two: RayPool) -> None:
    class Silent(Walker):
        def act(self, *_: Any, **how: Any) -> Any:
            return torch.full((1, 2), torch.nan), None

    with refused(ActionError, ("policy Silent", "NaN", "[0, 0]"), expected="finite") as caught:
        list(simulate_blocks(Waiting, Silent(), 3, SEED, actors=two))
    assert "raised in a Ray actor" in caught.value.__notes__[0]
    assert len(list(simulate_blocks(Waiting, None, 3, SEED, actors=two))) == 3


def test_an_actor_that_dies_every_time(cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors_module, "ATTEMPTS", 2)
    with RayPool(1) as one, refused(WmplayError, ("2", f"of seed {SEED}", "num_workers=0")):
        list(simulate_blocks(partial(Waiting, deadly=0.0), None, 3, SEED, actors=one))


def test_a_run_collects_over_ray(cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = [
        "experiment=tiny",
        "collect.workers=ray",
        "iterations=1",
        "fit.steps=0",
        "report=false",
        "device=cpu",
    ]
    run += ["evaluate.prediction.episodes=0", "evaluate.policy.episodes=0", "checkpoint.every=1000"]
    for workers in (0, 1):
        wmplay.train([*run, f"collect.num_workers={workers}", f"dir=of{workers}"])
    alone, shared = (wmplay.load_run(f"of{workers}") for workers in (0, 1))
    assert_same(list(shared.trajectories), list(alone.trajectories))
    assert len(shared.trajectories) == 10
    for a, b in zip(shared.metrics, alone.metrics, strict=True):
        assert {**a, "time": 0} == {**b, "time": 0}
    assert ray.is_initialized()  # it was not the run's to shut down


# ---- bad input -----------------------------------------------------------------------------------


class Stuck(Waiting):
    """Cannot be pickled, as what holds a lock, a window or a socket cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def test_what_cannot_be_pickled(two: RayPool) -> None:
    with refused(ConfigError, ("env", "_thread.lock")):
        list(simulate_blocks(Stuck(), None, 3, SEED, actors=two))
    assert len(list(simulate_blocks(Stuck, None, 3, SEED, actors=two))) == 3
    policy = Walker()
    policy.lock = threading.Lock()
    with refused(ConfigError, ("policy", "_thread.lock")):
        list(simulate_blocks(Waiting, policy, 3, SEED, actors=two))


@pytest.mark.parametrize(
    ("how", "kind", "fields"),
    [
        ({"workers": "rai"}, UnknownName, {"about": "workers", "got": "rai", "advice": "ray"}),
        (
            {"workers": "ray", "num_workers": -1},
            ConfigError,
            {"about": "num_workers", "got": -1, "expected": "0"},
        ),
        ({"workers": "ray", "num_workers": 0, "episodes": -1}, ConfigError, {"about": "episodes", "got": -1}),
        ({"env": "luxo"}, SpaceError, {"about": "env", "got": "str"}),
        ({"env": lambda: 3}, SpaceError, {"about": "env", "got": "int"}),
    ],
)
def test_calls_that_make_no_sense(
    how: dict[str, Any], kind: type[Exception], fields: dict[str, object]
) -> None:
    with refused(kind, **fields):
        simulate(**{"env": Waiting, **how})


def test_ray_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with refused(ConfigError, ("workers=ray", "wmplay[ray]")):
        simulate(Waiting, workers="ray", num_workers=1)
    assert main(["simulate", "bounce", "--out", "x", "--workers", "ray", "--num-workers", "1"]) == 2
    assert "pip install 'wmplay[ray]'" in capsys.readouterr().err


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    before = signal.getsignal(signal.SIGTERM)
    with refused(ConfigError, "RAY_ADDRESS", got="nowhere"):
        simulate(Waiting, workers="ray", num_workers=1)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "ray"], "--workers ray needs --num-workers: how many actors"),
        (["--workers", "dask"], "--workers: invalid choice: 'dask'"),
    ],
)
def test_command_lines_that_make_no_sense(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "bounce", "--out", "x", *arguments]) == 2
    assert message in capsys.readouterr().err
