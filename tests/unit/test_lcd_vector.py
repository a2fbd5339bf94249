"""The batched env gives exactly what single envs give, in every autoreset mode."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from refusals import refused

from wmplay.envs.lcd import LcdEnv, LcdVectorEnv
from wmplay.errors import ActionError, WmplayError

N = 5
MODES = {
    "same_step": AutoresetMode.SAME_STEP,
    "next_step": AutoresetMode.NEXT_STEP,
    "disabled": AutoresetMode.DISABLED,
}
CASES = {
    "luxo": {"world": "luxo", "task": "body_goal", "goal_threshold": 0.2},  # some end early
    "urchin_cube": {"world": "urchin_cube", "task": "cube_goal", "goal_threshold": 0.2},
    "object3": {"world": "object3", "full_state": True},
    "crab_cube": {"world": "crab_cube", "physics": "fast"},
    "factors": {
        "world": "urchin_ball",
        "task": "body_goal",
        "goal_threshold": 0.2,
        "sound": True,
        "hazard": [3, 0, 4, 2],
        "factors": {
            **{
                "gravity": [5, 15],
                "size": [0.8, 1.2],
                "motor": [0.5, 2],
                "delay": [0, 2],
                "sticky": [0, 0.5],
            },
            **{"noise": 0.02, "flips": 0.01, "shown": ["gravity"]},
        },
    },
}


def assert_same(ours, theirs):
    """Equal to the last bit, type by type."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_same(ours[key], theirs[key])
    elif isinstance(ours, np.ndarray) and ours.dtype == object:
        for a, b in zip(ours, theirs, strict=True):
            assert_same(a, b)
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    else:
        assert ours == theirs


def pair(case, autoreset, max_steps=7):
    options = {**CASES[case], "max_steps": max_steps}
    ours = LcdVectorEnv(N, autoreset=autoreset, **options)
    theirs = SyncVectorEnv([lambda: LcdEnv(**options)] * N, autoreset_mode=MODES[autoreset])
    return ours, theirs


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("autoreset", MODES)
def test_same_as_gymnasiums_own_vector_of_single_envs(case, autoreset):
    ours, theirs = pair(case, autoreset)
    assert ours.metadata["autoreset_mode"] == MODES[autoreset] == theirs.metadata["autoreset_mode"]
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    for a, b in zip(ours.reset(seed=11), theirs.reset(seed=11), strict=True):
        assert_same(a, b)
    rng = np.random.default_rng(0)
    endings = 0
    for _ in range(23):
        actions = rng.uniform(-1, 1, ours.action_space.shape).astype(np.float32)
        mine, other = ours.step(actions), theirs.step(actions)
        for a, b in zip(mine, other, strict=True):
            assert_same(a, b)
        ended = mine[2] | mine[3]
        endings += ended.sum()
        if autoreset == "disabled" and ended.any():
            mine, other = (env.reset(options={"reset_mask": ended.copy()}) for env in (ours, theirs))
            for a, b in zip(mine, other, strict=True):
                assert_same(a, b)
    assert endings >= 2 * N


def test_seeds_are_counted_up_or_listed():
    env = LcdVectorEnv(3, world="urchin")
    counted, _ = env.reset(seed=4)
    listed, _ = env.reset(seed=[4, 5, 6])
    assert_same(counted, listed)
    single, _ = LcdEnv("urchin").reset(seed=6)
    np.testing.assert_array_equal(counted["proprio"][2], single["proprio"])
    again, _ = env.reset()
    assert not np.array_equal(again["proprio"], counted["proprio"])


def test_unseeded_envs_differ():
    observation, _ = LcdVectorEnv(3, world="urchin").reset()
    assert len({values.tobytes() for values in observation["proprio"]}) == 3


def test_same_step_shows_the_true_last_frame():
    env, single = LcdVectorEnv(2, world="luxo", max_steps=3), LcdEnv("luxo", max_steps=3)
    env.reset(seed=0)
    single.reset(seed=1)
    for _ in range(3):
        frames, _, _, truncated, info = env.step(np.ones((2, 3)))
        last, *_ = single.step(np.ones(3))
    assert truncated.all()
    assert_same(info["final_obs"][1], last)
    assert not np.array_equal(frames["proprio"][1], last["proprio"])
    assert env.step(np.ones((2, 3)))[3].sum() == 0


def test_reset_mask_leaves_the_others_alone():
    env = LcdVectorEnv(3, world="luxo", autoreset="disabled")
    env.reset(seed=0)
    before, *_ = env.step(np.ones((3, 3)))
    mask = np.array([False, True, False])
    options = {"reset_mask": mask}
    after, _ = env.reset(seed=9, options=options)
    assert options == {"reset_mask": mask}, "the caller's own"
    for row in (0, 2):
        np.testing.assert_array_equal(after["proprio"][row], before["proprio"][row])
    fresh, _ = LcdEnv("luxo").reset(seed=10)
    np.testing.assert_array_equal(after["proprio"][1], fresh["proprio"])


def test_disabled_needs_a_reset_after_the_end():
    env = LcdVectorEnv(2, world="luxo", autoreset="disabled", max_steps=1)
    env.reset(seed=0)
    env.step(np.zeros((2, 3)))
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"\[0, 1\]"):
        env.step(np.zeros((2, 3)))


def test_states_are_given_row_by_row():
    env = LcdVectorEnv(2, world="luxo")
    env.reset(seed=0)
    for _ in range(4):
        env.step(np.ones((2, 3)))
    states = env.state
    assert states.shape == (2, 4, 6)
    env.reset(options={"state": states[::-1]})
    np.testing.assert_array_equal(env.state, states[::-1])


def test_arrays_never_change_later():
    env = LcdVectorEnv(3, world="luxo", task="body_goal", max_steps=2)
    kept = [env.reset(seed=0)[0]]
    copies = [{key: values.copy() for key, values in kept[0].items()}]
    for _ in range(5):
        observation, rewards, terminated, truncated, info = env.step(np.ones((3, 3)))
        step = {**observation, "r": rewards, "t": terminated, "u": truncated, "d": info["distance"]}
        kept.append(step)
        copies.append({key: values.copy() for key, values in step.items()})
    for now, then in zip(kept, copies, strict=True):
        assert_same(now, then)


@pytest.mark.parametrize(
    ("actions", "fields"),
    [
        (np.zeros((2, 3)), {"got": (2, 3), "expected": "[3, 3]"}),
        (np.full((3, 3), [0, np.nan, 0]), {"about": ("NaN", "[0, 1]")}),
    ],
)
def test_bad_actions_are_refused_and_nothing_moves(actions, fields):
    env = LcdVectorEnv(3, world="luxo")
    env.reset(seed=0)
    before = env.state
    with refused(ActionError, **fields):
        env.step(actions)
    np.testing.assert_array_equal(env.state, before)


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (lambda: LcdVectorEnv(0), {"about": "num_envs", "got": 0}),
        (lambda: LcdVectorEnv(2, autoreset="samestep"), {"got": "samestep", "advice": "same_step"}),
        (
            lambda: LcdVectorEnv(2, render_mode="human"),
            {"about": ("render_mode", "human"), "advice": "rgb_array"},
        ),
        (lambda: LcdVectorEnv(2).reset(seed=[1, 2, 3]), {"about": "2", "got": 3}),
        (lambda: LcdVectorEnv(2).reset(options={"reset_mask": [1, 0]}), {"about": ("[2]", "bool")}),
        (lambda: LcdVectorEnv(2).reset(options={"state": np.zeros((3, 4, 6))}), {"got": 3}),
    ],
)
def test_bad_use_is_refused_in_one_line(make, fields):
    with refused(WmplayError, **fields):
        make()


def test_pictures_of_all():
    env = LcdVectorEnv(2, world="luxo", render_mode="rgb_array")
    env.reset(seed=0)
    single = LcdEnv("luxo", render_mode="rgb_array")
    single.reset(seed=1)
    np.testing.assert_array_equal(env.render()[1], single.render())
