"""Every file that wmplay reads of its own, damaged in thousands of ways: a result, or one line that says why.

Seeds are fixed; ``-k`` chooses a kind of file, ``-rA`` or a failure shows the figures. A failure names the
number of its mutation, by which ``damaged`` makes it again.
"""

from __future__ import annotations

import gc
import resource
import shutil
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import mutations
import numpy as np
import pytest
import torch

import wmplay
from wmplay.contracts import Trajectory
from wmplay.errors import WmplayError
from wmplay.evaluation.arbiter.network import load_arbiter, shipped
from wmplay.evaluation.files import load_evaluation
from wmplay.evaluation.gallery import load_clips, load_episodes
from wmplay.formats import data_format
from wmplay.formats.transfer import export_data
from wmplay.report import write_report
from wmplay.report.pictures.clips import clip_cells, image_keys
from wmplay.runs.disk.directory import RunDirectory
from wmplay.runs.disk.portable import PortableDirectory
from wmplay.runs.load import load_run
from wmplay.runs.resume import read_settings
from wmplay.runs.sweep_directory import FAILURE_FILE, SweepDirectory

RELEASE = Path(__file__).parents[1] / "fixtures" / "release_0.1" / "pieces.tar.xz"
PATIENCE = 3.0  # seconds of the processor for one mutation
ROOM = 1 << 30  # bytes of address space that reading a file of some kilobytes may take


@dataclass
class Figures:
    """How the mutations of a kind of file ended."""

    refused: Counter[str] = field(default_factory=Counter)  # by the error's type
    accepted: int = 0
    slowest: float = 0.0  # s
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        count = self.accepted + self.refused.total()
        return (
            f"{count} mutations: {self.refused.total()} refused {dict(self.refused)}, {self.accepted} "
            f"accepted, slowest {self.slowest:.2f} s, {len(self.faults)} faults"
        )


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What version 0.1.0 left on disk: without checksums, so that damage gets further."""
    folder = tmp_path_factory.mktemp("release")
    shutil.unpack_archive(RELEASE, folder)
    return folder


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of this version."""
    path = tmp_path_factory.mktemp("fresh") / "run"
    wmplay.train(
        ["experiment=tiny", "iterations=1", "model=mlp", "model.hidden=7", "report=false", f"dir={path}"]
    )
    return path


@pytest.fixture(autouse=True)
def _little_memory() -> Iterator[None]:
    """Refuses large allocations, as a small machine would."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def damaged(file: Path, mutators: list[mutations.Mutate], number: int, content: bytes) -> bytes:
    """Mutation ``number`` of a file."""
    rng = np.random.default_rng([crc32(file.name.encode()), number])
    for _ in range(20):
        changed = mutations.pick(mutators, rng)(content, rng)
        if changed != content:
            return changed
    raise AssertionError(f"{file} is always the same")


def fuzz(
    files: list[Path],
    mutators: list[mutations.Mutate],
    count: int,
    read: Callable[[], Any],
    refused: float = 1 / 3,
) -> None:
    """Damages one file at a time, reads, and puts it back. Fails for anything but a result or one line.

    At least a share ``refused`` has to be: the mutations do damage.
    """
    figures = Figures()
    for i in range(count):
        file = files[i % len(files)]
        content = file.read_bytes()
        file.write_bytes(damaged(file, mutators, i, content))
        begin = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read()
            figures.accepted += 1
        except WmplayError as error:
            figures.refused[type(error).__name__] += 1
            if not str(error).isprintable() or len(str(error)) > 2000:
                figures.faults.append(f"{file.name} {i}: not a line: {str(error)[:500]!r}")
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in where if "/wmplay/" in frame.filename][-1:]
            figures.faults.append(f"{file.name} {i}: {error!r:.200} at {ours or where[-1:]}, {where[-1]}")
        took = time.process_time() - begin
        figures.slowest = max(figures.slowest, took)
        if took > PATIENCE:
            figures.faults.append(f"{file.name} {i}: {took:.1f} s")
        file.write_bytes(content)
    print(figures)
    gc.collect()
    assert not figures.faults, "\n".join([str(figures), *figures.faults[:40]])
    assert figures.refused.total() >= refused * count


# ---- stores --------------------------------------------------------------------------------------


@pytest.fixture
def store(release: Path, tmp_path: Path) -> Path:
    """Two shards."""
    copy = tmp_path / "store"
    shutil.copytree(release / "stores" / "luxo", copy)
    wmplay.load_trajectories(copy).append(wmplay.load_trajectories(copy))
    return copy


def equal(one: Trajectory, other: Trajectory) -> bool:
    pairs = [
        (getattr(one, name), getattr(other, name)) for name in ("action", "reward", "terminated", "truncated")
    ]
    pairs += [(one.observation[key], other.observation.get(key)) for key in one.observation]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def whole(store: Path) -> None:
    """Reads all of a store in every way; what is accepted is what was written."""
    expected = wmplay.load_trajectories(store.with_name("as_written"))
    got = wmplay.load_trajectories(store)
    got.made_with  # noqa: B018
    got.sample(3, 2, 0)
    episodes = list(got)
    got.verify()
    assert len(episodes) == len(expected), "other episodes"
    assert all(equal(a, b) for a, b in zip(expected, episodes, strict=True)), "other values"


def test_manifests(store: Path) -> None:
    shutil.copytree(store, store.with_name("as_written"))
    fuzz([store / "manifest.json"], mutations.JSON, 450, lambda: whole(store))


def test_shards(store: Path) -> None:
    shutil.copytree(store, store.with_name("as_written"))
    fuzz(sorted(store.glob("shards/*/*.npy")), mutations.ARRAY, 500, lambda: whole(store))


def test_shards_that_are_skipped(store: Path) -> None:
    def read() -> None:
        got = list(wmplay.load_trajectories(store, skip_damaged=True))
        if len(got) < 6:
            raise WmplayError("some are left out")

    fuzz(sorted(store.glob("shards/*/*.npy")), mutations.ARRAY, 200, read)


def test_metadata(store: Path) -> None:
    fuzz([store / "metadata.json"], mutations.JSON, 200, lambda: wmplay.load_trajectories(store).made_with)


# ---- what an evaluation leaves -------------------------------------------------------------------


@pytest.fixture(params=["release", "fresh"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a run: of version 0.1.0, or of this one."""
    path: Path = request.getfixturevalue(request.param)
    copy = tmp_path / "run"
    shutil.copytree(path / "runs" / "rssm" if request.param == "release" else path, copy)
    shutil.rmtree(copy / "report", ignore_errors=True)
    return copy


def test_clips(run: Path) -> None:
    def read() -> None:
        clips = load_clips(run)
        assert clips is not None
        for key in image_keys(clips):
            clip_cells(clips, key, 0, 0)

    fuzz([run / "clips.npz"], mutations.ARCHIVE, 250, read)


def test_episodes(run: Path) -> None:
    fuzz([run / "episodes.npz"], mutations.ARCHIVE, 200, lambda: load_episodes(run))


def test_evaluations(run: Path) -> None:
    def read() -> None:
        evaluation = load_evaluation(run)
        assert evaluation is not None
        evaluation.numbers()

    fuzz([run / "evaluation.json"], mutations.JSON, 250, read)


def test_metrics(run: Path) -> None:
    def read() -> None:
        assert all(isinstance(line, dict) for line in load_run(run).metrics)

    fuzz([run / "metrics.jsonl"], mutations.JSONL, 150, read, refused=0)


def test_run_json(run: Path) -> None:
    """As a report shows it."""
    for shown in [*run.glob("*.npz"), run / "evaluation.json", run / "metrics.jsonl"]:
        shown.unlink()
    fuzz([run / "run.json"], mutations.JSON, 100, lambda: write_report(run))


def test_configs(run: Path) -> None:
    fuzz([run / "config.yaml"], mutations.YAML, 200, lambda: read_settings(RunDirectory(run)))


def test_exports(release: Path, tmp_path: Path) -> None:
    copy = tmp_path / "export"
    shutil.copytree(release / "exports" / "ppo", copy)

    def read() -> None:
        directory = PortableDirectory(copy)
        directory.config()
        directory.spaces()
        directory.weights()

    fuzz([copy / "export.json", copy / "spaces.json"], mutations.JSON, 200, read)
    fuzz([copy / "weights.safetensors"], mutations.SAFETENSORS, 200, read)
    fuzz([copy / "config.yaml"], mutations.YAML, 120, read)


def test_checkpoints(run: Path) -> None:
    """One that is accepted is the one that was written."""
    *others, last = sorted((run / "checkpoints").glob("*.pt"))
    for path in others:
        path.unlink()
    expected = RunDirectory(run).read_checkpoint()["weights"]["model"]

    def read() -> None:
        got = RunDirectory(run).read_checkpoint()["weights"]["model"]
        assert got.keys() == expected.keys()
        assert all(torch.equal(got[name], expected[name]) for name in expected), "other weights"

    flips = [mutations.flip, mutations.flip, mutations.truncate, mutations.blank, mutations.insert]
    fuzz([last], flips, 150, read)


def test_checkpoints_that_somebody_made(run: Path) -> None:
    for path in sorted((run / "checkpoints").glob("*.pt"))[:-1]:
        path.unlink()
    fuzz(list((run / "checkpoints").glob("*.pt")), mutations.ARCHIVE, 50, lambda: load_run(run).parts)


# ---- sweeps --------------------------------------------------------------------------------------


def test_sweeps(release: Path, tmp_path: Path) -> None:
    copy = tmp_path / "sweep"
    shutil.copytree(release / "sweep", copy)
    job = next(iter(copy.glob("*/run.json"))).parent
    (job / FAILURE_FILE).write_text('ConfigError: x\n["seed=0"]\n\ntrace\n')

    def read() -> None:
        sweep = SweepDirectory(copy)
        sweep.check(sweep.overrides())
        for each in sweep.begun():
            sweep.state(each)
            load_evaluation(each)
            sweep.failure(each)
            if (each / FAILURE_FILE).exists():
                sweep.failed_with(each)

    fuzz([copy / "sweep.json"], mutations.JSON, 150, read)
    fuzz([job / "evaluation.json", job / "run.json"], mutations.JSON, 100, read, refused=0)
    (job / "run.json").unlink()
    fuzz([job / FAILURE_FILE], [*mutations.BYTES, *mutations.TEXT], 150, read, refused=0)


# ---- pieces that are built -----------------------------------------------------------------------


def test_pieces_of_configs(run: Path) -> None:
    fuzz([run / "config.yaml"], [mutations.yaml_value], 40, lambda: load_run(run).model)


def test_pieces_of_exports(release: Path, tmp_path: Path) -> None:
    copy = tmp_path / "export"
    shutil.copytree(release / "exports" / "ppo", copy)
    files = [copy / "config.yaml", copy / "spaces.json", copy / "export.json"]
    fuzz(files[1:], [mutations.json_value], 30, lambda: load_run(copy).policy)
    fuzz(files[:1], [mutations.yaml_value], 30, lambda: load_run(copy).policy)


# ---- files from elsewhere ------------------------------------------------------------------------


def test_worlds(release: Path, tmp_path: Path) -> None:
    world = tmp_path / "ramp.yaml"
    shutil.copy(release / "ramp.yaml", world)

    def read() -> None:
        env = wmplay.make_env("lcd", world=str(world))
        env.reset(seed=0)
        env.step(env.action_space.sample())

    fuzz([world], mutations.YAML, 150, read)


def test_arbiters(tmp_path: Path) -> None:
    file = tmp_path / "luxo.npz"
    shutil.copy(shipped("luxo"), file)
    fuzz([file], mutations.ARCHIVE, 200, lambda: load_arbiter("luxo", file))


def test_recorded_episodes(store: Path, tmp_path: Path) -> None:
    export_data(store, "npz", tmp_path / "npz")
    formats = data_format("npz")

    def read() -> None:
        list(formats.read(tmp_path / "npz"))
        formats.read_metadata(tmp_path / "npz")

    fuzz(sorted((tmp_path / "npz").glob("*.npz"))[:2], mutations.ARCHIVE, 300, read)
    fuzz([tmp_path / "npz" / "metadata.json"], mutations.JSON, 150, read)
