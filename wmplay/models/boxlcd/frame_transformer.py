"""A transformer that predicts the next frame; a frame and the action taken in it are one token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from wmplay.contracts import Segment
from wmplay.errors import ConfigError
from wmplay.models.boxlcd.transformer import CausalTransformer
from wmplay.models.symbols import Symbols
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.by_key import ModulesByKey, term
from wmplay.nets.heads import OutcomeHeads, masked_mean, nats
from wmplay.nets.layers import fourier_features
from wmplay.nets.modalities import Vector

BETA = 0.5

Belief: TypeAlias = dict[str, Any]
# code [B, S + V] of the newest frame; change [B, V] of its numbers since the frame before, 0 at first; cache
# of the tokens before it, and hidden [B, E], what the last of them led to, 0 at first


@dataclass(frozen=True)
class Step:
    """Predictions of B x T next frames."""

    hidden: Tensor  # [B, T, E]
    output: Tensor  # [B, T, S]: the outputs that choose the symbols
    mean: Tensor  # [B, T, V]: of the Gaussian over the numbers
    sigma: Tensor  # [B, T, V]


@dataclass(frozen=True)
class Rollout:
    """H predicted steps."""

    code: Tensor  # [B, H, S + V]: of the predicted frames, as they were fed back
    output: Tensor  # [B, H, S]
    outcomes: Mapping[str, Tensor | None]  # "reward", "discount": [B, H], computed at their first use
    belief: Belief


class FrameTransformer(nn.Module):
    """p(next frame | frames and actions so far), for frames given as flat codes.

    A code [S + V] is S symbols and V numbers (encoded vectors; V may be 0). Given the past, all are
    independent; the change of a number is Gaussian. One half of a token encodes the code and the last change
    of its numbers, the other half the action.

    Args:
        symbols: the kind of the S symbols.
        vectors: the modalities of the V numbers, in their order.
        action_space: a one-dimensional Box, or Discrete.
        size: size E of a token.
        change_scale: the unit in which changes, and the widths of the Gaussians, are read and predicted.
        code_weight: of the loss per symbol, relative to the loss per number.
        others: as for ``FBT``.

    Raises:
        SpaceError: for another action space.
        ConfigError: for values out of range.
    """

    def __init__(
        self,
        symbols: Symbols,
        vectors: Mapping[str, Vector],
        action_space: gym.Space[Any],
        *,
        size: int,
        layers: int,
        heads: int,
        context: int,
        hidden: int,
        change_scale: float,
        min_sigma: float,
        position_features: int,
        code_weight: float,
        reward_weight: float,
        continuation_weight: float,
    ) -> None:
        super().__init__()
        if hidden < 1 or position_features < 0:
            raise ConfigError("hidden must be at least 1, position_features at least 0")
        for name, value in (
            ("change_scale", change_scale),
            ("min_sigma", min_sigma),
            ("code_weight", code_weight),
        ):
            if not value > 0:
                raise ConfigError(f"{name} is {value}", got=value, expected="a positive number")
        self.symbols, self.change_scale, self.min_sigma = symbols, change_scale, min_sigma
        self.position_features, self.code_weight = position_features, code_weight
        self.vectors = dict(vectors)
        self.registered = ModulesByKey(self.vectors)  # so that their buffers move with the model
        numbers = sum(m.size for m in vectors.values())
        code = symbols.size + numbers
        self.trunk = CausalTransformer(size, layers, heads, context)
        self.encode_action = ActionEncoder(action_space)
        self.input_code = nn.Linear(code + numbers * (1 + 2 * position_features), size - size // 2)
        self.input_action = nn.Linear(self.encode_action.size, size // 2)
        self.output = nn.Linear(size, code + numbers)
        self.outcome = OutcomeHeads(size + code, hidden, 1, reward_weight, continuation_weight)

    # ---- codes -----------------------------------------------------------------------------------

    def code(self, symbols: Tensor, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the code [..., S + V] of frames {key: [..., ...]} with these symbols [..., S]."""
        return torch.cat([symbols, *(m.encode(observation[key]) for key, m in self.vectors.items())], dim=-1)

    def split(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Return the symbols [..., S] and numbers [..., V] of a code."""
        return code[..., : self.symbols.size], code[..., self.symbols.size :]

    def vector(self, key: str, code: Tensor) -> Distribution:
        """Return the distribution of a vector observation, given a code."""
        return self.vectors[key].distribution(self._by_key(self.split(code)[1])[key])

    # ---- the past and the future -----------------------------------------------------------------

    def initial(self, code: Tensor) -> Belief:
        """Return the belief after a first frame, code [B, S + V]."""
        change = torch.zeros_like(self.split(code)[1])
        hidden = code.new_zeros(len(code), self.trunk.size)
        cache = self.trunk.blank(len(code), code.device)
        return {"code": code, "change": change, "hidden": hidden, "cache": cache}

    def observe(self, belief: Belief, action: Tensor, code: Tensor) -> Belief:
        """Return the belief after action [B, T, A] and the frames that it led to, code [B, T, S + V]."""
        frames = torch.cat([belief["code"].unsqueeze(1), code], dim=1)
        changes = torch.cat([belief["change"].unsqueeze(1), self._changes(frames)], dim=1)
        tokens = self._tokens(frames[:, :-1], changes[:, :-1], action)
        hidden, cache = self.trunk.extend(belief["cache"], tokens)
        hidden = torch.cat([belief["hidden"].unsqueeze(1), hidden], dim=1)[:, -1]
        return {"code": frames[:, -1], "change": changes[:, -1], "hidden": hidden, "cache": cache}

    def features(self, belief: Belief) -> Tensor:
        """Return the memory of the frames before, and the last frame with its changes, [B, E + S + 2 V]."""
        return torch.cat([belief["hidden"], belief["code"], belief["change"]], dim=-1)

    def track(self, code: Tensor, action: Tensor) -> Belief:
        """Return the belief at every frame of code [B, T + 1, S + V]: row b * (T + 1) + t is after frames 0
        to t."""
        change = F.pad(self._changes(code), (0, 0, 1, 0))
        hidden, cache = self.trunk.track(self._tokens(code[:, :-1], change[:, :-1], action))
        frames = {"code": code, "change": change, "hidden": F.pad(hidden, (0, 0, 1, 0))}
        return {**{name: value.flatten(0, 1) for name, value in frames.items()}, "cache": cache}

    def predict(
        self, belief: Belief, action: Tensor, generator: torch.Generator | None, temperature: float
    ) -> Rollout:
        """Predict H steps under action [B, H, A]: sampled with a generator, the most likely without.

        Raises:
            ConfigError: for a negative temperature.
        """
        if not temperature >= 0:
            raise ConfigError(f"temperature is {temperature}", got=temperature, expected="at least 0")
        code, change, cache = belief["code"].unsqueeze(1), belief["change"].unsqueeze(1), belief["cache"]
        codes, outputs, hiddens = [], [], []
        for t in range(action.shape[1]):
            tokens = self._tokens(code, change, action[:, t : t + 1])
            hidden, cache = self.trunk.extend(cache, tokens)
            step = self._step(hidden, code)
            following = self._pick(step, generator, temperature)
            change = self._changes(torch.cat([code, following], dim=1))
            code = following
            codes.append(code)
            outputs.append(step.output)
            hiddens.append(hidden)
        latent = torch.cat(codes, dim=1)
        outcomes = self.outcome(lambda: torch.cat([torch.cat(hiddens, dim=1), latent], dim=-1))
        belief = {"code": code.squeeze(1), "change": change.squeeze(1), "hidden": hidden.squeeze(1)}
        belief["cache"] = cache
        return Rollout(latent, torch.cat(outputs, dim=1), outcomes, belief)

    # ---- training --------------------------------------------------------------------------------

    def forward(self, code: Tensor, action: Tensor) -> Step:
        """Predict the frames that follow the frames code [B, T, S + V] under action [B, T, A]."""
        changes = F.pad(self._changes(code), (0, 0, 1, 0))
        return self._step(self.trunk(self._tokens(code, changes, action)), code)

    def loss(
        self, code: Tensor, target: Tensor, segment: Segment, name: str
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the negative log-likelihood of each frame given those before it.

        The nats of a number are weighted by its predicted sigma, without gradient, to the power of 2 beta
        (beta-NLL, Seitzer et al. 2022, arXiv 2203.09168). Unweighted, the numbers that are easy to predict,
        with a tiny sigma, have gradients that outweigh all others, those of the symbols above all.

        Args:
            code: [B, T + 1, S + V] of the frames.
            target: [B, T, S], the symbols of all frames but the first, or their means.
            segment: the segment.
            name: of the symbols, in metrics.

        Returns:
            (scalar, metrics): the sum of ``loss/<name>`` per symbol, ``loss/<key>`` per number of a vector,
            ``loss/reward`` and ``loss/continuation``, each averaged over the steps that the mask keeps;
            metrics are before the weights.
        """
        step = self(code[:, :-1], segment.action)
        following = code[:, 1:]
        numbers = self.split(following)[1]
        values = {name: self.symbols.loss(step.output, target)}
        entries = nats(numbers, step.mean, step.sigma)
        entries = entries * (step.sigma.detach() / self.change_scale) ** (2 * BETA)
        values |= {term(key): part.mean(-1) for key, part in self._by_key(entries).items()}
        features = torch.cat([step.hidden, following], dim=-1)
        values |= self.outcome.negative_log_likelihoods(features, segment)
        terms = {each: masked_mean(value, segment.mask) for each, value in values.items()}
        weights = {**self.outcome.weights, name: self.code_weight}
        total = torch.stack([weights.get(each, 1.0) * value for each, value in terms.items()]).sum()
        return total, {f"loss/{each}": value.detach() for each, value in terms.items()}

    # ---- parts -----------------------------------------------------------------------------------

    def _tokens(self, code: Tensor, change: Tensor, action: Tensor) -> Tensor:
        symbols, numbers = self.split(code)
        seen = torch.cat([symbols, change, fourier_features(numbers, self.position_features)], dim=-1)
        return torch.cat([self.input_code(seen), self.input_action(self.encode_action(action))], dim=-1)

    def _step(self, hidden: Tensor, code: Tensor) -> Step:
        output, moves = self.split(self.output(hidden).float())
        move, width = moves.chunk(2, dim=-1)
        sigma = F.softplus(width.contiguous()) + self.min_sigma  # softplus is slow on strided memory
        mean = self.split(code)[1] + self.change_scale * move
        return Step(hidden, output, mean, self.change_scale * sigma)

    def _pick(self, step: Step, generator: torch.Generator | None, temperature: float) -> Tensor:
        numbers, noise = step.mean, None
        if generator is not None:
            noise = self.symbols.noise(step.output, generator, temperature)
            normal = torch.randn(numbers.shape, generator=generator, device=numbers.device)
            numbers = numbers + temperature * step.sigma * normal
        if self.vectors:
            limit = torch.cat([m.limit for m in self.vectors.values()])
            numbers = torch.clamp(numbers, -limit, limit)  # so that long rollouts stay within the bounds
        return torch.cat([self.symbols.pick(step.output, noise), numbers], dim=-1)

    def _changes(self, code: Tensor) -> Tensor:
        """Return changes [B, T - 1, V], in units of ``change_scale``, between the frames of code [B, T, S +
        V]."""
        numbers = self.split(code)[1]
        return (numbers[:, 1:] - numbers[:, :-1]) / self.change_scale

    def _by_key(self, numbers: Tensor) -> dict[str, Tensor]:
        """Return numbers [..., V] by vector key."""
        parts = torch.split(numbers, [m.size for m in self.vectors.values()], dim=-1) if self.vectors else []
        return dict(zip(self.vectors, parts, strict=True))
