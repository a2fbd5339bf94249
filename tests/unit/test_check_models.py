"""The conformance kit on models: an honest one passes, and each property fails a model built to break it."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import offering_models
import pytest
import torch
from broken_models import MUTANTS, SHIFTED, ActsLate, Compiles, Honest, ScreenAlone, env
from mutants import expect_failures, named
from push import CONTINUOUS, DISCRETE, Push
from silent_models import DrawsWithTheVariance
from torch import Tensor
from unusual_models import UNUSUAL, Widths

import wmplay
from wmplay.check import check_model, models
from wmplay.check.fixtures.fitted_model import Trial
from wmplay.check.models import devices, oracle, values, widths
from wmplay.check.models import time_rule as timing
from wmplay.check.report import Broken
from wmplay.contracts import Prediction

SLOW_LEARNERS = ("Contrastive", "RewardOnly", "Staged")  # of right models; they take three rounds of updates
SLOW = {each.name for each in models.PROPERTIES if each.slow}


@pytest.mark.parametrize("actions", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
def test_an_honest_model_has_every_property(actions: Any) -> None:
    report = check_model(Honest(actions), env(actions))
    assert report.passed, str(report)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_fails_what_it_breaks_and_nothing_else(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "ROUNDS", oracle.ROUNDS[:2])  # the last is for slow learners
    monkeypatch.setattr(models, "FEWER", models.UPDATES)
    make, expected = MUTANTS[mutant]
    report = check_model(make(), env(), quick=not expected & SLOW)
    expect_failures(report, expected)
    said = [finding.message for finding in report.failures if finding.name == "predictions are on time"]
    assert all(SHIFTED[mutant] in message for message in said)


def test_a_model_with_features_values_and_goals_has_every_property() -> None:
    report = check_model(offering_models.Offering(), env(), quick=True)
    assert report.passed, str(report)
    untried = {finding.name for finding in report.findings if not finding.tried}
    assert untried & named(models.OFFERS) == SLOW & named(models.OFFERS)


@pytest.mark.parametrize("model", [offering_models.Targets, *offering_models.MISVALUED])
def test_values_are_held_against_known_returns(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "UPDATES", 150)
    trial = Trial(model(), env(), 0, updates=2)
    if model not in offering_models.MISVALUED:
        values.values_are_expected_returns(trial)
        return
    with pytest.raises(Broken, match=offering_models.MISVALUED[model]):
        values.values_are_expected_returns(trial)


def test_draws_are_held_against_known_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "ROUNDS", (40,))
    right, wrong = (Trial(model(), env(), 0, updates=20) for model in (Widths, DrawsWithTheVariance))
    widths.draws_spread_as_fitted(right)
    with pytest.raises(Broken, match="fitted to vectors whose noise is"):
        widths.draws_spread_as_fitted(wrong)


@pytest.mark.parametrize(("noise", "vague"), [(0.0, False), (1.0, True)])
def test_a_head_that_reads_vague_frames_is_not_judged(noise: float, vague: bool) -> None:
    """A scale is: what is predicted goes with what the loss expects."""
    told = {("'x'", "time"): 1.0, ("'x'", "action"): 0.1, ("reward", "time"): 2.3}
    expected = torch.linspace(-1, 1, 13)
    said = 2.3 * expected + noise * torch.tensor([-1.0, 1, 0.0, 1]).repeat(4)[:13]

    def future(reward: Tensor) -> Prediction:
        return Prediction(reward, reward, None, None, lambda latent: {})

    asked = SimpleNamespace(
        model=None,
        told={key: {"late": 0.0, "on time": amount, "early": 0.0} for key, amount in told.items()},
        predicted=lambda model: future(said),
        expected=lambda: future(expected),
    )
    assert oracle.Oracle.heads_read_vague_frames(asked) == vague  # type: ignore[arg-type]


def test_each_property_is_broken_by_a_mutant() -> None:
    tried_elsewhere = {"cpu and cuda agree", "values are expected returns", "draws spread as fitted"}
    assert MUTANTS.broken() | tried_elsewhere == named(models.PROPERTIES)


def test_a_claim_to_compile_that_is_true_passes() -> None:
    report = check_model(Compiles(), env())
    assert report.passed, str(report)
    assert "compiles as claimed" in {f.name for f in report.findings if f.tried}


def test_what_is_not_predicted_may_be_claimed() -> None:
    report = check_model(ScreenAlone(), env())
    assert report.passed, str(report)


def test_numbers_on_a_gpu_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU stands for the GPU, a copy that is moved for what goes wrong there."""

    class Moves(Honest):
        def to(self, *place: Any) -> Any:
            with torch.no_grad():
                self.head.bias += 1 if place == (devices.GPU,) else 0
            return super().to(*place)

    monkeypatch.setattr(devices, "GPU", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    trials = [Trial(model, env(), 0) for model in (Honest(), Moves())]
    devices.cpu_and_cuda_agree(trials[0])
    with pytest.raises(Broken, match="on the GPU it predicts something else"):
        devices.cpu_and_cuda_agree(trials[1])


def test_the_model_and_the_random_state_are_left_as_they_were() -> None:
    model = Honest()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    wmplay.check.check_model(model, env())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("model", UNUSUAL)
def test_what_is_right_in_another_way_is_not_accused(model: Any) -> None:
    report = check_model(model(), env(), quick=model.__name__ in SLOW_LEARNERS)
    assert report.passed, str(report)


def test_in_an_env_of_short_episodes_made_up_ones_stand_in() -> None:
    report = check_model(Honest(), Push(max_steps=1), quick=True)
    assert report.passed, str(report)


def test_late_actions_are_called_late() -> None:
    with pytest.raises(Broken, match=r"another action\[0\] leaves .* as it was: it works one step late"):
        timing.actions_matter(Trial(ActsLate(), env(), 0))
