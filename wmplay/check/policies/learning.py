"""Properties of the manners of policies that learn, one function each; ``lessons`` has what they learn.

A copy of the policy is checked after a short practice in an artificial world.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from wmplay.check.compare import blank, global_generators_at_rest, listed, same
from wmplay.check.fixtures.practice_world import Rule
from wmplay.check.policies.practising import ROUND, SLOTS, WARM, Practised, moved, state_of, weights
from wmplay.check.report import Broken, Property
from wmplay.contracts import missing_methods

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


def what_is_lent_comes_back(trial: Practised) -> None:
    """Check that practice leaves the lent model as it was: weights, modes, gradients, what is trained."""
    model, before = trial.went_on[1].model, trial.lent
    advice = "it is lent: work with a copy (copy.deepcopy), or put back what you change"
    for name, (value, trained) in state_of(model).items():
        short = name.removeprefix("inner.")
        if not torch.equal(value, before[name][0]):
            raise Broken(f"practice changes '{short}' of the model that is lent to it", advice)
        if trained != before[name][1]:
            raise Broken(f"practice leaves requires_grad={trained} for '{short}' of the lent model", advice)
    if any(part.training for part in model.modules()):
        raise Broken("practice leaves the lent model in training mode", "call model.eval() at the end")
    left = [name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())]
    if left:
        raise Broken(
            f"practice leaves gradients in the lent model ('{left[0].removeprefix('inner.')}')",
            "take gradients of the policy's own weights: loss.backward(inputs=[*self.parameters()])",
        )


def every_weight_is_trained(trial: Practised) -> None:
    """Check that practice changes each parameter."""
    before, after = trial.own(trial.given), trial.own(trial.went_on[0])
    dead = [name for name, p in after.items() if p.requires_grad and torch.equal(p, before[name])]
    if dead:
        raise Broken(
            f"practice leaves {listed(dead)} as they were",
            "give them to the optimiser and use them in the loss, or set requires_grad_(False)",
        )


def as_many_steps_as_given(trial: Practised) -> None:
    """Check that it takes practice.steps transitions, by less than a round more, and reports them."""
    lent = trial.went_on[1]
    world, counts = lent.world, [0, *(steps for steps, _ in lent.told)]
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
    world = trial.went_on[1].world
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
        trial.practise(policy, Rule(), number=99)
    _same_weights(
        policy, trial.went_on[0], "two practices of the same seed end with different weights", advice
    )


def it_can_be_stopped(trial: Practised) -> None:
    """Check that an error of ``advance`` is passed on, so that Ctrl-C ends a practice between two rounds."""

    class Stop(Exception):
        pass

    def stop(steps: int, metrics: Mapping[str, float]) -> None:
        raise Stop

    policy = trial.copy()
    try:
        policy.improve(trial.lend(policy, Rule(), ROUND, 0, stop)[0])
    except Stop:
        return
    raise Broken("it goes on where practice.advance raises", "catch nothing around practice.advance")


def save_and_load(trial: Practised) -> None:
    """Check that a state_dict holds everything that acting depends on, including a normaliser's
    statistics."""
    loaded = copy.deepcopy(trial.given).eval()
    blank(loaded)
    loaded.load_state_dict(_through_a_file(trial.copy().state_dict()))
    used, usual_plays = trial.policy, trial.usual
    try:
        trial.policy = loaded
        got = {explore: trial.play(trial.script(), explore=explore) for explore in usual_plays}
    finally:
        trial.policy = used
    for explore, usual in usual_plays.items():
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
    trial.practise(continued, Rule(), number=99)
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
    trial.practise(copy.deepcopy(policy), Rule(), number=99)
    if moved(policy, before):
        raise Broken("practice of a copy changes the original", "share no tensor or optimiser between copies")


MANNERS: tuple[Property[Practised], ...] = (
    Property(practice_changes_it, decisive=True),
    Property(what_is_lent_comes_back),
    Property(copies_are_apart, decisive=True),
    Property(practice_follows_from_its_seed),
    Property(every_weight_is_trained),
    Property(as_many_steps_as_given),
    Property(bounds_are_kept_in_practice),
    Property(it_can_be_stopped),
    Property(save_and_load, after=(practice_follows_from_its_seed,)),
    Property(practice_goes_on, after=(practice_follows_from_its_seed, save_and_load)),
)


# ---- helpers ------------------------------------------------------------------------------------


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
