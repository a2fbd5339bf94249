"""Values that are no data: they are named before they are stored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from episodes import episode, on_disk, with_observation
from refusals import refused

from wmplay.errors import StoreError
from wmplay.store import Store, load_trajectories, save_trajectories


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return save_trajectories([episode(i, 5) for i in range(3)], tmp_path / "store")


HOLES = {
    ("reward", "NaN", "row 3"): lambda one: replace(one, reward=np.array([0, 1, 2, np.nan, 4], np.float32)),
    ("reward", "infinite", "row 1"): lambda one: replace(one, reward=np.array([0, 1e300, 0, 0, 0])),
    ("reward", "NaN", "row 0"): lambda one: replace(one, reward=np.array([float("nan")] * 5)),
    ("reward", "object"): lambda one: replace(one, reward=np.array([None] * 5)),
    ("reward", "complex128"): lambda one: replace(one, reward=np.full(5, 1j)),
    ("action", "infinite", "row 4"): lambda one: replace(
        one, action=one.action / np.arange(4, -1, -1)[:, None]
    ),
    ("observation.where", "NaN", "row 5"): lambda one: with_observation(
        one, where=np.array([[0, 0]] * 5 + [[0, np.nan]], np.float64)
    ),
    ("observation.where", "infinite", "row 0"): lambda one: with_observation(
        one, where=np.full((6, 2), -np.inf)
    ),
    "terminated": lambda one: replace(one, terminated=np.array([0, 0, 0, 0, 2])),
    "truncated": lambda one: replace(one, truncated=np.array(["False"] * 5)),
    ("truncated",): lambda one: replace(one, truncated=np.array([None] * 5)),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("hole", HOLES)
def test_a_hole_is_named_and_nothing_stored(store: Store, hole: str | tuple[str, ...]) -> None:
    before, files = store.snapshot(), on_disk(store)
    new = store.path.parent / "new"
    for save in (store.append, lambda trajectories: save_trajectories(trajectories, new)):
        with refused(StoreError, ("trajectory 1", *([hole] if isinstance(hole, str) else hole))):
            save([episode(12, 5), HOLES[hole](episode(13, 5))])
    assert (load_trajectories(store.path).snapshot(), on_disk(store)) == (before, files)
    assert not new.exists()


ACTIONS = [np.zeros((5, 3), np.int64), np.zeros(5, np.float32), np.zeros((5, 2, 2)), np.zeros(5, np.bool_)]


@pytest.mark.parametrize("action", ACTIONS)
def test_actions_that_no_policy_takes(tmp_path: Path, action: np.ndarray) -> None:
    with refused(StoreError, ("trajectory 0", "action", "[A]")):
        save_trajectories([replace(episode(0, 5), action=action)], tmp_path / "new")
