"""The time rule of world models: each step is predicted at its own place, and only from what came before
it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from wmplay.check.compare import TOLERANCE, same
from wmplay.check.fixtures.alignment_episodes import REWARD, SAFE, Clockwork, Told
from wmplay.check.fixtures.fitted_model import AHEAD, CPU, ROWS, Trial, loss_value, numbers, sample, silent
from wmplay.check.report import Broken, NotTried
from wmplay.contracts import Belief, Prediction, Segment, seen_by
from wmplay.loop.fitter import Fitter, stages_of
from wmplay.nets.units import measure_units
from wmplay.system.device import seed_draws
from wmplay.system.progress import Advance, bar

ROUNDS = (150, 300, 900)  # updates; most models need few, and each round starts anew
ENOUGH = {"time": 0.25, "action": 0.25, "end": 0.1}  # of the largest amount; ends are rare
ASKED = 293  # episodes
FOUND = {"action": 0.5, "end": 0.2}  # of what is told, where data was moved
OPPOSITE = 0.6  # of what is told
TOO_MUCH = 2.0  # of what is told, where all is 1
SURELY_EARLY = 0.6  # of what is told
LEVEL = 0.5  # difference of means, in units of the codes
BATCHES = 8  # of episodes, on which the loss is asked what it knows
SURELY = 5.0  # standard errors
MISPLACED = 0.2  # part of the entries
MOST = 12  # entries, or numbers, of actions that are tried one by one
_PLACES = "see whether decode gives each entry its own place: axes, channels, the order of keys, units"
_SCALE = "predict in the units of what is observed and paid: undo symlog, normalisation, logits, division"
ON_TIME = "on time"
RULE = "the time rule: action[t] leads from observation[t] to observation[t + 1], with reward[t]"


def no_peeking(trial: Trial) -> None:
    """Check that predictions up to step t do not depend on later actions.

    The actions are changed, and the gradient with respect to them is compared with zero.
    """
    model = trial.model
    advice = (
        "make the prediction of step t depend on action[: t + 1] alone (a causal mask, a loop over steps)"
    )
    usual = trial.outcome(model)
    for step in range(1, AHEAD):
        changed = trial.future.clone()
        changed[:, step:] = trial.other(changed[:, step:])
        same(
            trial.outcome(model, action=changed)[:, :step],
            usual[:, :step],
            f"changing action[{step}:] changes what is predicted before",
            advice,
        )
    if trial.discrete:
        return
    action = trial.future.clone().requires_grad_()
    predicted = numbers(model.predict(trial.believe(model), action))
    for step in range(AHEAD - 1):
        if not predicted.requires_grad:
            return
        (slope,) = torch.autograd.grad(predicted[:, step].sum(), action, retain_graph=True, allow_unused=True)
        if slope is not None and bool((slope[:, step + 1 :].abs() > TOLERANCE).any()):
            raise Broken(f"step {step} has a gradient with respect to later actions", advice)


def actions_matter(trial: Trial) -> None:
    """Check that after a short fit action[t] changes the prediction of the step that it leads to."""
    model = trial.model
    belief = trial.believe(model)

    def futures(action: Tensor) -> Tensor:
        sampled = sample(model, belief, action, trial.seed)
        return torch.cat([trial.outcome(model, belief, action), sampled], -1)

    usual = futures(trial.future)
    for step in range(AHEAD):
        changed = trial.future.clone()
        changed[:, step] = trial.other(changed[:, step])
        moved = (futures(changed) - usual).abs().amax(dim=(0, 2)) > TOLERANCE  # [H]
        if not moved[step]:
            late = ": it works one step late" if bool(moved[step + 1 : step + 2].any()) else ""
            early = ": it works one step early" if step and bool(moved[step - 1]) else ""
            raise Broken(
                f"another action[{step}] leaves the prediction of step {step}, to which it leads, as it "
                f"was{late or early}",
                f"see that each action enters before its own step is predicted, and {RULE}",
            )
    held = {name: futures(action) for name, action in _held_actions(trial)}
    for (name, one), (other, two) in combinations(held.items(), 2):
        alike = name.partition(" = ")[0] == other.partition(" = ")[0]  # values of the same part of the action
        if alike and torch.equal(one, two):
            raise Broken(
                f"{name} and {other}, held for {AHEAD} steps, lead to the same predictions to the last bit",
                "let every entry and every number of the action enter: see slices, clamps and one-hot sizes",
            )


def _held_actions(trial: Trial) -> Iterator[tuple[str, Tensor]]:
    """Yield the actions of ``future`` with an entry held at a bound, or one discrete action in all steps."""
    if isinstance(trial.action_space, Discrete):
        start = int(trial.action_space.start)
        for number in range(start, start + min(int(trial.action_space.n), MOST)):
            yield f"action = {number}", torch.full_like(trial.future, number)
        return
    for entry in range(min(trial.future.shape[-1], MOST)):
        for name, bound in zip(("low", "high"), trial.choices, strict=True):
            action = trial.future.clone()
            action[..., entry] = bound[entry]
            yield f"action[{entry}] = {name}", action


def predictions_are_on_time(trial: Trial) -> None:
    """Check that a model fitted to a world whose numbers encode their place predicts each for its own
    step."""
    oracle = _asked(trial)
    told = oracle.told
    if not told:
        raise NotTried("it predicts neither observations nor rewards nor ends")
    advice = f"see which steps loss, observe and predict put together, and {RULE}"
    for (who, what), when in _off_time(told).items():
        step = "t - 1" if when == "late" else "t + 1"
        raise Broken(
            f"{who} is one step {when}: its entry t tells the {what} that belongs to step {step}", advice
        )
    for kind in _untold(told):
        shift = oracle.found_when_moved(kind)
        if shift is not None:
            raise Broken(
                f"predictions tell nothing of the {kind}: the loss takes it one step {shift}", advice
            )
    for kind in _untold(told):
        nothing = f"after {ROUNDS[-1]} updates on a world that tells it, they tell nothing of the {kind}"
        if kind != "time":  # may be a slow learner; actions_matter checks it directly
            raise NotTried(nothing)
        raise Broken(nothing, f"see whether predict does what the loss trains, and {RULE}")


def each_head_tells_what_the_loss_knows(trial: Trial) -> None:
    """Check that each predicted key, the reward and the discount have the sign, the scale and the places of
    what the loss compares them with."""
    oracle = _asked(trial)
    for problem, advice in _off_scale(oracle.told, oracle.off_level):
        raise Broken(problem, advice)
    for kind in _untold(oracle.told):
        if oracle.loss_tells(kind):
            raise Broken(
                f"predictions tell nothing of the {kind}, although the loss does",
                "let predict read actions as the loss does: their order, units, one-hot numbers",
            )
    off = oracle.off_by_parts()
    for who, gap in off.items():
        if gap > TOLERANCE:
            raise Broken(
                f"{who} of the second of two steps is another than after the first alone, by {gap:.2g}",
                "predict each step's own reward and its own probability to go on, not sums or products",
            )
    for who, part in oracle.misplaced.items():
        if part > MISPLACED:
            raise Broken(f"{part:.0%} of {who} vary otherwise than the time that they should tell", _PLACES)
    for who in _heads_without_time(oracle.told):
        if who == "reward" and not _untold(oracle.told):
            raise Broken(
                f"after {ROUNDS[-1]} updates the reward tells nothing of the time, but frames do",
                "see whether predict returns the head that the loss trains, and from which features",
            )
        if who != "reward" and oracle.loss_knows(who.strip("'")):
            raise Broken(
                f"{who} tells nothing of the time, although the loss knows another time's from its own",
                _PLACES,
            )


def _asked(trial: Trial) -> Oracle:
    """Return the oracle of a trial, asked once for all properties."""
    if trial.fit_failed is not None or trial.stuck is not None:
        raise NotTried("it does not learn what it is shown")
    if trial.oracle is None:
        trial.oracle = Oracle(trial)
    oracle: Oracle = trial.oracle
    return oracle


class Oracle:
    """An examiner of a copy of a model that is fitted to the artificial world until it tells what it can.

    ``told`` and ``off_level`` are what the copy ``model`` predicts; see ``Clockwork``.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.world = Clockwork(trial.spaces, trial.action_space)
        self.asked = self.world.episodes(ASKED, SAFE + 2, torch.Generator().manual_seed(trial.seed + 1))
        progress = bar("alignment", sum(ROUNDS), "updates") if trial.verbose else nullcontext(silent)
        done = 0
        with progress as advance:
            for updates in ROUNDS:
                self.model = self.fitted(updates, done, advance)
                self.ask()
                done += updates
                if self._settled():
                    break

    def _settled(self) -> bool:
        surely = any(x["early"] > SURELY_EARLY + x["late"] for x in self.told.values())  # most begin late
        missing = (
            _untold(self.told) or _heads_without_time(self.told) or _off_scale(self.told, self.off_level)
        )
        return surely or not (_off_time(self.told) or missing)

    @torch.no_grad()
    def loss_knows(self, key: str) -> bool:
        """Return whether the loss is surely lower for frames of the right time than of another."""
        generator = torch.Generator().manual_seed(self.trial.seed + 2)
        gaps = []
        for _ in range(BATCHES):
            episodes = self.world.episodes(ROWS, SAFE, generator)
            losses = [
                sum(
                    loss_value(stage.loss, seen_by(self.model, segment), self.trial.seed)
                    for stage in stages_of(self.model)
                )
                for segment in (episodes.segment, self.world.mistimed(episodes, key))
            ]
            gaps.append(losses[1] - losses[0])
        gap = torch.tensor(gaps)
        return bool(gap.mean() > SURELY * gap.std() / BATCHES**0.5)

    def found_when_moved(self, kind: str) -> str | None:
        """Return the direction in which the loss shifts actions, or ends, or None.

        The data is shifted the other way; a shift that makes the model find them is the answer.
        """
        if kind not in ("action", "end"):
            return None
        for when, steps in (("late", -1), ("early", 1)):

            def move(segment: Segment, steps: int = steps) -> Segment:
                segment = replace(segment, reward=segment.reward - REWARD)  # what else there is to learn
                if kind == "action":
                    return replace(segment, action=segment.action.roll(steps, 1))
                return replace(segment, terminated=segment.terminated.roll(steps, 1))

            told = self.answer(self.fitted(ROUNDS[1], change=move))
            if any(amounts[ON_TIME] > FOUND[kind] for (_, what), amounts in told.items() if what == kind):
                return when
        return None

    def fitted(
        self,
        updates: int,
        done: int = 0,
        advance: Advance = silent,
        change: Callable[[Segment], Segment] = lambda segment: segment,
    ) -> Any:
        """Return a copy after ``updates`` updates on the world's segments, changed by ``change``.

        ``done`` is the number of earlier updates, for the progress bar.
        """
        model = copy.deepcopy(self.trial.given).train()
        fitter = Fitter(model, CPU, updates, precision="float32", warmup=updates // 10)
        generator = torch.Generator().manual_seed(self.trial.seed)
        for number in range(updates):
            seed_draws(self.trial.seed + number)
            segment = change(self.world.episodes(ROWS, SAFE + 4, generator).segment)
            measure_units(model, segment)  # of the first segment
            fitter.update(segment, number, (0, updates))
            advance(done + number + 1, "")
        return model.eval()

    @torch.no_grad()
    def predicted(self, model: Any) -> Prediction:
        """Return the model's prediction of the first step after those that all episodes have."""
        future: Prediction = model.predict(self._belief(model), self.asked.segment.action[:, SAFE : SAFE + 1])
        return future

    def _belief(self, model: Any) -> Belief:
        frames, action = seen_by(model, self.asked.segment.observation), self.asked.segment.action
        belief = model.initial({key: value[:, 0] for key, value in frames.items()})
        seen = {key: value[:, 1 : SAFE + 1] for key, value in frames.items()}
        return model.observe(belief, action[:, :SAFE], seen)

    @torch.no_grad()
    def answer(self, model: Any) -> Told:
        """Return what the model's prediction encodes."""
        return self.world.told(self.asked, self.predicted(model), SAFE)

    @torch.no_grad()
    def ask(self) -> None:
        """Set what the fitted copy's prediction encodes, and how far its level and its places are off."""
        future = self.predicted(self.model)
        self.told = self.world.told(self.asked, future, SAFE)
        self.off_level = self.world.off_level(self.asked, future, SAFE)
        self.misplaced = self.world.misplaced(self.asked, future, SAFE)

    @torch.no_grad()
    def off_by_parts(self) -> dict[str, float]:
        """Return how far a step's reward and discount differ if the step before is predicted by another call.

        Unlike on a batch without ends, discounts differ from 1 here.
        """
        belief = self._belief(self.model)
        action = self.asked.segment.action[:, SAFE : SAFE + 2]
        whole = self.model.predict(belief, action)
        first = self.model.predict(belief, action[:, :1])
        second = self.model.predict(first.belief, action[:, 1:])
        pairs = {"reward": (whole.reward, second.reward), "discount": (whole.discount, second.discount)}
        return {
            who: float((one[:, 1] - two[:, 0]).abs().max())
            for who, (one, two) in pairs.items()
            if one is not None and two is not None
        }

    def loss_tells(self, kind: str) -> bool:
        """Return whether the rewards that the loss is least for encode the action at its own step."""
        if kind != "action":
            return False
        segment = self.asked.segment
        higher = replace(segment, reward=segment.reward + 1)
        here, there = (self.trial.pull(x, model=self.model) for x in (segment, higher))
        if here is None or there is None:
            return False
        least = (segment.reward - here / (there - here))[:, SAFE : SAFE + 1]  # of a quadratic
        if not least.isfinite().all():
            return False
        expected = Prediction(least, least, None, None, lambda latent: {})
        told = self.world.told(self.asked, expected, SAFE)
        amounts = told["reward", "action"]
        return max(amounts, key=lambda name: amounts[name]) == ON_TIME and _on_time("action", amounts)


def _off_time(told: Told) -> dict[tuple[str, str], str]:
    """Return what is encoded at another step than its own, and the direction."""
    off = {}
    opposite = _opposite(told)
    for (who, what), amounts in told.items():
        if who in opposite:
            continue  # of three phases, the opposite of one is the other two
        most = max(amounts, key=lambda name: amounts[name])
        copied = what == "action" and most == "late" and _on_time("time", told.get((who, "time"), {}))
        if most != ON_TIME and amounts[most] > max(ENOUGH[what], 2 * amounts[ON_TIME]) and not copied:
            off[who, what] = most
    return off


def _opposite(told: Told) -> set[str]:
    """Return who tells the opposite of the truth, so that it seems to be late, or late and early at once."""
    found = {
        who
        for (who, what), x in told.items()
        if what != "time" and x[ON_TIME] < -OPPOSITE and max(x["late"], x["early"]) < OPPOSITE
    }
    times = {who: (x["late"], x["early"]) for (who, what), x in told.items() if what == "time"}
    early = {who for who, (late, early) in times.items() if early > late}
    both = {who for who, pair in times.items() if min(pair) > 0.5 * max(pair) > ENOUGH["time"]}
    return found - early | both


def _untold(told: Told) -> list[str]:
    """Return what no prediction encodes at its own step."""
    kinds = dict.fromkeys(what for _, what in told)
    found = {what for (_, what), x in told.items() if x[ON_TIME] > ENOUGH[what] or x[ON_TIME] < -OPPOSITE}
    return [kind for kind in kinds if kind not in found]


def _off_scale(told: Told, off_level: dict[str, float]) -> list[tuple[str, str]]:
    """Return what has another sign, scale or level than the truth, each with advice."""
    found = []
    for (who, what), amounts in told.items():
        amount = amounts[ON_TIME]
        if amount < -OPPOSITE:
            opposite = f"{who} tells the opposite of the {what}: {amount:.2g} of it, where all is 1"
            found.append(
                (opposite, "return it with the sign that the loss trains; a discount is for going on")
            )
        elif amount > TOO_MUCH:
            found.append((f"{who} tells {amount:.2g} of the {what}, where all is 1", _SCALE))
    for who, off in off_level.items():
        if off > LEVEL:
            found.append((f"on average {who} is off by {off:.2g}, in units of what it varies by", _SCALE))
    return found


def _heads_without_time(told: Told) -> list[str]:
    """Return the keys, and the reward, that do not encode the time at its own step."""
    return [who for (who, what), amounts in told.items() if what == "time" and not _on_time(what, amounts)]


def _on_time(what: str, amounts: dict[str, float]) -> bool:
    return amounts.get(ON_TIME, 0) > ENOUGH[what]
