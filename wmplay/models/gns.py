"""A graph network simulator (Sanchez-Gonzalez et al. 2020, arXiv 2002.09405): bodies that send messages.

    v[i] = node(changes of body i over the last k frames, its numbers but the place, walls near, action)
    e[i, j] = edge(place[j] - place[i], distance)
    L times:  e[i, j] += f(e[i, j], v[i], v[j]);  v[i] += g(v[i], sum over j of e[i, j])
    next change of i = last change + node's term(v[i]) + sum over j of force(e[i, j], v[i], v[j])

All bodies share the weights, so that the weights fit any number of bodies; permuting the bodies permutes
what is predicted. With ``conserve`` forces are antisymmetric, and bodies have no term of their own: momentum
is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from wmplay.contracts import Group, LazyMapping, LazyPrediction, Prediction, Segment
from wmplay.errors import ConfigError, SpaceError, check_values
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
from wmplay.nets.layers import mlp
from wmplay.nets.modalities import modalities
from wmplay.nets.observations import vectors

PLACE = 2  # the first numbers of a body are its place, x and y
POSES = ("full_state", "proprio")  # keys of LCD worlds, with 4 numbers for each body

Belief: TypeAlias = dict[str, Tensor]  # state [B, k, n E], action [B, k - 1, A]


class GNS(nn.Module):
    """A simulator of bodies. A state is the E numbers of each of n bodies, one body after the other.

    The next state is Gaussian, with a learned width for each of the E numbers. Screens are neither read nor
    predicted.

    Args:
        observation_space: a Dict with the bodies' vectors among its keys.
        action_space: a one-dimensional Box, or Discrete; each body receives the whole action.
        keys: the vectors, each with ``entries`` numbers for each body, of which the first two of the first
            key are the place; None = ``full_state`` or ``proprio`` where an LCD world shows it, else all.
        entries: numbers of each body in each key; None = 4 for those of LCD worlds, else 2.
        frames: number k of frames on which the next one depends.
        hidden: units of each hidden layer, of nodes and of edges.
        messages: rounds L of messages before the forces; 0 = forces depend on the two bodies alone.
        radius: of the bodies that send messages to each other, in half-ranges of the place; 0 = all.
        walls: how far a body sees the bounds of the space, in half-ranges; 0 = not at all, so that moving
            all bodies moves what is predicted.
        conserve: whether momentum is kept; for free bodies of equal mass.
        change_scale: the typical change of a number in a step, in half-ranges.
        noise: of the last frame's change, in the unit ``change_scale``, while the model is fitted.
        vector_sigma: width of the Gaussian around decoded vectors, in half-ranges of their space.
        reward_weight: weight of the reward's loss; 0 = no reward head.
        continuation_weight: weight of the continuation's loss; 0 = no continuation head.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for values out of range, or keys that do not hold bodies.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        keys: Sequence[str] | None = None,
        entries: int | None = None,
        frames: int = 3,
        hidden: int = 64,
        messages: int = 2,
        radius: float = 0.0,
        walls: float = 0.5,
        conserve: bool = False,
        change_scale: float = 0.03,
        noise: float = 0.03,
        vector_sigma: float = 0.03,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_values(
            "gns",
            at_least_one={"frames": frames, "hidden": hidden},
            positive={"change_scale": change_scale},
            not_negative={"messages": messages, "radius": radius, "walls": walls, "noise": noise},
        )
        known = vectors(seen := modalities(observation_space, vector_sigma=vector_sigma, pixel_sigma=1.0))
        if not known:
            raise SpaceError(
                f"observations are {', '.join(seen)}",
                got=list(seen),
                expected="vectors with the same numbers for each body",
                advice="env.full_state=true shows the bodies of LCD worlds",
            )
        poses = [key for key in POSES if key in known and known[key].size > 1][:1]
        chosen = list(keys) if keys is not None else poses or list(known)
        size = entries if entries is not None else 4 if chosen == poses else PLACE
        sizes = {key: known[key].size if key in known else 0 for key in chosen}
        if (
            len({*sizes.values()}) != 1
            or size < PLACE
            or not all(x and x % size == 0 for x in sizes.values())
        ):
            raise ConfigError(
                f"gns: the bodies' vectors are {sizes or 'missing'}, with {size} numbers for each body",
                got=sizes,
                expected="vectors of one size, and at least 2 numbers for each body",
                advice="set model.keys and model.entries; env.full_state=true shows the bodies of LCD worlds",
            )
        self.vectors = {key: known[key] for key in chosen}
        self.registered = ModulesByKey(self.vectors)  # so that their buffers move with the model
        self.reads = self.predicted = chosen
        self.frames, self.radius, self.walls, self.conserve = frames, radius, walls, conserve
        self.change_scale, self.noise, self.entries, self.numbers = (
            change_scale,
            noise,
            size,
            size * len(chosen),
        )
        self.encode_action = ActionEncoder(action_space)
        node = self.numbers * frames - PLACE + 2 * PLACE * (walls > 0) + frames * self.encode_action.size
        self.node, self.edge = _block(node, hidden), _block(PLACE + 1, hidden)
        self.to_edges = nn.ModuleList(_block(3 * hidden, hidden) for _ in range(messages))
        self.to_nodes = nn.ModuleList(_block(2 * hidden, hidden) for _ in range(messages))
        self.force = mlp(3 * hidden, hidden, 1, self.numbers)
        if conserve:
            self.drift = nn.Linear(self.numbers - PLACE, PLACE, bias=False) if self.numbers > PLACE else None
        else:
            self.own = mlp(hidden, hidden, 1, self.numbers)
        self.log_sigma = nn.Parameter(torch.zeros(self.numbers))  # in the unit change_scale
        outcomes = reward_weight > 0 or continuation_weight > 0
        self.pool = nn.Linear(hidden + self.numbers, hidden) if outcomes else None
        self.outcome = OutcomeHeads(hidden, hidden, 1, reward_weight, continuation_weight)

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
        """Predict under action [B, H, A]: draws with a generator, the means of the Gaussians without.

        ``temperature`` multiplies the widths of the Gaussians.
        """
        states, actions = belief["state"], torch.cat([belief["action"], self.encode_action(action)], dim=1)
        latents, seen = [], []
        sigma = self.change_scale * self.log_sigma.exp()
        for step in range(action.shape[1]):
            mean, nodes = self.step(states, actions[:, step : step + self.frames])
            if generator is not None:
                noise = torch.randn(mean.shape, generator=generator, device=mean.device)
                mean = mean + temperature * sigma * noise
            state = self._within(mean).flatten(1)
            latents.append(state)
            seen.append(nodes)
            states = torch.cat([states[:, 1:], state.unsqueeze(1)], dim=1)
        latent = torch.stack(latents, 1)
        outcomes = self.outcome(lambda: self._pooled(torch.stack(seen, 1), latent))
        last = {"state": states, "action": actions[:, action.shape[1] :]}
        return LazyPrediction(latent, outcomes, last, self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Distribution]:
        """Return distributions of the bodies' vectors from states [..., n E]."""
        parts = torch.split(self._bodies(latent), self.entries, dim=-1)
        by_key = {key: part.flatten(-2) for key, part in zip(self.vectors, parts, strict=True)}
        return LazyMapping(self.vectors, lambda key: self.vectors[key].distribution(by_key[key]))

    # ---- as features -----------------------------------------------------------------------------

    def features(self, belief: Belief) -> Tensor:
        """Return the last state, the changes before it, and the actions between, [B, k n E + (k - 1) A]."""
        return history_inputs(belief["state"], belief["action"], self.change_scale)

    def track(self, segment: Segment) -> Belief:
        """Return the belief at every frame of a segment: row b * (T + 1) + t is after frames 0 to t."""
        states, actions = self.states(segment.observation), self.encode_action(segment.action)
        return {key: value.flatten(0, 1) for key, value in histories(states, actions, self.frames).items()}

    # ---- training --------------------------------------------------------------------------------

    def groups(self) -> Sequence[Group]:
        """Return the widths, which have to follow the errors as these fall."""
        return [Group([self.log_sigma], rate=10.0)]

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean negative log-likelihood of each step, in nats per body, given real frames before.

        While the model is fitted, the frames before a step have noise: a random walk of their changes. The
        target has the last frame's, so that the change is learned, not the way back. Metrics:
        ``loss/<key>``, ``loss/reward``, ``loss/continuation``, each before its weight.
        """
        states, actions = self.states(segment.observation), self.encode_action(segment.action)
        before = histories(states, actions, self.frames)
        taken = torch.cat([before["action"][:, :-1], actions.unsqueeze(2)], dim=2)
        past, after = before["state"][:, :-1].flatten(0, 1), states[:, 1:].flatten(0, 1)
        if self.noise and self.training and self.frames > 1:
            walk = torch.randn_like(past[:, 1:]).cumsum(1) * (self.frames - 1) ** -0.5
            walk = self.noise * self.change_scale * walk.cumsum(1)
            past, moved = torch.cat([past[:, :1], past[:, 1:] + walk], dim=1), after + walk[:, -1]
        else:
            moved = after
        mean, nodes = self.step(past, taken.flatten(0, 1))
        entries = nats(self._bodies(moved), mean, self.change_scale * self.log_sigma.exp())
        parts = torch.split(entries.mean(-2), self.entries, dim=-1)
        shape, names = segment.mask.shape, map(term, self.vectors)
        values = {name: part.sum(-1).reshape(shape) for name, part in zip(names, parts, strict=True)}
        if self.pool is not None:
            pooled = self._pooled(nodes, after).reshape(*shape, -1)
            values |= self.outcome.negative_log_likelihoods(pooled, segment)
        counted = with_history(segment, self.frames)
        terms = {name: masked_mean(value, counted) for name, value in values.items()}
        weights = self.outcome.weights
        total = torch.stack([weights.get(name, 1.0) * value for name, value in terms.items()]).sum()
        return total, {f"loss/{name}": value.detach() for name, value in terms.items()}

    # ---- parts -----------------------------------------------------------------------------------

    def states(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the states [..., n E] of frames {key: [..., ...]}."""
        parts = [m.encode(observation[key]) for key, m in self.vectors.items()]
        bodies = [part.reshape(*part.shape[:-1], -1, self.entries) for part in parts]
        return torch.cat(bodies, dim=-1).flatten(-2)

    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean next state [R, n, E] of the last ones [R, k, n E] under encoded actions [R, k, A],
        and the last features [R, n, hidden] of the nodes.

        Forces are in float32 whatever the precision of the fit, because their errors add up over steps.
        """
        with torch.autocast(states.device.type, enabled=False):
            return self._step(states, actions)

    def _step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        history = self._bodies(states)  # [R, k, n, E]
        now, change = history[:, -1], history.diff(dim=1)
        place, rest = now[..., :PLACE], now[..., PLACE:]
        bodies = now.shape[1]
        shared = actions.flatten(1).unsqueeze(1).expand(-1, bodies, -1)
        inputs = [change.movedim(1, 2).flatten(2) / self.change_scale, rest, shared]
        if self.walls:
            inputs += [((1 + side * place) / self.walls).clamp(0, 1) for side in (-1, 1)]
        nodes = self.node(torch.cat(inputs, dim=-1))
        away = place.unsqueeze(1) - place.unsqueeze(2)  # [R, n, n, 2]: from i to j
        distance = (away.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        joined = ~torch.eye(bodies, dtype=torch.bool, device=now.device)
        meet = joined.unsqueeze(-1) if not self.radius else joined.unsqueeze(-1) & (distance < self.radius)
        edges = self.edge(torch.cat([away, distance], dim=-1) / (10 * self.change_scale))
        for to_edges, to_nodes in zip(self.to_edges, self.to_nodes, strict=True):
            edges = edges + to_edges(_ends(edges, nodes))
            nodes = nodes + to_nodes(torch.cat([nodes, torch.where(meet, edges, 0.0).sum(2)], dim=-1))
        forces = self.force(_ends(edges, nodes))
        if self.conserve:
            forces = forces - forces.transpose(1, 2)
        moved = torch.where(meet, forces, 0.0).sum(2)
        if not self.conserve:
            moved = moved + self.own(nodes)
        mean = now + self.change_scale * moved + (change[:, -1] if self.frames > 1 else 0.0)
        if self.conserve and self.drift is not None:
            mean = torch.cat([mean[..., :PLACE] + self.drift(rest), mean[..., PLACE:]], dim=-1)
        return mean, nodes

    def _bodies(self, states: Tensor) -> Tensor:
        """Return states [..., n E] as [..., n, E]."""
        return states.reshape(*states.shape[:-1], -1, self.numbers)

    def _within(self, state: Tensor) -> Tensor:
        """Clip states [R, n, E] to the space's bounds, so that long rollouts stay within them."""
        limits = [m.limit.reshape(-1, self.entries) for m in self.vectors.values()]
        limit = torch.cat(limits, dim=-1)
        return torch.clamp(state, -limit, limit)

    def _pooled(self, nodes: Tensor, state: Tensor) -> Tensor:
        """Return the features [..., hidden] of steps: the mean over bodies of each one's node and next
        state."""
        assert self.pool is not None
        each = torch.cat([nodes, self._bodies(state)], dim=-1)
        pooled: Tensor = nn.functional.silu(self.pool(each)).mean(-2)
        return pooled


def _block(inputs: int, hidden: int) -> nn.Sequential:
    """Return a network of a hidden layer whose outputs are normalised."""
    return nn.Sequential(*mlp(inputs, hidden, 1, hidden), nn.LayerNorm(hidden))


def _ends(edges: Tensor, nodes: Tensor) -> Tensor:
    """Return each edge [R, n, n, D] with both its ends, [R, n, n, 3 D]."""
    shape = edges.shape
    return torch.cat([edges, nodes.unsqueeze(2).expand(shape), nodes.unsqueeze(1).expand(shape)], dim=-1)
