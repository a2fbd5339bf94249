"""World models whose mistakes leave losses and pictures as good as ever, each found by ``wmplay.check``."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from broken_models import NUMBERS, Honest, breaks, changed
from torch import Tensor, nn
from unusual_models import Widths, symlog

from wmplay.contracts import Prediction, Segment


@breaks("the loss takes any segment")
class NeedsToKnowTheBeginning(Honest):
    def loss(self, segment: Segment) -> Any:
        assert segment.first is not None
        return super().loss(segment)


@breaks("the loss takes any segment")
class ClipsRewardsInPlace(Honest):
    def loss(self, segment: Segment) -> Any:
        segment.reward.clamp_(-1e-3, 1e-3)
        return super().loss(segment)


@breaks("the loss sees no future")
class StatisticsOverTimeInTraining(Honest):
    """Of the steps that count, so that padding shows nothing of it."""

    counts: Any = None

    def loss(self, segment: Segment) -> Any:
        self.counts = segment.mask.unsqueeze(-1).float()
        found = super().loss(segment)
        self.counts = None
        return found

    def guess(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        if self.training and self.counts is not None:
            mean = (hidden * self.counts).sum(1, keepdim=True) / self.counts.sum(1, keepdim=True)
            hidden = hidden - 0.1 * mean
        return super().guess(hidden)


@breaks("rows are apart in the loss")
class RewardsOfTheNeighbour(Honest):
    def loss(self, segment: Segment) -> Any:
        return super().loss(dataclasses.replace(segment, reward=segment.reward.roll(1, 0)))


@breaks("rows are apart in the loss")
class BatchNormOverTime(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(23)

    def guess(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return super().guess(self.norm(hidden.flatten(0, -2)).reshape(hidden.shape))


@breaks("every step counts")
class EveryCutIsAnEnd(Honest):
    def loss(self, segment: Segment) -> Any:
        last = segment.mask & ~torch.cat([segment.mask[:, 1:], torch.zeros_like(segment.mask[:, :1])], 1)
        return super().loss(dataclasses.replace(segment, terminated=segment.terminated | last))


@breaks("every step counts")
class KeepsItsRewardsToItself(Honest):
    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        return changed(super().predict(belief, action, **draws), reward=None)


@breaks("every step counts")
class LeavesOutTheStepThatEnds(Honest):
    def compare(self, guess: Tensor, outcome: Tensor, frames: Tensor, segment: Segment) -> Tensor:
        paid = torch.where(segment.terminated, outcome[..., 0].detach(), segment.reward)
        return super().compare(guess, outcome, frames, dataclasses.replace(segment, reward=paid))


@breaks("every step counts")
class LearnsEndsFromTheMask(Honest):
    def loss(self, segment: Segment) -> Any:
        return super().loss(dataclasses.replace(segment, terminated=torch.zeros_like(segment.terminated)))


@breaks("predictions come nearer")
class DiscountOfTheEnd(Honest):
    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        future = super().predict(belief, action, **draws)
        assert future.discount is not None
        return changed(future, discount=1 - future.discount)


@breaks("observe agrees with the loss")
class ObservesWithoutActions(Honest):
    def observe(self, belief: Any, action: Tensor, observation: Any) -> Any:
        return super().observe(belief, torch.zeros_like(action), observation)


@breaks("observe agrees with the loss")
class ObservesOneKey(Honest):
    def observe(self, belief: Any, action: Tensor, observation: Any) -> Any:
        return super().observe(belief, action, {**observation, "lcd": torch.zeros_like(observation["lcd"])})


@breaks("draws are independent")
class TheSameNoiseInEveryCall(Honest):
    def predict(self, belief: Any, action: Tensor, *, generator: Any = None) -> Prediction:
        again = None if generator is None else torch.Generator().manual_seed(0)
        return super().predict(belief, action, generator=again)


class Noisy(Honest):
    """Draws as ``noise`` says, and goes on from what is ``kept``."""

    def kept(self, belief: Any) -> Any:
        return belief

    def noise(self, shape: Any, step: int, generator: Any) -> Tensor:
        return torch.randn(shape, generator=generator)

    def predict(
        self, belief: Any, action: Tensor, *, generator: Any = None, temperature: float = 1.0
    ) -> Prediction:
        steps, rewards, discounts = [], [], []
        for t in range(action.shape[1]):
            future = super().predict(belief, action[:, t : t + 1])
            belief = self.kept(future.belief)
            if generator is not None:
                noise = temperature * 0.1 * self.noise(belief["frame"].shape, t, generator)
                belief = {**belief, "frame": belief["frame"] + noise}
            steps.append(torch.cat([belief["frame"], future.latent[:, 0, 37:]], -1))
            rewards.append(future.reward)
            discounts.append(future.discount)
        latent = torch.stack(steps, 1)
        return Prediction(latent, torch.cat(rewards, 1), torch.cat(discounts, 1), belief, self.decode)


@breaks("draws are independent")
class TheSameNoiseInEveryRow(Noisy):
    def noise(self, shape: Any, step: int, generator: Any) -> Tensor:
        return torch.randn(shape[1:], generator=generator).expand(shape)


@breaks("draws are independent")
class OneNetworkForAllRows(Noisy):
    def noise(self, shape: Any, step: int, generator: Any) -> Tensor:
        network = torch.randint(2, (1,), generator=generator)
        return super().noise(shape, step, generator) + 2 * network - 1


@breaks("draws are independent")
class TheSameNoiseInEveryStep(Noisy):
    def noise(self, shape: Any, step: int, generator: Any) -> Tensor:
        return super().noise(shape, step, torch.Generator().manual_seed(generator.initial_seed()))

    def predict(self, belief: Any, action: Tensor, *, generator: Any = None, **how: Any) -> Prediction:
        if generator is not None:
            seed = int(torch.randint(2**31, (), generator=generator))
            generator = torch.Generator().manual_seed(seed)
        return super().predict(belief, action, generator=generator, **how)


@breaks("draws are lived")
class ShowsNoiseAndGoesOnWithoutIt(Noisy):
    def predict(self, belief: Any, action: Tensor, *, generator: Any = None, **how: Any) -> Prediction:
        shown = super().predict(belief, action, generator=generator, **how)
        quiet = Honest.predict(self, belief, action)
        return Prediction(shown.latent, shown.reward, shown.discount, quiet.belief, self.decode)


@breaks("temperature is heeded")
class IgnoresItsTemperature(Noisy):
    def predict(
        self, belief: Any, action: Tensor, *, generator: Any = None, temperature: float = 1.0
    ) -> Prediction:
        return super().predict(belief, action, generator=generator)


@breaks("temperature is heeded")
class TakesZeroForNothingAsked(Noisy):
    def predict(
        self, belief: Any, action: Tensor, *, generator: Any = None, temperature: float = 1.0
    ) -> Prediction:
        return super().predict(belief, action, generator=generator, temperature=temperature or 1.0)


@breaks("long episodes")
class TableOfPositions(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Embedding(20, 23)

    def initial(self, observation: Any) -> Any:
        belief = super().initial(observation)
        return {**belief, "age": belief["frame"].new_zeros(len(belief["frame"])).long()}

    def step(self, belief: Any, action: Tensor) -> Tensor:
        return super().step(belief, action) + 0.1 * self.place(belief["age"])

    def observe(self, belief: Any, action: Tensor, observation: Any) -> Any:
        frames = self.flat(observation, 2)
        for t in range(action.shape[1]):
            hidden, age = self.step(belief, action[:, t]), belief["age"] + 1
            belief = {"hidden": hidden, "frame": frames[:, t], "age": age}
        return belief

    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        steps = []
        for t in range(action.shape[1]):
            future = super().predict(belief, action[:, t : t + 1], **draws)
            belief = {**future.belief, "age": belief["age"] + 1}
            steps.append(future.latent)
        latent = torch.cat(steps, 1)
        return Prediction(latent, latent[..., -2], latent[..., -1].sigmoid(), belief, self.decode)

    def loss(self, segment: Segment) -> Any:
        frames = self.flat(segment.observation, 2)
        belief = self.initial({key: value[:, 0] for key, value in segment.observation.items()})
        steps = []
        for t in range(segment.action.shape[1]):
            steps.append(self.step(belief, segment.action[:, t]))
            belief = {"hidden": steps[-1], "frame": frames[:, t + 1], "age": belief["age"] + 1}
        change, outcome = self.guess(torch.stack(steps, 1))
        return self.compare(frames[:, :-1] + change, outcome, frames, segment), {}


@breaks("gradients go through")
class PredictsWithoutGradient(Honest):
    @torch.no_grad()
    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        return super().predict(belief, action, **draws)


@breaks("gradients go through")
class DetachesBetweenSteps(Noisy):
    def kept(self, belief: Any) -> Any:
        return {key: value.detach() for key, value in belief.items()}


@breaks("each head tells what the loss knows")
class SquashesRewardsForGood(Honest):
    def compare(self, guess: Tensor, outcome: Tensor, frames: Tensor, segment: Segment) -> Tensor:
        squashed = dataclasses.replace(segment, reward=symlog(segment.reward))
        return super().compare(guess, outcome, frames, squashed)


@breaks("each head tells what the loss knows")
class AddsHalfToEachReward(Honest):
    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        future = super().predict(belief, action, **draws)
        return changed(future, reward=future.reward + 0.5)


@breaks("each head tells what the loss knows")
class KnowsNoLosses(Honest):
    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        future = super().predict(belief, action, **draws)
        assert future.reward is not None
        return changed(future, reward=future.reward.clamp(min=0))


@breaks("each head tells what the loss knows")
class TurnsItsScreens(Honest):
    """Upside down, while the places get better."""

    def decode(self, latent: Tensor) -> Any:
        decoded = super().decode(latent)
        return {**decoded, "lcd": decoded["lcd"].flip(-2)}


@breaks("each head tells what the loss knows")
class RewardsWithTheWrongSign(Honest):
    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        future = super().predict(belief, action, **draws)
        assert future.reward is not None
        return changed(future, reward=-future.reward)


# ---- faults of public code bases -----------------------------------------------------------------


@breaks("actions matter")
class LatentActionOfThePast(Honest):
    """p-doom/jasmine#122: what stands for the action is inferred from the frame that was left."""

    def inputs(self, frame: Tensor, action: Tensor) -> Tensor:
        return super().inputs(frame, frame[..., -2:])


@breaks("padding counts for nothing")
class EncodesWholeClips(Honest):
    """huggingface/lerobot#4381: context frames are encoded together with those that they should predict."""

    def __init__(self) -> None:
        super().__init__()
        self.clip = nn.Conv1d(23, 23, 5, padding=2)

    def guess(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        if hidden.ndim == 3:
            return super().guess(hidden + 0.1 * self.clip(hidden.transpose(1, 2)).transpose(1, 2))
        return super().guess(hidden + 0.1 * self.clip(hidden.unsqueeze(-1)).squeeze(-1))


@breaks("predict agrees with the loss")
class FoldsActions(Honest):
    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        return super().predict(belief, action.clamp(min=0), **draws)


@breaks("observe agrees with the loss")
class KnowsThreeActions(Honest):
    """In observe, which goes over the last steps alone."""

    def observe(self, belief: Any, action: Tensor, observation: Any) -> Any:
        frames = torch.cat([belief["frame"].unsqueeze(1), self.flat(observation, 2)], 1)
        blank = torch.zeros_like(belief["hidden"])
        for t in range(max(action.shape[1] - 3, 0), action.shape[1]):
            hidden = self.step({"hidden": blank, "frame": frames[:, t]}, action[:, t])
            blank = hidden
        return {"hidden": blank, "frame": frames[:, -1]} if action.shape[1] else belief


@breaks("each head tells what the loss knows")
class LeavesOutTheScreen(Honest):
    """In its loss, by a weight of 0."""

    def frame_error(self, guess: Tensor, truth: Tensor) -> Tensor:
        return (guess - truth)[..., 35:].square().sum(-1)

    def decode(self, latent: Tensor) -> Any:
        decoded = super().decode(latent)
        return {**decoded, "lcd": torch.full_like(decoded["lcd"], 0.5)}


@breaks("every step counts")
class KeepsItsDiscount(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.head, self.ends = nn.Linear(23, NUMBERS + 1), nn.Linear(23, 1)

    def guess(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        both = self.head(hidden)
        return both[..., :NUMBERS], torch.cat([both[..., NUMBERS:], self.ends(hidden)], -1)

    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        future = super().predict(belief, action, **draws)
        return changed(future, latent=future.latent[..., :-1], discount=None)


@breaks("observations matter")
class BeginsBlind(Honest):
    def initial(self, observation: Any) -> Any:
        return {key: torch.zeros_like(value) for key, value in super().initial(observation).items()}


@breaks("the loss takes any segment")
class LearnsFromBeginningsAlone(Honest):
    def loss(self, segment: Segment) -> Any:
        first = torch.zeros_like(segment.mask[:, 0]) if segment.first is None else segment.first
        loss, metrics = super().loss(segment)
        return loss * first.float().mean(), metrics


@breaks("each head tells what the loss knows")
class MultipliesDiscounts(Honest):
    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        future = super().predict(belief, action, **draws)
        assert future.discount is not None
        keeps = torch.where(future.discount > 0.9, 1.0, future.discount)  # as one that is sure of its steps
        return changed(future, discount=keeps.cumprod(1))


@breaks("the loss looks no step ahead")
class SeesTheNextFrame(EncodesWholeClips):
    def __init__(self) -> None:
        super().__init__()
        self.clip = nn.Conv1d(23, 23, 3, padding=1)


@breaks("actions matter")
class OneEntryForBoth(Honest):
    """In the loss as well as in predictions."""

    def inputs(self, frame: Tensor, action: Tensor) -> Tensor:
        return super().inputs(frame, action[..., :1].expand_as(action))


@breaks("observations matter")
class PlaceUnseenAtFirst(Honest):
    def initial(self, observation: Any) -> Any:
        return super().initial({**observation, "x": torch.zeros_like(observation["x"])})


class DrawsWithTheVariance(Widths):
    def drawn(self, width: Tensor) -> Tensor:
        return width.square()


@breaks("predict remembers as observe does")
class PredictsFromItsFirstMemory(Honest):
    def predict(self, belief: Any, action: Tensor, *, generator: Any = None) -> Any:
        begun, latents = belief["hidden"], []
        for now in action.split(1, 1):
            future = super().predict(belief, now, generator=generator)
            belief = {**future.belief, "hidden": begun}
            latents.append(future.latent)
        latent = torch.cat(latents, 1)
        discount = latent[..., -1].sigmoid()
        return changed(future, latent=latent, reward=latent[..., -2], discount=discount, belief=belief)


@breaks("every step counts")
class LeavesOutTheFirstStep(Honest):
    def loss(self, segment: Any) -> Any:
        later = torch.arange(segment.mask.shape[1]) > 0
        return super().loss(dataclasses.replace(segment, mask=segment.mask & later))
