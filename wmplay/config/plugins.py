"""Plugins, found and imported: ``./plugins``, ``$WMPLAY_PLUGINS`` and installed entry points.

A plugin is parsed for listings, and imported only for use. A broken plugin is listed with its error, and
everything else keeps working. A later failure is reported in one line, with the place in the plugin's own
code.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import os
import sys
import sysconfig
import textwrap
import traceback
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TypeAlias

from wmplay.errors import PLACE, WmplayError

NAMESPACE = "wmplay_plugins"  # plugins/my_model.py is the module wmplay_plugins.my_model
ENTRY_POINT_GROUP = "wmplay.plugins"
BUILT_IN = "built in"  # of the pieces that wmplay brings
HERE = Path(__file__).parents[1]  # of the package
SHOWN = 500  # characters of a foreign error's message: some list all weights


@dataclass(frozen=True)
class Plugin:
    """A module that may register pieces, found but not necessarily imported."""

    module: str  # the module to import
    path: Path  # its file
    source: str  # how to name it to a person
    configs: Path | None  # its own config groups


Stamp: TypeAlias = tuple[int, int, int]  # inode, time in ns and size of a file: another where it was edited

_failures: dict[str, str] = {}  # plugin source -> why it does not load
_imported: dict[str, dict[Path, Stamp]] = {}  # module of a file or folder -> its files when it was imported
_listing: ContextVar[list[Plugin] | None] = ContextVar("listing", default=None)


@contextmanager
def listed_once() -> Iterator[None]:
    """List the folders of plugins once for everything that happens within."""
    token = _listing.set(plugins())
    try:
        yield
    finally:
        _listing.reset(token)


def plugins() -> list[Plugin]:
    """Return the plugins that can be seen from here, in the order in which they are searched."""
    listed = _listing.get()
    return _list() if listed is None else listed


def holding(module: str) -> Plugin | None:
    """Return the plugin that a module is in, if any."""
    return next((plugin for plugin in plugins() if f"{module}.".startswith(f"{plugin.module}.")), None)


def _list() -> list[Plugin]:
    found: dict[str, Plugin] = {}
    for folder in _folders():
        for path in sorted(folder.iterdir()):
            init = path / "__init__.py"
            if path.suffix == ".py" and not path.name.startswith(("_", "test_")):
                plugin = Plugin(f"{NAMESPACE}.{path.stem}", path, _shown(path), None)
            elif init.is_file():
                plugin = Plugin(f"{NAMESPACE}.{path.name}", init, _shown(path), _configs(path))
            else:
                continue
            found.setdefault(plugin.module, plugin)
    for point in _entry_points():
        try:
            spec = importlib.util.find_spec(point.module)
        except ModuleNotFoundError:
            spec = None
        if spec is None or spec.origin is None:
            _failures[point.name] = f"entry point '{point.name}': there is no module {point.module}"
            continue
        origin, is_package = Path(spec.origin), spec.submodule_search_locations is not None
        configs = _configs(origin.parent) if is_package else None
        found.setdefault(point.module, Plugin(point.module, origin, point.name, configs))
    return list(found.values())


def _configs(folder: Path) -> Path | None:
    """Return the folder of config groups in a package's folder, if it has one."""
    configs = folder / "configs"
    return configs if configs.is_dir() else None


def failures() -> dict[str, str]:
    """Return {plugin: why it does not load}, of those found broken so far (``load_all`` tries them all).

    Folders of ``$WMPLAY_PLUGINS`` that do not exist count too.
    """
    for plugin in plugins():
        list(declared(plugin))
    present = {plugin.source for plugin in plugins()}
    present |= {point.name for point in _entry_points()}
    absent = {
        f"$WMPLAY_PLUGINS: {entry}": "there is no such folder"
        for entry in _listed_folders()
        if not Path(entry).is_dir()
    }
    return {source: why for source, why in _failures.items() if source in present} | absent


def config_folders() -> list[tuple[str, Path]]:
    """Return (source, folder) of every place with config groups, the built-in one first."""
    packaged = HERE / "configs"  # an installed wheel carries them
    built_in = packaged if packaged.is_dir() else HERE.parent / "configs"
    return [(BUILT_IN, built_in)] + [(p.source, p.configs) for p in plugins() if p.configs is not None]


def declared(plugin: Plugin) -> Mapping[tuple[str, str], str]:
    """Return {(kind, name): class} of each ``@register("kind", "name")`` that a plugin's text shows."""
    try:
        found = _declared(plugin.path, stamp(plugin.path))
    except (SyntaxError, OSError, ValueError) as error:  # ValueError: of null bytes
        text = str(error).replace(str(plugin.path), plugin.source)
        _failures[plugin.source] = f"{type(error).__name__}: {text}"
        return {}
    return found


@functools.lru_cache
def _declared(path: Path, _: Stamp) -> Mapping[tuple[str, str], str]:
    """Read the classes that ``declared`` returns from a file; its stamp invalidates the cache after an
    edit."""
    found = {}
    tree = ast.parse(path.read_bytes(), filename=str(path))
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] == "register":
                values = [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
                if len(values) == 2 and all(isinstance(value, str) for value in values):
                    found[str(values[0]), str(values[1])] = node.name
    return found


def load_all() -> dict[str, str]:
    """Import every plugin, so that it registers its pieces; return {plugin: error} of those that failed."""
    for plugin in plugins():
        load(plugin)
    return failures()


def load(plugin: Plugin) -> None:
    """Import a plugin; record a failure (see ``failures``) instead of raising it."""
    ours = plugin.module.startswith(f"{NAMESPACE}.")
    if ours:
        namespace = sys.modules.setdefault(NAMESPACE, types.ModuleType(NAMESPACE))
        namespace.__path__ = [str(folder) for folder in _folders()]
        loaded = sys.modules.get(plugin.module)
        if loaded is not None and loaded.__file__ != str(plugin.path):
            # The working directory has changed, and with it the file that this name means.
            _forget(plugin)
    stamps = _stamps(plugin) if ours and plugin.module not in sys.modules else {}
    try:
        if plugin.module not in sys.modules:
            importlib.invalidate_caches()
            importlib.import_module(plugin.module)
    except (Exception, SystemExit) as error:  # a plugin may fail in any way
        sys.modules.pop(plugin.module, None)
        _failures[plugin.source] = str(error) if isinstance(error, WmplayError) else in_one_line(error)
    else:
        _failures.pop(plugin.source, None)
        if stamps:
            _imported[plugin.module] = stamps


def is_package(folder: Path) -> bool:
    """Return whether a folder is the project of an installable plugin, as ``wmplay new --package`` writes."""
    project = folder / "pyproject.toml"
    begins = f'[project.entry-points."{ENTRY_POINT_GROUP}"]'.encode()
    return project.is_file() and begins in project.read_bytes()


def changed() -> list[Plugin]:
    """Return the imported plugins of folders whose files were edited since; no installed ones."""
    return [
        plugin
        for plugin in plugins()
        if plugin.module in _imported
        and plugin.module in sys.modules
        and sys.modules[plugin.module].__file__ == str(plugin.path)
        and _imported[plugin.module] != _stamps(plugin)
    ]


def load_again(plugin: Plugin) -> None:
    """Import a plugin again after an edit; record a failure as ``load`` does."""
    for path in _stamps(plugin):  # bytecode notices no edit within a second that keeps the file's size
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
    _forget(plugin)
    load(plugin)


def _forget(plugin: Plugin) -> None:
    """Make the next import read a plugin's modules anew."""
    for name in [name for name in sys.modules if f"{name}.".startswith(f"{plugin.module}.")]:
        del sys.modules[name]


def _stamps(plugin: Plugin) -> dict[Path, Stamp]:
    whole = plugin.path.name == "__init__.py"
    return {path: stamp(path) for path in (plugin.path.parent.rglob("*.py") if whole else [plugin.path])}


def stamp(path: Path) -> Stamp:
    """Return the inode, time and size of a file, which are others after an edit."""
    about = path.stat()
    return about.st_ino, about.st_mtime_ns, about.st_size


def failed_at(error: BaseException, *, hidden: Path | None = None) -> str | None:
    """Return the innermost line of a traceback outside of wmplay and of libraries: as a rule, a plugin's.

    Args:
        error: as it was caught.
        hidden: a folder of wmplay whose lines are never named.

    Returns:
        ``plugins/mine.py, line 48, in Mine.loss``, followed by the line in wmplay if the plugin called
        wmplay. None for a traceback without a line of foreign code.
    """
    elsewhere: str | None = getattr(error, PLACE, None)  # it was raised in another process
    if elsewhere is not None:
        return elsewhere
    packages = [plugin.path.parent for plugin in plugins() if plugin.path.name == "__init__.py"]
    theirs, called = None, ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        place = f"{_shown(path)}, line {line}, in {frame.f_code.co_qualname}"
        if hidden is not None and path.is_relative_to(hidden):
            continue
        if path.is_relative_to(HERE):
            called = f", which calls {place}"
        elif any(path.is_relative_to(package) for package in packages) or not _is_library(path):
            theirs, called = place, ""
    return None if theirs is None else theirs + called


def in_one_line(error: BaseException) -> str:
    """Return a foreign error as one line: its type, the beginning of its message, and ``failed_at``."""
    text = textwrap.shorten(f"{type(error).__name__}: {error}", SHOWN, placeholder=" ...")
    place = failed_at(error)
    return text.removesuffix(":") if place is None else f"{text.removesuffix(':')}: fix {place}"


def _is_library(path: Path) -> bool:
    installed = {"site-packages", "dist-packages"} & {*path.parts}
    return bool(installed) or path.is_relative_to(sysconfig.get_path("stdlib")) or path.name.startswith("<")


@functools.cache
def _entry_points() -> tuple[EntryPoint, ...]:
    """Return the entry points of plugins, cached: reading them opens the metadata of every distribution."""
    return tuple(entry_points(group=ENTRY_POINT_GROUP))


def _listed_folders() -> list[str]:
    return [entry for entry in os.environ.get("WMPLAY_PLUGINS", "").split(os.pathsep) if entry]


def _folders() -> list[Path]:
    folders = [Path("plugins"), *map(Path, _listed_folders())]
    unique = dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir())
    return list(unique)


def _shown(path: Path) -> str:
    """Return a path as a person would type it from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
