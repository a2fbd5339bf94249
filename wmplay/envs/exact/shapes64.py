"""Shapes64: Stochastic Shapes at their full size, a coloured shape that moves in one of eight directions.

After the videos of Xue et al. 2016 (arXiv 1607.02586): shape, colour and size are drawn for each video and
seen in its first frame; the direction is not. A perfect model spends 3 bits on the second frame and nothing
on all others. Each of the three colour channels is 0 or 1, so that likelihoods are exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium.spaces import Box

from wmplay.envs.exact.shapes16 import DIRECTIONS
from wmplay.envs.exact.world import ExactWorld, RenderMode
from wmplay.system.arrays import Array

SIZE, STEPS = 64, 4
SPEED = 6.4  # pixels a step
RADII = 3.2, 9.6  # pixels
COLOURS = np.array([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1)], np.uint8)


class Shapes64(ExactWorld):
    """A disc, a square or a triangle of one of six colours, which moves from the centre by 6.4 pixels a step.

    Observation: ``screen`` [64, 64, 3] uint8, zeros and ones. The action changes nothing. State: x, y (pixels
    from the centre), shape 0 .. 2, colour 0 .. 5, radius (pixels), direction 0 .. 7.

    Args:
        render_mode: see ``ExactWorld``.
    """

    metadata = {**ExactWorld.metadata, "passive": True}  # noqa: RUF012

    def __init__(self, render_mode: RenderMode | None = None) -> None:
        screen, action = Box(0, 1, (SIZE, SIZE, 3), np.uint8), Box(-1, 1, (1,), np.float32)
        super().__init__({"screen": screen}, action, STEPS, render_mode)

    def start(self, generators: Sequence[np.random.Generator]) -> Array:
        """Draw a shape, a colour, a radius and a direction."""
        return np.array(
            [
                (
                    0,
                    0,
                    g.integers(3),
                    g.integers(len(COLOURS)),
                    g.uniform(*RADII),
                    g.integers(len(DIRECTIONS)),
                )
                for g in generators
            ],
            np.float64,
        )

    def advance(
        self, state: Array, action: Array, generators: Sequence[np.random.Generator]
    ) -> tuple[Array, Array, Array]:
        """Move by 6.4 pixels."""
        following = state.copy()
        way = DIRECTIONS[state[:, 5].astype(int)]
        following[:, :2] += SPEED * way / np.linalg.norm(way, axis=1, keepdims=True)
        return following, np.zeros(len(state)), np.zeros(len(state), np.bool_)

    def observe(self, state: Array) -> dict[str, Array]:
        """Return the screens."""
        centre = np.arange(SIZE) + 0.5 - SIZE / 2  # of each pixel
        x, y, shape, colour, radius = (state[:, i, None, None] for i in range(5))
        across, down = centre[None, None, :] - x, centre[None, :, None] - y
        disc = across**2 + down**2 < radius**2
        square = np.maximum(abs(across), abs(down)) < radius
        # its tip up, twice as high as half of its base
        triangle = (abs(across) < (down + radius) / 2) & (down < radius)
        inside = np.where(shape == 0, disc, np.where(shape == 1, square, triangle))
        screen = inside[..., None] & (COLOURS[colour[:, 0, 0].astype(int)] > 0)[:, None, None]
        return {"screen": screen.astype(np.uint8)}

    def optimum(self) -> float:
        """Return 0: nothing is paid. The best code length is ``best_bits``."""
        return 0.0

    @staticmethod
    def best_bits() -> float:
        """Return the bits of a video, given its first frame, under the true distribution."""
        return float(np.log2(len(DIRECTIONS)))
