"""Which pieces there are, and what each is: built in, registered by a plugin, in a plugin package's YAML."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from wmplay.config import plugins
from wmplay.config.kinds import EXPERIMENT, KINDS, TARGET
from wmplay.errors import ConfigError, PluginError, UnknownName
from wmplay.system.reading import read_yaml

C = TypeVar("C", bound=type)


@dataclass(frozen=True)
class Piece:
    """One entry of the registry: ``<kind>=<name>``, and where it comes from."""

    kind: str
    name: str
    source: str  # "built in", a plugin's path, or an installed distribution's name


_registered: dict[tuple[str, str], type] = {}


def register(kind: str, name: str) -> Callable[[C], C]:
    """Class decorator: makes a class the piece ``<kind>=<name>``.

    Raises:
        UnknownName: if there is no such kind.
        PluginError: if the name is taken.
    """
    if kind not in KINDS:
        raise UnknownName("kind of piece", kind, KINDS)

    def decorate(cls: C) -> C:
        holder = registered().get((kind, name))
        redefined = holder is not None and path_of(holder) == path_of(cls)  # a notebook's cell, run again
        if (holder is not None and not redefined) or name in config_names(kind):
            owner = path_of(holder) if holder else "a built-in piece"
            raise PluginError(
                f"{kind} '{name}' is taken by {owner}: register {cls.__qualname__} under another name"
            )
        _registered[kind, name] = cls
        return cls

    return decorate


def pieces(kind: str) -> list[Piece]:
    """All pieces of a kind ("experiment" too), built in and plugged in, sorted by name.

    Plugin files are read, not imported, so that listing stays quick.

    Raises:
        UnknownName: if there is no such kind.
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
    """The names of all pieces of a kind: what can be swapped in."""
    return [piece.name for piece in pieces(kind)]


def registered() -> dict[tuple[str, str], type]:
    """(kind, name) -> class of what ``@register`` has seen and is still loaded."""
    return {key: cls for key, cls in _registered.items() if not _is_stale(cls)}


def still_loaded(kind: str, name: str) -> type | None:
    """Return the class of a piece that has been registered, also where its plugin is out of sight from here.

    A process that has changed its directory keeps what it has loaded.
    """
    cls = _registered.get((kind, name))
    return None if cls is None or _is_gone(cls) else cls


def _is_stale(cls: type) -> bool:
    """Whether a class is of a plugin file that has since failed, changed or gone out of sight."""
    if not cls.__module__.startswith(f"{plugins.NAMESPACE}."):
        return False
    return _is_gone(cls) or cls.__module__ not in {plugin.module for plugin in plugins.plugins()}


def _is_gone(cls: type) -> bool:
    plugin = cls.__module__.startswith(f"{plugins.NAMESPACE}.")
    return plugin and getattr(sys.modules.get(cls.__module__), cls.__name__, None) is not cls


def path_of(cls: type) -> str:
    """Return the dotted path of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def config_names(kind: str) -> dict[str, str]:
    """{name: source} of the kind's YAML files; the first folder that has a name wins."""
    found: dict[str, str] = {}
    for source, folder in plugins.config_folders():
        for path in (folder / kind).glob("*.yaml"):
            found.setdefault(path.stem, source)
    return found


def reload() -> list[str]:
    """Imports plugin files again that have changed since they were imported: for a notebook, after an edit.

    Nothing else does, so that a run or sweep keeps the code that it began with, as does what has been built.
    Installed plugins are left alone: these need a new process.

    Returns:
        What was read again, such as ``["plugins/mine.py"]``. One that fails is named when it is used.
    """
    changed = plugins.changed()
    for plugin in changed:
        plugins.load_again(plugin)
    return [plugin.source for plugin in changed]


def warn_of_changes() -> None:
    """Warn of each imported plugin file that has another text by now."""
    for plugin in plugins.changed():
        text = "changed since it was imported: wmplay.registry.reload(), or a new process, reads it again"
        warnings.warn_explicit(text, UserWarning, plugin.source, 1)  # each time: again after the next edit


def load_declaring(kind: str, name: str) -> None:
    """Imports the plugins in whose text a piece can be read. Raises PluginError if one does not load."""
    for plugin in plugins.plugins():
        if (kind, name) in plugins.declared(plugin):
            plugins.load(plugin)
    check_loads(kind, name)


def check_loads(kind: str, name: str) -> None:
    """Whether what a name may mean has been imported: also where a plugin wants a name that is taken."""
    failures = plugins.failures()
    for plugin in plugins.plugins():
        if plugin.source in failures and (kind, name) in plugins.declared(plugin):
            raise PluginError(
                f"{kind} '{name}' is in {plugin.source}, which does not load: {failures[plugin.source]}"
            )


def unknown_piece(kind: str, name: str) -> UnknownName:
    """Return the error for a name that is not there, with what might have held it.

    That is plugins that do not load, plugins that register nothing, a package that is here and not installed.
    """
    error = UnknownName(kind, name, names(kind))
    failures = plugins.failures()
    hints = [f"{source} does not load ({why})" for source, why in failures.items()]
    hints += [
        f'{plugin.source} registers nothing: put @wmplay.register("{kind}", "{name}") over its class'
        for plugin in plugins.plugins()
        if plugin.source not in failures and _registers_nothing(plugin)
    ]
    if not failures and plugins.is_package(Path(name)):
        hints.append(f"./{name} is not installed: pip install --editable {name}")
    if hints:
        error.args = (f"{error.args[0]} [{'; '.join(hints)}]",)
    return error


def _registers_nothing(plugin: plugins.Plugin) -> bool:
    modules = (cls.__module__ for cls in registered().values())
    return not (
        plugin.configs
        or plugins.declared(plugin)
        or any(f"{m}.".startswith(f"{plugin.module}.") for m in modules)
    )


def config_file(kind: str, name: str) -> Path | None:
    """Return the YAML of a config group's option; None for a piece that a plugin registers, or none."""
    paths = (folder / kind / f"{name}.yaml" for _, folder in plugins.config_folders())
    return next((path for path in paths if path.exists()), None)


def declared_path(kind: str, name: str) -> str | None:
    """Return the class that the YAML of a piece names; None for a variant of another piece."""
    path = config_file(kind, name)
    content = None if path is None else read_yaml(path, ConfigError)
    return content.get(TARGET) if isinstance(content, Mapping) else None
