"""A predictor of the latents of an encoder that the user brings, and that stays as it is.

This is the form of DINO-WM (Zhou et al. 2024, arXiv 2411.04983: squared errors, several frames of history)
and of V-JEPA 2-AC (Assran et al. 2025, arXiv 2506.09985: normalised features, absolute errors of single steps
and of two own steps).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import gymnasium as gym
import torch
from torch import Tensor
from torch.nn import functional as F

from wmplay import registry
from wmplay.contracts import Segment, capabilities
from wmplay.errors import ConfigError, ShapeError, check_values
from wmplay.models.jepa.latent_dynamics import LatentDynamics
from wmplay.models.jepa.networks import Predictor
from wmplay.nets.heads import masked_mean


class FrozenJEPA(LatentDynamics):
    """A latent model over a frozen encoder, for planning by ``latent_distance``.

    The encoder is any registered model with ``embed``: {key: [..., *shape]} -> [..., E], usually from a file
    in ``plugins/`` whose constructor loads published weights. It needs no other method. Its weights get
    no gradient, and are saved once, with the model, so that a run can be loaded where they cannot be
    downloaded.

    Args:
        observation_space: a Dict of the kinds in ``wmplay.nets.modalities``.
        action_space: a one-dimensional Box, or Discrete.
        encoder: the registered name of the encoder. The default is one of random weights, to compare with.
        settings: of the encoder, over those of its config.
        code: size E of its latents, if others are to be refused; None = whatever it returns.
        keys: see ``LatentDynamics``, and so are frames and decoder.
        normalise: whether to normalise each latent to mean 0 and variance 1 over its entries (V-JEPA 2-AC).
        error: "squared" (DINO-WM) or "absolute" (V-JEPA 2-AC).
        own_steps: steps on the model's own predictions that add to the loss (2 in V-JEPA 2-AC).
        hidden: units of the decoder.
        width: of the predictor's layers.
        layers: of the predictor.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for values out of range, and for an encoder without ``embed`` or of another size.
        ShapeError: if ``embed`` does not return a latent for each frame.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        encoder: str = "lewm",
        settings: dict[str, Any] = {},  # noqa: B006 (a config's default, never changed)
        code: int | None = None,
        keys: Sequence[str] | None = None,
        frames: int = 3,
        normalise: bool = False,
        error: Literal["squared", "absolute"] = "squared",
        own_steps: int = 0,
        hidden: int = 128,
        width: int = 96,
        layers: int = 2,
        decoder: bool = False,
    ) -> None:
        super().__init__(observation_space, action_space, keys, frames, hidden, decoder)
        check_values(
            "frozen_jepa",
            at_least_one={"width": width, "layers": layers},
            not_negative={"own_steps": own_steps},
        )
        config = registry.piece_config("model", encoder) | settings
        frozen = registry.build(config, observation_space=observation_space, action_space=action_space)
        embed = capabilities(frozen).embed
        if embed is None:
            raise ConfigError(
                f"frozen_jepa: the model {encoder} is no encoder",
                got=type(frozen).__name__,
                expected="a registered model with embed(observation)",
            )
        self.name, self.normalise, self.error, self.own_steps = encoder, normalise, error, own_steps
        self.frozen = frozen.eval().requires_grad_(False)
        size = self._size(observation_space)
        if code is not None and size != code:
            raise ConfigError(
                f"frozen_jepa: latents of the encoder {encoder} have {size} entries",
                got=size,
                expected=str(code),
            )
        self.predictor = Predictor(size, self.encode_action.size, frames, width, layers)
        self.make_heads(size)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all but the encoder, which stays as it is."""
        super().train(mode)
        self.frozen.eval()
        return self

    def latents(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the encoder's latents [..., E] of frames {key: [..., *shape]}."""
        with torch.no_grad():
            latent: Tensor = self.frozen.embed({key: observation[key] for key in self.reads}).float()
        return F.layer_norm(latent, latent.shape[-1:]) if self.normalise else latent

    def step(self, latent: Tensor, action: Tensor) -> Tensor:
        """Return the next latent [R, E] of the last ones [R, k, E] and encoded actions [R, k, A]."""
        after: Tensor = latent[:, -1] + self.predictor(latent, action).float()
        return after

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the error of the next latent given real ones, plus that of own steps.

        Metrics: ``loss/latent``, ``loss/own`` and those of the decoder.
        """
        latent, action = self.latents(segment.observation), self.encode_action(segment.action)
        error = self._error(self.next_latents(latent, action) - latent[:, 1:])
        terms = {"latent": masked_mean(error, self.counted(segment))}
        end = self.frames + self.own_steps
        if self.own_steps and latent.shape[1] >= end:
            own = self.unroll(latent[:, : self.frames], action[:, : end - 1])[:, self.frames :]
            error = self._error(own - latent[:, self.frames : end])
            terms["own"] = masked_mean(error, segment.mask[:, self.frames - 1 : end - 1])
        return self.total(terms, {}, segment, latent)

    def _error(self, difference: Tensor) -> Tensor:
        return (difference.square() if self.error == "squared" else difference.abs()).mean(-1)

    def _size(self, space: Any) -> int:
        """Return the size of the encoder's latents of one frame of zeros."""
        frame = {key: torch.as_tensor(space[key].low)[None, None] for key in self.reads}
        latent = self.frozen.embed({key: torch.zeros_like(value) for key, value in frame.items()})
        if latent.ndim != 3 or latent.shape[:2] != (1, 1):
            raise ShapeError(
                f"{self.name}.embed", latent.shape, (1, 1, "E"), advice="one latent for each frame"
            )
        return int(latent.shape[2])
