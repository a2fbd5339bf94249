"""Properties of explorers, one function each, in addition to those of policies.

An explorer is checked around policies that take known actions and record their arguments.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from wmplay.check.compare import claim, same
from wmplay.check.explorers.exploring import LONG, MANY, Exploring, Make
from wmplay.check.fixtures.fitted_model import ROWS
from wmplay.check.fixtures.scripts import flat
from wmplay.check.policies import ACTING
from wmplay.check.report import Broken, NotTried, Property, Report, examine

SIGMAS = 5.0  # deviation beyond chance
EPISODES = 11  # seeds of the draws
BEGUN = 7  # steps before every second row begins another episode
SELDOM = 2  # episodes in which some rows explore, if all have the same chance and others never do
TOGETHER = 20  # times the variance of independent rows
ONE_COIN = 0.4  # correlation: 1 if both or none act at random, half of that where one of two actions is drawn
ENOUGH = 20  # draws for each discrete action, so that all of them occur
RATES = ("epsilon", "probability")  # attributes that say how often an explorer acts at random


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
        return examine(
            type(trial.policy).__name__, (*ACTING[:1], *EXPLORING, *ACTING[1:]), trial, verbose, quick
        )


# ---- the properties ------------------------------------------------------------------------------


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


def it_explores(trial: Exploring) -> None:
    """Check that it changes some actions while exploring, by chance."""
    if not trial.chances(0).any() and not (trial.added(trial.scattered) != 0).any():
        raise Broken(
            f"exploring, it changes no action of {MANY} rows in {LONG} steps",
            "see that explore=True reaches it",
        )
    around = (trial.constant, trial.scattered)
    alike = all(torch.equal(trial.actions(each, 0), trial.actions(each, 1)) for each in around)
    if alike and not _by_time_alone(trial.actions(trial.constant)):
        raise Broken("another generator changes nothing that it does", "draw with generator=generator")


def steps_draw_for_themselves(trial: Exploring) -> None:
    """Check that the draws of a step differ from those of the steps before it."""
    advice = "draw anew in each step from the generator as it is: neither seed it nor keep what was drawn"
    if torch.equal(trial.actions(trial.constant, 0), trial.actions(trial.constant, 1)):
        raise NotTried("it draws nothing")
    each = trial.added(trial.constant, anew=True)
    if torch.equal(each, each[:, :1].expand_as(each)) and not torch.equal(each, torch.zeros_like(each)):
        raise Broken(
            f"in {LONG} steps, with a generator that goes on, it draws {LONG} times the same", advice
        )
    if trial.discrete:
        return
    actions = trial.actions(trial.scattered)
    added = trial.added(trial.scattered)[_inside(trial, actions).all(1)]
    always = len(added) >= ENOUGH and bool((added != 0).any(-1).all())
    if always and torch.allclose(added, added[:, :1].expand_as(added), atol=1e-4):
        raise Broken(f"in all {LONG} steps of an episode it adds the same noise", advice)


def bounds_are_kept_at_the_edge(trial: Exploring) -> None:
    """Check that actions stay within the space around actions at its edge."""
    low, high = trial.bounds
    for edge in (trial.lowest, trial.highest):
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
    offset = (trial.actions(trial.middle) - (low + high) / 2) / (high - low) * 2
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
    seen = set(trial.actions(trial.lowest).flatten().long().tolist())
    missing = sorted(set(range(low, low + count)) - seen)
    if missing:
        raise Broken(
            f"action {missing[0]} never comes up in {int(changed.sum())} random ones",
            f"draw from {low} to {low + count - 1}: torch.randint leaves its upper end out",
        )


def a_later_episode_is_explored_alike(trial: Exploring) -> None:
    """Check that a row explores in its second episode as in its first, also after many steps, and while other
    rows go on."""
    one, two = trial.actions(trial.constant), trial.second_episode(trial.constant)
    same(
        two,
        one,
        f"after an episode of {LONG} steps, with the same generator, the next one is explored otherwise",
        "where first is True, begin that row's memory anew: torch.where(first, beginning, carried)",
    )
    usual, alone = trial.chances(0).double().mean(0)[: LONG - BEGUN], trial.rate_after(BEGUN)
    rate = (usual + alone) / 2
    apart = (usual - alone).abs() > SIGMAS * (4 * rate * (1 - rate) / MANY).sqrt() + 0.02
    if apart.any():
        step = int(apart.nonzero()[0])
        raise Broken(
            f"in step {step} of an episode that begins while others go on, {float(alone[step]):.2f} of all "
            f"actions are changed, and {float(usual[step]):.2f} where all begin together",
            "keep a clock, and all memory, of each row: [B]",
        )


def each_row_takes_its_own_chance(trial: Exploring) -> None:
    """Check that each row decides on its own whether to explore."""
    counts = (
        torch.stack([trial.chances(seed) for seed in range(EPISODES)]).double().sum(1)
    )  # [EPISODES, LONG]
    rate = counts.mean(0) / MANY
    alone = MANY * (rate * (1 - rate)).mean()  # the variance that independent rows have
    if float(counts.var(0).mean()) > TOGETHER * max(float(alone), 1.0):
        step = int(counts.var(0).argmax())
        few, many = int(counts[:, step].min()), int(counts[:, step].max())
        raise Broken(
            f"rows explore together: in step {step}, {few} of {MANY} do in one episode and {many} in another",
            "draw a chance for every row: torch.rand(B, generator=generator) < probability",
        )


def every_row_explores(trial: Exploring) -> None:
    """Check that no row is left out."""
    times = sum(trial.chances(seed).any(1).long() for seed in range(EPISODES))
    assert isinstance(times, Tensor)
    never = times == 0
    if never.any() and not never.all() and int(times[~never].min()) > SELDOM:
        rows = f"{int(never.sum())} of {MANY} rows"
        raise Broken(
            f"{rows} (row {int(never.nonzero()[0])} first) never explore in {EPISODES} episodes, row "
            f"{int((~never).nonzero()[0])} does in {int(times[~never][0])}",
            "change all rows of the action: draw noise and chances of the batch's shape",
        )


def every_entry_explores(trial: Exploring) -> None:
    """Check that no entry of a continuous action is left out, and that they do not all change alike."""
    width = len(trial.bounds[0])
    if trial.discrete or width == 1:
        raise NotTried("an action is one number")
    low, high = trial.bounds
    actions = torch.cat([trial.actions(trial.constant, seed) for seed in range(EPISODES)])
    added = torch.cat([trial.added(trial.constant, seed) for seed in range(EPISODES)]).flatten(0, 1)
    changed = added != 0  # [rows and steps, A]
    never = ~changed.any(0)
    if never.any() and int(changed.sum()) >= ENOUGH:
        raise Broken(
            f"entry {int(never.nonzero()[0])} of its actions never changes, entry "
            f"{int((~never).nonzero()[0])} does in {int(changed.sum(0).max())} of {len(changed)} steps",
            "draw noise of the action's whole shape, [B, A]",
        )
    for unit in (torch.ones_like(low), (high - low).nan_to_num(posinf=1.0)):
        noise = added[changed.any(1) & _inside(trial, actions).flatten()] / unit
        if len(noise) >= ENOUGH and torch.allclose(noise, noise[:, :1].expand_as(noise), atol=1e-4):
            raise Broken(
                f"all {width} entries of an action are changed by the same number",
                "draw noise of the action's whole shape, [B, A], not [B, 1]",
            )


def it_explores_around_the_policys_action(trial: Exploring) -> None:
    """Check that what it changes is the wrapped policy's action of this very step."""
    done, added = trial.actions(trial.scattered), trial.added(trial.scattered)
    own = done - added
    now, before = _agreement(done[:, 1:], own[:, 1:]), _agreement(done[:, 1:], own[:, :-1])
    if abs(now) < 0.1 and before > 0.2:
        raise Broken(
            f"exploring, its action goes with the policy's action of the step before (correlation "
            f"{before:.2f}), not with this step's ({now:.2f})",
            "change the action that the wrapped policy has just returned",
        )
    if now < -0.2:
        raise Broken(
            f"exploring, its action goes against the policy's (correlation {now:.2f})",
            "add to the policy's action, or replace it; see the sign",
        )


def it_explores_as_often_as_it_says(trial: Exploring) -> None:
    """Check that it acts at random no more often than by its attribute ``epsilon`` or ``probability``, and by
    ``epsilon`` in each step anew."""
    says = {name: claim(trial.policy, name) for name in RATES}
    rates = {name: x for name, x in says.items() if isinstance(x, float) and 0 <= x <= 1}
    if len(rates) != 1:
        raise NotTried("it has no attribute epsilon or probability")
    ((name, rate),) = rates.items()
    chances = torch.cat([trial.chances(seed) for seed in range(EPISODES)]).double()  # [rows, LONG]
    every = chances.mean(0)
    least = float(every.min())  # a stretch of random steps begins by chance, and goes on after that
    sigma = (rate * (1 - rate) / len(chances)) ** 0.5
    if least > rate + SIGMAS * sigma + 1e-9:
        raise Broken(
            f"its {name} is {rate:g}, but in every step at least {least:.2f} of its actions are random",
            f"act at random where a number drawn from 0 to 1 is less than {name}",
        )
    if name == "epsilon" and 0 < rate < 1 and float((every[-1] - every[0]).abs()) < SIGMAS * sigma:
        together = float(torch.corrcoef(chances[:, [0, -1]].T)[0, 1])  # of the first step and the last
        if together > ONE_COIN:
            raise Broken(
                f"rows that act at random in step 0 do so in step {LONG - 1}, too (correlation "
                f"{together:.2f}): chance decides once in an episode",
                "draw anew in each step; an explorer of whole episodes calls its chance `probability`",
            )


EXPLORING: tuple[Property[Exploring], ...] = (
    Property(the_policy_inside_is_told_the_truth, decisive=True),
    Property(only_while_exploring),
    Property(it_explores),
    Property(steps_draw_for_themselves, after=(it_explores,)),
    Property(bounds_are_kept_at_the_edge),
    Property(it_does_not_lean),
    Property(every_discrete_action_comes_up),
    Property(each_row_takes_its_own_chance, after=(it_explores,)),
    Property(a_later_episode_is_explored_alike, after=(it_explores, each_row_takes_its_own_chance)),
    Property(every_row_explores, after=(it_explores,)),
    Property(every_entry_explores, after=(it_explores,)),
    Property(it_explores_around_the_policys_action, after=(it_explores,)),
    Property(it_explores_as_often_as_it_says, after=(it_explores, each_row_takes_its_own_chance)),
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


def _by_time_alone(actions: Tensor) -> bool:
    """Return whether rows that see the same all do the same [B, T, N], and other things in other steps."""
    same_rows = torch.equal(actions, actions[:1].expand_as(actions))
    return same_rows and not torch.equal(actions, actions[:, :1].expand_as(actions))


def _inside(trial: Exploring, actions: Tensor) -> Tensor:
    """Return [B, T] bool: whether all entries of actions are within the bounds, where nothing was cut off."""
    low, high = trial.bounds
    return ((actions > low) & (actions < high)).all(-1)


def _agreement(one: Tensor, other: Tensor) -> float:
    """Return the correlation of two outcomes [B, T, N], 0 if one of them is constant."""
    one, other = ((x - x.mean((0, 1))) / x.std((0, 1)).clamp(min=1e-9) for x in (one, other))
    scale = float((one.square().sum() * other.square().sum()).sqrt())
    return float((one * other).sum()) / scale if scale > 0 else 0.0
