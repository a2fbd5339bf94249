"""The pieces of a run, built from its config; a run on disk, to look at and to act with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

import gymnasium
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from omegaconf import DictConfig, OmegaConf
from torch import nn

from wmplay import registry
from wmplay.acting import Actor
from wmplay.configuration import parse, plain, set_values
from wmplay.constructors import default_settings
from wmplay.contracts import Policy
from wmplay.device import Threads, choose_device
from wmplay.envs import build_env
from wmplay.envs.autoreset import Autoreset, autoreset_mode
from wmplay.envs.learned import LearnedVectorEnv
from wmplay.envs.learned_shells import LearnedEnv, LearnedModes
from wmplay.envs.starts import real_starts, stored_starts
from wmplay.errors import ConfigError, RunError, WmplayError, WorldError
from wmplay.metrics import read_metrics
from wmplay.origin import in_words, origin_of, same_world
from wmplay.plugins import failed_at, in_one_line
from wmplay.run_directory import RunDirectory
from wmplay.store import Store, load_trajectories
from wmplay.weights import check_sizes, load_weights

METHODS = {
    "model": ("initial", "observe", "predict", "decode", "loss"),
    "planner": ("plan",),
    "policy": ("initial", "act"),
    "explorer": ("initial", "act"),
    "objective": ("__call__",),
}

BEFORE_POLICY = ("env", "model", "objective", "planner")  # a policy may ask for these

LOOPS_OWN = ("data", "other_world")  # what the config's env holds besides the env's settings

# ---- the pieces of a run ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """What a run is made of, built from its config."""

    env: gymnasium.Env[Any, Any]  # one env: its spaces and its task
    model: Any  # a WorldModel and nn.Module, or None: model-free
    planner: Any
    objective: Any
    policy: Policy
    explorer: Policy  # the policy, with exploration around it

    def modules(self) -> dict[str, nn.Module]:
        """The parts with weights, by name."""
        parts = {"model": self.model, "policy": self.policy}
        return {name: part for name, part in parts.items() if isinstance(part, nn.Module)}


def assemble(config: DictConfig, device: torch.device, env: gymnasium.Env[Any, Any] | None = None) -> Parts:
    """Builds the pieces of a run; each may ask for those before it.

    Args:
        config: of the run.
        device: where the model is.
        env: in place of the one that the config says.

    Raises:
        ConfigError: for a key, value or part that a piece's constructor does not take.
    """
    pieces: dict[str, Any] = {"env": build_env(env_config(config)) if env is None else env}
    for kind in (*BEFORE_POLICY[1:], "policy", "explorer"):
        if config[kind] is None:
            pieces[kind] = pieces["policy"] if kind == "explorer" else None
            continue
        there = {name: piece for name, piece in pieces.items() if piece is not None}
        piece = registry.build(plain(config[kind]), **there)
        _check_methods(kind, piece)
        pieces[kind] = piece.to(device) if isinstance(piece, nn.Module) else piece
    return Parts(**pieces)


def _check_methods(kind: str, piece: Any) -> None:
    name = type(piece).__name__
    missing = [method for method in METHODS.get(kind, ()) if not callable(getattr(piece, method, None))]
    if missing:
        raise ConfigError(f"{name} has no {missing[0]}(), as every {kind} needs it: see wmplay/contracts.py")
    if kind == "model" and not isinstance(piece, nn.Module):
        raise ConfigError(f"{name} is no torch.nn.Module, as every model is: let it inherit from that")


def env_config(config: DictConfig, overrides: DictConfig | None = None) -> dict[str, Any]:
    """What a run's env is built from, with the overrides of one of the loop's phases."""
    chosen = {**plain(config.env), **(plain(overrides) if overrides is not None else {})}
    own = default_settings(registry.target(chosen))  # an env may be made of the data itself
    return {key: value for key, value in chosen.items() if key not in LOOPS_OWN or key in own}


def over_ray(config: DictConfig) -> bool:
    """Whether a run collects by Ray's actors."""
    return bool(config.collect.get("workers", "local") == "ray")  # older runs do not say


def untrained_policy(config: DictConfig, parts: Parts, device: torch.device) -> Any:
    """A policy as the run's was before it learned anything, but for the seed of its weights."""
    torch.manual_seed(config.evaluate.seed)
    there = {name: piece for name in BEFORE_POLICY if (piece := getattr(parts, name)) is not None}
    policy = registry.build(plain(config.policy), **there)
    return policy.to(device).eval()


def practice_env(
    config: DictConfig, parts: Parts, store: Store | None, device: torch.device, seed: int
) -> VectorEnv[Any, Any, Any]:
    """The vector env that a policy practises in, as ``improve`` asks for."""
    cfg = config.improve
    env: VectorEnv[Any, Any, Any]
    if cfg.world == "learned":
        env = learned_env(config, parts, store, device, cfg.num_envs, seed)
    else:
        workers = min(cfg.num_workers, cfg.num_envs)
        env = build_env(env_config(config), num_envs=cfg.num_envs, num_workers=workers)
    return env


def steps_of_starts(config: DictConfig) -> int:
    """The real steps that imagined practice begins with: those between the frames of fresh resets."""
    cfg = config.learned
    fresh = config.improve.world == "learned" and cfg.starts == "env"
    return int(cfg.count * (cfg.context - 1)) if fresh else 0


def learned_env(
    config: DictConfig, parts: Parts, store: Store | None, device: torch.device, num_envs: int, seed: int
) -> LearnedVectorEnv:
    """A run's world model as a vector env, as ``learned`` asks for; its starts follow from the seed.

    Without a store they are fresh resets.

    Raises:
        ConfigError: if the run has no model, the model does not predict what the task needs, or there are
            no starts of such a length.
    """
    cfg = config.learned
    if parts.model is None:
        raise ConfigError("there is no world model to practise in: choose a model, or improve.world=real")
    from_store = store is not None and cfg.starts == "store"
    with closing(build_env(env_config(config), num_envs=min(cfg.count, 64))) as env:
        starts = real_starts(env, cfg.count, 1 if from_store else cfg.context, seed)
    if from_store:
        assert store is not None
        starts = stored_starts(store, starts, cfg.count, cfg.context, seed)
    return LearnedVectorEnv(
        parts.model,
        parts.env,
        starts,
        num_envs,
        reward=cfg.reward,
        temperature=cfg.temperature,
        max_steps=cfg.max_steps,
        device=device,
    )


def run_to_continue(overrides: Sequence[str]) -> Path | None:
    """The directory that ``run=<dir>`` names, if it is among the overrides."""
    values = [override.value() for override in parse(overrides) if override.key_or_group == "run"]
    return Path(str(values[-1])) if values and values[-1] is not None else None


def plugins_of(about: Mapping[str, Any]) -> str:
    """The plugins that ``run.json`` (or ``export.json``) names, for the end of a message."""
    told = about.get("plugins")
    files = sorted({str(file)[:99] for file in told.values()}) if isinstance(told, Mapping) else []
    return f" (the run was made with {', '.join(map(repr, files))})" if files else ""


def checked_config(directory: RunDirectory) -> DictConfig:
    """The config of a run.

    Raises:
        ConfigError: if the present version or the present plugins cannot take it.
    """
    config = directory.config()
    try:
        registry.check(config)
    except ConfigError as error:
        about = plugins_of(directory.read())
        raise ConfigError(f"{directory.path / 'config.yaml'}: {error}{about}") from error
    return config


def continued_config(directory: RunDirectory, overrides: Sequence[str]) -> DictConfig:
    """The config of a run that goes on: its own, with overrides of single values (``iterations=20``).

    Raises:
        ConfigError: for a key that is not there, a bad value, or another piece.
        WorldError: for settings that make another world.
    """
    config = checked_config(directory)
    for override in parse(overrides):
        if override.key_or_group in (*registry.KINDS, "experiment"):
            raise ConfigError(
                f"cannot override '{override.key_or_group}': a run that goes on keeps its pieces; leave it "
                "out, or begin a new run without run="
            )
    before = origin_of(env_config(config))
    set_values(config, overrides)
    if config.fit.get("minutes") is not None:
        raise ConfigError("fit.minutes chooses the updates of a new run: give one that goes on fit.steps")
    config.run = None
    registry.check(config)
    after = origin_of(env_config(config))
    if not same_world(before, after):
        raise WorldError(
            f"{directory.path} is a run in {in_words(before)}, the overrides make it {in_words(after)}: a "
            "run keeps its world; try its policy in another by wmplay simulate --run=<dir> --other-world"
        )
    OmegaConf.set_readonly(config, True)
    return config


# ---- looking at a run ------------------------------------------------------------------------------


class LoadedRun(ABC):
    """What can be loaded to act and to predict with; its parts are built when asked for.

    Attributes:
        path: its directory.
        config: resolved and read-only.
    """

    def __init__(self, path: Path, config: DictConfig) -> None:
        self.path, self.config = path, config
        OmegaConf.set_readonly(config, True)

    @abstractmethod
    def sources(self) -> tuple[gymnasium.Env[Any, Any], Mapping[str, Any]]:
        """The env that the pieces are built for, and {part: weights} for them."""

    @cached_property
    def parts(self) -> Parts:
        """The pieces, with their weights.

        Raises:
            RunError: if there are none, or they are of another model.
            ConfigError: if its config is of another version, or a plugin that it needs is not here.
        """
        try:
            env, weights = self.sources()
            check_sizes(
                lambda: assemble(self.config, torch.device("meta"), env).modules(), weights, self.path
            )
            parts = assemble(self.config, self.device, env)
            load_weights(parts.modules(), weights, self.path)
        except Exception as error:
            if isinstance(error, WmplayError) or failed_at(error) is not None:
                raise
            raise RunError(
                f"{self.path}: its pieces cannot be built as its config.yaml says ({in_one_line(error)}): "
                "restore it from a copy"
            ) from error
        for module in parts.modules().values():
            module.eval()
        return parts

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return choose_device(self.config.device)

    @property
    def threads(self) -> Threads:
        """How many threads its config asks for. Raises RunError."""
        asked: Any = self.config.get("threads") or "auto"
        if asked != "auto" and (type(asked) is not int or asked < 1):
            raise RunError(f"{self.path}: threads is {asked!r}, expected a number >= 1 or auto")
        threads: Threads = asked
        return threads

    @property
    def env(self) -> gymnasium.Env[Any, Any]:
        """A single env of the run's kind."""
        return self.parts.env

    @property
    def model(self) -> Any:
        """The fitted world model."""
        return self.parts.model

    @property
    def policy(self) -> Policy:
        """The policy, without exploration."""
        return self.parts.policy

    def acting(self, explore: bool = False) -> Policy:
        """The policy, or the explorer around it. Raises RunError where the run has none."""
        policy: Policy | None = self.parts.explorer if explore else self.policy
        if policy is None:
            raise RunError(
                f"{self.path} has no policy, it is a run that only fits a model: choose one that acts"
            )
        return policy

    def actor(self, *, explore: bool = False, seed: int = 0) -> Actor:
        """The policy for one env, step by step: ``action = act(observation)``."""
        return Actor(self.acting(explore), self.parts.env, device=self.device, explore=explore, seed=seed)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"


class Run(LoadedRun):
    """A run, finished or not."""

    def __init__(self, path: Path) -> None:
        self.directory = RunDirectory(path)
        super().__init__(path, self.directory.config())

    def sources(self) -> tuple[gymnasium.Env[Any, Any], Mapping[str, Any]]:
        """An env of the run's kind, and the weights of the last checkpoint."""
        checked_config(self.directory)
        return build_env(env_config(self.config)), self.directory.read_checkpoint()["weights"]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``; those that are damaged are left out, and told. Raises RunError."""
        return read_metrics(self.directory.metrics).sound

    @overload
    def learned_env(self, num_envs: None, seed: int = 0) -> LearnedEnv: ...

    @overload
    def learned_env(self, num_envs: int = 1, seed: int = 0) -> LearnedVectorEnv: ...

    @overload
    def learned_env(
        self, num_envs: int, seed: int, autoreset: Literal["next_step", "disabled"]
    ) -> LearnedModes: ...

    def learned_env(self, num_envs: int | None = 1, seed: int = 0, autoreset: Autoreset = "same_step") -> Any:
        """The world model as an environment, set up as the run's config says.

        Args:
            num_envs: of a vector env; None for a single ``gymnasium.Env``.
            seed: of the real frames that episodes begin with.
            autoreset: what a vector env does when an episode ends: "same_step", "next_step" or "disabled".

        Raises:
            ConfigError: if the run has no model, or one that cannot be practised in.
            UnknownName: for another autoreset mode.
        """
        store = self.trajectories if self.config.learned.starts == "store" else None
        env = learned_env(self.config, self.parts, store, self.device, num_envs or 1, seed)
        if num_envs is None:
            return LearnedEnv(env)
        mode = autoreset_mode(autoreset)
        return env if mode is AutoresetMode.SAME_STEP else LearnedModes(env, mode)

    @property
    def trajectories(self) -> Store:
        """What was collected."""
        return load_trajectories(self.directory.trajectories)
