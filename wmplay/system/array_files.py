"""Safe reading of ``.npy`` and ``.npz`` files that may be damaged or malicious.

Only numbers and text are read, never a pickle. Memory is allocated for the bytes that a file contains, not
for the size that its header declares.
"""

from __future__ import annotations

import io
import math
import zipfile
from typing import BinaryIO

import numpy as np

from wmplay.system.arrays import Array

HEADER = 1 << 12  # bytes of an array's header at most: numpy parses the header as Python
KINDS = "biufcUS"  # accepted kinds of dtype
LONGEST = 1 << 48  # entries along one axis at most; an array with an empty axis could declare any length
UNPACKED = 1 << 30  # bytes at most of all arrays in an archive, uncompressed


def array_in(content: Array) -> Array:
    """Return the array stored in the bytes [N] uint8 of a ``.npy`` file; the array shares the memory of the
    bytes.

    Raises:
        ValueError: unless the bytes are exactly one array of numbers or text; the message is one line.
    """
    start = io.BytesIO(content[:HEADER].tobytes())
    try:
        version = np.lib.format.read_magic(start)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, in_columns, dtype = read(start, max_header_size=HEADER)
    except Exception as error:  # the header is parsed as Python, which fails in many ways
        raise ValueError(" ".join(f"no header of an array: {error}".split())[:200]) from error
    if dtype.kind not in KINDS or dtype.itemsize == 0:
        raise ValueError(f"it holds {dtype}, expected numbers"[:200])
    if not all(0 <= size <= LONGEST for size in shape):
        raise ValueError(f"it has the shape {list(shape)}"[:200])
    size = start.tell() + math.prod(shape) * dtype.itemsize
    if len(content) != size:
        raise ValueError(f"it has {len(content)} bytes, expected {size} for {dtype} {list(shape)}"[:200])
    flat = np.frombuffer(content, dtype, math.prod(shape), start.tell())
    return flat.reshape(shape, order="F" if in_columns else "C")


def arrays_in(file: BinaryIO, limit: int = UNPACKED) -> dict[str, Array]:
    """Return the arrays in an open ``.npz`` file by name, read-only.

    Args:
        file: open for reading.
        limit: bytes at most of all arrays, uncompressed.

    Raises:
        ValueError: if the archive holds anything but arrays, or two arrays of the same name; one line.
        Exception: of many types, as ``zipfile`` raises them, if the archive is damaged.
    """
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > limit:
            raise ValueError(f"it unpacks to more than {limit:,} bytes")
        names = [entry.filename.removesuffix(".npy") for entry in entries]
        if len(set(names)) < len(names):
            raise ValueError("two of its arrays have the same name")
        return {
            name: array_in(np.frombuffer(archive.read(entry), np.uint8))
            for name, entry in zip(names, entries, strict=True)
        }
