"""The physics: laws that can be checked by hand, and states that go in and come out."""

import dataclasses
import math

import numpy as np
import pytest
from refusals import refused

from wmplay.envs.lcd import WORLDS, Circle, LcdEnv, Object, World, box
from wmplay.envs.lcd.physics import Blueprint, Simulation
from wmplay.envs.lcd.start import Start, given_state, sample_start
from wmplay.errors import ConfigError, ShapeError


def simulation(world, state=None, seed=0, physics="faithful"):
    sim = Simulation(Blueprint(world, physics))
    start = sample_start(world, np.random.default_rng(seed))
    sim.start(start if state is None else dataclasses.replace(start, state=np.asarray(state, float)))
    return sim


def thrown(vx, vy, **world):
    ball = Object("ball", (Circle(0.1),))
    return simulation(World(width=20, height=20, objects=(ball,), **world), [[10, 10, 0, vx, vy, 0]])


def test_a_thrown_ball_falls_as_it_should():
    sim = thrown(2, 1)
    for _ in range(5):
        sim.step([])
    time, substep = 0.5, 1 / 30
    x, y = sim.state[0, :2]
    assert x == pytest.approx(10 + 2 * time, abs=1e-3)
    # Box2D changes the velocity first, so each sub-step falls half a sub-step's worth further.
    assert y == pytest.approx(10 + time - 9.81 * (time**2 + time * substep) / 2, abs=1e-3)


def test_gravity_is_the_worlds():
    sim = thrown(0, 0, gravity=(0.0, 0.0))
    sim.step([])
    np.testing.assert_array_equal(sim.state[0], [10, 10, 0, 0, 0, 0])


@pytest.mark.parametrize("fps", [10, 30])
def test_a_step_lasts_one_frame(fps):
    sim = thrown(1, 0, gravity=(0.0, 0.0), fps=fps)
    sim.step([])
    assert sim.state[0, 0] == pytest.approx(10 + 1 / fps, abs=1e-5)


def test_walls_hold_and_no_walls_do_not():
    ball, robot = Object("ball", (Circle(0.3),)), WORLDS["urchin"].robots
    start = [[9.5, 1, 0, 5, 0, 0]]
    for walls in (True, False):
        world = World(objects=(ball,), robots=robot, walls=walls)
        first = sample_start(world, np.random.default_rng(0)).state
        sim = simulation(world, [*start, *first[1:]])
        for _ in range(10):
            sim.step([0.0, 0.0, 0.0])
        assert (sim.state[0, 0] < 10) == walls
        assert sim.state[0, 1] > 0, "the floor is there either way"


@pytest.mark.parametrize("world", ["luxo", "urchin_ball", "object2", "spider_cube"])
@pytest.mark.parametrize("physics", ["faithful", "fast"])
def test_same_seed_same_bits(world, physics):
    def run(sim):
        rng = np.random.default_rng(1)
        for _ in range(20):
            sim.step(rng.uniform(-8, 8, len(WORLDS[world].motors)).tolist())
        return sim.state

    sim = simulation(WORLDS[world], physics=physics)
    once = run(sim)
    sim.start(sample_start(WORLDS[world], np.random.default_rng(0)))
    again = run(sim)  # in a simulation that has been used
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(once, run(simulation(WORLDS[world], physics=physics)))


@pytest.mark.parametrize("world", WORLDS)
def test_a_state_comes_back_as_it_went_in(world):
    sim = simulation(WORLDS[world])
    for _ in range(3):
        sim.step([1.0] * len(WORLDS[world].motors))
    state = sim.state
    assert np.abs(state[:, 3:]).max() > 0.01, "something moves"
    start = sample_start(WORLDS[world], np.random.default_rng(0))
    sim.start(dataclasses.replace(start, state=state))
    np.testing.assert_array_equal(sim.state, state)
    sim.step([0.0] * len(WORLDS[world].motors))
    assert not np.array_equal(sim.state, state)


def test_pose_is_read_from_the_world_as_it_is_now():
    sim = simulation(WORLDS["luxo"])
    for _ in range(3):
        sim.step([8.0, -8.0, 8.0])
        pose: list[float] = []
        sim.read_pose(pose)
        np.testing.assert_array_equal(np.reshape(pose, (4, 3)), sim.state[:, :3])


def joint_angles(world, state):
    """How far each joint of the first robot has turned from its start."""
    robot = world.robots[0]
    child = [world.index(robot, joint.child) for joint in robot.joints]
    parent = [world.index(robot, joint.parent) for joint in robot.joints]
    return state[child, 2] - state[parent, 2] - [robot.bend(joint) for joint in robot.joints]


@pytest.mark.parametrize("name", ["luxo", "crab", "spider_cube", "urchin"])
def test_joints_keep_their_limits(name):
    world = WORLDS[name]
    sim = simulation(world)
    rng = np.random.default_rng(0)
    low, high = np.array([joint.limits for joint in world.robots[0].joints]).T
    beyond = []
    for _ in range(60):
        sim.step(rng.uniform(-8, 8, len(world.motors)).tolist())
        angles = joint_angles(world, sim.state)
        beyond.append(np.maximum(low - angles, angles - high))
    assert (np.array(beyond) > 0.1).mean() < 0.1, "Box2D's limits give way a little to a hard push"
    assert (np.array(beyond) > 0.0).mean() < 0.6


@pytest.mark.parametrize("name", ["luxo", "crab", "spider_cube", "urchin"])
def test_limits_count_from_the_start(name):
    world = dataclasses.replace(WORLDS[name], gravity=(0.0, 0.0), objects=())
    start = sample_start(world, np.random.default_rng(0)).state
    np.testing.assert_allclose(joint_angles(world, start), 0, atol=1e-6)
    start[:, 1] += 0.5
    sim = simulation(world, start)
    for _ in range(3):
        sim.step([0.0] * len(world.motors))
    np.testing.assert_allclose(sim.state, start, atol=0.01)


def test_urchins_legs_are_spread_around_its_root():
    state = sample_start(WORLDS["urchin"], np.random.default_rng(0)).state
    np.testing.assert_allclose(state[1:, 2] - state[0, 2], [0, 2.0, 4.2], atol=1e-6)


def test_a_motor_turns_its_joint():
    world = dataclasses.replace(WORLDS["spider_cube"], gravity=(0.0, 0.0))
    for sign in (1, -1):
        sim = simulation(world)
        before = joint_angles(world, sim.state)[0]
        sim.step([sign * 2.0] + [0.0] * 7)
        assert (joint_angles(world, sim.state)[0] - before) == pytest.approx(sign * 0.2, abs=0.02)


def test_torque_control_sets_strength_by_the_actions_size():
    def turned(action):
        weak = {"base": "spider_cube", "gravity": [0, 0], "control": "torque"}
        env = LcdEnv(weak)
        env.reset(seed=0)
        before = joint_angles(env.world, env.state)[0]
        env.step([action] + [0.0] * 7)
        return joint_angles(env.world, env.state)[0] - before

    assert 0 < turned(0.0002) < turned(0.9)
    assert turned(-0.9) < 0


@pytest.mark.parametrize("world", WORLDS)
def test_starts_are_within_bounds(world):
    content = WORLDS[world]
    rng = np.random.default_rng(0)
    starts = [sample_start(content, rng) for _ in range(200)]
    states = np.stack([start.state for start in starts])
    for i, item in enumerate(content.objects):
        speed = np.hypot(*states[:, i, 3:5].T)
        low, high = item.speed or (0, 0)
        assert low <= speed.min() <= speed.max() <= high
        reach = np.array([item.shapes[start.shape[i]].reach for start in starts])
        high = 0.375 * content.height if content.robots else content.height - reach
        x, y, angle = states[:, i, :3].T
        assert (x >= reach - 1e-6).all()
        assert (x <= content.width - reach + 1e-6).all()
        assert (y >= reach - 1e-6).all()
        assert (y <= high + 1e-6).all()
        low_x, high_x = item.x or (reach, content.width - reach)
        low_y, high_y = item.y or (reach, high)
        assert np.ptp(y) > 0.9 * np.min(high_y - np.asarray(low_y)), "the whole of it"
        assert np.ptp(x) > 0.9 * np.min(high_x - np.asarray(low_x))
        assert (np.ptp(angle) > 6) == item.random_angle
    for robot in content.robots:
        x, y, angle = states[:, content.index(robot, robot.root.name), :3].T
        assert x.min() >= robot.margin - 1e-6
        assert x.max() <= content.width - robot.margin + 1e-6
        assert (y == np.float32(robot.margin)).all()
        assert (np.ptp(angle) > 6) == robot.random_angle


@pytest.mark.parametrize(
    ("half", "low", "high"), [(0.3, 0.3, 0.9375), (0.9375, 0.9375, 0.9375), (1.2, 1.2, 1.2)]
)
def test_a_large_object_next_to_a_robot_starts_inside_the_box(half, low, high):
    world = dataclasses.replace(WORLDS["urchin"], height=2.5, objects=(Object("large", (box(half, half),)),))
    rng = np.random.default_rng(0)
    heights = [sample_start(world, rng).state[0, 1] for _ in range(100)]
    assert low - 1e-6 <= min(heights) <= max(heights) <= high + 1e-6


def test_shapes_are_drawn_by_chance():
    rng = np.random.default_rng(0)
    drawn = [sample_start(WORLDS["object3"], rng).shape for _ in range(300)]
    assert 0.4 < np.mean(drawn) < 0.6
    assert len(set(drawn)) == 8


def test_parts_of_a_robot_never_collide_with_each_other():
    world = dataclasses.replace(WORLDS["urchin"], gravity=(0.0, 0.0))
    sim = simulation(world)
    for _ in range(20):
        sim.step([8.0, -8.0, 0.0])
    first, second = sim.state[1:3, 2]
    assert second - first == pytest.approx(0, abs=0.1), "two legs can lie on top of each other"


@pytest.mark.parametrize("world", ["luxo", "urchin_cube", "crab", "object2"])
def test_full_state_puts_the_world_back(world):
    env = LcdEnv(world, full_state=True)
    env.reset(seed=2)
    for _ in range(12):
        observation, *_ = env.step(env.action_space.sample())
    again, _ = env.reset(seed=2, options={"state": observation["full_state"]})
    np.testing.assert_allclose(again["full_state"], observation["full_state"], atol=1e-5)
    assert (again["lcd"] != observation["lcd"]).mean() < 0.01
    assert (env.state[:, 3:] == 0).all()
    for joint, angle in zip(
        (j for robot in env.world.robots for j in robot.joints),
        joint_angles(env.world, env.state) if env.world.robots else (),
        strict=True,
    ):
        assert abs(angle - sum(joint.limits) / 2) <= math.pi + 1e-6


def test_an_exact_state_goes_on_with_its_velocities():
    env = LcdEnv("luxo")
    env.reset(seed=0)
    for _ in range(9):
        env.step(np.ones(3))
    state = env.state
    other = LcdEnv("luxo")
    other.reset(seed=5, options={"state": state})
    np.testing.assert_array_equal(other.state, state)
    after, *_ = env.step(np.zeros(3))
    same, *_ = other.step(np.zeros(3))
    np.testing.assert_allclose(same["proprio"], after["proprio"], atol=0.05)


@pytest.mark.parametrize("world", ["urchin", "luxo", "crab", "urchin_cube"])
def test_angles_known_up_to_whole_turns_are_unwound(world):
    env = LcdEnv(world, full_state=True)
    env.action_space.seed(0)
    for seed in range(5):
        env.reset(seed=seed)
        for _ in range(7):
            env.step(env.action_space.sample())
        state = env.state
        wound = state.copy()
        wound[:, 2] = np.arctan2(np.sin(state[:, 2]), np.cos(state[:, 2]))
        wound[-1, 2] += 2 * math.pi
        given = given_state(env.world, wound)
        np.testing.assert_array_equal(given_state(env.world, state), state, "what is right stays as it is")
        before, after = joint_angles(env.world, state), joint_angles(env.world, given)
        np.testing.assert_allclose(after, before, atol=1e-5)
        env.reset(seed=0, options={"state": wound})
        place = env.state[:, :2]
        env.step(np.zeros(env.action_space.shape))
        assert np.abs(env.state[:, :2] - place).max() < 1, "it is not torn apart"


def test_states_outside_of_the_walls_are_refused():
    env = LcdEnv("luxo_cube", full_state=True)
    env.reset(seed=0)
    for place in ((-1, 1), (8, 1), (1, -1), (1, 6)):
        state = env.state
        state[0, :2] = place
        with refused(ConfigError, ("state", "body 0", "7.5 x 5"), got=list(map(float, place))):
            env.reset(options={"state": state})
    full = env.reset(seed=0)[0]["full_state"]
    full[0] = 2
    with refused(ConfigError, ("state", "body 0", "7.5 x 5"), got=[11.25, 0.798]):
        env.reset(options={"state": full})


def test_bad_states_are_refused():
    world = World(width=5, objects=(Object("a", (box(0.5, 0.5),)),))
    with refused(ShapeError, got=(1, 5), expected="[1, 6]"):
        given_state(world, np.zeros((1, 5)))
    with refused(ConfigError, "state", advice="numbers"):
        given_state(world, np.full((1, 6), np.nan))
    with refused(ConfigError, "state", got="str", expected="array"):
        given_state(world, "here")


def test_a_start_says_what_shapes_there_are():
    world = WORLDS["object2"]
    start = sample_start(world, np.random.default_rng(0))
    for shape in ((0, 1), (1, 0)):
        sim = Simulation(Blueprint(world, "fast"))
        state = np.array([[1.5, 3, 0, 0, 0, 4.0], [3.5, 3, 0, 0, 0, 4.0]])
        sim.start(Start(state, shape))
        for _ in range(60):
            sim.step([])
        tilt = np.abs((sim.state[:, 2] + math.pi / 4) % (math.pi / 2) - math.pi / 4)
        assert tilt[shape.index(1)] < 0.03, "a box comes to rest on a side"
    assert len(start.shape) == 2
