"""Models that are right and unlike the built-in ones, which ``wmplay.check`` must not accuse."""

from __future__ import annotations

import copy
from typing import Any

import torch
from broken_models import NUMBERS, Honest, changed
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.contracts import Prediction, Segment, Stage


def symlog(x: Tensor) -> Tensor:
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    return x.sign() * x.abs().expm1()


def threes(x: Tensor) -> Tensor:
    """Each step of [B, T, ...] and the two after it, [B * T, 3, ...]; zeros after the last."""
    more = torch.cat([x, torch.zeros_like(x[:, :1]), torch.zeros_like(x[:, :1])], 1)
    return torch.stack([more[:, k : k + x.shape[1]] for k in range(3)], 2).flatten(0, 1)


class Deterministic(Honest):
    """Draws nothing, and predicts no end."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(23, NUMBERS + 1)

    def guess(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        frame, reward = super().guess(hidden)
        return frame, F.pad(reward, (0, 1))

    def predict(self, belief: Any, action: Tensor, *, generator: Any = None) -> Prediction:
        return changed(super().predict(belief, action), discount=None)


class Symlog(Honest):
    """Compares rewards after a squashing that predict undoes."""

    def compare(self, guess: Tensor, outcome: Tensor, frames: Tensor, segment: Segment) -> Tensor:
        squashed = Segment(
            segment.observation, segment.action, symlog(segment.reward), segment.terminated, segment.mask
        )
        return super().compare(guess, outcome, frames, squashed)

    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Prediction:
        future = super().predict(belief, action, **draws)
        assert future.reward is not None
        return changed(future, reward=symexp(future.reward))


class WarmUp(Honest):
    """Has no loss for its first three steps, of which it saw too little."""

    def compare(self, guess: Tensor, outcome: Tensor, frames: Tensor, segment: Segment) -> Tensor:
        counts = segment.mask & (segment.mask.cumsum(1) > 3)
        error = self.frame_error(guess, frames[:, 1:]) + (outcome[..., 0] - segment.reward).square()
        ends = F.binary_cross_entropy_with_logits(
            outcome[..., 1], 1 - segment.terminated.float(), reduction="none"
        )
        return ((error + 10 * ends) * counts).sum() / counts.sum().clamp(min=1)


class TwoHot(Honest):
    """Spreads the probability of a reward over bins, and predicts its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bins", torch.linspace(-5, 5, 41))
        self.rewards = nn.Linear(23, 41)
        self.head = nn.Linear(23, NUMBERS + 1)

    def guess(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        both = self.head(hidden)
        logits = self.rewards(hidden)
        mean = (logits.softmax(-1) * self.bins).sum(-1, keepdim=True)
        self_logits = logits
        outcome = torch.cat([mean, both[..., NUMBERS:]], -1)
        outcome.logits = self_logits  # type: ignore[attr-defined]
        return both[..., :NUMBERS], outcome

    def compare(self, guess: Tensor, outcome: Tensor, frames: Tensor, segment: Segment) -> Tensor:
        place = ((segment.reward.clamp(-5, 5) + 5) / 0.25).clamp(0, 39.999)
        low = place.floor().long()
        part = (place - low).unsqueeze(-1)
        target = F.one_hot(low, 41) * (1 - part) + F.one_hot(low + 1, 41) * part
        error = self.frame_error(guess, frames[:, 1:])
        error = error - (target * outcome.logits.log_softmax(-1)).sum(-1)  # type: ignore[attr-defined]
        ends = 1 - segment.terminated.float()
        error = error + 10 * F.binary_cross_entropy_with_logits(outcome[..., 1], ends, reduction="none")
        return (error * segment.mask).sum() / segment.mask.sum()


class RewardOnly(Honest):
    """Predicts no observation: all it learns is what is paid."""

    predicted = ()

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(23, 1)
        self.cell = nn.GRUCell(NUMBERS + 2, 23)
        self.imagine = nn.GRUCell(2, 23)

    def initial(self, observation: Any) -> Any:
        frame = self.flat(observation, 1)
        blank = frame.new_zeros(len(frame), 2)
        return self.cell(torch.cat([frame, blank], -1), frame.new_zeros(len(frame), 23))

    def observe(self, belief: Any, action: Tensor, observation: Any) -> Any:
        return self.along(self.flat(observation, 2), action, belief)[:, -1]

    def predict(self, belief: Any, action: Tensor, *, generator: Any = None) -> Prediction:
        steps = []
        for t in range(action.shape[1]):
            belief = self.imagine(action[:, t], belief)
            steps.append(belief)
        latent = torch.stack(steps, 1)
        return Prediction(latent, self.head(latent).squeeze(-1), None, belief, self.decode)

    def decode(self, latent: Tensor) -> Any:
        return {}

    def loss(self, segment: Segment) -> Any:
        """Of three steps ahead from each."""
        action, reward, counts = map(threes, (segment.action, segment.reward, segment.mask))
        told = self.predict(self.beliefs(segment).flatten(0, 1), action).reward
        steps = torch.ones_like(segment.reward[0]).cumsum(0).flip(0)  # from each to the last
        error = ((told - reward).square() * counts).sum(-1).unflatten(0, segment.mask.shape)
        return (error / steps.clamp(max=3)).sum() / segment.mask.sum(), {}

    def beliefs(self, segment: Segment) -> Tensor:
        """The belief before each step, [B, T, 23]."""
        first = self.initial({key: value[:, 0] for key, value in segment.observation.items()})
        later = self.along(self.flat(segment.observation, 2)[:, 1:], segment.action, first)
        return torch.cat([first.unsqueeze(1), later[:, :-1]], 1)


class Contrastive(RewardOnly):
    """Predicts the slowly following code of the next frame, and reward and end from it; never a frame."""

    def __init__(self) -> None:
        super().__init__()
        self.code = nn.Linear(NUMBERS, 11)
        self.ahead = nn.Linear(23, 11)
        self.ends = nn.Linear(23, 1)
        self.target = copy.deepcopy(self.code).requires_grad_(False)

    def predict(self, belief: Any, action: Tensor, *, generator: Any = None) -> Prediction:
        future = super().predict(belief, action)
        return changed(future, discount=self.ends(future.latent).squeeze(-1).sigmoid())

    def loss(self, segment: Segment) -> Any:
        error, metrics = super().loss(segment)
        frames = self.flat(segment.observation, 2)
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.code.parameters(), strict=True):
                slow.lerp_(fast, 0.05 if self.training else 0.0)
            codes = self.target(frames[:, 1:])
        after = self.imagine(segment.action.flatten(0, 1), self.beliefs(segment).flatten(0, 1))
        off = (self.ahead(after).unflatten(0, segment.mask.shape) - codes).square().mean(-1)
        counts = segment.mask.unsqueeze(-1).float()
        code = self.code(frames[:, :-1]) * counts
        spread = code.square().sum(0) / counts.sum(0).clamp(min=1)  # [T, 11]
        off = off + 0.1 * (spread - 1).square().mean(-1)
        ends = F.binary_cross_entropy_with_logits(
            self.ends(after).view(segment.mask.shape), 1 - segment.terminated.float(), reduction="none"
        )
        return error + ((off + ends) * segment.mask).sum() / segment.mask.sum(), metrics


class Dropout(Honest):
    """Leaves out units while it is fitted."""

    def guess(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return super().guess(F.dropout(hidden, 0.1, self.training))


class Widths(Honest):
    """Learns the width of each number, and draws with it."""

    def __init__(self) -> None:
        super().__init__()
        self.width = nn.Linear(23, NUMBERS)

    def widths(self, hidden: Tensor) -> Tensor:
        return 0.1 * (F.softplus(9 * self.width(hidden)) + 0.1)

    def drawn(self, width: Tensor) -> Tensor:
        return width

    def predict(self, belief: Any, action: Tensor, *, generator: Any = None) -> Prediction:
        steps = []
        for t in range(action.shape[1]):
            hidden = self.step(belief, action[:, t])
            change, outcome = self.guess(hidden)
            frame = belief["frame"] + change
            if generator is not None:
                noise = torch.randn(frame.shape, generator=generator)
                frame = frame + self.drawn(self.widths(hidden)) * noise
            belief = {"hidden": hidden, "frame": frame}
            steps.append(torch.cat([frame, outcome], -1))
        latent = torch.stack(steps, 1)
        return Prediction(latent, latent[..., -2], latent[..., -1].sigmoid(), belief, self.decode)

    def loss(self, segment: Segment) -> Any:
        frames = self.flat(segment.observation, 2)
        hidden = self.along(frames[:, :-1], segment.action, frames.new_zeros(len(frames), 23))
        change, outcome = self.guess(hidden)
        both = torch.stack([frames[:, :-1] + change, self.widths(hidden)], -1)
        return self.compare(both, outcome, frames, segment), {}

    def frame_error(self, guess: Tensor, truth: Tensor) -> Tensor:
        mean, width = guess.unbind(-1)
        return (((mean - truth) / width).square() / 2 + width.log()).sum(-1)


class Double(Honest):
    """Computes in float64, and returns that."""

    def __init__(self) -> None:
        super().__init__()
        self.double()

    def flat(self, observation: Any, batch_dims: int) -> Tensor:
        return super().flat(observation, batch_dims).double()

    def inputs(self, frame: Tensor, action: Tensor) -> Tensor:
        return super().inputs(frame, action.double())


class Staged(Honest):
    """Fits what becomes of frames first, and rewards and ends after that."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(23, NUMBERS)
        self.outcome = nn.Linear(23, 2)

    def guess(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(hidden), self.outcome(hidden)

    def stages(self) -> list[Stage]:
        frames = nn.ModuleList([self.cell, self.head])
        return [Stage("frames", 0.5, frames, self.of_frames), Stage("outcomes", 0.5, self.outcome, self.rest)]

    def of_frames(self, segment: Segment) -> Any:
        self.part = 1.0, 0.0
        return super().loss(segment)

    def rest(self, segment: Segment) -> Any:
        self.part = 0.0, 1.0
        return super().loss(segment)

    def loss(self, segment: Segment) -> Any:
        self.part = 1.0, 1.0
        return super().loss(segment)

    def compare(self, guess: Tensor, outcome: Tensor, frames: Tensor, segment: Segment) -> Tensor:
        own = super().compare(guess, outcome, frames, segment)
        of_frames = (self.frame_error(guess, frames[:, 1:]) * segment.mask).sum() / segment.mask.sum()
        return self.part[0] * of_frames + self.part[1] * (own - of_frames)


class Memoryless(Honest):
    """Knows its last frame alone."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(NUMBERS + 2, 23)

    def step(self, belief: Any, action: Tensor) -> Tensor:
        return self.cell(self.inputs(belief["frame"], action)).tanh()

    def along(self, frames: Tensor, action: Tensor, hidden: Tensor) -> Tensor:
        return self.cell(self.inputs(frames, action)).tanh()


UNUSUAL: tuple[type[Honest], ...] = (
    Deterministic,
    Symlog,
    WarmUp,
    TwoHot,
    RewardOnly,
    Contrastive,
    Dropout,
    Double,
    Staged,
    Memoryless,
)
