"""IRIS (Micheli et al. 2023, arXiv 2209.00588): a transformer over the tokens of frames, and actions.

    z_t,1 .. z_t,n = tokens of frame t                            a vector-quantised autoencoder, fitted first
    p(z_t+1,i | z_t+1,<i, action_..t, z_..t)                      the transformer, token by token
    reward_t, continuation_t                                      given all of these

Departures from the original: reward and end may depend on the frame that they come with (they are read after
its tokens); actors see the tokens' codes, with the transformer's memory, instead of a reconstruction;
positions are relative, so that the context can slide. Vectors are encoded in the same tokens as the screen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from wmplay.contracts import Belief, LazyPrediction, Prediction, Segment, Stage, Surprise
from wmplay.errors import check_values
from wmplay.models.tokens.autoencoder import TokenAutoencoder
from wmplay.models.tokens.token_transformer import TokenTransformer
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.heads import OutcomeHeads, masked_mean


class Iris(nn.Module):
    """A world model of tokens. A belief holds the codes of the newest frame, what the transformer makes of
    all frames up to it, and the transformer's cache; a latent is the codes of a frame.

    Args:
        observation_space: a Dict with one binary screen [H, W] and any number of float vectors.
        action_space: a one-dimensional Box, or Discrete.
        codes: number of codes.
        code_size: numbers of a code.
        size: of what the transformer makes of a token.
        layers: of the transformer.
        heads: of its attention.
        context: frames that it sees.
        hidden: units of the hidden layers of the heads for vectors, reward and continuation.
        width: channels of the autoencoder's convolutions.
        patch: side, in pixels, of the patches that enter the first convolution: 1, 2 or 4.
        vector_sigma: width of the Gaussian around decoded vectors, in half-ranges of their space.
        position_features: octaves of sines and cosines of the vectors that enter the autoencoder.
        autoencoder_share: of the updates, in each iteration; the others fit the transformer.
        reward_weight: weight of the reward's loss; 0 = no reward head.
        continuation_weight: weight of the continuation's loss; 0 = no continuation head.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes and weights out of range.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        codes: int = 128,
        code_size: int = 16,
        size: int = 64,
        layers: int = 2,
        heads: int = 4,
        context: int = 4,
        hidden: int = 64,
        width: int = 16,
        patch: int = 4,
        vector_sigma: float = 0.03,
        position_features: int = 5,
        autoencoder_share: float = 0.5,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_values("iris", fractions={"autoencoder_share": autoencoder_share})
        self.autoencoder = TokenAutoencoder(
            observation_space, codes, code_size, width, patch, hidden, vector_sigma, position_features
        )
        self.encode_action = ActionEncoder(action_space)
        condition = self.encode_action.size + 1
        tokens = self.autoencoder.tokens
        self.dynamics = TokenTransformer(tokens, codes, condition, size, layers, heads, context)
        self.outcome = OutcomeHeads(size + tokens * code_size, hidden, 1, reward_weight, continuation_weight)
        self.autoencoder_share, self.least_length = autoencoder_share, max(1, context - 1)

    # ---- the four verbs --------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after an episode's first frame {key: [B, ...]}."""
        tokens = self.autoencoder.tokenise(observation).unsqueeze(1)
        start = self._conditions(tokens.new_zeros(len(tokens), 0, self.encode_action.size))
        cache = self.dynamics.blank(len(tokens), tokens.device)
        return self._belief(*self.dynamics.read(cache, start, tokens), tokens)

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after action [B, T, A] and the frames that it led to, {key: [B, T, ...]}."""
        tokens = self.autoencoder.tokenise(observation)
        condition = self._conditions(self.encode_action(action))[:, 1:]
        return self._belief(*self.dynamics.read(belief["cache"], condition, tokens), tokens)

    def predict(
        self,
        belief: Belief,
        action: Tensor,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Prediction:
        """Predict under action [B, H, A]: tokens are drawn with a generator, and the likeliest without."""
        conditions, cache = self._conditions(self.encode_action(action))[:, 1:], belief["cache"]
        codes, memories = [], []
        for condition in conditions.unbind(1):
            tokens, memory, cache = self.dynamics.draw(cache, condition, generator, temperature)
            codes.append(self.autoencoder.vectors(tokens))
            memories.append(memory)
        latent = torch.stack(codes, 1)
        outcomes = self.outcome(lambda: torch.cat([torch.stack(memories, 1), latent], -1))
        last = {"code": codes[-1], "memory": memories[-1], "cache": cache}
        return LazyPrediction(latent, outcomes, last, self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Distribution]:
        """Return distributions of each observation key from the codes [..., n * D] of frames."""
        return self.autoencoder.decode(latent)

    # ---- as features -----------------------------------------------------------------------------

    def features(self, belief: Belief) -> Tensor:
        """Return the transformer's memory and the newest frame's codes, [B, E + n * D]."""
        return torch.cat([belief["memory"], belief["code"]], -1)

    def track(self, segment: Segment) -> Belief:
        """Return the belief at every frame of a segment: row b * (T + 1) + t is after frames 0 to t."""
        tokens = self.autoencoder.tokenise(segment.observation)
        memory, cache = self.dynamics.track(self._conditions(self.encode_action(segment.action)), tokens)

        def begun(each: Tensor) -> Tensor:  # without the rows before a first frame
            return each.reshape(len(tokens), -1, *each.shape[1:])[:, 1:].flatten(0, 1)

        cache = {name: begun(x) if isinstance(x, Tensor) else [*map(begun, x)] for name, x in cache.items()}
        code = self.autoencoder.vectors(tokens)
        return {"code": code.flatten(0, 1), "memory": memory.flatten(0, 1), "cache": cache}

    # ---- training --------------------------------------------------------------------------------

    def stages(self) -> Sequence[Stage]:
        """Return the stages of each iteration: the autoencoder, then the transformer over its tokens."""
        share = self.autoencoder_share
        rest = nn.ModuleList([self.dynamics, self.outcome])
        return [
            Stage("autoencoder", share, self.autoencoder, self.autoencoder.loss, later=share),
            Stage("dynamics", 1 - share, rest, self.dynamics_loss, later=1 - share),
        ]

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of both stages' losses, which share no gradient."""
        drawing, metrics = self.autoencoder.loss(segment)
        moving, more = self.dynamics_loss(segment)
        return drawing + moving, {**metrics, **more}

    def dynamics_loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the nats of each next frame's tokens given all before them, and of its outcome.

        Metrics: ``loss/tokens``, ``loss/reward``, ``loss/continuation``, each before its weight.
        """
        nats, memory, code = self._nats(segment)
        features = torch.cat([memory, code], -1)[:, 1:]
        values = {"tokens": nats} | self.outcome.negative_log_likelihoods(features, segment)
        terms = {name: masked_mean(value, segment.mask) for name, value in values.items()}
        weights = self.outcome.weights
        total = torch.stack([weights.get(name, 1.0) * value for name, value in terms.items()]).sum()
        return total, {f"loss/{name}": value.detach() for name, value in terms.items()}

    def after_update(self, progress: float) -> None:
        """Move the codes towards the autoencoder's outputs."""
        self.autoencoder.book.follow()

    @torch.no_grad()
    def surprise(self, segment: Segment) -> Surprise:
        """Return a bound: -log p(tokens of the frame | past) - log p(screen | tokens)."""
        nats, _, code = self._nats(segment)
        screen = self.autoencoder.frames.screen
        drawn = self.decode(code[:, 1:])[screen]
        return Surprise(nats - drawn.log_prob(segment.observation[screen][:, 1:].float()), "bound")

    # ---- parts -----------------------------------------------------------------------------------

    def _nats(self, segment: Segment) -> tuple[Tensor, Tensor, Tensor]:
        """Return the nats [B, T] of next frames' tokens, and memory and codes [B, T + 1, ...] of frames."""
        tokens = self.autoencoder.tokenise(segment.observation)
        logits, memory = self.dynamics(self._conditions(self.encode_action(segment.action)), tokens)
        code = self.autoencoder.vectors(tokens).detach()
        return self.dynamics.loss(logits[:, 1:], tokens[:, 1:]), memory, code

    def _belief(self, memory: Tensor, cache: Any, tokens: Tensor) -> Belief:
        code = self.autoencoder.vectors(tokens[:, -1])
        return {"code": code, "memory": memory[:, -1], "cache": cache}

    def _conditions(self, action: Tensor) -> Tensor:
        """Return the conditions [B, T + 1, A + 1] of the frames around encoded actions [B, T, A]: of each
        the action before it, and whether it is the first."""
        taken = F.pad(action, (0, 1))
        first = F.one_hot(taken.new_full((len(taken), 1), taken.shape[-1] - 1).long(), taken.shape[-1])
        return torch.cat([first.to(taken), taken], 1)
