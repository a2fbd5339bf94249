"""Which world data and policies are from: an env's class, and those of its settings that make another world.

Spaces cannot tell: Luxo's and Urchin's are equal. What is told apart is what follows after a state and an
action; clocks, renderings, tasks and their rewards are no other world.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from wmplay import registry

Origin: TypeAlias = Mapping[str, Any]  # "_target_" and settings, as JSON has them

ATTRIBUTE = "wmplay_origin"  # of an env that was built from a config
SAME_WORLD = ("max_steps", "render_mode")  # settings that any env may have, and that change nothing in it


def origin_of(config: Mapping[str, Any]) -> Origin:
    """The origin of what an env of this config gives.

    An env's class may have ``world_settings(settings)``, a static method that gives those of its settings (or
    what follows from them) which make another world. By default all do, but for ``SAME_WORLD``.
    """
    env_class = registry.target(config)
    settings = {
        key: value
        for key, value in {**registry.default_settings(env_class), **config}.items()
        if key != "_target_"
    }
    choose = getattr(env_class, "world_settings", _all_but_the_clock)
    content: Origin = json.loads(
        json.dumps({"_target_": config["_target_"], **choose(settings)}, default=repr)
    )
    return content


def known_origin(env: Any) -> Origin | None:
    """The origin of an env (single or vector), if it was built from a config, as ``make_env`` does."""
    return getattr(env, ATTRIBUTE, None)


def is_origin(value: Any) -> bool:
    """Whether something read from a file can be an origin."""
    return isinstance(value, Mapping) and isinstance(value.get("_target_"), str)


def same_world(one: Origin, other: Origin) -> bool:
    """Whether two origins are one world. A setting that only one of them has is newer, and does not count."""
    return all(one[key] == other[key] for key in one.keys() & other.keys())


def in_words(origin: Origin) -> str:
    """Such as "LcdEnv(world=luxo, physics=faithful)"."""
    settings = ", ".join(f"{key}={value}" for key, value in origin.items() if key != "_target_")
    return f"{origin['_target_'].rpartition('.')[2]}({settings})"


def _all_but_the_clock(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in SAME_WORLD}
