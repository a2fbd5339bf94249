"""The learned world of a game: a model's futures under the player's actions, and its surprise at reality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmplay.contracts import Array, Belief, WorldModel, capabilities, seen_by
from wmplay.errors import ConfigError
from wmplay.nets.trees import repeat_rows, rows, take_rows
from wmplay.play.game.screen import Shown
from wmplay.vector.frames import Frames

LEAST_PROBABILITY = 1e-6  # of a pixel, so that a single impossible one has a surprise of 20 bits


@dataclass(frozen=True)
class Imagined:
    """The frames of a predicted step: the learned world's own, and those of further futures."""

    frame: Mapping[str, Array]  # {key: [...]}: expected values of the learned world
    pixels: Array  # uint8 [h, w, c] of it
    futures: Array  # uint8 [N, h, w, c]
    confidence: float  # 0 .. 1: mean |2 p - 1| over the pixels that any future lights; 1 without any
    spread: float  # mean distance of the futures' pixels from their mean, 0 .. 1


@dataclass(frozen=True)
class Snapshot:
    """All that changes from step to step, to return to."""

    belief: Belief  # of the learned world (row 0) and of the further futures
    watching: Belief  # of one row: after all real frames so far
    step: int
    seed: int
    temperature: float


class LearnedWorld:
    """A model that begins from real frames and then predicts, one step at a time.

    Row 0 of its belief is the learned world that is shown, and each further row another future from the same
    prompt. The draws of a step follow from the seed and the number of the step, so that a future can
    be predicted again.

    Args:
        model: predicts the screen.
        shown: the screen.
        device: of the model.
        futures: number N of further futures.
        temperature: spread of the sampled futures; 0 = the most likely one.

    Raises:
        ConfigError: if the model does not predict the screen.
    """

    def __init__(
        self,
        model: WorldModel,
        shown: Shown,
        device: torch.device | str = "cpu",
        futures: int = 8,
        temperature: float = 1.0,
    ) -> None:
        offered = capabilities(model)
        if offered.predicted is not None and shown.key not in offered.predicted:
            raise ConfigError(
                f"{type(model).__name__} predicts no '{shown.key}', which is what a player sees",
                got=list(offered.predicted),
                advice="play a run whose model predicts pictures",
            )
        self.model, self.shown, self.device = model, shown, torch.device(device)
        self.can_warm = offered.temperature
        self.futures, self.temperature = futures, temperature
        self._now: Snapshot | None = None

    @torch.no_grad()
    def begin(self, frame: Frames, seed: int) -> None:
        """Begin from the first real frame of an episode; all draws follow from the seed."""
        belief = self.model.initial(self._tensors(frame))
        self._now = Snapshot(belief, belief, 0, seed, self.temperature)
        self.sync()

    def sync(self) -> None:
        """Begin every future anew from the belief after all real frames so far."""
        now = self.snapshot()
        self._now = replace(now, belief=repeat_rows(now.watching, 1 + self.futures))

    @torch.no_grad()
    def step(self, action: Array) -> Imagined:
        """Predict the next step of every future."""
        now = self.snapshot()
        given = self._action(action).repeat_interleave(1 + self.futures, dim=0)
        prediction = self.model.predict(now.belief, given[:, None], **self._draws(now))
        self._now = replace(now, belief=prediction.belief, step=now.step + 1)
        expected = {key: prediction.observation[key][:, 0] for key in prediction.observation}
        screens = expected.pop(self.shown.key).float().cpu().numpy()
        pixels = self.shown.pixels(screens)
        frame = {key: value[0].float().cpu().numpy() for key, value in expected.items()}
        frame[self.shown.key] = screens[0]
        return Imagined(frame, pixels[0], pixels[1:], *_doubt(pixels[1:]))

    @torch.no_grad()
    def watch(self, action: Array, frame: Frames) -> float:
        """Return the surprise at a real step, given all real frames before it.

        In bits for a binary screen, otherwise the mean absolute error of a pixel, 0 .. 1.
        """
        now, given = self.snapshot(), self._action(action)
        expected = self.model.predict(now.watching, given[:, None]).observation[self.shown.key][0, 0]
        surprise = self._surprise(expected.float().cpu().numpy(), frame[self.shown.key])
        arrived = {key: value[:, None] for key, value in self._tensors(frame).items()}
        self._now = replace(now, watching=self.model.observe(now.watching, given[:, None], arrived))
        return surprise

    def snapshot(self) -> Snapshot:
        """Return the present moment."""
        assert self._now is not None, "begin() first"
        return replace(self._now, temperature=self.temperature)

    def go_to(self, snapshot: Snapshot) -> None:
        """Return to an earlier moment and its temperature, with the number of futures that is wanted now."""
        index = torch.arange(1 + self.futures, device=self.device) % rows(snapshot.belief)
        self._now = replace(snapshot, belief=take_rows(snapshot.belief, index))
        self.temperature = snapshot.temperature

    def _draws(self, now: Snapshot) -> dict[str, Any]:
        if self.temperature == 0:
            return {}
        seed = int(np.random.SeedSequence([now.seed, now.step]).generate_state(1)[0])
        draws: dict[str, Any] = {"generator": torch.Generator(self.device).manual_seed(seed)}
        return draws | ({"temperature": self.temperature} if self.can_warm else {})

    def _surprise(self, expected: Array, seen: Array) -> float:
        if not self.shown.binary:
            return float(np.abs(expected - seen.astype(np.float32)).mean() / 255)
        p = np.clip(expected.astype(np.float64), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        return float(-np.log2(np.where(seen > 0, p, 1 - p)).sum())

    def _tensors(self, frame: Frames) -> dict[str, Tensor]:
        """Return what the model receives of a frame, as {key: [1, ...]}."""
        return {
            key: torch.from_numpy(value[None]).to(self.device)
            for key, value in seen_by(self.model, frame).items()
        }

    def _action(self, action: Array) -> Tensor:
        """Return the action as [1, A], or [1] int64."""
        value = np.asarray(action)
        kind = np.float32 if value.dtype.kind == "f" else np.int64
        return torch.from_numpy(value.astype(kind)[None]).to(self.device)


def _doubt(futures: Array) -> tuple[float, float]:
    """Return confidence and spread of futures uint8 [N, h, w, c]."""
    if not len(futures):
        return 1.0, 0.0
    p = futures.astype(np.float32) / 255
    lit = (p > 0.5).any(0)
    confidence = float(np.abs(2 * p[:, lit] - 1).mean()) if lit.any() else 1.0
    return confidence, float(np.abs(p - p.mean(0)).mean())
