"""What the loop's own settings may be: the part of ``configs/train.yaml`` that belongs to no piece.

The file itself says which keys there are and, by its values, of which type; here stands only what a value
in YAML cannot say. A composed config is checked before anything is built: a typo must not cost a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from wmplay.config.constructors import shortened
from wmplay.config.kinds import KINDS, PIECE, TARGET
from wmplay.errors import LARGEST_COUNT, LARGEST_SEED, ConfigError, check_range, suggestion


@dataclass(frozen=True)
class Limit:
    """What a setting may be, beyond the type of its default.

    Attributes:
        least: the smallest value.
        most: the largest value.
        above: an open lower end.
        choices: the only values; besides those of the type ``otherwise``, where there is one.
        otherwise: the type of a setting that may be null.
        may_lack: whether a config may leave it out, as those of older runs do.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    otherwise: type | None = None
    may_lack: bool = False


LIMITS: Mapping[str, Limit] = {
    "seed": Limit(least=0),
    "run": Limit(otherwise=str),
    "dir": Limit(otherwise=str),
    "iterations": Limit(least=1),
    "threads": Limit(least=1, otherwise=int, choices=("auto",)),
    "env.data": Limit(otherwise=str),
    "env.other_world": Limit(may_lack=True),
    "collect.random_episodes": Limit(least=0),
    "collect.held": Limit(least=0, most=1),
    "collect.episodes": Limit(least=0),
    "collect.num_envs": Limit(least=1),
    "collect.num_workers": Limit(least=0),
    "collect.workers": Limit(choices=("local", "ray"), may_lack=True),
    "collect.max_episode_steps": Limit(least=1, otherwise=int),
    "collect.max_steps": Limit(least=1, otherwise=int),
    "fit.steps": Limit(least=0),
    "fit.minutes": Limit(above=0, otherwise=float, may_lack=True),
    "fit.batch_size": Limit(least=1),
    "fit.length": Limit(least=1),
    "fit.lr": Limit(above=0),
    "fit.weight_decay": Limit(least=0),
    "fit.replay_ratio": Limit(least=0),
    "fit.schedule": Limit(choices=("cosine", "cosine_restarts", "constant")),
    "fit.warmup": Limit(least=0),
    "fit.clip": Limit(above=0),
    "fit.precision": Limit(choices=("auto", "float32", "bfloat16")),
    "fit.log_every": Limit(least=1),
    "fit.explode": Limit(above=1),
    "improve.steps": Limit(least=0),
    "improve.world": Limit(choices=("learned", "real")),
    "improve.num_envs": Limit(least=1),
    "improve.num_workers": Limit(least=0),
    "learned.starts": Limit(choices=("env", "store")),
    "learned.count": Limit(least=1),
    "learned.context": Limit(least=1),
    "learned.reward": Limit(choices=("task", "model")),
    "learned.temperature": Limit(least=0),
    "learned.max_steps": Limit(least=1, otherwise=int),
    "evaluate.every": Limit(least=1),
    "evaluate.seed": Limit(least=0),
    "evaluate.prediction.episodes": Limit(least=0),
    "evaluate.prediction.context": Limit(least=1),
    "evaluate.prediction.horizon": Limit(least=1),
    "evaluate.generation.clips": Limit(least=0),
    "evaluate.generation.futures": Limit(least=2),
    "evaluate.generation.steps": Limit(least=1),
    "evaluate.arbiter.clips": Limit(least=0),
    "evaluate.policy.episodes": Limit(least=0),
    "evaluate.policy.reference": Limit(otherwise=str),
    "checkpoint.every": Limit(least=0),
}


def check(config: DictConfig, defaults: Mapping[str, Any], kinds: tuple[str, ...]) -> None:
    """Compares a run's config with its defaults; what is in the pieces is left to their constructors.

    Args:
        config: of a run.
        defaults: what ``train.yaml`` holds.
        kinds: the keys that hold pieces.

    Raises:
        ConfigError: for the first key that is unknown or missing, or whose value is of a wrong type or
            out of range.
    """
    content = OmegaConf.to_container(config, resolve=True)
    assert isinstance(content, dict)
    for kind in kinds:
        if kind not in content:
            raise ConfigError(f"there is no '{kind}', which every config of a run has, if only as null")
        _check_piece(kind, content[kind], defaults.get(kind, {}))
    _check_section("", content, defaults, open_keys=kinds)


def _check_piece(kind: str, value: Any, lent: Mapping[str, Any]) -> None:
    """Whether a key holds a piece, besides the settings that it lends to the loop."""
    choose = f"choose one by {kind}=<name>"
    if value is None and not KINDS[kind].required:
        return
    if not isinstance(value, Mapping | None):
        raise ConfigError(f"{kind} is {_shown(value)}, expected the config of a piece: {choose}")
    own = [str(key) for key in value or {} if key not in lent]
    if not own:
        raise ConfigError(f"there is no {kind}: {choose}")
    if PIECE not in own and TARGET not in own:
        raise ConfigError(f"{kind} has settings ({', '.join(own)}) but no piece that takes them: {choose}")


def _check_section(
    name: str, content: Mapping[Any, Any], defaults: Mapping[str, Any], open_keys: tuple[str, ...] = ()
) -> None:
    where = f" in {name}" if name else ""
    for key in content:
        if key not in defaults and key not in open_keys:
            raise ConfigError(f"no key '{key}'{where}: {suggestion(str(key), {*defaults, *open_keys})}")
    for key, default in defaults.items():
        path = f"{name}.{key}" if name else key
        if key not in content:
            if LIMITS.get(path, Limit()).may_lack:
                continue
            raise ConfigError(
                f"there is no '{key}'{where}, which every run needs: leave its default in place"
            )
        value = content[key]
        if not isinstance(default, Mapping):
            _check_value(path, value, default, LIMITS.get(path, Limit()))
        elif not isinstance(value, Mapping):
            raise ConfigError(f"{path} is {_shown(value)}, expected a mapping of settings")
        elif key in open_keys:  # a piece that lends its key to the loop, as in env.data
            _check_section(path, {k: value[k] for k in default if k in value}, default)
        elif default:  # an empty one takes any key
            _check_section(path, value, default)


def _check_value(path: str, value: Any, default: Any, limit: Limit) -> None:
    if value is None and limit.otherwise is not None:
        return
    expected = limit.otherwise or type(default)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    right_type = number if expected is float else type(value) is expected
    words = expected.__name__
    fine = right_type
    if limit.choices and not (limit.otherwise and right_type):
        words, fine = " or ".join(f"'{choice}'" for choice in limit.choices), value in limit.choices
        words += f" or {expected.__name__} >= {limit.least:g}" if limit.otherwise else ""
    elif limit.least is not None:
        words, fine = f"{words} >= {limit.least:g}", right_type and value >= limit.least
        if limit.most is not None:
            words, fine = f"{words} and <= {limit.most:g}", fine and value <= limit.most
    elif limit.above is not None:
        words, fine = f"{words} > {limit.above:g}", right_type and value > limit.above
    if fine and expected is int and limit.most is None and not limit.choices:
        check_range(path, value, value, LARGEST_SEED if path.endswith("seed") else LARGEST_COUNT)
    if not fine:
        got = shortened(value) if right_type else _shown(value)
        raise ConfigError(f"{path} is {got}, expected {words}{' or null' if limit.otherwise else ''}")


def _shown(value: Any) -> str:
    return "null" if value is None else f"{shortened(value)} ({type(value).__name__})"
