"""Provenance: the world that data or a policy comes from.

A provenance is an env's name and the settings that define its world. Spaces are not enough to tell worlds
apart: Luxo's and Urchin's are equal. Two envs show the same world if a state and an action have the same
consequence in both; clocks, renderings, tasks and rewards make no difference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from wmplay import registry
from wmplay.config.constructors import default_settings
from wmplay.config.references import PIECE, TARGET, settings

Origin: TypeAlias = Mapping[str, Any]  # "_piece_": "env/<name>", and settings, as JSON has them

ATTRIBUTE = "wmplay_origin"  # the attribute of an env that was built from a config
SAME_WORLD = ("max_steps", "render_mode")  # settings that any env may have, and that do not change the world


def origin_of(config: Mapping[str, Any]) -> Origin:
    """Return the provenance of data from an env with this config.

    An env's class may define ``world_settings(settings)``, a static method that returns those of its settings
    (or values derived from them) that define the world. By default these are all settings except
    ``SAME_WORLD``.
    """
    env_class = registry.target(config)
    whole = {**default_settings(env_class), **settings(config)}
    choose = getattr(env_class, "world_settings", _all_but_the_clock)
    content: Origin = json.loads(
        json.dumps({PIECE: registry.by_reference(config)[PIECE], **choose(whole)}, default=repr)
    )
    return content


def known_origin(env: Any) -> Origin | None:
    """Return the provenance of an env (single or vector) that ``make_env`` built, or None."""
    return getattr(env, ATTRIBUTE, None)


def as_origin(value: Any) -> Origin | None:
    """Return the provenance read from a file, with the env by its name, or None if it is malformed."""
    if isinstance(value, Mapping) and isinstance(value.get(PIECE, value.get(TARGET)), str):
        return registry.by_reference(value)
    return None


def same_world(one: Origin, other: Origin) -> bool:
    """Return whether two provenances are of one world; settings in only one of them do not count.

    A version of wmplay that adds a setting can so still read older provenances.
    """
    return _env(one) == _env(other) and all(one[key] == other[key] for key in one.keys() & other.keys())


def in_words(origin: Origin) -> str:
    """Return a short description, for example "lcd(world=luxo, physics=faithful)"."""
    described = ", ".join(f"{key}={value}" for key, value in settings(origin).items())
    return f"{_env(origin).replace('/', '.').rpartition('.')[2]}({described})"


def _env(origin: Origin) -> str:
    return str(origin.get(PIECE, origin.get(TARGET)))


def _all_but_the_clock(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in SAME_WORLD}
