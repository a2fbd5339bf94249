"""Properties of explorers, one function each, in addition to those of policies.

An explorer is checked around policies that take known actions and record their arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import gymnasium
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from wmplay.check.fixtures.fitted_model import ROWS
from wmplay.check.fixtures.scripts import Acting, flat
from wmplay.check.policies import ACTING
from wmplay.check.report import Broken, NotTried, Property, Report, examine
from wmplay.contracts import Policy

Make: TypeAlias = Callable[[Policy], Any]

MANY, LONG = 499, 11  # rows and steps, enough to see rare events
SIGMAS = 5.0  # deviation beyond chance
SEEDS = 5
ENOUGH = 20  # draws for each discrete action, so that all of them occur


def check_explorer(
    make: Make, env: gymnasium.Env[Any, Any], *, seed: int = 0, verbose: bool = False, quick: bool = False
) -> Report:
    """Check all properties of an explorer.

    Args:
        make: wraps a policy: ``lambda policy: MyExplorer(policy, env.action_space)``.
        env: a single env, the source of observations, for which the actions are.
        seed: of all random draws. The caller's random state is not changed.
        verbose: whether to print each finding at once.
        quick: whether to leave out slow properties.

    Raises:
        SpaceError: if the env's episodes are too short.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trial = Exploring(make, env, seed)
        return examine(type(trial.policy).__name__, (*ACTING, *EXPLORING), trial, verbose, quick)


class Inside:
    """The wrapped policy: its actions depend only on its memory, and it records its arguments.

    Args:
        trial: for the bounds of actions.
        place: act always at this place of the space, 0 to 1, instead; or discrete action number ``place``.
    """

    def __init__(self, trial: Acting, place: float | None = None) -> None:
        self.discrete = isinstance(trial.space, Discrete)
        self.low, self.high = (bound.clamp(-1e2, 1e2) for bound in trial.bounds)
        self.place = place
        self.told: list[tuple[Any, ...]] = []
        self.returned: list[tuple[Tensor, Tensor]] = []

    def initial(self, batch_size: int) -> Tensor:
        """Return a memory of one number for each row."""
        return torch.zeros(batch_size, dtype=torch.float64)

    def act(
        self,
        carry: Tensor,
        observation: dict[str, Tensor],
        last_action: Tensor,
        first: Tensor,
        *,
        explore: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return an action that depends on all observations and actions of the episode."""
        self.told.append((carry, observation, last_action, first, explore, generator))
        seen = sum(_gist(x) for x in (*observation.values(), last_action))
        memory = torch.where(first, 0.0, carry) / 2 + seen
        self.returned.append((self.action(memory), memory))
        return self.returned[-1]

    def action(self, memory: Tensor) -> Tensor:
        """Return [B, A], or [B] int64, for memories [B]."""
        angles = memory.unsqueeze(1) + torch.arange(len(self.low))
        place = (1 + 0.9 * angles.sin()) / 2 if self.place is None else torch.full_like(angles, self.place)
        span = self.high - self.low
        if self.discrete:
            number = (place * (span + 1)).floor() if self.place is None else place
            return (self.low + number.clamp(max=span)).long().squeeze(1)
        return (self.low + place * span).float()


class Exploring(Acting):
    """An explorer around a policy that records its arguments."""

    def __init__(self, make: Make, env: gymnasium.Env[Any, Any], seed: int) -> None:
        super().__init__(None, env, seed)
        self.make = make
        self.discrete = isinstance(self.space, Discrete)
        self.middle = 0.0 if self.discrete else 0.5  # the place around which to explore
        self.inside = Inside(self)
        self.policy = make(self.inside)

    def actions(self, place: float, seed: int = 0) -> Tensor:
        """Return [MANY, LONG, N], exploring around one action, in episodes that begin together."""
        outside = self.make(Inside(self, place))
        scene = self.script()[0]
        wide = {key: value[:1].expand(MANY, *value.shape[1:]) for key, value in scene.observation.items()}
        carry, generator = outside.initial(MANY), torch.Generator().manual_seed(self.seed + seed)
        last, actions = torch.zeros_like(scene.last_action[:1]).repeat_interleave(MANY, 0), []
        for step in range(LONG):
            first = torch.full((MANY,), step == 0)
            with torch.no_grad():
                last, carry = outside.act(carry, wide, last, first, explore=True, generator=generator)
            actions.append(flat(last))
        return torch.stack(actions, 1)

    def chances(self, seed: int) -> Tensor:
        """Return [MANY, LONG] bool: whether the action differs from that of the wrapped policy."""
        inside = flat(Inside(self, self.middle).action(torch.zeros(1)))
        return (self.actions(self.middle, seed) != inside).any(-1)


# ---- the properties ------------------------------------------------------------------------------


def only_while_exploring(trial: Exploring) -> None:
    """Check that without ``explore`` its actions are those of the wrapped policy."""
    advice = "return the wrapped policy's action as it is unless explore is True, and pass explore on"
    actions = _played(trial, explore=False)
    for step, (action, (expected, _)) in enumerate(zip(actions, trial.inside.returned, strict=True)):
        changed = (flat(action) != flat(expected)).any(1)
        if changed.any():
            row = int(changed.nonzero()[0])
            raise Broken(f"not exploring, it changes the action of row {row} in step {step}", advice)
    if any(explore for *_, explore, _ in trial.inside.told):
        raise Broken("not exploring, it tells the policy inside to explore", advice)


def the_policy_inside_is_told_the_truth(trial: Exploring) -> None:
    """Check that the wrapped policy is called once per step, with its own carry and the true arguments."""
    advice = "hand observation, last_action, first and generator on as they are: it keeps a belief of them"
    for explore in (False, True):
        _played(trial, explore=explore)
        before = trial.inside.initial(ROWS)
        for step, (scene, told) in enumerate(zip(trial.script(), trial.inside.told, strict=True)):
            carry, observation, last_action, first, _, generator = told
            for name, given, expected in (
                ("last_action", last_action, scene.last_action),
                ("first", first, scene.first),
                *((f"observation '{key}'", observation.get(key), x) for key, x in scene.observation.items()),
            ):
                if not isinstance(given, Tensor) or not torch.equal(given, expected):
                    raise Broken(f"in step {step} the policy inside is told another {name}", advice)
            if generator is None:
                raise Broken("the policy inside gets no generator", advice)
            if not torch.equal(carry, before):
                raise Broken(
                    f"in step {step} the policy inside does not get the carry that it returned before",
                    "keep the wrapped policy's carry in your own: (policy_carry, ...)",
                )
            before = trial.inside.returned[step][1]


def it_explores(trial: Exploring) -> None:
    """Check that it changes some actions while exploring, by chance."""
    if not trial.chances(0).any():
        raise Broken(
            f"exploring, it changes no action of {MANY} rows in {LONG} steps",
            "see that explore=True reaches it",
        )
    if torch.equal(trial.actions(trial.middle, 0), trial.actions(trial.middle, 1)):
        raise Broken("another generator changes nothing that it does", "draw with generator=generator")


def bounds_are_kept_at_the_edge(trial: Exploring) -> None:
    """Check that actions stay within the space around actions at its edge."""
    low, high = trial.bounds
    edges = (0.0, float(high - low)) if trial.discrete else (0.0, 1.0)
    for edge in edges:
        actions = trial.actions(edge).flatten(0, 1)
        span = (high - low).nan_to_num(posinf=0.0)
        wrong = (actions > high + 1e-5 * span) | (actions < low - 1e-5 * span)
        if wrong.any():
            row, entry = (int(index) for index in wrong.nonzero()[0])
            raise Broken(
                f"from the edge of the space, it goes to {float(actions[row, entry]):.4g}, beyond "
                f"{float(low[entry]):.4g} to {float(high[entry]):.4g}",
                "clamp to the space after noise was added",
            )


def it_does_not_lean(trial: Exploring) -> None:
    """Check that actions around the middle of the space are not biased to one side."""
    if trial.discrete:
        raise NotTried("discrete actions have no middle")
    low, high = trial.bounds
    if not (low.isfinite().all() and high.isfinite().all()):
        raise NotTried("the action space has no bounds, so no middle")
    offset = (trial.actions(0.5) - (low + high) / 2) / (high - low) * 2
    mean = offset.mean(1)  # of each row, because its steps may be correlated
    if torch.equal(mean, mean[:1].expand_as(mean)):
        raise NotTried("all rows do the same")
    sigmas = mean.mean(0) / (mean.std(0) / MANY**0.5).clamp(min=1e-9)
    if bool((sigmas.abs() > SIGMAS).any()):
        entry = int(sigmas.abs().argmax())
        raise Broken(
            f"around the middle of the space, entry {entry} of its actions is on average "
            f"{float(mean.mean(0)[entry]):+.3f} half-ranges away ({float(sigmas[entry]):+.0f} sigma)",
            "scale what is drawn to low..high on both sides: rand() is 0 to 1, not -1 to 1",
        )


def every_discrete_action_comes_up(trial: Exploring) -> None:
    """Check that every discrete action is drawn."""
    if not isinstance(trial.space, Discrete):
        raise NotTried("actions are continuous")
    low, count = int(trial.bounds[0]), int(trial.space.n)
    changed = trial.chances(0)
    if int(changed.sum()) < ENOUGH * count:
        raise NotTried(f"{int(changed.sum())} of its actions were random, too few for {count} choices")
    seen = set(trial.actions(0.0).flatten().long().tolist())
    missing = sorted(set(range(low, low + count)) - seen)
    if missing:
        raise Broken(
            f"action {missing[0]} never comes up in {int(changed.sum())} random ones",
            f"draw from {low} to {low + count - 1}: torch.randint leaves its upper end out",
        )


def each_row_takes_its_own_chance(trial: Exploring) -> None:
    """Check that each row decides on its own whether to explore."""
    patterns = [trial.chances(seed) for seed in range(SEEDS)]
    together = all(bool((pattern == pattern[:1]).all()) for pattern in patterns)
    if together and any(not torch.equal(pattern, patterns[0]) for pattern in patterns):
        raise Broken(
            f"in each step all {MANY} rows explore or none does, by one chance",
            "draw a chance for every row: torch.rand(B, generator=generator) < probability",
        )


EXPLORING: tuple[Property[Exploring], ...] = (
    Property(only_while_exploring),
    Property(the_policy_inside_is_told_the_truth),
    Property(it_explores),
    Property(bounds_are_kept_at_the_edge),
    Property(it_does_not_lean),
    Property(every_discrete_action_comes_up),
    Property(each_row_takes_its_own_chance),
)


# ---- helpers ------------------------------------------------------------------------------------


def _played(trial: Exploring, *, explore: bool) -> list[Tensor]:
    """Return the explorer's action in each step, while ``inside`` records the same steps."""
    trial.inside.told.clear()
    trial.inside.returned.clear()
    carry, actions = trial.policy.initial(ROWS), []
    for step, scene in enumerate(trial.script()):
        action, carry = trial.act(carry, scene, explore, trial.seed_of(step))
        actions.append(action)
        if len(trial.inside.told) != step + 1:
            raise Broken(
                f"in step {step} it asks the policy inside {len(trial.inside.told) - step} times",
                "ask it once in every step, also where its action is not used: it must see every frame",
            )
    return actions


def _gist(x: Tensor) -> Tensor:
    """Return a number [B] that identifies rows of [B, ...]."""
    rows = x.reshape(len(x), -1).double()
    return (rows * torch.arange(1, rows.shape[1] + 1).double().sqrt().sin()).sum(1)
