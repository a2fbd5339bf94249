"""Tasks: distances and rewards by hand, in numpy and torch alike."""

import numpy as np
import pytest
import torch
from refusals import refused

from wmplay.envs.lcd import WORLDS, LcdEnv
from wmplay.envs.lcd.physics import Blueprint, Simulation
from wmplay.envs.lcd.start import sample_start
from wmplay.envs.lcd.tasks import BodyGoal, CubeGoal
from wmplay.errors import WmplayError

LUXO, CUBES = WORLDS["luxo"], WORLDS["urchin_cubes"]


def proprio(**at):
    """[4 bodies x (x, y, cos, sin)], zero but for some entries such as x0 or sin2."""
    values = np.zeros((4, 4), np.float32)
    for name, value in at.items():
        values[int(name[-1]), ("x", "y", "cos", "sin").index(name[:-1])] = value
    return values.ravel()


def test_body_distance_is_the_mean_offset_of_positions():
    task = BodyGoal(LUXO, 0.05, "distance")
    observation = {"proprio": proprio(x0=0.4, y3=-0.4, cos1=1), "goal_proprio": proprio(sin2=1)}
    assert task.distance(observation) == pytest.approx(0.8 / 8)


def test_cube_distance_is_over_the_objects():
    task = CubeGoal(CUBES, 0.05, "progress")
    now, goal = np.zeros((2, 7 * 4), np.float32)
    goal[[0, 5]] = 0.3  # x of the first cube, y of the second
    goal[12:] = 1  # the robot's part does not count
    assert task.distance({"full_state": now, "goal_full_state": goal}) == pytest.approx(0.6 / 6)


@pytest.mark.parametrize("as_array", [np.asarray, torch.as_tensor])
def test_rewards_with_leading_axes(as_array):
    rng = np.random.default_rng(0)
    goal = rng.uniform(-1, 1, (2, 5, 16)).astype(np.float32)
    before, after = (
        {"proprio": as_array(goal + step * np.float32(1)), "goal_proprio": as_array(goal)}
        for step in (np.full((2, 5, 1), 0.5), np.array([0.3, 0.3, 0.04, 0.3, 0.3]).reshape(1, 5, 1))
    )
    after = {key: as_array(np.asarray(value, np.float32)) for key, value in after.items()}
    distance = BodyGoal(LUXO, 0.05, "distance").distance(after)
    assert tuple(distance.shape) == (2, 5)
    near = np.array([False, False, True, False, False])
    for kind, far_reward, near_reward in (
        ("distance", -0.3, -0.04 + 1),
        ("progress", -0.05 + 10 * 0.2, -0.05 + 10 * 0.46 + 1),
    ):
        reward, reached = BodyGoal(LUXO, 0.05, kind).reward_and_terminated(before, after)
        np.testing.assert_array_equal(np.asarray(reached), [near] * 2)
        np.testing.assert_allclose(
            np.asarray(reward), [np.where(near, near_reward, far_reward)] * 2, atol=1e-4
        )


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"world": "bounce", "task": "body_goal"}, {"about": ("body_goal", "robot"), "advice": "task=null"}),
        (
            {"world": "luxo", "task": "cube_goal"},
            {"about": ("cube_goal", "robot", "object"), "advice": "task=null"},
        ),
        ({"task": "body_gaol"}, {"got": "body_gaol", "advice": "body_goal"}),
        ({"task": "body_goal", "goal_threshold": 0.0}, {"about": "goal_threshold", "got": 0.0}),
        ({"task": "body_goal", "reward": "fame"}, {"about": "reward", "got": "fame"}),
        ({"world": "luxo_cube", "task": "cube_goal", "full_state": False}, {"about": "full_state"}),
        ({"physics": "slow"}, {"about": "physics", "got": "slow"}),
        ({"max_steps": 0}, {"about": "max_steps", "got": 0}),
        ({"render_mode": "rgb"}, {"got": "rgb", "advice": "rgb_array"}),
        ({"world": "luxocube"}, {"got": "luxocube", "advice": "luxo_cube"}),
    ],
)
def test_impossible_options_are_refused_in_one_line(options, fields):
    with refused(WmplayError, **fields):
        LcdEnv(**options)


def test_body_goal_in_the_env():
    env = LcdEnv("luxo", task="body_goal")
    observation, info = env.reset(seed=3)
    assert set(observation) == {"lcd", "proprio", "goal_lcd", "goal_proprio"}
    assert info == {"distance": pytest.approx(env.task.distance(observation)), "success": False}
    assert not np.array_equal(observation["proprio"], observation["goal_proprio"])
    after, reward, terminated, truncated, info = env.step(np.zeros(3))
    np.testing.assert_array_equal(after["goal_lcd"], observation["goal_lcd"])
    assert reward == pytest.approx(-info["distance"])
    assert (terminated, truncated, info["success"]) == (False, False, False)


def at_goal(env):
    """A state of luxo that is its goal, given by observations alone."""
    observation, _ = env.reset(seed=3)
    return observation["goal_proprio"]


def test_reaching_the_goal_terminates_with_success():
    env = LcdEnv("luxo", task="body_goal", full_state=True)
    observation, info = env.reset(seed=3, options={"state": at_goal(env)})
    assert info["distance"] < 1e-6
    np.testing.assert_array_equal(observation["goal_lcd"], observation["lcd"])
    _, reward, terminated, truncated, info = env.step(np.zeros(3))
    assert terminated
    assert not truncated
    assert info["success"] is True
    assert reward == pytest.approx(1 - info["distance"])


def test_progress_is_rewarded_where_it_is_asked_for():
    env = LcdEnv("urchin", task="body_goal", reward="progress")
    _, before = env.reset(seed=0)
    _, reward, _, _, after = env.step(np.ones(3))
    assert reward == pytest.approx(-0.05 + 10 * (before["distance"] - after["distance"]), abs=1e-5)


def test_cube_goals_lie_where_a_cube_has_landed():
    env = LcdEnv("urchin_cube", task="cube_goal")
    assert env.task.reward == "progress"
    heights, places = [], []
    for seed in range(31):
        observation, _ = env.reset(seed=seed)
        goal = observation["goal_full_state"]
        assert goal.shape == observation["full_state"].shape == (20,)
        places.append(goal[0])
        heights.append((goal[1] + 1) / 2 * 5)
    assert np.ptp(places) > 1
    assert np.median(heights) == pytest.approx(0.4, abs=0.03), "on the floor"
    assert max(heights) < 2.5, "or on the robot"


def test_a_cube_goal_is_a_start_ten_passive_steps_later():
    env = LcdEnv("luxo_cube", task="cube_goal")
    observation, _ = env.reset(seed=4)
    rng = np.random.default_rng(4)
    sample_start(env.world, rng)  # the episode's own
    passive = Simulation(Blueprint(env.world, "faithful"))
    passive.start(sample_start(env.world, rng))
    for _ in range(10):
        passive.step([0.0] * 3)
    x, y = passive.state[0, :2]
    np.testing.assert_allclose(observation["goal_full_state"][:2], (x / 3.75 - 1, y / 2.5 - 1), atol=1e-6)


def test_a_random_policy_reaches_few_goals():
    from wmplay.envs.lcd import LcdVectorEnv

    env = LcdVectorEnv(50, world="luxo", task="body_goal", physics="fast")
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    ended = reached = 0
    for _ in range(200):
        _, _, terminated, truncated, _ = env.step(rng.uniform(-1, 1, (50, 3)))
        ended += (terminated | truncated).sum()
        reached += terminated.sum()
    assert 0.08 < reached / ended < 0.35
