"""One player's game: the two worlds, their timelines, and who drives.

A session has no clock and no connection: each request and each step returns the answers to send.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import singledispatchmethod
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from wmplay.contracts import Array
from wmplay.errors import ConfigError, UnknownName, WmplayError
from wmplay.play import protocol
from wmplay.play.game.learned import LearnedWorld
from wmplay.play.game.real import Arrival, Beginning, RealWorld
from wmplay.play.game.scene import Scene
from wmplay.play.game.screen import Shown, shown_key
from wmplay.play.game.timeline import KEYFRAME, LONGEST, Branch, Moment
from wmplay.vector.actions import checked_action
from wmplay.vector.frames import Frames

PLAYER = "player"
RANDOM = "random"


class Driver(Protocol):
    """A policy at the stick."""

    def reset(self) -> None:
        """Forget the past: the next frame is the first."""

    def __call__(self, observation: Mapping[str, Any], last_action: Any = None) -> Array:
        """Return the next action."""


class Session:
    """A game.

    Args:
        env: the real world; used by this session alone.
        learned: the learned world, or None.
        drivers: {name: makes the driver}, besides the player and random actions.
        seed: of the first episode.
        keep: saves the steps of a branch since a moment as a case, and returns where; None = cases cannot be
            kept.

    Raises:
        ConfigError: if nothing can be seen or steered.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        learned: LearnedWorld | None = None,
        drivers: Mapping[str, Callable[[], Driver]] | None = None,
        seed: int = 0,
        keep: Callable[[str, Branch, int], str] | None = None,
    ) -> None:
        self.real, self.learned = RealWorld(env), learned
        self.shown: Shown = shown_key(self.real.spaces)
        self.space = _steerable(env.action_space)
        self.scene = Scene.of(env)
        self.running, self.speed, self.driver = True, 1.0, PLAYER
        self._makers, self._made = dict(drivers or {}), dict[str, Driver]()
        self._keep = keep
        self._random = np.random.default_rng(seed)
        self._held = self._idle()
        self._branches: dict[int, Branch] = {}
        self._number, self._present = -1, 0
        self._milliseconds = 0.0
        self._ended: str | None = None
        self._begin(Beginning(seed))

    # ---- what the page is told ---------------------------------------------------------------------

    def hello(self, world: str, fps: float) -> protocol.Hello:
        """Return the first message."""
        box = isinstance(self.space, Box)
        return protocol.Hello(
            world=world,
            model=None if self.learned is None else type(self.learned.model).__name__,
            fps=fps,
            size=self.shown.size,
            binary=self.shown.binary,
            actions=len(self._idle()) if box else int(self.space.n),
            discrete=not box,
            low=self.space.low.tolist() if box else [],
            high=self.space.high.tolist() if box else [],
            drivers=[PLAYER, RANDOM, *self._makers],
            can_warm=self.learned is not None and self.learned.can_warm,
            bodies=0 if self.scene is None else self.scene.movable,
            longest=LONGEST,
        )

    def frame(self) -> bytes:
        """Return the present moment as a message."""
        branch = self.branch
        moment = branch.moments[-1]
        planes = {"real": self.shown.pixels(moment.real[self.shown.key])}
        if moment.pixels is not None:
            planes["learned"] = moment.pixels
        planes |= {f"future {number}": future for number, future in enumerate(moment.futures)}
        header = protocol.Header(
            moment=branch.last,
            branch=self._present,
            driver=self.driver,
            action=[float(x) for x in np.atleast_1d(branch.actions[-1])] if branch.actions else [],
            planes=list(planes),
            milliseconds=self._milliseconds,
            reward=moment.reward,
            iou=moment.iou,
            error=moment.error,
            surprise=moment.surprise,
            spread=moment.spread,
            confidence=moment.confidence,
            synced=moment.synced,
            bodies=[] if self.scene is None else self.scene.places(),
        )
        return protocol.written_frame(header, planes.values())

    def strip(self) -> protocol.Strip:
        """Return all moments of the present branch."""
        moments = self.branch.moments
        return protocol.Strip(
            branch=self._present,
            seed=self.branch.beginning.seed,
            iou=[each.iou for each in moments],
            error=[each.error for each in moments],
            surprise=[each.surprise for each in moments],
            synced=[number for number, each in enumerate(moments) if each.synced],
            branches=[(number, branch.last) for number, branch in self._branches.items()],
        )

    @property
    def branch(self) -> Branch:
        """The present branch."""
        return self._branches[self._present]

    # ---- time ----------------------------------------------------------------------------------------

    def step(self) -> list[protocol.Answer]:
        """Take one step of both worlds; after an end, begin the next episode instead."""
        if self._ended is not None or self.branch.last >= LONGEST:
            return self._next_episode()
        began = time.perf_counter()
        branch, action = self.branch, self._action()
        arrival = self.real.step(action)
        branch.actions.append(action)
        branch.moments.append(self._moment(arrival, action))
        if self.learned is not None and branch.last % KEYFRAME == 0:
            branch.snapshots[branch.last] = self.learned.snapshot()
        self._milliseconds = (time.perf_counter() - began) * 1000
        if arrival.terminated or arrival.truncated:
            why = "ended by the rules of the world" if arrival.terminated else "cut by its time limit"
            self._ended = f"episode {why} after {branch.last} steps"
            return [protocol.Notice(self._ended)]
        return []

    def _moment(self, arrival: Arrival, action: Array) -> Moment:
        """Return the moment after a real step, with what the model says about it."""
        if self.learned is None:
            return Moment(arrival.frame, reward=arrival.reward)
        imagined = self.learned.step(action)
        surprise = self.learned.watch(action, arrival.frame)
        real = self.shown.pixels(arrival.frame[self.shown.key])
        return Moment(
            arrival.frame,
            imagined.frame,
            imagined.pixels,
            list(imagined.futures),
            iou=_iou(real, imagined.pixels) if self.shown.binary else None,
            error=_vector_error(arrival.frame, imagined.frame, self.shown.key),
            surprise=surprise,
            spread=imagined.spread,
            confidence=imagined.confidence,
            reward=arrival.reward,
        )

    def _action(self) -> Array:
        """Return the next action, of whoever drives, as the env takes it."""
        if self.driver == PLAYER:
            return self._held
        if self.driver == RANDOM:
            return self._draw()
        frame = self.branch.moments[-1].real
        return checked_action(self._made[self.driver](frame), self.space)

    def _draw(self) -> Array:
        if isinstance(self.space, Box):
            drawn: Array = self._random.uniform(self.space.low, self.space.high).astype(self.space.dtype)
            return drawn
        return np.asarray(self.space.start + self._random.integers(self.space.n), np.int64)

    def _idle(self) -> Array:
        if isinstance(self.space, Box):
            return np.clip(np.zeros_like(self.space.low), self.space.low, self.space.high)
        return np.asarray(self.space.start, np.int64)

    def _begin(self, beginning: Beginning) -> None:
        """Begin an episode in a branch of its own; all other branches are dropped."""
        frame = self.real.begin(beginning)
        branch = Branch(beginning, [Moment(frame, synced=self.learned is not None)])
        if self.learned is not None:
            self.learned.begin(frame, beginning.seed)
            branch.snapshots[0] = self.learned.snapshot()
        self._branches = {}
        self._continue(branch, new=True)

    def _next_episode(self) -> list[protocol.Answer]:
        self._begin(Beginning(self.branch.beginning.seed + 1))
        return [self.strip()]

    def _continue(self, branch: Branch, new: bool) -> None:
        """Make a branch whose last moment both worlds are at the present one."""
        if new:
            self._number += 1
            self._present = self._number
        self._branches[self._present] = branch
        self._ended = None
        for driver in self._made.values():
            driver.reset()

    def _return_to(self, branch: Branch) -> None:
        """Bring both worlds to the last moment of a branch."""
        self.real.go_to(branch.beginning, branch.actions)
        if self.learned is None:
            return
        start = max(branch.snapshots)
        self.learned.go_to(branch.snapshots[start])
        for number in range(start, branch.last):
            self.learned.step(branch.actions[number])
            self.learned.watch(branch.actions[number], branch.moments[number + 1].real)
            if branch.moments[number + 1].synced:
                self.learned.sync()

    # ---- requests ------------------------------------------------------------------------------------

    @singledispatchmethod
    def answer(self, request: Any) -> list[protocol.Answer]:
        """Do what the page asks, and return the answers. Raises WmplayError if it cannot be done."""
        raise WmplayError(f"no such request: {type(request).__name__}")

    @answer.register
    def _(self, request: protocol.Act) -> list[protocol.Answer]:
        given = np.asarray(request.action)
        if isinstance(self.space, Box):
            given = given.astype(self.space.dtype)
            held = checked_action(given, self.space, finite=True)
            self._held = np.clip(held, self.space.low, self.space.high)
        else:
            self._held = checked_action(given, self.space)
        return []

    @answer.register
    def _(self, request: protocol.Drive) -> list[protocol.Answer]:
        if request.who not in (PLAYER, RANDOM, *self._makers):
            raise UnknownName("driver", request.who, [PLAYER, RANDOM, *self._makers])
        if request.who in self._makers:
            made = self._made.setdefault(request.who, self._makers[request.who]())
            made.reset()
        self._held, self.driver = self._idle(), request.who
        return []

    @answer.register
    def _(self, request: protocol.Clock) -> list[protocol.Answer]:
        self.running, self.speed = request.running, request.speed
        return []

    @answer.register
    def _(self, request: protocol.Step) -> list[protocol.Answer]:
        self.running = False
        return self.step()

    @answer.register
    def _(self, request: protocol.Resync) -> list[protocol.Answer]:
        learned, branch = self._the_learned(), self.branch
        learned.sync()
        branch.moments[-1] = replace(branch.moments[-1], synced=True)
        branch.snapshots[branch.last] = learned.snapshot()
        return [self.strip()]

    @answer.register
    def _(self, request: protocol.Rewind) -> list[protocol.Answer]:
        branch = self._until(request.at)
        self._return_to(branch)
        self._continue(branch, new=False)
        return [self.strip()]

    @answer.register
    def _(self, request: protocol.Fork) -> list[protocol.Answer]:
        if len(self._branches) >= protocol.MOST_BRANCHES:
            raise WmplayError(f"{len(self._branches)} branches are kept", advice="reset to begin anew")
        branch = self._until(request.at)
        self._return_to(branch)
        self._continue(branch, new=True)
        return [self.strip()]

    @answer.register
    def _(self, request: protocol.Choose) -> list[protocol.Answer]:
        if request.branch not in self._branches:
            raise WmplayError(f"there is no branch {request.branch}")
        self._present = request.branch
        self._return_to(self.branch)
        self._continue(self.branch, new=False)
        return [self.strip()]

    @answer.register
    def _(self, request: protocol.Reset) -> list[protocol.Answer]:
        if request.seed is None:
            return self._next_episode()
        self._begin(Beginning(request.seed))
        return [self.strip()]

    @answer.register
    def _(self, request: protocol.Move) -> list[protocol.Answer]:
        if self.scene is None:
            raise WmplayError("the bodies of this world cannot be moved")
        state = self.scene.moved(request.body, request.right, request.down)
        self._begin(Beginning(self.branch.beginning.seed, state))
        return [self.strip()]

    @answer.register
    def _(self, request: protocol.Tune) -> list[protocol.Answer]:
        learned = self._the_learned()
        if request.temperature not in (0, 1) and not learned.can_warm:
            raise ConfigError(
                f"{type(learned.model).__name__} has no temperature", expected="0 (most likely) or 1 (drawn)"
            )
        learned.futures = request.futures
        learned.go_to(replace(learned.snapshot(), temperature=request.temperature))
        self.branch.snapshots[self.branch.last] = learned.snapshot()
        return []

    @answer.register
    def _(self, request: protocol.Keep) -> list[protocol.Answer]:
        if self._keep is None:
            raise WmplayError("cases are kept of learned worlds only")
        if not request.since < self.branch.last:
            raise WmplayError(f"no step since moment {request.since}", advice="mark an earlier moment")
        return [protocol.Notice(f"kept as {self._keep(request.name, self.branch, request.since)}")]

    @answer.register
    def _(self, request: protocol.Ping) -> list[protocol.Answer]:
        return [protocol.Pong(request.sent)]

    def _until(self, moment: int) -> Branch:
        if moment > self.branch.last:
            raise WmplayError(f"there is no moment {moment}", expected=f"0 to {self.branch.last}")
        return self.branch.until(moment)

    def _the_learned(self) -> LearnedWorld:
        if self.learned is None:
            raise WmplayError("there is no learned world here", advice="play a run: wmplay play RUN")
        return self.learned


def _steerable(space: gymnasium.Space[Any]) -> Any:
    if isinstance(space, Box) and len(space.shape) == 1 and np.isfinite([space.low, space.high]).all():
        return space
    if isinstance(space, Discrete):
        return space
    raise ConfigError(
        f"nobody can steer {space}", got=space, expected="a bounded Box with one axis, or a Discrete"
    )


def _iou(real: Array, learned: Array) -> float:
    """Return intersection over union of lit pixels; 1 if both screens are dark."""
    first, second = real > 127, learned > 127
    either = (first | second).sum()
    return float((first & second).sum() / either) if either else 1.0


def _vector_error(real: Frames, learned: Mapping[str, Array], screen: str) -> float | None:
    """Return the mean absolute difference of all vectors that both worlds have, or None."""
    both = [key for key in real if key in learned and key != screen and real[key].dtype.kind == "f"]
    if not both:
        return None
    return float(np.concatenate([np.abs(real[key] - learned[key]).ravel() for key in both]).mean())
