"""Composing configs with Hydra: one search path over the built-in groups and every plugin's.

A composed config is frozen. Typos end in one line with the nearest names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from wmplay import plugins
from wmplay.errors import ConfigError, did_you_mean


class ConfigFolders(SearchPathPlugin):
    """Tells Hydra where the config groups are."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Appends each folder, the built-in one first."""
        for source, folder in plugins.config_folders():
            search_path.append(provider=f"wmplay: {source}", path=f"file://{folder}")


def compose(config_name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """A config with overrides, resolved and read-only.

    Raises:
        ConfigError: for anything that does not compose, in one line.
    """
    config = _load(config_name, overrides)
    try:
        OmegaConf.resolve(config)
    except OmegaConfBaseException as error:
        raise ConfigError(_first_line(error)) from error
    OmegaConf.set_readonly(config, True)
    return config


def load_group(kind: str, name: str) -> dict[str, Any]:
    """One option of a config group, its own defaults list resolved, as a plain dict."""
    return plain(_load(f"{kind}/{name}", ())[kind])


def plain(node: DictConfig) -> dict[str, Any]:
    """A config as a plain dict."""
    container = OmegaConf.to_container(node, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def search_path() -> ConfigSearchPath:
    """Where Hydra looks for config groups, those of plugin packages included."""
    Plugins.instance().register(ConfigFolders)
    return create_config_search_path(None)


def store(kind: str, name: str, config: dict[str, Any]) -> None:
    """Makes a config an option of its group."""
    ConfigStore.instance().store(group=kind, name=name, node=config, provider="wmplay: registered")


def parse(overrides: Sequence[str]) -> list[Override]:
    """Overrides as Hydra reads them.

    Raises:
        ConfigError: for one that is no override (``key=value``).
    """
    try:
        return list(OverridesParser.create().parse_overrides(list(overrides)))
    except (OverrideParseException, HydraException) as error:
        raise ConfigError(f"not an override (key=value): {_first_line(error)}") from error


def chosen(overrides: Sequence[str], groups: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields (group, option) for each override that chooses one; a sweep over several yields each."""
    for override in parse(overrides):
        if override.key_or_group in groups and not override.is_delete() and override.value() is not None:
            swept = override.is_sweep_override()
            for option in override.sweep_string_iterator() if swept else [override.value()]:
                yield override.key_or_group, str(option)


def _load(config_name: str, overrides: Sequence[str]) -> DictConfig:
    loader = ConfigLoaderImpl(config_search_path=search_path())
    try:
        config = loader.load_configuration(config_name, list(overrides), run_mode=RunMode.RUN)
    except (HydraException, OmegaConfBaseException) as error:
        raise _one_line(error, config_name, overrides) from error
    OmegaConf.set_struct(config, True)
    with open_dict(config):
        del config["hydra"]
    return config


def _one_line(error: Exception, config_name: str, overrides: Sequence[str]) -> ConfigError:
    """Hydra's many-line messages, as one with the nearest names."""
    found = re.search(r"Could not override '([^']+)'", str(error))
    if not isinstance(error, ConfigCompositionException) or found is None:
        return ConfigError(_first_line(error))
    *parents, last = found[1].split(".")
    sound = [text for text in overrides if text.partition("=")[0].lstrip("+~") in _groups(overrides)]
    node: Any = _load(config_name, sound) if len(sound) < len(overrides) else {}
    for parent in parents:
        node = node.get(parent, {}) if isinstance(node, DictConfig) else {}
    if not isinstance(node, DictConfig):
        return ConfigError(f"cannot override '{found[1]}': {'.'.join(parents)} has no keys")
    where = f" in {'.'.join(parents)}" if parents else ""
    return ConfigError(f"no key '{last}'{where}{did_you_mean(last, map(str, node))}")


def _groups(overrides: Sequence[str]) -> set[str]:
    """The keys among the overrides that choose an option of a group."""
    folders = [folder for _, folder in plugins.config_folders()]
    keys = {override.key_or_group for override in parse(overrides)}
    return {key for key in keys if any((folder / key).is_dir() for folder in folders)}


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
