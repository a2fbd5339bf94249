"""The messages between the page and the server.

The page sends JSON objects with a ``type``. The server answers with JSON, except for frames: these are the
length of a JSON header (uint32, little-endian), the header, and the planes that it names, end to end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Annotated, TypeAlias

import msgspec
import numpy as np

from wmplay.contracts import Array
from wmplay.errors import LARGEST_SEED, WmplayError

MOST_FUTURES = 16
MOST_BRANCHES = 6
LONGEST_MESSAGE = 4096  # bytes that the page may send at once

Choice: TypeAlias = Annotated[int, msgspec.Meta(ge=-1_000_000, le=1_000_000)]
Moment: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class Message(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag=str.lower):
    """A message of the page."""


class Act(Message):
    """Hold an action until the next one; only while the player drives."""

    action: list[float] | Choice


class Drive(Message):
    """Give the stick to the player or to another driver."""

    who: str


class Clock(Message):
    """Run or pause, at a multiple of the world's own pace."""

    running: bool
    speed: Annotated[float, msgspec.Meta(ge=0.1, le=8)] = 1.0


class Step(Message):
    """Take one step while the clock is paused."""


class Resync(Message):
    """Let the learned world begin anew from the real frames so far."""


class Rewind(Message):
    """Return to a moment of the present branch, and drop what came after."""

    at: Moment


class Fork(Message):
    """Begin another branch at a moment of the present one, and keep both."""

    at: Moment


class Choose(Message):
    """Continue another branch."""

    branch: Moment


class Reset(Message):
    """Begin an episode; without a seed, the one after the present."""

    seed: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_SEED)] | None = None


class Move(Message):
    """Set the scene: move a body, with all of its robot, by part of the screen's width and height."""

    body: Moment
    right: Annotated[float, msgspec.Meta(ge=-1, le=1)]
    down: Annotated[float, msgspec.Meta(ge=-1, le=1)]


class Tune(Message):
    """Change the futures: their number, and the spread of their draws."""

    futures: Annotated[int, msgspec.Meta(ge=0, le=MOST_FUTURES)]
    temperature: Annotated[float, msgspec.Meta(ge=0, le=3)]


class Keep(Message):
    """Save the steps since a moment as a case."""

    name: Annotated[str, msgspec.Meta(max_length=60)]
    since: Moment


class Ping(Message):
    """Measure the round trip; the answer repeats ``sent``."""

    sent: float


Request: TypeAlias = (
    Act | Drive | Clock | Step | Resync | Rewind | Fork | Choose | Reset | Move | Tune | Keep | Ping
)

_decoder = msgspec.json.Decoder(Request)
_encoder = msgspec.json.Encoder()


def read_request(text: str | bytes) -> Request:
    """Return a message of the page. Raises WmplayError for anything else."""
    try:
        request: Request = _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise WmplayError(f"a message that is none: {error}") from None
    return request


class Hello(msgspec.Struct, frozen=True, tag_field="type", tag="hello"):
    """The first message to a page: the world, and what can be done in it."""

    world: str
    model: str | None  # None: the real world alone
    fps: float
    size: tuple[int, int, int]  # height, width, channels of the screens
    binary: bool
    actions: int  # number of entries, or of choices
    discrete: bool
    low: list[float]
    high: list[float]
    drivers: list[str]
    can_warm: bool  # whether temperatures other than 0 and 1 exist
    bodies: int  # that can be moved
    longest: int  # steps of an episode


class Header(msgspec.Struct, frozen=True, tag_field="type", tag="frame", omit_defaults=True):
    """The header of a frame: one moment of both worlds."""

    moment: int
    branch: int
    driver: str
    action: list[float]
    planes: list[str]  # "real", "learned", "future" ...: each height x width x channels bytes
    milliseconds: float  # that the step took
    reward: float = 0.0
    iou: float | None = None
    error: float | None = None
    surprise: float | None = None
    spread: float = 0.0
    confidence: float = 1.0
    synced: bool = False
    bodies: list[tuple[float, float]] = []  # left and top of each that can be moved, 0 .. 1


class Strip(msgspec.Struct, frozen=True, tag_field="type", tag="strip"):
    """All moments of the present branch, and the other branches."""

    branch: int
    seed: int  # of the episode
    iou: list[float | None]
    error: list[float | None]
    surprise: list[float | None]
    synced: list[int]  # moments
    branches: list[tuple[int, int]]  # number and last moment of each that is kept


class Notice(msgspec.Struct, frozen=True, tag_field="type", tag="notice"):
    """A line for the player."""

    text: str
    wrong: bool = False


class Pong(msgspec.Struct, frozen=True, tag_field="type", tag="pong"):
    """The answer to a ping."""

    sent: float


Answer: TypeAlias = Hello | Strip | Notice | Pong


def written(answer: Answer) -> str:
    """Return an answer as JSON."""
    return _encoder.encode(answer).decode()


def written_frame(header: Header, planes: Iterable[Array]) -> bytes:
    """Return a frame: its header and its planes, uint8 [h, w, c] each."""
    text = _encoder.encode(header)
    pixels = (np.ascontiguousarray(plane).tobytes() for plane in planes)
    return b"".join([struct.pack("<I", len(text)), text, *pixels])
