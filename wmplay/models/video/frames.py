"""Frames of the one image among the observations, as planes for convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gymnasium import Space
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from wmplay.errors import SpaceError
from wmplay.nets.modalities import Binary, Modality, Pixels, modalities

LEAST = 1e-6  # the smallest probability of a lit, and of a dark, pixel


class Frames(nn.Module):
    """The key, the shape and the units of the image that a video model reads and predicts.

    Planes are [..., C, H, W] float32 within 0 and 1, with zeros added below and on the right until H and W
    are multiples of ``unit``.

    Raises:
        SpaceError: unless exactly one observation is an image.
    """

    def __init__(self, space: Space[Any], pixel_sigma: float, unit: int) -> None:
        super().__init__()
        found = modalities(space, vector_sigma=1.0, pixel_sigma=pixel_sigma)
        images = {key: m for key, m in found.items() if len(m.shape) in (2, 3)}
        if len(images) != 1:
            raise SpaceError(
                f"observations are {', '.join(found)}",
                got=list(found),
                expected="one binary screen or one uint8 image among them",
                advice="use rssm or mlp for other kinds",
            )
        ((self.key, self.modality),) = images.items()
        self.shape = self.modality.shape
        self.channels = self.shape[2] if len(self.shape) == 3 else 1
        self.height, self.width = (side + -side % unit for side in self.shape[:2])

    @property
    def largest(self) -> float:
        """The value of a lit pixel in observations."""
        return 255.0 if isinstance(self.modality, Pixels) else 1.0

    def planes(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the planes [..., C, H, W] of frames {key: [..., *shape]}."""
        return self.of_image(observation[self.key].float() / self.largest)

    def of_image(self, image: Tensor) -> Tensor:
        """Return the planes [..., C, H, W] of images [..., *shape] within 0 and 1."""
        if len(self.shape) == 2:
            image = image.unsqueeze(-1)
        below, right = self.height - self.shape[0], self.width - self.shape[1]
        return F.pad(image.movedim(-1, -3), (0, right, 0, below))

    def image(self, planes: Tensor) -> Tensor:
        """Return the images [..., *shape] of planes [..., C, H, W]."""
        image = planes[..., : self.shape[0], : self.shape[1]].movedim(-3, -1)
        return image if len(self.shape) == 3 else image.squeeze(-1)

    def distribution(self, image: Tensor) -> Distribution:
        """Return the distribution of the observation around an image [..., *shape] within 0 and 1."""
        if isinstance(self.modality, Binary):
            return self.modality.distribution(image.clamp(LEAST, 1 - LEAST).logit())
        return self.modality.distribution(image - 0.5)


def image_goals(space: Space[Any], key: str) -> dict[str, Modality]:
    """Return the modality of the goal of an image's key, under the goal's key; empty without a goal."""
    found = modalities(space, vector_sigma=1.0, pixel_sigma=1.0, goals=True)
    goal = f"goal_{key}"
    return {goal: found[goal]} if goal in found else {}
