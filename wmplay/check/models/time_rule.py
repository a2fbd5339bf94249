"""The time rule of world models: each step is predicted at its own place, and only from what came before
it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from wmplay.check.compare import TOLERANCE, same
from wmplay.check.fixtures.alignment_episodes import SAFE, Clockwork, Told
from wmplay.check.fixtures.fitted_model import AHEAD, CPU, ROWS, Trial, numbers, sample, silent
from wmplay.check.report import Broken, NotTried
from wmplay.contracts import Segment, modelled
from wmplay.loop.fitter import Fitter
from wmplay.nets.units import measure_units
from wmplay.system.device import seed_draws
from wmplay.system.progress import Advance, bar

ROUNDS = (150, 300, 900)  # updates; most models need few, and each round starts anew
ENOUGH = {"time": 0.25, "action": 0.25, "end": 0.1}  # of the largest amount; ends are rare
ASKED = 293  # episodes
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


def predictions_are_on_time(trial: Trial) -> None:
    """Check that a model fitted to a world whose numbers encode their place predicts each for its own
    step."""
    if trial.fit_failed is not None or trial.stuck is not None:
        raise NotTried("it does not learn what it is shown")
    oracle = Oracle(trial)
    told = oracle.told()
    if not told:
        raise NotTried("it predicts neither observations nor rewards nor ends")
    advice = f"see which steps loss, observe and predict put together, and {RULE}"
    for (who, what), when in _off_time(told).items():
        step = "t - 1" if when == "late" else "t + 1"
        raise Broken(
            f"{who} is one step {when}: its entry t tells the {what} that belongs to step {step}", advice
        )
    untold = _untold(told)
    for kind in untold:
        shift = oracle.found_when_moved(kind)
        if shift is not None:
            raise Broken(
                f"predictions tell nothing of the {kind}: the loss takes it one step {shift}", advice
            )
    if untold:
        nothing = f"after {ROUNDS[-1]} updates on a world that tells it, they tell nothing of the {untold[0]}"
        if "time" not in untold:  # may be a slow learner; actions_matter checks it directly
            raise NotTried(nothing)
        raise Broken(nothing, f"see whether predict does what the loss trains, and {RULE}")


class Oracle:
    """An examiner of copies of a model that are fitted to the artificial world."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.world = Clockwork(trial.spaces, trial.action_space)

    def told(self) -> Told:
        """Return what the predictions encode, of a copy fitted until they do, or for all rounds."""
        progress = bar("alignment", sum(ROUNDS), "updates") if self.trial.verbose else nullcontext(silent)
        done = 0
        with progress as advance:
            for updates in ROUNDS:
                told = self.ask(self.fitted(updates, done, advance))
                done += updates
                shifts = set(_off_time(told).values())
                if "early" in shifts or not (shifts or _untold(told)):  # most begin late, with the last frame
                    break
        return told

    def found_when_moved(self, kind: str) -> str | None:
        """Return the direction in which the loss shifts actions, or ends, or None.

        The data is shifted the other way; a shift that makes the model find them is the answer.
        """
        if kind not in ("action", "end"):
            return None
        for when, steps in (("late", -1), ("early", 1)):

            def move(segment: Segment, steps: int = steps) -> Segment:
                if kind == "action":
                    return replace(segment, action=segment.action.roll(steps, 1))
                return replace(segment, terminated=segment.terminated.roll(steps, 1))

            if kind not in _untold(self.ask(self.fitted(ROUNDS[1], change=move))):
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
    def ask(self, model: Any) -> Told:
        """Return what the model's prediction encodes, for the first step after those that all episodes
        have."""
        asked = self.world.episodes(ASKED, SAFE + 2, torch.Generator().manual_seed(self.trial.seed + 1))
        frames = modelled(asked.segment.observation)
        belief = model.initial({key: value[:, 0] for key, value in frames.items()})
        seen = {key: value[:, 1 : SAFE + 1] for key, value in frames.items()}
        belief = model.observe(belief, asked.segment.action[:, :SAFE], seen)
        return self.world.told(asked, model.predict(belief, asked.segment.action[:, SAFE : SAFE + 1]), SAFE)


def _off_time(told: Told) -> dict[tuple[str, str], str]:
    """Return what is encoded at another step than its own, and the direction."""
    off = {}
    for (who, what), amounts in told.items():
        most = max(amounts, key=lambda name: amounts[name])
        copied = what == "action" and most == "late" and _on_time("time", told.get((who, "time"), {}))
        if most != ON_TIME and amounts[most] > max(ENOUGH[what], 2 * amounts[ON_TIME]) and not copied:
            off[who, what] = most
    return off


def _untold(told: Told) -> list[str]:
    """Return what no prediction encodes at its own step."""
    kinds = dict.fromkeys(what for _, what in told)
    return [kind for kind in kinds if not any(_on_time(w, x) for (_, w), x in told.items() if w == kind)]


def _on_time(what: str, amounts: dict[str, float]) -> bool:
    return amounts.get(ON_TIME, 0) > ENOUGH[what]
