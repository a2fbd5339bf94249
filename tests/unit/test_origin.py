"""Where data is from: what makes another world, and what a store remembers of it."""

import json
from pathlib import Path

import pytest
from episodes import episode
from refusals import refused

import wmplay
from wmplay.config import catalogue
from wmplay.contracts import provenance_of
from wmplay.envs import env_config
from wmplay.envs.lcd import LcdEnv
from wmplay.errors import StoreError, WorldError
from wmplay.store import load_trajectories, save_trajectories
from wmplay.store.metadata import read_metadata
from wmplay.store.provenance import as_origin, in_words, origin_of, same_world

LUXO = {"_piece_": "env/lcd", "world": "luxo", "physics": "faithful", "screen": "outwards"}
URCHIN = {**LUXO, "world": "urchin"}


@pytest.mark.parametrize(
    ("name", "settings", "same"),
    [
        ("luxo", {"task": "body_goal", "max_steps": 7, "render_mode": "lcd", "goal_threshold": 0.5}, True),
        ("luxo", {"full_state": True, "reward": "progress"}, True),
        ("luxo", {"physics": "fast"}, False),
        ("urchin", {}, False),
        ("lcd", {"world": {"base": "luxo"}}, True),
        ("lcd", {"world": {"base": "luxo", "gravity": [0, -3.0]}}, False),
        ("CartPole-v1", {}, False),
    ],
)
def test_what_makes_another_world(name: str, settings: dict[str, object], same: bool) -> None:
    luxo = origin_of(env_config("luxo"))
    other = origin_of(env_config(name, **settings))
    assert same_world(luxo, other) == same_world(other, luxo) == same
    assert json.loads(json.dumps(other)) == other
    if not same:
        assert in_words(luxo) != in_words(other)


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"pixels": True, "size": 7, "max_steps": 5}, True),
        ({"kwargs": {}}, True),
        ({"kwargs": {"gravity": 1.0}}, False),
        ({"action_repeat": 3}, False),
        ({"action_repeat": 1}, True),
    ],
)
def test_what_makes_another_gymnasium_world(settings: dict[str, object], same: bool) -> None:
    pendulum = origin_of(env_config("Pendulum-v1"))
    assert same_world(pendulum, origin_of(env_config("Pendulum-v1", **settings))) == same


class Bare:
    """An env that says nothing of what makes another world."""

    def __init__(self, friction: float = 0.5, max_steps: int = 11) -> None: ...


@pytest.fixture
def _two_envs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, cls in (("bare", Bare), ("heavy", Heavy)):
        monkeypatch.setitem(catalogue._registered, ("env", name), cls)


@pytest.mark.usefixtures("_two_envs")
def test_any_setting_of_an_env_that_does_not_say_but_the_clock() -> None:
    bare = {"_piece_": "env/bare"}
    origin = origin_of(bare)
    assert origin == {**bare, "friction": 0.5}
    assert same_world(origin, origin_of({**bare, "max_steps": 3}))
    assert not same_world(origin, origin_of({**bare, "friction": 0.7}))
    assert not same_world({**origin, "_piece_": "env/heavy"}, origin)
    assert same_world({**origin, "newer": 1}, origin)
    assert in_words(origin) == "bare(friction=0.5)"


@pytest.mark.usefixtures("_two_envs")
def test_an_origin_by_path_is_the_one_by_name() -> None:
    for path, name in (("wmplay.envs.lcd.LcdEnv", "lcd"), (f"{__name__}.Bare", "bare")):
        assert as_origin({"_target_": path, "x": 1}) == {"_piece_": f"env/{name}", "x": 1}
    gone = as_origin({"_target_": "wmplay_plugins.gone.World", "x": 1})
    assert gone is not None
    assert in_words(gone) == "World(x=1)"
    assert not same_world(gone, {"_piece_": "env/lcd", "x": 1})


class Heavy(LcdEnv):
    """A world of a user's, with settings of its own."""

    def __init__(self, mass: float = 2.0) -> None:
        super().__init__("luxo")


@pytest.mark.usefixtures("_two_envs")
def test_a_subclass_with_settings_of_its_own() -> None:
    target = {"_piece_": "env/heavy"}
    assert origin_of({**target, "mass": 3.0})["mass"] == 3.0
    assert not same_world(origin_of(target), origin_of({**target, "mass": 3.0}))


def test_an_env_knows_its_origin_however_it_is_made() -> None:
    single = wmplay.make_env("luxo", task="body_goal", physics="fast")
    batched = wmplay.make_env("luxo", num_envs=2, physics="fast")
    assert provenance_of(single) == provenance_of(batched) == {**LUXO, "physics": "fast"}
    assert provenance_of(wmplay.make_env("CartPole-v1", num_envs=2)) == provenance_of(
        wmplay.make_env("CartPole-v1")
    )
    assert provenance_of(object()) is None


def test_a_store_remembers_and_refuses_another_world(tmp_path: Path) -> None:
    path = tmp_path / "s"
    store = save_trajectories([episode(0, 3)], path, env=wmplay.make_env("luxo"))
    assert store.made_with == load_trajectories(path).made_with == (LUXO,)
    store = save_trajectories([episode(1, 3)], path, env=LUXO)  # again, by what it is
    store = store.append([episode(2, 3)])  # of nobody knows where
    assert store.made_with == (LUXO,)
    for save in (
        lambda: save_trajectories(unread(), path, env=URCHIN),
        lambda: store.append(unread(), env=URCHIN),
    ):
        with refused(WorldError, (path, "world=luxo", "world=urchin"), advice="other_world=True"):
            save()
    assert len(load_trajectories(path)) == 3
    mixed = save_trajectories([episode(3, 3)], path, env=URCHIN, other_world=True)
    assert mixed.made_with == (LUXO, URCHIN)
    assert len(mixed) == 4


def unread():
    raise AssertionError("refused before any work")
    yield


def test_a_store_that_does_not_know_its_world_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "s"
    save_trajectories([episode(0, 3)], path)
    assert save_trajectories([episode(1, 3)], path, env=LUXO).made_with == ()
    assert not (path / "metadata.json").exists()


def test_what_a_killed_writer_left_is_no_metadata_of_the_next_store(tmp_path: Path) -> None:
    """It is killed between the metadata and the manifest."""
    for name in ("a", "b"):
        (tmp_path / name / "shards" / ".writing-0123").mkdir(parents=True)
        (tmp_path / name / "metadata.json").write_text('{"made_with": [1], "author": "somebody"}')
    save_trajectories([episode(0, 3)], tmp_path / "a")
    assert not (tmp_path / "a" / "metadata.json").exists()
    save_trajectories([episode(0, 3)], tmp_path / "b", env=LUXO, notes=lambda: {"author": "me"})
    assert read_metadata(tmp_path / "b")["author"] == "me"
    assert load_trajectories(tmp_path / "b").made_with == (LUXO,)


def test_notes_are_written_with_a_new_store_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wmplay.store.writer.write_manifest", fail)
    with pytest.raises(KeyboardInterrupt):
        save_trajectories([episode(0, 3)], tmp_path / "s", notes=lambda: {"author": "me"})
    monkeypatch.undo()
    assert not (tmp_path / "s").exists()
    for author in ("me", "another"):
        save_trajectories([episode(0, 3)], tmp_path / "s", notes=lambda author=author: {"author": author})
    assert read_metadata(tmp_path / "s") == {"author": "me"}


def test_a_copy_of_a_store_is_of_the_same_world(tmp_path: Path) -> None:
    store = save_trajectories([episode(0, 3)], tmp_path / "a", env=LUXO)
    assert save_trajectories(store, tmp_path / "b").made_with == (LUXO,)
    save_trajectories([episode(0, 3)], tmp_path / "c", env=URCHIN)
    with pytest.raises(WorldError):
        save_trajectories(store, tmp_path / "c")


@pytest.mark.parametrize(
    ("content", "fields"),
    [("{", {"about": ("metadata.json", "line 1")}), ("[1]", {"got": "list", "expected": "JSON"})],
)
def test_damaged_metadata(tmp_path: Path, content: str, fields: dict[str, object]) -> None:
    save_trajectories([episode(0, 3)], tmp_path / "s", env=LUXO)
    (tmp_path / "s" / "metadata.json").write_text(content)
    with refused(StoreError, **fields):
        _ = load_trajectories(tmp_path / "s").made_with


@pytest.mark.parametrize("foreign", ["luxo", ["luxo", {"world": "luxo"}], {"_target_": "x"}])
def test_metadata_of_that_name_which_is_not_ours(tmp_path: Path, foreign: object) -> None:
    save_trajectories([episode(0, 3)], tmp_path / "s")
    (tmp_path / "s" / "metadata.json").write_text(json.dumps({"made_with": foreign}))
    assert load_trajectories(tmp_path / "s").made_with == ()
