"""What a model tells of the artificial world, in which every number encodes its place, after a fit to it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from wmplay.check.fixtures.alignment_episodes import REWARD, SAFE, Clockwork, Told
from wmplay.check.fixtures.fitted_model import CPU, ROWS, Trial, fitted_stages, loss_value, pulls, silent
from wmplay.check.report import NotTried
from wmplay.contracts import Belief, Prediction, Segment, Valued, seen_by
from wmplay.loop.fitter import Fitter
from wmplay.nets.units import measure_units
from wmplay.system.device import seed_draws
from wmplay.system.progress import Advance, bar

ON_TIME = "on time"
ROUNDS = (150, 300, 900)  # updates; most models need few, and each round starts anew
ENOUGH = {"time": 0.25, "action": 0.25, "end": 0.1}  # of the largest amount; ends are rare
ASKED = 293  # episodes
FOUND = {"action": 0.5, "end": 0.2}  # of what is told, where data was moved
OPPOSITE = 0.6  # of what is told
TOO_MUCH = 2.0  # of what is told, where all is 1
SURELY_EARLY = 0.6  # of what is told
BENT = 0.02  # part of a slope that may change where a loss counts as a sum of squares
STEP = 0.1  # by which vectors are moved
GOES_WITH = 0.9  # correlation
OTHER, ASIDE = 0.3, 0.3  # of what is told, and of the level: differences between loss and prediction
LEVEL = 0.5  # difference of means, in units of the codes
PULLS, RATE, HALF = 60, 3e-3, 0.5  # updates, their size, and a part of the rows
BATCHES = 8  # of episodes, on which the loss is asked what it knows
SURELY = 5.0  # standard errors
_SCALE = "predict in the units of what is observed and paid: undo symlog, normalisation, logits, division"


def asked(trial: Trial) -> Oracle:
    """Return the oracle of a trial, asked once for all properties."""
    fitted_stages(trial.model)
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
        missing = untold(self.told) or heads_without_time(self.told) or off_scale(self.told, self.off_level)
        return surely or not (off_time(self.told) or missing)

    @torch.no_grad()
    def loss_should_tell(self, key: str) -> bool:
        """Return whether the loss is surely lower for frames of the right time than of another, or the same
        to the last bit."""
        generator = torch.Generator().manual_seed(self.trial.seed + 2)
        gaps = []
        for _ in range(BATCHES):
            episodes = self.world.episodes(ROWS, SAFE, generator)
            losses = [
                sum(
                    loss_value(stage.loss, seen_by(self.model, segment), self.trial.seed)
                    for stage in fitted_stages(self.model)
                )
                for segment in (episodes.segment, self.world.mistimed(episodes, key))
            ]
            gaps.append(losses[1] - losses[0])
        gap = torch.tensor(gaps)
        return bool(gap.mean() > SURELY * gap.std() / BATCHES**0.5) or not bool(gap.any())

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

    @torch.no_grad()
    def drawn(self, model: Any, observation: dict[str, Tensor]) -> list[Prediction]:
        """Return two draws of the step after SAFE steps with other observations {key: [B, T + 1, ...]}."""
        belief, action = self._belief(model, observation), self.asked.segment.action[:, SAFE : SAFE + 1]
        generator = torch.Generator().manual_seed(self.trial.seed)
        return [model.predict(belief, action, generator=generator) for _ in range(2)]

    def _belief(self, model: Any, observation: dict[str, Tensor] | None = None) -> Belief:
        segment = self.asked.segment
        frames = seen_by(model, segment.observation if observation is None else observation)
        action = segment.action
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

    def expected(self) -> Prediction | None:
        """Return the last reward, and last vectors, that the loss is least for, after SAFE steps; None for a
        loss that is no sum of squares of them, or that takes the last vector for an input as well.

        The loss of a model with values may take rewards for their targets, too.
        """
        segment = self._last()
        here, there, beyond = (self._pulled(reward)[0] for reward in (0, 1, 2))
        rise = there - here
        squares = bool((rise > 0).all()) and bool(((beyond - there - rise).abs() <= BENT * rise).all())
        squares &= not isinstance(self.model, Valued)
        reward = segment.reward[:, -1:] - here / rise if squares else None
        frames = {}
        for key, (pull, slope) in self.squares().items():
            value = segment.observation[key][:, -1:]
            frames[key] = value - (pull / slope).reshape(value.shape)
        return Prediction(here, reward, None, None, lambda latent: frames) if squares or frames else None

    def squares(self, bent: float = BENT, rows: slice = slice(None)) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the gradient of the loss with respect to the last vectors, and how much it rises with them,
        {key: ([B, E], [B, E])}, where the loss is a sum of squares of a vector's entries.

        Each entry may change the slopes of others by a part ``bent`` of the largest rise.
        """
        pulls, moved, first = (
            self._pulled(0, by, entries, rows)[1]
            for by, entries in ((0, slice(0)), (STEP, slice(None)), (STEP, slice(0, 1)))
        )
        found = {}
        for key, pull in pulls.items():
            rise, others = moved[key] - pull, (first[key] - pull)[:, 1:]
            if bool((rise > 0).all()) and bool((others.abs() <= bent * rise.max()).all()):
                found[key] = pull, rise / STEP
        return found

    def _last(self, rows: slice = slice(None)) -> Segment:
        return seen_by(self.model, self.asked.segment.steps(0, SAFE + 1).rows(rows))

    def _pulled(
        self, reward: float, step: float = 0, entries: slice = slice(None), rows: slice = slice(None)
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the gradients of the loss with respect to the last reward [B, 1] and the last vectors
        {key: [B, E]}, moved by ``reward`` and, in some entries, by ``step``."""
        segment = self._last(rows)
        paid, frames = segment.reward.clone(), dict(segment.observation)
        paid[:, -1] += reward
        for key, value in frames.items():
            if value.is_floating_point() and step:
                frames[key] = value.clone()
                frames[key][:, -1].flatten(1)[:, entries] += step
        moved = replace(segment, reward=paid, observation=frames)
        rewards, vectors = pulls(self.model, moved, self.trial.seed)
        return rewards[:, -1:], {key: x[:, -1].flatten(1) for key, x in vectors.items()}

    def heads_read_vague_frames(self) -> bool:
        """Return whether a key does not tell its time, or its action, and predicted rewards do not go with
        those that the loss, which knows the frames, expects: the scale of heads that read the predicted
        frame then says nothing."""
        keys = {who for who, what in self.told if what == "time"} - {"reward"}
        if all(on_time(what, x) for (who, what), x in self.told.items() if who in keys):
            return False
        said, expected = self.predicted(self.model).reward, self.expected()
        if said is None or expected is None or expected.reward is None:
            return True
        both = torch.stack([said.detach().flatten(), expected.reward.flatten()])
        return not bool(torch.corrcoef(both)[0, 1] > GOES_WITH)

    def off_the_loss(self) -> str | None:
        """Return what is predicted otherwise than the loss expects it, or None.

        A predicted reward may be late or vague where frames are, which the loss knows and predict does not.
        """
        expected = self.expected()
        if expected is None:
            return None
        future = self.predicted(self.model)
        for (who, what), amounts in self.world.told(self.asked, expected, SAFE).items():
            for when, amount in amounts.items():
                said = self.told.get((who, what), amounts)[when]
                gap = abs(said - amount) if who != "reward" else said - amount if when == "early" else 0
                if gap > OTHER:
                    return (
                        f"{who} tells {said:.2g} of the {what} ({when}), the loss expects {amount:.2g} of it"
                    )
        if expected.reward is not None and future.reward is not None:
            aside = float((future.reward - expected.reward).mean())
            if abs(aside) > ASIDE:
                return f"the reward is on average {aside:+.2g} from what the loss expects"
        return None

    def reward_is_cut_off(self) -> float | None:
        """Return the number below which no predicted reward falls, or None: pulled down by its weights, most
        rows stay at it exactly."""
        model = copy.deepcopy(self.model)
        with torch.no_grad():
            belief = tree_map(lambda x: x[:ROWS], self._belief(model))
        action = self.asked.segment.action[:ROWS, SAFE : SAFE + 1]
        weights = [p for p in model.parameters() if p.requires_grad]
        begun = self.predicted(model).reward
        for _ in range(PULLS):
            reward = model.predict(belief, action).reward
            if begun is None or reward is None or not reward.requires_grad:
                return None
            slopes = torch.autograd.grad((reward + REWARD).square().mean(), weights, allow_unused=True)
            with torch.no_grad():
                for weight, slope in zip(weights, slopes, strict=True):
                    if slope is not None:
                        weight -= RATE * slope.sign()
        lowest = reward.min()
        often = (reward == lowest).float().mean() > HALF
        moved = begun is not None and bool(begun.min() > lowest)  # else its head may have learned nothing
        return float(lowest.detach()) if often and moved and lowest > -REWARD else None

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
        return max(amounts, key=lambda name: amounts[name]) == ON_TIME and on_time("action", amounts)


def off_time(told: Told) -> dict[tuple[str, str], str]:
    """Return what is encoded at another step than its own, and the direction."""
    off = {}
    opposite = _opposite(told)
    for (who, what), amounts in told.items():
        if who in opposite:
            continue  # of three phases, the opposite of one is the other two
        most = max(amounts, key=lambda name: amounts[name])
        copied = what == "action" and most == "late" and on_time("time", told.get((who, "time"), {}))
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


def untold(told: Told) -> list[str]:
    """Return what no prediction encodes at its own step."""
    kinds = dict.fromkeys(what for _, what in told)
    found = {what for (_, what), x in told.items() if x[ON_TIME] > ENOUGH[what] or x[ON_TIME] < -OPPOSITE}
    return [kind for kind in kinds if kind not in found]


def off_scale(
    told: Told, off_level: dict[str, float], left_out: Collection[str] = ()
) -> list[tuple[str, str]]:
    """Return what has another sign, scale or level than the truth, but for ``left_out``, each with advice."""
    told = {(who, what): amounts for (who, what), amounts in told.items() if who not in left_out}
    off_level = {who: off for who, off in off_level.items() if who not in left_out}
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


def heads_without_time(told: Told) -> list[str]:
    """Return the keys, and the reward, that do not encode the time at its own step."""
    return [who for (who, what), amounts in told.items() if what == "time" and not on_time(what, amounts)]


def on_time(what: str, amounts: dict[str, float]) -> bool:
    """Return whether enough of a quantity is encoded at its own step."""
    return amounts.get(ON_TIME, 0) > ENOUGH[what]
