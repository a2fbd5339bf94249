"""The question of a study, read from a YAML file: arms, worlds, seeds, budget, metric, comparisons."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from wmplay.config.settings import Seed
from wmplay.errors import ConfigError, UnknownName, suggestion
from wmplay.evaluation.ranking.rank_run import OWN, RANDOM
from wmplay.evaluation.scores import Evaluation
from wmplay.system.reading import read_yaml

BUILT_IN = Path(__file__).parent / "built_in"
LARGEST = 1 << 20  # bytes of a study's file
DIGITS = 12  # of the digest
MODEL_SCORES = [each.name for each in fields(Evaluation) if each.name != "policies"]
POLICY_SCORES = ("policy", "policy_sampled")
POLICY_NUMBERS = ("return", "success", "success_at_end", "length")

Name: TypeAlias = Annotated[str, Meta(pattern=r"^[\w ,.+-]{1,60}$")]
Overrides: TypeAlias = list[str]
Positive: TypeAlias = Annotated[float, Meta(gt=0)]


@dataclass(frozen=True)
class Budget:
    """The amount that every arm gets in each world, in one unit.

    Attributes:
        real_steps: taken in the real world for learning. Arms choose how; the number is checked.
        updates: of the model, in all iterations together. Sets ``fit.steps``.
        flops: floating-point operations of the model's updates, forwards and backwards. Sets ``fit.steps``.
        minutes: of fitting on this machine. Sets ``fit.minutes``.
    """

    real_steps: Annotated[int, Meta(ge=1)] | None = None
    updates: Annotated[int, Meta(ge=1)] | None = None
    flops: Positive | None = None
    minutes: Positive | None = None

    @property
    def unit(self) -> str:
        """The name of the unit."""
        return next(name for name, amount in asdict(self).items() if amount is not None)

    @property
    def amount(self) -> float:
        """The number of units."""
        return float(asdict(self)[self.unit])


@dataclass(frozen=True)
class Claim:
    """A claim that a study tests: about groups of arms, or about a number of the models.

    Attributes:
        arms: whose mean score is compared with that of ``than``; of a number, the arms that it is read from.
        than: other arms.
        number: about the models, such as "rewards/error", which is claimed to tell the metric.
        rival: another one, which is claimed to tell it less.
        worlds: in which; all by default.
        expect: of the arms: "better", "close" within the margin, or "not worse" than by it.
    """

    arms: list[str] = field(default_factory=list)
    than: list[str] = field(default_factory=list)
    number: str | None = None
    rival: str | None = None
    worlds: list[str] = field(default_factory=list)
    expect: Literal["better", "close", "not worse"] = "better"


@dataclass(frozen=True)
class Question:
    """A study as asked, before any run.

    Attributes:
        arms: {name: its overrides}.
        worlds: {name: its overrides}.
        name: of the study and its directory.
        about: the question in words.
        seeds: of the runs, or their number.
        episodes: of each evaluation.
        shared: overrides of all jobs.
        budget: equal for all arms.
        metric: a number of a run's evaluation, such as "policy/success".
        better: whether higher or lower numbers are better.
        comparisons: pairs of arms; by default all pairs.
        margin: differences of the metric below it count as none.
        difference: size of a difference that the study should find.
        solved: value of the metric that counts as success, for the question of what is at fault.
        looks: numbers of seeds after which the study stops if all comparisons are decided.
        may_differ: settings in which arms may differ without naming them.
        ceiling: overrides of the same planner on the true dynamics; null = no ceiling.
        policies: {name: overrides} of runs whose policies every arm's model ranks.
        imagined: episodes of each ranked policy in the model; null = eleven times ``episodes``.
        claims: {words: what is measured}, each of which gets a verdict.
    """

    arms: Mapping[Name, Overrides]
    worlds: Mapping[Name, Overrides]
    name: Annotated[str, Meta(pattern=r"^[\w.-]{1,60}$")] = "study"
    about: str = ""
    seeds: list[Seed] | Annotated[int, Meta(ge=1, le=1000)] = 5
    episodes: Annotated[int, Meta(ge=1)] = 100
    shared: Overrides = field(default_factory=list)
    budget: Budget | None = None
    metric: str = "policy/success"
    better: Literal["higher", "lower"] = "higher"
    comparisons: list[list[str]] | None = None
    margin: Positive | None = None
    difference: Positive | None = None
    solved: float | None = None
    looks: list[int] = field(default_factory=list)
    may_differ: list[str] = field(default_factory=list)
    ceiling: Overrides | None = field(default_factory=list)
    policies: Mapping[Name, Overrides] = field(default_factory=dict)
    imagined: Annotated[int, Meta(ge=2)] | None = None
    claims: Mapping[str, Claim] = field(default_factory=dict)

    @property
    def all_seeds(self) -> list[int]:
        """The seeds of the runs."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)

    @property
    def stops(self) -> list[int]:
        """The numbers of seeds at which the study is looked at; the last one is the number of all seeds."""
        return sorted({*self.looks, len(self.all_seeds)})

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The compared arms."""
        asked = combinations(self.arms, 2) if self.comparisons is None else self.comparisons
        return [(first, second) for first, second in asked]

    @property
    def target(self) -> float | None:
        """The value of the metric that counts as solved; nine tenths for a success rate."""
        rate = self.metric.partition("/")[2].startswith("success")
        return self.solved if self.solved is not None else 0.9 if rate else None

    def content(self) -> dict[str, Any]:
        """Return the question as plain values."""
        return asdict(self)

    @property
    def digest(self) -> str:
        """The identity of what is asked: of every entry except ``name`` and ``about``."""
        left_out = ["name", "about", *(() if self.policies else ("policies", "imagined"))]
        left_out += () if self.claims else ("claims",)  # studies of 0.2.0's first days have none
        content = {key: value for key, value in self.content().items() if key not in left_out}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:DIGITS]


def built_in() -> dict[str, Path]:
    """Return {name: file} of the studies that come with the package."""
    return {path.stem: path for path in sorted(BUILT_IN.glob("*.yaml"))}


def read(file: str | Path) -> Question:
    """Return the question in a study's file, given by its path, or by the name of a built-in study.

    Raises:
        UnknownName: if no built-in study has the name.
        ConfigError: for a file that does not exist, an unknown key, a value of a wrong type, or a question
            that cannot be answered.
    """
    path = Path(file)
    if not path.exists() and str(file) in built_in():
        path = built_in()[str(file)]
    try:
        content = read_yaml(path, ConfigError, LARGEST)
    except FileNotFoundError:
        if path.suffix:
            raise ConfigError(f"{path} does not exist", expected="a study's file") from None
        raise UnknownName("study", str(file), built_in()) from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is no study", got=type(content).__name__, expected="a mapping of settings")
    return question_of({"name": path.stem, **content}, str(path))


def question_of(content: Mapping[str, Any], source: str) -> Question:
    """Return the question that plain values hold. Raise ConfigError, with the source in its line."""
    _check_keys(content, Question, source)
    for kind, entries in ((Budget, {"": content.get("budget")}), (Claim, content.get("claims"))):
        for entry in entries.values() if isinstance(entries, Mapping) else ():
            _check_keys(entry, kind, source)
    for key in ("arms", "worlds"):
        if not content.get(key):
            raise ConfigError(f"{source} has no {key}", expected=f"{key}: {{name: [key=value, ...]}}")
    try:
        asked = msgspec.convert(dict(content), Question)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {error}", advice="see docs/studies.md") from None
    _check(asked, source)
    return asked


def _check_keys(content: Any, kind: type, source: str) -> None:
    """Raise ConfigError for a key of a mapping that a dataclass does not have."""
    known = [each.name for each in fields(kind)]
    for key in content if isinstance(content, Mapping) else ():
        if key not in known:
            raise ConfigError(f"{source}: no key '{key}'", got=key, advice=suggestion(str(key), known))


def _check(asked: Question, source: str) -> None:
    """Raise ConfigError for entries that do not fit each other."""
    if len(asked.arms) < 2:
        raise ConfigError(f"{source} has one arm", got=1, expected="two arms or more, to compare")
    for pair in asked.comparisons or []:
        if len(pair) != 2 or pair[0] == pair[1]:
            raise ConfigError(f"{source}: comparison {pair}", got=pair, expected="two different arms")
        for arm in pair:
            if arm not in asked.arms:
                raise UnknownName(f"arm of a comparison in {source}:", arm, asked.arms)
    if len(set(map(frozenset, asked.pairs))) < len(asked.pairs) or not asked.pairs:
        raise ConfigError(f"{source}: comparisons must be different pairs, and at least one")
    seeds = asked.all_seeds
    if len(set(seeds)) < len(seeds) or not seeds:
        raise ConfigError(f"{source}: seeds are {seeds}", got=seeds, expected="different numbers")
    if any(not 2 <= look <= len(seeds) for look in asked.looks):
        raise ConfigError(
            f"{source}: looks are {asked.looks}",
            got=asked.looks,
            expected=f"numbers of seeds, 2 to {len(seeds)}",
        )
    amounts = [] if asked.budget is None else [x for x in asdict(asked.budget).values() if x is not None]
    if asked.budget is not None and len(amounts) != 1:
        raise ConfigError(
            f"{source}: the budget has {len(amounts)} units",
            got=len(amounts),
            expected="one of real_steps, updates, flops, minutes",
        )
    check_metric(asked.metric)
    for name in (RANDOM, OWN):
        if name in asked.policies:
            raise ConfigError(f"{source}: policy '{name}' is always ranked", got=name, advice="leave it out")
    for words, claim in asked.claims.items():
        _check_claim(asked, claim, f"{source}: claim '{words}'")


def _check_claim(asked: Question, claim: Claim, where: str) -> None:
    """Raise ConfigError or UnknownName for a claim that cannot be tested."""
    for kind, names, known in (
        ("arm", [*claim.arms, *claim.than], asked.arms),
        ("world", claim.worlds, asked.worlds),
    ):
        for name in names:
            if name not in known:
                raise UnknownName(f"{kind} of {where}:", name, known)
    if (claim.number is None) != bool(claim.arms and claim.than) or (claim.rival and not claim.number):
        raise ConfigError(
            f"{where} compares nothing",
            got=[key for key in ("arms", "than", "number", "rival") if asdict(claim)[key]],
            expected="arms and than, or a number",
        )
    if claim.expect != "better" and (claim.number or asked.margin is None):
        raise ConfigError(
            f"{where} expects '{claim.expect}' without a margin",
            got=claim.expect,
            expected="groups of arms, and margin: the difference of scores that counts as none",
        )
    for name in filter(None, (claim.number, claim.rival)):
        if name.partition("/")[0] not in MODEL_SCORES:
            raise UnknownName(f"number of {where}:", name, [f"{score}/..." for score in MODEL_SCORES])


def check_metric(metric: str) -> None:
    """Raise UnknownName for a name that is no number of an evaluation."""
    score, _, number = metric.partition("/")
    if score in POLICY_SCORES:
        if number not in POLICY_NUMBERS:
            raise UnknownName("metric", metric, [f"{score}/{name}" for name in POLICY_NUMBERS])
    elif score not in MODEL_SCORES or not number:
        known = [f"{name}/{number}" for name in POLICY_SCORES for number in POLICY_NUMBERS]
        raise UnknownName("metric", metric, [*known, *(f"{name}/..." for name in MODEL_SCORES)])


def differences(before: Question, after: Question) -> list[str]:
    """Return one line for each entry in which a question differs from an earlier one."""
    one, other = before.content(), after.content()
    return [
        f"{key}: {_shown(one[key])} -> {_shown(other[key])}"
        for key in one
        if key not in ("name", "about") and one[key] != other[key]
    ]


def _shown(value: Any, limit: int = 120) -> str:
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        value = json.dumps(value)
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit]} ..."
