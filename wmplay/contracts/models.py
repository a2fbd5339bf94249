"""What every world model must do, and what some can do besides."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from wmplay.contracts.data import Belief, Decoded, Prediction, Segment, Surprise


@runtime_checkable
class WorldModel(Protocol):
    """Predicts observations, rewards and endings. Every world model is also an ``nn.Module``.

    It is given observations without the task's goals (``modelled``). State goes in and comes out:
    no call may leave anything behind in the module.

    What is optional is read by ``capabilities``.
    """

    def initial(self, observation: dict[str, Tensor]) -> Belief:
        """The belief after an episode's first frame, {key: [B, ...]}."""

    def observe(self, belief: Belief, action: Tensor, observation: dict[str, Tensor]) -> Belief:
        """The belief after T more steps: action [B, T, A] and what they led to, {key: [B, T, ...]}."""

    def predict(
        self, belief: Belief, action: Tensor, *, generator: torch.Generator | None = None
    ) -> Prediction:
        """The future under action [B, H, A].

        With a generator: one sampled future per row. Without one there is nothing to draw from,
        and each row is the model's most likely future.
        """

    def decode(self, latent: Any) -> Decoded:
        """Distributions (or plain expectations) of each observation key; only when somebody wants to look."""

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """(scalar to minimise, metrics by name). Random draws come from torch's global generator,
        which the training loop seeds anew for each step."""


@dataclass(frozen=True)
class Stage:
    """A part of a model's fit: what is trained, by which loss; all other weights are frozen meanwhile."""

    name: str
    share: float  # of the updates of the first iteration; later iterations fit the last stage only
    module: nn.Module  # the model itself, or a part of it
    loss: Callable[[Segment], tuple[Tensor, dict[str, Tensor]]]  # as WorldModel.loss


@dataclass(frozen=True)
class Capabilities:
    """What a world model offers besides ``WorldModel``. A model offers it by having the attribute."""

    stages: Callable[[], Sequence[Stage]] | None = None  # of a model that is fitted in stages
    surprise: Callable[[Segment], Surprise] | None = None  # of a model with a likelihood of screens
    predicted: Sequence[str] | None = None  # observation keys that it predicts; None = all it is given
    compiles: Sequence[str] = ()  # those of "loss" and "predict" that ``torch.compile`` captures whole
    least_length: int = 1  # steps a segment must have for all of the model to be fitted on it
    temperature: bool = False
    # ``predict`` takes ``temperature``: the spread of what is sampled, 1 as fitted, towards 0 the most likely


def capabilities(model: Any) -> Capabilities:
    """Return what a world model, or a part of one, offers besides ``WorldModel``."""
    offered: dict[str, Any] = {
        each.name: getattr(model, each.name, each.default)
        for each in fields(Capabilities)
        if each.name != "temperature"
    }
    return Capabilities(**offered, temperature="temperature" in inspect.signature(model.predict).parameters)
