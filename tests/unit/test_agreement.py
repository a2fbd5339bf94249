import numpy as np
import pytest
import torch
from refusals import refused
from torch import nn

import wmplay
from wmplay.contracts import Prediction
from wmplay.envs.lcd import World
from wmplay.errors import WmplayError
from wmplay.evaluation.clips import cut_clips
from wmplay.evaluation.metrics.consistency import Drawing, drawing_of, evaluate_agreement


class Told(nn.Module):
    """Predicts vectors that it was told, and screens drawn from them; ``late`` steps behind on the screen."""

    def __init__(self, drawing, truth, late=0):
        super().__init__()
        self.drawing, self.truth, self.late = drawing, truth, late

    def initial(self, observation):
        return observation[self.drawing.key]

    def observe(self, belief, action, observation):
        return observation[self.drawing.key][:, -1]

    def predict(self, belief, action, *, generator=None):
        steps = action.shape[1] + 1
        where = (self.truth[:, None] == belief[None]).all(-1).float().argmax(0)  # frames are all different
        index = where[:, None] + torch.arange(1, steps)
        vectors = self.truth[index]
        screens = self.drawing(self.truth[index - self.late]).float()
        latent = {self.drawing.key: vectors, "lcd": screens}
        return Prediction(latent, None, None, belief, lambda latent: latent)

    def decode(self, latent):
        return latent


def world(name, **config):
    env = wmplay.make_env(name, num_envs=7, physics="fast", **config)
    return env, wmplay.make_env(name, physics="fast", **config), wmplay.simulate(env, episodes=7, seed=3)


def truths(store, key):
    return torch.from_numpy(np.concatenate([t.observation[key] for t in store]))


@pytest.mark.parametrize("name", ["luxo", "urchin"])
def test_the_truth_agrees_with_itself(name):
    _, env, store = world(name)
    drawing = drawing_of(env, store[0].observation)
    assert (drawing.key, drawing.measure) == ("proprio", "iou")
    model = Told(drawing, truths(store, "proprio"))
    score = evaluate_agreement(model, cut_clips(store, horizon=11), env)
    assert score.model.mean == [1] * 11
    # rounded to float32, a corner may fall into the next pixel
    assert min(score.ceiling.mean) > 0.97
    assert max(score.floor.mean) < 0.7
    assert (score.clips, score.row()["iou@11"]) == (7, 1)


def test_a_screen_that_lags_behind_does_not_agree():
    _, env, store = world("luxo")
    drawing = drawing_of(env, store[0].observation)
    score = evaluate_agreement(
        Told(drawing, truths(store, "proprio"), late=3), cut_clips(store, horizon=5), env
    )
    assert max(score.model.mean) < 0.9 < min(score.ceiling.mean)


def test_objects_are_not_in_the_proprio():
    _, env, store = world("luxo_cube")
    drawing = drawing_of(env, store[0].observation)
    assert (drawing.key, drawing.measure) == ("proprio", "covered")
    frames = store[0].observation
    screens, vectors = (torch.from_numpy(frames[key]) for key in ("lcd", "proprio"))
    assert drawing.agreement(screens > 0, vectors).mean() > 0.97
    assert drawing.agreement(torch.zeros_like(screens, dtype=torch.bool), vectors).max() == 0
    assert (drawing(vectors).sum((-1, -2)) < (screens > 0).sum((-1, -2))).any()


def test_full_state_draws_everything():
    _, env, store = world("luxo_cube", full_state=True)
    drawing = drawing_of(env, store[0].observation)
    assert (drawing.key, drawing.measure) == ("full_state", "iou")
    frames = store[0].observation
    screens, vectors = (torch.from_numpy(frames[key]) for key in ("lcd", "full_state"))
    assert drawing.agreement(screens > 0, vectors).mean() > 0.97


def test_a_view_that_scrolls():
    luxo = wmplay.make_env("luxo").unwrapped.world
    open_world = World(robots=luxo.robots, walls=False)
    env = wmplay.make_env("luxo", physics="fast")
    env.unwrapped.world = open_world
    root = torch.zeros(2, 16)
    root[1, ::4] = 0.5  # all of the robot has moved on, the view too
    root[:, 2::4] = 1
    one, other = drawing_of(env, ["lcd", "proprio"])(root)
    assert one.any()
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("bounce", ["lcd", "proprio"]),  # no robot
        ("object2", ["lcd", "proprio", "full_state"]),  # a ball or a box: who knows
        ("luxo", ["proprio"]),
        ("luxo", ["lcd"]),
    ],
)
def test_what_cannot_be_drawn(name, keys):
    assert drawing_of(wmplay.make_env(name), keys) is None


def test_other_envs_and_models_without_vectors_are_passed_over():
    _, env, store = world("luxo")
    assert drawing_of(wmplay.make_env("CartPole-v1"), ["lcd", "proprio"]) is None

    class Blind(Told):
        def predict(self, belief, action, *, generator=None):
            future = super().predict(belief, action)
            return Prediction(
                {"proprio": future.latent["proprio"]}, None, None, belief, lambda latent: latent
            )

    drawing = Drawing(env.unwrapped.world, "proprio")
    assert evaluate_agreement(Blind(drawing, truths(store, "proprio")), cut_clips(store), env) is None
    with refused(WmplayError, got=100):
        evaluate_agreement(Blind(drawing, truths(store, "proprio")), cut_clips(store, horizon=200), env)
