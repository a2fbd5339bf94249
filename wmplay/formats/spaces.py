"""Spaces of recorded data, from its metadata or from the world that it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from gymnasium.spaces import Space

from wmplay import registry
from wmplay.config.constructors import default_settings
from wmplay.config.kinds import PIECE
from wmplay.config.references import settings
from wmplay.contracts import Provenance
from wmplay.envs import build_env
from wmplay.errors import WmplayError
from wmplay.vector.spaces import space_from_json, space_to_json

NAMES = ("observation_space", "action_space")  # in metadata, as JSON


def given_spaces(metadata: Mapping[str, Any]) -> dict[str, Space[Any]]:
    """Return the spaces in metadata by name, in wmplay's or Minari's notation."""
    found = {name: _space(metadata[name]) for name in NAMES if name in metadata}
    return {name: space for name, space in found.items() if space is not None}


def described(spaces: Mapping[str, Space[Any]]) -> dict[str, Any]:
    """Return spaces in wmplay's notation for metadata."""
    return {name: space_to_json(space) for name, space in spaces.items()}


def config_of_world(origin: Provenance) -> dict[str, Any] | None:
    """Return the config of an env of the world that data comes from, or None if it cannot be built here.

    For an ``id`` of the form ``module:Name-v0`` the result is None, because data must not import a module.
    """
    if ":" in str(origin.get("id", "")):
        return None
    try:
        known = default_settings(registry.target(origin))
    except WmplayError:
        return None
    return {PIECE: origin[PIECE], **{key: value for key, value in settings(origin).items() if key in known}}


def spaces_of_world(config: Mapping[str, Any]) -> dict[str, Space[Any]]:
    """Return the spaces of an env with this config, or nothing if it cannot be built here."""
    try:
        with closing(build_env(config)) as env:
            return dict(zip(NAMES, (env.observation_space, env.action_space), strict=True))
    except WmplayError:
        return {}


def _space(content: Any) -> Space[Any] | None:
    """Return a space from JSON, or None if the content is not a space."""
    try:
        if isinstance(content, str):
            from minari.serialization import deserialize_space

            space: Space[Any] = deserialize_space(content)
            return space
        return space_from_json(content)
    except (ImportError, KeyError, TypeError, ValueError, AssertionError, NotImplementedError):
        return None
