"""Dreamer (Hafner et al. 2020, arXiv 1912.01603), DreamerV2 (arXiv 2010.02193), DreamerV3 (arXiv 2301.04104).

An actor and a critic on the features of a world model learn from imagined futures: they begin at every frame
of replayed segments, and follow the actor through one-step predictions. The model is fitted by the loop and
only lent here: no gradient reaches it. DreamerV3's loss of the critic on replayed rewards is here, but does
not shape the features, as it does in the original.

With an ensemble, a second actor and critic explore (Plan2Explore, Sekar et al. 2020, arXiv 2005.05960).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wmplay.contracts import (
    Actions,
    Belief,
    Practice,
    Segment,
    env_spec,
    featured,
)
from wmplay.errors import ConfigError, check_values
from wmplay.policies.actor_critic import (
    Actor,
    ActorCritic,
    Critic,
    CriticLoss,
    Distribution,
    Gradient,
    Optimizer,
    Rules,
    SlowCritic,
)
from wmplay.policies.beliefs import fixed, followed
from wmplay.policies.disagreement import Disagreement
from wmplay.policies.imagination import (
    GoalInputs,
    Imagined,
    Outcome,
    RewardFrom,
    Roots,
    features_of,
    imagine,
    roots_of,
)


class Dreamer(nn.Module):
    """A policy that learns in the imagination of the run's world model, which must be ``Featured``.

    The defaults are DreamerV3's, as published in May 2026. Actors see goals next to the features, because the
    model does not. A step of practice is an imagined transition.

    Args:
        env: with a bounded one-dimensional Box or Discrete actions.
        model: of the run.
        hidden: units of each hidden layer of actor and critic.
        layers: their hidden layers.
        norm: whether units are divided by their root mean square.
        batch_size: replayed segments per update.
        length: steps of each; a future begins at each of their ``length + 1`` frames.
        horizon: steps imagined.
        reward: of imagined steps: "model" (its heads) or "task" (the env's own function of the predicted
            observation; a model cannot know the reward of a goal that it does not see).
        gamma: discount per step.
        decay: lambda of the returns.
        gradient: of the actor: "reinforce", or "dynamics" (through the model).
        distribution: of continuous actions: "bounded_normal", or "tanh_normal" (Dreamer).
        unimix: part of a uniform distribution in discrete actions.
        entropy: weight of the actor's entropy.
        critic: "two_hot" (a distribution over bins), or "mse".
        slow_critic: a copy that follows the critic: "regulariser" (the critic stays near it), "target"
            (returns are bootstrapped from it), or "none".
        slow_rate: how far it follows.
        slow_every: updates between its moves.
        return_scale: whether returns are divided by their running spread, if that is above 1.
        replay_value: weight of the critic's loss on replayed rewards.
        last_actor: factor of the first weights of the actor's last layer.
        last_critic: the same for the critic; 0 begins with values of 0.
        optimizer: "laprop" or "adam".
        lr: learning rate.
        eps: of the optimiser.
        weight_decay: part of the weights taken away in each update, times ``lr``.
        agc: largest norm of a tensor's gradient, as a part of the norm of its weights; None = no limit.
        clip: largest gradient norm of the actor, and of the critic; None = no limit.
        warmup: updates over which the learning rate rises.
        ensemble: networks whose disagreement a second actor seeks, which acts where the policy explores; 0 =
            the actor itself explores.
        ensemble_lr: learning rate of these networks.
        ensemble_updates: their gradient steps for each update; too few, and they disagree about everything.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for values out of range, or a model without features.
    """

    def __init__(
        self,
        env: Any,
        model: Any,
        hidden: int = 256,
        layers: int = 3,
        norm: bool = True,
        batch_size: int = 16,
        length: int = 64,
        horizon: int = 15,
        reward: RewardFrom = "model",
        gamma: float = 0.997,
        decay: float = 0.95,
        gradient: Gradient = "reinforce",
        distribution: Distribution = "bounded_normal",
        unimix: float = 0.01,
        entropy: float = 3e-4,
        critic: CriticLoss = "two_hot",
        slow_critic: SlowCritic = "regulariser",
        slow_rate: float = 0.02,
        slow_every: int = 1,
        return_scale: bool = True,
        replay_value: float = 0.3,
        last_actor: float = 0.01,
        last_critic: float = 0.0,
        optimizer: Optimizer = "laprop",
        lr: float = 4e-5,
        eps: float = 1e-20,
        weight_decay: float = 0.0,
        agc: float | None = 0.3,
        clip: float | None = None,
        warmup: int = 1000,
        ensemble: int = 0,
        ensemble_lr: float = 3e-4,
        ensemble_updates: int = 1,
    ) -> None:
        super().__init__()
        sizes = {"hidden": hidden, "layers": layers, "batch_size": batch_size, "length": length}
        check_values(
            "dreamer",
            at_least_one={
                **sizes,
                "horizon": horizon,
                "slow_every": slow_every,
                "ensemble_updates": ensemble_updates,
            },
            positive={
                "lr": lr,
                "ensemble_lr": ensemble_lr,
                **{k: v for k, v in (("agc", agc), ("clip", clip)) if v is not None},
            },
            not_negative={
                "entropy": entropy,
                "replay_value": replay_value,
                "eps": eps,
                "weight_decay": weight_decay,
                "warmup": warmup,
                "ensemble": ensemble,
                "last_actor": last_actor,
                "last_critic": last_critic,
            },
            fractions={"gamma": gamma, "decay": decay, "unimix": unimix, "slow_rate": slow_rate},
        )
        spec = env_spec(env)
        self.batch_size, self.length, self.horizon = batch_size, length, horizon
        self.gradient, self.gamma = gradient, gamma
        self.outcome = Outcome(reward, spec)
        self.goals = GoalInputs(spec.observation_space)
        self.model = featured(model, "dreamer")
        self.features = features_of(self.model, spec.observation_space)
        size = self.features + self.goals.size
        rules = Rules(
            gamma,
            decay,
            gradient,
            entropy,
            critic,
            slow_critic,
            slow_rate,
            slow_every,
            return_scale,
            replay_value,
        )
        descent: dict[str, Any] = {"kind": optimizer, "lr": lr, "eps": eps, "weight_decay": weight_decay}
        descent |= {"agc": agc, "clip": clip, "warmup": warmup}

        def agent() -> ActorCritic:
            actor = Actor(size, spec.action_space, hidden, layers, norm, distribution, unimix, last_actor)
            return ActorCritic(
                actor, Critic(size, hidden, layers, norm, critic, last_critic), rules, **descent
            )

        self.agent = agent()
        self.explorer = agent() if ensemble else None
        self.disagreement, self.ensemble_updates = None, ensemble_updates
        if ensemble:
            self.disagreement = Disagreement(
                self.features, spec.action_space, ensemble, hidden, layers, ensemble_lr
            )

    # ---- acting ------------------------------------------------------------------------------------

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
        """Return the most likely actions [B, A] or [B] int64; with ``explore``, samples (of the explorer, if
        any)."""
        belief = followed(self.model, carry, observation, last_action, first)
        state = self._state(self.model.features(belief), observation)
        agent = self.explorer if explore and self.explorer is not None else self.agent
        actions = agent.actor(state)
        return actions.sample(generator) if explore else actions.mode(), belief

    def proposals(self, features: Tensor, goals: Mapping[str, Tensor]) -> Actions:
        """Return the actor's actions, for planners."""
        actions: Actions = self.agent.actor(self._state(features, goals))
        return actions

    def values(self, features: Tensor, goals: Mapping[str, Tensor]) -> Tensor:
        """Return the critic's expected returns [B], for planners."""
        critic = self.agent.critic
        return critic.value(critic(self._state(features, goals)))

    def _state(self, features: Tensor, goals: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([features, self.goals(goals)], dim=-1) if self.goals.size else features

    # ---- learning ----------------------------------------------------------------------------------

    def improve(self, practice: Practice) -> dict[str, float]:
        """Update on replayed segments until ``practice.steps`` transitions are imagined.

        Raises:
            ConfigError: without real experience, or if the model does not predict the reward.
        """
        store, rng = practice.store, np.random.default_rng(practice.seed)
        if store is None or not store.steps:
            raise ConfigError(
                "dreamer imagines from real experience, and there is none",
                advice="collect some (collect.episodes), or give a store (env.data)",
            )
        generator = torch.Generator(practice.device).manual_seed(practice.seed)
        taken, metrics = 0, dict[str, float]()
        with fixed(self.model):
            while taken < practice.steps:
                segment = store.sample(self.batch_size, self.length, rng, ends=True).to(practice.device)
                found = self.update(segment, generator)
                taken += self.batch_size * (self.length + 1) * self.horizon
                metrics = {name: float(value) for name, value in found.items()}
                practice.advance(taken, metrics)
        return metrics

    def update(self, segment: Segment, generator: torch.Generator) -> dict[str, Tensor]:
        """Take a gradient step of actor and critic on futures of a segment's frames; return metrics."""
        roots = roots_of(self.model, segment, self.goals)
        metrics = self.agent.learn(self.imagined(roots, self.agent, generator), segment)
        if self.explorer is None or self.disagreement is None:
            return metrics
        frames = (segment.mask.shape[0], segment.mask.shape[1] + 1)
        features = self.model.features(roots.belief).reshape(*frames, -1)
        for _ in range(self.ensemble_updates):
            loss = self.disagreement.learn(features, segment.action, segment.mask, generator)
        found = self.explorer.learn(self.imagined(roots, self.explorer, generator))
        return {**metrics, "ensemble_loss": loss, **{f"explorer_{name}": x for name, x in found.items()}}

    def imagined(self, roots: Roots, agent: ActorCritic, generator: torch.Generator) -> Imagined:
        """Return futures of an agent, with the gradients that its actor learns from.

        The explorer's rewards are disagreements about what each action leads to.
        """
        with torch.set_grad_enabled(self.gradient == "dynamics"):
            found = imagine(self.model, roots, agent.actor, self.outcome, self.horizon, generator)
            if agent is not self.explorer or self.disagreement is None:
                return found
            reward = self.disagreement(found.state[:, :-1, : self.features], found.action)
        return replace(found, reward=reward)

    def learner_state(self) -> dict[str, Any]:
        """Return the optimisers' state."""
        state: dict[str, Any] = {"agent": self.agent.descent.state()}
        if self.explorer is not None and self.disagreement is not None:
            state["explorer"] = self.explorer.descent.state()
            state["disagreement"] = self.disagreement.optimizer.state_dict()
        return state

    def load_learner_state(self, state: dict[str, Any]) -> None:
        """Restore ``learner_state``."""
        self.agent.descent.load(state["agent"])
        if self.explorer is not None and self.disagreement is not None:
            self.explorer.descent.load(state["explorer"])
            self.disagreement.optimizer.load_state_dict(state["disagreement"])
