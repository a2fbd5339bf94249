"""The part that all models of the family share: what a screen depends on, and the numbers next to it.

features of each pixel, summary      from the last k frames and actions, by convolutions
screen[t + 1]                        drawn from the features: each model's own
vectors[t + 1]                       Gaussian changes, given the summary
reward[t], continuation[t]           given the summary and the next frame
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent
from torch.nn import functional as F

from wmplay.contracts import Decoded, LazyMapping, LazyPrediction, Prediction, Segment
from wmplay.errors import check_values
from wmplay.models.vector_state import (
    begin_history,
    extend_history,
    histories,
    history_inputs,
    with_history,
)
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.by_key import ModulesByKey, term
from wmplay.nets.heads import OutcomeHeads, masked_mean, nats
from wmplay.nets.layers import ResidualBlock, fourier_features, mlp
from wmplay.nets.modalities import modalities
from wmplay.nets.observations import the_screen, vectors

PATCH = 2  # side, in pixels, of the patches that enter the convolutions
CHANGE, MIN_SIGMA = 0.1, 0.01  # the unit of changes of numbers, in half-ranges; the smallest width, in it
BETA = 0.5  # of beta-NLL (Seitzer et al. 2022, arXiv 2203.09168): hard numbers keep a gradient
OCTAVES = 5  # of the sines and cosines of the vectors

Belief: TypeAlias = dict[str, Tensor]  # state [B, k, P + V], action [B, k - 1, A]


@dataclass(frozen=True)
class Past:
    """All that R next frames depend on."""

    pixels: Tensor  # [R, C, H, W]: features of each pixel
    summary: Tensor  # [R, F]: of the whole, with the vectors and actions
    last: Tensor  # [R, P + V]: the last frame


class NextScreen(nn.Module, ABC):
    """A model of the next frame given the last k frames and actions.

    A state is the P pixels of a frame's screen and the V numbers of its vectors. The latent of a predicted
    step is a state; without a generator its pixels are probabilities, and the likelier values are fed back.

    Args:
        observation_space: a Dict with one binary screen [H, W] and any number of float vectors.
        action_space: a one-dimensional Box, or Discrete.
        frames: number k of frames on which the next one depends.
        width: channels of the convolutions over the past, and of the features of a pixel.
        blocks: residual blocks of the convolutions over the past.
        hidden: units of the summary, and of each hidden layer of the heads.
        vector_sigma: width of the Gaussian around decoded vectors, in half-ranges of their space.
        reward_weight: weight of the reward's loss; 0 = no reward head.
        continuation_weight: weight of the continuation's loss; 0 = no continuation head.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes and weights out of range.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        frames: int,
        width: int,
        blocks: int,
        hidden: int,
        vector_sigma: float,
        reward_weight: float,
        continuation_weight: float,
    ) -> None:
        super().__init__()
        sizes = {"frames": frames, "width": width, "blocks": blocks, "hidden": hidden}
        check_values(type(self).__name__.lower(), at_least_one=sizes)
        self.modalities = modalities(observation_space, vector_sigma=vector_sigma, pixel_sigma=1.0)
        self.registered = ModulesByKey(self.modalities)  # so that their buffers move with the model
        self.screen, self.vectors = the_screen(self.modalities), vectors(self.modalities)
        self.frames, self.width, shape = frames, width, self.modalities[self.screen].shape
        self.shape, self.size = shape, shape[0] * shape[1]  # P
        self.encode_action = ActionEncoder(action_space)
        values = sum(m.size for m in self.vectors.values())  # V
        numbers = values * (frames + 2 * OCTAVES) + frames * self.encode_action.size
        cells = -(-shape[0] // PATCH) * -(-shape[1] // PATCH)
        self.stem = nn.Conv2d(frames * PATCH**2, width, 3, padding=1)
        self.condition = mlp(numbers, width, 1, width)
        self.blocks = nn.ModuleList(ResidualBlock(width, width) for _ in range(blocks))
        self.to_pixels = nn.Conv2d(width, width * PATCH**2, 1)
        self.to_summary = nn.Linear(width * cells, hidden)
        self.change = mlp(hidden + numbers, hidden, 1, 2 * values) if values else None
        self.read_screen = nn.Linear(self.size, hidden)
        self.outcome = OutcomeHeads(
            2 * hidden + numbers + values, hidden, 1, reward_weight, continuation_weight
        )

    @abstractmethod
    def draw(
        self, pixels: Tensor, generator: torch.Generator | None, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Return the next screens of zeros and ones, and the pixels' probabilities, both [R, H, W].

        Args:
            pixels: [R, C, H, W], the features of each pixel.
            generator: of the draws; None = the most likely screens.
            temperature: the spread of the draws.
        """

    @abstractmethod
    def screen_loss(self, pixels: Tensor, screen: Tensor) -> Tensor:
        """Return the loss [R] of screens [R, H, W], given the features of their pixels."""

    # ---- the four verbs --------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after an episode's first frame {key: [B, ...]}, as if nothing had moved before
        it."""
        return begin_history(self.states(observation), self.frames, self.encode_action.size)

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after action [B, T, A] and the frames that it led to, {key: [B, T, ...]}."""
        return extend_history(belief, self.encode_action(action), self.states(observation))

    def predict(
        self,
        belief: Belief,
        action: Tensor,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Prediction:
        """Predict under action [B, H, A]: draws with a generator, the most likely frames without.

        ``temperature`` scales the noise of pixels and numbers.
        """
        states, actions = belief["state"], torch.cat([belief["action"], self.encode_action(action)], dim=1)
        latents, summaries, frames = [], [], []
        for step in range(action.shape[1]):
            past = self.past(states, actions[:, step : step + self.frames])
            screen, likely = self.draw(past.pixels, generator, temperature)
            numbers = self._numbers(past, generator, temperature)
            state = torch.cat([screen.flatten(1), numbers], dim=-1)
            latents.append(state if generator else torch.cat([likely.flatten(1), numbers], dim=-1))
            summaries.append(past.summary)
            frames.append(state)
            states = torch.cat([states[:, 1:], state.unsqueeze(1)], dim=1)
        outcomes = self.outcome(lambda: self._outcome(torch.stack(summaries, 1), torch.stack(frames, 1)))
        last = {"state": states, "action": actions[:, action.shape[1] :]}
        return LazyPrediction(torch.stack(latents, 1), outcomes, last, self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Distribution]:
        """Return distributions of each observation key from states [..., P + V]."""
        numbers = self._by_key(latent[..., self.size :])

        def distribution(key: str) -> Distribution:
            if key in self.vectors:
                return self.vectors[key].distribution(numbers[key])
            pixels = latent[..., : self.size].reshape(*latent.shape[:-1], *self.shape)
            return Independent(Bernoulli(probs=pixels, validate_args=False), 2, validate_args=False)

        return LazyMapping(self.modalities, distribution)

    # ---- as features -----------------------------------------------------------------------------

    def features(self, belief: Belief) -> Tensor:
        """Return the last frame, the changes before it, and the actions between, [B, k (P + V) + (k - 1)
        A]."""
        return history_inputs(belief["state"], belief["action"], 1.0)

    def track(self, segment: Segment) -> Belief:
        """Return the belief at every frame of a segment: row b * (T + 1) + t is after frames 0 to t."""
        states, actions = self.states(segment.observation), self.encode_action(segment.action)
        return {key: value.flatten(0, 1) for key, value in histories(states, actions, self.frames).items()}

    # ---- training --------------------------------------------------------------------------------

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss of each next frame given the real frames before it.

        Numbers count by beta-NLL. Metrics: ``loss/<key>``, ``loss/reward``, ``loss/continuation``, each
        before its weight.
        """
        past, after = self.steps(segment)
        screen, numbers = after[:, : self.size], after[:, self.size :]
        values = {term(self.screen): self.screen_loss(past.pixels, screen.reshape(-1, *self.shape))}
        if self.change is not None:
            mean, sigma = self._gaussian(past)
            entries = nats(numbers, mean, sigma) * (sigma.detach() / CHANGE) ** (2 * BETA)
            values |= {term(key): part.sum(-1) for key, part in self._by_key(entries).items()}
        shape = segment.mask.shape
        by_step = {name: value.reshape(shape) for name, value in values.items()}
        features = self._outcome(past.summary, after).reshape(*shape, -1)
        by_step |= self.outcome.negative_log_likelihoods(features, segment)
        counted = with_history(segment, self.frames)
        terms = {name: masked_mean(value, counted) for name, value in by_step.items()}
        weights = self.outcome.weights
        total = torch.stack([weights.get(name, 1.0) * value for name, value in terms.items()]).sum()
        return total, {f"loss/{name}": value.detach() for name, value in terms.items()}

    def steps(self, segment: Segment) -> tuple[Past, Tensor]:
        """Return what each of a segment's B * T next frames depends on, and their states [B * T, P + V]."""
        states, actions = self.states(segment.observation), self.encode_action(segment.action)
        before = histories(states, actions, self.frames)
        taken = torch.cat([before["action"][:, :-1], actions.unsqueeze(2)], dim=2)
        past = self.past(before["state"][:, :-1].flatten(0, 1), taken.flatten(0, 1))
        return past, states[:, 1:].flatten(0, 1)

    # ---- parts -----------------------------------------------------------------------------------

    def states(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the states [..., P + V] of frames {key: [..., *shape]}."""
        numbers = [m.encode(observation[key]) for key, m in self.vectors.items()]
        return torch.cat([observation[self.screen].flatten(-2).float(), *numbers], dim=-1)

    def past(self, states: Tensor, actions: Tensor) -> Past:
        """Return what the frames after states [R, k, P + V], by encoded actions [R, k, A], depend on."""
        screens = states[..., : self.size].reshape(*states.shape[:2], *self.shape)
        values = states[..., self.size :]
        waves = fourier_features(values[:, -1], OCTAVES)[:, values.shape[-1] :]
        numbers = torch.cat([history_inputs(values, actions, CHANGE), waves], dim=-1)
        x = self.stem(to_patches(screens))
        embedding = self.condition(numbers)
        for block in self.blocks:
            x = block(x, embedding)
        pixels = of_patches(self.to_pixels(F.silu(x)), self.shape)
        summary = torch.cat([self.to_summary(F.silu(x).flatten(1)), numbers], dim=-1)
        return Past(pixels, summary, states[:, -1])

    def _gaussian(self, past: Past) -> tuple[Tensor, Tensor]:
        """Return the means and widths [R, V] of the next frames' numbers."""
        assert self.change is not None
        move, width = self.change(past.summary).float().chunk(2, dim=-1)
        sigma = F.softplus(width.contiguous()) + MIN_SIGMA  # softplus is slow on strided memory
        return past.last[:, self.size :] + CHANGE * move, CHANGE * sigma

    def _numbers(self, past: Past, generator: torch.Generator | None, temperature: float) -> Tensor:
        """Return the next frames' numbers [R, V], within the space's bounds."""
        if self.change is None:
            return past.last[:, self.size :]
        mean, sigma = self._gaussian(past)
        if generator is not None:
            noise = torch.randn(mean.shape, generator=generator, device=mean.device)
            mean = mean + temperature * sigma * noise
        limit = torch.cat([m.limit for m in self.vectors.values()])
        return torch.clamp(mean, -limit, limit)

    def _outcome(self, summary: Tensor, state: Tensor) -> Tensor:
        """Return the features [..., F] of steps to next states [..., P + V]."""
        screen, numbers = state[..., : self.size], state[..., self.size :]
        return torch.cat([summary, F.silu(self.read_screen(screen)), numbers], dim=-1)

    def _by_key(self, numbers: Tensor) -> dict[str, Tensor]:
        """Return numbers [..., V] by vector key."""
        parts = torch.split(numbers, [m.size for m in self.vectors.values()], dim=-1) if self.vectors else []
        return dict(zip(self.vectors, parts, strict=True))


def joined(parts: Sequence[Prediction], belief: Any, decode: Callable[[Any], Decoded]) -> Prediction:
    """Return predictions that continue one another as one, which ends in a belief."""

    def outcome(name: str) -> Tensor | None:
        each = [part.reward if name == "reward" else part.discount for part in parts]
        found = [value for value in each if value is not None]
        return torch.cat(found, 1) if found else None

    latent = torch.cat([part.latent for part in parts if isinstance(part.latent, Tensor)], 1)
    outcomes = LazyMapping(("reward", "discount"), outcome)
    return LazyPrediction(latent, outcomes, belief, decode)


def to_patches(images: Tensor) -> Tensor:
    """Return images [R, C, H, W] as cells [R, C * PATCH^2, h, w], with zeros below and on the right where a
    patch is not whole."""
    height, across = images.shape[-2:]
    return F.pixel_unshuffle(F.pad(images, (0, -across % PATCH, 0, -height % PATCH)), PATCH)


def of_patches(cells: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the images [R, C, *shape] of cells [R, C * PATCH^2, h, w]."""
    return F.pixel_shuffle(cells, PATCH)[..., : shape[0], : shape[1]]
