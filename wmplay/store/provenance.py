"""Provenance: the world that data or a policy comes from.

A provenance is an env's name and the settings that define its world. Spaces are not enough to tell worlds
apart: Luxo's and Urchin's are equal. Two envs show the same world if a state and an action have the same
consequence in both; clocks, renderings, tasks and rewards make no difference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from wmplay import registry
from wmplay.config.constructors import default_settings
from wmplay.config.kinds import PIECE, TARGET
from wmplay.config.references import by_reference, settings
from wmplay.contracts import Provenance

SAME_WORLD = ("max_steps", "render_mode")  # settings that any env may have, and that do not change the world


@runtime_checkable
class _ChoosesWorld(Protocol):
    def world_settings(self, settings: Mapping[str, Any]) -> Mapping[str, Any]: ...


def origin_of(config: Mapping[str, Any]) -> Provenance:
    """Return the provenance of data from an env with this config.

    An env's class may define ``world_settings(settings)``, a static method that returns those of its settings
    (or values derived from them) that define the world. By default these are all settings except
    ``SAME_WORLD``.
    """
    env_class = registry.target(config)
    whole = {**default_settings(env_class), **settings(config)}
    choose = env_class.world_settings if isinstance(env_class, _ChoosesWorld) else _all_but_the_clock
    content: Provenance = json.loads(
        json.dumps({PIECE: by_reference(config)[PIECE], **choose(whole)}, default=repr)
    )
    return content


def as_origin(value: Any) -> Provenance | None:
    """Return the provenance read from a file, with the env by its name, or None if it is malformed."""
    if isinstance(value, Mapping) and isinstance(value.get(PIECE, value.get(TARGET)), str):
        return by_reference(value)
    return None


def same_world(one: Provenance, other: Provenance) -> bool:
    """Return whether two provenances are of one world; settings in only one of them do not count.

    A version of wmplay that adds a setting can so still read older provenances.
    """
    return _env(one) == _env(other) and all(one[key] == other[key] for key in one.keys() & other.keys())


def in_words(origin: Provenance) -> str:
    """Return a short description, for example "lcd(world=luxo, physics=faithful)"."""
    described = ", ".join(f"{key}={value}" for key, value in settings(origin).items())
    return f"{_env(origin).replace('/', '.').rpartition('.')[2]}({described})"


def _env(origin: Provenance) -> str:
    return str(origin.get(PIECE, origin.get(TARGET)))


def _all_but_the_clock(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in SAME_WORLD}
