"""A probabilistic ensemble of feed-forward networks (PETS, Chua et al. 2018, arXiv 1805.12114).

Each network predicts a Gaussian over the change of the vectors. Compared with ``ensemble``: small networks
for vectors alone, in one batched product, with learned bounds of their variance and a weight decay of each
layer, as published.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from wmplay.contracts import LazyPrediction, Prediction, Segment, model_keys
from wmplay.errors import ConfigError, SpaceError, check_values
from wmplay.models.vector_state import (
    FrameStates,
    begin_history,
    extend_history,
    histories,
    history_inputs,
    step_inputs,
    with_history,
)
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.heads import OutcomeHeads, masked_mean, nats
from wmplay.nets.layers import ParallelNets

# state [B, k, S], action [B, k - 1, A], member [B] int64: the network that predicts the row, -1 while open
Belief: TypeAlias = dict[str, Tensor]

LOG_VARIANCE = (-10.0, 0.5)  # first bounds of the log variance
BOUND_WEIGHT = 0.01  # of the distance of the bounds in the loss
HIDDEN_DECAY, LAST_DECAY = 2.5, 5.0  # weight decay of these layers, in that of the first one


class PETS(nn.Module):
    """M networks, each with state[t + 1] ~ N(state[t] + m, s) from the last k states and actions.

    A sampled prediction follows one network in each row. With ``choose="episode"`` the first sampled
    prediction draws the network of a row, and the row keeps it until a new belief begins (TS-infinity). With
    ``choose="step"`` each step draws a network anew (TS1). Without a generator each step is the mean over
    the networks. Several sampled futures of one plan are the planner's particles (``planner.particles``).

    In place of the paper's bootstrap, each network is fitted on its own part of the steps of each batch. The
    heads of reward and continuation are one network each, fitted on all steps.

    Args:
        observation_space: a Dict with at least one float vector; other observations are neither read nor
            predicted.
        action_space: a one-dimensional Box, or Discrete.
        members: number M of networks.
        choose: the time for which a row keeps its network in sampled predictions.
        frames: number k of frames on which the next one depends.
        hidden: units of each hidden layer.
        layers: hidden layers.
        weight_decay: half of the squared weights of the first layer count this much in the loss, those of the
            other hidden layers 2.5 times, those of the last layer 5 times.
        change_scale: unit of changes, as inputs and outputs, in half-ranges.
        vector_sigma: width of the Gaussian around decoded vectors, in half-ranges of their space.
        reward_weight: weight of the reward's loss; 0 = no reward head.
        continuation_weight: weight of the continuation's loss; 0 = no continuation head.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for values out of range.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        members: int = 5,
        choose: Literal["episode", "step"] = "episode",
        frames: int = 1,
        hidden: int = 200,
        layers: int = 3,
        weight_decay: float = 1e-4,
        change_scale: float = 0.1,
        vector_sigma: float = 0.03,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        super().__init__()
        sizes = {"members": members, "frames": frames, "hidden": hidden, "layers": layers}
        decay = {"weight_decay": weight_decay}
        check_values("pets", at_least_one=sizes, positive={"change_scale": change_scale}, not_negative=decay)
        if choose not in ("episode", "step"):
            raise ConfigError(f"pets: choose is {choose!r}", got=choose, expected="episode or step")
        vectors = _vectors(observation_space)
        self.predicted = list(vectors.spaces)
        self.members, self.choose, self.frames, self.change_scale = members, choose, frames, change_scale
        self.states = FrameStates(vectors, 0, hidden, 0, vector_sigma=vector_sigma, pixel_sigma=1.0)
        self.encode_action = ActionEncoder(action_space)
        inputs = frames * (self.states.size + self.encode_action.size)
        self.nets = ParallelNets(members, inputs, hidden, layers, 2 * self.states.size, silu=True)
        self.decays = [weight_decay, *[HIDDEN_DECAY * weight_decay] * (layers - 1), LAST_DECAY * weight_decay]
        self.least, self.most = (
            nn.Parameter(torch.full((self.states.size,), bound)) for bound in LOG_VARIANCE
        )
        self.outcomes = OutcomeHeads(
            inputs + self.states.size, hidden, layers, reward_weight, continuation_weight
        )

    # ---- the four verbs --------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after an episode's first frame {key: [B, ...]}; no row has a network yet."""
        state = self.states(observation)
        member = torch.full((len(state),), -1, device=state.device)
        return {**begin_history(state, self.frames, self.encode_action.size), "member": member}

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after action [B, T, A] and the frames that it led to, {key: [B, T, ...]}."""
        seen = extend_history(belief, self.encode_action(action), self.states(observation))
        return {**seen, "member": belief["member"]}

    def predict(
        self,
        belief: Belief,
        action: Tensor,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Prediction:
        """Predict under action [B, H, A]: draws of one network in each row with a generator, means without.

        ``temperature`` multiplies the widths of the Gaussians.
        """
        states, actions = belief["state"], torch.cat([belief["action"], self.encode_action(action)], dim=1)
        member, limit = belief["member"], self.states.limit
        if generator is not None and self.choose == "episode":
            member = torch.where(member < 0, self._draw(member, generator), member)
        groups = None if generator is None or self.choose == "step" else Groups(member, self.members)
        latents, seen = [], []
        for step in range(action.shape[1]):
            x = history_inputs(states, actions[:, step : step + self.frames], self.change_scale)
            if generator is None:
                change = self._mean(x, member)
            else:
                own = groups or Groups(self._draw(member, generator), self.members)
                mean, log_variance = self.gaussian(own.split(x))
                noise = torch.randn(len(x), self.states.size, generator=generator, device=x.device)
                change = own.join(mean) + temperature * own.join((0.5 * log_variance).exp()) * noise
            state = torch.clamp(states[:, -1] + self.change_scale * change, -limit, limit)
            latents.append(state)
            seen.append(x)
            states = torch.cat([states[:, 1:], state.unsqueeze(1)], dim=1)
        latent = torch.stack(latents, 1)
        outcomes = self.outcomes(lambda: torch.cat([torch.stack(seen, 1), latent], dim=-1))
        last = {"state": states, "action": actions[:, action.shape[1] :], "member": member}
        return LazyPrediction(latent, outcomes, last, self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Distribution]:
        """Return distributions of each vector from states [..., S], each computed at its first use."""
        return self.states.decode(latent)

    # ---- as features -----------------------------------------------------------------------------

    def features(self, belief: Belief) -> Tensor:
        """Return the last state, the changes before it, and the actions between, [B, k S + (k - 1) A]."""
        return history_inputs(belief["state"], belief["action"], self.change_scale)

    def track(self, segment: Segment) -> Belief:
        """Return the belief at every frame of a segment: row b * (T + 1) + t is after frames 0 to t."""
        states, actions = self.states(segment.observation), self.encode_action(segment.action)
        seen = {key: x.flatten(0, 1) for key, x in histories(states, actions, self.frames).items()}
        return {**seen, "member": torch.full((len(seen["state"]),), -1, device=states.device)}

    # ---- training --------------------------------------------------------------------------------

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum over the networks of their mean loss per step and vector entry, as published.

        The loss of an entry is twice its negative log-likelihood in nats, without the constant. Metrics:
        ``loss/<key>`` and ``loss/reward``, ``loss/continuation``, in nats, each before its weight.
        """
        state = self.states(segment.observation)
        x = step_inputs(state, self.encode_action(segment.action), self.frames, self.change_scale)
        rows, steps = (torch.arange(size, device=x.device) for size in x.shape[:2])
        own = Groups((rows.unsqueeze(1) + steps).flatten() % self.members, self.members)
        mean, log_variance = (own.join(part) for part in self.gaussian(own.split(x.flatten(0, 1))))
        change = (state[:, 1:] - state[:, :-1]) / self.change_scale
        entries = nats(change, *(part.view_as(change) for part in (mean, (0.5 * log_variance).exp())))
        mask = with_history(segment, self.frames)
        features = torch.cat([x, state[:, 1:]], dim=-1)
        terms = {name: part.sum(-1) for name, part in self.states.parts(entries).items()}
        terms |= self.outcomes.negative_log_likelihoods(features, segment)
        shown = {name: masked_mean(value, mask) for name, value in terms.items()}
        total = self.members * masked_mean(2 * entries.mean(-1), mask)
        total = total + BOUND_WEIGHT * (self.most - self.least).sum()
        for decay, weight in zip(self.decays, self.nets.weights, strict=True):
            total = total + 0.5 * decay * weight.square().sum()
        for name, weight in self.outcomes.weights.items():
            total = total + (weight * shown[name] if name in shown else 0.0)
        return total, {f"loss/{name}": value.detach() for name, value in shown.items()}

    # ---- networks --------------------------------------------------------------------------------

    def gaussian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and log variance, each [M, R, S], of the change in its unit, for inputs [M, R, ...]
        or [R, ...]."""
        mean, raw = self.nets(x).chunk(2, dim=-1)
        return mean, bounded(raw.contiguous(), self.least, self.most)

    def _draw(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randint(self.members, like.shape, generator=generator, device=like.device)

    def _mean(self, x: Tensor, member: Tensor) -> Tensor:
        """Return the mean change [B, S]: over all networks, or of the row's own where it has one."""
        means, _ = self.gaussian(x)
        own = means[member.clamp(min=0), torch.arange(len(x), device=x.device)]
        return torch.where(member.unsqueeze(1) < 0, means.mean(0), own)


class Groups:
    """The rows of a batch by the network that they belong to, as a padded tensor and back.

    Args:
        member: [R] int64, of each row.
        members: number M of networks.
    """

    def __init__(self, member: Tensor, members: int) -> None:
        order = member.argsort(stable=True)
        sizes = torch.bincount(member, minlength=members)
        self.shape = members, int(sizes.max())
        begin = torch.arange(members, device=member.device) * self.shape[1] - (sizes.cumsum(0) - sizes)
        place = torch.arange(len(member), device=member.device) + begin[member[order]]
        self.place = torch.empty_like(place).index_copy_(0, order, place)  # [R], within M x the largest group

    def split(self, x: Tensor) -> Tensor:
        """Return rows [R, D] as [M, most, D], with zeros where a group is smaller."""
        padded = x.new_zeros(self.shape[0] * self.shape[1], x.shape[-1])
        return padded.index_copy(0, self.place, x).reshape(*self.shape, -1)

    def join(self, parts: Tensor) -> Tensor:
        """Return rows [R, D] of groups [M, most, D]."""
        return parts.flatten(0, 1).index_select(0, self.place)


def bounded(raw: Tensor, least: Tensor, most: Tensor) -> Tensor:
    """Return a log variance softly bounded from above, then from below (appendix A.1)."""
    below = most - F.softplus(most - raw)
    return least + F.softplus(below - least)


def _vectors(space: gym.Space[Any]) -> Dict:
    """Return the float vectors of an observation space. Raise SpaceError if it has none."""
    spaces = space.spaces if isinstance(space, Dict) else {}
    found = {
        key: spaces[key]
        for key in model_keys(spaces)
        if isinstance(spaces[key], Box) and len(spaces[key].shape or ()) == 1 and _is_float(spaces[key])
    }
    if not found:
        raise SpaceError(
            f"observation space is {space}",
            got=space,
            expected="a Dict with a float vector: pets sees no images",
            advice="choose another model (model=mlp, model=rssm)",
        )
    return Dict(found)


def _is_float(space: gym.Space[Any]) -> bool:
    return np.issubdtype(space.dtype, np.floating)
