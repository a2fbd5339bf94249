"""The made-up world that tells of which step a prediction is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from wmplay.check.fixtures.alignment_episodes import MOMENTS, SAFE, Clockwork, Episodes
from wmplay.contracts import Prediction

SPACES = {
    "lcd": Box(0, 1, (5, 7), np.uint8),
    "pixels": Box(0, 255, (11, 13, 3), np.uint8),
    "bits": Box(0, 1, (17,), np.uint8),
    "x": Box(np.array([-1, 2, 0], np.float32), np.array([3, 5, 1], np.float32)),
    "v": Box(-np.inf, np.inf, (2,), np.float32),
    "goal_x": Box(-1, 1, (2,), np.float32),
}
ACTIONS = {
    "box": Box(np.array([-2, 0], np.float32), np.array([2, 3], np.float32)),
    "five": Discrete(5, start=3),
    "two": Discrete(2),
}


def episodes(world: Clockwork, rows: int = 101) -> Episodes:
    return world.episodes(rows, SAFE + 4, torch.Generator().manual_seed(0))


def future(told: Episodes, step: int) -> Prediction:
    """The truth about a step, as the prediction [B, 1, ...] of any."""
    frames = {key: value[:, step + 1 : step + 2].float() for key, value in told.segment.observation.items()}
    reward, fatal = (x[:, step : step + 1].float() for x in (told.segment.reward, told.fatal))
    return Prediction(reward, reward, 1 - fatal, None, lambda latent: frames)


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("actions", ACTIONS)
def test_the_truth_about_another_step_is_told_to_be_that(actions: str, when: str) -> None:
    world = Clockwork(SPACES, ACTIONS[actions])
    asked, at = episodes(world), SAFE + 1  # fatal actions are possible in all three steps
    answers = world.told(asked, future(asked, at + MOMENTS[when]), at)
    kinds = [(f"'{key}'", what) for key in SPACES if key != "goal_x" for what in ("time", "action")]
    ends = [("discount", "end")] * (actions != "two")  # of two actions there is none to spare
    assert list(answers) == [*kinds, ("reward", "time"), ("reward", "action"), *ends]
    for asked_for, amounts in answers.items():
        expected = {name: float(name == when) for name in MOMENTS}
        assert amounts == pytest.approx(expected, abs=0.02), asked_for


def test_a_guess_that_knows_half_tells_half() -> None:
    world = Clockwork({"x": SPACES["x"]}, ACTIONS["box"])
    asked = episodes(world)
    mean = asked.segment.observation["x"].mean((0, 1))
    vague = Prediction(
        mean, None, None, None, lambda _: {"x": (asked.segment.observation["x"][:, SAFE + 2 :] + mean) / 2}
    )
    for amounts in world.told(asked, vague, SAFE + 1).values():
        assert amounts == pytest.approx({"late": 0, "on time": 0.5, "early": 0}, abs=0.01)


@pytest.mark.parametrize("actions", ACTIONS)
def test_episodes_are_of_their_spaces_and_end_by_fatal_actions(actions: str) -> None:
    world = Clockwork(SPACES, ACTIONS[actions])
    told = episodes(world)
    segment = told.segment
    frames: Any = {key: value.numpy() for key, value in segment.observation.items()}
    for row, step in ((0, 0), (7, SAFE), (100, SAFE + 4)):
        for key, space in SPACES.items():
            assert space.contains(frames[key][row, step]), key
        assert ACTIONS[actions].contains(segment.action.numpy()[row, min(step, SAFE + 3)])
    assert segment.mask[:, : SAFE + 1].all()
    assert not segment.terminated[:, :SAFE].any()
    assert torch.equal(segment.terminated, told.fatal & segment.mask)
    assert not (segment.terminated[:, :-1] & segment.mask[:, 1:]).any()
    assert bool(segment.terminated.any()) == (actions != "two")
    assert len({tuple(phase) for phase in told.phase[:, :1].tolist()}) == 3


def test_the_same_generator_gives_the_same_episodes() -> None:
    world = Clockwork(SPACES, ACTIONS["five"])
    first, second = (episodes(world, 7).segment for _ in range(2))
    assert torch.equal(first.action, second.action)
    assert torch.equal(first.observation["pixels"], second.observation["pixels"])
