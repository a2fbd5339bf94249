"""Hierarchical visual foresight (Nair and Finn 2020, arXiv 1909.05829): subgoals, and a plan between them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wmplay.contracts import Advises, Belief, Objective, Planner, Practice, WorldModel
from wmplay.nets.optimizers import Adam
from wmplay.policies import mpc
from wmplay.policies.subgoals.walker import Observation, SubgoalPolicy
from wmplay.system.device import Precision


class HVF(SubgoalPolicy):
    """A policy that searches subgoals at the beginning of an episode, and plans from one to the next.

    Args:
        planner: searches the actions of a leg.
        replan_every: steps to follow each plan, up to its horizon.
        precision: of the model's products while planning, see ``wmplay.system.device``.
        prior: name of a policy that learns, whose proposals and values the planner takes.
        prior_settings: overrides of its config.

    All others, and the errors, are those of ``SubgoalPolicy``; without subgoals it is ``mpc``.
    """

    def __init__(
        self,
        env: Any,
        model: WorldModel,
        planner: Planner,
        objective: Objective,
        subgoals: int = 1,
        candidates: int = 32,
        iterations: int = 3,
        elites: int = 6,
        near: float = 0.5,
        patience: int = 10,
        replan_every: int = 2,
        precision: Precision = "auto",
        prior: Advises | str | None = None,
        prior_settings: dict[str, Any] = {},  # noqa: B006 (a config's default, never changed)
        latent: int = 8,
        hidden: int = 128,
        layers: int = 1,
        batch_size: int = 256,
        length: int = 20,
        lr: float = 1e-3,
    ) -> None:
        super().__init__(
            env,
            model,
            objective,
            subgoals=subgoals,
            candidates=candidates,
            iterations=iterations,
            elites=elites,
            near=near,
            patience=patience,
            latent=latent,
            hidden=hidden,
            layers=layers,
            batch_size=batch_size,
            length=length,
            lr=lr,
        )
        self.below = mpc.MPC(model, planner, objective, replan_every, precision, prior, prior_settings, env)
        self.prior: Any = prior if isinstance(prior, nn.Module) else None
        self.optimizer = Adam(self.generator.parameters(), lr=lr)

    def act_below(
        self,
        carry: mpc.Carry | None,
        observation: Observation,
        last_action: Tensor,
        first: Tensor,
        *,
        explore: bool,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, mpc.Carry]:
        """Return the planner's actions."""
        return self.below.act(carry, observation, last_action, first, explore=explore, generator=generator)

    def score_below(
        self, belief: Belief, observation: Observation, generator: torch.Generator | None
    ) -> Tensor:
        """Return the score [R] of the best plan found for each row."""
        return self.below.search(belief, observation, generator=generator).score

    def anew(self, carry: mpc.Carry, done: Tensor) -> mpc.Carry:
        """Plan a new leg at once."""
        return carry._replace(step=torch.where(done, self.below.replan_every, carry.step))

    def improve(self, practice: Practice) -> dict[str, float]:
        """Let the prior, if any, practise, and fit the generator as much.

        Raises:
            ConfigError: without real experience.
        """
        advised = {} if self.prior is None else self.prior.improve(practice)
        return {**advised, **super().improve(practice)}

    def learner_state(self) -> dict[str, Any]:
        """Return the optimisers' state."""
        prior = None if self.prior is None else self.prior.learner_state()
        return {**super().learner_state(), "prior": prior}

    def load_learner_state(self, state: dict[str, Any]) -> None:
        """Restore ``learner_state``."""
        super().load_learner_state(state)
        if self.prior is not None:
            self.prior.load_learner_state(state["prior"])
