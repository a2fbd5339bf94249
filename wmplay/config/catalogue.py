"""The catalogue of pieces: built in, registered by a plugin, or named in the YAML of a plugin package."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from wmplay.config import plugins
from wmplay.config.kinds import EXPERIMENT, KINDS, TARGET
from wmplay.errors import ConfigError, PluginError, UnknownName, suggestion
from wmplay.system.reading import read_yaml

C = TypeVar("C", bound=type)


@dataclass(frozen=True)
class Piece:
    """An entry of the catalogue: a kind, a name and a source."""

    kind: str
    name: str
    source: str  # "built in", a plugin's path, or an installed distribution's name


_registered: dict[tuple[str, str], type] = {}


def register(kind: str, name: str) -> Callable[[C], C]:
    """Register the decorated class as the piece ``<kind>=<name>``.

    Raises:
        UnknownName: for an unknown kind.
        PluginError: if another piece of the kind has the name.
    """
    if kind not in KINDS:
        raise UnknownName("kind of piece", kind, KINDS)

    def decorate(cls: C) -> C:
        holder = registered().get((kind, name))
        redefined = holder is not None and path_of(holder) == path_of(cls)  # a notebook's cell, run again
        if (holder is not None and not redefined) or name in config_names(kind):
            owner = path_of(holder) if holder else "a built-in piece"
            raise PluginError(
                f"{kind} '{name}' is taken by {owner}",
                got=name,
                advice=f"register {cls.__qualname__} under another name",
            )
        _registered[kind, name] = cls
        return cls

    return decorate


def pieces(kind: str) -> list[Piece]:
    """Return all pieces of a kind (or "experiment"), built in and of plugins, sorted by name.

    Plugin files are parsed, not imported, which keeps the listing quick.

    Raises:
        UnknownName: for an unknown kind.
    """
    if kind not in (*KINDS, EXPERIMENT):
        raise UnknownName("kind of piece", kind, (*KINDS, EXPERIMENT))
    found = {name: Piece(kind, name, source) for name, source in config_names(kind).items()}
    for plugin in plugins.plugins():
        for declared_kind, name in plugins.declared(plugin):
            if declared_kind == kind:
                found.setdefault(name, Piece(kind, name, plugin.source))
    for (registered_kind, name), cls in registered().items():
        if registered_kind == kind:
            found.setdefault(name, Piece(kind, name, cls.__module__))
    return [found[name] for name in sorted(found)]


def names(kind: str) -> list[str]:
    """Return the names of all pieces of a kind."""
    return [piece.name for piece in pieces(kind)]


def registered() -> dict[tuple[str, str], type]:
    """Return {(kind, name): class} of all classes that ``@register`` has decorated and that are still
    loaded."""
    return {key: cls for key, cls in _registered.items() if not _is_stale(cls)}


def still_loaded(kind: str, name: str) -> type | None:
    """Return the class of a registered piece, even if its plugin cannot be seen from the working directory.

    A process that changes its working directory keeps the plugins that it has loaded.
    """
    cls = _registered.get((kind, name))
    return None if cls is None or _is_gone(cls) else cls


def _is_stale(cls: type) -> bool:
    """Return whether the class's plugin file has failed to load since, was edited, or is out of sight."""
    if not cls.__module__.startswith(f"{plugins.NAMESPACE}."):
        return False
    return _is_gone(cls) or cls.__module__ not in {plugin.module for plugin in plugins.plugins()}


def _is_gone(cls: type) -> bool:
    if not cls.__module__.startswith(f"{plugins.NAMESPACE}."):
        return False
    module = sys.modules.get(cls.__module__)
    return module is None or vars(module).get(cls.__name__) is not cls


def path_of(cls: type) -> str:
    """Return the dotted path of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def config_names(kind: str) -> dict[str, str]:
    """Return {name: source} of a kind's YAML files; the first folder that has a name wins."""
    found: dict[str, str] = {}
    for source, folder in plugins.config_folders():
        for path in (folder / kind).glob("*.yaml"):
            found.setdefault(path.stem, source)
    return found


def reload() -> list[str]:
    """Import every plugin file again that was edited after its import: for notebooks.

    Nothing else imports a plugin twice, so a run or a sweep keeps the code that it began with, and an object
    keeps the class that built it. Installed plugins are not imported again: they need a new process.

    Returns:
        The files imported again, such as ``["plugins/mine.py"]``. An error in a file is raised when one of
        the file's pieces is used.
    """
    changed = plugins.changed()
    for plugin in changed:
        plugins.load_again(plugin)
    return [plugin.source for plugin in changed]


def warn_of_changes() -> None:
    """Warn of each plugin file that was edited after its import."""
    for plugin in plugins.changed():
        text = "changed since it was imported: wmplay.registry.reload(), or a new process, reads it again"
        warnings.warn_explicit(text, UserWarning, plugin.source, 1)  # each time: again after the next edit


def load_declaring(kind: str, name: str) -> None:
    """Import the plugins whose text declares a piece. Raises PluginError if one does not load."""
    for plugin in plugins.plugins():
        if (kind, name) in plugins.declared(plugin):
            plugins.load(plugin)
    check_loads(kind, name)


def check_loads(kind: str, name: str) -> None:
    """Check that every plugin with a piece of this name is imported, even where another piece has the
    name."""
    failures = plugins.failures()
    for plugin in plugins.plugins():
        if plugin.source in failures and (kind, name) in plugins.declared(plugin):
            raise PluginError(
                f"{kind} '{name}' is in {plugin.source}, which does not load: {failures[plugin.source]}",
                got=name,
            )


def unknown_piece(kind: str, name: str) -> UnknownName:
    """Return the error for an unknown name, with the places that might define it.

    These are plugins that do not load, plugins that register nothing, and a package in the working directory
    that is not installed.
    """
    failures = plugins.failures()
    hints = [f"{source} does not load ({why})" for source, why in failures.items()]
    hints += [
        f'{plugin.source} registers nothing: put @wmplay.register("{kind}", "{name}") over its class'
        for plugin in plugins.plugins()
        if plugin.source not in failures and _registers_nothing(plugin)
    ]
    if not failures and plugins.is_package(Path(name)):
        hints.append(f"./{name} is not installed: pip install --editable {name}")
    advice = f"{suggestion(name, names(kind))} [{'; '.join(hints)}]" if hints else ""
    return UnknownName(kind, name, names(kind), advice)


def _registers_nothing(plugin: plugins.Plugin) -> bool:
    modules = (cls.__module__ for cls in registered().values())
    return not (
        plugin.configs
        or plugins.declared(plugin)
        or any(f"{m}.".startswith(f"{plugin.module}.") for m in modules)
    )


def config_file(kind: str, name: str) -> Path | None:
    """Return the YAML file of a piece; None for a piece that a plugin registers and for an unknown name."""
    paths = (folder / kind / f"{name}.yaml" for _, folder in plugins.config_folders())
    return next((path for path in paths if path.exists()), None)


def declared_path(kind: str, name: str) -> str | None:
    """Return the class path in the YAML of a piece; None for a variant of another piece."""
    path = config_file(kind, name)
    return None if path is None else _path_in(path, plugins.stamp(path))


@functools.cache
def _path_in(file: Path, _: plugins.Stamp) -> str | None:
    content = read_yaml(file, ConfigError)
    return content.get(TARGET) if isinstance(content, Mapping) else None
