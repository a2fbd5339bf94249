"""HVPC: subgoals as in hierarchical visual foresight, and a policy below instead of a planner.

The policy is cloned in hindsight (Ghosh et al. 2021, arXiv 1912.06088): whatever was seen some steps later
was, in hindsight, the goal of the action taken now. It costs one rollout to know where the policy would come
on a leg, where a planner needs hundreds, so that many more sequences of subgoals can be tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wmplay.contracts import Belief, Objective, Prediction, WorldModel, env_spec
from wmplay.errors import check_values
from wmplay.nets.agents.frames import FrameInputs
from wmplay.nets.heads import masked_mean
from wmplay.nets.optimizers import Adam
from wmplay.policies.actor_critic import Actor
from wmplay.policies.subgoals.walker import Observation, Pairs, SubgoalPolicy


class HVPC(SubgoalPolicy):
    """A policy that searches subgoals at the beginning of an episode, and follows a cloned policy to each.

    Args:
        horizon: steps of the policy's rollout in the model, by which a leg is scored.
        hindsight: steps after an action in which its goals are seen, at most; fewer tell more of the action.
        frames: last frames that the policy reads; more than one where velocities are hidden.
        images: whether it reads screens and images; None = only where there is no vector.

    All others, and the errors, are those of ``SubgoalPolicy``; without subgoals the policy acts alone.
    """

    def __init__(
        self,
        env: Any,
        model: WorldModel,
        objective: Objective,
        subgoals: int = 1,
        candidates: int = 128,
        iterations: int = 3,
        elites: int = 12,
        near: float = 0.5,
        patience: int = 10,
        horizon: int = 8,
        hindsight: int = 4,
        frames: int = 1,
        images: bool | None = None,
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
        check_values("hvpc", at_least_one={"horizon": horizon, "hindsight": hindsight, "frames": frames})
        self.horizon, self.hindsight = horizon, hindsight
        spec = env_spec(env)
        self.inputs = FrameInputs(spec.observation_space, frames, images)
        self.actor = Actor(
            self.inputs.size, spec.action_space, hidden, layers + 1, False, "bounded_normal", 0.0, 1.0
        )
        learned = (self.generator, self.inputs, self.actor)
        self.optimizer = Adam([weight for part in learned for weight in part.parameters()], lr=lr)

    def act_below(
        self,
        carry: Tensor | None,
        observation: Observation,
        last_action: Tensor,
        first: Tensor,
        *,
        explore: bool,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the policy's most likely actions; with ``explore``, samples."""
        frames = self._extended(carry, observation)
        if carry is not None:
            frames = torch.where(first[:, None, None], self._extended(None, observation), frames)
        actions = self.actor(self.inputs.history(frames))
        return actions.sample(generator) if explore else actions.mode(), frames

    def score_below(
        self, belief: Belief, observation: Observation, generator: torch.Generator | None
    ) -> Tensor:
        """Return the score [R] of the policy's rollout from each row."""
        now, frames, steps = observation, self._extended(None, observation), list[Prediction]()
        for _ in range(self.horizon):
            action = self.actor(self.inputs.history(frames)).mode()
            steps.append(self.model.predict(belief, action.unsqueeze(1)))
            belief = steps[-1].belief
            now = {**now, **{key: steps[-1].observation[key][:, 0] for key in self.keys}}
            frames = self._extended(frames, now)
        seen = {key: torch.cat([step.observation[key] for step in steps], 1) for key in self.keys}
        outcomes = [[step.reward, step.discount] for step in steps]
        reward, discount = (_joined(values) for values in zip(*outcomes, strict=True))
        return self.objective(Prediction(seen, reward, discount, belief, lambda latent: latent), observation)

    def loss(self, pairs: Pairs, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the generator's loss and the policy's: the negative log-likelihood of the actions now, given
        frames soon after as goals."""
        loss, metrics = super().loss(pairs, generator)
        segment, now = pairs.segment, pairs.now
        ahead = (segment.mask.sum(1) - now).clamp(max=self.hindsight)
        drawn = torch.rand(len(now), generator=generator, device=now.device)
        seen = pairs.frames(self.keys, now + (ahead * drawn).long() + (ahead > 0))
        goals = {
            goal: seen[key].unsqueeze(1).expand_as(segment.observation[key])
            for goal, key in self.goals.items()
        }
        row = torch.arange(len(now), device=now.device)
        frames = self.inputs.stacked({**segment.observation, **goals})[row, now]
        action = segment.action[row, now.clamp(max=segment.action.shape[1] - 1)]
        likelihood = self.actor(self.inputs.history(frames)).log_prob(action)
        cloning = -masked_mean(likelihood, ahead > 0)
        return loss + cloning, {**metrics, "cloning": cloning.detach()}

    def _extended(self, frames: Tensor | None, observation: Observation) -> Tensor:
        """Return the inputs [B, k, I + G] of the last k frames with the present one."""
        new: Tensor = self.inputs(observation).unsqueeze(1)
        if frames is None:
            return new.expand(-1, self.inputs.frames, -1)
        return torch.cat([frames[:, 1:], new], 1)


def _joined(values: Sequence[Tensor | None]) -> Tensor | None:
    """Return the values [R, H] of H steps [R, 1]; None if one is None."""
    known = [value for value in values if value is not None]
    return torch.cat(known, 1) if len(known) == len(values) else None
