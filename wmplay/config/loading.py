"""Config files, loaded by Hydra: one search path over the built-in groups and those of every plugin."""

from __future__ import annotations

import copy
import functools
import os
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from wmplay.config import plugins
from wmplay.errors import ConfigError, UnknownName, WmplayError, suggestion

EXPERIMENTS = "experiment/"  # begins the path of an experiment's file

_registered: dict[tuple[str, str], dict[str, Any]] = {}  # (kind, name) -> the option that was stored


class ConfigFolders(SearchPathPlugin):
    """The config groups that plugins bring, for Hydra."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folder of each plugin."""
        for source, folder in plugins.config_folders()[1:]:
            search_path.append(provider=f"wmplay: {source}", path=f"file://{folder}")


@contextmanager
def loader() -> Iterator[ConfigLoader]:
    """Set Hydra up for the config folders visible from the working directory, then restore a sweep's own
    Hydra.

    Yields:
        Hydra's config loader; it stays usable afterwards.
    """
    Plugins.instance().register(ConfigFolders)
    state = GlobalHydra.instance()
    outer, state.hydra = state.hydra, None
    _, built_in = plugins.config_folders()[0]
    try:
        with hydra.initialize_config_dir(str(built_in), job_name="wmplay", version_base=None):
            yield GlobalHydra.instance().config_loader()
    finally:
        GlobalHydra.instance().hydra = outer


def load(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """Return a config as Hydra composes it, without Hydra's own part.

    Hydra takes long for it, so a config is kept until a file of any group is edited.

    Raises:
        ConfigError, UnknownName: for anything that does not compose, in one line.
    """
    config: DictConfig = pickle.loads(_composed(config_name, tuple(overrides), _sources()))
    return config


@functools.lru_cache
def _composed(config_name: str, overrides: tuple[str, ...], _: object) -> bytes:
    with in_one_line(), loader():
        return pickle.dumps(hydra.compose(config_name, list(overrides)))


def _sources() -> object:
    """Return what tells whether Hydra would compose something else: all files, and what was registered."""
    files = {
        os.path.join(path, name): plugins.stamp(Path(path, name))
        for _, folder in plugins.config_folders()
        for path, _, names in os.walk(folder)
        for name in names
    }
    return tuple(files.items()), repr(_registered)


def load_group(kind: str, name: str) -> dict[str, Any]:
    """Return one option of a config group, its own defaults list resolved, as a plain dict.

    Hydra takes long for it, so an option is kept until a file of its group is edited.
    """
    files = [path for _, folder in plugins.config_folders() for path in (folder / kind).glob("*.yaml")]
    return copy.deepcopy(_group(kind, name, tuple((path, plugins.stamp(path)) for path in files)))


@functools.lru_cache
def _group(kind: str, name: str, _: tuple[tuple[Path, plugins.Stamp], ...]) -> dict[str, Any]:
    return plain(load(f"{kind}/{name}", ())[kind])


def experiment(overrides: Sequence[str]) -> tuple[dict[str, str | None], dict[str, Any]]:
    """Return the choices and the settings of experiments.

    Args:
        overrides: those that choose experiments, as ``overrides.lenient`` writes them.

    Returns:
        The choices, {group: option}, None for a piece that an experiment takes out; and the settings from the
        files of the experiments and of the experiments that these build upon.
    """
    found: tuple[dict[str, str | None], dict[str, Any]] = pickle.loads(
        _experiment(tuple(overrides), _sources())
    )
    return found


@functools.lru_cache
def _experiment(overrides: tuple[str, ...], _: object) -> bytes:
    with in_one_line(), loader() as hydras:
        defaults = hydras.compute_defaults_list("train", list(overrides), RunMode.RUN)
        paths = [str(default.config_path) for default in defaults.defaults]
        found = [
            next(source.load_config(path).config for source in hydras.get_sources() if source.is_config(path))
            for path in paths
            if path.startswith(EXPERIMENTS)
        ]
        settings = plain(OmegaConf.merge(*found, {}), resolve=False)
    settings.pop("defaults", None)
    return pickle.dumps((dict(defaults.overrides.known_choices), settings))


def default_choices() -> dict[str, str | None]:
    """Return {group: option} of the defaults list in ``train.yaml``."""
    _, built_in = plugins.config_folders()[0]
    listed = _defaults_list(built_in / "train.yaml")
    return {group: option for entry in listed if isinstance(entry, dict) for group, option in entry.items()}


@functools.cache
def _defaults_list(file: Path) -> list[Any]:
    return list(plain(OmegaConf.load(file), resolve=False)["defaults"])


def select(config: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key of a config; None where there is no such key."""
    found: Any = config
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def plain(node: Any, *, resolve: bool = True) -> dict[str, Any]:
    """Return a config as a plain dict."""
    container = OmegaConf.to_container(node, resolve=resolve)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def store(kind: str, name: str, config: dict[str, Any]) -> None:
    """Make a config an option of its group."""
    _registered[kind, name] = config
    ConfigStore.instance().store(group=kind, name=name, node=config, provider="wmplay: registered")


@contextmanager
def in_one_line() -> Iterator[None]:
    """Turn every exception of Hydra, OmegaConf or YAML within the block into an error of one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise one_line(error) from error


def one_line(error: Exception) -> WmplayError:
    """Return Hydra's many lines about a config as an error of one line, with the nearest names."""
    if isinstance(error, YAMLError):
        return ConfigError(f"a config file is not YAML: {' '.join(str(error).split())}")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    missing = re.search(r"Could not find '([^']+)/([^'/]+)'", str(error))
    if missing is not None:
        options = lines[lines.index(f"Available options in '{missing[1]}':") + 1 :]
        known = options[: next((i for i, line in enumerate(options) if " " in line), None)]
        return UnknownName(missing[1], missing[2], known)
    unknown = error.__cause__
    if isinstance(unknown, ConfigKeyError | ConfigAttributeError) and isinstance(
        unknown.parent_node, DictConfig
    ):
        where, _, name = str(unknown.full_key).rpartition(".")
        return ConfigError(f"no key '{name}' in {where}: {suggestion(name, map(str, unknown.parent_node))}")
    message = lines[0] if lines else type(error).__name__
    full_key = error.full_key if isinstance(error, OmegaConfBaseException) else None
    return ConfigError(f"{full_key}: {message}" if full_key else message)
