"""The conformance kit on models: an honest one passes, and each property fails a model built to break it."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from push import CONTINUOUS, DISCRETE, Push, Reach
from torch import Tensor, nn
from torch.nn import functional as F

import wmplay
from wmplay.check import check_model, devices
from wmplay.check.result import Broken
from wmplay.check.trial import Trial
from wmplay.contracts import Prediction, Segment

NUMBERS = 37  # of a frame of Push: a screen of 5 x 7, and a place


class Honest(nn.Module):
    """Reads frames and actions with a GRU, guesses the change of the next frame, goes on from its guesses."""

    def __init__(self, action: Any = CONTINUOUS) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.classes = int(getattr(action, "n", 0))
        self.cell = nn.GRUCell(NUMBERS + (self.classes or action.shape[0]), 23)
        self.head = nn.Linear(23, NUMBERS + 2)

    def initial(self, observation: Any) -> Any:
        frame = self.flat(observation, 1)
        return {"hidden": frame.new_zeros(len(frame), 23), "frame": frame}

    def observe(self, belief: Any, action: Tensor, observation: Any) -> Any:
        frames = self.flat(observation, 2)
        for t in range(action.shape[1]):
            belief = {"hidden": self.step(belief, action[:, t]), "frame": frames[:, t]}
        return belief

    def predict(self, belief: Any, action: Tensor, *, generator: Any = None) -> Prediction:
        features = []
        for t in range(action.shape[1]):
            hidden = self.step(belief, action[:, t])
            change, outcome = self.guess(hidden)
            frame = belief["frame"] + change
            if generator is not None:
                frame = frame + 0.1 * torch.randn(frame.shape, generator=generator)
            belief = {"hidden": hidden, "frame": frame}
            features.append(torch.cat([frame, outcome], -1))
        latent = torch.stack(features, 1)
        return Prediction(latent, latent[..., -2], latent[..., -1].sigmoid(), belief, self.decode)

    def decode(self, latent: Tensor) -> Any:
        return {"lcd": latent[..., :35].unflatten(-1, (5, 7)), "x": latent[..., 35:37]}

    def loss(self, segment: Segment) -> Any:
        frames = self.flat(segment.observation, 2)
        belief = {"hidden": frames.new_zeros(len(frames), 23), "frame": frames[:, 0]}
        steps = []
        for t in range(segment.action.shape[1]):
            hidden = self.step(belief, segment.action[:, t])
            belief = {"hidden": hidden, "frame": frames[:, t + 1]}
            steps.append(hidden)
        change, outcome = self.guess(torch.stack(steps, 1))
        error = self.frame_error(frames[:, :-1] + change, frames[:, 1:])
        error = error + (outcome[..., 0] - segment.reward).square()
        goes_on = 1 - segment.terminated.float()
        error = error + F.binary_cross_entropy_with_logits(outcome[..., 1], goes_on, reduction="none")
        loss = (error * segment.mask).sum() / segment.mask.sum()
        return loss, {"loss/frame": loss.detach()}

    def frame_error(self, guess: Tensor, truth: Tensor) -> Tensor:
        return (guess - truth).square().sum(-1)  # [B, T]

    def flat(self, observation: Any, batch_dims: int) -> Tensor:
        parts = [observation[key].float().flatten(batch_dims) for key in ("lcd", "x")]
        return torch.cat(parts, -1)

    def step(self, belief: Any, action: Tensor) -> Tensor:
        moved = F.one_hot(action, self.classes).float() if self.classes else action
        return self.cell(torch.cat([belief["frame"], moved], -1), belief["hidden"])

    def guess(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        both = self.head(hidden)
        return both[..., :NUMBERS], both[..., NUMBERS:]


class Never(Reach):
    radius = 0.0


def env(actions: Any = CONTINUOUS) -> Push:
    return Push(actions, max_steps=17, task=Never())


class Compiles(Honest):
    compiles = ("loss", "predict")


class ScreenAlone(Honest):
    predicted = ("lcd",)

    def decode(self, latent: Tensor) -> Any:
        return {"lcd": super().decode(latent)["lcd"]}


# ---- models that each break something ------------------------------------------------------------

MUTANTS: dict[str, tuple[type[Honest], set[str]]] = {}


def breaks(*properties: str) -> Callable[[type[Honest]], type[Honest]]:
    """Registers a mutant with the properties that it must fail, and no others."""

    def register(cls: type[Honest]) -> type[Honest]:
        MUTANTS[cls.__name__] = cls, set(properties)
        return cls

    return register


def changed(prediction: Prediction, **values: Any) -> Prediction:
    fields = ("latent", "reward", "discount", "belief", "decode")
    return Prediction(**{name: values.get(name, getattr(prediction, name)) for name in fields})


@breaks("shapes and types")
class RewardWithAnAxisTooMany(Honest):
    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        future = super().predict(belief, action, **draws)
        assert future.reward is not None
        return changed(future, reward=future.reward.unsqueeze(-1))


@breaks("shapes and types")
class DiscountAsALogit(Honest):
    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        future = super().predict(belief, action, **draws)
        assert future.discount is not None
        return changed(future, discount=future.discount.logit())


@breaks("shapes and types")
class BeliefWithTheBatchLast(Honest):
    def initial(self, observation: Any) -> Any:
        return self.turned(super().initial(observation))

    def observe(self, belief: Any, action: Tensor, observation: Any) -> Any:
        return self.turned(super().observe(self.turned(belief), action, observation))

    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        future = super().predict(self.turned(belief), action, **draws)
        return changed(future, belief=self.turned(future.belief))

    def turned(self, belief: Any) -> Any:
        return {key: value.T for key, value in belief.items()}


@breaks("shapes and types")
class ForgetsAnObservation(Honest):
    def decode(self, latent: Tensor) -> Any:
        return {"lcd": super().decode(latent)["lcd"]}


@breaks("the loss is a finite scalar", "padding counts for nothing", "same seed same numbers")
class LossOfEachRow(Honest):
    def loss(self, segment: Segment) -> Any:
        loss, metrics = super().loss(segment)
        return loss.expand(5), metrics


@breaks("the loss is a finite scalar")
class LossOfADivisionByZero(Honest):
    def loss(self, segment: Segment) -> Any:
        loss, metrics = super().loss(segment)
        return loss / segment.reward.abs().min().mul(0), metrics


@breaks("every weight is trained")
class UnusedLayer(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(3, 5)


@breaks("every weight is trained")
class DetachedMemory(Honest):
    def guess(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return super().guess(hidden.detach())


@breaks("overfits one batch")
class ClimbsItsLoss(Honest):
    def loss(self, segment: Segment) -> Any:
        loss, metrics = super().loss(segment)
        return 2 * loss.detach() - loss, metrics


@breaks("overfits one batch")
class FitsTheOppositeOfWhatItPredicts(Honest):
    def frame_error(self, guess: Tensor, truth: Tensor) -> Tensor:
        return super().frame_error(guess, -truth)


@breaks("more than a copy")
class LossThatIsGivenTheAnswer(Honest):
    """It finds where it will be among its inputs, and learns to hand that on."""

    def loss(self, segment: Segment) -> Any:
        frames = self.flat(segment.observation, 2)
        told = torch.cat([frames[:, :-1, :35], frames[:, 1:, 35:]], -1)
        hidden, steps = frames.new_zeros(len(frames), 23), []
        for t in range(segment.action.shape[1]):
            hidden = self.step({"hidden": hidden, "frame": told[:, t]}, segment.action[:, t])
            steps.append(hidden)
        guess, outcome = self.guess(torch.stack(steps, 1))
        error = self.frame_error(told + guess, frames[:, 1:]) + 0 * outcome.sum(-1)
        loss = (error * segment.mask).sum() / segment.mask.sum()
        return loss, {"loss/frame": loss.detach()}


@breaks("padding counts for nothing")
class IgnoresTheMask(Honest):
    def loss(self, segment: Segment) -> Any:
        full = torch.ones_like(segment.mask)
        return super().loss(
            Segment(segment.observation, segment.action, segment.reward, segment.terminated, full)
        )


@breaks("padding counts for nothing")
class LossThatSeesTheFuture(Honest):
    def guess(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return super().guess(hidden + 0.1 * hidden.mean(1, keepdim=True) if hidden.ndim == 3 else hidden)


@breaks("batch invariance")
class MemoryCentredOverTheBatch(Honest):
    def guess(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return super().guess(hidden - hidden.mean(0) if hidden.ndim == 2 else hidden)


@breaks("batch invariance")
class RowsOfTheNeighbour(Honest):
    def initial(self, observation: Any) -> Any:
        return {key: value.roll(1, 0) for key, value in super().initial(observation).items()}


@breaks("no peeking", "seeing in parts")
class KnowsTheWholePlan(Honest):
    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        return super().predict(belief, action + 0.1 * action.mean(1, keepdim=True), **draws)


@breaks("no peeking", "seeing in parts")
class BlursOverTime(Honest):
    def decode(self, latent: Tensor) -> Any:
        return super().decode(latent + 0.1 * latent.mean(1, keepdim=True))


class ActsLate(Honest):
    """Each action works a step later than it should; what is pending is in the belief."""

    def initial(self, observation: Any) -> Any:
        belief = super().initial(observation)
        return {**belief, "pending": belief["frame"].new_zeros(len(belief["frame"]), 2)}

    def observe(self, belief: Any, action: Tensor, observation: Any) -> Any:
        late = torch.cat([belief["pending"].unsqueeze(1), action[:, :-1]], 1)
        return {**super().observe(belief, late, observation), "pending": action[:, -1]}

    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        late = torch.cat([belief["pending"].unsqueeze(1), action[:, :-1]], 1)
        future = super().predict(belief, late, **draws)
        return changed(future, belief={**future.belief, "pending": action[:, -1]})


breaks("actions matter")(ActsLate)


@breaks("actions matter")
class IgnoresActions(Honest):
    def step(self, belief: Any, action: Tensor) -> Tensor:
        return super().step(belief, torch.ones_like(action))


@breaks("observations matter")
class LooksOnlyAtTheFirstFrame(Honest):
    def observe(self, belief: Any, action: Tensor, observation: Any) -> Any:
        return belief


@breaks("seeing in parts")
class ReadsBackwards(Honest):
    def observe(self, belief: Any, action: Tensor, observation: Any) -> Any:
        later = {key: value.flip(1) for key, value in observation.items()}
        return {
            **super().observe(belief, action.flip(1), later),
            "frame": self.flat(observation, 2)[:, -1],
        }


@breaks("seeing in parts")
class BeliefOfTheBeginning(Honest):
    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        return changed(super().predict(belief, action, **draws), belief=belief)


@breaks("isolation")
class CountsWhatItSees(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def observe(self, belief: Any, action: Tensor, observation: Any) -> Any:
        self.seen += 1
        return super().observe(belief, action, observation)


@breaks("isolation", "batch invariance", "no peeking")
class RemembersTheLastCall(Honest):
    """Predicts otherwise when the call before was about one row alone."""

    alone = False

    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        before = 0.1 * self.alone
        self.alone = len(action) == 1
        return super().predict(belief, action + before, **draws)


@breaks("isolation", "same seed same numbers")
class PredictsInPlace(Honest):
    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        future = super().predict(belief, action, **draws)
        belief["frame"].copy_(future.belief["frame"].detach())
        return future


@breaks("same seed same numbers")
class DrawsFromTheGlobalGenerator(Honest):
    def predict(self, belief: Any, action: Tensor, *, generator: Any = None) -> Prediction:
        return super().predict(belief, action, generator=generator and torch.default_generator)


@breaks("same seed same numbers")
class DisturbsTheGlobalGenerator(Honest):
    def observe(self, belief: Any, action: Tensor, observation: Any) -> Any:
        torch.rand(1)
        return super().observe(belief, action, observation)

    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        torch.rand(1)
        return super().predict(belief, action, **draws)


@breaks("same seed same numbers")
class LossWithItsOwnDice(Honest):
    def loss(self, segment: Segment) -> Any:
        loss, metrics = super().loss(segment)
        return loss * (1 + 1e-5 * random.random()), metrics


@breaks("save and load")
class TensorThatIsNoBuffer(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.tensor(0.5)

    def guess(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return super().guess(self.scale * hidden)


@breaks("save and load", "follows its device")
class LayersInAList(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.more = [nn.Linear(23, 23)]

    def guess(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return super().guess(self.more[0](hidden))


@breaks("copies are equal and apart")
class HoldsALambda(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.squash = lambda x: 0.5 * x

    def guess(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return super().guess(self.squash(hidden))


@breaks("copies are equal and apart")
class SharesItsWeights(Honest):
    def __deepcopy__(self, memo: Any) -> Any:
        return copy.copy(self)


@breaks("follows its device")
class BeginsOnTheCPU(Honest):
    def initial(self, observation: Any) -> Any:
        return {**super().initial(observation), "hidden": torch.zeros(len(observation["x"]), 23)}


@breaks("follows its device")
class RewardsOnTheCPU(Honest):
    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        future = super().predict(belief, action, **draws)
        return changed(future, discount=torch.ones(action.shape[:2]))


@breaks("compiles as claimed")
class ClaimsAndLooksAtNumbers(Honest):
    compiles = ("loss",)

    def guess(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return super().guess(hidden if float(hidden.detach().sum()) < 1e6 else 0 * hidden)


@breaks("compiles as claimed")
class OtherNumbersWhenCompiled(Honest):
    compiles = ("predict",)

    def guess(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return super().guess(1.1 * hidden if torch.compiler.is_compiling() else hidden)


@breaks("compiles as claimed")
class ClaimsWhatIsNot(Honest):
    compiles = ("forward",)


# ---- tests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("actions", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
def test_an_honest_model_has_every_property(actions: Any) -> None:
    report = check_model(Honest(actions), env(actions))
    assert report.passed, str(report)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_fails_what_it_breaks_and_nothing_else(mutant: str) -> None:
    make, expected = MUTANTS[mutant]
    report = check_model(make(), env())
    assert {finding.name for finding in report.failures} == expected, str(report)
    for finding in report.failures:
        assert finding.message
        assert finding.advice
        assert "\n" not in str(finding)


def test_each_property_is_broken_by_a_mutant() -> None:
    named = {finding.name for finding in check_model(Honest(), env()).findings}
    assert set.union(*(expected for _, expected in MUTANTS.values())) | {"cpu and cuda agree"} == named


def test_a_claim_to_compile_that_is_true_passes() -> None:
    report = check_model(Compiles(), env())
    assert report.passed, str(report)
    assert {f.name for f in report.findings if not f.tried} <= {"cpu and cuda agree"}


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


def test_an_env_of_short_episodes_is_one_line() -> None:
    with pytest.raises(wmplay.WmplayError, match="expected 5 for a model to be tried on"):
        check_model(Honest(), Push(max_steps=5))


def test_late_actions_are_called_late() -> None:
    (failure,) = check_model(ActsLate(), env()).failures
    assert "another action[0] leaves the prediction of step 0" in failure.message
    assert failure.message.endswith("as it was: it works one step late")
