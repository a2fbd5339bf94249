"""The jobs of a study: its runs, composed and compared before any of them starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import torch

from wmplay import registry
from wmplay.config.overrides import parse
from wmplay.config.settings import Settings
from wmplay.contracts import Simulator
from wmplay.envs import build_env
from wmplay.errors import ConfigError, WmplayError
from wmplay.evaluation.manifest import Manifest, draw_manifest
from wmplay.evaluation.scores import selected_horizons
from wmplay.runs.pieces import assemble, env_config
from wmplay.runs.sweep_directory import digest
from wmplay.runs.worlds import longest_episode, steps_of_starts
from wmplay.studies.question import Budget, Question
from wmplay.studies.work import flops_of_update

SCORED = ("evaluate.policy.episodes", "evaluate.policy.starts")
STUDYS_OWN = ("seed", "name", "dir", "run", "evaluate.seed", "report", *SCORED)
NEVER_DIFFER = ("env", "evaluate", "collect.max_episode_steps", "collect.env")
FREE = ("evaluate.every", "name")  # no part of a comparison
WITHOUT_MODEL = ("model", "fit", "collect", "iterations", "improve")  # settings that an oracle has no use for
ORACLE = ["model=oracle", "fit.steps=0", "collect.random_episodes=0", "iterations=1", "evaluate.every=1"]
ORACLE += ["evaluate.prediction.episodes=0", "evaluate.generation.clips=0"]
UNSCORED = [f"evaluate.{key}=0" for key in ("prediction.episodes", "generation.clips", "policy.episodes")]
UNSCORED += ["evaluate.arbiter.clips=0", "report=false"]
OFF = {  # settings without which an evaluation has no score of a name
    **dict.fromkeys(("prediction", "rewards", "surprise", "features"), "evaluate.prediction.episodes"),
    **dict.fromkeys(("spread", "calibration", "agreement"), "evaluate.generation.clips"),
    "actions": "evaluate.prediction.actions",
    "arbiter": "evaluate.arbiter.clips",
    "violation": "evaluate.violation.pairs",
    "factors": "evaluate.factors",
}
TOLERANCE = 0.01  # share by which planned real steps may miss the budget


@dataclass(frozen=True)
class StudyJob:
    """One run of a study.

    Attributes:
        arm: its name.
        world: its name.
        seed: of the run.
        ceiling: whether it is the arm's planner on the true dynamics.
        overrides: as typed for ``wmplay train``.
        settings: as composed.
    """

    arm: str
    world: str
    seed: int
    ceiling: bool
    overrides: list[str]
    settings: Settings

    @property
    def directory(self) -> str:
        """The name of the run's directory."""
        return digest(self.settings)


@dataclass(frozen=True)
class Plan:
    """All jobs of a study, with the manifests of its worlds."""

    question: Question
    jobs: list[StudyJob]  # seeds first, so that a study that is stopped has whole seeds
    manifests: Mapping[str, Manifest]  # of each world
    policies: list[StudyJob]  # whose policies are ranked; ``arm`` is the policy's name

    def of(self, arm: str, world: str, ceiling: bool = False) -> list[StudyJob]:
        """Return the jobs of an arm in a world, by seed."""
        return [job for job in self.jobs if (job.arm, job.world, job.ceiling) == (arm, world, ceiling)]


def plan_jobs(asked: Question) -> Plan:
    """Compose all jobs of a study, and check that its arms differ in nothing else than they say.

    Raises:
        WmplayError: for arms or worlds that do not compose, that are no fair comparison, or that cannot have
            the budget or the metric; one line.
    """
    first, *others = asked.all_seeds
    begun: list[StudyJob] = []
    for world in asked.worlds:
        alike = [_job(asked, arm, world, first) for arm in asked.arms]
        _check_alike(asked, alike)
        told = [name for claim in asked.claims.values() for name in (claim.number, claim.rival) if name]
        for job, name in product(alike, [asked.metric, *told]):
            _check_number(name, job)
        begun += alike
    manifests = {world: draw_manifest(_first(begun, world).settings) for world in asked.worlds}
    if asked.metric.partition("/")[2].startswith("success"):
        for world, manifest in manifests.items():
            if not manifest.has_goal:
                raise ConfigError(
                    f"world '{world}' has no goal, so that nothing succeeds in it",
                    got=asked.metric,
                    advice="choose metric: policy/return",
                )
    ceilings = [] if asked.ceiling is None else [found for job in begun if (found := _ceiling(asked, job))]
    again = [
        replace(
            job,
            seed=seed,
            overrides=[*job.overrides[:-1], f"seed={seed}"],
            settings=replace(job.settings, seed=seed),
        )
        for seed in others
        for job in begun
    ]
    policies = [_policy(asked, name, world, first) for world in asked.worlds for name in asked.policies]
    return Plan(asked, [*begun, *ceilings, *again], manifests, policies)


def _first(jobs: Sequence[StudyJob], world: str) -> StudyJob:
    return next(job for job in jobs if job.world == world)


def _job(asked: Question, arm: str, world: str, seed: int) -> StudyJob:
    """Return the job of an arm in a world; its own overrides replace those of the world and the study."""
    own, shared = asked.arms[arm], [*asked.worlds[world], *asked.shared]
    for text in (*own, *shared):
        (override,) = parse([text])
        if _covers(STUDYS_OWN, override.key_or_group):
            raise ConfigError(
                f"arm '{arm}' in world '{world}' sets {text}, which the study sets itself",
                got=text,
                advice="use the keys seeds, episodes and metric of the study",
            )
    overrides = _joined(own, shared)
    overrides += [
        f"evaluate.policy.episodes={asked.episodes}",
        "evaluate.policy.starts=manifest",
        "report=false",
    ]
    settings = registry.compose([*overrides, f"seed={seed}"])
    if asked.budget is not None:
        overrides += _budget(asked.budget, settings, f"arm '{arm}' in world '{world}'")
    overrides.append(f"seed={seed}")
    return StudyJob(arm, world, seed, False, overrides, registry.compose(overrides))


def _policy(asked: Question, name: str, world: str, seed: int) -> StudyJob:
    """Return the job that makes a policy to be ranked; it is not evaluated itself.

    Shared settings of a piece that the policy chooses itself do not apply to it.
    """
    own = asked.policies[name]
    chosen = {each.key_or_group for each in parse(own) if "." not in each.key_or_group}
    shared = [text for text in asked.shared if not _covers(chosen, parse([text])[0].key_or_group)]
    overrides = [*_joined(own, [*asked.worlds[world], *shared]), *UNSCORED, f"seed={seed}"]
    return StudyJob(name, world, seed, False, overrides, registry.compose(overrides))


def _joined(own: Sequence[str], shared: Sequence[str]) -> list[str]:
    """Return overrides with experiments first, then shared ones that are not replaced by own ones."""
    replaced = {override.key_or_group for override in parse(own)}
    kept = [text for text in shared if parse([text])[0].key_or_group not in replaced]
    every = [*kept, *own]
    experiments = [text for text in every if text.startswith("experiment=")]
    return [*experiments, *(text for text in every if text not in experiments)]


# ---- the budget ------------------------------------------------------------------------------------------


def _budget(budget: Budget, settings: Settings, who: str) -> list[str]:
    """Return the overrides that give a job its budget; check a budget of real steps."""
    if budget.real_steps is not None:
        steps = real_steps(settings)
        if steps is not None and abs(steps - budget.real_steps) > TOLERANCE * budget.real_steps:
            raise ConfigError(
                f"{who} takes {steps:,} real steps, and the budget is {budget.real_steps:,}",
                got=steps,
                expected=f"{budget.real_steps:,}",
                advice="change its collect.episodes, collect.steps, improve.steps or iterations",
            )
        return []
    if settings.model is None:
        raise ConfigError(
            f"{who} has no model, whose updates a budget of {budget.unit} could count",
            got=budget.unit,
            advice="choose budget: {real_steps: ...}",
        )
    if budget.minutes is not None:
        return [f"fit.minutes={budget.minutes}", "fit.replay_ratio=0"]
    updates: float = budget.updates or (budget.flops or 0) / flops_of_update(settings)
    each = round(updates / settings.iterations)
    if abs(each * settings.iterations - updates) > TOLERANCE * updates:
        raise ConfigError(
            f"{who} has {settings.iterations} iterations, which cannot share {updates:,.0f} updates equally",
            got=settings.iterations,
            advice="change its iterations, or the budget",
        )
    return [f"fit.steps={each}", "fit.replay_ratio=0"]


def real_steps(settings: Settings) -> int | None:
    """Return the real steps that a run takes for learning if no episode ends early; None without a clock."""
    cfg, turns = settings.collect, settings.iterations
    steps = cfg.steps * turns + steps_of_starts(settings)
    if settings.improve.world == "real":
        steps += settings.improve.steps * turns
    episodes = cfg.random_episodes + cfg.episodes * turns
    if episodes:
        with closing(build_env(env_config(settings, cfg.env))) as env:
            clock = longest_episode(settings, env)
        return None if clock is None else steps + episodes * clock
    return steps


# ---- the ceiling -----------------------------------------------------------------------------------------


def _ceiling(asked: Question, job: StudyJob) -> StudyJob | None:
    """Return the job of an arm's planner on the true dynamics; None where either does not exist."""
    plans = job.settings.policy is not None and "planner" in registry.needs(job.settings.policy)
    model = job.settings.model
    if not plans or job.settings.planner is None or model is None or model["_piece_"] == "model/oracle":
        return None
    with closing(build_env(env_config(job.settings))) as env:
        simulator = getattr(env.unwrapped, "simulator", None)
        if not isinstance(simulator, Simulator):
            return None
        first, _ = env.reset(seed=0)
        try:
            simulator.states({key: value[None] for key, value in first.items()})
        except WmplayError:  # frames do not show the state, which the true dynamics start from
            return None
    kept = [text for text in job.overrides[:-1] if not _covers(WITHOUT_MODEL, parse([text])[0].key_or_group)]
    real = env_config(job.settings)
    practised = [f"collect.env.{key}={_text(real[key])}" for key in job.settings.collect.env if key in real]
    zeros = ["collect.episodes=0", "collect.steps=0", "fit.replay_ratio=0", "improve.steps=0"]
    own = [*ORACLE, *zeros, *practised, *(asked.ceiling or [])]
    overrides = [*_joined(own, kept), f"seed={job.seed}"]
    settings = registry.compose(overrides)
    try:
        assemble(settings, torch.device("cpu"))
    except WmplayError:  # a planner that needs values or features, which the true dynamics do not have
        return None
    return StudyJob(job.arm, job.world, job.seed, True, overrides, settings)


def _text(value: Any) -> str:
    """Return a value as an override spells it."""
    return "null" if value is None else str(value)


# ---- equal footing ---------------------------------------------------------------------------------------


def _check_alike(asked: Question, jobs: Sequence[StudyJob]) -> None:
    """Raise ConfigError if two arms of a world differ in a setting that neither names."""
    flat = {job.arm: _flat(job.settings.config()) for job in jobs}
    set_by_budget = ["fit"] if asked.budget is not None and asked.budget.real_steps is None else []
    for one, other in combinations(jobs, 2):
        said = {each.key_or_group for each in parse([*asked.arms[one.arm], *asked.arms[other.arm]])}
        said |= {*asked.may_differ, *FREE, *(f"{key}.{name}" for key in set_by_budget for name in FIT)}
        mine, theirs = flat[one.arm], flat[other.arm]
        keys = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
        unfair = [key for key in keys if _covers(NEVER_DIFFER, key) and not _covers(FREE, key)]
        unsaid = [key for key in keys if not _covers(said, key)]
        for found, why in ((unfair, "in which no arms may differ"), (unsaid, "which neither says")):
            if found:
                shown = ", ".join(f"{key} ({mine.get(key)}, {theirs.get(key)})" for key in found[:3])
                more = f" and {len(found) - 3} more" if len(found) > 3 else ""
                elsewhere = "" if found is unfair else ", or name them in an arm or under may_differ"
                raise ConfigError(
                    f"'{one.arm}' and '{other.arm}' in world '{one.world}' differ in {shown}{more}, {why}",
                    got=found,
                    advice=f"give all arms one value under shared{elsewhere}",
                )


def _check_number(name: str, job: StudyJob) -> None:
    """Raise ConfigError if a job's evaluation cannot have a number, as far as its settings show."""
    score, _, number = name.partition("/")
    where = f"metric '{name}' of arm '{job.arm}' in world '{job.world}'"
    if score in OFF and not _flat(job.settings.config()).get(OFF[score]):
        raise ConfigError(f"{where} needs {OFF[score]}", got="off", advice=f"give {OFF[score]} under shared")
    if score in OFF and job.settings.model is None:
        raise ConfigError(f"{where} needs a model", got=None, advice="choose a metric of policies")
    horizon = number.partition("@")[2]
    known = selected_horizons(job.settings.evaluate.prediction.horizon)
    if score in ("prediction", "rewards", "actions") and horizon and horizon not in map(str, known):
        raise ConfigError(
            f"{where} has no horizon {horizon}",
            got=horizon,
            expected=", ".join(map(str, known)),
            advice="choose one of these, or another evaluate.prediction.horizon",
        )


FIT = ("steps", "minutes", "replay_ratio")  # settings of fit that a budget sets


def _covers(keys: Sequence[str] | set[str], key: str) -> bool:
    """Return whether a dotted key is one of some keys, or within one of them."""
    return any(key == each or key.startswith(f"{each}.") for each in keys)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of a config by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
