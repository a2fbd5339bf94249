"""MuZero (Schrittwieser et al. 2020, arXiv 1911.08265) with the policy targets of Gumbel MuZero (Danihelka et
al. 2022, openreview bERaNdoegnO), for discrete actions. Options are the consistency of EfficientZero (Ye et
al. 2021, arXiv 2111.00210) and the chance codes of Stochastic MuZero (Antonoglou et al. 2022, openreview
X6D9bAHhBQ1).

    representation   s_0 = h(o_1 ... o_t), scaled to 0..1 in each row
    dynamics         s_{k+1}, r_k = g(s_k, a_{t+k}, c_{t+k+1})
    prediction       p_k, v_k = f(s_k)
    chance           c_{t+k+1} ~ p(c | s_k, a_{t+k}), with more than one code

No observation is predicted. The loss compares K + 1 unrolled states with what a tree search anew, in a slow
copy of the networks, finds at the real frames (all targets are reanalysed; nothing is stored with the data).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium as gym
import torch
from gymnasium.spaces import Discrete
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.contracts import Actions, Prediction, Segment
from wmplay.errors import ConfigError, SpaceError, check_values
from wmplay.models.muzero.networks import Likeness, Networks
from wmplay.models.vector_state import with_history
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.agents.distributions import Categorical
from wmplay.nets.search import Reached, Search, search
from wmplay.system.processes import joint_count

Belief: TypeAlias = dict[str, Tensor]  # latent [B, S]; frames [B, k - 1, E], the last embeddings before
GRADIENT = 0.5  # part of the gradient that flows back through a step of the dynamics


class MuZero(nn.Module):
    """A model of rewards, values and policies, with ``planner=mcts`` an agent.

    Goals (``goal_`` keys) are inputs of the representation, together with their differences to what they are
    goals of.

    The value of a frame is the return of the next ``steps`` rewards and the slow copy's value after them; a
    terminated episode continues with rewards of 0 in a state of value 0, whose policy is not trained. An
    episode that is cut by a time limit, and a window that ends before its episode, are continued by the value
    of their last frame.

    Args:
        observation_space: a Dict of the kinds in ``wmplay.nets.modalities``.
        action_space: Discrete from 0.
        frames: number k of frames that the representation sees; more than one where velocities are hidden.
        latent: size S of the state.
        hidden: units of each hidden layer.
        layers: hidden layers of each network.
        unroll: steps K that are unrolled in the loss.
        rho: weight of each unrolled step relative to the one before; 1 as published. What later steps tell is
            noise until the first is learned.
        steps: rewards that a value target sums up before the slow copy's value.
        gamma: discount per step.
        simulations: of the search in the loss, for each frame; 0 = values of the slow copy's network, and no
            policy target.
        searched: part of the rows of a batch whose frames are searched; the others have the values of the
            slow copy's network, and no policy target.
        least_range: of the values of a state's actions that decides between them; see ``search``.
        bins: of the distributions of rewards and values, an odd number.
        largest: the largest reward or value, as a root (``to_root``; 20 is 396, 300 is 50,460).
        slow_rate: how far the slow copy follows in each update.
        value_weight: weight of the value's loss.
        reward_weight: weight of the reward's loss.
        consistency: weight of the similarity of unrolled states to those of the real frames (EfficientZero:
            2); 0 = none.
        codes: number of the outcomes that an action may have (Stochastic MuZero: 32); 1 = none by chance.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for numbers out of range.
    """

    goals = True  # it receives them
    predicted = ()  # no observations

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        frames: int = 1,
        latent: int = 128,
        hidden: int = 128,
        layers: int = 1,
        unroll: int = 5,
        rho: float = 1.0,
        steps: int = 5,
        gamma: float = 0.997,
        simulations: int = 16,
        searched: float = 1.0,
        least_range: float = 0.1,
        bins: int = 41,
        largest: float = 20.0,
        slow_rate: float = 0.02,
        value_weight: float = 0.25,
        reward_weight: float = 1.0,
        consistency: float = 2.0,
        codes: int = 1,
    ) -> None:
        super().__init__()
        if not isinstance(action_space, Discrete):
            raise SpaceError(f"action space is {action_space}", got=action_space, expected="Discrete from 0")
        if bins < 3 or bins % 2 == 0:
            raise ConfigError(f"muzero: bins is {bins}", got=bins, expected="an odd number from 3")
        sizes = {"frames": frames, "latent": latent, "hidden": hidden, "layers": layers, "unroll": unroll}
        check_values(
            "muzero",
            at_least_one={**sizes, "steps": steps, "codes": codes},
            positive={
                "rho": rho,
                "gamma": gamma,
                "slow_rate": slow_rate,
                "largest": largest,
                "least_range": least_range,
            },
            not_negative={
                "simulations": simulations,
                "value_weight": value_weight,
                "reward_weight": reward_weight,
                "consistency": consistency,
            },
            fractions={"rho": rho, "gamma": gamma, "slow_rate": slow_rate, "searched": searched},
        )
        self.frames, self.unroll, self.rho = frames, unroll, rho
        self.steps, self.gamma = steps, gamma
        self.simulations, self.searched, self.least_range = simulations, searched, least_range
        self.slow_rate = slow_rate
        self.weights = {"value": value_weight, "reward": reward_weight, "consistency": consistency}
        self.encode_action = ActionEncoder(action_space)
        self.networks = Networks(
            observation_space, self.encode_action.size, frames, latent, hidden, layers, (bins, largest), codes
        )
        self.slow = copy.deepcopy(self.networks).requires_grad_(False)
        if consistency:
            self.likeness = Likeness(latent, hidden)

    # ---- the verbs -------------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after an episode's first frame {key: [B, ...]}, as if nothing had moved before
        it."""
        embedding = self.networks.embed(observation).unsqueeze(1).repeat(1, self.frames, 1)
        return self._believe(embedding)

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after action [B, T] and the frames that it led to, {key: [B, T, ...]}.

        Only the last k frames count.
        """
        last = {key: value[:, -self.frames :] for key, value in observation.items()}
        embedding = torch.cat([belief["frames"], self.networks.embed(last)], dim=1)
        return self._believe(embedding[:, -self.frames :])

    def predict(
        self, belief: Belief, action: Tensor, *, generator: torch.Generator | None = None
    ) -> Prediction:
        """Predict under action [B, H], or relaxed ones [B, H, C]; with several codes, the most probable one,
        or one drawn by the generator."""
        latent, latents, rewards = belief["latent"], [], []
        for step in self.encode_action(action).unbind(1):
            chance, code = self.networks.chances(latent), torch.zeros_like(step[:, 0], dtype=torch.int64)
            if chance is not None:
                chance = (step.unsqueeze(-1) * chance).sum(1)
                drawn = None if generator is None else torch.multinomial(chance, 1, generator=generator)
                code = chance.argmax(1) if drawn is None else drawn.squeeze(1)
            latent, reward = self.networks.advance(latent, step, code)
            latents.append(latent)
            rewards.append(self.networks.scalars.mean(reward))
        return self._prediction(torch.stack(latents, 1), torch.stack(rewards, 1), belief)

    def outcome(self, belief: Belief, action: Tensor, number: Tensor) -> Prediction:
        """Predict one step: outcome ``number`` [B] int64 of action [B] int64."""
        latent, reward = self.networks.advance(belief["latent"], self.encode_action(action), number)
        return self._prediction(latent.unsqueeze(1), self.networks.scalars.mean(reward).unsqueeze(1), belief)

    def chances(self, belief: Belief) -> Tensor | None:
        """Return the probabilities [B, C, K] of the outcomes of each action; None if actions have one."""
        return self.networks.chances(belief["latent"])

    def decode(self, latent: Tensor) -> Mapping[str, Tensor]:
        """Return nothing: observations are not predicted."""
        return {}

    def value(self, belief: Belief) -> Tensor:
        """Return the expected discounted return [B] of the searched policy."""
        return self.networks.scalars.mean(self.networks.judge(belief["latent"])[1])

    def policy(self, belief: Belief) -> Actions:
        """Return the policy that foretells the results of searches."""
        return Categorical(self.networks.judge(belief["latent"])[0])

    def features(self, belief: Belief) -> Tensor:
        """Return the latents [B, S]."""
        return belief["latent"]

    def track(self, segment: Segment) -> Belief:
        """Return the beliefs after each frame; row b * (T + 1) + t is frame t of row b."""
        windows = self._windows(self.networks.embed(segment.observation))
        return self._believe(windows.flatten(0, 1))

    # ---- training --------------------------------------------------------------------------------

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of the K + 1 states that are unrolled from each frame.

        The weights of the states after the first sum to 1: each is ``rho`` times the one before. Metrics,
        each before its weight: ``loss/policy``, ``loss/value``, ``loss/reward`` and, if they are in use,
        ``loss/consistency`` and ``loss/chance``; ``value``, the mean of the value targets.
        """
        steps = segment.action.shape[1]
        targets = self.targets(segment)
        embedding = self.networks.embed(segment.observation)
        real = self.networks.represent(self._windows(embedding))  # [B, T + 1, S]
        given = with_history(segment, self.frames)
        begins, number = (given & targets.real[:, :steps]).flatten(), joint_count(given)
        later = self.rho ** torch.arange(self.unroll, device=begins.device)
        weight = torch.cat([later.new_ones(1), later / later.sum()]).unsqueeze(1)

        def mean(losses: Tensor, known: Tensor) -> Tensor:
            counted = known & begins
            return (torch.where(counted, losses, 0.0) * weight[-len(losses) :]).sum() / number

        def unrolled(x: Tensor, first: int = 0) -> Tensor:
            """Return entries [K + 1 - first, B * T, ...] of x [B, >= T + K - first, ...] along unrolls."""
            count = self.unroll + 1 - first
            return torch.stack([x[:, k : k + steps].flatten(0, 1) for k in range(count)])

        beyond = torch.randint_like(F.pad(segment.action, (0, self.unroll)), self.encode_action.size)
        action = torch.where(targets.real[:, :-1], F.pad(segment.action, (0, self.unroll)), beyond)
        codes = self.networks.codes(embedding)
        if codes is not None:
            codes = F.pad(codes, (0, 0, 0, self.unroll))
        states, rewards = self._unrolled(
            real[:, :-1].flatten(0, 1),
            self.encode_action(unrolled(action, 1)),
            None if codes is None else unrolled(codes, 1),
        )
        logits, values = self.networks.judge(states)
        scalars = self.networks.scalars
        reward = F.pad(torch.where(targets.real[:, :steps], segment.reward, 0.0), (0, self.unroll))
        terms = {
            "policy": mean(
                -(unrolled(targets.policy) * logits.log_softmax(-1)).sum(-1), unrolled(targets.searched)
            ),
            "value": mean(scalars.loss(values, unrolled(targets.value)), unrolled(targets.known)),
            "reward": mean(scalars.loss(rewards, unrolled(reward, 1)), unrolled(targets.known[:, 1:], 1)),
        }
        frames = unrolled(targets.seen[:, 1:], 1)
        if self.weights["consistency"]:
            aim = unrolled(F.pad(real.detach(), (0, 0, 0, self.unroll))[:, 1:], 1)
            shown = frames & begins  # padding has no part in the statistics of the batch
            unlike = torch.zeros_like(frames, dtype=aim.dtype)
            unlike[shown] = (1 - self.likeness(states[1:][shown], aim[shown])).to(aim.dtype)
            terms["consistency"] = mean(unlike, frames)
        if codes is not None:
            drawn = self.networks.chance_logits(states[:-1])
            taken = unrolled(action, 1).unsqueeze(-1).unsqueeze(-1).expand(-1, -1, 1, drawn.shape[-1])
            logs = drawn.gather(2, taken).squeeze(2).log_softmax(-1)
            code = unrolled(codes.detach(), 1)
            terms["chance"] = mean(-(code * logs).sum(-1), frames)
        total = torch.stack([self.weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
        metrics = {f"loss/{name}": term.detach() for name, term in terms.items()}
        return total, {**metrics, "value": targets.value[targets.known].mean()}

    def after_update(self, progress: float) -> None:
        """Let the slow copy follow."""
        for slow, fast in zip(self.slow.parameters(), self.networks.parameters(), strict=True):
            slow.lerp_(fast, self.slow_rate)

    def _unrolled(self, state: Tensor, action: Tensor, code: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return states [K + 1, R, S] and the logits [K, R, bins] of the rewards on the way.

        Args:
            state: [R, S], the first states.
            action: [K, R, C], one-hot.
            code: [K, R, codes], one-hot.
        """
        states, rewards = [state], []
        for k in range(self.unroll):
            state, reward = self.networks.step(state, action[k], None if code is None else code[k])
            state = GRADIENT * state + (1 - GRADIENT) * state.detach()
            states.append(state)
            rewards.append(reward)
        return torch.stack(states), torch.stack(rewards)

    @torch.no_grad()
    def targets(self, segment: Segment) -> Targets:
        """Return what the states that are unrolled from a segment are compared with."""
        counted = segment.mask & (
            (segment.mask & segment.terminated).cumsum(1) - segment.terminated.int() <= 0
        )
        real = F.pad(counted, (0, self.unroll + 1))
        length = real.sum(1, keepdim=True)
        frame = torch.arange(real.shape[1], device=real.device)
        ended = (segment.terminated & counted).any(1, keepdim=True)
        seen, over = frame <= length, ended & (frame >= length)
        policy, searched, value = self._searched(segment)
        extra = (0, self.unroll)
        value = torch.where(over | ~seen, 0.0, F.pad(value, extra))
        reward, returns = F.pad(segment.reward, (0, self.unroll + 1)), value
        for _ in range(self.steps):
            returns = torch.where(real, reward + self.gamma * F.pad(returns[:, 1:], (0, 1)), value)
        searched = F.pad(searched, extra) & seen & ~over
        return Targets(F.pad(policy, (0, 0, *extra)), searched, returns, seen | over, seen, real)

    def _searched(self, segment: Segment) -> tuple[Tensor, Tensor, Tensor]:
        """Return of all frames the policies [B, T + 1, C], which of them are searched, bool, and the values
        [B, T + 1]."""
        latent = self.slow.represent(self._windows(self.slow.embed(segment.observation)))
        logits, value = self.slow.judge(latent)
        policy, value = torch.zeros_like(logits), self.slow.scalars.mean(value)
        searched = torch.zeros_like(value, dtype=torch.bool)
        rows = round(self.searched * len(value)) if self.simulations else 0
        if rows:
            found = self._search(latent[:rows].flatten(0, 1))
            policy[:rows] = found.policy.reshape(policy[:rows].shape)
            value[:rows] = found.value.reshape(value[:rows].shape)
            searched[:rows] = True
        return policy, searched, value

    def _search(self, latent: Tensor) -> Search:
        """Search from latents [R, S] in the slow copy."""
        discount = latent.new_full((len(latent),), self.gamma)

        def reached(latent: Tensor, reward: Tensor) -> Reached:
            logits, value = self.slow.judge(latent)
            chance = self.slow.chances(latent)
            return Reached(latent, reward, discount, logits, self.slow.scalars.mean(value), chance)

        def expand(latent: Tensor, action: Tensor, code: Tensor | None = None) -> Reached:
            after, reward = self.slow.advance(latent, self.encode_action(action), code)
            return reached(after, self.slow.scalars.mean(reward))

        root = reached(latent, torch.zeros_like(discount))
        return search(expand, root, self.simulations, least_range=self.least_range)

    def _windows(self, embedding: Tensor) -> Tensor:
        """Return the k embeddings [B, T + 1, k, E] up to each of [B, T + 1, E]; the first one is repeated."""
        before = embedding[:, :1].expand(-1, self.frames - 1, -1)
        return torch.cat([before, embedding], 1).unfold(1, self.frames, 1).transpose(-1, -2)

    def _believe(self, windows: Tensor) -> Belief:
        return {"latent": self.networks.represent(windows), "frames": windows[:, 1:]}

    def _prediction(self, latent: Tensor, reward: Tensor, belief: Belief) -> Prediction:
        return Prediction(latent, reward, None, {**belief, "latent": latent[:, -1]}, self.decode)


@dataclass(frozen=True)
class Targets:
    """The aims of a batch's unrolled states, for J = T + 1 + K frames, of which K are beyond the end."""

    policy: Tensor  # [B, J, C]
    searched: Tensor  # [B, J] bool: frames that have a policy
    value: Tensor  # [B, J]
    known: Tensor  # [B, J] bool: frames that have a value, and a reward that led to them
    seen: Tensor  # [B, J] bool: frames of the data
    real: Tensor  # [B, J] bool: frames from which a step of the data leads on
