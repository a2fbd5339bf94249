"""Cases: kept while playing, read again, replayed, and tried with models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refused

import wmplay
from wmplay.contracts import Prediction, Trajectory
from wmplay.errors import RunError, WmplayError
from wmplay.evaluation.cases import About, Case, load_cases, replay, save_case, score_case

STEPS, SINCE = 11, 4


class Oracle:
    """A model that knows an episode, and predicts nothing but darkness after some steps."""

    def __init__(self, real: Trajectory, right: int) -> None:
        self.screens = torch.from_numpy(real.observation["lcd"]).float()
        self.right = right

    def initial(self, observation: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.zeros(1, 1)

    def observe(self, belief: torch.Tensor, action: torch.Tensor, observation: object) -> torch.Tensor:
        return belief + action.shape[1]

    def predict(self, belief: torch.Tensor, action: torch.Tensor, *, generator: object = None) -> Prediction:
        now = int(belief)
        screens = self.screens[now + 1 : now + 1 + action.shape[1]].clone()
        screens[self.right :] = 0
        return Prediction(screens[None], None, None, belief + action.shape[1], lambda latent: {"lcd": latent})


def episode() -> tuple[object, Trajectory]:
    env = wmplay.make_env("luxo")
    return env, next(iter(wmplay.simulate(env, episodes=1, seed=7))).steps(0, STEPS)


def about(**changes: object) -> About:
    fields: dict[str, object] = {
        "name": "fall",
        "key": "lcd",
        "since": SINCE,
        "held": 2,
        "model": "MLP",
        "run": "luxo",
        "seed": 7,
    }
    return About(**(fields | changes))  # type: ignore[arg-type]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    env, real = episode()
    save_case(tmp_path / "fall", about(), real, real.steps(SINCE, STEPS), env)
    return tmp_path


def test_what_is_kept_is_read_again(kept: Path) -> None:
    (case,) = load_cases(kept)
    assert (case.about, case.steps, len(case.real)) == (about(), STEPS - SINCE, STEPS)
    assert load_cases(kept / "fall")[0].path == kept / "fall"
    learned = wmplay.load_trajectories(kept / "fall" / "learned")
    assert np.array_equal(learned[0].observation["lcd"], case.real.observation["lcd"][SINCE:])


@pytest.mark.parametrize("right", [0, 3, STEPS - SINCE])
def test_a_model_holds_until_its_first_wrong_step(kept: Path, right: int) -> None:
    (case,) = load_cases(kept)
    score = score_case(Oracle(case.real, right), case)  # type: ignore[arg-type]
    assert (score.held, score.passed) == (right, right == STEPS - SINCE)
    assert np.array_equal(score.curve, [1.0] * right + [0.0] * (STEPS - SINCE - right))


def test_a_case_is_replayed_in_its_world(kept: Path) -> None:
    (case,) = load_cases(kept)
    replayed = replay(case)
    frames = case.real.observation["lcd"].copy()
    assert replayed >= 1  # the reset's frame
    frames[0] = 1 - frames[0]
    other = Trajectory({**case.real.observation, "lcd": frames}, *case.real.per_step.values())
    assert replay(Case(case.path, case.about, other, case.made_with)) == 0


def test_damage_is_one_line(kept: Path) -> None:
    file = kept / "fall" / "case.json"
    sound = json.loads(file.read_text())
    for wrong in ({"since": "x"}, {"since": STEPS}, {"since": -1}, {"key": "sound"}, {"seed": None}):
        content = {key: value for key, value in (sound | wrong).items() if key != "checksum"}
        file.write_text(json.dumps(content))
        with refused(RunError, file.name):
            load_cases(kept)
    file.write_text("[")
    with refused(RunError):
        load_cases(kept)
    with refused(RunError, kept / "none"):
        load_cases(kept / "none")


def test_a_model_without_the_screen_is_refused(kept: Path) -> None:
    (case,) = load_cases(kept)

    class Blind(Oracle):
        def predict(
            self, belief: torch.Tensor, action: torch.Tensor, *, generator: object = None
        ) -> Prediction:
            return Prediction(belief, None, None, belief, lambda latent: {"proprio": latent})

    with refused(WmplayError, "lcd"):
        score_case(Blind(case.real, 3), case)  # type: ignore[arg-type]
