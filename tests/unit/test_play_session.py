"""A game without a connection: the two worlds, their timelines, and requests."""

from __future__ import annotations

import gc
import json
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refused

import wmplay
from wmplay.contracts import Array
from wmplay.errors import ActionError, ConfigError, UnknownName, WmplayError
from wmplay.play import protocol
from wmplay.play.game import session as game
from wmplay.play.game.learned import LearnedWorld, Snapshot
from wmplay.play.game.screen import shown_key
from wmplay.play.game.session import Session
from wmplay.play.game.timeline import KEYFRAME, Branch, Moment
from wmplay.play.protocol import Act, Choose, Clock, Drive, Fork, Move, Reset, Resync, Rewind, Step, Tune

SMALL = {"hidden": 13, "image_hidden": 17, "layers": 1}
LAST = KEYFRAME + 5


def luxo(model: str | None = "mlp", futures: int = 3, seed: int = 0) -> Session:
    env = wmplay.make_env("luxo_ball")
    if model is None:
        return Session(env)
    torch.manual_seed(0)
    settings = SMALL if model == "mlp" else {}
    learned = LearnedWorld(
        wmplay.make("model", model, env=env, **settings).eval(),
        shown_key(env.observation_space.spaces),
        futures=futures,
    )
    return Session(env, learned, {"still": lambda: Still(env)}, seed)


class Still:
    """A driver that counts the frames since it was reset."""

    def __init__(self, env: object) -> None:
        self.frames = 0

    def reset(self) -> None:
        self.frames = 0

    def __call__(self, observation: object, last_action: object = None) -> Array:
        self.frames += 1
        return np.full(3, self.frames / 100, np.float32)


def steps(session: Session, number: int) -> None:
    session.answer(Drive("random"))
    for _ in range(number):
        session.step()


def screens(session: Session, moment: int = -1) -> tuple[Array, Array, list[Array]]:
    found = session.branch.moments[moment]
    assert found.pixels is not None
    return found.real["lcd"], found.pixels, list(found.futures)


def same(first: tuple[Array, Array, list[Array]], second: tuple[Array, Array, list[Array]]) -> bool:
    pairs = [*zip(first[:2], second[:2], strict=True), *zip(first[2], second[2], strict=True)]
    return all(np.array_equal(a, b) for a, b in pairs)


def test_both_worlds_take_the_same_actions() -> None:
    session = luxo()
    other = wmplay.make_env("luxo_ball")
    frame, _ = other.reset(seed=0)
    assert np.array_equal(session.branch.moments[0].real["lcd"], frame["lcd"])
    session.answer(Act([0.5, -0.25, 2.0]))  # beyond the bounds: clipped
    for _ in range(3):
        session.step()
        frame, *_ = other.step(np.array([0.5, -0.25, 1.0], np.float32))
        assert np.array_equal(session.branch.moments[-1].real["lcd"], frame["lcd"])
    assert [action.tolist() for action in session.branch.actions] == [[0.5, -0.25, 1.0]] * 3
    assert session.branch.last == 3


@pytest.mark.parametrize("model", ["mlp", "gru"])
@pytest.mark.parametrize("at", [3, KEYFRAME, LAST - 1])
def test_a_moment_is_found_again_with_what_followed(model: str, at: int) -> None:
    session = luxo(model)
    steps(session, LAST)
    actions, before = list(session.branch.actions), [screens(session, i) for i in range(1, LAST + 1)]
    session.answer(Rewind(at))
    assert session.branch.last == at
    session.answer(Drive("player"))
    for number in range(at, LAST):
        session.answer(Act(actions[number].tolist()))
        session.step()
        assert same(screens(session), before[number]), number


def test_branches_stand_side_by_side() -> None:
    session = luxo()
    steps(session, 7)
    first = screens(session)
    session.answer(Fork(2))
    steps(session, 3)
    second = screens(session)
    assert not np.array_equal(first[0], second[0])
    session.answer(Choose(0))
    assert session.branch.last == 7
    assert same(screens(session), first)
    session.answer(Choose(1))
    assert session.branch.last == 5
    assert same(screens(session), second)
    assert session.strip().branches == [(0, 7), (1, 5)]
    with refused(WmplayError, 9):
        session.answer(Choose(9))
    for _ in range(protocol.MOST_BRANCHES - 2):
        session.answer(Fork(1))
    with refused(WmplayError, protocol.MOST_BRANCHES):
        session.answer(Fork(1))


def test_the_learned_world_begins_anew_from_the_real_one() -> None:
    session = luxo()
    assert session.learned is not None
    steps(session, 4)
    session.answer(Resync())
    now = session.learned.snapshot()
    for row, alone in zip(now.belief.values(), now.watching.values(), strict=True):
        assert torch.equal(row, alone.expand(row.shape))
    assert session.strip().synced == [0, 4]
    steps(session, 2)
    after = screens(session)
    session.answer(Rewind(5))
    session.answer(Act(session.branch.actions[-1].tolist()))  # another action: the worlds go on from there
    session.answer(Rewind(4))
    assert session.strip().synced == [0, 4]
    session.learned.futures = 3
    actions = [0.1, 0.2, 0.3]
    session.answer(Drive("player"))
    session.answer(Act(actions))
    session.step()
    assert not same(screens(session), after)


def test_an_end_is_followed_by_the_next_episode() -> None:
    session = Session(wmplay.make_env("luxo", max_steps=3))
    told = [session.step() for _ in range(3)]
    assert [len(each) for each in told] == [0, 0, 1]
    session.step()
    assert (session.branch.last, session.branch.beginning.seed) == (0, 1)
    session.answer(Reset(7))
    assert (session.branch.last, session.branch.beginning.seed) == (0, 7)


def test_what_is_kept_does_not_grow_with_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that stays open: after any number of episodes no more is alive than one episode holds."""
    monkeypatch.setattr(game, "LONGEST", 7)
    session = luxo(futures=2)

    def alive() -> Counter[str]:
        gc.collect()
        kinds = (Moment, Snapshot, Branch, torch.Tensor)
        return Counter(type(each).__name__ for each in gc.get_objects() if type(each) in kinds)

    def play(episodes: int) -> Counter[str]:
        steps(session, episodes * 8)  # the step after the last begins the next episode
        assert session.branch.last == 0
        steps(session, 5)
        session.answer(Fork(3))
        found = alive()
        steps(session, 5)
        session.answer(Reset())
        return found

    play(1)
    assert play(7) == play(1)


def test_drivers_take_the_stick_and_begin_anew_where_time_does() -> None:
    session = luxo()
    session.answer(Drive("still"))
    session.step()
    session.step()
    assert [round(float(action[0]), 2) for action in session.branch.actions] == [0.01, 0.02]
    session.answer(Rewind(1))
    session.step()
    assert round(float(session.branch.actions[-1][0]), 2) == 0.01
    session.answer(Act([1.0, 1.0, 1.0]))  # only while the player drives
    session.step()
    assert round(float(session.branch.actions[-1][0]), 2) == 0.02
    with refused(UnknownName, got="nobody"):
        session.answer(Drive("nobody"))


def test_a_scene_is_set_by_hand() -> None:
    session = luxo()
    before = session.scene.places() if session.scene else []
    session.answer(Move(0, 0.1, -0.2))
    after = session.scene.places() if session.scene else []
    assert np.allclose(np.subtract(after, before), [[0.1, -0.2], [0, 0]], atol=1e-6)
    assert session.branch.last == 0
    steps(session, 3)
    here = screens(session)
    session.answer(Rewind(0))
    assert np.allclose(session.scene.places() if session.scene else [], after, atol=1e-6)
    steps(session, 3)
    assert here[0].shape == screens(session)[0].shape
    on_the_lamp = np.subtract(after[1], after[0])
    with refused(WmplayError):
        session.answer(Move(0, *on_the_lamp.tolist()))
    with refused(WmplayError, "fit"):
        session.answer(Move(0, 1.0, 0.0))
    with refused(WmplayError, 5, expected="1"):
        session.answer(Move(5, 0.0, 0.0))
    assert session.branch.last == 3


def test_futures_and_their_temperature() -> None:
    session = luxo("gru", futures=5)
    steps(session, 3)
    assert len(screens(session)[2]) == 5
    session.answer(Tune(2, 0.0))
    session.answer(Resync())
    steps(session, 1)
    learned, futures = screens(session)[1:]
    assert len(futures) == 2
    assert all(np.array_equal(future, futures[0]) for future in futures)
    session.answer(Tune(7, 1.0))
    steps(session, 1)
    assert len(screens(session)[2]) == 7
    assert learned.shape == (16, 24, 1)


def test_what_cannot_be_done_is_one_line() -> None:
    session = luxo(None)
    session.step()
    for request in (Resync(), Tune(3, 1.0), protocol.Keep("x", 0)):
        with refused(WmplayError):
            session.answer(request)
    with refused(WmplayError, 7, expected="1"):
        session.answer(Rewind(7))
    with refused(ActionError):
        session.answer(Act([0.0]))
    for wrong in (
        "[]",
        '{"type": "act"}',
        '{"type": "clock", "running": true, "speed": 99}',
        "[" * 2000,
        "\xff",
    ):
        with refused(WmplayError):
            protocol.read_request(wrong)
    with refused(ConfigError, "vector"):
        Session(wmplay.make_env("Pendulum-v1"))
    session.answer(Clock(False))
    session.answer(Step())
    assert session.branch.last == 2


def test_a_frame_as_the_page_reads_it() -> None:
    session = luxo(futures=2)
    steps(session, 2)
    message = session.frame()
    length = struct.unpack("<I", message[:4])[0]
    header = json.loads(message[4 : 4 + length])
    assert header["planes"] == ["real", "learned", "future 0", "future 1"]
    assert header["moment"] == 2
    assert len(header["bodies"]) == 2
    pixels = np.frombuffer(message[4 + length :], np.uint8).reshape(4, 16, 24)
    assert np.array_equal(pixels[0], session.branch.moments[-1].real["lcd"] * 255)
    assert header["surprise"] > 0


def test_other_worlds_can_be_played(tmp_path: Path) -> None:
    session = Session(wmplay.make_env("catch"))
    assert session.hello("catch", 10.0).discrete
    session.answer(Act(2))
    session.step()
    with refused(WmplayError, 3):
        session.answer(Act(3))
    with refused(WmplayError):
        session.answer(Move(0, 0.0, 0.0))
