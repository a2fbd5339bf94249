"""Overrides, as a person types them (``key=value``): parsed once, by Hydra's grammar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, ValueType
from hydra.errors import HydraException
from omegaconf import OmegaConf

from wmplay.config import loading, plugins
from wmplay.errors import ConfigError

SHOWN = 200  # characters of an override in a message


def parse(overrides: Sequence[str]) -> list[Override]:
    """Return overrides as Hydra reads them.

    Raises:
        ConfigError: for a text that is no override (``key=value``).
    """
    if isinstance(overrides, str):
        raise ConfigError("the overrides are one string", expected=f"a list of them: ['{overrides}', ...]")
    parser = OverridesParser.create()
    parsed = []
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except (HydraException, RecursionError) as error:
            shown = repr(text) if len(text) < SHOWN else f"{text[:SHOWN]!r} ..."
            raise ConfigError(
                f"{shown} is no override: expected key=value{_quoting_hint(text)}", got=text
            ) from error
        if not override.key_or_group:
            raise ConfigError(f"{text!r} is no override: expected key=value, it has no key")
        if override.value_type is ValueType.GLOB_CHOICE_SWEEP:
            with loading.loader() as override.config_loader:  # which knows the options
                pass
        parsed.append(override)
    return parsed


def with_values(config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a config with plain ``key=value`` overrides.

    Raises:
        ConfigError: for any other kind of override.
    """
    changed = OmegaConf.create(dict(config))
    for override in parse(overrides):
        if override.type is not OverrideType.CHANGE or override.is_sweep_override():
            raise ConfigError(f"'{override.input_line}': expected key=value with a single value here")
        OmegaConf.update(changed, override.key_or_group, override.value(), force_add=True)
    return loading.plain(changed)


def env_values(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the settings of an env alone: ``task=body_goal``, or ``env.task=body_goal`` as for a training.

    Raises:
        ConfigError: for any other kind of override.
    """
    return with_values({}, [text.removeprefix("env.") for text in overrides])


def lenient(overrides: Sequence[Override]) -> list[str]:
    """Return overrides in the form in which Hydra takes them for keys that do not exist yet.

    Hydra refuses unknown keys, also below mappings that are meant to be filled (``collect.env``); the
    composed config is checked later, by code that can say more about an unknown key.
    """
    texts = []
    for override in overrides:
        key, text = override.key_or_group, str(override.input_line)
        if sets_a_value(override):
            texts.append(f"++{text}")
        elif _changes(override) and not override.is_sweep_override() and override.value() is None:
            texts.append(f"~{key}")
        else:
            texts.append(text)
    return texts


def sets_a_value(override: Override) -> bool:
    """Return whether an override gives a value, or several, to a key, rather than choosing an option of a
    group."""
    return _changes(override) and not _is_group(override.key_or_group)


def _changes(override: Override) -> bool:
    """Return whether an override is ``key=value`` without any mark, about a key of wmplay's."""
    marked = "@" in str(override.input_line).partition("=")[0]
    return override.type is OverrideType.CHANGE and not marked and not is_hydras(override.key_or_group)


def check_single(overrides: Sequence[Override]) -> None:
    """Raise ConfigError for an override that is a sweep over several values."""
    for override in overrides:
        if override.is_sweep_override():
            text = override.input_line
            raise ConfigError(
                f"'{text}' is a sweep", advice="run each of its values with -m, or give a list as [1,2]"
            )


def chosen(overrides: Sequence[Override], groups: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (group, option) for each override that chooses an option; for a sweep, each of its options."""
    for override in overrides:
        if override.key_or_group in groups and not override.is_delete() and override.value() is not None:
            if override.is_interval_sweep():
                raise ConfigError(f"'{override.input_line}' is a range of numbers", expected="names")
            swept = override.is_sweep_override()
            for option in override.sweep_string_iterator() if swept else [override.value()]:
                yield override.key_or_group, str(option)


def is_hydras(key: str) -> bool:
    """Return whether a key is a setting of Hydra itself: ``hydra.sweep.dir``, ``hydra/launcher``, ..."""
    return key == "hydra" or key.startswith(("hydra.", "hydra/"))


def refuse_hydras(overrides: Sequence[str], taken: Sequence[str] = ("hydra",)) -> None:
    """Raise ConfigError for settings of Hydra that would be taken and have no effect.

    Args:
        overrides: as typed.
        taken: the beginnings of such keys; those of a single run by default.
    """
    for override in parse(overrides):
        key = override.key_or_group
        if is_hydras(key) and key.startswith(tuple(taken)) and key != "hydra.searchpath":
            where = "-m and hydra.sweep.dir=<path>" if taken != ("hydra",) else "dir=<path>"
            raise ConfigError(
                f"'{key}' has no effect here",
                advice=(
                    f"choose where to write by {where}, or leave it out; Hydra's own settings are "
                    "for sweeps (-m)"
                ),
            )


def _quoting_hint(text: str) -> str:
    return "; quote special characters, as in 'key=\"a value\"'" if "=" in text else ""


def _is_group(key: str) -> bool:
    return any((folder / key).is_dir() for _, folder in plugins.config_folders())
