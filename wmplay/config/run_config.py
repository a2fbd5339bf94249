"""The config of a run on disk: pieces by name, and plain values.

A loaded config may come from a stranger. It is data: nothing in it is imported, called or resolved, and an
entry that would make another part of the program do so is refused at loading.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from wmplay.config.constructors import SHOWN, shortened
from wmplay.config.kinds import KINDS, PIECE, TARGET
from wmplay.config.references import MOVED, with_reference
from wmplay.errors import RunError
from wmplay.system.files import written_beside
from wmplay.system.reading import read_yaml

MODULE_AND_NAME = re.compile(r"\s*[^\W\d][\w.]*\s*:\s*\S.*", re.DOTALL)  # as Gymnasium's "module:Name-v0"


def read_config(path: Path) -> dict[str, Any]:
    """Return the config of a run or of an exported run.

    Raises:
        FileNotFoundError: if the file does not exist.
        RunError: in one line, if the file cannot be read, holds no config, or holds an entry that is more
            than data: an interpolation (``${...}``), a missing value (``???``), the name of a piece or a
            class outside of a piece's key, or a module to import.
    """
    content = read_yaml(path, RunError)
    if not isinstance(content, dict):
        raise RunError(f"{path} is not the config of a run")
    for kind in KINDS:
        if isinstance(content.get(kind), Mapping):
            old = content[kind].get(TARGET)
            content[kind] = with_reference(content[kind], MOVED.get(old) if isinstance(old, str) else None)
    check_data(path, content)
    try:
        config = OmegaConf.to_container(OmegaConf.create(content))
    except OmegaConfBaseException as error:
        raise RunError(f"{path} is not the config of a run: {' '.join(str(error).split())}") from None
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def write_config(path: Path, config: Mapping[str, Any]) -> None:
    """Write a run's config atomically, without the modules of Gymnasium ids ``module:Name-v0``.

    Raises:
        WriteError: without space or permission.
    """
    written = OmegaConf.create(dict(config))
    for key in ("env.id", "collect.env.id"):
        env_id = OmegaConf.select(written, key)
        if isinstance(env_id, str):
            OmegaConf.update(written, key, env_id.rpartition(":")[2])
    with written_beside(path) as beside:
        OmegaConf.save(written, beside)


def check_data(source: Path, content: Mapping[str, Any], above: tuple[str, ...] = ()) -> None:
    """Raise RunError for a value of a config that is more than data; see ``read_config``.

    Args:
        source: the file that it is from.
        content: the config, or a part of it.
        above: the keys that lead to that part.
    """
    for where, value in _values(content, above):
        problem = _problem(where, value)
        if problem is not None:
            raise RunError(f"{source}: {'.'.join(where)[:SHOWN]!r} {problem}")


def _values(content: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (keys on the way, value) of each entry of nested mappings and lists."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield (*where, str(key)), value
        if isinstance(value, dict | list):
            yield from _values(value, (*where, str(key)))


def _problem(where: tuple[str, ...], value: Any) -> str | None:
    """Return the fault of an entry, for the end of a message; None for plain data."""
    if where[-1] in (PIECE, TARGET) and not (len(where) == 2 and where[0] in KINDS):
        return f"names a class where no piece is: take it out ({PIECE} stands in {', '.join(KINDS)})"
    if where[-1] == PIECE and not (isinstance(value, str) and value.startswith(f"{where[0]}/")):
        return f"is {shortened(value)}, expected {where[0]}/<name>"
    if len(where[-1]) > SHOWN:
        return f"is a key of {len(where[-1]):,} characters, expected at most {SHOWN}"
    texts = [where[-1], value] if isinstance(value, str) else [where[-1]]
    if any("${" in text for text in texts):
        return "is an interpolation, which is not resolved in what is loaded: write the value itself"
    if value == "???":
        return "is missing (???): write the value"
    if not isinstance(value, str) or not (where[0] == "env" or where[:2] == ("collect", "env")):
        return None
    module = MODULE_AND_NAME.fullmatch(value)
    if module is None and not (where[-1] == "id" and ":" in value):
        return None
    return (
        f"is {shortened(value)}, and what is loaded imports no module: import it in a plugin of your own "
        "(./plugins/mine.py) and leave it out here"
    )
