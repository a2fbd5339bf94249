"""The gamma-model (Janner et al. 2020, arXiv 2010.14496): one draw is a state of the whole discounted future.

    next state          s' ~ p(s' | s, a)
    discounted future   q(e | s, a) = (1 - g) p(e | s, a) + g E[ q(e | s', a') ],  a' by the data's policy

Both are mixtures, fitted by their likelihood. The second is fitted to draws of its own right side, unrolled
to the end of a segment, where a slow copy of q stands; the authors unroll it once, for any policy. The mean
reward of its draws, divided by 1 - g, is the value of the data's policy: no rollout is needed. A state in
which an episode ends is its own future.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent
from torch.nn import functional as F

from wmplay.contracts import LazyMapping, LazyPrediction, Prediction, Segment
from wmplay.errors import ConfigError, SpaceError, check_values
from wmplay.models.vector_state import begin_history, extend_history, histories, with_history
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.by_key import ModulesByKey
from wmplay.nets.heads import OutcomeHeads, masked_mean, nats
from wmplay.nets.layers import mlp
from wmplay.nets.modalities import Binary, modalities
from wmplay.nets.observations import vectors

CHANGE, MIN_SIGMA = 0.1, 0.01  # the unit of changes of numbers, in half-ranges; the smallest width, in it
TINY = 1e-7

Belief: TypeAlias = dict[str, Tensor]  # state [B, k, P + V], action [B, k - 1, A]


class Parts(NamedTuple):
    """The K components of mixtures."""

    chance: Tensor  # [..., K]: logarithms of their probabilities
    logits: Tensor  # [..., K, P], of pixels
    mean: Tensor  # [..., K, V]
    sigma: Tensor  # [..., K, V]


class GammaModel(nn.Module):
    """A model of the next state, and of the discounted future under the policy of the data.

    A state is the P pixels of a frame's binary screens and the V numbers of its vectors.

    Args:
        observation_space: a Dict of binary screens and float vectors.
        action_space: a one-dimensional Box, or Discrete.
        frames: number k of frames on which the future depends.
        hidden: units of each hidden layer.
        layers: hidden layers.
        components: number K of each mixture.
        gamma: discount per step of the future.
        tau: part by which the slow copy follows in each update.
        future_weight: weight of the loss of the discounted future.
        vector_sigma: width of the Gaussian around decoded vectors, in half-ranges of their space.
        reward_weight: weight of the reward's loss; 0 = no reward head, and no values.
        continuation_weight: weight of the continuation's loss; 0 = no continuation head.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for values out of range.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        frames: int = 2,
        hidden: int = 128,
        layers: int = 2,
        components: int = 8,
        gamma: float = 0.9,
        tau: float = 0.02,
        future_weight: float = 1.0,
        vector_sigma: float = 0.03,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        super().__init__()
        sizes = {"frames": frames, "hidden": hidden, "components": components}
        check_values(
            "gamma",
            at_least_one=sizes,
            not_negative={"layers": layers},
            positive={"future_weight": future_weight},
            fractions={"gamma": gamma, "tau": tau},
        )
        if gamma == 1:
            raise ConfigError("gamma is 1", got=1, expected="less than 1")
        self.modalities = modalities(observation_space, vector_sigma=vector_sigma, pixel_sigma=1.0)
        self.registered = ModulesByKey(self.modalities)  # so that their buffers move with the model
        self.vectors = vectors(self.modalities)
        self.screens = {key: m for key, m in self.modalities.items() if isinstance(m, Binary)}
        if len(self.vectors) + len(self.screens) < len(self.modalities):
            found = list(self.modalities)
            raise SpaceError(
                f"observations are {', '.join(found)}", got=found, expected="binary screens and vectors"
            )
        self.frames, self.gamma, self.tau, self.future_weight = frames, gamma, tau, future_weight
        self.encode_action = ActionEncoder(action_space)
        self.pixels = sum(m.size for m in self.screens.values())  # P
        numbers = sum(m.size for m in self.vectors.values())  # V
        unit = torch.cat([torch.ones(self.pixels), torch.full((numbers,), CHANGE)])
        self.register_buffer("unit", unit, persistent=False)
        inputs = frames * (self.pixels + numbers + self.encode_action.size)
        shape = (self.pixels, numbers, components, hidden, layers)
        self.next, self.future = Mixture(inputs, *shape, CHANGE), Mixture(inputs, *shape, 1.0)
        self.slow = copy.deepcopy(self.future).requires_grad_(False)
        features = inputs + self.pixels + numbers
        self.outcome = OutcomeHeads(features, hidden, 1, reward_weight, continuation_weight)
        self.arrival = mlp(self.pixels + numbers, hidden, 1, 1) if reward_weight else None

    unit: Tensor

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
        """Predict under action [B, H, A] step by step: draws with a generator, the likeliest without."""
        states, actions = belief["state"], torch.cat([belief["action"], self.encode_action(action)], dim=1)
        latents, seen, reached = [], [], []
        for step in range(action.shape[1]):
            x = self._inputs(states, actions[:, step : step + self.frames])
            sampled = generator is not None
            state, likely = self.next.pick(x, states[:, -1], sampled, temperature, generator)
            state, likely = self._within(state), self._within(likely)
            latents.append(likely if generator is None else state)
            seen.append(x)
            reached.append(state)
            states = torch.cat([states[:, 1:], state.unsqueeze(1)], dim=1)
        outcomes = self.outcome(lambda: torch.cat([torch.stack(seen, 1), torch.stack(reached, 1)], dim=-1))
        last = {"state": states, "action": actions[:, action.shape[1] :]}
        return LazyPrediction(torch.stack(latents, 1), outcomes, last, self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Distribution]:
        """Return distributions of each observation key from states [..., P + V]."""
        sizes = [m.size for m in (*self.screens.values(), *self.vectors.values())]
        parts = dict(zip((*self.screens, *self.vectors), torch.split(latent, sizes, dim=-1), strict=True))

        def distribution(key: str) -> Distribution:
            if key in self.vectors:
                return self.vectors[key].distribution(parts[key])
            shape = self.screens[key].shape
            pixels = parts[key].reshape(*latent.shape[:-1], *shape)
            return Independent(Bernoulli(probs=pixels, validate_args=False), len(shape), validate_args=False)

        return LazyMapping(self.modalities, distribution)

    # ---- the discounted future -------------------------------------------------------------------

    def jump(self, belief: Belief, action: Tensor, draws: int, generator: torch.Generator) -> Tensor:
        """Draw states [B, draws, P + V] of the discounted future after action [B, A], or [B] int64."""
        x = self._inputs(belief["state"], self._with(belief, action))
        rows, last = x.repeat_interleave(draws, 0), belief["state"][:, -1].repeat_interleave(draws, 0)
        drawn, _ = self.future.pick(rows, last, True, 1.0, generator)
        return self._within(drawn).reshape(len(x), draws, -1)

    def likelihood(self, belief: Belief, action: Tensor, state: Tensor) -> Tensor:
        """Return log q [B] of states [B, P + V] in the discounted future after action [B, A] or [B]."""
        return self.future.log_prob(
            self._inputs(belief["state"], self._with(belief, action)), belief["state"][:, -1], state
        )

    def value(self, belief: Belief, action: Tensor, draws: int, generator: torch.Generator) -> Tensor:
        """Return the discounted return [B] of action [B, A] or [B] and the data's policy after it.

        It is the mean reward of ``draws`` states of the discounted future, each paid on arrival, divided by
        1 - gamma.

        Raises:
            ConfigError: for a model without a reward head.
        """
        if self.arrival is None:
            raise ConfigError("a model without a reward has no values", advice="set model.reward_weight=1")
        drawn = self.jump(belief, action, draws, generator)
        reward: Tensor = self.arrival(drawn).squeeze(-1).float()
        return reward.mean(1) / (1 - self.gamma)

    # ---- as features -----------------------------------------------------------------------------

    def features(self, belief: Belief) -> Tensor:
        """Return the last state, the changes before it, and the actions between, [B, k (P + V) + (k - 1)
        A]."""
        return self._inputs(belief["state"], belief["action"])

    def track(self, segment: Segment) -> Belief:
        """Return the belief at every frame of a segment: row b * (T + 1) + t is after frames 0 to t."""
        states, actions = self.states(segment.observation), self.encode_action(segment.action)
        return {key: value.flatten(0, 1) for key, value in histories(states, actions, self.frames).items()}

    # ---- training --------------------------------------------------------------------------------

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean negative log-likelihoods, in nats, of next states and of discounted futures.

        Metrics: ``loss/state``, ``loss/future``, ``loss/arrival`` (of the reward, given the state alone that
        it was paid in), ``loss/reward``, ``loss/continuation``, each before its weight.
        """
        states, actions = self.states(segment.observation), self.encode_action(segment.action)
        before = histories(states, actions, self.frames)
        taken = torch.cat([before["action"][:, :-1], actions.unsqueeze(2)], dim=2)
        x, last, after = self._inputs(before["state"][:, :-1], taken), states[:, :-1], states[:, 1:]
        counted = with_history(segment, self.frames)
        future, known = self._targets(x, states, segment)
        values = {
            "state": (-self.next.log_prob(x, last, after), counted),
            "future": (-self.future.log_prob(x, last, future), counted & known),
        }
        if self.arrival is not None:
            error = self.arrival(after).squeeze(-1).float() - segment.reward
            values["arrival"] = (0.5 * error.square(), counted)
        features = torch.cat([x, after], dim=-1)
        for name, each in self.outcome.negative_log_likelihoods(features, segment).items():
            values[name] = (each, counted)
        terms = {name: masked_mean(each, mask) for name, (each, mask) in values.items()}
        weights = {**self.outcome.weights, "future": self.future_weight}
        total = torch.stack([weights.get(name, 1.0) * value for name, value in terms.items()]).sum()
        return total, {f"loss/{name}": value.detach() for name, value in terms.items()}

    def after_update(self, progress: float) -> None:
        """Let the slow copy follow."""
        for slow, quick in zip(self.slow.parameters(), self.future.parameters(), strict=True):
            slow.lerp_(quick, self.tau)

    @torch.no_grad()
    def _targets(self, x: Tensor, states: Tensor, segment: Segment) -> tuple[Tensor, Tensor]:
        """Return draws [B, T, P + V] of each step's discounted future, and which of them [B, T] are known.

        A draw is the n-th state after the step, with n geometric. Where the segment ends before, it is one of
        the slow copy's future of the segment's last step: errors of the copy, which would be learned as if
        they were states, then count by gamma to the power of the steps until there, and not in full.

        Args:
            x: [B, T, ...], the networks' inputs.
            states: [B, T + 1, P + V].
            segment: of these states.
        """
        rows, steps = len(x), torch.arange(x.shape[1], device=x.device)
        last = (segment.mask.sum(1, keepdim=True) - 1).clamp(min=0)  # [B, 1]
        uniform = torch.rand(rows, len(steps), device=x.device).clamp(min=TINY)
        waiting = uniform.log() / math.log(max(self.gamma, TINY))
        reached = torch.minimum(steps + waiting.long(), last)
        ended = (segment.terminated & segment.mask).any(1, keepdim=True)
        at_last = last.unsqueeze(-1)
        given, before = (one.take_along_dim(at_last, 1).expand(-1, len(steps), -1) for one in (x, states))
        drawn, _ = self.slow.pick(given, before, True)
        beyond = ((reached == last) & ~ended).unsqueeze(-1)
        seen = states.take_along_dim(reached.unsqueeze(-1) + 1, 1)
        return torch.where(beyond, self._within(drawn), seen), (steps < last) | ended

    # ---- parts -----------------------------------------------------------------------------------

    def states(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the states [..., P + V] of frames {key: [..., *shape]}."""
        screens = [observation[key].flatten(-len(m.shape)).float() for key, m in self.screens.items()]
        return torch.cat([*screens, *(m.encode(observation[key]) for key, m in self.vectors.items())], dim=-1)

    def _inputs(self, states: Tensor, actions: Tensor) -> Tensor:
        """Return a network's input of k states [..., k, P + V] and any actions [..., n, A]."""
        changes = states.diff(dim=-2) / self.unit
        return torch.cat([states[..., -1, :], changes.flatten(-2), actions.flatten(-2)], dim=-1)

    def _with(self, belief: Belief, action: Tensor) -> Tensor:
        """Return a belief's actions with a further one, [B, k, A]."""
        return torch.cat([belief["action"], self.encode_action(action).unsqueeze(1)], dim=1)

    def _within(self, state: Tensor) -> Tensor:
        """Clip states [..., P + V] to the bounds, so that long rollouts stay within them."""
        limits = [m.limit for m in self.vectors.values()]
        limit = torch.cat([torch.ones_like(self.unit[: self.pixels]), *limits])
        return torch.clamp(state, -limit, limit)


class Mixture(nn.Module):
    """A mixture of K products of Bernoulli pixels and Gaussian numbers.

    Args:
        inputs: size of the input.
        pixels: P.
        numbers: V.
        components: K.
        hidden: units of each hidden layer.
        layers: hidden layers.
        unit: of the numbers' distance from the last ones, and of their widths.
    """

    def __init__(
        self, inputs: int, pixels: int, numbers: int, components: int, hidden: int, layers: int, unit: float
    ) -> None:
        super().__init__()
        self.sizes, self.components, self.unit = [1, pixels, numbers, numbers], components, unit
        self.out = mlp(inputs, hidden, layers, components * sum(self.sizes))

    def parts(self, x: Tensor, last: Tensor) -> Parts:
        """Return the components for inputs x [..., inputs] after states ``last`` [..., P + V]."""
        output = self.out(x).float().reshape(*x.shape[:-1], self.components, -1)
        weight, logits, move, width = torch.split(output, self.sizes, dim=-1)
        numbers = last[..., self.sizes[1] :].unsqueeze(-2)
        sigma = self.unit * (F.softplus(width.contiguous()) + MIN_SIGMA)  # slow on strided memory
        return Parts(weight.squeeze(-1).log_softmax(-1), logits, numbers + self.unit * move, sigma)

    def log_prob(self, x: Tensor, last: Tensor, state: Tensor) -> Tensor:
        """Return the log-likelihoods [...] of states [..., P + V]."""
        found, pixels = self.parts(x, last), self.sizes[1]
        screen, numbers = state[..., None, :pixels], state[..., None, pixels:]
        signs = 2 * screen - 1
        by_component = F.logsigmoid(signs * found.logits).sum(-1) - nats(
            numbers, found.mean, found.sigma
        ).sum(-1)
        return (found.chance + by_component).logsumexp(-1)

    def pick(
        self,
        x: Tensor,
        last: Tensor,
        sampled: bool,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return states [..., P + V] of one component, and the same with probabilities as pixels.

        Args:
            x: [..., inputs].
            last: [..., P + V].
            sampled: whether to draw; else the likeliest component, its likeliest pixels and its mean.
            temperature: scales all noise.
            generator: of the draws; None = torch's global one.
        """
        found = self.parts(x, last)

        def noise(shape: torch.Size) -> Tensor:
            return torch.rand(shape, generator=generator, device=x.device).clamp(TINY, 1 - TINY)

        scores = found.chance
        if sampled:
            scores = scores - temperature * (-noise(scores.shape).log()).log()
        index = scores.argmax(-1, keepdim=True).unsqueeze(-1)
        logits, mean, sigma = (part.take_along_dim(index, -2).squeeze(-2) for part in found[1:])
        shifted = logits
        if sampled:
            shifted = logits + temperature * noise(logits.shape).logit()
            mean = mean + temperature * sigma * (2 * noise(mean.shape) - 1).erfinv() * 2**0.5
        soft = logits.sigmoid()
        hard = (shifted > 0).float() + (soft - soft.detach())
        return torch.cat([hard, mean], dim=-1), torch.cat([soft, mean], dim=-1)
