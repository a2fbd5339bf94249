"""Matched pairs: a possible episode, and an impossible one that differs in one event."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from wmplay.contracts import Array
from wmplay.envs.lcd.env import LcdEnv
from wmplay.envs.lcd.worlds.built_in import WORLDS
from wmplay.errors import ConfigError
from wmplay.evaluation.violation.stage import Filmed, Stage

STEPS = 24  # of an episode
EVENT = 12  # the moment of the event: what was seen before is of one episode, the rest of another
TRIES = 200  # draws of a pair of episodes until both look the same at the event
SCREEN = "lcd"

Films: TypeAlias = tuple[Filmed, Filmed]
Draw: TypeAlias = Callable[[Stage, np.random.Generator], Films]


@dataclass(frozen=True)
class Kind:
    """A kind of event."""

    name: str
    world: str | None  # in which it happens; None = any with motors
    what: str  # in words, for the report
    draw: Draw


@dataclass(frozen=True)
class Pair:
    """Two episodes with the same beginning, of which the second is impossible from the event on."""

    kind: str
    possible: Filmed
    impossible: Filmed


def kinds_of(env: LcdEnv) -> list[Kind]:
    """Return the kinds of events that can be shown in an env's world."""
    name = next((name for name, world in WORLDS.items() if world == env.world), None)
    hidden = "full_state" not in env.observation_space.spaces  # type: ignore[attr-defined]
    return [
        kind for kind in KINDS if (kind.world == name and hidden) or (kind.world is None and env.world.motors)
    ]


def draw_pairs(env: LcdEnv, kind: Kind, number: int, seed: int = 0) -> list[Pair]:
    """Draw pairs of one kind; each two of them share two possible episodes, in exchanged roles.

    Args:
        env: of an LCD world, of which ``kinds_of`` has the kind.
        kind: of the event.
        number: of pairs; one more if odd.
        seed: of all draws.

    Raises:
        ConfigError: if no two episodes look the same at the event.
    """
    stage, rng = Stage(env), np.random.default_rng([seed, KINDS.index(kind)])
    pairs: list[Pair] = []
    while len(pairs) < number:
        first, second = _matched(stage, kind, rng)
        pairs.append(Pair(kind.name, first, _spliced(first, second)))
        pairs.append(Pair(kind.name, second, _spliced(second, first)))
    return pairs


def _matched(stage: Stage, kind: Kind, rng: np.random.Generator) -> Films:
    """Draw two possible episodes that look the same at the event, and different after it."""
    for _ in range(TRIES):
        stage.draw_conditions(rng)
        first, second = kind.draw(stage, rng)
        one, other = first.observation[SCREEN], second.observation[SCREEN]
        if np.array_equal(one[EVENT], other[EVENT]) and not np.array_equal(one[EVENT:], other[EVENT:]):
            return first, second
    raise ConfigError(f"no pair of the kind '{kind.name}' looks the same at its event in {TRIES} draws")


def _spliced(before: Filmed, after: Filmed) -> Filmed:
    """Return the frames of one episode up to the event, and of the other from there on.

    Actions are those of the first, so that an episode with other actions shows another effect.
    """
    frames = {
        key: np.concatenate([value[: EVENT + 1], after.observation[key][EVENT + 1 :]])
        for key, value in before.observation.items()
    }
    return Filmed(frames, before.action)


# ---- behind: weightless bodies that pass behind a curtain in the middle --------------------------------

SMALL, LARGE, BOX = 0, 1, 2  # the shapes of each body


@dataclass(frozen=True)
class Course:
    """A straight course of a body, at the middle of the curtain at a given step."""

    height: float  # m
    speed: float  # m/s to the right
    shape: int
    middle: float = float(EVENT)  # step


def _behind(stage: Stage, *courses: Course | None) -> Filmed:
    """Film two bodies; one without a course rests behind the curtain."""
    world, state, shape = stage.world, np.zeros((2, 6)), [SMALL, SMALL]
    for index, course in enumerate((*courses, None, None)[:2]):
        if course is None:
            state[index, :2] = world.width / 2, world.height / 2
        else:
            state[index, :2] = world.width / 2 - course.speed * course.middle / world.fps, course.height
            state[index, 3] = course.speed
            shape[index] = course.shape
    return stage.film(state, shape, stage.still(STEPS))


def _course(rng: np.random.Generator) -> Course:
    """Draw a course that begins and ends in sight."""
    speed = rng.uniform(3.0, 3.4) * rng.choice((-1, 1))
    return Course(rng.uniform(1.0, 4.0), speed, int(rng.integers(3)))


def _vanishes(stage: Stage, rng: np.random.Generator) -> Films:
    return _behind(stage, _course(rng)), _behind(stage)


def _other(**changes: Callable[[np.random.Generator, Course], Any]) -> Draw:
    """Return a draw of two courses, the second with some changes."""

    def draw(stage: Stage, rng: np.random.Generator) -> Films:
        course = _course(rng)
        changed = {name: change(rng, course) for name, change in changes.items()}
        return _behind(stage, course), _behind(stage, dataclasses.replace(course, **changed))

    return draw


def _size(stage: Stage, rng: np.random.Generator) -> Films:
    course = dataclasses.replace(_course(rng), shape=SMALL)
    return _behind(stage, course), _behind(stage, dataclasses.replace(course, shape=LARGE))


def _shape(stage: Stage, rng: np.random.Generator) -> Films:
    course = dataclasses.replace(_course(rng), shape=LARGE)
    return _behind(stage, course), _behind(stage, dataclasses.replace(course, shape=BOX))


def _merges(stage: Stage, rng: np.random.Generator) -> Films:
    low, high = _course(rng), _course(rng)
    low = dataclasses.replace(low, height=rng.uniform(0.9, 1.7))
    high = dataclasses.replace(high, height=rng.uniform(3.3, 4.1), speed=low.speed)
    return _behind(stage, low, high), _behind(stage, low)


# ---- hidden_floor: a ball that bounces on a floor behind a curtain ---------------------------------------


def _falls(stage: Stage, height: float, x: float, sideways: float) -> Filmed:
    """Film a ball that begins at a height (m) and meets the floor at the event."""
    world = stage.world
    seconds, gravity, floor = EVENT / world.fps, -world.gravity[1], 0.4  # m: the ball's radius
    down = (height - floor) / seconds - gravity * seconds / 2
    state = np.array([[x - sideways * seconds, height, 0.0, sideways, -down, 0.0]])
    return stage.film(state, [0], stage.still(STEPS))


def _bounces_higher(stage: Stage, rng: np.random.Generator) -> Films:
    x = rng.uniform(3, 7)
    return _falls(stage, rng.uniform(7.8, 8.4), x, 0.0), _falls(stage, rng.uniform(5.0, 6.0), x, 0.0)


def _stays_down(stage: Stage, rng: np.random.Generator) -> Films:
    x = rng.uniform(3, 7)
    resting = np.array([[x, 0.4, 0.0, 0.0, 0.0, 0.0]])
    return _falls(stage, rng.uniform(5.0, 8.4), x, 0.0), stage.film(resting, [0], stage.still(STEPS))


def _jumps_aside(stage: Stage, rng: np.random.Generator) -> Films:
    x, height = rng.uniform(2, 5), rng.uniform(5.0, 8.4)
    return _falls(stage, height, x, 0.0), _falls(stage, height, x + rng.uniform(2, 3), 0.0)


def _turns_aside(stage: Stage, rng: np.random.Generator) -> Films:
    x, height, sideways = rng.uniform(4, 6), rng.uniform(5.0, 8.4), rng.uniform(1.0, 1.5)
    return _falls(stage, height, x, sideways), _falls(stage, height, x, -sideways)


# ---- any world with motors: actions and effects that do not go together ------------------------------------


def _acted(stage: Stage, rng: np.random.Generator, later: Callable[[Array], Array]) -> Films:
    """Film two episodes of the same beginning, with the last actions held and with others."""
    world = stage.world
    start = stage.random_start(rng)
    shape = (STEPS, max(len(world.motors), 1))
    action = rng.uniform(-1, 1, (STEPS // 4, shape[1])).repeat(4, 0).astype(np.float32)
    action[EVENT:] = np.sign(action[EVENT]) * rng.uniform(0.6, 1.0, shape[1]).astype(np.float32)
    changed = action.copy()
    changed[EVENT:] = later(action[EVENT:])
    return (
        stage.film(start.state, start.shape, action),
        stage.film(start.state, start.shape, changed),
    )


KINDS = (
    Kind(
        "vanishes",
        "behind",
        "a body goes behind the curtain and does not come out, or comes out of nothing",
        _vanishes,
    ),
    Kind("changes_size", "behind", "a body comes out smaller or larger", _size),
    Kind("changes_shape", "behind", "a ball comes out as a box, or a box as a ball", _shape),
    Kind(
        "changes_speed",
        "behind",
        "a body comes out slower or faster",
        _other(speed=lambda rng, c: c.speed * rng.uniform(1.5, 1.7)),
    ),
    Kind("turns_back", "behind", "a body comes out where it went in", _other(speed=lambda rng, c: -c.speed)),
    Kind(
        "changes_lane",
        "behind",
        "a body comes out at another height",
        _other(height=lambda rng, c: 5.0 - c.height + np.copysign(0.8, 2.5 - c.height)),
    ),
    Kind(
        "is_late", "behind", "a body comes out later or earlier", _other(middle=lambda rng, c: c.middle + 3)
    ),
    Kind("merges", "behind", "two bodies go in and one comes out, or one goes in and two come out", _merges),
    Kind(
        "bounces_higher",
        "hidden_floor",
        "a ball comes back from the floor higher or lower than it fell",
        _bounces_higher,
    ),
    Kind(
        "stays_down",
        "hidden_floor",
        "a ball falls and does not come back, or comes back without a fall",
        _stays_down,
    ),
    Kind("jumps_aside", "hidden_floor", "a ball comes back somewhere else", _jumps_aside),
    Kind("turns_aside", "hidden_floor", "a ball comes back in another direction", _turns_aside),
    Kind(
        "no_effect",
        None,
        "an action without effect, or an effect without action",
        lambda stage, rng: _acted(stage, rng, np.zeros_like),
    ),
    Kind(
        "opposite_effect",
        None,
        "an effect of the opposite action",
        lambda stage, rng: _acted(stage, rng, np.negative),
    ),
)

BY_NAME: Mapping[str, Kind] = {kind.name: kind for kind in KINDS}
