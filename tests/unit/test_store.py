import json
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from episodes import assert_same, episode, on_disk, shards
from hypothesis import given, settings
from hypothesis import strategies as st

from wmplay.contracts import Trajectory
from wmplay.errors import ShapeError
from wmplay.store import Store, load_trajectories, save_trajectories, writer

# ---------------------------------------------------------------------------------------------- round trip


def test_gives_back_what_was_saved(tmp_path: Path) -> None:
    episodes = [episode(i, length) for i, length in enumerate([5, 1, 7, 3])]
    store = save_trajectories(episodes[:3], tmp_path / "a" / "b")
    store = save_trajectories(iter(episodes[3:]), str(tmp_path / "a" / "b"))
    assert len(store) == 4
    assert store.steps == 16
    assert store.lengths.tolist() == [5, 1, 7, 3]
    for got, expected in zip(store, episodes, strict=True):
        assert_same(got, expected)
    assert_same(store[-1], episodes[3])
    assert_same(store[np.int64(2)], episodes[2])
    with pytest.raises(IndexError):
        store[4]
    assert str(store.space["observation.lcd"]) == "uint8 [5, 7]"
    assert str(store.space["action"]) == "float32 [3]"


def test_infos_are_kept_and_need_not_be_known(tmp_path: Path) -> None:
    known = replace(episode(0, 5), info={"factors.gravity": np.full(5, 3.5)})
    store = save_trajectories([known, episode(1, 3)], tmp_path / "some")
    assert store[0].info["factors.gravity"].tolist() == [3.5] * 5
    assert np.isnan(store[1].info["factors.gravity"]).tolist() == [True] * 3
    assert np.nanmean(np.concatenate(list(store.rows("info.factors.gravity")))) == 3.5
    assert store.sample(2, 4, 0).observation.keys() == known.observation.keys()
    older = save_trajectories([episode(1, 3)], tmp_path / "older").append([known])
    assert older[1].info == {}
    assert_same(older[1], episode(0, 5))
    with pytest.raises(ShapeError):
        replace(known, info={"cost": np.zeros(6)})


DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex64"]
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.text(max_size=19), st.tuples(st.sampled_from(DTYPES), SHAPES), max_size=4),
    st.sampled_from([("float32", (3,)), ("int64", ())]),
    st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=12),
    st.integers(0, 2**32 - 1),
)
def test_round_trip(observation, action, splits, seed) -> None:
    rng = np.random.default_rng(seed)

    def values(rows: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        high = rng.choice([2, 3, 120])  # some shards are binary, some are not
        return rng.integers(0, high, (rows, *shape)).astype(dtype)

    def trajectory(length: int) -> Trajectory:
        return Trajectory(
            {key: values(length + 1, *column) for key, column in observation.items()},
            values(length, *action),
            values(length, "float32", ()),
            values(length, "bool", ()),
            values(length, "bool", ()),
        )

    groups = [[trajectory(length) for length in lengths] for lengths in splits]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store"
        store = save_trajectories(groups[0], path)
        for group in groups[1:]:
            store = store.append(group)
        expected = [each for group in groups for each in group]
        for view in (store, load_trajectories(path)):
            assert len(view) == len(expected)
            for got, each in zip(view, expected, strict=True):
                assert_same(got, each)
            segment = store.segment(np.arange(len(store)), np.zeros(len(store), int), 2)
            for key, (dtype, shape) in observation.items():
                assert segment.observation[key].shape == (len(store), 3, *shape)
                assert segment.observation[key].dtype == getattr(torch, dtype)
        store.verify()


def test_a_screen_that_is_not_binary_any_more_loses_nothing(tmp_path: Path) -> None:
    binary, colour = episode(0, 5), episode(1, 5)
    colour.observation["lcd"][3] = 2
    store = save_trajectories([binary], tmp_path / "s").append([colour])
    files = {tuple(record["packed"]) for record in store.snapshot()["shards"]}
    assert files == {("observation.lcd",), ()}
    segment = store.segment(np.array([1, 0]), np.array([1, 2]), 3)
    np.testing.assert_array_equal(segment.observation["lcd"][0], colour.observation["lcd"][1:5])
    np.testing.assert_array_equal(segment.observation["lcd"][1], binary.observation["lcd"][2:6])


def test_binary_screens_cost_a_bit_per_pixel(tmp_path: Path) -> None:
    screen = np.zeros((101, 16, 32), np.uint8)
    one = Trajectory(
        {"lcd": screen, "proprio": np.zeros((101, 16), np.float32)},
        np.zeros((100, 3), np.float32),
        np.zeros(100, np.float32),
        np.zeros(100, np.bool_),
        np.zeros(100, np.bool_),
    )
    store = save_trajectories([one] * 50, tmp_path / "s")
    size = sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file())
    assert size / store.steps <= 160


def test_other_types_are_cast_to_the_contract(tmp_path: Path) -> None:
    one = episode(0, 5)
    one = Trajectory(one.observation, one.action, one.reward.astype(np.float64), np.zeros(5), np.ones(5, int))
    got = save_trajectories([one], tmp_path / "s")[0]
    assert (got.reward.dtype, got.terminated.dtype, got.truncated.dtype) == (np.float32, np.bool_, np.bool_)
    assert got.truncated.all()


def test_a_stream_is_written_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CHUNK", 2000)
    alive: list[weakref.ref] = []
    most = 0

    def stream() -> Iterator[Trajectory]:
        nonlocal most
        for i in range(100):
            one = episode(i, 7)
            alive.append(weakref.ref(one.action))
            most = max(most, sum(each() is not None for each in alive))
            yield one

    store = save_trajectories(stream(), tmp_path / "s")
    assert most < 20
    assert [int(one.observation["where"][0, 0]) for one in store] == list(range(100))


# ------------------------------------------------------------------------------------------------ sampling


def assert_window(segment, b: int, whole: Trajectory, start: int, length: int) -> None:
    """Row b is the slice of a trajectory from start, padded as documented."""
    n = min(length, len(whole) - start)
    assert segment.mask[b].tolist() == [True] * n + [False] * (length - n)
    for key, values in whole.observation.items():
        frames = np.concatenate([values[start : start + n + 1], *[values[-1:]] * (length - n)])
        np.testing.assert_array_equal(segment.observation[key][b], frames)
    for name in ("action", "reward", "terminated"):
        got = getattr(segment, name)[b]
        np.testing.assert_array_equal(got[:n], getattr(whole, name)[start : start + n])
        assert not got[n:].any()


def test_every_sampled_window_is_a_slice_of_its_trajectory(tmp_path: Path) -> None:
    lengths = [11, 2, 7, 5, 13, 3, 17]
    episodes = [episode(i, length) for i, length in enumerate(lengths)]
    store = save_trajectories(episodes[:3], tmp_path / "s")
    for one in episodes[3:]:
        store = store.append([one])
    rng = np.random.default_rng(0)
    for length in (1, 5, 7, 19):
        segment = store.sample(53, length, rng, ends=length == 5)
        assert segment.observation["lcd"].shape == (53, length + 1, 5, 7)
        assert segment.observation["lcd"].dtype == torch.uint8
        assert segment.action.shape == (53, length, 3)
        assert segment.mask.shape == segment.reward.shape == segment.terminated.shape == (53, length)
        for b in range(53):
            number, start = segment.observation["where"][b, 0].tolist()
            assert_window(segment, b, episodes[number], start, length)


def test_a_window_never_crosses_into_the_next_episode(tmp_path: Path) -> None:
    store = save_trajectories([episode(i, 3) for i in range(5)], tmp_path / "s")
    segment = store.sample(200, 5, 0)
    assert (segment.observation["where"][:, :, 0] == segment.observation["where"][:, :1, 0]).all()


def test_with_ends_no_step_is_rarer_than_those_in_the_middle(tmp_path: Path) -> None:
    store = save_trajectories([episode(0, 40), episode(1, 3)], tmp_path / "s")
    counts = {}
    for ends in (False, True):
        segment = store.sample(4000, 5, 0, ends=ends)
        number, step = segment.observation["where"][:, :-1].unbind(-1)
        counts[ends] = [int(((number == 0) & (step == t)).sum()) for t in range(40)]
    assert 3 * max(counts[False][0], counts[False][-1]) < counts[False][20]
    assert min(counts[True]) > 0.8 * counts[True][20]


def test_sampling_is_uniform_over_valid_starts(tmp_path: Path) -> None:
    lengths = [5, 2, 11, 7, 1]
    store = save_trajectories([episode(i, n) for i, n in enumerate(lengths)], tmp_path / "s")
    starts = [(i, t) for i, n in enumerate(lengths) for t in range(max(n - 5 + 1, 1))]
    draws = 20_000
    seen = store.sample(draws, 5, np.random.default_rng(0)).observation["where"][:, 0].tolist()
    counts = np.array([seen.count(list(start)) for start in starts])
    assert counts.sum() == draws  # no other start
    expected = draws / len(starts)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert len(starts) == 13
    assert chi_square < 32.9  # the 0.999 quantile at 12 degrees of freedom


def test_sampling_is_reproducible_and_does_not_depend_on_the_shards(tmp_path: Path) -> None:
    episodes = [episode(i, 5 + i % 3) for i in range(23)]
    together = save_trajectories(episodes, tmp_path / "a")
    apart = save_trajectories(episodes[:1], tmp_path / "b")
    for one in episodes[1:]:
        apart = apart.append([one])
    segments = [store.sample(31, 3, np.random.default_rng(7)) for store in (together, together, apart)]
    segments.append(together.sample(31, 3, 7))
    for segment in segments[1:]:
        for key, values in segments[0].observation.items():
            assert torch.equal(segment.observation[key], values)
        assert torch.equal(segment.action, segments[0].action)
    other = together.sample(31, 3, np.random.default_rng(8))
    assert not torch.equal(other.action, segments[0].action)


def test_a_generator_moves_on(tmp_path: Path) -> None:
    store = save_trajectories([episode(0, 101)], tmp_path / "s")
    rng = np.random.default_rng(0)
    assert not torch.equal(store.sample(11, 3, rng).action, store.sample(11, 3, rng).action)


# ---------------------------------------------------------------------- appending, merging, dropping, views


def test_an_older_view_stays_valid(tmp_path: Path) -> None:
    episodes = [episode(i, 5 + i % 7) for i in range(60)]
    views = [save_trajectories(episodes[:1], tmp_path / "s")]
    for one in episodes[1:]:
        views.append(views[-1].append([one], max_steps=101))
        views[-1].vacuum()
    for count, view in enumerate(views, start=1):
        kept = episodes[count - len(view) : count]
        for got, expected in zip(view, kept, strict=True):
            assert_same(got, expected)
        view.sample(2, 3, 0)


def test_many_small_appends_make_few_shards(tmp_path: Path) -> None:
    store = save_trajectories([episode(0, 5)], tmp_path / "s")
    most = 0
    for i in range(1, 131):
        store = store.append([episode(i, 5 + i % 3)])
        most = max(most, len(shards(store)))
    assert most <= 8 + np.log2(131)
    for i, got in enumerate(store):
        assert_same(got, episode(i, 5 + i % 3))


def test_full_shards_are_not_merged_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "FULL", 1)
    store = save_trajectories([episode(0, 5)], tmp_path / "s")
    for i in range(1, 20):
        store = store.append([episode(i, 5)])
    assert len(shards(store)) == 20


@pytest.mark.parametrize("limit", [1, 7, 23, 101, 1000])
def test_a_limit_drops_the_oldest_whole_episodes(tmp_path: Path, limit: int) -> None:
    lengths = [5 + i % 4 for i in range(50)]
    store = save_trajectories([episode(0, lengths[0])], tmp_path / "s", max_steps=limit)
    for i in range(1, 50):
        store = store.append([episode(i, lengths[i])], max_steps=limit)
        newest = lengths[: i + 1][::-1]
        fitting = max(1, sum(1 for n in range(1, i + 2) if sum(newest[:n]) <= limit))
        assert len(store) == fitting
        assert [int(one.observation["where"][0, 0]) for one in store] == list(range(i + 1 - fitting, i + 1))
    reopened = load_trajectories(tmp_path / "s")
    assert reopened.lengths.tolist() == store.lengths.tolist()
    assert_same(reopened[0], store[0])
    store.verify()


def test_without_a_limit_what_was_dropped_stays_dropped(tmp_path: Path) -> None:
    store = save_trajectories([episode(i, 5) for i in range(9)], tmp_path / "s", max_steps=20)
    store = store.append([episode(9, 5)])
    store = store.append([episode(10, 5)], max_steps=1000)
    assert [int(one.observation["where"][0, 0]) for one in store] == [5, 6, 7, 8, 9, 10]


def test_appending_deletes_nothing_and_a_vacuum_all_that_is_not_needed(tmp_path: Path) -> None:
    store = save_trajectories([episode(0, 5)], tmp_path / "s")
    seen = set()
    for i in range(1, 30):
        seen |= set(shards(store))
        store = store.append([episode(i, 5)], max_steps=60)
    assert on_disk(store) == seen | set(shards(store))
    leftover = store.path / "shards" / ".writing-of-a-dead-writer"
    leftover.mkdir()
    (leftover / ".lock").touch()
    store.vacuum()
    assert on_disk(store) == set(shards(store))


def test_a_vacuum_leaves_a_living_writer_alone(tmp_path: Path) -> None:
    store = save_trajectories([episode(0, 5)], tmp_path / "s")

    def stream() -> Iterator[Trajectory]:
        yield episode(1, 5)
        store.vacuum()
        save_trajectories([episode(2, 5)], store.path)
        yield episode(3, 5)

    store = store.append(stream())
    assert [int(one.observation["where"][0, 0]) for one in store] == [0, 2, 1, 3]


def test_a_store_goes_back_to_a_snapshot(tmp_path: Path) -> None:
    store = save_trajectories([episode(i, 5) for i in range(3)], tmp_path / "s")
    for i in range(3, 12):
        store = store.append([episode(i, 5)], max_steps=40)
    snapshot = json.loads(json.dumps(store.snapshot()))
    before = list(store)
    for i in range(12, 40):
        store = store.append([episode(i, 5)], max_steps=30)
    for _ in range(2):
        store = Store.restore(tmp_path / "s", snapshot)
        for view in (store, load_trajectories(tmp_path / "s")):
            for got, expected in zip(view, before, strict=True):
                assert_same(got, expected)
        store = store.append([episode(77, 5)], max_steps=40)
        assert_same(store[-1], episode(77, 5))


def test_verify_passes_over_a_sound_store(tmp_path: Path) -> None:
    store = save_trajectories([episode(i, 5) for i in range(3)], tmp_path / "s")
    store.verify()
    assert len(load_trajectories(tmp_path / "s", skip_damaged=True)) == 3
