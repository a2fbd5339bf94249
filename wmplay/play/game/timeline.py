"""The timelines of a game: its moments in order, and the branches that a player keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wmplay.contracts import Array
from wmplay.play.game.learned import Snapshot
from wmplay.play.game.real import Beginning
from wmplay.vector.frames import Frames

LONGEST = 3_000  # steps of an episode: 5 minutes at 10 steps a second
KEYFRAME = 32  # steps between the model's snapshots


@dataclass(frozen=True)
class Moment:
    """A moment of both worlds."""

    real: Frames
    learned: Mapping[str, Array] | None = None  # expected values; None before a prompt has a step
    pixels: Array | None = None  # of the learned world, uint8 [h, w, c]
    futures: Sequence[Array] = ()  # uint8 [h, w, c] of each further future
    iou: float | None = None  # of both screens' lit pixels; None if they are not binary
    error: float | None = None  # mean absolute difference of the vectors; None without any
    surprise: float | None = None  # of the model at the real step
    spread: float = 0.0
    confidence: float = 1.0
    reward: float = 0.0
    synced: bool = False  # whether the learned world began from the real frames up to here


@dataclass
class Branch:
    """One course of events, from an episode's beginning to its last moment."""

    beginning: Beginning
    moments: list[Moment]  # one more than actions
    actions: list[Array] = field(default_factory=list)
    snapshots: dict[int, Snapshot] = field(default_factory=dict)  # after the moment of this number

    def until(self, moment: int) -> Branch:
        """Return the branch up to a moment."""
        kept = {number: snapshot for number, snapshot in self.snapshots.items() if number <= moment}
        return Branch(self.beginning, self.moments[: moment + 1], self.actions[:moment], kept)

    @property
    def last(self) -> int:
        """The number of the last moment."""
        return len(self.actions)

    def last_sync(self, moment: int) -> int:
        """Return the last moment up to ``moment`` from whose frames the learned world began."""
        return next(number for number in range(moment, -1, -1) if self.moments[number].synced)
