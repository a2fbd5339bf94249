"""The settings of a run: its pieces, and the loop's own settings in ``configs/train.yaml``.

The user reads the YAML, with a comment on every key; the code reads these classes, with the range of every
value in its annotation. A contract test keeps the keys and the defaults of both equal.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from wmplay.config.constructors import bare, in_words, shortened
from wmplay.config.kinds import KINDS, PIECE, TARGET
from wmplay.errors import LARGEST_COUNT, LARGEST_SEED, ConfigError, suggestion

Seed: TypeAlias = Annotated[int, Meta(ge=0, le=LARGEST_SEED)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=LARGEST_COUNT)]
Some: TypeAlias = Annotated[int, Meta(ge=1, le=LARGEST_COUNT)]
Several: TypeAlias = Annotated[int, Meta(ge=2, le=LARGEST_COUNT)]
Positive: TypeAlias = Annotated[float, Meta(gt=0)]
NotNegative: TypeAlias = Annotated[float, Meta(ge=0)]
Fraction: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Piece: TypeAlias = Mapping[str, Any]  # {"_piece_": "kind/name", setting: value, ...}
Optimizer: TypeAlias = Literal["adamw", "laprop"]
Schedule: TypeAlias = Literal["cosine", "cosine_restarts", "constant"]

Section = TypeVar("Section")
RECORDED = "recorded"  # the field for what the key ``env`` holds besides the env's own settings


@dataclass(frozen=True)
class RecordedSettings:
    """The entries of the key ``env`` that are not the env's own settings."""

    data: str | None = None
    other_world: bool = False


RUN_KEYS = {
    "env": tuple(field.name for field in fields(RecordedSettings))
}  # {kind: keys that are not its piece's}


@dataclass(frozen=True)
class CollectSettings:
    """The section ``collect``."""

    random_episodes: Count = 100
    held: Fraction = 0.0
    episodes: Count = 0
    steps: Count = 0
    num_envs: Some = 64
    num_workers: Count = 0
    workers: Literal["local", "ray"] = "local"
    max_episode_steps: Some | None = None
    env: Mapping[str, Any] = field(default_factory=dict)
    drift: Mapping[str, Any] = field(default_factory=dict)
    max_steps: Some | None = None

    @property
    def over_ray(self) -> bool:
        """``True`` if Ray's actors collect."""
        return self.workers == "ray"


@dataclass(frozen=True)
class FitSettings:
    """The section ``fit``."""

    steps: Count = 1000
    minutes: Positive | None = None
    replay_ratio: NotNegative = 0.0
    batch_size: Some = 48
    length: Some = 12
    ends: bool = False
    lr: Positive = 3e-3
    weight_decay: NotNegative = 1e-6
    optimizer: Optimizer = "adamw"
    agc: Positive | None = None
    schedule: Schedule = "cosine"
    warmup: Count = 50
    clip: Positive = 100.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    log_every: Some = 50
    explode: Annotated[float, Meta(gt=1)] = 1000.0


@dataclass(frozen=True)
class ImproveSettings:
    """The section ``improve``."""

    steps: Count = 0
    world: Literal["learned", "real", "none"] = "learned"
    num_envs: Some = 512
    num_workers: Count = 0


@dataclass(frozen=True)
class LearnedSettings:
    """The section ``learned``."""

    starts: Literal["env", "store"] = "env"
    count: Some = 2048
    context: Some = 1
    reward: Literal["task", "model"] = "task"
    temperature: NotNegative = 1.0
    max_steps: Some | None = None


@dataclass(frozen=True)
class PredictionSettings:
    """The section ``evaluate.prediction``."""

    episodes: Count = 256
    context: Some = 3
    horizon: Some = 20
    actions: bool = False


@dataclass(frozen=True)
class GenerationSettings:
    """The section ``evaluate.generation``."""

    clips: Count = 32
    futures: Several = 8
    steps: Some = 50


@dataclass(frozen=True)
class ArbiterSettings:
    """The section ``evaluate.arbiter``."""

    clips: Count = 0


@dataclass(frozen=True)
class ViolationSettings:
    """The section ``evaluate.violation``."""

    pairs: Count = 0


@dataclass(frozen=True)
class PolicySettings:
    """The section ``evaluate.policy``."""

    episodes: Count = 100
    starts: Literal["resets", "manifest"] = "resets"
    imagined: bool = False
    reference: str | None = None


@dataclass(frozen=True)
class EvaluateSettings:
    """The section ``evaluate``."""

    every: Some = 1
    seed: Seed = 1000
    prediction: PredictionSettings = PredictionSettings()
    generation: GenerationSettings = GenerationSettings()
    arbiter: ArbiterSettings = ArbiterSettings()
    violation: ViolationSettings = ViolationSettings()
    policy: PolicySettings = PolicySettings()
    factors: Mapping[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckpointSettings:
    """The section ``checkpoint``."""

    every: NotNegative = 60.0


@dataclass(frozen=True)
class Settings:
    """All settings of a run: its pieces by kind, then the loop's own."""

    env: Piece
    model: Piece | None
    planner: Piece | None
    objective: Piece | None
    policy: Piece | None
    explorer: Piece | None
    logger: Piece
    name: str = "run"
    seed: Seed = 0
    device: str = "auto"
    run: str | None = None
    dir: str | None = None
    iterations: Some = 1
    recorded: RecordedSettings = RecordedSettings()
    collect: CollectSettings = CollectSettings()
    fit: FitSettings = FitSettings()
    improve: ImproveSettings = ImproveSettings()
    learned: LearnedSettings = LearnedSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    threads: Literal["auto"] | Some | None = "auto"
    report: bool = True

    def pieces(self) -> dict[str, Piece]:
        """Return {kind: the config of its piece}, without the kinds that the run does without."""
        return {kind: piece for kind in KINDS if (piece := vars(self)[kind]) is not None}

    def config(self) -> dict[str, Any]:
        """Return the settings as plain values, as in ``config.yaml``; ``settings_of`` is the inverse."""
        content = asdict(self)
        content["env"] |= content.pop(RECORDED)
        return content


def settings_of(config: Mapping[str, Any], *, complete: bool = False) -> Settings:
    """Return the settings that a config holds; the constructors of the pieces check the pieces' settings.

    Args:
        config: composed, or saved by any version; a missing key gets its default.
        complete: whether every key is required, as in a composed config.

    Raises:
        ConfigError: for the first key that is unknown or missing, or whose value is of a wrong type or out of
            range.
    """
    content, own = dict(config), RUN_KEYS["env"]
    for kind in KINDS:
        if kind in content:
            _check_piece(kind, content[kind], RUN_KEYS.get(kind, ()))
    _check_known("", content, field_types(Settings).keys() - {RECORDED})
    if "env" in content:
        env = content["env"]
        content["env"] = {key: value for key, value in env.items() if key not in own}
        content[RECORDED] = {key: value for key, value in env.items() if key in own}
    return _section(Settings, "", content, complete)


@functools.cache
def field_types(section: type) -> dict[str, Any]:
    """Return {field: its annotation} of a dataclass, ranges included."""
    return typing.get_type_hints(section, include_extras=True)


def _check_piece(kind: str, value: Any, not_its: Collection[str]) -> None:
    """Raise ConfigError if a key holds no piece, apart from the settings that it lends to the loop."""
    choose = f"choose one by {kind}=<name>"
    if value is None and not KINDS[kind].required:
        return
    if not isinstance(value, Mapping | None):
        raise ConfigError(f"{kind} is {_shown(value)}", expected=f"the config of a piece: {choose}")
    own = [str(key) for key in value or {} if key not in not_its]
    if not own:
        raise ConfigError(f"there is no {kind}: {choose}")
    if PIECE not in own and TARGET not in own:
        raise ConfigError(f"{kind} has settings ({', '.join(own)}) but no piece that takes them: {choose}")


def _check_known(name: str, keys: Collection[Any], known: Collection[str]) -> None:
    for key in keys:
        if key not in known:
            where = f" in {name}" if name else ""
            raise ConfigError(f"no key '{key}'{where}", got=key, advice=suggestion(str(key), known))


def _section(section: type[Section], name: str, content: Any, complete: bool) -> Section:
    """Return the settings of a section; ``name`` precedes its keys in messages."""
    if not isinstance(content, Mapping):
        raise ConfigError(f"{name} is {_shown(content)}", expected="a mapping of settings")
    hints, values = field_types(typing.cast(type, section)), {}
    _check_known(name, content, hints)
    for each in fields(section):  # type: ignore[arg-type]
        key, hint = each.name, hints[each.name]
        path = "env" if key == RECORDED else f"{name}.{key}" if name else key
        if key in content:
            read = _section if is_dataclass(hint) else _value
            values[key] = read(hint, path, content[key], complete)
        elif complete or each.default is each.default_factory is MISSING:
            where = f" in {name}" if name else ""
            raise ConfigError(
                f"there is no '{key}'{where}, which every run needs", advice="leave its default in place"
            )
    return section(**values)


def _value(hint: Any, path: str, value: Any, _: bool) -> Any:
    """Return a value of the annotated type and within its range."""
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError:
        pass
    got = shortened(value)
    try:
        msgspec.convert(value, bare(hint))
    except msgspec.ValidationError:
        got = _shown(value)
    raise ConfigError(f"{path} is {got}", got=value, expected=in_words(hint, value))


def _shown(value: Any) -> str:
    return "null" if value is None else f"{shortened(value)} ({type(value).__name__})"
