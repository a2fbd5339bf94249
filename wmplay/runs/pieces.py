"""The pieces of a run, built from its config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import torch
from omegaconf import DictConfig
from torch import nn

from wmplay import registry
from wmplay.config.constructors import default_settings
from wmplay.config.loading import plain
from wmplay.contracts import Policy, missing_methods
from wmplay.envs import build_env
from wmplay.errors import ConfigError

BEFORE_POLICY = ("env", "model", "objective", "planner")  # a policy may ask for these

LOOPS_OWN = ("data", "other_world")  # what the config's env holds besides the env's settings


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
    missing = missing_methods(piece, registry.KINDS[kind].methods)
    if missing:
        raise ConfigError(f"{name} has no {missing[0]}(), as every {kind} needs it: see wmplay/contracts")
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
    before = {"env": parts.env, "model": parts.model, "objective": parts.objective, "planner": parts.planner}
    there = {name: piece for name, piece in before.items() if piece is not None}
    policy = registry.build(plain(config.policy), **there)
    return policy.to(device).eval()
