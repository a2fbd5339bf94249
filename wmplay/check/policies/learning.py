"""Properties of policies that learn, one function each, in addition to those of all policies.

A copy of the policy is checked after a short practice in an artificial world.
"""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from wmplay.check.compare import blank, global_generators_at_rest, listed, same
from wmplay.check.fixtures.practice_world import Rule, Yard
from wmplay.check.fixtures.scripts import Acting, Scene, flat
from wmplay.check.report import Broken, NotTried, Property
from wmplay.contracts import Array, Learner, Practice, missing_methods

SLOTS = 7
ROUND = 211  # steps of a practice; a learner completes its last round
WARM = 10_000  # steps within which weights must change; many learners first act at random
LESSONS = 10_000  # steps within which it must learn the simplest world
CLEARLY = 0.75  # of the range of actions: the place that counts as learned
WATCHED = 61  # observations to measure the place on
WORTH = 10.0  # the best reward: large enough next to an entropy bonus
CUT = 0.9  # part of the best reward at a truncation


class Practised(Acting):
    """A learner, and a copy of it that has practised and acts.

    Args:
        policy, env, seed: as for ``Acting``.
        model, store: as for ``Practice``.
    """

    def __init__(
        self, policy: Any, env: gymnasium.Env[Any, Any], seed: int, model: Any = None, store: Any = None
    ) -> None:
        super().__init__(policy, env, seed)
        self.given, self.env, self.has = policy, env, {"model": model, "store": store}
        self.failure: Exception | None = None
        try:
            self.policy = self._warmed()
        except Exception as error:  # reported by the first property of learning; acting does not need it
            self.failure = error

    def _warmed(self) -> Any:
        """Return a copy that has practised until its weights have changed."""
        policy, number = copy.deepcopy(self.given), 0
        if not isinstance(policy, nn.Module) or not isinstance(policy, Learner):
            return policy
        before, taken = weights(policy), 0
        while taken < WARM and not moved(policy, before):
            told = self.practise(policy, Yard(self.env, SLOTS, everyday), number=number)
            taken += max(ROUND, told[-1][0])
            number += 1
        return policy.eval()

    def practise(
        self, policy: Any, world: Yard, *, steps: int = ROUND, number: int = 0
    ) -> list[tuple[int, Mapping[str, float]]]:
        """Let a policy practise, and return the arguments of each call of ``advance``."""
        told: list[tuple[int, Mapping[str, float]]] = []
        practice = Practice(
            world,
            steps,
            1000 * self.seed + number,
            torch.device("cpu"),
            advance=lambda steps, metrics: told.append((steps, dict(metrics))),
            **self.has,
        )
        metrics = policy.improve(practice)
        bad = [name for name, value in _metrics(metrics).items() if not math.isfinite(value)]
        if bad:
            raise Broken(f"improve says that '{bad[0]}' is {metrics[bad[0]]}", "look for a diverging loss")
        if not told:
            raise Broken(
                f"improve never called practice.advance in {steps} steps",
                "call it after each round, with the transitions taken so far and the metrics",
            )
        return told

    def copy(self) -> Any:
        """Return a copy of the policy that has practised."""
        if self.failure is not None:
            raise NotTried("it could not practise")
        return copy.deepcopy(self.policy)

    @cached_property
    def went_on(self) -> tuple[Any, Yard, list[tuple[int, Mapping[str, float]]]]:
        """A copy that has practised once more, its world, and the arguments of ``advance``."""
        policy, world = self.copy(), Yard(self.env, SLOTS, everyday)
        return policy, world, self.practise(policy, world, number=99)

    def taste(self, policy: Any) -> float:
        """Return the mean place of the actions in their range, 0 to 1."""
        frames = Yard(self.env, WATCHED, everyday).reset(seed=self.seed)[0]
        frames = frames if isinstance(frames, dict) else {"observation": frames}
        first = torch.ones(WATCHED, dtype=torch.bool)
        still = torch.zeros_like(self.segment.action[:1, 0]).expand(WATCHED, *self.segment.action.shape[2:])
        scene = Scene({key: torch.from_numpy(value) for key, value in frames.items()}, still.clone(), first)
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            action, _ = policy.act(policy.initial(WATCHED), *scene, explore=False, generator=generator)
        world = Yard(self.env, 1, everyday)
        low, high = float(world.low[0]), float(world.high[0])
        return float(((flat(action)[:, 0] - low) / (high - low)).clamp(0, 1).mean())

    @cached_property
    def upward(self) -> bool:
        """True if more remains to be learned in the upward direction."""
        return self.taste(self.copy()) <= 0.5

    def lessons(self, policy: Any, rule: Rule, upward: bool) -> float:
        """Practise until the actions have clearly moved; return their place, from the other end."""
        if not all(bound.isfinite().all() for bound in self.bounds):
            raise NotTried("the action space has no bounds, so no high and low")
        taken, number = 0, 0
        while True:
            place = self.taste(policy) if upward else 1 - self.taste(policy)
            if taken >= LESSONS or place >= CLEARLY:
                return place
            world = Yard(self.env, SLOTS, rule)
            taken += max(ROUND, self.practise(policy, world, number=100 + number)[-1][0])
            if not world.taken:
                raise NotTried("it does not practise in practice.env")
            number += 1


# ---- the properties ------------------------------------------------------------------------------


def practice_changes_it(trial: Practised) -> None:
    """Check that it has a learner's methods, can practise, and has other weights afterwards."""
    missing = missing_methods(trial.given, ("improve", "learner_state", "load_learner_state"))
    if missing or not isinstance(trial.given, nn.Module):
        raise Broken(
            f"it has improve(), but no {missing[0]}()" if missing else "it learns, but is no nn.Module",
            "a checkpoint would not keep what it has learned: see Learner in wmplay/contracts",
        )
    if trial.failure is not None:
        raise trial.failure
    if not moved(trial.policy, weights(trial.given)):
        raise Broken(
            f"after {WARM:,} steps of practice its weights are what they were",
            "see that the optimiser has these parameters, and takes steps",
        )


def every_weight_is_trained(trial: Practised) -> None:
    """Check that practice changes each parameter."""
    before, after = dict(trial.given.named_parameters()), dict(trial.went_on[0].named_parameters())
    dead = [name for name, p in after.items() if p.requires_grad and torch.equal(p, before[name])]
    if dead:
        raise Broken(
            f"practice leaves {listed(dead)} as they were",
            "give them to the optimiser and use them in the loss, or set requires_grad_(False)",
        )


def as_many_steps_as_given(trial: Practised) -> None:
    """Check that it takes practice.steps transitions, by less than a round more, and reports them."""
    _, world, told = trial.went_on
    counts = [0, *(steps for steps, _ in told)]
    if any(after <= before for before, after in pairwise(counts)):
        raise Broken(
            f"practice.advance was told {listed([str(count) for count in counts[1:]])} steps",
            "tell it all transitions so far, over all slots, after each round",
        )
    if world.taken and world.taken != counts[-1]:
        raise Broken(
            f"it told practice.advance {counts[-1]} steps, and took {world.taken} in {SLOTS} slots",
            "count each step of the vector env as one transition for every slot",
        )
    if counts[-1] < ROUND or counts[-2] >= ROUND:
        raise Broken(
            f"practice.steps is {ROUND}: it took {counts[-2]}, and then {counts[-1] - counts[-2]} more",
            "begin rounds while less than practice.steps are taken: results are compared by their steps",
        )


def bounds_are_kept_in_practice(trial: Practised) -> None:
    """Check that executed actions are within the action space."""
    _, world, _ = trial.went_on
    if world.outside is not None:
        raise Broken(
            f"it executed the action {np.round(world.outside, 4).tolist()}, the space is "
            f"{world.low.tolist()} to {world.high.tolist()}",
            "clamp what is executed, and learn from what was executed or drawn: nothing clips it in practice",
        )


def practice_follows_from_its_seed(trial: Practised) -> None:
    """Check that the seed determines the weights, and that global generators are not used."""
    advice = "draw with generators made from practice.seed, and reset the env with it"
    policy = trial.copy()
    with global_generators_at_rest("improve", advice):
        trial.practise(policy, Yard(trial.env, SLOTS, everyday), number=99)
    _same_weights(
        policy, trial.went_on[0], "two practices of the same seed end with different weights", advice
    )


def it_can_be_stopped(trial: Practised) -> None:
    """Check that an error of ``advance`` is passed on, so that Ctrl-C ends a practice between two rounds."""

    class Stop(Exception):
        pass

    def stop(steps: int, metrics: Mapping[str, float]) -> None:
        raise Stop

    policy, world = trial.copy(), Yard(trial.env, SLOTS, everyday)
    try:
        policy.improve(Practice(world, ROUND, 0, torch.device("cpu"), advance=stop, **trial.has))
    except Stop:
        return
    raise Broken("it goes on where practice.advance raises", "catch nothing around practice.advance")


def save_and_load(trial: Practised) -> None:
    """Check that a state_dict holds everything that acting depends on, including a normaliser's
    statistics."""
    loaded = copy.deepcopy(trial.given).eval()
    blank(loaded)
    loaded.load_state_dict(_through_a_file(trial.copy().state_dict()))
    used = trial.policy
    try:
        trial.policy = loaded
        got = {explore: trial.play(trial.script(), explore=explore) for explore in trial.usual}
    finally:
        trial.policy = used
    for explore, usual in trial.usual.items():
        same(
            got[explore],
            usual,
            "with the weights of one that has practised it acts differently",
            "keep what act needs as an nn.Parameter or with register_buffer: a checkpoint has nothing else",
            tolerance=0,
        )


def practice_goes_on(trial: Practised) -> None:
    """Check that ``state_dict`` and ``learner_state`` hold everything that further practice depends on."""
    continued = copy.deepcopy(trial.given).eval()
    practised = trial.copy()
    continued.load_state_dict(_through_a_file(practised.state_dict()))
    continued.load_learner_state(_through_a_file(practised.learner_state()))
    trial.practise(continued, Yard(trial.env, SLOTS, everyday), number=99)
    _same_weights(
        continued,
        trial.went_on[0],
        "a learner that goes on from a checkpoint comes to other weights than one that was not stopped",
        "return everything that improve changes, besides weights and buffers, from learner_state",
    )


def copies_are_apart(trial: Practised) -> None:
    """Check that practice of a deep copy leaves the original unchanged, because a run is rehearsed with a
    copy."""
    policy = trial.copy()
    before = weights(policy)
    trial.practise(copy.deepcopy(policy), Yard(trial.env, SLOTS, everyday), number=99)
    if moved(policy, before):
        raise Broken("practice of a copy changes the original", "share no tensor or optimiser between copies")


def it_learns(trial: Practised) -> None:
    """Check that actions move up, or down, if the reward is how far up, or down, they are."""
    policy = trial.copy()
    upward = trial.upward

    def rule(place: Array, age: Array) -> tuple[Array, Array, Array]:
        over = np.ones(len(place), np.bool_)
        return WORTH * (place if upward else 1 - place), over, ~over

    place = trial.lessons(policy, rule, upward)
    if place < CLEARLY:
        raise Broken(
            f"after {LESSONS:,} steps in a world that pays for "
            f"{'high' if upward else 'low'} actions, they are at {place:.2f} of the way there",
            "look for a wrong sign, for actions and rewards that do not belong together (action[t] brings "
            "reward[t]), or a learning rate that is too low",
        )


def out_of_time_is_not_over(trial: Practised) -> None:
    """Check that a truncated state has the value of its future, and a terminated one none."""
    policy, taste = trial.copy(), trial.taste(trial.policy)
    # the opposite of the present place, so that moving either way by chance does not pass both properties
    upward = not trial.upward if 1 - CLEARLY < taste < CLEARLY else trial.upward

    def rule(place: Array, age: Array) -> tuple[Array, Array, Array]:
        in_time = (place > 0.5) == upward
        return WORTH * np.where(in_time, CUT, 1.0), ~in_time, in_time

    advice = (
        "where truncated and not terminated, add the discounted value of the episode's last frame, as "
        "wmplay.vector.stepping.TensorEnv gives it (arrived)"
    )
    place = trial.lessons(policy, rule, upward)
    if place <= 1 - CLEARLY:
        raise Broken(
            f"it would rather have an episode over for a reward of {WORTH} than run out of time for one of "
            f"{CUT * WORTH} in each step: it takes both for the end",
            advice,
        )
    if place < CLEARLY:
        raise NotTried(f"{LESSONS:,} steps were too few to tell")
    twins = [trial.copy(), trial.copy()]
    for twin, strange in zip(twins, (False, True), strict=True):
        trial.practise(twin, Yard(trial.env, SLOTS, rule, strange_ends=strange), number=98)
    if not moved(twins[0], weights(twins[1])):
        raise Broken("it does not look at the frame with which an episode ran out of time", advice)


LEARNING: tuple[Property[Practised], ...] = (
    Property(practice_changes_it),
    Property(every_weight_is_trained),
    Property(as_many_steps_as_given),
    Property(bounds_are_kept_in_practice),
    Property(practice_follows_from_its_seed),
    Property(it_can_be_stopped),
    Property(save_and_load),
    Property(practice_goes_on),
    Property(copies_are_apart),
    Property(it_learns),
    Property(out_of_time_is_not_over),
)


# ---- helpers ------------------------------------------------------------------------------------


def everyday(place: Array, age: Array) -> tuple[Array, Array, Array]:
    """Return rewards and flags of a world in which some episodes terminate and others are truncated."""
    terminated = place > 0.9
    return place, terminated, ~terminated & (age >= 5)


def weights(policy: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all parameters, by name."""
    return {name: p.detach().clone() for name, p in policy.named_parameters()}


def moved(policy: nn.Module, before: Mapping[str, Tensor]) -> bool:
    """Return whether any parameter has changed."""
    return any(not torch.equal(p, before[name]) for name, p in policy.named_parameters())


def _same_weights(got: nn.Module, expected: nn.Module, problem: str, advice: str) -> None:
    state = expected.state_dict()
    for name, value in got.state_dict().items():
        if not torch.equal(value, state[name]):
            worst = float((value.double() - state[name].double()).abs().max())
            raise Broken(f"{problem} ('{name}', by {worst:.2g})", advice)


def _through_a_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _metrics(metrics: Any) -> Mapping[str, float]:
    """Return the result of ``improve``. Raise Broken unless it maps names to numbers."""
    numbers = isinstance(metrics, Mapping) and all(isinstance(x, int | float) for x in metrics.values())
    if not numbers:
        raise Broken(f"improve returned {metrics!r:.60}", "return its metrics: names to numbers")
    checked: Mapping[str, float] = metrics
    return checked
