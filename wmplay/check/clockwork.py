"""The alignment oracle in a model's own spaces: a made-up world in which every number says where it belongs.

As in ``wmplay.alignment``, a frame tells the time and the action that led to it, a reward the time of the
state it left and the action it left it by. But it tells them on screens and in vectors of whatever shape
the model was made for, and such that any model soon learns them: the time goes round in three phases, from
a random one, and each action is drawn anew, so that those of two steps have nothing in common. The highest
one ends the episode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from wmplay.contracts import Prediction, Segment, model_keys

PHASES = 3
TIME, ACTION = 0.4, 0.4  # amplitudes in a vector, where an entry tells the sum of both
SAFE = 9  # steps that every episode lasts; as many rounds of the phases as fit
FATAL = 0.5  # of all actions after them
FAR = 1e2  # where there is no bound
Told: TypeAlias = dict[tuple[str, str], dict[str, float]]

MOMENTS = {"late": -1, "on time": 0, "early": 1}  # of which step a prediction of step t tells, from t on


@dataclass(frozen=True)
class Episodes:
    """Episodes of the made-up world, and what is told by their numbers."""

    segment: Segment
    phase: Tensor  # [B, T + 1] int64, of each frame
    mark: Tensor  # [B, T, A] of each action: where it is in its space, from -1 to 1
    fatal: Tensor  # [B, T] bool: whether it ends the episode


class Clockwork:
    """The world, for observations of ``spaces`` (zeros and ones, uint8 images, float vectors) and for actions
    of a one-dimensional Box or a Discrete."""

    def __init__(self, spaces: Mapping[str, Any], action_space: Any) -> None:
        self.spaces, self.action_space = spaces, action_space
        self.layouts = {key: _layout(space) for key, space in spaces.items()}
        self.ranges = {key: _range(space) for key, space in spaces.items()}

    def episodes(self, rows: int, steps: int, generator: torch.Generator) -> Episodes:
        """Random ones, from their beginning; what follows on a fatal action is masked."""
        phase = torch.randint(PHASES, (rows, 1), generator=generator) + torch.arange(steps + 1)
        action, mark, fatal = self._actions(rows, steps, generator)
        alive = fatal.cumsum(1) - fatal.long() == 0
        frames = {key: self._frames(key, phase, mark) for key in self.spaces}
        reward = TIME * _level(phase[:, :-1]) + ACTION * mark[..., 0]
        begins = torch.ones(rows, dtype=torch.bool)
        return Episodes(Segment(frames, action, reward, fatal & alive, alive, begins), phase, mark, fatal)

    def told(self, episodes: Episodes, future: Prediction, seen: int) -> Told:
        """How much the prediction of step ``seen`` tells of what happens when.

        Returns:
            For each (what is predicted, what it tells: "time", "action" or "end"): of the step before
            ("late"), of its own ("on time"), of the next one ("early"); 0 is nothing, 1 is all.
        """
        answers = {}
        for who, guess in self._guesses(future, bool(episodes.fatal.any())).items():
            tellers = self._tellers(who, episodes)
            codes = [tell(seen + shift) for tell in tellers.values() for shift in MOMENTS.values()]
            parts = _parts(guess[:, 0], codes).reshape(len(tellers), len(MOMENTS))
            for what, part in zip(tellers, parts, strict=True):
                if what == "time":  # the three phases add up to nothing, so that only differences count
                    part -= part.min()
                answers[who, what] = dict(zip(MOMENTS, part.tolist(), strict=True))
        return answers

    def _guesses(self, future: Prediction, ends: bool) -> dict[str, Tensor]:
        """What is predicted, {name: [B, H, E]}, as what it tells, of the discount only where episodes end."""
        keys = [key for key in model_keys(self.spaces) if key in future.observation]
        guesses = {f"'{key}'": self._scaled(key, future.observation[key]) for key in keys}
        if future.reward is not None:
            guesses["reward"] = future.reward.unsqueeze(-1)
        if future.discount is not None and ends:
            guesses["discount"] = 1 - future.discount.unsqueeze(-1)
        return guesses

    def _tellers(self, who: str, episodes: Episodes) -> dict[str, Callable[[int], Tensor]]:
        """What is told by a prediction: {what: codes [B, E] at a step}."""
        phase, mark, fatal = episodes.phase, episodes.mark, episodes.fatal.float()
        if who == "reward":
            return {
                "time": lambda at: TIME * _level(phase[:, at]).unsqueeze(-1),
                "action": lambda at: ACTION * mark[:, at, :1],
            }
        if who == "discount":
            return {"end": lambda at: fatal[:, at].unsqueeze(-1)}
        key = who.strip("'")
        return {
            "time": lambda at: self._time(key, phase[:, at + 1]),
            "action": lambda at: self._action(key, mark[:, at]),
        }

    # ---- numbers that tell -----------------------------------------------------------------------

    def _frames(self, key: str, phase: Tensor, mark: Tensor) -> Tensor:
        """The observations [B, T + 1, ...] of a key."""
        action = self._action(key, mark)
        before = torch.zeros_like(action[:, :1])
        told = self._time(key, phase) + torch.cat([before, action], 1)
        center, half, whole = self.ranges[key]
        value = center + half * told
        space = self.spaces[key]
        value = (value.round() if whole else value).reshape(*phase.shape, *space.shape)
        return torch.from_numpy(value.numpy().astype(space.dtype))

    def _scaled(self, key: str, value: Tensor) -> Tensor:
        """Observations [B, H, ...] as what they tell, [B, H, E]."""
        center, half, _ = self.ranges[key]
        return (value.flatten(2) - center) / half

    def _time(self, key: str, phase: Tensor) -> Tensor:
        """[..., E] of phases [...]."""
        picture, place, upper = self.layouts[key]
        if picture:
            return (upper & ((place * PHASES).long() == phase.unsqueeze(-1) % PHASES)).float()
        return TIME * _level(phase.unsqueeze(-1) + torch.arange(len(place)))

    def _action(self, key: str, mark: Tensor) -> Tensor:
        """[..., E] of marks [..., A]."""
        picture, place, upper = self.layouts[key]
        if picture:
            return (~upper & ((place < 0.5) == (mark[..., :1] > 0))).float()
        return ACTION * mark[..., torch.arange(len(place)) // PHASES % mark.shape[-1]]

    def _actions(self, rows: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Actions [B, T, A] (or [B, T] int64), their marks [B, T, A] and which are fatal [B, T]."""
        fatal = (torch.rand(rows, steps, generator=generator) < FATAL) & (torch.arange(steps) >= SAFE)
        if isinstance(self.action_space, Discrete):
            count = int(self.action_space.n)
            fatal &= count > 2  # with fewer there is none to spare
            ordinary = count - 1 if count > 2 else count
            number = torch.randint(ordinary, (rows, steps), generator=generator)
            mark = torch.where(fatal, 1, 2 * number / max(ordinary - 1, 1) - 1).unsqueeze(-1)
            return torch.where(fatal, count - 1, number) + int(self.action_space.start), mark, fatal
        box = self.action_space
        low, high = (torch.from_numpy(np.clip(bound, -FAR, FAR)) for bound in (box.low, box.high))
        place = torch.rand(rows, steps, *box.shape, generator=generator)
        mark = torch.where(place < 0.5, place - 1, 0.5 * place - 0.2)  # -1 to -.5, .05 to .3: far from 1
        mark[..., 0] = torch.where(fatal, 1, mark[..., 0])
        return low + (high - low) * (mark + 1) / 2, mark, fatal


def _layout(space: Any) -> tuple[bool, Tensor, Tensor]:
    """Whether a space holds pictures; how far to the right [E] each entry is, from 0 to 1, and whether it
    is in the upper half. The halves of a row of zeros and ones are its first and its second one."""
    number = np.arange(math.prod(space.shape)).reshape(space.shape)
    picture = not np.issubdtype(space.dtype, np.floating)
    if picture and number.ndim > 1:
        rows, columns, *_ = np.indices(space.shape)
        upper, place = rows < (space.shape[0] + 1) // 2, columns / space.shape[1]
    else:
        upper, place = number < (number.size + 1) // 2, 2 * number / number.size % 1
    return picture, torch.from_numpy(place.ravel()), torch.from_numpy(upper.ravel())


def _range(space: Any) -> tuple[Tensor, Tensor, bool]:
    """(what stands for 0, and for 1 above it), each [E], and whether values are whole numbers."""
    low, high = (torch.from_numpy(bound.astype(np.float32)).flatten() for bound in (space.low, space.high))
    if not np.issubdtype(space.dtype, np.floating):
        return low, (high - low).clamp_min(1), True
    bounded = (low > -FAR) & (high < FAR) & (high > low)
    return torch.where(bounded, (low + high) / 2, 0), torch.where(bounded, (high - low) / 2, 1), False


def _level(phase: Tensor) -> Tensor:
    """-1, 0, 1 of phases."""
    return (phase % PHASES).float() - 1


def _parts(guess: Tensor, codes: list[Tensor]) -> Tensor:
    """How much of each code is in what is guessed, all [B, E]: least squares on what varies in an entry."""
    columns = [(x - x.mean(0)).flatten().double() for x in (*codes, guess)]
    amounts: Tensor = torch.linalg.lstsq(torch.stack(columns[:-1], 1), columns[-1], driver="gelsd").solution
    return amounts
