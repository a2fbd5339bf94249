"""Safe reading of JSON and YAML files that may be damaged or malicious.

All such files are read here. Only plain values are accepted; nothing in a file is imported, resolved or
called. A file that is too large, too deep or not text ends in an error of one line within a second.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML without libyaml
    from yaml import SafeLoader

from wmplay.errors import WmplayError

MIB = 2**20
JSON_BYTES = 8 * MIB  # enough for the manifest of 20,000 shards
JSON_VALUES = 400_000  # objects, lists and scalars at most; commas within text count too
YAML_BYTES = MIB // 4  # 60 times the config of a run
YAML_VALUES = 10_000  # mappings, lists and scalars at most, each alias counted as the values it repeats
DEPTH = 48  # nested lists and mappings at most
MERGE = "tag:yaml.org,2002:merge"


def read_json(path: Path, error: type[WmplayError], limit: int = JSON_BYTES) -> Any:
    """Return the value in a JSON file.

    Args:
        path: of the file.
        error: the class to raise for a file that cannot be used.
        limit: its size in bytes at most.

    Raises:
        FileNotFoundError, NotADirectoryError: if the file does not exist.
        error: if the file cannot be read, or if ``parse_json`` refuses it; one line.
    """
    return parse_json(read_bytes(path, error, limit), path, error)


def parse_json(content: bytes, source: Path | str, error: type[WmplayError]) -> Any:
    """Return the value in a JSON text.

    Args:
        content: UTF-8, with or without a byte order mark.
        source: of the text, named in the error.
        error: the class to raise.

    Raises:
        error: for a text that is not JSON or not UTF-8, repeats a key in one object, has more than
            ``JSON_VALUES`` values or ``DEPTH`` levels, or has half a surrogate pair, which cannot be printed;
            one line.
    """
    try:
        text = content.decode("utf-8-sig")
        if sum(map(text.count, ",[{")) > JSON_VALUES:
            raise ValueError(f"it has more than {JSON_VALUES:,} values")
        value = json.loads(text, object_pairs_hook=_unique)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
        _check_depth(value)
    except UnicodeError:
        raise _damaged(source, "it is not UTF-8 text", error) from None
    except RecursionError:  # raised by json or by _check_depth
        raise _damaged(source, f"it nests more than {DEPTH} levels", error) from None
    except ValueError as problem:
        raise _damaged(source, str(problem), error) from None
    return value


def read_yaml(path: Path, error: type[WmplayError], limit: int = YAML_BYTES) -> Any:
    """Return the value in a YAML file: mappings with plain keys, lists, text, numbers, booleans and null.

    Dates stay text, ``1e-3`` is a number, and ``${...}`` is ordinary text.

    Args:
        path: of the file.
        error: the class to raise for a file that cannot be used.
        limit: its size in bytes at most.

    Raises:
        FileNotFoundError, NotADirectoryError: if the file does not exist.
        error: if the file cannot be read, is not UTF-8 or not YAML, repeats a key in one mapping, has a tag,
            or has more than ``YAML_VALUES`` values or ``DEPTH`` levels with all aliases expanded; one line.
    """
    content = read_bytes(path, error, limit)
    try:
        text = content.decode("utf-8-sig")
        _check_events(yaml.parse(text, Loader=_Loader))
        return yaml.load(text, Loader=_Loader)
    except UnicodeError:
        raise _damaged(path, "it is not UTF-8 text", error) from None
    except (yaml.YAMLError, ValueError, TypeError) as problem:
        raise _damaged(path, str(problem), error) from None


def read_bytes(path: Path, error: type[WmplayError], limit: int) -> bytes:
    """Return the bytes of a plain file; a pipe or a device, which may never end, is refused.

    Raises:
        FileNotFoundError, NotADirectoryError: if the file does not exist.
        error: if it is not a plain file, is larger than ``limit`` or cannot be read; one line.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise _damaged(path, "it is no plain file", error)
            content = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except IsADirectoryError:
        raise _damaged(path, "it is no plain file", error) from None
    except OSError as problem:
        raise error(f"cannot read {path} ({problem.strerror}): check its permissions") from None
    if len(content) > limit:
        raise _damaged(path, f"it is larger than {limit:,} bytes", error)
    return content


def _damaged(source: Path | str, problem: str, error: type[WmplayError]) -> WmplayError:
    return error(f"{source} is damaged ({' '.join(problem.split())}): fix it, or restore it from a copy")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"it has the key {key!r} twice in one object")
    return found


def _check_depth(value: Any) -> None:
    """Raise RecursionError for a value of more than ``DEPTH`` levels."""
    level = [[value]]
    for _ in range(DEPTH + 1):
        parts = [part for parts in level for part in parts if isinstance(part, dict | list)]
        if not parts:
            return
        level = [list(part.values()) if isinstance(part, dict) else part for part in parts]
    raise RecursionError


def _check_events(events: Iterable[Any]) -> None:
    """Count the values of a YAML text with each alias expanded, before any value is built.

    Raises:
        ValueError: for too many values or levels, an alias within its own value, a tag, or a second document.
    """
    anchored: dict[str, tuple[int, int]] = {}  # of complete values: the number of values, and of levels
    around: list[tuple[str | None, int, int]] = [(None, 0, 0)]  # the same of values that are still open
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent) and around[0][1]:
            raise ValueError("it has a second document")
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
            raise ValueError(f"line {event.start_mark.line + 1} has a tag, {event.tag[:40]!r}")
        if isinstance(event, yaml.CollectionStartEvent):
            around.append((event.anchor, 0, 0))
            if len(around) > DEPTH + 1:
                raise ValueError(f"it nests more than {DEPTH} levels")
            continue
        if isinstance(event, yaml.ScalarEvent):
            anchor, values, levels = event.anchor, 1, 0
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchored:
                raise ValueError(f"line {event.start_mark.line + 1} has an alias to nothing before it")
            anchor, (values, levels) = None, anchored[event.anchor]
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, values, levels = around.pop()
            values, levels = values + 1, levels + 1
        else:
            continue
        if anchor is not None:
            anchored[anchor] = values, levels
        outer, so_far, deepest = around[-1]
        around[-1] = outer, so_far + values, max(deepest, levels)
        if so_far + values > YAML_VALUES:
            raise ValueError(f"it has more than {YAML_VALUES:,} values")
        if len(around) - 1 + levels > DEPTH:
            raise ValueError(f"it nests more than {DEPTH} levels")


class _Loader(SafeLoader):  # type: ignore[misc]
    """PyYAML's safe loader, with numbers and dates as in OmegaConf, and without repeated keys."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys: set[Any] = set()
        for key_node, _ in node.value:
            where = f"line {key_node.start_mark.line + 1}"
            if not isinstance(key_node, yaml.ScalarNode):
                raise ValueError(f"{where} has a key that is no plain text or number")
            key = None if key_node.tag == MERGE else self.construct_object(key_node)
            if key in keys:
                raise ValueError(f"{where} has the key {key!r} for the second time")
            keys.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":value"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
