"""World models that are built to break what ``wmplay.check`` promises, and an honest one."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable
from typing import Any

import torch
from mutants import Mutants
from push import CONTINUOUS, Push, Reach
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.contracts import Prediction, Segment

NUMBERS = 37  # of a frame of Push: a screen of 5 x 7, and a place


def unrolled(cell: nn.GRUCell, x: Tensor, hidden: Tensor) -> Tensor:
    """The states of a cell over inputs [B, T, N]."""
    weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
    one_layer = (True, 1, 0.0, cell.training, False, True)
    return torch.gru(x, hidden.unsqueeze(0), weights, *one_layer)[0]


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
        frames = torch.cat([belief["frame"].unsqueeze(1), self.flat(observation, 2)], 1)
        hidden = self.along(frames[:, :-1], action, belief["hidden"])
        return {"hidden": hidden[:, -1], "frame": frames[:, -1]}

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
        hidden = self.along(frames[:, :-1], segment.action, frames.new_zeros(len(frames), 23))
        change, outcome = self.guess(hidden)
        loss = self.compare(frames[:, :-1] + change, outcome, frames, segment)
        return loss, {"loss/frame": loss.detach()}

    def compare(self, guess: Tensor, outcome: Tensor, frames: Tensor, segment: Segment) -> Tensor:
        error = self.frame_error(guess, frames[:, 1:])
        error = error + (outcome[..., 0] - segment.reward).square()
        goes_on = 1 - segment.terminated.float()
        error = error + 10 * F.binary_cross_entropy_with_logits(outcome[..., 1], goes_on, reduction="none")
        return (error * segment.mask).sum() / segment.mask.sum()

    def frame_error(self, guess: Tensor, truth: Tensor) -> Tensor:
        return (guess - truth).square().sum(-1)  # [B, T]

    def flat(self, observation: Any, batch_dims: int) -> Tensor:
        parts = [observation[key].float().flatten(batch_dims) for key in ("lcd", "x")]
        return torch.cat(parts, -1)

    def inputs(self, frame: Tensor, action: Tensor) -> Tensor:
        moved = F.one_hot(action, self.classes).float() if self.classes else action
        return torch.cat([frame, moved], -1)

    def step(self, belief: Any, action: Tensor) -> Tensor:
        return self.cell(self.inputs(belief["frame"], action), belief["hidden"])

    def along(self, frames: Tensor, action: Tensor, hidden: Tensor) -> Tensor:
        """What ``step`` leaves after each of T steps, [B, T, 23], in one call: fits take most of the time."""
        return unrolled(self.cell, self.inputs(frames, action), hidden)

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

MUTANTS = Mutants()
breaks = MUTANTS.breaks


def changed(prediction: Prediction, **values: Any) -> Prediction:
    fields = ("latent", "reward", "discount", "belief", "decode")
    return Prediction(**{name: values.get(name, getattr(prediction, name)) for name in fields})


SHIFTED: dict[str, str] = {}  # what is said of mutants whose predictions are not on time


def shifts(what: str, *others: str) -> Callable[[type[Honest]], type[Honest]]:
    """Registers a mutant that breaks the time rule, and perhaps others, with what is said of it."""

    def register(cls: type[Honest]) -> type[Honest]:
        SHIFTED[cls.__name__] = what
        return breaks("predictions are on time", *others)(cls)

    return register


def moved(x: Tensor, steps: int) -> Tensor:
    """[B, T, ...] whose entry t is what belonged to t + steps (1 or -1); zero where there is none."""
    none = torch.zeros_like(x[:, :1])
    return torch.cat([none, x[:, :-1]] if steps < 0 else [x[:, 1:], none], 1)


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


@breaks("the loss is a finite scalar")
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


@breaks("predictions come nearer")
class FitsTheOppositeOfWhatItPredicts(Honest):
    def frame_error(self, guess: Tensor, truth: Tensor) -> Tensor:
        return super().frame_error(guess, -truth)


@shifts("'x' is one step late: its entry t tells the time that belongs to step t - 1")
class LossThatIsGivenTheAnswer(Honest):
    """It finds where it will be among its inputs, and learns to hand that on."""

    def loss(self, segment: Segment) -> Any:
        frames = self.flat(segment.observation, 2)
        told = torch.cat([frames[:, :-1, :35], frames[:, 1:, 35:]], -1)
        guess, outcome = self.guess(self.along(told, segment.action, frames.new_zeros(len(frames), 23)))
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


@breaks("no peeking")
class KnowsTheWholePlan(Honest):
    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        return super().predict(belief, action + 0.1 * action.mean(1, keepdim=True), **draws)


@breaks("no peeking")
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


@shifts("'lcd' is one step late: its entry t tells the time that belongs to step t - 1")
class FramesLate(Honest):
    def compare(self, guess: Tensor, outcome: Tensor, frames: Tensor, segment: Segment) -> Tensor:
        return super().compare(guess, outcome, moved(frames, -1), segment)


@shifts("'lcd' is one step early: its entry t tells the time that belongs to step t + 1")
class FramesEarly(Honest):
    def compare(self, guess: Tensor, outcome: Tensor, frames: Tensor, segment: Segment) -> Tensor:
        return super().compare(guess, outcome, moved(frames, 1), segment)


@shifts("'x' is one step early: its entry t tells the time that belongs to step t + 1")
class OneOfTheKeysEarly(Honest):
    def compare(self, guess: Tensor, outcome: Tensor, frames: Tensor, segment: Segment) -> Tensor:
        target = torch.cat([frames[..., :35], moved(frames, 1)[..., 35:]], -1)
        return super().compare(guess, outcome, target, segment)


@shifts("reward is one step late: its entry t tells the time that belongs to step t - 1")
class RewardsLate(Honest):
    def compare(self, guess: Tensor, outcome: Tensor, frames: Tensor, segment: Segment) -> Tensor:
        late = dataclasses.replace(segment, reward=moved(segment.reward, -1))
        return super().compare(guess, outcome, frames, late)


@shifts("reward is one step early: its entry t tells the time that belongs to step t + 1")
class RewardsEarly(Honest):
    def compare(self, guess: Tensor, outcome: Tensor, frames: Tensor, segment: Segment) -> Tensor:
        early = dataclasses.replace(segment, reward=moved(segment.reward, 1))
        return super().compare(guess, outcome, frames, early)


@shifts("predictions tell nothing of the end: the loss takes it one step late")
class EndsLate(Honest):
    def compare(self, guess: Tensor, outcome: Tensor, frames: Tensor, segment: Segment) -> Tensor:
        late = dataclasses.replace(segment, terminated=moved(segment.terminated, -1))
        return super().compare(guess, outcome, frames, late)


@shifts("predictions tell nothing of the end: the loss takes it one step early")
class EndsEarly(Honest):
    def compare(self, guess: Tensor, outcome: Tensor, frames: Tensor, segment: Segment) -> Tensor:
        early = dataclasses.replace(segment, terminated=moved(segment.terminated, 1))
        return super().compare(guess, outcome, frames, early)


@shifts("predictions tell nothing of the action: the loss takes it one step late")
class LossOfLateActions(Honest):
    def loss(self, segment: Segment) -> Any:
        return super().loss(dataclasses.replace(segment, action=moved(segment.action, -1)))


@shifts("predictions tell nothing of the action: the loss takes it one step early")
class LossOfEarlyActions(Honest):
    """As danijar/dreamerv2's ensemble: the next frame is guessed by the action after it."""

    def loss(self, segment: Segment) -> Any:
        return super().loss(dataclasses.replace(segment, action=moved(segment.action, 1)))


@shifts("'lcd' is one step late: its entry t tells the time that belongs to step t - 1")
class ThreeShiftsAtOnce(Honest):
    """As epignatelli/navix#152: rewards, ends and frames of the loss each belong to another step."""

    def compare(self, guess: Tensor, outcome: Tensor, frames: Tensor, segment: Segment) -> Tensor:
        late = dataclasses.replace(
            segment, reward=moved(segment.reward, -1), terminated=moved(segment.terminated, -1)
        )
        return super().compare(guess, outcome, moved(frames, -1), late)


@shifts("'lcd' is one step late: its entry t tells the time that belongs to step t - 1")
class BeliefOfTheFrameBefore(Honest):
    def observe(self, belief: Any, action: Tensor, observation: Any) -> Any:
        if action.shape[1] == 1:
            return super().observe(belief, action, observation)
        return super().observe(belief, action[:, :-1], {k: v[:, :-1] for k, v in observation.items()})


@breaks("actions matter")
class IgnoresActions(Honest):
    def inputs(self, frame: Tensor, action: Tensor) -> Tensor:
        return super().inputs(frame, torch.ones_like(action))


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


@breaks("isolation")
class RemembersTheLastCall(Honest):
    """Predicts otherwise when the call before was about one row alone."""

    alone = False

    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        before = 0.1 * self.alone
        self.alone = len(action) == 1
        return super().predict(belief, action + before, **draws)


@breaks("same seed same numbers")
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
