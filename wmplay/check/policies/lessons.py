"""Properties of what a policy learns, one function each: in an env, in a lent model or from a store.

All three are of the same artificial world, whose best actions are known (``practice_world``).
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from wmplay.check.fixtures.practice_world import (
    CUT,
    WORTH,
    Ends,
    Limits,
    Paid,
    PaidAndTakenBack,
    PaidInDreams,
    Rule,
    Sudden,
)
from wmplay.check.fixtures.scripts import flat
from wmplay.check.policies.practising import ROUND, Practiced, Practised, moved, weights
from wmplay.check.report import Broken, NotTried, Property

STEPS = 10_000  # within which it must learn the simplest world
CLEARLY = 0.75  # of the range of actions: the place that counts as learned
ROUNDS = 20  # of a practice: fewer, of many steps each, cannot be expected to suffice
KEPT = 3  # practices after which its actions must still be there
PAIRS, MORE, SURELY = 5, 4, 2.0  # of copies; rounds; standard errors
HALVES = ((0.0, 0.5), (0.5, 1.0))  # of the range of actions, which two stores show
WORLDS = 2  # practices in a row, the first of which may only fill a replay
COPIES = 7  # practices with the store
SHOWS = 0.15  # of the range: an effect of frames that is learned
TELLS, NOTHING = 0.3, 0.05  # of the range: an effect that is surely learned, and one that is none
EVERY = range(1, 1000)  # imagined steps
PATIENCE = 20_000  # steps within which it must learn what frames tell


class Lesson:
    """A copy that practises in a world until its actions have clearly moved, from one end of their range.

    Attributes:
        place: of its actions then, from the other end: 1 is the best.
        takes: whether it took steps in the env.
        imagines: whether it read rewards that the lent model predicts.
        rounds: that it took.
    """

    def __init__(self, trial: Practised, rule: Rule) -> None:
        if not all(bound.isfinite().all() for bound in trial.bounds):
            raise NotTried("the action space has no bounds, so no high and low")
        policy, taken, number, self.rounds = trial.copy(), 0, 0, 0
        self.takes = self.imagines = False
        self.place = self._from_the_end(trial.taste(policy), rule)
        kept = 0  # practices in a row after which it was there: it must not only pass by
        while taken < STEPS and kept < KEPT:
            lent = trial.practise(policy, rule, number=100 + number)
            taken, number = taken + max(ROUND, lent.told[-1][0]), number + 1
            self.rounds += len(lent.told)
            self.takes, self.imagines = self.takes or lent.world.taken > 0, self.imagines or lent.model.read
            if not self.takes and not self.imagines:
                raise NotTried("it neither practises in practice.env nor reads rewards of practice.model")
            place = trial.taste(policy)
            if not self.takes and lent.model.asked:  # it may never see the frames that it is watched on
                place = max(place, _last(lent), key=lambda x: self._from_the_end(x, rule))
            self.place = self._from_the_end(place, rule)
            kept = kept + 1 if self.place >= CLEARLY else 0

    @staticmethod
    def _from_the_end(place: float, rule: Rule) -> float:
        return place if rule.upward else 1 - place


def _last(lent: Any) -> float:
    """Return the mean place of the last actions that it imagined."""
    asked = lent.model.asked[-max(len(lent.model.asked) // 4, 1) :]
    return float(sum(asked) / len(asked))


# ---- the properties ------------------------------------------------------------------------------


def ends_make_a_difference(trial: Practised) -> None:
    """Check that it does not learn the same where steps end an episode as where they do not: in an env, by
    running out of time instead, in a lent model, by going on."""
    twins = [trial.copy(), trial.copy()]
    for twin, over in zip(twins, (False, True), strict=True):
        for number in range(WORLDS):
            lent = trial.practise(twin, Sudden(over), number=96 - number)
    if not lent.world.taken and not lent.model.read:
        raise NotTried("it neither practises in practice.env nor reads rewards of practice.model")
    if moved(twins[0], weights(twins[1])):
        return
    if lent.world.taken and not _has_values(trial):
        raise NotTried("all its weights act: it has no values that would go on where time runs out")
    if lent.world.taken:
        raise Broken(
            "it learns the same from steps that end the episode as from steps at which time ran out",
            "a value follows where the time ran out, none where the episode was terminated: reward + gamma * "
            "(1 - terminated) * value",
        )
    raise Broken(
        "predicted discounts make no difference to what it learns: it imagines beyond the end of episodes",
        "weight what follows a step by the product of the discounts up to that step",
    )


def it_learns(trial: Practised) -> None:
    """Check that actions move up, or down, if the reward is how far up, or down, they are."""
    upward = trial.taste(trial.copy()) <= 0.5
    lesson = Lesson(trial, PaidAndTakenBack(upward))
    place = lesson.place
    if place >= CLEARLY:
        alone = lesson.imagines and not lesson.takes
        if alone and _at_random(trial, PAIRS) and _at_random(trial, 2 * PAIRS, min(lesson.rounds, MORE)):
            raise Broken(
                "its actions move by chance: after a few rounds they are no higher if high ones were paid in "
                "imagination than if low ones were",
                "see that each reward, and each likelihood, belongs to its own action, and counts in its own "
                "step: action[t] brings reward[t]",
            )
        return
    simple = Lesson(trial, Paid(upward))
    if simple.place < CLEARLY and simple.rounds < ROUNDS:
        raise NotTried(f"{STEPS:,} steps are {simple.rounds} of its rounds: give it smaller ones")
    if simple.place < CLEARLY:
        raise Broken(
            f"after {STEPS:,} steps in a world that pays for {'high' if upward else 'low'} actions, they are "
            f"at {simple.place:.2f} of the way there",
            "look for a wrong sign, for actions and rewards that do not belong together (action[t] brings "
            "reward[t]), or a learning rate that is too low",
        )
    if place <= 1 - CLEARLY:
        raise Broken(
            "an action is credited with rewards of the next episode: it avoids what pays, if the next "
            "episode pays less for it",
            "end returns, advantages and imagined futures where the episode ends, by the flag or the "
            "discount of that very step, and see that each reward belongs to its own action",
        )


def over_is_over(trial: Practised) -> None:
    """Check that it would rather go on than take a little more now and end the episode."""
    if limits(trial).place >= CLEARLY:
        return  # it has learned both
    if limits(trial).place > 1 - CLEARLY:
        raise NotTried(f"{STEPS:,} steps were too few to tell")
    place = Lesson(trial, Ends(limits_upward(trial))).place
    if place <= 1 - CLEARLY:
        raise Broken(
            f"it would rather end an episode for a reward of {WORTH:g} than go on for {CUT * WORTH:g} in "
            "each step: it takes the end for none",
            "where an episode is terminated, or by the predicted discount, nothing follows: reward + gamma * "
            "(1 - terminated) * value",
        )


def out_of_time_is_not_over(trial: Practised) -> None:
    """Check that a truncated state has the value of its future, and a terminated one none."""
    lesson, upward = limits(trial), limits_upward(trial)
    if not lesson.takes:
        raise NotTried("no episode that it imagines runs out of time")
    advice = (
        "where truncated and not terminated, add the discounted value of the episode's last frame, as "
        "wmplay.vector.stepping.TensorEnv gives it (arrived)"
    )
    if lesson.place <= 1 - CLEARLY:
        raise Broken(
            f"it would rather have an episode over for a reward of {WORTH:g} than run out of time for one of "
            f"{CUT * WORTH:g} in each step: it takes both for the end",
            advice,
        )
    if lesson.place < CLEARLY:
        raise NotTried(f"{STEPS:,} steps were too few to tell")
    twins = [trial.copy(), trial.copy()]
    for twin, strange in zip(twins, (False, True), strict=True):
        trial.practise(twin, Limits(upward), number=98, strange_ends=strange)
    if not moved(twins[0], weights(twins[1])):
        raise Broken("it does not look at the frame with which an episode ran out of time", advice)


def it_learns_what_frames_tell(trial: Practised) -> None:
    """Check that actions follow the frame that they are taken at, if each frame tells which actions pay."""
    policy, taken, number = trial.copy(), 0, 0
    now = before = against = 0.0
    begun = trial.effects(policy)  # by the accident of its first weights
    while taken < PATIENCE and max(now, before, against) < TELLS:
        lent = trial.practise(policy, Paid(), number=200 + number, guided=True, lost=EVERY)
        if not lent.world.taken and not lent.model.read:
            raise NotTried("it neither practises in practice.env nor reads rewards of practice.model")
        if lent.model.read and lent.model.unguided:
            raise NotTried("it imagines from beliefs of its own making")
        taken, number = taken + max(ROUND, lent.told[-1][0]), number + 1
        now, before = trial.effects(policy)
        before, against = min(before, before - begun[1]), min(-now, begun[0] - now)
    advice = "see that the frame of the very step reaches actor, critic and model, in practice as in act"
    if before >= TELLS > now:
        raise Broken("its actions follow what the frame before told, not their own", advice)
    if against >= TELLS:
        raise Broken(
            "it does the opposite of what frames tell to be paid"
            + ", as if imagined actions were taken in the states that they lead to" * lent.model.read,
            advice,
        )
    if abs(now) < NOTHING:
        raise Broken(
            f"after {PATIENCE:,} steps in a world whose frames tell which actions pay, none follows them",
            advice,
        )
    if now < TELLS:
        raise NotTried(f"{PATIENCE:,} steps were too few to tell")


def actions_follow_their_frames(trial: Practised) -> None:
    """Check that what is learned from a store alone takes each action for that of the frame before it."""
    _, lent = trial.went_on
    if lent.world.taken or lent.model.read or not lent.store.read:
        raise NotTried("it does not learn from the store alone")
    policy, number = trial.copy(), 0
    after = before = 0.0
    while number < COPIES and max(abs(after), abs(before)) < SHOWS:
        trial.practise(policy, Rule(), number=100 + number)
        number += 1
        after, before = trial.effects(policy)
    if abs(before) > SHOWS and abs(before) > 2 * abs(after):
        raise Broken(
            "it acts as was done one step before the recorded frame: actions do not belong to their frames",
            "action[t] is taken at observation[t], and leads to observation[t + 1]",
        )


def imagined_actions_follow_what_is_imagined(trial: Practised) -> None:
    """Check that an imagined action follows the state that was imagined before it, not the one that all began
    with: other rows' states change it."""
    plays = []
    for lost, turned in (((), False), (EVERY, False), ((), True)):
        lent = trial.practise(trial.copy(), Rule(), number=94, lost=lost, turned=turned)
        if not lent.model.read or isinstance(trial.space, Discrete):
            raise NotTried("it reads no rewards of practice.model, or draws one of a few actions")
        plays.append(lent.model.places[:2])
    if any(len(play) < 2 for play in plays) or not all(steps for _, (_, steps) in plays):
        raise NotTried("it imagines no second step, or not from the belief that predict returned")
    usual, strayed, elsewhere = (place for _, (place, _) in plays)
    if torch.equal(usual, strayed) and not torch.equal(usual, elsewhere):
        raise Broken(
            "whatever is imagined, its next action is that of the first frame",
            "let the actor act on what predict returned, in each imagined step anew",
        )


def the_last_value_is_that_of_the_last_state(trial: Practised) -> None:
    """Check that what the last imagined discount weighs is the value of the state that follows it: if other
    discounts change what is learned, other states do."""
    if not trial.went_on[1].model.read:
        raise NotTried("it reads no rewards of practice.model")
    usual, lent = _imagined(trial)
    if any(place.shape[1] > 1 or len(place) == 1 for place, _ in lent.model.places):
        raise NotTried("it does not imagine several rows step by step")  # one row has no other's state
    last = 1 + max(steps for _, steps in lent.model.places)
    if not moved(usual, weights(_imagined(trial, over=last)[0])):
        raise NotTried("the last imagined discount makes no difference to what it learns")
    if not moved(usual, weights(_imagined(trial, lost=(last,))[0])):
        raise Broken(
            f"whether episodes go on after step {last}, the last that is imagined, makes a difference to "
            "what it learns, the state that they go on in does not",
            "bootstrap from where an action leads to: reward[t] + gamma * discount[t] * value[t + 1]",
        )


def its_exploring_policy_learns_what_is_new(trial: Practised) -> None:
    """Check that weights that it only explores with follow the actions of the store, if any weights do.

    Where every step ends an episode, a reward for what is new counts for its own action alone; that of the
    step before is never counted.
    """
    twins = [trial.copy(), trial.copy()]
    for twin, acted in zip(twins, HALVES, strict=True):
        lent = trial.practise(twin, Paid(), number=97, acted=acted)
        if lent.world.taken or not lent.store.read or not trial.own_store:
            raise NotTried("it does not imagine, or learn from the store, alone")
    before, (low, high) = trial.own(trial.policy), (trial.own(twin) for twin in twins)
    differ = {name for name, weight in low.items() if not torch.equal(weight, high[name])}
    trained = [name for name, weight in low.items() if not torch.equal(weight, before[name])]
    exploring = [name for name in trained if _only_explores(trial, name)] if differ else []
    if not exploring:
        raise NotTried("it has no weights that it only explores with, or the store's actions change none")
    if not differ & set(exploring):
        raise Broken(
            f"'{exploring[0]}', which it only explores with, learns the same from low and from high "
            "actions in the store, from which others of its weights learn",
            "reward each imagined action for what it leads to itself: reward[t] is what is new about "
            "action[t] in state[t], not in the step before",
        )


def _only_explores(trial: Practised, name: str) -> bool:
    """Return whether a weight changes what is done with ``explore``, and not what is done without."""
    return _acts_by(trial, name) == (False, True)


def _has_values(trial: Practised) -> bool:
    """Return whether practice has changed a weight that makes no difference to what is done."""
    before = trial.own(trial.given)
    trained = [name for name, p in trial.own(trial.policy).items() if not torch.equal(p, before[name])]
    return any(_acts_by(trial, name) == (False, False) for name in trained)


def _acts_by(trial: Practised, name: str) -> tuple[bool, bool]:
    """Return whether a weight changes what is done without ``explore``, and with it."""
    policy = trial.copy()
    script = trial.script()[:1]

    def done(explore: bool) -> Tensor:
        carry = policy.initial(len(script[0].first))
        return flat(trial.acting(policy, carry, script[0], explore, trial.seed)[0])

    usual = [done(explore) for explore in (False, True)]
    with torch.no_grad():
        weight = policy.get_parameter(name)
        weight.add_(1 + torch.rand(weight.shape, generator=torch.Generator().manual_seed(trial.seed)))
    plain, explored = (not torch.equal(done(explore), usual[explore]) for explore in (False, True))
    return plain, explored


LESSONS: tuple[Property[Practised], ...] = (
    Property(ends_make_a_difference),
    Property(it_learns, after=(ends_make_a_difference,), slow=True),
    Property(it_learns_what_frames_tell, after=(it_learns,), slow=True),
    Property(over_is_over, after=(ends_make_a_difference, it_learns), slow=True),
    Property(out_of_time_is_not_over, after=(ends_make_a_difference, it_learns, over_is_over), slow=True),
    Property(actions_follow_their_frames),
    Property(imagined_actions_follow_what_is_imagined),
    Property(the_last_value_is_that_of_the_last_state, after=(ends_make_a_difference,)),
    Property(its_exploring_policy_learns_what_is_new),
)


# ---- helpers ------------------------------------------------------------------------------------


def _at_random(trial: Practised, pairs: int, rounds: int = 1) -> bool:
    """Return whether what is paid in imagination does not show in what is imagined some rounds later.

    Each pair of copies has the same draws, and a store that tells nothing.
    """
    (one, _), *_ = trial.went_on[1].told
    gaps = []
    for number in range(pairs):
        places = []
        for rule in (PaidInDreams(False), PaidInDreams(True)):
            lent = trial.practise(trial.copy(), rule, steps=rounds * one + 1, number=300 + number)
            asked = lent.model.asked[-len(lent.model.asked) // len(lent.told) :]
            places.append(sum(asked) / max(len(asked), 1))
        gaps.append(places[1] - places[0])
    found = torch.tensor(gaps)
    return bool(found.mean() <= SURELY * found.std() / pairs**0.5)


def _imagined(trial: Practised, **change: Any) -> tuple[Any, Practiced]:
    """Return a copy that has practised where each step may end the episode, and what it was given."""
    policy = trial.copy()
    return policy, trial.practise(policy, Sudden(True), number=93, **change)


def limits_upward(trial: Practised) -> bool:
    """Return the opposite of the direction of ``it_learns``, so that no movement by chance passes both."""
    taste = trial.taste(trial.policy)
    upward = taste <= 0.5
    return not upward if 1 - CLEARLY < taste < CLEARLY else upward


def limits(trial: Practised) -> Lesson:
    """Return the lesson in a world where good actions lead to the time limit, the same one again."""
    known = vars(trial).get("limits")
    if not isinstance(known, Lesson):
        known = Lesson(trial, Limits(limits_upward(trial)))
        trial.limits = known  # type: ignore[attr-defined]
    return known
