"""An ensemble of any world model (Lakshminarayanan et al. 2017, arXiv 1612.01474).

Used for learned simulators by Chua et al. 2018 (arXiv 1805.12114) and Kurutach et al. 2018 (arXiv
1802.10592). A policy that practises in a single learned world exploits that world's mistakes. Members with
different initial weights, fitted on the data in different orders, make different mistakes: an action that
pays in all of them is more likely to pay in the real world.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal, TypeAlias, cast

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.utils._pytree import tree_leaves, tree_map

from wmplay import registry
from wmplay.contracts import (
    GOAL_PREFIX,
    LazyMapping,
    LazyPrediction,
    Prediction,
    Segment,
    Stage,
    Surprise,
    capabilities,
    model_keys,
    observation_spaces,
)
from wmplay.errors import ConfigError
from wmplay.nets.trees import take_rows, where_rows

# member [B] int64: the member that predicts the row, -1 while undecided; members: each member's own belief;
# goal {key: [B, ...]}: the task's, if the members take it.
# In a row whose member is decided, the first entry of members is the belief of that member, and the others
# are out of date.
Belief: TypeAlias = dict[str, Any]
Loss: TypeAlias = Callable[[Segment], tuple[Tensor, dict[str, Tensor]]]


class Ensemble(nn.Module):
    """M members of one kind, each with weights of its own.

    Sampled predictions follow a single member in each row, at the cost of a single model. With
    ``choose="episode"`` the first sampled prediction draws the member of a row, and the row keeps the member
    until a new belief begins. With ``choose="step"`` each step draws a member anew; all other members then
    observe the frame that the drawn one predicted (rounded, if it is a screen). Without a generator, rewards,
    discounts and expected observations are means over the members, each of which predicts on its own: M times
    the cost, and a smaller error than the average member's.

    An update fits each member on its own part of the batch: as much arithmetic as one model's update, with M
    times the overhead. Over a run each member is fitted on all of the data, in an order of its own. Stages of
    the members are fitted together. If the members have a likelihood of screens, the ensemble has that of
    their even mixture; if they have features, it has those of all of them with ``choose="step"``, where each
    member keeps its own belief.

    Args:
        observation_space: as the members take it.
        action_space: as the members take it.
        of: name of the members' model in the registry.
        members: their number M.
        settings: overrides of the members' config.
        choose: the time for which a row keeps its member in sampled predictions.
        reward_weight: of the members.
        continuation_weight: of the members.

    Raises:
        UnknownName: if no model has the name ``of``.
        ConfigError, SpaceError: for no members, or if the members' constructor raises it.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        of: str = "mlp",
        members: int = 5,
        settings: dict[str, Any] = {},  # noqa: B006 (a config's default, never changed)
        choose: Literal["episode", "step"] = "episode",
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if members < 1:
            raise ConfigError(f"ensemble: members is {members}", got=members, expected="at least 1")
        config = registry.piece_config("model", of)
        weights = {"reward_weight": reward_weight, "continuation_weight": continuation_weight}
        config |= {key: value for key, value in weights.items() if key in config or value != 1.0} | settings
        run = {"observation_space": observation_space, "action_space": action_space}
        self.members = nn.ModuleList(registry.build(config, **run) for _ in range(members))
        self.of, self.choose = of, choose
        offered = [capabilities(member) for member in self.members]
        self.least_length = max(each.least_length for each in offered)
        spaces = observation_spaces(observation_space)
        self.keys = model_keys(spaces)
        self.whole = [key for key in self.keys if not np.issubdtype(spaces[key].dtype, np.floating)]
        self.has_temperature, self.goals = offered[0].temperature, offered[0].goals
        if choose == "step" and all(each.features is not None for each in offered):
            self.features, self.track = self._features, self._track
        if all(each.stages is not None for each in offered):
            self.stages = self._stages
        if all(each.surprise is not None for each in offered):
            self.surprise = self._surprise

    # ---- the four verbs --------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """Return the members' beliefs after an episode's first frame {key: [B, ...]}; no row has a member
        yet."""
        return self._undecided(observation, tuple(each.initial(observation) for each in self._each))

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after action [B, T, A] and the frames that it led to, {key: [B, T, ...]}."""

        def look(i: int, own: Any, rows: Tensor) -> Any:
            seen = LazyMapping(observation, lambda key: observation[key][rows])
            return self._each[i].observe(own, action[rows], seen)

        after = self._by_member(self._all(belief["member"]), belief, look)
        return {**belief, "members": _columns(after(lambda own: own))}

    def predict(
        self,
        belief: Belief,
        action: Tensor,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Prediction:
        """Predict under action [B, H, A]: one member in each row with a generator, the mean without.

        Raises:
            ConfigError: for a temperature other than 1 if the members take none.
        """
        if temperature != 1.0 and not self.has_temperature:
            raise ConfigError(
                f"ensemble: temperature is {temperature}",
                got=temperature,
                expected=f"1: {self.of} takes no other",
            )
        sampling: dict[str, Any] = {"generator": generator}
        if self.has_temperature:
            sampling["temperature"] = temperature
        settled = belief["member"]
        if generator is None:
            return self._predict(belief, self._all(settled), action, sampling)
        if self.choose == "step":
            return self._switching(belief, action, sampling)
        member = torch.where(settled < 0, self._draw(settled, generator), settled)
        return self._predict(belief, member.unsqueeze(1), action, sampling)

    def decode(self, latent: Any) -> Mapping[str, Tensor]:
        """Return expected observations {key: [...]}, the mean over the members in the latent."""
        each = self._expectations(latent)
        return LazyMapping(self.keys, lambda key: each[key].mean(latent["member"].ndim - 1))

    def disagreement(self, latent: Any) -> dict[str, Tensor]:
        """Return the disagreement of the members about each key, {key: [...]}.

        It is the standard deviation over the members of their expected observations, averaged over a key's
        entries. The latent comes from a prediction without generator; a latent of [B, H] steps gives [B, H].
        """
        axis = latent["member"].ndim - 1
        each = self._expectations(latent)
        return {key: each[key].std(axis, correction=0).flatten(axis).mean(-1) for key in self.keys}

    # ---- training --------------------------------------------------------------------------------

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean of the members' losses and metrics, each on its own part of the segment's rows.

        Raises:
            ConfigError: for fewer rows than members.
        """
        return self._loss([member.loss for member in self._each], segment)

    def _loss(self, losses: Sequence[Loss], segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        rows, members = len(segment.action), len(self.members)
        if rows < members:
            raise ConfigError(
                f"ensemble: a batch has {rows} segments for {members} members",
                got=rows,
                expected="one for each at least",
                advice="raise fit.batch_size",
            )
        bounds = pairwise(rows * i // members for i in range(members + 1))
        results = [loss(segment.rows(slice(*part))) for loss, part in zip(losses, bounds, strict=True)]
        metrics = {name: torch.stack([m[name] for _, m in results]).mean() for name in results[0][1]}
        return torch.stack([value for value, _ in results]).mean(), metrics

    def _stages(self) -> list[Stage]:
        """Return the stages of the members, joined: in each, all members are fitted."""
        joined = []
        for stages in zip(*(member.stages() for member in self._each), strict=True):
            module = nn.ModuleList(stage.module for stage in stages)
            loss = partial(self._loss, [stage.loss for stage in stages])
            joined.append(Stage(stages[0].name, stages[0].share, module, loss))
        return joined

    def _surprise(self, segment: Segment) -> Surprise:
        """Return the surprise of the members' even mixture: p(all) = mean_i p_i(all).

        Each step is given the steps before it. If the members return bounds, the sum over the steps is a
        bound.
        """
        each = [member.surprise(segment) for member in self._each]
        so_far = torch.stack([own.nats.cumsum(1) for own in each])  # [M, B, T]
        mixed = math.log(len(each)) - torch.logsumexp(-so_far, 0)
        first = torch.zeros_like(mixed[:, :1])
        return Surprise(mixed.diff(dim=1, prepend=first), each[0].kind)

    # ---- as features -----------------------------------------------------------------------------

    def _features(self, belief: Belief) -> Tensor:
        """Return the features of all members, [B, M F]."""
        every = zip(self._each, belief["members"], strict=True)
        return torch.cat([member.features(own) for member, own in every], dim=-1)

    def _track(self, segment: Segment) -> Belief:
        """Return the belief at every frame of a segment: row b * (T + 1) + t is after frames 0 to t."""
        frames = LazyMapping(segment.observation, lambda key: segment.observation[key].flatten(0, 1))
        return self._undecided(frames, tuple(member.track(segment) for member in self._each))

    # ---- members ---------------------------------------------------------------------------------

    @property
    def _each(self) -> Sequence[Any]:
        return cast(Sequence[Any], self.members)

    def _undecided(self, observation: Mapping[str, Tensor], members: tuple[Any, ...]) -> Belief:
        """Return the belief of rows that have no member yet."""
        some = observation[self.keys[0]]
        goal = {key: observation[key] for key in observation if self.goals and key.startswith(GOAL_PREFIX)}
        member = torch.full((len(some),), -1, device=some.device)
        return {"member": member, "members": members, "goal": goal}

    def _draw(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randint(len(self.members), like.shape, generator=generator, device=like.device)

    def _all(self, member: Tensor) -> Tensor:
        """Return [B, M]: all members for the rows of member [B] that are undecided, else M times the row's
        own."""
        everyone = torch.arange(len(self.members), device=member.device)
        return torch.where(member.unsqueeze(1) < 0, everyone, member.unsqueeze(1))

    def _predict(
        self, belief: Belief, member: Tensor, action: Tensor, sampling: Mapping[str, Any]
    ) -> Prediction:
        """Return the futures of member [B, K] under action [B, H, A]; latents are {own: [B, H, K, ...],
        member}."""

        def run(i: int, own: Any, rows: Tensor) -> Prediction:
            future: Prediction = self._each[i].predict(own, action[rows], **sampling)
            return future

        future = self._by_member(member, belief, run)

        def outcome(name: str) -> Tensor | None:
            value: Tensor | None = future(lambda own: own.reward if name == "reward" else own.discount)
            return None if value is None else value.mean(1)

        after = (*_columns(future(lambda own: own.belief)), *belief["members"][member.shape[1] :])
        settled = member[:, 0] if sampling["generator"] is not None else belief["member"]
        latent = {
            "own": tree_map(lambda x: x.transpose(1, 2), future(lambda own: own.latent)),
            "member": member.unsqueeze(1).expand(-1, action.shape[1], -1),
        }
        last = {**belief, "member": settled, "members": after}
        return LazyPrediction(latent, LazyMapping(("reward", "discount"), outcome), last, self.decode)

    def _switching(self, belief: Belief, action: Tensor, sampling: Mapping[str, Any]) -> Prediction:
        """Return a sampled future with another member in every step, which all others observe."""
        steps, goal = [], {key: value.unsqueeze(1) for key, value in belief["goal"].items()}
        for step in range(action.shape[1]):
            now = action[:, step : step + 1]
            member = self._draw(belief["member"], sampling["generator"]).unsqueeze(1)
            steps.append(self._predict(belief, member, now, sampling))
            expected = steps[-1].observation
            seen = LazyMapping([*expected, *goal], partial(self._as_seen, goal, expected))
            belief = self.observe(belief, now, seen)
        latent = tree_map(lambda *values: torch.cat(values, 1), *[step.latent for step in steps])

        def outcome(name: str) -> Tensor | None:
            values = [step.reward if name == "reward" else step.discount for step in steps]
            known = [value for value in values if value is not None]
            return torch.cat(known, 1) if known else None

        return LazyPrediction(latent, LazyMapping(("reward", "discount"), outcome), belief, self.decode)

    def _as_seen(self, goal: Mapping[str, Tensor], expected: Mapping[str, Tensor], key: str) -> Tensor:
        """Return a goal, or an expected frame: rounded if its space has whole numbers; the gradient passes
        straight through."""
        value = goal[key] if key in goal else expected[key]
        return value + (value.round() - value).detach() if key in self.whole else value

    def _by_member(
        self, member: Tensor, belief: Belief, call: Callable[..., Any]
    ) -> Callable[[Callable[[Any], Any]], Any]:
        """Call each member once with all entries that belong to it.

        Args:
            member: [B, K], the member of each entry.
            belief: of B rows.
            call: (member i, its beliefs [R, ...], their indices among the B rows [R]) -> an answer.

        Returns:
            A function from a selector to a pytree [B, K, ...]. The selector takes a pytree [R, ...] from each
            answer, or None from every answer.
        """
        groups = self._groups(member)
        rows = {i: entries.div(member.shape[1], rounding_mode="floor") for i, entries in groups.items()}
        answers = [call(i, _own(belief, i, rows[i]), rows[i]) for i in groups]

        def together(part: Callable[[Any], Any]) -> Any:
            parts = [part(answer) for answer in answers]
            return None if parts[0] is None else _ungrouped(groups, parts, member.shape)

        return together

    def _groups(self, member: Tensor) -> dict[int, Tensor]:
        """Return the indices [R] of each member's entries in a flat ``member``, for members that have any."""
        found = {i: (member.flatten() == i).nonzero().squeeze(1) for i in range(len(self.members))}
        return {i: entries for i, entries in found.items() if len(entries)}

    def _expectations(self, latent: Any) -> Mapping[str, Tensor]:
        """Return the expected observations of each member in a latent, {key: [..., K, ...]}."""
        member = latent["member"]
        flat = tree_map(lambda x: x.flatten(0, member.ndim - 1), latent["own"])
        groups = self._groups(member)
        decoded = [self._each[i].decode(take_rows(flat, entries)) for i, entries in groups.items()]

        def expected(key: str) -> Tensor:
            values = [each[key] for each in decoded]
            means = [value.mean if isinstance(value, Distribution) else value for value in values]
            return cast(Tensor, _ungrouped(groups, means, member.shape))

        return LazyMapping(self.keys, expected)


def _ungrouped(groups: Mapping[int, Tensor], parts: list[Any], shape: torch.Size) -> Any:
    """Join the trees [R, ...] of all groups to one [*shape, ...], with every entry at its original place."""
    back = torch.cat(list(groups.values())).argsort()
    return tree_map(lambda *leaves: torch.unflatten(torch.cat(leaves)[back], 0, shape), *parts)


def _own(belief: Belief, i: int, rows: Tensor) -> Any:
    """Return member i's belief of some rows: its own, or the first one in rows whose member is decided."""
    settled = belief["member"][rows] >= 0
    fresh = take_rows(belief["members"][i], rows) if i and not settled.all() else None
    kept = take_rows(belief["members"][0], rows) if not i or settled.any() else None
    if fresh is None or kept is None:
        return kept if fresh is None else fresh
    return where_rows(settled, kept, fresh)


def _columns(tree: Any) -> tuple[Any, ...]:
    """Return the K trees [N, ...] of a tree [N, K, ...]."""
    width = tree_leaves(tree)[0].shape[1]
    return tuple(tree_map(lambda x, k=k: x[:, k], tree) for k in range(width))
