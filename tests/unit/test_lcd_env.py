"""One LCD env: the clock, actions, options and pictures."""

import copy
import pickle
import sys
import types

import gymnasium
import numpy as np
import pytest
from refusals import refused

from wmplay.envs.lcd import WORLDS, LcdEnv
from wmplay.errors import ConfigError


def test_the_clock_ends_an_episode():
    env = LcdEnv("dropbox")
    env.reset(seed=0)
    ends = [env.step(np.zeros(1))[2:4] for _ in range(25)]
    assert ends[:24] == [(False, False)] * 24
    assert ends[24] == (False, True)
    env.reset()
    assert env.step(np.zeros(1))[3] is False


def test_max_steps_overrides_the_clock():
    env = LcdEnv("luxo", max_steps=3)
    env.reset(seed=0)
    assert [env.step(np.zeros(3))[3] for _ in range(3)] == [False, False, True]


def test_seeds_repeat_an_episode_bit_for_bit():
    def play(env, seed):
        frames = [env.reset(seed=seed)[0]]
        rng = np.random.default_rng(0)
        frames += [env.step(rng.uniform(-1, 1, 3))[0] for _ in range(11)]
        return np.stack([frame["proprio"] for frame in frames])

    env = LcdEnv("urchin")
    first = play(env, 5)
    other = play(env, 6)
    np.testing.assert_array_equal(play(env, 5), first)
    np.testing.assert_array_equal(play(LcdEnv("urchin"), 5), first)
    assert not np.array_equal(other, first)
    env.reset(seed=5)
    after = env.reset()[0]["proprio"]
    env.reset(seed=5)
    np.testing.assert_array_equal(env.reset()[0]["proprio"], after)
    assert not np.array_equal(after, first[0])


def test_fast_physics_is_another_but_near():
    frames = {}
    for physics in ("faithful", "fast"):
        env = LcdEnv("bounce", physics=physics)
        env.reset(seed=0)
        for _ in range(3):
            env.step(np.zeros(1))
        frames[physics] = env.state
    np.testing.assert_allclose(frames["fast"], frames["faithful"], atol=0.2)


def test_actions_beyond_the_space_are_clipped():
    frames = []
    for size in (1.0, 7.0, np.inf):
        env = LcdEnv("luxo")
        env.reset(seed=0)
        frames.append(env.step(np.array([size, -size, size]))[0]["proprio"])
    np.testing.assert_array_equal(frames[0], frames[1])
    np.testing.assert_array_equal(frames[0], frames[2])


def test_a_passive_world_ignores_its_action():
    frames = []
    for action in (0.0, 1.0):
        env = LcdEnv("bounce2", full_state=True)
        env.reset(seed=0)
        frames.append(env.step(np.array([action]))[0])
    np.testing.assert_array_equal(frames[0]["full_state"], frames[1]["full_state"])
    np.testing.assert_array_equal(frames[0]["proprio"], [0])


def test_step_before_reset_is_refused():
    with pytest.raises(gymnasium.error.ResetNeeded):
        LcdEnv("luxo").step(np.zeros(3))


def test_full_state_is_objects_then_robot():
    env = LcdEnv("luxo_cubes", full_state=True)
    observation, _ = env.reset(seed=0)
    assert observation["full_state"].shape == (7 * 4,)
    np.testing.assert_array_equal(observation["full_state"][12:], observation["proprio"])
    expected = [2 * env.state[0, 0] / 10 - 1, 2 * env.state[0, 1] / 5 - 1]
    expected += [np.cos(env.state[0, 2]), np.sin(env.state[0, 2])]
    np.testing.assert_allclose(observation["full_state"][:4], expected, atol=1e-6)
    assert "full_state" not in LcdEnv("luxo_cubes").observation_space.spaces


def test_observations_belong_to_the_caller():
    env = LcdEnv("luxo", task="body_goal", reward="progress")
    twin = LcdEnv("luxo", task="body_goal", reward="progress")
    kept, _ = env.reset(seed=0)
    twin.reset(seed=0)
    before = {key: values.copy() for key, values in kept.items()}
    env.step(np.ones(3))
    for key, values in kept.items():
        np.testing.assert_array_equal(values, before[key])
    ours, *_ = env.reset(seed=0)
    twin.reset(seed=0)
    for values in ours.values():
        values[...] = 0
    assert env.step(np.ones(3))[1] == twin.step(np.ones(3))[1]


def test_rgb_array_shows_the_world_and_its_goal():
    plain, goal = (LcdEnv("luxo", task=task, render_mode="rgb_array") for task in (None, "body_goal"))
    plain.reset(seed=0)
    goal.reset(seed=0)
    picture = plain.render()
    assert picture.shape == (240, 480, 3)
    assert picture.dtype == np.uint8
    background = np.array([0xF8, 0xF9, 0xFA])
    assert (picture[:100] == background).all()
    assert 0.02 < (picture != background).any(-1).mean() < 0.2
    added = (goal.render() != picture).any(-1)
    assert 0.001 < added.mean() < 0.1, "the goal's outline"
    plain.step(np.ones(3))
    assert (plain.render() != picture).any()


@pytest.mark.parametrize("world", ["urchin_balls", "object3"])
def test_pictures_show_what_the_screen_shows(world):
    env = LcdEnv(world, render_mode="rgb_array")
    observation, _ = env.reset(seed=1)
    inked = (env.render() != env.render()[0, 0]).any(-1)[:-4]  # all but the floor
    blocks = 240 // 16
    rows, columns = np.nonzero(inked)
    seen = np.zeros_like(observation["lcd"])
    seen[rows // blocks, columns // blocks] = 1
    agree = (seen & observation["lcd"]).sum() / (seen | observation["lcd"]).sum()
    assert agree > 0.6


def test_lcd_render_is_the_observation():
    env = LcdEnv("bounce", render_mode="lcd")
    observation, _ = env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (128, 128, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[4::8, 4::8, 0], 255 * observation["lcd"])


@pytest.mark.parametrize("world", ["urchin_cube", "object2", {"base": "luxo", "control": "torque"}])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_goes_on_with_the_same_numbers(world, copied):
    env = LcdEnv(world, full_state=True)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (60, *env.action_space.shape))
    env.reset(seed=1)
    for action in actions[:40]:
        env.step(action)
    again = copied(env)
    for action in actions[40:]:
        (one, *_), (two, *_) = env.step(action), again.step(action)
        np.testing.assert_equal(one, two)
    np.testing.assert_equal(env.reset()[0], again.reset()[0])
    untouched = copied(LcdEnv(world))
    untouched.reset(seed=1)


def test_a_window_without_pygame_is_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    env = LcdEnv("luxo", render_mode="human")
    with refused(ConfigError, got="human"):
        env.reset(seed=0)


class Pygame(types.ModuleType):
    """Stands in for pygame; keeps what is shown."""

    class error(Exception):
        pass

    def __init__(self, display=True):
        super().__init__("pygame")
        self.shown, self.open = [], False
        self.display = self.event = self.surfarray = self.time = self
        self.has_display = display

    def init(self):
        if not self.has_display:
            raise self.error("No available video device")

    def set_mode(self, size):
        self.open, self.size = True, size

    def set_caption(self, text): ...

    def Clock(self):
        return self

    def tick(self, fps):
        self.fps = fps

    def pump(self): ...

    def blit_array(self, surface, picture):
        self.shown.append(picture)

    def flip(self): ...

    def quit(self):
        self.open = False


def test_a_window_shows_every_step(monkeypatch):
    pygame = Pygame()
    monkeypatch.setitem(sys.modules, "pygame", pygame)
    env = LcdEnv("luxo", render_mode="human")
    env.reset(seed=0)
    env.step(np.zeros(3))
    assert [picture.shape for picture in pygame.shown] == [(480, 240, 3)] * 2
    assert (pygame.size, pygame.fps, pygame.open) == ((480, 240), 10, True)
    env.close()
    env.close()
    assert not pygame.open


def test_a_window_without_a_display_is_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", Pygame(display=False))
    with refused(ConfigError, got="human"):
        LcdEnv("luxo", render_mode="human").reset(seed=0)


def test_every_world_can_be_pictured():
    for world in WORLDS:
        env = LcdEnv(world, render_mode="rgb_array")
        env.reset(seed=0)
        assert np.ptp(env.render()) > 50
