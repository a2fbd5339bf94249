"""Priors: policies that propose actions to a planner, with the values of where they lead.

``policy=prior`` acts by the policy of a ``Valued`` model itself. ``policy=mpc policy.prior=<learner>`` plans
in a model that is ``Guided`` by a policy that learns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from wmplay.contracts import (
    GOAL_PREFIX,
    Actions,
    Advises,
    Belief,
    LazyMapping,
    LazyPrediction,
    Prediction,
    Segment,
    Valued,
    featured,
    seen_by,
)
from wmplay.errors import ConfigError
from wmplay.policies.beliefs import followed


class PriorPolicy:
    """A policy that acts as the run's model proposes, without planning.

    Args:
        model: proposes actions and keeps the belief.

    Raises:
        ConfigError: for a model without a policy.
    """

    def __init__(self, model: Any) -> None:
        if not isinstance(model, Valued):
            raise ConfigError(
                f"prior acts as the model proposes, and {type(model).__name__} proposes nothing",
                got=type(model).__name__,
                expected="a model with a policy and values (Valued)",
                advice="choose one that has them (model=tdmpc2), or policy=mpc",
            )
        self.model = model

    def initial(self, batch_size: int) -> None:
        """Return None: the first observation makes the first belief."""

    @torch.no_grad()
    def act(
        self,
        carry: Belief | None,
        observation: dict[str, Tensor],
        last_action: Tensor,
        first: Tensor,
        *,
        explore: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Belief]:
        """Return the most likely actions [B, A] or [B] int64; with ``explore``, samples."""
        belief = followed(self.model, carry, observation, last_action, first)
        actions = self.model.policy(belief)
        return actions.sample(generator) if explore else actions.mode(), belief


class Guided:
    """A world model with the proposals and the values of a policy that learns; it is ``Valued``.

    The belief has two parts: ``model``, the model's own, and ``goal``, the goals {goal_key: [B, ...]}.

    Args:
        model: predicts, and has features.
        learner: acts and values by features and goals.

    Raises:
        ConfigError: for a model without features.
    """

    goals = True  # they are in the belief

    def __init__(self, model: Any, learner: Advises) -> None:
        self.model, self.learner = featured(model, "a planner's prior"), learner
        self.gamma = learner.gamma

    def initial(self, observation: dict[str, Tensor]) -> Belief:
        """Return the belief after an episode's first frame {key: [B, ...]}."""
        return {"model": self.model.initial(seen_by(self.model, observation)), "goal": _goals(observation)}

    def observe(self, belief: Belief, action: Tensor, observation: dict[str, Tensor]) -> Belief:
        """Return the belief after action [B, T, A] and the frames that it led to, {key: [B, T, ...]}."""
        own = self.model.observe(belief["model"], action, seen_by(self.model, observation))
        return {"model": own, "goal": {key: value[:, -1] for key, value in _goals(observation).items()}}

    def predict(
        self, belief: Belief, action: Tensor, *, generator: torch.Generator | None = None
    ) -> Prediction:
        """Return the model's prediction under action [B, H, A]."""
        found = self.model.predict(belief["model"], action, generator=generator)
        outcomes = LazyMapping[Tensor | None](
            ("reward", "discount"), lambda name: found.reward if name == "reward" else found.discount
        )
        return LazyPrediction(found.latent, outcomes, {**belief, "model": found.belief}, found.decode)

    def decode(self, latent: Any) -> Any:
        """Return the model's observations of latents."""
        return self.model.decode(latent)

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the model's loss."""
        return self.model.loss(replace(segment, observation=seen_by(self.model, segment.observation)))

    def value(self, belief: Belief) -> Tensor:
        """Return the learner's expected discounted return [B] from here on."""
        features = self.model.features(belief["model"]).float()
        with torch.autocast(features.device.type, enabled=False):  # values differ by little
            return self.learner.values(features, belief["goal"])

    def policy(self, belief: Belief) -> Actions:
        """Return the learner's actions."""
        features = self.model.features(belief["model"]).float()
        with torch.autocast(features.device.type, enabled=False):
            return self.learner.proposals(features, belief["goal"])


def _goals(observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in observation.items() if key.startswith(GOAL_PREFIX)}
