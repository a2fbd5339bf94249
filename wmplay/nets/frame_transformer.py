"""What happens next, by a transformer in which a frame, and the action done in it, is one token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium as gym
import torch
from torch import Tensor, nn

from wmplay.errors import ConfigError
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.heads import OutcomeHeads
from wmplay.nets.layers import fourier_features
from wmplay.nets.modalities import Vector
from wmplay.nets.symbols import Symbols
from wmplay.nets.transformer import CausalTransformer

Belief: TypeAlias = dict[str, Any]  # code [B, S + V] of the newest frame, cache of the tokens before it


@dataclass(frozen=True)
class Step:
    """Predictions for B x T steps."""

    hidden: Tensor  # [B, T, E]
    output: Tensor  # [B, T, S], what the next frame's symbols are chosen by
    numbers: Tensor  # [B, T, V], the next frame's vectors


@dataclass(frozen=True)
class Rollout:
    """H predicted steps."""

    code: Tensor  # [B, H, S + V]: of the frames predicted, as they were fed back
    output: Tensor  # [B, H, S]
    reward: Tensor | None  # [B, H]
    discount: Tensor | None  # [B, H]
    belief: Belief


class FrameTransformer(nn.Module):
    """p(next frame | frames and actions so far), for frames given as flat codes.

    A code [S + V] is S symbols, predicted independently of each other, and V numbers (encoded vector
    observations; none is fine), of which the change is predicted. A token is half code, half action.

    Args:
        symbols: what the S are.
        vectors: the modalities of the V, in their order.
        action_space: a one-dimensional Box, or Discrete.
        size: E, of a token.
        layers: of the transformer.
        heads: of its attention.
        context: frames that it sees.
        hidden: units of the hidden layer of the outcome heads.
        change_scale: how much a step typically changes a number, in half-ranges.
        position_features: octaves of sines and cosines in which it sees the numbers.
        reward_weight: of the reward's loss; 0 = no reward head.
        continuation_weight: of the continuation's loss; 0 = no such head.

    Raises:
        SpaceError: for another action space.
        ConfigError: for values out of range.
    """

    limit: Tensor  # [V]: the largest value of each number

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
        position_features: int,
        reward_weight: float,
        continuation_weight: float,
    ) -> None:
        super().__init__()
        if hidden < 1 or position_features < 0 or not change_scale > 0:
            raise ConfigError(
                f"hidden is {hidden}, position_features {position_features}, change_scale {change_scale}: "
                "expected at least 1, at least 0, more than 0"
            )
        self.symbols, self.change_scale, self.position_features = symbols, change_scale, position_features
        limits = [m.limit for m in vectors.values()]
        self.register_buffer("limit", torch.cat([torch.zeros(0), *limits]), persistent=False)
        numbers = len(self.limit)
        self.trunk = CausalTransformer(size, layers, heads, context)
        self.encode_action = ActionEncoder(action_space)
        self.input_code = nn.Linear(symbols.size + numbers * (1 + 2 * position_features), size - size // 2)
        self.input_action = nn.Linear(self.encode_action.size, size // 2)
        self.output = nn.Linear(size, symbols.size + numbers)
        self.outcome = OutcomeHeads(
            size + symbols.size + numbers, hidden, 1, reward_weight, continuation_weight
        )

    def forward(self, code: Tensor, action: Tensor) -> Step:
        """Predictions of the frames that follow the frames code [B, T, S + V] under action [B, T, A]."""
        return self._step(self.trunk(self._tokens(code, action)), code)

    def initial(self, code: Tensor) -> Belief:
        """The belief after a first frame, code [B, S + V]."""
        return {"code": code, "cache": self.trunk.blank(len(code), code.device)}

    def observe(self, belief: Belief, action: Tensor, code: Tensor) -> Belief:
        """The belief after action [B, T, A] and the frames it led to, code [B, T, S + V]."""
        frames = torch.cat([belief["code"].unsqueeze(1), code], dim=1)
        _, cache = self.trunk.extend(belief["cache"], self._tokens(frames[:, :-1], action))
        return {"code": frames[:, -1], "cache": cache}

    def predict(
        self,
        belief: Belief,
        action: Tensor,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Rollout:
        """H steps under action [B, H, A]: symbols sampled with a generator, the most likely without."""
        if not temperature >= 0:
            raise ConfigError(f"temperature is {temperature}, expected at least 0")
        code, cache = belief["code"], belief["cache"]
        codes, outputs, hiddens = [], [], []
        for t in range(action.shape[1]):
            now = code.unsqueeze(1)
            hidden, cache = self.trunk.extend(cache, self._tokens(now, action[:, t : t + 1]))
            step = self._step(hidden, now)
            noise = None if generator is None else self.symbols.noise(step.output, generator, temperature)
            code = torch.cat([self.symbols.pick(step.output, noise), step.numbers], dim=-1).squeeze(1)
            codes.append(code)
            outputs.append(step.output.squeeze(1))
            hiddens.append(step.hidden.squeeze(1))
        latent = torch.stack(codes, dim=1)
        reward, discount = self.outcome(torch.cat([torch.stack(hiddens, dim=1), latent], dim=-1))
        belief = {"code": code, "cache": cache}
        return Rollout(latent, torch.stack(outputs, dim=1), reward, discount, belief)

    def split(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Symbols [..., S] and numbers [..., V] of a code."""
        return code[..., : self.symbols.size], code[..., self.symbols.size :]

    def _tokens(self, code: Tensor, action: Tensor) -> Tensor:
        symbols, numbers = self.split(code)
        seen = torch.cat([symbols, fourier_features(numbers, self.position_features)], dim=-1)
        done = self.encode_action(action)
        return torch.cat([self.input_code(seen), self.input_action(done)], dim=-1)

    def _step(self, hidden: Tensor, code: Tensor) -> Step:
        output, change = self.split(self.output(hidden).float())
        numbers = self.split(code)[1] + self.change_scale * change
        return Step(hidden, output, torch.clamp(numbers, -self.limit, self.limit))
