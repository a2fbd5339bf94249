"""Factors: each changes what it says and nothing else, the same in every form of the env."""

import numpy as np
import pytest
from refusals import refused

from wmplay.envs.lcd import LcdEnv
from wmplay.envs.lcd.factors import FACTORS
from wmplay.errors import ConfigError, UnknownName
from wmplay.evaluation.violation.pairs import draw_pairs, kinds_of
from wmplay.store.provenance import origin_of, same_world

WORLD = "urchin_cube"
PUSH = np.array([0.3, -0.7, 1.0], np.float32)
EVERY = {
    "gravity": [5, 15],
    "friction": [0.5, 2],
    "restitution": [0, 0.5],
    "mass": [0.5, 2],
    "size": [0.8, 1.2],
    "motor": [0.5, 1.5],
    "delay": [0, 3],
    "sticky": [0, 0.5],
    "noise": [0, 0.05],
    "flips": [0, 0.02],
    "hue": [0, 1],
}
# A value of each factor, and the facts (see below) that it changes.
CHANGES = {
    "gravity": (20.0, {"gravity"}),
    "friction": (2.0, {"friction"}),
    "restitution": (0.5, {"restitution"}),
    "mass": (3.0, {"density"}),
    "size": (0.5, {"area", "start", "vectors", "lcd", "picture"}),
    "motor": (0.5, {"speed", "torque"}),
    "delay": (2, set()),
    "sticky": (0.5, set()),
    "noise": (0.1, {"vectors"}),
    "flips": (0.3, {"lcd"}),
    "hue": (0.5, {"picture"}),
}


def facts(factors):
    """What is so after a reset and one step, by name."""
    env = LcdEnv(WORLD, factors=factors, full_state=True, render_mode="rgb_array")
    first, _ = env.reset(seed=3)
    start, picture = env.state, env.render()
    simulation = env._batch.simulations[0]
    fixtures = [body.fixtures[0] for body in simulation._bodies]
    env.step(PUSH)
    return {
        "gravity": tuple(simulation.b2world.gravity),
        "friction": [fixture.friction for fixture in fixtures],
        "restitution": [fixture.restitution for fixture in fixtures],
        "density": [fixture.density for fixture in fixtures],
        "area": [round(fixture.massData.mass / fixture.density, 5) for fixture in fixtures],
        "torque": [hinge.maxMotorTorque for hinge, *_ in simulation._blueprint.joints],
        "speed": [motor.motorSpeed for motor in simulation.motors],
        "start": start.tolist(),
        "vectors": first["full_state"].tolist(),
        "lcd": first["lcd"].tolist(),
        "picture": picture.tobytes(),
    }


def episode(env, seed=3, steps=9):
    frames = [env.reset(seed=seed)[0]]
    rng = np.random.default_rng(1)
    frames += [env.step(rng.uniform(-1, 1, 3).astype(np.float32))[0] for _ in range(steps)]
    return {key: np.stack([frame[key] for frame in frames]) for key in frames[0]}


def test_each_factor_is_here():
    assert FACTORS.keys() == EVERY.keys() == CHANGES.keys()


@pytest.mark.parametrize("name", FACTORS)
def test_a_factor_changes_what_it_says_and_nothing_else(name):
    value, expected = CHANGES[name]
    plain, varied = facts({}), facts({name: value})
    different = {fact for fact in plain if plain[fact] != varied[fact]}
    if name in ("delay", "sticky"):  # what is executed: see below
        different -= {"speed"}
    assert different == expected


def test_by_how_much():
    plain = facts({})
    assert facts({"gravity": 20})["gravity"] == (0, -20)
    assert facts({"restitution": 0.5})["restitution"] == [0.5] * 5
    for name, fact, value in (("friction", "friction", 2), ("mass", "density", 3), ("motor", "torque", 0.5)):
        np.testing.assert_allclose(facts({name: value})[fact], np.multiply(plain[fact], value), rtol=1e-6)
    np.testing.assert_allclose(facts({"size": 0.5})["area"], np.multiply(plain["area"], 0.25), rtol=1e-3)


def test_a_body_of_half_the_size_rests_half_as_high():
    heights = {}
    for size in (0.5, 1.0):
        env = LcdEnv("dropbox", factors={"size": size}, full_state=True)
        env.reset(seed=0)
        for _ in range(25):
            frame, *_ = env.step(np.zeros(1))
        heights[size] = env.state[0, 1]
        assert abs(frame["lcd"].sum() - (size * 1.4 * 3.2) ** 2) < 12 * size
    assert heights[0.5] == pytest.approx(heights[1.0] / 2, abs=0.02)


def test_an_action_is_executed_after_its_delay():
    late, prompt = LcdEnv("urchin", factors={"delay": 2}), LcdEnv("urchin")
    late.reset(seed=0)
    prompt.reset(seed=0)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (7, 3)).astype(np.float32)
    for step, action in enumerate(actions):
        seen, *_ = late.step(action)
        expected, *_ = prompt.step(actions[step - 2] if step >= 2 else np.zeros(3))
        np.testing.assert_array_equal(seen["proprio"], expected["proprio"])
    late.reset(seed=0)
    seen, *_ = late.step(PUSH)
    prompt.reset(seed=0)
    np.testing.assert_array_equal(seen["proprio"], prompt.step(np.zeros(3))[0]["proprio"])


def test_sticky_actions_repeat_the_last_one_that_often():
    env = LcdEnv("luxo", factors={"sticky": 0.4}, max_steps=1000)
    env.reset(seed=0)
    rng, repeated, before = np.random.default_rng(0), [], None
    for _ in range(300):
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        env.step(action)
        executed = env._batch.conditions._executed[0].tolist()
        repeated.append(executed == before)
        assert repeated[-1] or executed == action.astype(float).tolist()
        before = executed
    assert 0.3 < np.mean(repeated[1:]) < 0.5


def test_noise_has_the_spread_it_says_and_leaves_the_state_alone():
    quiet, noisy = LcdEnv(WORLD), LcdEnv(WORLD, factors={"noise": 0.05, "flips": 0.1})
    before, after = episode(quiet, steps=60), episode(noisy, steps=60)
    np.testing.assert_array_equal(quiet.state, noisy.state)
    inside = abs(before["proprio"]) < 0.8
    assert np.std((after["proprio"] - before["proprio"])[inside]) == pytest.approx(0.05, rel=0.1)
    assert np.mean(after["lcd"] != before["lcd"]) == pytest.approx(0.1, rel=0.1)
    assert not np.array_equal(after["lcd"][0] ^ before["lcd"][0], after["lcd"][1] ^ before["lcd"][1])


def test_values_follow_from_the_seed_alone_and_starts_do_not_follow_from_them():
    ranges = {"gravity": [5, 15], "mass": [0.5, 2]}
    env, other, plain = LcdEnv("luxo", factors=ranges), LcdEnv("luxo", factors=ranges), LcdEnv("luxo")
    drawn = []
    for seed in range(40):
        first, info = env.reset(seed=seed)
        assert other.reset(seed=seed)[1]["factors"] == info["factors"]
        np.testing.assert_array_equal(plain.reset(seed=seed)[0]["proprio"], first["proprio"])
        np.testing.assert_array_equal(plain.reset()[0]["proprio"], env.reset()[0]["proprio"])
        drawn.append(list(info["factors"].values()))
    low, high = np.min(drawn, 0), np.max(drawn, 0)
    assert (low >= [5, 0.5]).all()
    assert (high <= [15, 2]).all()
    assert (high - low > [8, 1.2]).all()


def test_episodes_of_one_seed_do_not_share_values():
    env = LcdEnv("bounce", factors={"gravity": [0, 1], "mass": [1, 2], "friction": [0, 1], "size": [0.5, 1]})
    env.reset(seed=0)
    parts = [np.modf(list(env.reset()[1]["factors"].values())[:3])[0] for _ in range(50)]
    assert len(np.unique(np.round(parts, 9))) == 150


def test_a_given_state_and_the_seed_repeat_an_episode_bit_for_bit():
    env = LcdEnv(WORLD, factors=EVERY, full_state=True)
    env.reset(seed=1)
    state = env.state

    def play():
        frames = [env.reset(seed=7, options={"state": state})[0]]
        frames += [env.step(PUSH)[0] for _ in range(11)]
        return frames

    first = play()
    env.reset(seed=8)
    env.step(PUSH)
    for mine, again in zip(first, play(), strict=True):
        for key in mine:
            np.testing.assert_array_equal(mine[key], again[key])


def test_values_that_are_shown_are_observed():
    env = LcdEnv(
        "luxo", factors={"gravity": [5, 15], "mass": 2, "friction": [0, 1], "shown": ["mass", "gravity"]}
    )
    first, info = env.reset(seed=0)
    values = [info["factors"][name] for name in ("gravity", "mass")]
    np.testing.assert_allclose(first["factors"], values, rtol=1e-6)
    assert env.observation_space.contains(first)
    assert "factors" not in LcdEnv("luxo", factors={"mass": 2}).observation_space.spaces


def test_pairs_of_violations_have_their_factors():
    env = LcdEnv("luxo", factors={"gravity": [2, 20], "shown": ["gravity"]})
    kind = kinds_of(env)[0]
    pairs = draw_pairs(env, kind, 6)
    shown = [np.unique(pair.possible.observation["factors"]) for pair in pairs]
    assert all(len(values) == 1 for values in shown)
    assert len({float(values[0]) for values in shown}) == 3  # of each two pairs


def test_the_true_dynamics_are_known_only_where_all_episodes_have_the_same():
    assert LcdEnv("luxo", factors={"gravity": 3, "delay": 1}).simulator is not None
    for factors in ({"gravity": [3, 4]}, {"sticky": 0.1}, {"noise": 0.1}, {"mass": 2, "shown": ["mass"]}):
        assert LcdEnv("luxo", factors=factors).simulator is None


def test_another_range_is_another_world():
    plain = {"_piece_": "env/lcd", "world": "luxo"}
    near, far = ({**plain, "factors": {"gravity": each}} for each in ([5, 15], [5, 20]))
    assert same_world(origin_of(near), origin_of(near))
    assert not same_world(origin_of(near), origin_of(plain))
    assert not same_world(origin_of(near), origin_of(far))
    assert origin_of(near)["factors"] == {"gravity": [5.0, 15.0]}
    old = {"_piece_": "env/lcd", "world": "luxo", "physics": "faithful"}  # as before there were factors
    assert same_world(origin_of(plain), old)
    assert not same_world(origin_of(near), old)


@pytest.mark.parametrize(
    ("factors", "kind", "token"),
    [
        ({"gravitas": 3}, UnknownName, "gravity"),
        ({"gravity": [9, 5]}, ConfigError, "gravity"),
        ({"gravity": [9, 99]}, ConfigError, "gravity"),
        ({"gravity": -1}, ConfigError, "gravity"),
        ({"gravity": [1, 2, 3]}, ConfigError, "gravity"),
        ({"gravity": "high"}, ConfigError, "gravity"),
        ({"gravity": True}, ConfigError, "gravity"),
        ({"gravity": [1, float("nan")]}, ConfigError, "gravity"),
        ({"delay": 1.5}, ConfigError, "delay"),
        ({"size": [1, 2]}, ConfigError, "robot"),  # Luxo twice as large has no room
        ({"mass": 2, "shown": ["gravity"]}, UnknownName, "gravity"),
        ({"mass": 2, "shown": "mass"}, ConfigError, "shown"),
    ],
)
def test_bad_factors_are_refused(factors, kind, token):
    with refused(kind) as caught:
        LcdEnv({"base": "luxo", "width": 5}, factors=factors)
    assert token in str(caught.value)


@pytest.mark.parametrize("name", ["motor", "delay", "sticky"])
def test_worlds_without_robots_have_no_factors_of_robots(name):
    with refused(ConfigError, name, got=name, expected="gravity"):
        LcdEnv("bounce", factors={name: 1 if name == "delay" else 0.5})
