"""The check of policies: its properties are in the modules of this folder."""

from __future__ import annotations

from typing import Any

import gymnasium
import torch

from wmplay.check.fixtures.scripts import Acting
from wmplay.check.policies.acting import ACTING as ACTING
from wmplay.check.policies.learning import MANNERS
from wmplay.check.policies.lessons import LESSONS
from wmplay.check.policies.planning import PLANNING
from wmplay.check.policies.practising import Practised
from wmplay.check.policies.seeing import SEEING
from wmplay.check.report import Report, examine
from wmplay.contracts import StoreView, WorldModel, missing_methods

POLICY = (*ACTING, *PLANNING, *SEEING)
LEARNING = (*MANNERS, *LESSONS)


def check_policy(
    policy: Any,
    env: gymnasium.Env[Any, Any],
    *,
    model: WorldModel | None = None,
    store: StoreView | None = None,
    seed: int = 0,
    verbose: bool = False,
    quick: bool = False,
) -> Report:
    """Check all properties of a policy.

    Args:
        policy: on the CPU. It is copied, and not changed.
        env: a single env, with the observations and actions that the policy is made for. A policy that learns
            practises in an artificial world of these observations and actions.
        model, store: for a policy that learns from them (see ``Practice``).
        seed: of all random draws. The caller's random state is not changed.
        verbose: whether to print each finding at once.
        quick: whether to leave out slow properties.

    Raises:
        SpaceError: if the env's episodes are too short.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if missing_methods(policy, ("improve",)):
            return examine(type(policy).__name__, POLICY, Acting(policy, env, seed), verbose, quick)
        learner = Practised(policy, env, seed, model, store)
        return examine(type(policy).__name__, (*POLICY, *LEARNING), learner, verbose, quick)
