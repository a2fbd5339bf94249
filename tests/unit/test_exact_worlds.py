"""Exact worlds: their optimum, the floor of random actions, and golden numbers from outside."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

import wmplay
from wmplay.envs.exact.breakout import Breakout
from wmplay.envs.exact.catch import Catch
from wmplay.envs.exact.deep_sea import DeepSea
from wmplay.envs.exact.pendulum_screen import PendulumScreen
from wmplay.envs.exact.ring import Ring, occupancy
from wmplay.envs.exact.shapes16 import DIRECTIONS, SIZE, Shapes16, stopped
from wmplay.envs.exact.shapes64 import SPEED, Shapes64
from wmplay.envs.exact.springs import Springs
from wmplay.envs.exact.two_rooms import MOVES, TwoRooms
from wmplay.errors import ConfigError, WmplayError

BY_SIGHT = ("breakout", "catch", "pendulum_screen", "ring")
NAMES = (*BY_SIGHT, "deep_sea", "lottery", "shapes16", "shapes64", "springs", "two_rooms")


def play(env: gymnasium.Env[Any, Any], choose: Any, seed: int) -> float:
    """The return of an episode in which ``choose`` gives the action in a state."""
    env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        _, reward, terminated, truncated, _ = env.step(choose(env.unwrapped.state))
        total, over = total + reward, terminated or truncated
    return total


# ---- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_slots_are_single_envs_and_start_in_given_states(name: str) -> None:
    many, one = wmplay.make_env(name, num_envs=3), wmplay.make_env(name)
    frames, _ = many.reset(seed=11)
    single, _ = one.reset(seed=13)
    assert all(np.array_equal(frames[key][2], single[key]) for key in single)
    again, _ = one.reset(options={"state": many.state[1]})
    assert all(np.array_equal(frames[key][1], again[key]) for key in single)
    with pytest.raises(ConfigError) as error:
        one.reset(options={"state": [np.nan]})
    assert error.value.expected is not None


@pytest.mark.parametrize("name", BY_SIGHT)
def test_a_screen_can_be_rendered(name: str) -> None:
    env = wmplay.make_env(name, render_mode="rgb_array")
    frame, _ = env.reset(seed=0)
    picture = env.render()
    assert picture.shape[2] == 3
    screen = frame["screen"]
    assert (picture[8::16, 8::16] == 255 * (screen if screen.ndim == 3 else screen[..., None])).all()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("breakout", {"sticky": 1.5}),
        ("catch", {"columns": 1}),
        ("catch", {"render_mode": "human"}),
        ("deep_sea", {"size": 1}),
        ("lottery", {"probability": 1.5}),
        ("ring", {"slip": -0.1}),
        ("springs", {"bodies": 1}),
        ("springs", {"stiffness": 0}),
        ("two_rooms", {"doors": [9]}),
        ("two_rooms", {"max_steps": 0}),
        ("two_rooms", {"origin": [0, 4]}),
        ("two_rooms", {"origin": [0]}),
        ("two_rooms", {"origin": [4, 4], "across": True}),
    ],
)
def test_settings_out_of_range(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(WmplayError) as error:
        wmplay.make_env(name, **wrong)
    assert "\n" not in str(error.value)


# ---- Catch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("windy", [False, True])
def test_random_catching_is_worth_minus_three_fifths(windy: bool) -> None:
    env = Catch(windy=windy)
    place, moves = np.arange(5), (-1, 0, 1)
    value = np.where(place[:, None] == place, 1.0, -1.0)
    for _ in range(9):
        step = [value[(place + move).clip(0, 4)] for move in moves]
        value = 0.25 * step[0] + 0.5 * step[1] + 0.25 * step[2] if windy else value
        value = np.mean([value[:, (place + move).clip(0, 4)] for move in moves], axis=0)
    assert value[:, 2].mean() == pytest.approx(-0.6, abs=1e-12)
    rng = np.random.default_rng(0)
    assert np.mean([play(env, lambda _: rng.integers(3), seed) for seed in range(700)]) == pytest.approx(
        -0.6, abs=0.1
    )


def test_the_optimum_of_catch_is_reached_by_following_the_ball() -> None:
    follow = lambda state: int(np.sign(state[1] - state[2])) + 1  # noqa: E731
    assert Catch().optimum() == 1
    assert np.mean([play(Catch(), follow, seed) for seed in range(20)]) == 1
    windy = Catch(windy=True)
    # the last move is drawn after the paddle's: in the middle the ball is caught in half of the cases
    assert 0 < windy.optimum() < 1
    mean = np.mean([play(windy, follow, seed) for seed in range(2000)])
    assert mean == pytest.approx(windy.optimum(), abs=0.06)


# ---- Breakout ------------------------------------------------------------------------------------


def played(world: Breakout, choose: Any, episodes: int) -> tuple[float, float]:
    """The mean return and length of episodes in which ``choose`` gives the actions in states."""
    generators = [np.random.default_rng(seed) for seed in range(episodes)]
    state, alive = world.start(generators), np.ones(episodes, bool)
    total = length = 0.0
    for _ in range(world.max_steps):
        state, reward, lost = world.advance(state, choose(state), generators)
        total, length = total + reward[alive].sum(), length + alive.sum()
        alive &= ~lost
        if not alive.any():
            break
    return total / episodes, length / episodes


def test_random_breakout_ends_after_ten_steps() -> None:
    rng = np.random.default_rng(0)
    value, length = played(Breakout(), lambda state: rng.integers(3, size=len(state)), 2000)
    assert value == pytest.approx(0.39, abs=0.05)
    assert length == pytest.approx(10, abs=0.5)


def test_following_the_ball_hits_twenty_one_bricks() -> None:
    assert Breakout().optimum() == pytest.approx(21, abs=4)
    ahead = lambda state: np.sign(state[:, 1] + state[:, 3] - state[:, 7]) + 1  # noqa: E731
    value, length = played(Breakout(sticky=0.0), ahead, 2)
    assert length == 500
    assert value > 10


def test_a_ball_bounces_off_walls_bricks_and_the_paddle() -> None:
    world, still = Breakout(sticky=0.0), np.ones(1)
    state = world.start([np.random.default_rng(0)])
    entries = {"ball": slice(0, 2), "moves": slice(2, 4), "bricks": slice(9, None)}

    def after(ball: Any, moves: Any, **changed: float) -> tuple[list[float], list[float], float, float, bool]:
        here = state.copy()
        here[0, :2], here[0, 2:4] = ball, moves
        here[0, 4], here[0, 7] = changed.get("inside", 0), changed.get("paddle", 4)
        if "bricks" in changed:
            here[0, 9:] = changed["bricks"]
        now, reward, lost = world.advance(here, still, [np.random.default_rng(0)])
        row = {name: now[0, part] for name, part in entries.items()}
        return row["ball"].tolist(), row["moves"].tolist(), row["bricks"].sum(), reward[0], bool(lost[0])

    assert after([5, 0], [1, -1]) == ([6, 0], [1, 1], 30, 0, False)  # a wall
    assert after([0, 3], [-1, 1]) == ([0, 4], [1, 1], 30, 0, False)  # the ceiling
    assert after([4, 3], [-1, 1]) == ([4, 4], [1, 1], 29, 1, False)  # a brick
    assert after([4, 3], [-1, 1], inside=1) == ([3, 4], [-1, 1], 30, 0, False)  # of two, one breaks
    assert after([8, 4], [1, 1]) == ([8, 5], [-1, 1], 30, 0, False)  # the paddle, below the ball
    assert after([8, 3], [1, 1]) == ([8, 4], [-1, -1], 30, 0, False)  # its side
    assert after([8, 7], [1, 1]) == ([9, 8], [1, 1], 30, 0, True)  # beside it
    assert after([8, 4], [1, 1], bricks=0)[2] == 30  # a new wall


# ---- DeepSea -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffled", [None, 3])
def test_only_steps_to_the_right_find_the_treasure(shuffled: int | None) -> None:
    env = DeepSea(size=7, shuffled=shuffled)
    right = lambda state: env.right[tuple(state.clip(0, 6).astype(int))]  # noqa: E731
    assert play(env, right, 0) == pytest.approx(env.optimum()) == pytest.approx(0.99)
    found = 0
    for number in range(2**7):  # all sequences of actions
        actions = iter([(number >> bit) & 1 for bit in range(7)])
        found += play(env, lambda _, left=actions: next(left), 0) > 0.5
    assert found == 1


# ---- two rooms -----------------------------------------------------------------------------------


def test_shortest_ways_of_two_rooms() -> None:
    env = TwoRooms()
    length, side = env.distances(), env.cells[:, 1] - 4
    other = ~np.eye(73, dtype=bool)
    cross = side[:, None] * side < 0
    assert len(env.cells) == 73
    assert length[other].mean() == pytest.approx(6.86, abs=0.005)
    assert length[cross].mean() == pytest.approx(9.44, abs=0.005)
    assert length.max() == 16
    assert env.optimum() == 1
    assert TwoRooms(doors=()).optimum() < 0.6
    assert len(TwoRooms(doors=(0, 3, 8)).cells) == 75


def test_episodes_of_two_rooms_begin_where_they_are_told_to() -> None:
    env = TwoRooms(origin=(8, 1), across=True)
    begun = env.start([np.random.default_rng(seed) for seed in range(11)])
    assert (begun[:, :2] == (8, 1)).all()
    assert (begun[:, 3] > 4).all()
    assert len(np.unique(begun[:, 2:], axis=0)) > 3
    assert env.optimum() == 1 > TwoRooms(origin=(8, 1), max_steps=8).optimum()


def test_random_walks_reach_a_fifth_of_the_goals() -> None:
    env = TwoRooms()
    number = {tuple(cell): i for i, cell in enumerate(env.cells)}
    walk = np.zeros((73, 73))
    for cell, i in number.items():
        for move in MOVES:
            walk[i, number.get(tuple(np.array(cell) + move), i)] += 0.25
    reached = np.zeros((73, 73))
    for goal in range(73):
        stays = walk.copy()
        stays[goal] = np.eye(73)[goal]
        reached[:, goal] = np.linalg.matrix_power(stays, 40)[:, goal]
    other = ~np.eye(73, dtype=bool)
    assert reached[other].mean() == pytest.approx(0.197, abs=0.001)
    rng = np.random.default_rng(0)
    played = np.mean([play(env, lambda _: rng.integers(4), seed) for seed in range(1000)])
    assert played == pytest.approx(reached[other].mean(), abs=0.05)


# ---- the others ----------------------------------------------------------------------------------


def test_the_pendulum_is_gymnasiums() -> None:
    ours, theirs = PendulumScreen(), gymnasium.make("Pendulum-v1")
    rng = np.random.default_rng(0)
    ours.reset(seed=3)
    theirs.reset(seed=3)
    theirs.unwrapped.state = ours.state.copy()
    for _ in range(101):
        action = rng.uniform(-3, 3, 1).astype(np.float32).clip(-2, 2)
        mine, other = ours.step(action)[1], theirs.step(action)[1]
        assert mine == pytest.approx(other, abs=1e-9)
        np.testing.assert_allclose(ours.state, theirs.unwrapped.state, atol=1e-9)


def test_the_pendulums_optimum_is_between_what_others_reach_and_zero() -> None:
    assert -175 < PendulumScreen().optimum() < -100


def test_springs_keep_momentum_and_energy_and_compose() -> None:
    world = Springs(bodies=5)
    state = world.start([np.random.default_rng(seed) for seed in range(7)])
    later = world.solution(state, 1.3)

    def momentum_and_energy(state: Any) -> Any:
        place, velocity = (each.reshape(7, 5, 2) for each in np.split(state, 2, axis=1))
        apart = ((place[:, :, None] - place[:, None]) ** 2).sum((1, 2, 3)) / 2
        return velocity.sum(1), (velocity**2).sum((1, 2)) / 2 + apart / 2

    for before, after in zip(momentum_and_energy(state), momentum_and_energy(later), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-9)
    np.testing.assert_allclose(world.solution(world.solution(state, 0.5), 0.8), later, atol=1e-9)
    small = (world.solution(state, 1e-6) - state) / 1e-6
    np.testing.assert_allclose(small[:, :10], state[:, 10:], atol=1e-4)


def test_the_best_guess_of_shapes16_pixel_by_pixel() -> None:
    env = Shapes16()
    assert env.best_bits() == 3
    start = np.array([[6, 6, k] for k in range(len(DIRECTIONS))], float)
    bits = []
    for _ in range(4):
        start = env.advance(start, np.zeros((8, 1)), [])[0]
        lit = env.observe(start)["screen"].mean(0)
        inside = lit[(lit > 0) & (lit < 1)]
        bits.append(-(inside * np.log2(inside) + (1 - inside) * np.log2(1 - inside)).sum())
    assert bits[0] == pytest.approx(20.1, abs=0.05)
    assert sum(bits) == pytest.approx(130, abs=0.5)
    assert SIZE == 16


def test_a_square_leaves_the_edge_in_every_direction_that_stays_inside() -> None:
    env, last = Shapes16(steps=40), SIZE - 3
    begun = np.array([(0, 5, 0), (last, last, 7), (5, 0, 3), (5, 5, 0)], float)  # up, down, to the left, free
    assert stopped(begun).tolist() == [True, True, True, False]
    generators = [np.random.default_rng(seed) for seed in range(4)]
    moves = [set() for _ in begun]
    for _ in range(80):
        after = env.advance(begun, np.zeros((4, 1)), generators)[0]
        for seen, step in zip(moves, (after - begun)[:, :2].astype(int), strict=True):
            seen.add(tuple(step.tolist()))
        assert (abs((after - begun)[:, :2]).max(1) == 1).all()
        assert ((after[:, :2] >= 0) & (after[:, :2] <= last)).all()
        np.testing.assert_array_equal(DIRECTIONS[after[:, 2].astype(int)], (after - begun)[:, :2])
    assert [len(seen) for seen in moves] == [5, 3, 5, 1]


def test_the_directions_of_shapes64_are_told_by_the_second_frame_alone() -> None:
    env = Shapes64()
    assert env.best_bits() == 3
    kinds = [(shape, colour) for shape in range(3) for colour in range(6)]
    state = np.array([[0, 0, *kind, 5.3, way] for kind in kinds for way in range(8)], float)
    first = env.observe(state)["screen"].reshape(len(kinds), 8, -1)
    assert (first == first[:, :1]).all()
    assert len(np.unique(first[:, 0], axis=0)) == len(kinds)
    for step in range(1, env.max_steps + 1):
        state = env.advance(state, np.zeros((len(state), 1)), [])[0]
        frames = env.observe(state)["screen"].reshape(len(kinds) * 8, 64, 64, 3)
        assert len(np.unique(frames.reshape(len(frames), -1), axis=0)) == len(frames)
        assert not frames[:, [0, -1]].any()  # inside of the screen
        np.testing.assert_allclose(np.linalg.norm(state[:, :2], axis=1), step * SPEED)
    drawn = env.start([np.random.default_rng(seed) for seed in range(800)])
    assert np.bincount(drawn[:, 5].astype(int)).min() > 60  # of 100 on average


def test_the_discounted_future_of_a_chain() -> None:
    chain = np.array([[0.9, 0.1], [0.2, 0.8]])
    golden = {
        0.5: [[0.8462, 0.1538], [0.3077, 0.6923]],
        0.9: [[0.7297, 0.2703], [0.5405, 0.4595]],
        0.99: [[0.6743, 0.3257], [0.6515, 0.3485]],
    }
    for gamma, expected in golden.items():
        np.testing.assert_allclose(occupancy(chain, gamma), expected, atol=5e-5)


def test_the_rings_transitions_are_those_played() -> None:
    env = Ring(size=5, slip=0.25)
    policy = np.tile([0.2, 0.3, 0.5], (5, 1))
    rng = np.random.default_rng(0)
    counts = np.zeros((5, 5))
    state = env.start([rng])
    for _ in range(7000):
        following = env.advance(state, rng.choice(3, size=1, p=policy[0]), [rng])[0]
        counts[int(state[0, 0]), int(following[0, 0])] += 1
        state = following
    np.testing.assert_allclose(counts / counts.sum(1, keepdims=True), env.transitions(policy), atol=0.04)
    shorter = lambda state: 1 if state[0] == 0 else 0 if state[0] <= 2 else 2  # noqa: E731
    assert np.mean([play(env, shorter, seed) for seed in range(300)]) == pytest.approx(env.optimum(), abs=0.5)


def test_the_lottery() -> None:
    env = wmplay.make_env("lottery")
    assert env.optimum() == 0.6
    assert play(env, lambda _: 0, 0) == 0.6
    assert np.mean([play(env, lambda _: 1, seed) for seed in range(400)]) == pytest.approx(0.5, abs=0.1)
