"""JSON and YAML of strangers: plain values, or one line at once, whatever the file declares."""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from wmplay.errors import RunError
from wmplay.system.reading import DEPTH, JSON_BYTES, YAML_BYTES, read_json, read_yaml

BOMB = "a: &a [x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in itertools.pairwise("abcdefghi")
)
KEYS = ", ".join(f"k{i}: 0" for i in range(500))

BAD_YAML: dict[str, str | bytes] = {
    "aliases that multiply": BOMB,
    "an alias of itself": "a: &a [*a]",
    "an alias to nothing": "a: *b",
    "merges that multiply": f"a: &a {{{KEYS}}}\nb: {{<<: [{', '.join(['*a'] * 500)}]}}",
    "lists in lists": "[" * (DEPTH + 1) + "]" * (DEPTH + 1),
    "lists in lists without end": "[" * (YAML_BYTES - 1),
    "dashes": "- " * (YAML_BYTES // 2 - 1),
    "question marks": "? " * (YAML_BYTES // 2 - 1),
    "depth by aliases": f"a: &a {'[' * 30}{']' * 30}\nb: {'[' * 30}*a{']' * 30}",
    "many values": "[" + "1," * 20_000 + "]",
    "many keys": "".join(f"k{i}: 1\n" for i in range(20_000)),
    "a large file": "#" * (YAML_BYTES + 1),
    "a Python object": "!!python/object/apply:os.system ['true']",
    "bytes": "a: !!binary aGk=",
    "a tag of its own": "a: !mine 1",
    "two documents": "a: 1\n---\nb: 2",
    "a key twice": "a: 1\na: 2",
    "a key twice, deep": "a: {b: {c: 1, c: 2}}",
    "a list as a key": "? [a]\n: b",
    "UTF-16": "a: 1".encode("utf-16"),
    "Latin-1": b"a: \xe4",
    "null bytes": b"a: \0",
    "a digit too many": "a: " + "9" * 5000,
    "no number": "a: 0x_",
    "half a pair": 'a: "\\ud800"',
    "no YAML": "a: [",
}
BAD_JSON: dict[str, str | bytes] = {
    "lists in lists": "[" * (DEPTH + 1) + "]" * (DEPTH + 1),
    "lists in lists without end": "[" * 300_000,
    "objects in objects": '{"a":' * 100_000,
    "many values": "[" + "[]," * 400_000 + "[]]",
    "a large file": '"' + "x" * JSON_BYTES + '"',
    "a key twice": '{"a": 1, "b": {"c": 1, "c": 2}}',
    "UTF-16": "[]".encode("utf-16"),
    "Latin-1": b'["\xe4"]',
    "a digit too many": "9" * 5000,
    "half a pair": '["\\ud800"]',
    "no JSON": "{",
    "nothing": "",
}


def refused_at_once(read: Any, path: Path, content: str | bytes) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    began = time.process_time()  # of this process: others do not count
    with pytest.raises(RunError) as caught:
        read(path, RunError)
    assert time.process_time() - began < 1
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("content", BAD_YAML.values(), ids=BAD_YAML)
def test_bad_yaml_is_one_line_at_once(tmp_path: Path, content: str | bytes) -> None:
    refused_at_once(read_yaml, tmp_path / "x.yaml", content)


@pytest.mark.parametrize("content", BAD_JSON.values(), ids=BAD_JSON)
def test_bad_json_is_one_line_at_once(tmp_path: Path, content: str | bytes) -> None:
    refused_at_once(read_json, tmp_path / "x.json", content)


@pytest.mark.parametrize("read", [read_yaml, read_json])
def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path, read: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link", "."):
        with pytest.raises(RunError):
            read(tmp_path / name, RunError)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing", RunError)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        read(tmp_path / "file" / "x", RunError)


def test_good_yaml_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    text = "a: &a {x: 1, y: 1.0e-06}\nb: {<<: *a, x: 2}\n"
    text += "c: [1e-3, .inf, 2001-01-01, on, null, '${oc.env:HOME}', ä]"
    path.write_text("\ufeff" + text, encoding="utf-8")
    assert read_yaml(path, RunError) == {
        "a": {"x": 1, "y": 1e-6},
        "b": {"x": 2, "y": 1e-6},
        "c": [1e-3, float("inf"), "2001-01-01", True, None, "${oc.env:HOME}", "ä"],
    }


def test_good_json_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    value = {"a": [1, None, {"b": float("inf")}], "c": "\U0001f600"}
    for text in (json.dumps(value), "\ufeff" + json.dumps(value, ensure_ascii=False)):
        path.write_text(text, encoding="utf-8")
        assert read_json(path, RunError) == value
