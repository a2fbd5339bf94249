"""References: a config names a piece by ``kind/name``, and this module finds the class behind the name.

The config of a piece holds its settings and its name, as in ``{"_piece_": "model/rssm", "deter": 8}``. The
underscores keep that key apart from settings. Version 0.1 wrote the path of the class, ``_target_``; a table
in this module maps those paths to pieces. When a class moves, the table stays as it is. A class that is not
registered is neither imported nor called.
"""

from __future__ import annotations

import pkgutil
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any

from wmplay.config import plugins
from wmplay.config.catalogue import (
    config_names,
    declared_path,
    load_declaring,
    path_of,
    registered,
    still_loaded,
    unknown_piece,
)
from wmplay.config.constructors import default_settings, label, shortened
from wmplay.config.kinds import KINDS, PIECE, TARGET
from wmplay.errors import ConfigError

REFERENCE = re.compile(r"(\w+)/([\w.-]{1,99})")

MOVED: Mapping[str, str] = {
    "wmplay.envs.atari.AtariEnv": "env/atari",
    "wmplay.envs.dm_control.DmControlEnv": "env/dm_control",
    "wmplay.envs.gym.GymEnv": "env/gym",
    "wmplay.envs.lcd.LcdEnv": "env/lcd",
    "wmplay.envs.minigrid.MiniGridEnv": "env/minigrid",
    "wmplay.recorded.RecordedEnv": "env/recorded",
    "wmplay.models.ensemble.Ensemble": "model/ensemble",
    "wmplay.models.fbt.FBT": "model/fbt",
    "wmplay.models.fit.FIT": "model/fit",
    "wmplay.models.frnld.FRNLD": "model/frnld",
    "wmplay.models.gru.GRU": "model/gru",
    "wmplay.models.mlp.MLP": "model/mlp",
    "wmplay.models.rssm.RSSM": "model/rssm",
    "wmplay.planners.cem.CEM": "planner/cem",
    "wmplay.planners.random_shooting.RandomShooting": "planner/random_shooting",
    "wmplay.policies.mpc.MPC": "policy/mpc",
    "wmplay.policies.ppo.PPO": "policy/ppo",
    "wmplay.policies.random.RandomPolicy": "policy/random",
    "wmplay.policies.sac.SAC": "policy/sac",
    "wmplay.policies.exploration.EpsilonGreedy": "explorer/epsilon_greedy",
    "wmplay.policies.exploration.GaussianNoise": "explorer/gaussian_noise",
    "wmplay.policies.exploration.RandomColdStart": "explorer/random_cold_start",
    "wmplay.policies.exploration.Randomizer": "explorer/randomizer",
    "wmplay.objectives.DiscountedReturn": "objective/discounted_return",
    "wmplay.objectives.GoalDistance": "objective/goal_distance",
    "wmplay.objectives.SumOfRewards": "objective/sum_of_rewards",
    "wmplay.loggers.NoLogger": "logger/none",
    "wmplay.loggers.TensorBoardLogger": "logger/tensorboard",
    "wmplay.loggers.WandbLogger": "logger/wandb",
}


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a piece's settings: its config without the key that names the piece."""
    return {key: value for key, value in config.items() if key not in (PIECE, TARGET)}


def with_reference(config: Mapping[str, Any], reference: str | None) -> dict[str, Any]:
    """Return a piece's config with its path replaced by a reference; unchanged if the reference is None."""
    return dict(config) if reference is None else {PIECE: reference, **settings(config)}


def target(config: Mapping[str, Any]) -> Callable[..., Any]:
    """Return the class (or function) of a piece's config.

    Raises:
        ConfigError: if the config names no piece, or one that is not available.
        PluginError: for a piece of a plugin that does not load.
    """
    reference, path = config.get(PIECE), config.get(TARGET)
    if (reference is None) == (path is None):
        raise ConfigError(f"a piece's config needs {PIECE}: <kind>/<name>")
    if reference is None:
        reference = reference_of(path)
        if reference is None:  # a plugin may register in ways that cannot be read off its text
            plugins.load_all()
            reference = reference_of(path)
        if reference is None:
            raise ConfigError(
                _not_here(f"no piece is the class {shortened(path)}", _plugin_in(path)), got=path
            )
    parts = REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
    if parts is None or parts[1] not in KINDS:
        raise ConfigError(
            f"{PIECE} is {shortened(reference)}", got=reference, expected="<kind>/<name>, as in model/rssm"
        )
    return class_of(parts[1], parts[2])


def class_of(kind: str, name: str) -> Callable[..., Any]:
    """Return the class (or function) of a piece by its name.

    Raises:
        ConfigError: if the kind has no piece of this name.
        PluginError: for a piece of a plugin that does not load.
    """
    if name not in config_names(kind):
        load_declaring(kind, name)
        if (kind, name) not in registered():
            plugins.load_all()  # one may register in ways that cannot be read off its text
        found = registered().get((kind, name)) or still_loaded(kind, name)
        if found is None:
            raise ConfigError(_not_here(str(unknown_piece(kind, name)), None), got=name)
        return found
    path = declared_path(kind, name)
    if path is None:  # a variant of another piece
        from wmplay.config import loading  # Hydra, which few callers need

        path = loading.load_group(kind, name).get(TARGET)
    return _imported(path)


def reference_of(path: Any) -> str | None:
    """Return the piece (``kind/name``) that a dotted path means now or meant once, or None; import
    nothing."""
    if not isinstance(path, str):
        return None
    if path in MOVED:
        return MOVED[path]
    for kind in KINDS:
        for name in sorted(config_names(kind)):
            if declared_path(kind, name) == path:
                return f"{kind}/{name}"
    for (kind, name), cls in registered().items():
        if path_of(cls) == path:
            return f"{kind}/{name}"
    for plugin in plugins.plugins():
        for (kind, name), class_name in plugins.declared(plugin).items():
            if f"{plugin.module}.{class_name}" == path:
                return f"{kind}/{name}"
    return None


def by_reference(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a piece's config with a known path replaced by the piece's name."""
    return with_reference(config, None if PIECE in config else reference_of(config.get(TARGET)))


def as_first_written(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a piece's config as version 0.1 wrote it, by path, for digests taken of that form."""
    paths = {reference: path for path, reference in MOVED.items()}
    make = target(config)
    path = paths.get(by_reference(config)[PIECE], f"{make.__module__}.{label(make)}")
    return {TARGET: path, **settings(config)}


def own_config(kind: str, name: str) -> dict[str, Any]:
    """Return the config of a registered class: the defaults of its constructor."""
    return {PIECE: f"{kind}/{name}", **default_settings(registered()[kind, name])}


def _imported(path: Any) -> Callable[..., Any]:
    """Import the class that a piece's YAML names."""
    if not isinstance(path, str):
        raise ConfigError(f"{TARGET} is {shortened(path)}", expected="the dotted path of a class")
    if path.startswith(f"{plugins.NAMESPACE}."):
        plugins.load_all()
    module, _, attribute = path.rpartition(".")
    try:
        found = pkgutil.resolve_name(f"{module}:{attribute}")
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{TARGET} '{path}' cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigError(f"{TARGET} '{path}' is not a class")
    return typing.cast(Callable[..., Any], found)


def _plugin_in(path: Any) -> str | None:
    """Return the name of the plugin in the path of a plugin's class."""
    parts = path.split(".") if isinstance(path, str) else []
    return parts[1] if parts[:1] == [plugins.NAMESPACE] and len(parts) > 2 else None


def _not_here(problem: str, plugin: str | None) -> str:
    where = "./plugins or a folder of $WMPLAY_PLUGINS, or install it"
    if plugin is not None:
        return f"{problem}: put the plugin {shortened(plugin)} into {where}"
    return f"{problem}; if a plugin registers it, put that into {where}"
