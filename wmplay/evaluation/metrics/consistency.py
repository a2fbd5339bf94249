"""Consistency of a predicted future: its screen compared with its vectors.

It is defined for LCD worlds, whose renderer can draw any positions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import gymnasium
import numpy as np
import torch
from torch import Tensor

from wmplay.contracts import WorldModel
from wmplay.envs.lcd.env import LcdEnv
from wmplay.envs.lcd.screen import Rounding, Screen
from wmplay.envs.lcd.tasks import ENTRIES
from wmplay.envs.lcd.worlds.world import World
from wmplay.evaluation.clips import ClipSet
from wmplay.evaluation.metrics.futures import sample_futures
from wmplay.evaluation.observation_metrics import foreground_iou
from wmplay.evaluation.scores import AgreementScore, Curve

Measure: TypeAlias = Literal["iou", "covered"]

SCREEN = "lcd"  # the key of the screen in LCD worlds


class Drawing:
    """Screens drawn from a world's vectors, as the world itself would.

    ``full_state`` holds all bodies; ``proprio`` leaves out the objects, so that only the robot is drawn.

    Args:
        world: with a robot, unless full_state is drawn.
        key: "full_state" or "proprio".
        rounding: as its screen has it.
    """

    def __init__(self, world: World, key: str, rounding: Rounding = "outwards") -> None:
        self.key = key
        whole = key == "full_state" or not world.objects
        self.measure: Measure = "iou" if whole else "covered"
        self._world = world if whole else dataclasses.replace(world, objects=(), statics=())
        self._screen = Screen(self._world, rounding)

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return bool screens [..., H, W] of vectors [..., bodies * 4]: scaled x, y, cos, sin of each."""
        bodies = vectors.double().cpu().numpy().reshape(-1, len(self._world.bodies), ENTRIES)
        place = (bodies[..., :2] + 1) / 2 * (self._world.width, self._world.height)
        angle = np.arctan2(bodies[..., 3], bodies[..., 2])
        pose = np.concatenate([place, angle[..., None]], -1)
        screens = self._screen.draw(pose, np.zeros(pose.shape[:2], np.intp))
        return torch.from_numpy(screens > 0).reshape(*vectors.shape[:-1], *screens.shape[1:])

    def agreement(self, screens: Tensor, vectors: Tensor) -> Tensor:
        """Return the agreement [...] of bool screens [..., H, W] and vectors [..., bodies * 4].

        It is 1 where nothing is drawn.
        """
        drawn = self(vectors)
        if self.measure == "iou":
            return foreground_iou(screens, drawn)
        covered = (screens & drawn).flatten(-2).sum(-1) / drawn.flatten(-2).sum(-1).clamp(min=1)
        return torch.where(drawn.flatten(-2).any(-1), covered, 1.0)


def drawing_of(env: gymnasium.Env[Any, Any], keys: Iterable[str]) -> Drawing | None:
    """Return the drawing of the vectors among the observations of these keys, or None.

    None is returned outside of LCD worlds, without a screen, and if the vectors do not determine all that is
    drawn (a passive world without ``full_state``, objects with one of several shapes, or of a size that
    differs between episodes).
    """
    keys, shown = set(keys), env.unwrapped
    if not isinstance(shown, LcdEnv) or SCREEN not in keys or "size" in shown.factors.ranges:
        return None
    world, rounding = shown.world, shown.screen
    if "full_state" in keys and all(len(options) == 1 for options in world.shapes):
        return Drawing(world, "full_state", rounding)
    return Drawing(world, "proprio", rounding) if world.robots and "proprio" in keys else None


@torch.no_grad()
def evaluate_agreement(
    model: WorldModel, clips: ClipSet, env: gymnasium.Env[Any, Any]
) -> AgreementScore | None:
    """Score the agreement of a sampled future's screen with the rendering of its vectors.

    Args:
        model: any world model.
        clips: held-out; one future of each is sampled.
        env: a single env of their world.

    Returns:
        The score by horizon, or None if nothing can be drawn (see ``drawing_of``) or the model does not
        predict the screen and the vectors.
    """
    drawing = drawing_of(env, clips.frames)
    if drawing is None:
        return None
    screens, vectors = [], []
    for _, future in sample_futures(model, clips):
        if not {SCREEN, drawing.key} <= future.keys():
            return None
        screens.append(future[SCREEN][:, 0].cpu() > 0.5)
        vectors.append(future[drawing.key][:, 0].cpu())
    screen, vector = torch.cat(screens), torch.cat(vectors)
    floor = drawing.agreement(screen, vector.roll(1, 0))
    return AgreementScore(
        drawing.measure,
        drawing.key,
        context=clips.context,
        horizon=clips.horizon,
        clips=len(clips),
        seed=clips.seed,
        model=Curve.over(drawing.agreement(screen, vector)),
        ceiling=Curve.over(drawing.agreement(clips.truth[SCREEN] > 0, clips.truth[drawing.key])),
        floor=Curve.over(floor if len(floor) > 1 else floor[:0]),
    )
