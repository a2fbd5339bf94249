"""The pieces of a run, built from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from wmplay import registry
from wmplay.config.constructors import default_settings
from wmplay.config.settings import Settings
from wmplay.contracts import Advises, Policy, learner_of, missing_methods
from wmplay.envs import build_env
from wmplay.errors import ConfigError
from wmplay.nets.units import copy_units
from wmplay.policies.prior import Guided

BEFORE_POLICY = ("env", "model", "objective", "planner")  # a policy may ask for these
PRIOR, PRIOR_SETTINGS = "prior", "prior_settings"  # of a policy: another one, which advises its planner


@dataclass(frozen=True)
class Parts:
    """The pieces of a run."""

    env: Any  # one env, or the ``EnvSpec`` of one that need not be built
    model: Any  # a WorldModel and nn.Module, or None: model-free
    planner: Any
    objective: Any
    policy: Policy
    explorer: Policy  # the policy, with exploration around it

    def modules(self) -> dict[str, nn.Module]:
        """Return the parts with weights, by name."""
        parts = {"model": self.model, "policy": learner_of(self.policy) or self.policy}
        return {name: part for name, part in parts.items() if isinstance(part, nn.Module)}


def assemble(settings: Settings, device: torch.device, env: Any = None) -> Parts:
    """Build the pieces of a run; each may ask for those before it.

    Args:
        settings: of the run.
        device: where the model is.
        env: in place of the one that the settings name.

    Raises:
        ConfigError: for a key, value or part that a piece's constructor does not take.
    """
    pieces: dict[str, Any] = {"env": build_env(env_config(settings)) if env is None else env}
    chosen = settings.pieces()
    prior: Advises | None = None
    for kind in (*BEFORE_POLICY[1:], "policy", "explorer"):
        if kind not in chosen:
            pieces[kind] = pieces["policy"] if kind == "explorer" else None
            continue
        there = {name: piece for name, piece in pieces.items() if piece is not None}
        config = chosen[kind]
        if prior is not None and kind in ("objective", "planner"):
            there["model"] = Guided(pieces["model"], prior)
        if prior is not None and kind == "policy":
            config = {**config, PRIOR: prior}
        piece = registry.build(config, **there)
        _check_methods(kind, piece)
        pieces[kind] = piece.to(device) if isinstance(piece, nn.Module) else piece
        if kind == "model":
            prior = _prior(chosen.get("policy", {}), pieces, device)
    return Parts(**pieces)


def _prior(policy: Mapping[str, Any], pieces: Mapping[str, Any], device: torch.device) -> Advises | None:
    """Build the policy that advises the planner, if a policy's config names one."""
    given = policy.get(PRIOR)
    if given is None:
        return None
    config = registry.piece_config("policy", given, **policy.get(PRIOR_SETTINGS, {}))
    learner = registry.build(config, **pieces)
    if not (isinstance(learner, Advises) and isinstance(learner, nn.Module)):
        raise ConfigError(
            f"policy.prior is {type(learner).__name__}, which has no proposals and values for a planner",
            got=type(learner).__name__,
            expected="a policy that learns an actor and values on features (Advises)",
            advice="choose policy.prior=dreamer_v3",
        )
    return learner.to(device)


def _check_methods(kind: str, piece: Any) -> None:
    name = type(piece).__name__
    missing = missing_methods(piece, registry.KINDS[kind].methods)
    if missing:
        raise ConfigError(
            f"{name} has no {missing[0]}(), as every {kind} needs it", advice="see wmplay/contracts"
        )
    if kind == "model" and not isinstance(piece, nn.Module):
        raise ConfigError(
            f"{name} is no torch.nn.Module, as every model is", advice="let it inherit from that"
        )


def env_config(settings: Settings, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the config of a run's env, with the overrides of one of the loop's phases."""
    own = default_settings(registry.target(settings.env))  # an env may be made of the data itself
    given = {key: value for key, value in asdict(settings.recorded).items() if key in own}
    return {**settings.env, **given, **(overrides or {})}


def untrained_model(settings: Settings, parts: Parts, device: torch.device) -> Any:
    """Return a model like the run's before it learned, in the same units, except for the seed of its
    weights."""
    assert settings.model is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.evaluate.seed)
        model = registry.build(settings.model, env=parts.env)
    copy_units(model, parts.model)
    return model.to(device).eval()


def untrained_policy(settings: Settings, parts: Parts, device: torch.device) -> Any:
    """Return a policy like the run's before it learned, except for the seed of its weights."""
    assert settings.policy is not None
    torch.manual_seed(settings.evaluate.seed)
    before = {"env": parts.env, "model": parts.model, "objective": parts.objective, "planner": parts.planner}
    there = {name: piece for name, piece in before.items() if piece is not None}
    policy = registry.build(settings.policy, **there)
    return policy.to(device).eval()
