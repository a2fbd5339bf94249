"""Safe opening of HDF5 files that may be malicious: only content stored in the file itself is read.

An HDF5 file can include the content of other files, name filters that are loaded as code, and declare sizes
that no disk has. A file that does any of this is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
from h5py import h5z

from wmplay.errors import DataError

BUILT_IN_FILTERS = {
    h5z.FILTER_DEFLATE,
    h5z.FILTER_SHUFFLE,
    h5z.FILTER_FLETCHER32,
    h5z.FILTER_SZIP,
    h5z.FILTER_NBIT,
    h5z.FILTER_SCALEOFFSET,
    h5z.FILTER_LZF,
}
LARGEST_RATIO = 1100  # of bytes declared to bytes stored; deflate reaches 1032
ALWAYS_FINE = 1 << 20  # bytes that may be declared without being stored


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading within the block.

    Raises:
        DataError: if it is not an HDF5 file, or if it refers to other files, links, foreign filters or sizes
            that it does not have.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"cannot read {path} ({error}): expected an HDF5 file", got=path) from error
    with file:
        try:
            problem = _problem(file)
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            raise DataError(f"cannot read {path} ({error})", advice="restore it from a copy") from error
        if problem is not None:
            raise DataError(f"{path}: {problem}")
        yield file


def _problem(file: h5py.File) -> str | None:
    """Return the first forbidden item of a file, as the end of an error, or None."""

    def look(name: str, link: object) -> str | None:
        if not isinstance(link, h5py.HardLink):
            return f"'{name}' is a link to elsewhere, which is not followed: copy what is there into the file"
        item = file[name]
        problem = _of_dataset(item) if isinstance(item, h5py.Dataset) else None
        return None if problem is None else f"'{name}' {problem}"

    problem = file.visititems_links(look)
    return None if problem is None else str(problem)


def _of_dataset(dataset: h5py.Dataset) -> str | None:
    if dataset.is_virtual or dataset.external:
        return "is kept in other files, which are not read: copy its values into this one"
    plist = dataset.id.get_create_plist()
    codes = {plist.get_filter(number)[0] for number in range(plist.get_nfilters())}
    if codes - BUILT_IN_FILTERS:
        return (
            f"is compressed by the filter {min(codes - BUILT_IN_FILTERS)}, a plugin of HDF5 that is not "
            "loaded: write it with gzip or lzf"
        )
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > LARGEST_RATIO * stored + ALWAYS_FINE:
        return f"declares {dataset.nbytes:,} bytes and holds {stored:,}: write it anew, with all its values"
    return None
