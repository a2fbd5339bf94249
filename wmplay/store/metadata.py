"""Metadata of a store's whole data, in ``metadata.json`` next to the manifest.

wmplay keeps the provenance of the trajectories in it, under ``made_with``; all other entries come from
imported data. An export of the store includes all entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wmplay.contracts import Provenance
from wmplay.errors import StoreError, WorldError, WriteError
from wmplay.store.provenance import as_origin, in_words, same_world
from wmplay.system.files import write_json, written_beside
from wmplay.system.reading import read_json

METADATA = "metadata.json"
MADE_WITH = "made_with"
SPLIT = "split"  # {part: numbers of its episodes}, if the data's authors have split it


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of the store at ``path``, empty if the file does not exist.

    Raises:
        StoreError: if the file is damaged.
    """
    file = path / METADATA
    try:
        content = read_json(file, StoreError)
    except FileNotFoundError:
        return {}
    if not isinstance(content, dict):
        raise StoreError(
            f"{file} holds a {type(content).__name__}",
            got=type(content).__name__,
            expected="a JSON object",
            advice="restore it or delete it",
        )
    return content


def origins(metadata: dict[str, Any]) -> tuple[Provenance, ...]:
    """Return the provenance of the data with this metadata: the known worlds it comes from."""
    found = metadata.get(MADE_WITH)
    known = [as_origin(each) for each in found] if isinstance(found, list) else []
    return tuple(origin for origin in known if origin is not None)


def check_origins(path: Path, known: Sequence[Provenance], coming: Sequence[Provenance]) -> None:
    """Raise WorldError if trajectories come from another world than those in a store."""
    for origin in coming:
        other = next((one for one in known if not same_world(one, origin)), None)
        if other is not None:
            raise WorldError(
                f"store {path} was made with {in_words(other)}, these trajectories with {in_words(origin)}",
                advice="save them to another store (or give other_world=True, to mix them on purpose)",
            )


@contextmanager
def remembered(
    path: Path, coming: Sequence[Provenance], notes: Callable[[], Mapping[str, Any]], *, is_new: bool
) -> Iterator[None]:
    """Add provenance to a store's metadata, or write a new store's notes, unless the block fails.

    The lock must be held. A store without known provenance stays without. Metadata left by a writer that was
    killed before the store existed is replaced.
    """
    metadata = {**notes()} if is_new else read_metadata(path)
    known = list(origins(metadata))
    added = [origin for origin in coming if origin not in known]
    if added and (is_new or known):
        metadata[MADE_WITH] = [*known, *added]
    elif not is_new:
        yield
        return
    file = path / METADATA
    before = None if is_new or not file.exists() else file.read_bytes()
    if metadata:
        write_json(file, metadata)
    else:
        file.unlink(missing_ok=True)
    try:
        yield
    except BaseException:
        if before is None:
            file.unlink(missing_ok=True)
        else:
            with suppress(WriteError), written_beside(file) as beside:  # with the cause of the block's error
                beside.write_bytes(before)
        raise
