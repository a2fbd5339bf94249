"""What ``fbt`` and ``frnld`` share: an autoencoder first; then, over its frozen codes, a transformer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from wmplay.contracts import LazyMapping, Prediction, Segment, Stage
from wmplay.errors import ConfigError
from wmplay.models.bvae import BVAE
from wmplay.models.rnlda import RNLDA
from wmplay.nets.frame_transformer import Belief, FrameTransformer
from wmplay.nets.heads import masked_mean
from wmplay.nets.modalities import Vector


class TwoStage(nn.Module, ABC):
    """A world model over the symbols of an autoencoder.

    Predictions stay among the codes: nothing is drawn, let alone encoded again, between two steps.

    Args:
        keys: of the observation, in their order.
        autoencoder: of single frames.
        dynamics: over its symbols, and
        vectors: what lies beside them in the code: the vectors that the autoencoder leaves out.
        autoencoder_share: of the updates.

    Raises:
        ConfigError: for a share that is not between 0 and 1.
    """

    def __init__(
        self,
        keys: Sequence[str],
        autoencoder: BVAE | RNLDA,
        dynamics: FrameTransformer,
        vectors: Mapping[str, Vector],
        autoencoder_share: float,
    ) -> None:
        super().__init__()
        if not 0 < autoencoder_share < 1:
            raise ConfigError(f"autoencoder_share is {autoencoder_share}, expected more than 0, less than 1")
        self.autoencoder, self.dynamics, self.vectors = autoencoder, dynamics, dict(vectors)
        self.registered = nn.ModuleDict(self.vectors)  # so that their buffers move with the model
        self.keys, self.autoencoder_share = tuple(keys), autoencoder_share

    # ---- the four verbs --------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """The belief after an episode's first frame {key: [B, ...]}."""
        return self.dynamics.initial(self._likely_code(observation))

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """The belief after action [B, T, A] and what it led to, {key: [B, T, ...]}; takes likely symbols."""
        return self.dynamics.observe(belief, action, self._likely_code(observation))

    def predict(
        self,
        belief: Belief,
        action: Tensor,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Prediction:
        """The future under action [B, H, A]; a latent is the code of a frame."""
        future = self.dynamics.predict(belief, action, generator, temperature)
        return Prediction(future.code, future.reward, future.discount, future.belief, self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Distribution]:
        """Distributions of each observation key from codes [..., S + V], each worked out when asked for."""
        symbols, numbers = self.dynamics.split(latent)
        drawn = self.autoencoder.decode(symbols)

        def distribution(key: str) -> Distribution:
            return self._vector(key, numbers) if key in self.vectors else drawn[key]

        return LazyMapping(self.keys, distribution)

    # ---- training --------------------------------------------------------------------------------

    def stages(self) -> Sequence[Stage]:
        """The autoencoder; then the dynamics over its frozen codes."""
        share = self.autoencoder_share
        return [
            Stage("autoencoder", share, self.autoencoder, self.autoencoder.loss),
            Stage("dynamics", 1 - share, self.dynamics, self.dynamics_loss),
        ]

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Both stages at once: the sum of their losses, which share no gradient."""
        drawing, metrics = self.autoencoder.loss(segment)
        moving, more = self.dynamics_loss(segment)
        return drawing + moving, {**metrics, **more}

    def dynamics_loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """How well the next frame's code is predicted from those so far, on codes without gradient.

        Metrics, each averaged over the steps that the mask keeps, before its weight: ``loss/code`` per
        symbol, ``loss/<key>`` per number of a vector beside them, ``loss/reward``, ``loss/continuation``.
        """
        with torch.no_grad():
            output = self.autoencoder(segment.observation)
            symbols = self.autoencoder.symbols.pick(output, self.autoencoder.symbols.noise(output))
            code = self._code(symbols, segment.observation)
        step = self.dynamics(code[:, :-1], segment.action)
        target = self.target(output, symbols)[:, 1:]
        values = {"code": self.autoencoder.symbols.loss(step.output, target)}
        for key, vector in self.vectors.items():
            observed = segment.observation[key][:, 1:].float()
            values[key] = -self._vector(key, step.numbers).log_prob(observed) / vector.size
        features = torch.cat([step.hidden, code[:, 1:]], dim=-1)
        values |= self.dynamics.outcome.negative_log_likelihoods(features, segment)
        terms = {name: masked_mean(value, segment.mask) for name, value in values.items()}
        weights = self.dynamics.outcome.weights
        total = torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
        return total, {f"loss/{name}": term.detach() for name, term in terms.items()}

    @abstractmethod
    def target(self, output: Tensor, symbols: Tensor) -> Tensor:
        """What the dynamics should predict, [..., S], of frames of which the autoencoder gave ``output`` and
        sampled ``symbols``."""

    # ---- codes -----------------------------------------------------------------------------------

    def _likely_code(self, observation: Mapping[str, Tensor]) -> Tensor:
        return self._code(self.autoencoder.symbols.pick(self.autoencoder(observation), None), observation)

    def _code(self, symbols: Tensor, observation: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([symbols, *(m.encode(observation[key]) for key, m in self.vectors.items())], dim=-1)

    def _vector(self, key: str, numbers: Tensor) -> Distribution:
        parts = torch.split(numbers, [m.size for m in self.vectors.values()], dim=-1)
        return self.vectors[key].distribution(parts[list(self.vectors).index(key)])
