"""Between a store and other formats: the work of ``wmplay data info|import|export``.

What a format says of its data as a whole (env, spaces, author, ...) is kept next to the store's manifest, in
``metadata.json``, and goes along when the store is exported.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from wmplay.contracts import Trajectory
from wmplay.errors import DataError
from wmplay.formats import FORMATS, READ_ONLY, data_format
from wmplay.formats.encoding import ARRAYS, OURS, Encoding
from wmplay.formats.spaces import described
from wmplay.store import Store, load_trajectories, save_trajectories
from wmplay.store.manifest import exists as is_store
from wmplay.store.metadata import check_origins, origins, read_metadata
from wmplay.store.shard import INFO
from wmplay.system.printing import say
from wmplay.system.progress import bar, console, terminal


def import_data(
    name: str,
    source: Path,
    out: Path,
    *,
    rename: Mapping[str, str] | None = None,
    episode_length: int | None = None,
) -> Store:
    """Read data in another format into a store, with observations named and encoded as ``env=gym`` does.

    Args:
        name: of the format.
        source: where the data is.
        out: the store; created, or appended to, and then its own metadata stays.
        rename: {name: other name} of observations.
        episode_length: of data in D4RL's layout that does not say where episodes end, in steps.

    Raises:
        DataError: for data that is not there or has a hole. The store is then as before.
        StoreError: for data that does not fit into the store.
        WorldError: for data that is of another world than the store's.
    """
    chosen = data_format(name)
    _check_plain(source)
    options = {} if episode_length is None else {"episode_length": episode_length}
    if options and name != "hdf5":
        raise DataError(
            f"an episode length is for hdf5 in D4RL's layout, {name} data says where episodes end", got=name
        )
    total, metadata = chosen.count(source, **options), chosen.read_metadata(source)
    encoding = Encoding(str(source), metadata, rename or {})
    if is_store(out):
        check_origins(out, load_trajectories(out).made_with, origins(metadata))

    def notes() -> Mapping[str, Any]:
        known = metadata | described(encoding.spaces)
        left_out = {*metadata.get("left_out", []), *encoding.left_out}
        return known | ({"left_out": sorted(left_out)} if left_out else {})

    try:
        read = map(encoding, chosen.read(source, **options))
        store = save_trajectories(_shown("import", read, total), out, notes=notes)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"nothing was added to {out}") from None
    if encoding.left_out:
        console.print(f"texts are left out: {', '.join(sorted(encoding.left_out))}", markup=False)
    console.print(f"{out}: {len(store):,} episodes, {store.steps:,} steps")
    return store


def export_data(source: Path, name: str, out: Path) -> None:
    """Write a store in another format.

    Args:
        source: the store.
        name: of the format.
        out: a path that is free.

    Raises:
        DataError: something is there already, or the format cannot hold this data.
        StoreError: there is no store, or it is damaged.
        WriteError: no space, no permission; nothing is left behind.
    """
    chosen = data_format(name)
    if name in READ_ONLY:
        raise DataError(
            f"{name} data is read, not written",
            got=name,
            advice=f"choose from {', '.join(sorted(FORMATS.keys() - READ_ONLY))}",
        )
    store = load_trajectories(source)
    if out.exists():
        raise DataError(f"{out} is there already", got=out, advice="choose another name, or move it away")
    metadata = {**read_metadata(source), ARRAYS: OURS}
    chosen.write(_shown("export", store, len(store)), out, metadata)
    console.print(f"{out}: {len(store):,} episodes, {store.steps:,} steps")


def print_info(path: Path) -> None:
    """Print what is in a store: episodes, how they end, returns, and each array's dtype and shape.

    Raises:
        StoreError: there is no store, or it is damaged.
    """
    store = load_trajectories(path)
    ends = np.zeros(2, np.int64)
    infos: dict[str, list[float]] = {}
    returns = np.zeros(len(store))
    for number, trajectory in enumerate(store):
        ends += trajectory.terminated[-1], trajectory.truncated[-1]
        returns[number] = trajectory.reward.sum(dtype=np.float64)
        for name, values in trajectory.info.items():
            infos.setdefault(f"{INFO}{name}", []).append(float(values.mean(dtype=np.float64)))
    say(f"{path}: {len(store):,} episodes, {store.steps:,} steps")
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    if len(store):
        shortest, middle, longest = np.quantile(store.lengths, [0, 0.5, 1])
        table.add_row("steps of an episode", f"{shortest:.0f} to {longest:.0f}, median {middle:.0f}")
        table.add_row("return", f"{returns.min():.4g} to {returns.max():.4g}, mean {returns.mean():.4g}")
    table.add_row(
        "ends", f"{ends[0]:,} terminated, {ends[1]:,} truncated, {len(store) - ends.sum():,} just cut"
    )
    for name, column in store.space.items():
        means = np.array(infos.get(name, []))
        known = means[~np.isnan(means)]
        span = f", means of episodes from {known.min():.4g} to {known.max():.4g}" if len(known) else ""
        table.add_row(name, f"{column}{span}")
    for key, value in read_metadata(path).items():
        table.add_row(f"metadata: {key}", str(value))
    terminal(markup=False).print(table)


def _check_plain(source: Path) -> None:
    """Raise DataError for a link, a pipe or a device at a path or in that folder."""
    inside = [Path(folder) / each for folder, *names in os.walk(source) for each in chain(*names)]
    for path in [source.resolve(), *inside]:
        kind = os.lstat(path).st_mode if os.path.lexists(path) else stat.S_IFREG
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise DataError(
                f"{path} is a link to elsewhere, a pipe or a device, which is not read",
                got=path,
                advice="import a copy of the data that holds the files themselves (cp -rL)",
            )


def _shown(title: str, trajectories: Iterable[Trajectory], total: int) -> Iterator[Trajectory]:
    with bar(title, total, "episodes") as advance:
        for number, trajectory in enumerate(trajectories, start=1):
            yield trajectory
            advance(number, "")
