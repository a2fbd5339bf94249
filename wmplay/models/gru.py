"""A recurrent model of states: a Gaussian over the next state from all frames and actions so far.

A GRU (Cho et al. 2014, arXiv 1406.1078) summarises the past. Unlike ``mlp``, which reads its last frames,
this model has to remember them, but its memory has no fixed length. Unlike the RSSM it has no latent noise:
it samples states, and reads them as if they were observed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from wmplay.contracts import LazyPrediction, Prediction, Segment
from wmplay.errors import check_values
from wmplay.models.vector_state import FrameStates, NextState, with_history
from wmplay.nets.actions import ActionEncoder

Belief: TypeAlias = dict[str, Tensor]  # hidden [B, D], state [B, S], change [B, S] since the previous state


class GRU(nn.Module):
    """A recurrent model of the next state.

        h[t + 1] = GRU(h[t], x[t]), x[t] = (state[t], state[t] - state[t - 1], action[t])
        state[t + 1] ~ N(state[t] + m, s), (m, s) = f(h[t + 1], x[t])

    The model is fitted by the likelihood of single steps along real frames (teacher forcing). Images are
    decoded from the state by heads that are fitted on real states.

    Args:
        hidden: size D of the GRU's state, and units of each hidden layer outside the image networks.
        burn_in: first steps without a loss in a segment from the middle of an episode, because the GRU has
            seen too few frames.
        others: as for ``MLP``.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes out of range, or a code in a space without screens.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        hidden: int = 256,
        image_hidden: int = 256,
        layers: int = 1,
        burn_in: int = 2,
        change_scale: float = 0.1,
        min_sigma: float = 0.01,
        beta: float = 0.0,
        code: int | None = None,
        vector_sigma: float = 0.03,
        pixel_sigma: float = 1.0,
        position_features: int = 5,
        symlog: bool = False,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        super().__init__()
        sizes = {"hidden": hidden, "image_hidden": image_hidden, "layers": layers}
        check_values("gru", at_least_one=sizes, not_negative={"burn_in": burn_in})
        self.burn_in, self.change_scale = burn_in, change_scale
        self.states = FrameStates(
            observation_space,
            code,
            image_hidden,
            position_features,
            vector_sigma=vector_sigma,
            pixel_sigma=pixel_sigma,
            symlog=symlog,
        )
        self.encode_action = ActionEncoder(action_space)
        inputs = 2 * self.states.size + self.encode_action.size
        self.cell = nn.GRUCell(inputs, hidden)
        self.next = NextState(
            hidden + inputs,
            self.states,
            hidden,
            layers,
            change_scale,
            min_sigma,
            beta,
            reward_weight,
            continuation_weight,
        )

    # ---- the four verbs --------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after an episode's first frame {key: [B, ...]}, as if nothing had moved before
        it."""
        return self._blank(self.states(observation))

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after action [B, T, A] and the frames that it led to, {key: [B, T, ...]}."""
        seen = torch.cat([belief["state"].unsqueeze(1), self.states(observation)], dim=1)
        _, beliefs = self._read(belief, seen, self.encode_action(action))
        return {name: value[:, -1] for name, value in beliefs.items()}

    def predict(
        self,
        belief: Belief,
        action: Tensor,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Prediction:
        """Predict under action [B, H, A]: draws with a generator, the means of the Gaussians without.

        ``temperature`` multiplies the widths of the Gaussians.
        """
        hidden, state, change = belief["hidden"], belief["state"], belief["change"]
        latents, seen = [], []
        for acted in self.encode_action(action).unbind(1):
            x = torch.cat([state, change, acted], dim=-1)
            hidden = self.cell(x, hidden)
            x = torch.cat([hidden, x], dim=-1)
            after = self.next.pick(x, state, generator, temperature)
            state, change = after, (after - state) / self.change_scale
            latents.append(state)
            seen.append(x)
        latent = torch.stack(latents, 1)
        outcomes = self.next.outcomes(lambda: torch.cat([torch.stack(seen, 1), latent], dim=-1))
        last = {"hidden": hidden, "state": state, "change": change}
        return LazyPrediction(latent, outcomes, last, self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Distribution]:
        """Return distributions of each observation key from states [..., S], each computed at its first
        use."""
        return self.states.decode(latent)

    # ---- as features -----------------------------------------------------------------------------

    def features(self, belief: Belief) -> Tensor:
        """Return the memory, the state and its last change, [B, D + 2 S]: all that the next state depends
        on."""
        return torch.cat([belief["hidden"], belief["state"], belief["change"]], dim=-1)

    def track(self, segment: Segment) -> Belief:
        """Return the belief at every frame of a segment: row b * (T + 1) + t is after frames 0 to t."""
        state = self.states(segment.observation)
        _, beliefs = self._read(self._blank(state[:, 0]), state, self.encode_action(segment.action))
        return {name: value.flatten(0, 1) for name, value in beliefs.items()}

    # ---- training --------------------------------------------------------------------------------

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean negative log-likelihood, in nats, of each step given the real frames before it.

        Metrics: ``loss/<key>``, ``loss/code``, ``loss/reward``, ``loss/continuation``, each before its
        weight.
        """
        state = self.states(segment.observation)
        features, _ = self._read(self._blank(state[:, 0]), state, self.encode_action(segment.action))
        return self.next.loss(features, state, self.states, segment, with_history(segment, self.burn_in + 1))

    def _blank(self, state: Tensor) -> Belief:
        hidden = state.new_zeros(len(state), self.cell.hidden_size)
        return {"hidden": hidden, "state": state, "change": torch.zeros_like(state)}

    def _read(self, belief: Belief, state: Tensor, action: Tensor) -> tuple[Tensor, Belief]:
        """Run the GRU along real states [B, T + 1, S], beginning with the belief's, and encoded actions [B,
        T, A].

        Returns:
            the input of ``next`` for each step, [B, T, F], and the beliefs at all frames, [B, T + 1, ...].
        """
        changes = torch.cat([belief["change"].unsqueeze(1), state.diff(dim=1) / self.change_scale], dim=1)
        inputs = torch.cat([state[:, :-1], changes[:, :-1], action], dim=-1)
        hiddens = [belief["hidden"]]
        for x in inputs.unbind(1):
            hiddens.append(self.cell(x, hiddens[-1]))
        hidden = torch.stack(hiddens, 1)
        beliefs = {"hidden": hidden, "state": state, "change": changes}
        return torch.cat([hidden[:, 1:], inputs], dim=-1), beliefs
