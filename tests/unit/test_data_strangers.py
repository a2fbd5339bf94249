"""Data of strangers: all that is imported is in the file or folder that was named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from episodes import episode
from refusals import refused

from wmplay.errors import DataError
from wmplay.formats import data_format
from wmplay.formats.hdf5.files import opened
from wmplay.formats.transfer import import_data

TOY = Path(__file__).parents[1] / "fixtures" / "lerobot_toy"
SECRET = np.arange(6.0).reshape(3, 2)


@pytest.fixture
def _secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with h5py.File("secret.h5", "w") as file:
        file["x"] = SECRET
        file["group/x"] = SECRET
    Path("raw").write_bytes(SECRET.tobytes())


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 2), "f8")
    layout[:] = h5py.VirtualSource("secret.h5", "x", (3, 2))
    file.create_virtual_dataset("deep/observation", layout)


def put(name: str, value: object) -> Callable[[h5py.File], None]:
    return lambda file: file.__setitem__(name, value)


ELSEWHERE: dict[str, Callable[[h5py.File], object]] = {
    "external link": put("e/observation", h5py.ExternalLink("secret.h5", "/x")),
    "external link to a group": put("e", h5py.ExternalLink("secret.h5", "/group")),
    "external link to the file itself": put("e/x", h5py.ExternalLink("it.h5", "/whole")),
    "soft link": put("e/observation", h5py.SoftLink("/whole/x")),
    "soft link to nothing": put("e", h5py.SoftLink("/nowhere")),
    "virtual": virtual,
    "external": lambda file: file.create_dataset("x", (3, 2), "f8", external=[("raw", 0, 48)]),
    "declared": lambda file: file.create_dataset("x", (10**15,), "f4"),
    "declared in chunks": lambda file: file.create_dataset("x", (10**15,), "f4", chunks=(999,)),
}


@pytest.mark.usefixtures("_secret")
@pytest.mark.parametrize("how", ELSEWHERE)
@pytest.mark.parametrize("name", ["hdf5", "minari"])
def test_hdf5_follows_nothing(how: str, name: str) -> None:
    source = Path("it.h5")
    if name == "minari":
        data_format("minari").write([episode(0, 5)], Path("d-v0"), {})
        source = Path("d-v0")
    file = source if name == "hdf5" else source / "data" / "main_data.hdf5"
    with h5py.File(file, "a") as opened_file:
        opened_file["whole/x"] = np.zeros(3)
        ELSEWHERE[how](opened_file)
    with pytest.raises(DataError):
        import_data(name, source, Path("store"))
    assert not Path("store").exists()


@pytest.mark.usefixtures("_secret")
def test_what_a_file_may_have() -> None:
    with h5py.File("fine.h5", "w") as file:
        file["a/x"] = np.zeros((3, 2))
        file["b"] = file["a"]  # a second name of the same
        file["a/again"] = file  # a circle
        file["text"], file["type"], file["none"] = "words", np.dtype("f4"), h5py.Empty("f4")
        for filters in ({"compression": "gzip"}, {"compression": "lzf", "shuffle": True, "fletcher32": True}):
            file.create_dataset(str(filters), data=np.zeros(10**6), **filters)
    with opened(Path("fine.h5")) as file:
        assert len(file) == 7


def test_a_filter_that_is_a_plugin_is_not_loaded(tmp_path: Path) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((3,))
    plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))  # zstd
    with h5py.File(tmp_path / "d.h5", "w") as file:
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_DOUBLE, space, plist)
    with refused(DataError, "32015"), opened(tmp_path / "d.h5"):
        pass


@pytest.mark.parametrize("name", ["npz", "minari", "lance", "lerobot"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_folder_holds_its_files_itself(tmp_path: Path, name: str, kind: str) -> None:
    source = tmp_path / "d-v0"
    if name == "lerobot":
        shutil.copytree(TOY, source)
    else:
        data_format(name).write([episode(0, 5), episode(1, 5)], source, {"author": "me"})
    files = sorted(path for path in source.rglob("*") if path.is_file())
    (tmp_path / "elsewhere").mkdir()
    victim = files[-1] if kind != "folder" or files[-1].parent == source else files[-1].parent
    moved = victim.rename(tmp_path / "elsewhere" / victim.name)
    if kind == "pipe":
        os.mkfifo(victim)
    else:
        victim.symlink_to(moved)
    with refused(DataError, got=victim, advice="cp"):
        import_data(name, source, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_the_place_itself_may_be_a_link(tmp_path: Path) -> None:
    data_format("npz").write([episode(0, 5)], tmp_path / "data", {})
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert len(import_data("npz", tmp_path / "link", tmp_path / "store")) == 1


@pytest.mark.parametrize(
    "path", ["../{video_key}.mp4", "/{video_key}.mp4", "{video_key.__class__.x}", "{none}"]
)
def test_videos_are_in_the_dataset(tmp_path: Path, path: str) -> None:
    source = tmp_path / "d"
    shutil.copytree(TOY, source)
    info = json.loads((source / "meta" / "info.json").read_text())
    (source / "meta" / "info.json").write_text(json.dumps({**info, "video_path": path}))
    with pytest.raises(DataError):
        import_data("lerobot", source, tmp_path / "store")


def test_a_video_is_no_list_of_files(tmp_path: Path) -> None:
    source = tmp_path / "d"
    shutil.copytree(TOY, source)
    for video in source.rglob("*.mp4"):
        video.write_text(
            "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
        )
    with refused(DataError, (video, "video")):
        import_data("lerobot", source, tmp_path / "store")
