"""Workers: the same numbers from several processes, errors as themselves, nothing left behind."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from refusals import refused
from test_lcd_vector import assert_same

import wmplay
from wmplay.errors import ActionError, ConfigError, ShapeError

N = 5
OPTIONS = {"task": "body_goal", "goal_threshold": 0.2, "max_steps": 7, "physics": "fast"}


@pytest.fixture(scope="module")
def spread():
    """One env of two workers for all tests here, as processes take a while to start."""
    env = wmplay.make_env("luxo", num_envs=N, num_workers=2, **OPTIONS)
    yield env
    env.close()
    assert all(not process.is_alive() for process in env._processes)


def test_same_numbers_as_in_one_process(spread):
    whole = wmplay.make_env("luxo", num_envs=N, **OPTIONS)
    assert spread.observation_space == whole.observation_space
    assert spread.metadata == whole.metadata
    assert spread.task.threshold == 0.2
    for seed in (11, [7, 3, 5, 2, 13]):
        for a, b in zip(spread.reset(seed=seed), whole.reset(seed=seed), strict=True):
            assert_same(a, b)
        rng = np.random.default_rng(0)
        for _ in range(17):
            actions = rng.uniform(-1, 1, (N, 3)).astype(np.float32)
            for a, b in zip(spread.step(actions), whole.step(actions), strict=True):
                assert_same(a, b)
    mask = np.array([False, False, False, True, False])  # of one worker alone
    for a, b in zip(*(env.reset(options={"reset_mask": mask}) for env in (spread, whole)), strict=True):
        assert_same(a, b)


def test_arrays_are_the_callers_own(spread):
    observation, _ = spread.reset(seed=0)
    before = {key: values.copy() for key, values in observation.items()}
    spread.step(np.ones((N, 3)))
    assert_same(observation, before)


def test_errors_arrive_as_themselves(spread):
    spread.reset(seed=0)
    with refused(ShapeError, "state", got=(4, 5)) as caught:
        spread.reset(options={"state": np.zeros((N, 4, 5))})
    assert "in an env worker" in caught.value.__notes__[0]
    for actions in (np.zeros((N, 2)), np.full((N, 3), np.nan)):
        with pytest.raises(ActionError):
            spread.step(actions)
    spread.reset(seed=0)
    spread.step(np.zeros((N, 3)))


def test_bad_resets_are_refused(spread):
    for options, seed in (({"state": 3}, None), ({"reset_mask": np.zeros(N, bool)}, None), (None, [1, 2])):
        with pytest.raises(ConfigError):
            spread.reset(seed=seed, options=options)


def test_a_worker_that_dies_is_named():
    env = wmplay.make_env("bounce", num_envs=2, num_workers=2)
    env.reset(seed=0)
    os.kill(env._processes[1].pid, signal.SIGKILL)
    env._processes[1].join()
    with refused(ConfigError, ("worker 1", "-9")):
        env.step(np.zeros((2, 1)))
    assert not any(process.is_alive() for process in env._processes)


SCRIPT = """
import sys, time, wmplay
if __name__ == "__main__":
    env = wmplay.make_env("bounce", num_envs=2, num_workers=2)
    print(*(process.pid for process in env._processes), flush=True)
    time.sleep(60)
"""


def test_workers_die_with_their_parent(tmp_path):
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    with subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE, text=True) as parent:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(workers) == 2
        parent.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(_runs(pid) for pid in workers):
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in workers)


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
