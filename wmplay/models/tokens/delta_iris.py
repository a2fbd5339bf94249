"""Delta-IRIS (Micheli et al. 2024, arXiv 2406.19320): a few tokens for the change from a frame to the next.

    z_t+1,1 .. z_t+1,n = tokens of (frame t, action_t, frame t+1)      a vector-quantised autoencoder, which
    frame t+1 from the frames up to t, action_t and z_t+1               draws with the frame before at hand
    p(z_t+1,i | z_t+1,<i, z_..t, frame_..t, action_..t)                the transformer, token by token

Next to the tokens, the transformer reads each frame as it is, so that it need not add up all changes. Here
both parts are fitted together, by losses that share no gradient, and vectors are predicted as Gaussians.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.contracts import Prediction, Segment, Surprise
from wmplay.errors import check_values
from wmplay.models.next_screen.next_screen import CHANGE, PATCH, NextScreen, joined, to_patches
from wmplay.models.symbols import Bits, Codebook
from wmplay.models.tokens.autoencoder import COMMITMENT
from wmplay.models.tokens.token_transformer import TokenTransformer
from wmplay.models.vector_state import begin_history, histories
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.heads import masked_mean
from wmplay.nets.layers import mlp


class DeltaIris(NextScreen):
    """A model of the next screen given the tokens of its change, and of these tokens given the past.

    To ``NextScreen`` an action is the env's with the codes of the tokens that follow it.

    Args:
        tokens: of a change.
        codes: number of codes.
        code_size: numbers of a code.
        size: of what the transformer makes of a token.
        layers: of the transformer.
        heads: of its attention.
        context: steps that it sees.
        frames: number k of frames with which a change is drawn; 1 in the original.
        others: as for ``NextScreen``.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes and weights out of range.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        tokens: int = 4,
        codes: int = 32,
        code_size: int = 8,
        size: int = 64,
        layers: int = 2,
        heads: int = 4,
        context: int = 8,
        frames: int = 2,
        width: int = 32,
        blocks: int = 2,
        hidden: int = 64,
        vector_sigma: float = 0.03,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        counts = {"tokens": tokens, "codes": codes, "code_size": code_size}
        check_values("delta_iris", at_least_one=counts)
        encoder = ActionEncoder(action_space)
        both = gym.spaces.Box(-1, 1, (encoder.size + tokens * code_size,), np.float32)
        sizes = (frames, width, blocks, hidden, vector_sigma, reward_weight, continuation_weight)
        super().__init__(observation_space, both, *sizes)
        self.encode_env_action, self.tokens, self.bits = encoder, tokens, Bits(self.size)
        values = sum(m.size for m in self.vectors.values())
        cells = -(-self.shape[0] // PATCH) * -(-self.shape[1] // PATCH)
        self.see_step = nn.Sequential(
            *(nn.Conv2d(2 * PATCH**2, width, 3, padding=1), nn.SiLU()),
            *(nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Flatten()),
        )
        self.to_codes = mlp(width * cells + 2 * values + encoder.size, hidden, 1, tokens * code_size)
        self.book = Codebook(codes, code_size)
        self.read_frame = mlp(self.size + values + encoder.size, hidden, 1, hidden)
        self.dynamics = TokenTransformer(tokens, codes, hidden, size, layers, heads, context)
        self.screen_logit = nn.Sequential(nn.SiLU(), nn.Conv2d(width, 1, 1))
        self.least_length = context

    # ---- tokens ----------------------------------------------------------------------------------

    def encode_steps(self, states: Tensor, action: Tensor) -> Tensor:
        """Return the encoder's outputs [B, T, n, D] for the T steps between states [B, T + 1, P + V]."""
        pairs = torch.stack([states[:, :-1], states[:, 1:]], 2)  # [B, T, 2, P + V]
        screens = pairs[..., : self.size].reshape(-1, 2, *self.shape)
        maps = self.see_step(to_patches(screens)).reshape(*action.shape[:2], -1)
        numbers = pairs[..., self.size :]
        moved = (numbers[:, :, 1] - numbers[:, :, 0]) / CHANGE
        seen = torch.cat([maps, numbers[:, :, 0], moved, self.encode_env_action(action)], -1)
        output: Tensor = self.to_codes(seen).float()
        output = output.reshape(*action.shape[:2], self.tokens, -1)
        return F.rms_norm(output, output.shape[-1:])

    def tokenise(self, states: Tensor, action: Tensor) -> Tensor:
        """Return the tokens [B, T, n, C], one-hot, of steps."""
        return self.book.nearest(self.encode_steps(states, action))

    def with_codes(self, action: Tensor, vectors: Tensor) -> Tensor:
        """Return actions as ``NextScreen`` reads them, [..., A + n * D], with the codes [..., n, D] that
        follow them."""
        return torch.cat([self.encode_env_action(action), vectors.flatten(-2)], -1)

    def read(self, states: Tensor, action: Tensor) -> Tensor:
        """Return what the transformer reads, [..., K], of states [..., P + V] and the actions in them."""
        condition: Tensor = self.read_frame(torch.cat([states, self.encode_env_action(action)], -1))
        return condition

    # ---- the verbs -------------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the belief after an episode's first frame {key: [B, ...]}."""
        states = self.states(observation)
        rows = len(states)
        return {
            **begin_history(states, self.frames, self.encode_action.size),
            "memory": states.new_zeros(rows, self.dynamics.trunk.size),
            "cache": self.dynamics.blank(rows, states.device),
        }

    def observe(
        self, belief: dict[str, Any], action: Tensor, observation: Mapping[str, Tensor]
    ) -> dict[str, Any]:
        """Return the belief after action [B, T, A] and the frames that it led to, {key: [B, T, ...]}."""
        states = torch.cat([belief["state"][:, -1:], self.states(observation)], 1)
        tokens = self.tokenise(states, action)
        memory, cache = self.dynamics.read(belief["cache"], self.read(states[:, :-1], action), tokens)
        window = super().observe(belief, self.with_codes(action, tokens @ self.book.vectors), observation)
        return {**window, "memory": memory[:, -1], "cache": cache}

    def predict(
        self,
        belief: dict[str, Any],
        action: Tensor,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Prediction:
        """Predict under action [B, H, A]: tokens and pixels are drawn with a generator, the likeliest
        without."""
        parts: list[Prediction] = []
        for now in action.unbind(1):
            condition = self.read(belief["state"][:, -1], now)
            tokens, memory, cache = self.dynamics.draw(belief["cache"], condition, generator, temperature)
            both = self.with_codes(now, tokens @ self.book.vectors).unsqueeze(1)
            part = super().predict(belief, both, generator=generator, temperature=temperature)
            belief = {**part.belief, "memory": memory, "cache": cache}
            parts.append(part)
        return joined(parts, belief, self.decode)

    def draw(
        self, pixels: Tensor, generator: torch.Generator | None, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Return the next screens, whose pixels are independent given the tokens, and their
        probabilities."""
        logits = self.screen_logit(pixels).squeeze(1).float()
        noise = None if generator is None else self.bits.noise(logits.detach(), generator, temperature)
        return self.bits.pick(logits, noise), logits.sigmoid()

    def features(self, belief: dict[str, Any]) -> Tensor:
        """Return the features of ``NextScreen``, and the transformer's memory."""
        return torch.cat([super().features(belief), belief["memory"]], -1)

    def track(self, segment: Segment) -> dict[str, Any]:
        """Return the belief at every frame of a segment: row b * (T + 1) + t is after frames 0 to t."""
        states = self.states(segment.observation)
        tokens = self.tokenise(states, segment.action)
        memory, cache = self.dynamics.track(self.read(states[:, :-1], segment.action), tokens)
        both = self.with_codes(segment.action, tokens @ self.book.vectors)
        found = histories(states, both, self.frames)
        found["memory"] = F.pad(memory, (0, 0, 1, 0))
        return {**{key: value.flatten(0, 1) for key, value in found.items()}, "cache": cache}

    # ---- training --------------------------------------------------------------------------------

    def screen_loss(self, pixels: Tensor, screen: Tensor) -> Tensor:
        """Return the nats [R] of screens [R, H, W], given the tokens."""
        logits = self.screen_logit(pixels).squeeze(1)
        return self.size * self.bits.loss(logits.flatten(1), screen.flatten(1))

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of ``NextScreen`` given the tokens, the codebook's, and the nats of the tokens.

        Metrics: those of ``NextScreen``, ``loss/code`` and ``loss/tokens``.
        """
        states = self.states(segment.observation)
        output = self.encode_steps(states, segment.action)
        tokens = self.book.nearest(output)
        vectors = self.book.straight_through(output, tokens)
        total, metrics = super().loss(replace(segment, action=self.with_codes(segment.action, vectors)))
        apart = (output - tokens @ self.book.vectors).square().sum((-1, -2))
        terms = {"code": COMMITMENT * apart, "tokens": self._token_nats(states, segment.action, tokens)}
        means = {name: masked_mean(value, segment.mask) for name, value in terms.items()}
        self.book.note(output[segment.mask].flatten(0, 1), tokens[segment.mask].flatten(0, 1))
        total = total + torch.stack([*means.values()]).sum()
        return total, metrics | {f"loss/{name}": value.detach() for name, value in means.items()}

    def after_update(self, progress: float) -> None:
        """Move the codes towards the encoder's outputs."""
        self.book.follow()

    @torch.no_grad()
    def surprise(self, segment: Segment) -> Surprise:
        """Return a bound: -log p(tokens of the step | past) - log p(screen | past, tokens)."""
        states = self.states(segment.observation)
        tokens = self.tokenise(states, segment.action)
        both = self.with_codes(segment.action, tokens @ self.book.vectors)
        past, after = self.steps(replace(segment, action=both))
        screen = self.screen_loss(past.pixels, after[:, : self.size].reshape(-1, *self.shape))
        return Surprise(
            self._token_nats(states, segment.action, tokens) + screen.reshape(segment.mask.shape), "bound"
        )

    def _token_nats(self, states: Tensor, action: Tensor, tokens: Tensor) -> Tensor:
        """Return the nats [B, T] of the tokens of steps, given all before them."""
        logits, _ = self.dynamics(self.read(states[:, :-1], action), tokens)
        return self.dynamics.loss(logits, tokens)
