"""What is known of a store's data as a whole: ``metadata.json``, beside the manifest.

wmplay itself keeps the origins of the trajectories there, under ``made_with``; whatever else is in it came
with imported data. All of it goes along when the store is exported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wmplay.errors import StoreError, WorldError, WriteError
from wmplay.store.provenance import Origin, as_origin, in_words, same_world
from wmplay.system.files import write_json, written_beside
from wmplay.system.reading import read_json

METADATA = "metadata.json"
MADE_WITH = "made_with"
SPLIT = "split"  # {part: numbers of its episodes}, where the data's authors have split it


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of the store at ``path``; none where there is no file.

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
            f"{file} holds a {type(content).__name__}, expected a JSON object: restore it or delete it"
        )
    return content


def origins(metadata: dict[str, Any]) -> tuple[Origin, ...]:
    """Which worlds data of this metadata is of, as far as it is known."""
    found = metadata.get(MADE_WITH)
    known = [as_origin(each) for each in found] if isinstance(found, list) else []
    return tuple(origin for origin in known if origin is not None)


def check_origins(path: Path, known: Sequence[Origin], coming: Sequence[Origin]) -> None:
    """Whether trajectories may join a store. Raises WorldError for those of another world than is in it."""
    for origin in coming:
        other = next((one for one in known if not same_world(one, origin)), None)
        if other is not None:
            raise WorldError(
                f"store {path} was made with {in_words(other)}, these trajectories with {in_words(origin)}: "
                "save them to another store (or give other_world=True, to mix them on purpose)"
            )


@contextmanager
def remembered(
    path: Path, coming: Sequence[Origin], notes: Callable[[], Mapping[str, Any]], *, is_new: bool
) -> Iterator[None]:
    """Add origins to those of the store, and notes to a new one, unless the block fails. The lock is held.

    A store that does not know its own origins stays without. What a writer left that was killed before there
    was a store is forgotten.
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
            with suppress(WriteError), written_beside(file) as beside:  # of the block's error's cause
                beside.write_bytes(before)
        raise
