"""Latent actions (Genie; Bruce et al. 2024, arXiv 2402.15391): a few codes for all that can happen in a step,
learned from frames alone, and a table from the env's actions to the codes.

    code     c_t, the entry of a codebook nearest to e(x_t, x_t+1)
    screen   x_t+1 from the last frames and codes, c_t among them
    table    p(c_t | x_t, a_t), fitted to codes that are given

No gradient goes from the table to the codes, so that nothing tells them of actions. Here the codes are those
of whole steps between tiny screens; the authors encode patches of large ones and predict tokens.

An action enters a prediction as the table's softmax at a low temperature: nearly one code, with a gradient.
The surprise of a screen is that under the codes themselves, of which predictions are a softened form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.contracts import Prediction, Segment, Surprise
from wmplay.errors import check_values
from wmplay.models.next_screen.next_screen import Belief, NextScreen, joined
from wmplay.models.symbols import Bits, gumbel, pick_class
from wmplay.models.vector_state import extend_history, histories
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.heads import masked_mean
from wmplay.nets.layers import mlp

COMMITMENT = 0.25  # weight by which the encoder stays near its code
DIMENSIONS = 8  # of a code
SHARPNESS = 0.5  # temperature of the softmax by which an action's code enters a prediction
PATIENCE = 50  # updates after which an unused code is revived


class LatentAction(NextScreen):
    """A model of the next screen given a code of the step, and of the code given an action.

    To ``NextScreen`` the codes are the actions.

    Args:
        codes: number of codes; 8 in Genie.
        others: as for ``NextScreen``.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes and weights out of range.
    """

    unused: Tensor  # [codes]: updates since each code was used

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        codes: int = 8,
        frames: int = 2,
        width: int = 32,
        blocks: int = 2,
        hidden: int = 64,
        vector_sigma: float = 0.03,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        check_values("latentaction", at_least_one={"codes": codes})
        sizes = (frames, width, blocks, hidden, vector_sigma, reward_weight, continuation_weight)
        super().__init__(observation_space, gym.spaces.Discrete(codes), *sizes)
        self.codes, self.bits = codes, Bits(self.size)
        self.encode_env_action = ActionEncoder(action_space)
        values = sum(m.size for m in self.vectors.values())
        self.see_step = nn.Sequential(
            nn.Conv2d(2, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU()
        )
        self.to_code = mlp(width + 2 * values, hidden, 1, DIMENSIONS)
        self.book = nn.Parameter(torch.randn(codes, DIMENSIONS))
        self.table = mlp(self.size + values + self.encode_env_action.size, hidden, 1, codes)
        self.screen_logit = nn.Sequential(nn.SiLU(), nn.Conv2d(width, 1, 1))
        self.register_buffer("unused", torch.zeros(codes))
        self._noted: list[Any] = []  # of the last loss, for codes that are unused: no part of the state

    # ---- codes -----------------------------------------------------------------------------------

    def encode_steps(self, states: Tensor) -> Tensor:
        """Return the encoder's outputs [B, T, D] for the T steps between states [B, T + 1, P + V]."""
        pairs = torch.stack([states[:, :-1], states[:, 1:]], 2).flatten(0, 1)  # [B * T, 2, P + V]
        maps = self.see_step(pairs[..., : self.size].reshape(-1, 2, *self.shape))
        numbers = pairs[..., self.size :]
        changes = torch.cat([numbers[:, 0], (numbers[:, 1] - numbers[:, 0]) / 0.1], -1)
        output: Tensor = self.to_code(torch.cat([maps.amax((-1, -2)), changes], -1))
        return output.float().reshape(len(states), -1, DIMENSIONS)

    def nearest(self, output: Tensor) -> Tensor:
        """Return the codes of outputs [..., D], one-hot [..., codes], with the gradient of a softmax of
        their squared distances."""
        distance = (output.unsqueeze(-2) - self.book).square().sum(-1)
        return pick_class(-distance)

    def code_of(self, states: Tensor) -> Tensor:
        """Return the codes [B, T, codes], one-hot, of the T steps between states [B, T + 1, P + V]."""
        return self.nearest(self.encode_steps(states))

    def code_logits(self, states: Tensor, action: Tensor) -> Tensor:
        """Return the logits [..., codes] of the codes of actions in states [..., P + V]."""
        logits: Tensor = self.table(torch.cat([states, self.encode_env_action(action)], -1)).float()
        return logits

    # ---- the verbs -------------------------------------------------------------------------------

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after frames {key: [B, T, ...]}, which show the codes of the steps to them."""
        states = self.states(observation)
        codes = self.code_of(torch.cat([belief["state"][:, -1:], states], 1))
        return extend_history(belief, codes, states)

    def predict(
        self,
        belief: Belief,
        action: Tensor,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Prediction:
        """Predict under action [B, H, A]: the code of each is drawn from the table with a generator, the
        likeliest without."""
        parts: list[Prediction] = []
        for step in range(action.shape[1]):
            logits = self.code_logits(belief["state"][:, -1], action[:, step])
            if generator is not None:
                logits = logits + temperature * gumbel(logits, generator)
            now = (logits / SHARPNESS).softmax(-1).unsqueeze(1)
            parts.append(super().predict(belief, now, generator=generator, temperature=temperature))
            belief = parts[-1].belief
        return joined(parts, belief, self.decode)

    def draw(
        self, pixels: Tensor, generator: torch.Generator | None, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Return the next screens, whose pixels are independent given the code, and their probabilities."""
        logits = self.screen_logit(pixels).squeeze(1).float()
        noise = None if generator is None else self.bits.noise(logits.detach(), generator, temperature)
        return self.bits.pick(logits, noise), logits.sigmoid()

    def track(self, segment: Segment) -> Belief:
        """Return the belief at every frame of a segment: row b * (T + 1) + t is after frames 0 to t."""
        states = self.states(segment.observation)
        found = histories(states, self.code_of(states), self.frames)
        return {key: value.flatten(0, 1) for key, value in found.items()}

    # ---- training --------------------------------------------------------------------------------

    def screen_loss(self, pixels: Tensor, screen: Tensor) -> Tensor:
        """Return the nats [R] of screens [R, H, W], given their code."""
        logits = self.screen_logit(pixels).squeeze(1)
        return self.size * self.bits.loss(logits.flatten(1), screen.flatten(1))

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of ``NextScreen`` given the codes, the codebook's, and the table's.

        Metrics: those of ``NextScreen``, ``loss/code`` and ``loss/table`` (nats).
        """
        states = self.states(segment.observation)
        output = self.encode_steps(states)
        code = self.nearest(output)
        total, metrics = super().loss(replace(segment, action=code))
        quantised = code.detach() @ self.book
        apart = (quantised - output.detach()).square().sum(-1)
        apart = apart + COMMITMENT * (output - quantised.detach()).square().sum(-1)
        logits = self.code_logits(states[:, :-1], segment.action)
        table = F.cross_entropy(logits.flatten(0, 1), code.detach().argmax(-1).flatten(), reduction="none")
        terms = {"code": apart, "table": table.reshape(segment.mask.shape)}
        means = {name: masked_mean(value, segment.mask) for name, value in terms.items()}
        seen = output.detach()[segment.mask]
        places = seen[torch.randint(len(seen), (self.codes,), device=seen.device)]
        used = (code.detach()[segment.mask].sum(0) > 0).float()
        self._noted = [used.tolist(), places.tolist()]
        total = total + torch.stack([*means.values()]).sum()
        return total, metrics | {f"loss/{name}": value.detach() for name, value in means.items()}

    @torch.no_grad()
    def after_update(self, progress: float) -> None:
        """Put each code that was unused for ``PATIENCE`` updates where the encoder saw a step of the last
        batch."""
        if self._noted:
            used, places = (self.book.new_tensor(noted) for noted in self._noted)
            self._noted = []
            self.unused.add_(1).mul_(1 - used)
            dead = self.unused >= PATIENCE
            self.book[dead] = places[dead]
            self.unused[dead] = 0

    @torch.no_grad()
    def surprise(self, segment: Segment) -> Surprise:
        """Return the exact surprise of each screen given the frames before it and the action: the sum over
        all codes of the table."""
        states = self.states(segment.observation)
        logs = self.code_logits(states[:, :-1], segment.action).log_softmax(-1)
        before = histories(states, self.code_of(states), self.frames)
        screen = states[:, 1:, : self.size].reshape(-1, *self.shape)
        given = []
        for number in range(self.codes):
            code = F.one_hot(torch.full_like(segment.mask, number, dtype=torch.long), self.codes).float()
            taken = torch.cat([before["action"][:, :-1], code.unsqueeze(2)], 2)
            past = self.past(before["state"][:, :-1].flatten(0, 1), taken.flatten(0, 1))
            given.append(logs[..., number] - self.screen_loss(past.pixels, screen).reshape(logs.shape[:2]))
        return Surprise(-torch.stack(given).logsumexp(0), "exact")
