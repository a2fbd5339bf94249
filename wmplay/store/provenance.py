"""Which world data and policies are from: an env's name, and those of its settings that make another world.

Spaces cannot tell: Luxo's and Urchin's are equal. What is told apart is what follows after a state and an
action; clocks, renderings, tasks and their rewards are no other world.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from wmplay import registry
from wmplay.config.constructors import default_settings
from wmplay.config.references import PIECE, TARGET, settings

Origin: TypeAlias = Mapping[str, Any]  # "_piece_": "env/<name>", and settings, as JSON has them

ATTRIBUTE = "wmplay_origin"  # of an env that was built from a config
SAME_WORLD = ("max_steps", "render_mode")  # settings that any env may have, and that change nothing in it


def origin_of(config: Mapping[str, Any]) -> Origin:
    """The origin of what an env of this config gives.

    An env's class may have ``world_settings(settings)``, a static method that gives those of its settings (or
    what follows from them) which make another world. By default all do, but for ``SAME_WORLD``.
    """
    env_class = registry.target(config)
    whole = {**default_settings(env_class), **settings(config)}
    choose = getattr(env_class, "world_settings", _all_but_the_clock)
    content: Origin = json.loads(
        json.dumps({PIECE: registry.by_reference(config)[PIECE], **choose(whole)}, default=repr)
    )
    return content


def known_origin(env: Any) -> Origin | None:
    """The origin of an env (single or vector), if it was built from a config, as ``make_env`` does."""
    return getattr(env, ATTRIBUTE, None)


def as_origin(value: Any) -> Origin | None:
    """An origin that was read from a file, with the env by its name; None for what cannot be one."""
    if isinstance(value, Mapping) and isinstance(value.get(PIECE, value.get(TARGET)), str):
        return registry.by_reference(value)
    return None


def same_world(one: Origin, other: Origin) -> bool:
    """Whether two origins are one world. A setting that only one of them has is newer, and does not count."""
    return _env(one) == _env(other) and all(one[key] == other[key] for key in one.keys() & other.keys())


def in_words(origin: Origin) -> str:
    """Such as "lcd(world=luxo, physics=faithful)"."""
    described = ", ".join(f"{key}={value}" for key, value in settings(origin).items())
    return f"{_env(origin).replace('/', '.').rpartition('.')[2]}({described})"


def _env(origin: Origin) -> str:
    return str(origin.get(PIECE, origin.get(TARGET)))


def _all_but_the_clock(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in SAME_WORLD}
