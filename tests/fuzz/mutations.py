"""Damage of every kind to a file's bytes: by chance, and by somebody who knows the format."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import yaml

Rng = np.random.Generator
Mutate = Callable[[bytes, Rng], bytes]

DEEP = "[" * 100_000
HOSTILE: list[Any] = [
    *(None, True, False, 0, -1, 1, 3, 2**31, 2**63, 2**64, -(2**63), 10**30, 1.5, -0.0, 1e308, 5e-324),
    *(float("nan"), float("inf"), -float("inf"), "", "a", "0", "nan", "true", "..", "../../x", "/dev/zero"),
    *("/proc/self/mem", "\0", "a\nb", "\x1b[31mred\x1b[0m", "\u202e", "\ud800", "x" * 5000, "${oc.env:HOME}"),
    *("object", "builtins.exec", "os.system", "__class__"),
    *([], {}, [[]], [None], {"": None}, {"_target_": "os.getcwd"}),
    [1] * 3000,
]  # fmt: skip
TEXTS = [
    *("", " ", "\n", "null", "true", "0", "-1", '""', "[]", "{}", "[[[[", "{{{{", DEEP),
    *('{"a":' * 100_000, "9" * 5000, "%YAML 9.9\n---\n"),
    *("NaN", "Infinity", "1e999", "'", '"', "\\", "\0", "\ufeff", "\ufffd", "&a [*a]", "*a"),
    "!!python/name:os.system",
    *("!!python/object/apply:os.getcwd []", "${oc.env:HOME}", "a: ${a}", "? [a]\n: b", "- - - -"),
    *("a: 1\na: 2", "\t- a", "{a: 1, a: 2}", "2026-01-01", "0x7fffffffffffffffff", "1_000:59:59"),
    "\n".join([f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 'x'}]" for i in range(12)]),
]  # fmt: skip
ENCODINGS = ["utf-16", "utf-32", "utf-8-sig", "utf-7", "cp037"]
NPY = "{'descr': %s, 'fortran_order': %s, 'shape': %s, }"
DESCRS = [
    "'|O'",
    "'<f4'",
    "'>f8'",
    "'|u1'",
    "'<U9'",
    "'|V8'",
    "'<M8[s]'",
    "[('a', '<f4')]",
    "'(2,)<i4'",
    "3",
    "None",
    "'f'",
]
SHAPES = [
    "()",
    "(0,)",
    "(-1,)",
    "(3,)",
    "(10**9, 10**9)",
    f"({2**40},)",
    f"({10**30},)",
    "(True,)",
    "(1.5,)",
    "None",
    "[3]",
]


# ---- any file ------------------------------------------------------------------------------------


def flip(content: bytes, rng: Rng) -> bytes:
    """One to three bits."""
    changed = bytearray(content)
    for place in rng.integers(len(changed), size=rng.integers(1, 4)):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def truncate(content: bytes, rng: Rng) -> bytes:
    return content[: rng.integers(len(content))]


def insert(content: bytes, rng: Rng) -> bytes:
    place = rng.integers(len(content) + 1)
    return content[:place] + rng.bytes(int(rng.integers(1, 20))) + content[place:]


def remove(content: bytes, rng: Rng) -> bytes:
    start = rng.integers(len(content))
    return content[:start] + content[start + rng.integers(1, 200) :]


def repeat(content: bytes, rng: Rng) -> bytes:
    start, length = rng.integers(len(content)), rng.integers(1, 200)
    return content[: start + length] + content[start:]


def blank(content: bytes, rng: Rng) -> bytes:
    """A page that was never written."""
    start, length = rng.integers(len(content)), int(rng.integers(1, 4096))
    return content[:start] + bytes(min(length, len(content) - start)) + content[start + length :]


def replace(content: bytes, rng: Rng) -> bytes:
    return pick(
        [b"", b"\0" * 64, rng.bytes(300), b"PK\3\4", b"\x80\4.", b"\x93NUMPY\1\0v\0", content * 2], rng
    )


BYTES: list[Mutate] = [flip, flip, truncate, insert, remove, repeat, blank, replace]


# ---- text ----------------------------------------------------------------------------------------


def encode(content: bytes, rng: Rng) -> bytes:
    return content.decode().encode(pick(ENCODINGS, rng), errors="replace")


def other_text(content: bytes, rng: Rng) -> bytes:
    """Somebody's text in place of it all, or somewhere in it."""
    text = pick(TEXTS, rng).encode()
    if rng.random() < 0.5:
        return text
    lines = content.split(b"\n")
    place = rng.integers(len(lines))
    return b"\n".join([*lines[:place], text, *lines[place + int(rng.integers(2)) :]])


def json_value(content: bytes, rng: Rng) -> bytes:
    return json.dumps(changed(json.loads(content), rng)).encode()


def jsonl_value(content: bytes, rng: Rng) -> bytes:
    lines = content.splitlines()
    place = int(rng.integers(len(lines)))
    lines[place] = json_value(lines[place], rng)
    return b"\n".join(lines) + b"\n"


def yaml_value(content: bytes, rng: Rng) -> bytes:
    value = changed(yaml.safe_load(content), rng)
    return yaml.safe_dump(value, allow_unicode=bool(rng.integers(2))).encode(errors="surrogatepass")


def changed(value: Any, rng: Rng) -> Any:
    """A value with one part set to something else, taken out, called otherwise or nested deep."""
    places = list(_places(value))
    around, key = places[rng.integers(len(places))]
    how = rng.integers(10)
    if how == 0:
        del around[key]
    elif how == 1 and isinstance(around, dict):
        around[pick(["", "../x", "a.b", "\0", "_target_", f"{key}s", "\u00e9", "\ud800"], rng)] = around.pop(
            key
        )
    elif how == 2:
        deep: Any = around[key]
        for _ in range(pick([3, 60, 90], rng)):
            deep = [deep] if rng.random() < 0.5 else {"a": deep}
        around[key] = deep
    elif how == 3 and isinstance(around[key], int | float) and not isinstance(around[key], bool):
        around[key] = pick(
            [-around[key], around[key] + 1, around[key] * 1000, str(around[key]), [around[key]]], rng
        )
    elif how == 4:
        other, name = places[rng.integers(len(places))]
        around[key] = json.loads(json.dumps(other[name]))  # a copy: not within itself
    else:
        around[key] = pick(HOSTILE, rng)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every part of a value."""
    keys: Any = (
        list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield value, key
        yield from _places(value[key])


TEXT: list[Mutate] = [encode, other_text, other_text]
JSON: list[Mutate] = [*BYTES, *TEXT, *[json_value] * 9]
JSONL: list[Mutate] = [*BYTES, *TEXT, *[jsonl_value] * 5]
YAML: list[Mutate] = [*BYTES, *TEXT, *[yaml_value] * 9]


# ---- arrays and archives -------------------------------------------------------------------------


def npy_header(content: bytes, rng: Rng) -> bytes:
    """Another header in front of the same data, or a version of the format that is not."""
    if content[:6] != b"\x93NUMPY":
        return flip(content, rng)
    size = struct.unpack("<H", content[8:10])[0]
    data = content[10 + size :]
    ours = NPY % (pick(DESCRS, rng), pick(["False", "True", "0"], rng), pick(SHAPES, rng))
    text = pick([ours, ours, ours, content[10 : 10 + size].decode()[: rng.integers(size)], *TEXTS[:20]], rng)
    header = text.encode()[:60_000] + b"\n"
    version = pick([b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\xff\xff"], rng)
    length = struct.pack("<H", pick([len(header), len(header), 0, 65535], rng))
    return b"\x93NUMPY" + version + length + header + data


def zip_entry(content: bytes, rng: Rng) -> bytes:
    """One entry that is another, gone, called otherwise or there twice, in an archive that is sound."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    place = int(rng.integers(len(entries)))
    name, data = entries[place]
    how = rng.integers(6)
    if how == 0:
        del entries[place]
    elif how == 1:
        renamed = [
            "",
            "x",
            "../x.npy",
            "/etc/x",
            "a" * 300,
            f"{name}x",
            name.replace("/", "."),
            "-1/action.npy",
            "é.npy",
        ]
        entries[place] = pick(renamed, rng), data
    elif how == 2:
        entries.append((name, pick(entries, rng)[1]))
    elif how == 3 and data:
        entries[place] = name, pick(BYTES, rng)(data, rng)
    else:
        entries[place] = name, npy_header(data, rng)
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(packed, "w", pick([0, zipfile.ZIP_DEFLATED], rng)) as archive,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of a name that is there twice
        for each, text in entries:
            archive.writestr(each or "empty", text)
    return packed.getvalue()


def zip_record(content: bytes, rng: Rng) -> bytes:
    """A field of one of the archive's own records: sizes, offsets, flags, methods, names."""
    starts = [i for mark in (b"PK\1\2", b"PK\3\4", b"PK\5\6") for i in _found(content, mark)]
    if not starts:
        return flip(content, rng)
    place = pick(starts, rng) + int(rng.integers(4, 46))
    value = pick([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", rng.bytes(2)], rng)
    return content[:place] + value + content[place + len(value) :]


def zip_bomb(content: bytes, rng: Rng) -> bytes:
    """An entry of 3 GiB of zeros would be too slow to make: one that says that it is as large."""
    del content
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        header = (NPY % ("'|u1'", "False", f"({3 << 30},)")).encode() + b"\n"
        archive.writestr(
            "context.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(10**6)
        )
    return packed.getvalue()


def safetensors_header(content: bytes, rng: Rng) -> bytes:
    size = struct.unpack("<Q", content[:8])[0]
    header = json_value(content[8 : 8 + size], rng)
    length = pick([len(header), len(header), len(header), 0, 2**40, 2**63], rng)
    return struct.pack("<Q", length) + header + content[8 + size :]


def _found(content: bytes, mark: bytes) -> Iterator[int]:
    place = content.find(mark)
    while place >= 0:
        yield place
        place = content.find(mark, place + 1)


ARRAY: list[Mutate] = [*BYTES, *[npy_header] * 8]
ARCHIVE: list[Mutate] = [*BYTES, *[zip_entry] * 8, *[zip_record] * 3, zip_bomb]
SAFETENSORS: list[Mutate] = [*BYTES, *[safetensors_header] * 8]


def pick(options: Any, rng: Rng) -> Any:
    return options[int(rng.integers(len(options)))]
