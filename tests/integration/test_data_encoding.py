"""Recorded data and the env that it is of: the same names, the same numbers, whatever its spaces are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Text, Tuple
from minari.data_collector.episode_buffer import EpisodeBuffer
from refusals import assert_tokens, failure, refused

import wmplay
from wmplay.cli import main
from wmplay.errors import DataError, UnknownName
from wmplay.formats.transfer import export_data, import_data
from wmplay.runs.compatibility import check_store
from wmplay.store import Store, load_trajectories

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Anything(gymnasium.Env[Any, Any]):
    """Observes samples of any space, and takes actions of another."""

    def __init__(self, observation: Space[Any], action: Space[Any] = Discrete(2)) -> None:  # noqa: B008
        self.observation_space, self.action_space = observation, action

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self.observation_space.sample(), 0.5, False, self.steps >= 5, {}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    gymnasium.register("Anything-v0", entry_point=Anything)
    yield
    del gymnasium.registry["Anything-v0"]


def stacked(values: list[Any]) -> Any:
    """Observations end to end, as Minari's buffers have them."""
    if isinstance(values[0], dict):
        return {key: stacked([value[key] for value in values]) for key in values[0]}
    if isinstance(values[0], tuple):
        return tuple(stacked(list(parts)) for parts in zip(*values, strict=True))
    return values if isinstance(values[0], str) else np.array(values)


def recorded(make: Callable[[], gymnasium.Env[Any, Any]], episodes: int = 3, name: str = "toy-v0") -> Path:
    """The folder of a dataset that Minari has made of an env's episodes."""
    env, buffers = make(), []
    env.action_space.seed(3)
    for seed in range(episodes):
        seen, steps, ended = [env.reset(seed=seed)[0]], [], False
        while not ended:
            action = env.action_space.sample()
            observation, *step, _ = env.step(action)
            seen.append(observation)
            steps.append((action, *step))
            ended = step[1] or step[2]
        columns = [stacked(list(values)) for values in zip(*steps, strict=True)]
        buffers.append(EpisodeBuffer(None, seed, None, stacked(seen), *columns))
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    minari.create_dataset_from_buffers(name, buffers, algorithm_name="random", **spaces)
    return Path(name)


SPACES = {
    "box": Box(-2, 2, (3,), np.float64),
    "number": Box(-2, 2, (), np.float32),
    "matrix": Box(-2, 2, (2, 3), np.float64),
    "integers": Box(-9, 9, (3,), np.int64),
    "discrete": Discrete(5),
    "discrete from -1": Discrete(3, start=-1),
    "binary": MultiBinary(4),
    "choices": MultiDiscrete([2, 3]),
    "dict": Dict(a=Box(-1, 1, (2,)), b=Discrete(3, start=4)),
    "nested": Dict(a=Dict(b=Discrete(2), c=Box(-1, 1, (2, 2))), d=Box(0, 1, (4, 5), np.uint8)),
    "tuple": Tuple([Discrete(2), Box(-1, 1, (2,))]),
    "with a text": Dict(a=Box(-1, 1, (2,)), mission=Text(7)),
}


@pytest.mark.parametrize("kind", SPACES)
def test_a_recording_is_what_the_env_gives(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of any observation: its names, dtypes and shapes, its bounds, and each value."""
    space = SPACES[kind]
    store = import_data("minari", recorded(lambda: Anything(space)), Path("store"))
    live = wmplay.make_env("gym", id="Anything-v0", kwargs={"observation": space})
    check_store(store, live, every_key=True)
    offline = wmplay.make_env("recorded", data="store")
    assert offline.observation_space == live.observation_space
    assert offline.action_space == live.action_space
    first, _ = live.reset(seed=1)
    for key, value in first.items():
        np.testing.assert_array_equal(store[1].observation[key][0], value)
    assert ("mission\n" in capsys.readouterr().err) == (kind == "with a text")


@pytest.mark.parametrize(
    "space",
    [
        Discrete(3, start=-1),
        Discrete(4),
        Box(-2, 3, (2,), np.float64),
        Box(-2, 3, (), np.float32),
        Box(-1, 1, (2, 2)),
    ],
    ids=str,
)
def test_actions_are_those_that_the_env_takes(space: Space[Any]) -> None:
    observation = Box(-1, 1, (2,))
    store = import_data("minari", recorded(lambda: Anything(observation, space)), Path("store"))
    live = wmplay.make_env("gym", id="Anything-v0", kwargs={"observation": observation, "action": space})
    check_store(store, live, every_key=True)
    assert wmplay.make_env("recorded", data="store").action_space == live.action_space
    assert all(live.action_space.contains(action) for each in store for action in each.action)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "FrozenLake-v1"])
def test_a_model_learns_from_a_recording_beside_its_env_and_alone(env_id: str) -> None:
    import_data("minari", recorded(lambda: gymnasium.make(env_id), 12), Path("store"))
    small = ["env.data=store", "model=mlp", "model.hidden=11", "fit.steps=2", "fit.length=3", "report=false"]
    few = ["evaluate.prediction.episodes=3", "evaluate.prediction.horizon=1", "evaluate.prediction.context=1"]
    offline = [*small, *few, "evaluate.generation.clips=0"]
    assert main(["train", "experiment=offline", *offline, "dir=alone"]) == 0
    beside = [
        f"env.id={env_id}",
        "policy=random",
        "explorer=null",
        "collect.random_episodes=0",
        "evaluate.policy.episodes=0",
    ]
    beside += ["env=gym", "collect.episodes=0", "iterations=1"]
    assert main(["train", *beside, *small, *few, "dir=beside"]) == 0
    spaces = [wmplay.load_run(run).env.observation_space for run in ("alone", "beside")]
    assert list(spaces[0]) == list(spaces[1]) == ["vector"]
    assert spaces[0]["vector"].shape == spaces[1]["vector"].shape


def copy_of(store: Store, name: str) -> Path:
    path = Path(f"{name}-copy-v0")
    export_data(store.path, name, path)
    return path


@pytest.mark.parametrize("name", ["npz", "hdf5", "minari", "lance"])
def test_what_wmplay_wrote_comes_back_as_it_was(name: str) -> None:
    """Nothing is encoded twice, and the spaces go along."""
    space = Dict(a=Discrete(3), lcd=Box(0, 1, (4, 5), np.uint8), x=Box(-2, 2, (2, 3), np.float64))
    store = import_data("minari", recorded(lambda: Anything(space)), Path("store"))
    again = import_data(name, copy_of(store, name), Path("again"))
    for one, other in zip(store, again, strict=True):
        assert list(one.observation) == list(other.observation)
        for key, value in one.observation.items():
            assert value.dtype == other.observation[key].dtype
            np.testing.assert_array_equal(value, other.observation[key])
    envs = [wmplay.make_env("recorded", data=path) for path in ("store", "again")]
    assert envs[0].observation_space == envs[1].observation_space
    assert envs[0].action_space == envs[1].action_space


@pytest.mark.parametrize(
    ("env", "settings"),
    [
        ("luxo", {"max_steps": 5}),
        ("urchin_cube", {"max_steps": 5, "task": "body_goal"}),
        ("gym", {"id": "CartPole-v1", "max_steps": 5}),
        ("gym", {"id": "Pendulum-v1", "max_steps": 5}),
    ],
)
def test_our_own_data_goes_to_minari_with_its_spaces_and_its_env(env: str, settings: dict[str, Any]) -> None:
    made = wmplay.make_env(env, **settings)
    store = wmplay.save_trajectories(wmplay.simulate(made, episodes=2), "store", env=made)
    export_data(store.path, "minari", Path("ours-v0"))
    dataset = minari.load_dataset("ours-v0")
    assert dataset.action_space == made.action_space
    for key, part in dataset.observation_space.spaces.items():
        assert part == made.observation_space[key]
    again = dataset.recover_environment().unwrapped
    assert again.action_space == made.action_space
    assert again.wmplay_origin == made.wmplay_origin
    back = import_data("minari", Path("ours-v0"), Path("back"))
    assert back.made_with == store.made_with
    check_store(back, made, every_key=True)
    np.testing.assert_array_equal(back[1].action, store[1].action)


def test_a_store_of_a_stranger_makes_no_module_be_imported() -> None:
    made = wmplay.make_env("gym", id="CartPole-v1", max_steps=5)
    world = {"_piece_": "env/gym", "id": "antigravity:CartPole-v1"}
    store = wmplay.save_trajectories(wmplay.simulate(made, episodes=1), "store", env=world)
    export_data(store.path, "minari", Path("ours-v0"))
    assert minari.load_dataset("ours-v0").env_spec is None


# ---- names, texts, and what does not fit -----------------------------------------------------------


def npz(arrays: dict[str, np.ndarray], name: str = "data") -> Path:
    Path(name).mkdir()
    steps = {each: np.zeros(3, bool) for each in ("terminated", "truncated")}
    given = {"action": np.zeros((3, 2)), "reward": np.zeros(3), **steps, **arrays}
    np.savez(Path(name) / "0.npz", **given)
    return Path(name)


@pytest.mark.parametrize(
    ("rows", "name", "dtype", "shape"),
    [
        (np.zeros((4, 2)), "vector", "float32", (2,)),
        (np.zeros(4, np.int16), "vector", "float32", (1,)),
        (np.zeros((4, 2, 3), np.float16), "vector", "float32", (6,)),
        (np.zeros((4, 5), bool), "vector", "float32", (5,)),
        (np.zeros((4, 5, 7, 3), np.uint8), "pixels", "uint8", (5, 7, 3)),
        (np.zeros((4, 3, 5, 7), np.uint8), "pixels", "uint8", (5, 7, 3)),
    ],
)
def test_without_spaces_arrays_tell(rows: np.ndarray, name: str, dtype: str, shape: tuple[int, ...]) -> None:
    column = import_data("npz", npz({"observation": rows}), Path("store")).space[f"observation.{name}"]
    assert (column.dtype, column.shape) == (dtype, shape)
    assert wmplay.make_env("recorded", data="store").observation_space[name].shape == shape


def test_keys_stay_and_screens_too() -> None:
    screens = np.eye(4, dtype=np.uint8)[:, :, None].repeat(3, 2)
    store = import_data(
        "npz", npz({"observation.lcd": screens, "observation.n": np.arange(4)}), Path("store")
    )
    assert store.space["observation.lcd"].shape == (4, 3)
    np.testing.assert_array_equal(store[0].observation["n"][:, 0], np.arange(4))


def test_texts_are_left_out_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    words = np.array(["go", "left", "go", "stop"])
    source = npz({"observation.x": np.zeros((4, 2)), "observation.said": words})
    store = import_data("npz", source, Path("store"))
    assert list(store[0].observation) == ["x"]
    assert_tokens(capsys.readouterr().err, "said")
    with refused(DataError, ("words, episode 0", "'observation'"), got=np.dtype("U4"), expected="numbers"):
        import_data("npz", npz({"observation": words}, "words"), Path("other"))


def test_observations_are_renamed(capsys: pytest.CaptureFixture[str]) -> None:
    arrays = {"observation.x": np.zeros((4, 2)), "observation.a=b": np.ones((4, 2))}
    npz(arrays)
    command = ("data", "import", "--from", "npz", "data", "--out")
    assert main([*command, "store", "--rename", "x=vector", "--rename", "a=b=goal_vector"]) == 0
    assert list(load_trajectories("store")[0].observation) == ["vector", "goal_vector"]
    capsys.readouterr()
    for wrong, tokens in (("y=z", ("observation", "y")), ("x", "A=B"), ("x=", "A=B"), ("=x", "A=B")):
        assert_tokens(failure(capsys, *command, "other", "--rename", wrong), tokens)
    with refused(DataError, got="x"):
        import_data("npz", Path("data"), Path("other"), rename={"a=b": "x"})
    with pytest.raises(UnknownName):
        import_data("npz", Path("data"), Path("other"), rename={"vektor": "x"})
    assert not Path("other").exists()


@pytest.mark.parametrize("part", ["observation", "action"])
def test_what_is_not_in_its_space_is_refused(part: str) -> None:
    path = recorded(lambda: Anything(Discrete(5), Discrete(5)))
    file = path / "data" / "metadata.json"
    text = file.read_text()
    key = f'"{part}_space": "'
    start = text.index(key)
    file.write_text(text[:start] + text[start:].replace('\\"n\\": 5', '\\"n\\": 2', 1))
    with refused(DataError, ("toy-v0", "episode 0")):
        import_data("minari", path, Path("store"))
    assert not Path("store").exists()
