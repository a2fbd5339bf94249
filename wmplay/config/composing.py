"""Composing configs with Hydra: one search path over the built-in groups and every plugin's.

A composed config is frozen. Typos end in one line with the nearest names.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, ValueType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from wmplay.config import plugins
from wmplay.errors import ConfigError, UnknownName, WmplayError, suggestion

EXPERIMENTS = "experiment/"  # begins the path of an experiment's file
SHOWN = 200  # characters of an override in a message


class ConfigFolders(SearchPathPlugin):
    """Tells Hydra where the config groups are."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Appends each folder, the built-in one first."""
        for source, folder in plugins.config_folders():
            search_path.append(provider=f"wmplay: {source}", path=f"file://{folder}")


def compose(
    overrides: Sequence[str],
    kinds: Sequence[str],
    settle: Callable[[dict[str, Any]], dict[str, Any]],
    fallen: Sequence[str] = (),
) -> DictConfig:
    """The config of a run: ``train.yaml`` with overrides, resolved and read-only.

    Args:
        overrides: as on the command line, see ``check_single``.
        kinds: the keys that hold pieces; one that was taken out is null.
        settle: what is done to the config of each piece in the end.
        fallen: dotted keys that experiments do not set, whatever their files say.

    Raises:
        ConfigError, UnknownName: for anything that does not compose, in one line.
    """
    config = _load("train", lenient(overrides), fallen)
    try:
        OmegaConf.resolve(config)
    except OmegaConfBaseException as error:
        raise one_line(error) from error
    if "experiment" in config:
        raise ConfigError("the experiment's file has to begin with the line '# @package _global_'")
    with open_dict(config):
        for kind in kinds:
            config.setdefault(kind, None)
            if isinstance(config[kind], DictConfig):
                config[kind] = settle(plain(config[kind]))
    OmegaConf.set_readonly(config, True)
    return config


def check_single(overrides: Sequence[str]) -> None:
    """Raises ConfigError for an override that is a sweep over several values."""
    for override in parse(overrides):
        if override.is_sweep_override():
            text = override.input_line
            raise ConfigError(f"'{text}' is a sweep: run each of its values with -m, or give a list as [1,2]")


def experiment(overrides: Sequence[str]) -> tuple[dict[str, str | None], DictConfig]:
    """What experiments choose and set.

    Args:
        overrides: those that choose experiments.

    Returns:
        {group: option}, None where a piece was taken out; and what the files of the experiments say, with
        those that they build upon.
    """
    with _in_one_line():
        loader = ConfigLoaderImpl(config_search_path=search_path())
        defaults = loader.compute_defaults_list("train", lenient(overrides), RunMode.RUN)
        paths = [str(default.config_path) for default in defaults.defaults]
        files = [loader.repository.load_config(path) for path in paths if path.startswith(EXPERIMENTS)]
        settings = OmegaConf.merge(*(file.config for file in files if file is not None), {})
    assert isinstance(settings, DictConfig)
    return dict(defaults.overrides.known_choices), settings


class _Loader(ConfigLoaderImpl):
    """Hydra's loader, which takes some keys out of experiments."""

    def __init__(self, fallen: Sequence[str], **settings: Any) -> None:
        super().__init__(**settings)
        self._fallen = fallen

    def _load_single_config(self, default: Any, repo: Any) -> Any:
        result: Any = super()._load_single_config(default=default, repo=repo)
        if str(default.config_path).startswith(EXPERIMENTS):
            for key in self._fallen:
                _take_out(result.config, key)
        return result


def _take_out(config: DictConfig, key: str) -> None:
    """Deletes a dotted key, and the sections that it leaves empty."""
    section, _, name = key.rpartition(".")
    node = OmegaConf.select(config, section) if section else config
    if isinstance(node, DictConfig) and name in node:
        del node[name]
        if not node and section:
            _take_out(config, section)


def run_defaults() -> dict[str, Any]:
    """What ``train.yaml`` holds besides the pieces: the loop's own settings."""
    return {key: value for key, value in _train_file().items() if key not in ("defaults", "hydra")}


def default_choices() -> dict[str, str | None]:
    """{group: option} of what ``train.yaml`` itself chooses."""
    listed = (entry for entry in _train_file()["defaults"] if isinstance(entry, dict))
    return {group: option for entry in listed for group, option in entry.items()}


def _train_file() -> Mapping[str, Any]:
    _, built_in = plugins.config_folders()[0]
    return _read_once(built_in / "train.yaml")


@functools.cache
def _read_once(file: Path) -> Mapping[str, Any]:
    content = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


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
    if isinstance(overrides, str):
        raise ConfigError(f"the overrides are one string, expected a list of them: ['{overrides}', ...]")
    parser = OverridesParser.create()
    parsed = []
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except (OverrideParseException, HydraException, RecursionError) as error:
            shown = repr(text) if len(text) < SHOWN else f"{text[:SHOWN]!r} ..."
            raise ConfigError(f"{shown} is no override: expected key=value{_quoting_hint(text)}") from error
        if not override.key_or_group:
            raise ConfigError(f"{text!r} is no override: expected key=value, it has no key")
        if override.value_type is ValueType.GLOB_CHOICE_SWEEP:
            override.config_loader = ConfigLoaderImpl(search_path())  # which knows what there is
        parsed.append(override)
    return parsed


def set_values(config: DictConfig, overrides: Sequence[str]) -> None:
    """Sets plain ``key=value`` overrides in a config.

    Raises:
        ConfigError: for any other kind of override.
    """
    for override in parse(overrides):
        if override.type is not OverrideType.CHANGE or override.is_sweep_override():
            raise ConfigError(f"'{override.input_line}': expected key=value with a single value here")
        OmegaConf.update(config, override.key_or_group, override.value(), force_add=True)


def _quoting_hint(text: str) -> str:
    return "; quote special characters, as in 'key=\"a value\"'" if "=" in text else ""


def lenient(overrides: Sequence[str]) -> list[str]:
    """Overrides in the form in which Hydra takes them for keys that are not there as yet.

    Hydra refuses such keys, also below mappings that are there to be filled (``collect.env``); whether a
    key is known is found out on the composed config, where there is more to say about it.
    """
    texts = []
    for text, override in zip(overrides, parse(overrides), strict=True):
        key = override.key_or_group
        if override.type is not OverrideType.CHANGE or "@" in text.partition("=")[0] or is_hydras(key):
            texts.append(text)
        elif not _is_group(key):
            texts.append(f"++{text}")
        elif not override.is_sweep_override() and override.value() is None:
            texts.append(f"~{key}")
        else:
            texts.append(text)
    return texts


def is_hydras(key: str) -> bool:
    """Whether a key is a setting of Hydra itself: ``hydra.sweep.dir``, ``hydra/launcher``, ..."""
    return key == "hydra" or key.startswith(("hydra.", "hydra/"))


def refuse_hydras(overrides: Sequence[str], taken: Sequence[str] = ("hydra",)) -> None:
    """Raises ConfigError for settings of Hydra's that would be taken and have no effect.

    Args:
        overrides: as typed.
        taken: the beginnings of such keys; those of a single run by default.
    """
    for override in parse(overrides):
        key = override.key_or_group
        if is_hydras(key) and key.startswith(tuple(taken)) and key != "hydra.searchpath":
            where = "-m and hydra.sweep.dir=<path>" if taken != ("hydra",) else "dir=<path>"
            raise ConfigError(
                f"'{key}' has no effect here: choose where to write by {where}, or leave it out; Hydra's own "
                "settings are for sweeps (-m)"
            )


def _is_group(key: str) -> bool:
    return any((folder / key).is_dir() for _, folder in plugins.config_folders())


def chosen(overrides: Sequence[str], groups: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields (group, option) for each override that chooses one; a sweep over several yields each."""
    for override in parse(overrides):
        if override.key_or_group in groups and not override.is_delete() and override.value() is not None:
            if override.is_interval_sweep():
                raise ConfigError(f"'{override.input_line}' is a range of numbers, expected names")
            swept = override.is_sweep_override()
            for option in override.sweep_string_iterator() if swept else [override.value()]:
                yield override.key_or_group, str(option)


def _load(config_name: str, overrides: Sequence[str], fallen: Sequence[str] = ()) -> DictConfig:
    with _in_one_line():
        loader = _Loader(fallen, config_search_path=search_path())
        config = loader.load_configuration(config_name, list(overrides), run_mode=RunMode.RUN)
    OmegaConf.set_struct(config, True)
    with open_dict(config):
        del config["hydra"]
    return config


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise one_line(error) from error


def one_line(error: Exception) -> WmplayError:
    """What Hydra has to say about a config, over many lines, as one; with the nearest names."""
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
