"""The trajectory store against plain numpy and against stable-worldmodel's Lance format."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

import wmplay
from wmplay.contracts import Trajectory

from .measure import Check, Result, Side, speed_ratio, take_turns
from .peers import load_without_init, not_installed

EPISODES, EPISODE, ENVS = 2000, 100, 64
STEPS = EPISODES * EPISODE
BATCH, LENGTH = 64, 50
BATCHES = 100  # per turn
READS, WRITES = 12, 7
PLAIN, LANCE, BYTES, WRITTEN = 0.4, 20.0, 160.0, 200_000.0

Sampler = Callable[[np.random.Generator], object]


def benchmark_read() -> Result:
    missing = not_installed("stable_worldmodel")
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        store = wmplay.save_trajectories(trajectories(), root / "store")
        sides = [
            _reader("wmplay, store.sample", lambda rng: store.sample(BATCH, LENGTH, rng)),
            _reader("numpy memory maps", _memory_maps(root, trajectories())),
        ]
        if missing is None:
            write_lance(root / "luxo.lance", trajectories())
            sides.append(_reader("stable-worldmodel, Lance", _lance_reader(root / "luxo.lance")))
        timings = take_turns(sides, READS)
        size = _size(root / "store") / STEPS
        sizes = [f"On disk: {size:.0f} bytes per step; as numpy files {_plain_size():.0f}"]
        if missing is None:
            sizes[0] += f"; in Lance {_size(root / 'luxo.lance') / STEPS:,.0f}"
    checks = [speed_ratio("store, reading, against numpy memory maps", timings[0], timings[1], PLAIN)]
    if missing is None:
        checks.append(speed_ratio("store, reading, against Lance", timings[0], timings[2], LANCE))
    checks.append(Check("store, on disk", size, BYTES, " bytes per step"))
    return Result(
        "store-read: random segments",
        f"{STEPS:,} steps of Luxo by random actions (lcd 16 x 32, proprio 16, action 3, reward, terminated); "
        f"shuffled batches of {BATCH} segments of {LENGTH} steps; no workers; files in the page cache. "
        "wmplay and numpy return tensors of every array in its own dtype, with one observation more than "
        "steps. numpy: memory-mapped `.npy` files of the same arrays, unpacked, and one fancy index per "
        "array. "
        "Lance: `load_dataset(path, num_steps=50)` in a shuffling `DataLoader`, for which the library "
        "fetches whole batches at once; the screen is stored as a vector, which becomes float32 (an image "
        "would be a JPEG: lossy, and many times slower).",
        timings,
        BATCHES * BATCH,
        "segments",
        checks,
        [*sizes, *([missing] if missing else [])],
    )


def benchmark_write() -> Result:
    data = trajectories()
    missing = not_installed("stable_worldmodel")
    sides = [
        _writer("wmplay, save_trajectories", lambda path: wmplay.save_trajectories(data, path)),
        _writer("numpy.save", lambda path: _save_arrays(path, data)),
    ]
    if missing is None:
        load_without_init()
        sides.append(_writer("stable-worldmodel, Lance", lambda path: write_lance(path / "x.lance", data)))
    timings = take_turns(sides, WRITES)
    ours = timings[0]
    speed, fastest = STEPS / ours.median, STEPS / ours.best
    check = Check("store, writing", speed, WRITTEN, " steps/s", at_least=True, shortest=fastest)
    return Result(
        "store-write: saving episodes",
        f"The same {EPISODES:,} episodes, from memory to a new store. wmplay packs the screens and computes "
        "checksums; numpy only joins the episodes and writes one file per array. No side waits for the disk.",
        timings,
        STEPS,
        "steps",
        [check],
        [missing] if missing else [],
    )


@functools.cache
def trajectories() -> list[Trajectory]:
    """Return random Luxo episodes, simulated once."""
    return wmplay.simulate(wmplay.make_env("luxo", num_envs=ENVS), episodes=EPISODES, seed=0)


def _reader(name: str, sample: Sampler) -> Side:
    def ready() -> Callable[[], None]:
        rng = np.random.default_rng(0)

        def run() -> None:
            for _ in range(BATCHES):
                sample(rng)

        return run

    return Side(name, ready)


def _writer(name: str, write: Callable[[Path], object]) -> Side:
    folders: list[tempfile.TemporaryDirectory[str]] = []

    def ready() -> Callable[[], object]:
        for folder in folders:
            folder.cleanup()
        folders[:] = [tempfile.TemporaryDirectory()]
        path = Path(folders[0].name) / "new"
        return lambda: write(path)

    return Side(name, ready)


def _arrays(data: list[Trajectory]) -> dict[str, np.ndarray]:
    """Return all steps end to end, [EPISODES * T, ...], or [EPISODES * (T + 1), ...] for observations."""
    return {
        "lcd": np.concatenate([t.observation["lcd"] for t in data]),
        "proprio": np.concatenate([t.observation["proprio"] for t in data]),
        "action": np.concatenate([t.action for t in data]),
        "reward": np.concatenate([t.reward for t in data]),
        "terminated": np.concatenate([t.terminated for t in data]),
    }


def _save_arrays(path: Path, data: list[Trajectory]) -> None:
    path.mkdir()
    for name, array in _arrays(data).items():
        np.save(path / f"{name}.npy", array)


def _memory_maps(root: Path, data: list[Trajectory]) -> Sampler:
    _save_arrays(root / "plain", data)
    maps = {file.stem: np.load(file, mmap_mode="r") for file in (root / "plain").iterdir()}

    def sample(rng: np.random.Generator) -> dict[str, torch.Tensor]:
        episode = rng.integers(EPISODES, size=BATCH)
        start = rng.integers(EPISODE - LENGTH + 1, size=BATCH)
        steps = (episode * EPISODE + start)[:, None] + np.arange(LENGTH)
        frames = (episode * (EPISODE + 1) + start)[:, None] + np.arange(LENGTH + 1)
        return {
            name: torch.from_numpy(array[frames if name in ("lcd", "proprio") else steps])
            for name, array in maps.items()
        }

    return sample


def write_lance(path: Path, data: list[Trajectory]) -> None:
    """Write the episodes as stable-worldmodel records them, in one stream without the last frames."""
    load_without_init()
    from stable_worldmodel.data import LanceWriter

    def episodes() -> Iterator[dict[str, list[np.ndarray]]]:
        for t in data:
            columns = {key: value[:-1] for key, value in t.observation.items()}
            columns |= {"action": t.action, "reward": t.reward, "terminated": t.terminated}
            yield {name: list(rows) for name, rows in columns.items()}

    with LanceWriter(path) as writer:
        writer.write_episodes(episodes())


def _lance_reader(path: Path) -> Sampler:
    load_without_init()
    from stable_worldmodel.data import load_dataset

    dataset = load_dataset(path, num_steps=LENGTH)
    batches = iter(torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True))
    return lambda _: next(batches)  # one epoch is longer than all repeats


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def _plain_size() -> float:
    return sum(array.nbytes for array in _arrays(trajectories()).values()) / STEPS
