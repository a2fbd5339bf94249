"""Values of a ``Valued`` model against known returns, in a world that announces its rewards.

Each frame shows two rewards of -1 or 1: that of the step which leaves it, and that of the next step. Both are
drawn by chance, and each step ends the episode with probability 1 / 2. So, under every policy, the expected
return from a frame is

    own + gamma / 2 * next

and the reward of the step before has no part in it.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from wmplay.check.fixtures.alignment_episodes import Clockwork
from wmplay.check.fixtures.fitted_model import CPU, Trial
from wmplay.check.report import Broken, NotTried
from wmplay.contracts import Segment, Valued, capabilities, seen_by
from wmplay.loop.fitter import Fitter
from wmplay.nets.units import measure_units
from wmplay.system.device import seed_draws

SMALL = 0.05  # a discount by which nothing should be left of the next reward
GAMMA, ENDS = 0.5, 0.5  # so that a discount, or an end, that is left out doubles what comes later
ROWS, STEPS = 17, 4  # of a batch
ASKED, AT = 293, 2  # episodes, and the frame whose value is asked for
UPDATES, EVERY = 500, 25  # at most, and between two questions
FOLLOWS = 20  # calls of after_update for each update: slow copies follow sooner
LEARNED, SHIFTED = 0.6, 0.4  # of a reward
TWICE = 1.2  # of their own reward: it is counted again in place of the next
PATIENCE = 3  # further questions, in which the next reward is learned from values that tell their own
LITTLE, TOO_MUCH = 0.1, 0.375  # of the next reward, relative to their own: 0.25 is right
LAST = 4  # questions whose mean is the answer


class Announced:
    """A copy of a model that is fitted to the world of announced rewards.

    Args:
        trial: of the model.
        gamma: the discount that is set on the copy.

    Attributes:
        observed: of each question, how much values after ``observe`` contain of the rewards of the step
            before, their own and the next, [3].
        predicted: the same after ``predict`` of one more step.
    """

    def __init__(self, trial: Trial, gamma: float = GAMMA) -> None:
        self.trial = trial
        self.world = Clockwork(trial.spaces, trial.action_space)
        self.model: Any = copy.deepcopy(trial.given).train()
        try:
            self.model.gamma = gamma
        except AttributeError as error:
            raise NotTried("its gamma cannot be set to another number") from error
        self.generator = torch.Generator().manual_seed(trial.seed)
        how: dict[str, Any] = {"schedule": "constant", "precision": "float32", "warmup": EVERY}
        self.fitter = Fitter(self.model, CPU, UPDATES, **how)
        self.observed: list[Tensor] = []
        self.predicted: list[Tensor] = []
        while len(self.observed) < UPDATES // EVERY and not self.settled:
            self._fit(len(self.observed) * EVERY)
            self._ask()

    @property
    def settled(self) -> bool:
        """True if the values are right, and have been for long enough."""
        learned = sum(bool(parts[1] > LEARNED) for parts in self.observed)
        if learned <= PATIENCE:
            return False
        before, own, following = torch.stack(self.observed[-2:]).mean(0).tolist()
        return bool(abs(before) < LITTLE and LITTLE < following / own < TOO_MUCH)

    def _batch(self, rows: int) -> tuple[Segment, Tensor]:
        """Return a segment, and the rewards [B, T + 2] of its steps and of those that would follow."""
        steps = max(STEPS, capabilities(self.model).least_length)
        paid = 2.0 * torch.randint(2, (rows, steps + 2), generator=self.generator) - 1
        over = torch.rand(rows, steps, generator=self.generator) < ENDS
        action = self.world.episodes(rows, steps, self.generator).segment.action
        alive = over.cumsum(1) - over.long() == 0
        frames = seen_by(self.model, self.world.announcing(paid[:, :-1], paid[:, 1:]))
        begins = torch.ones(rows, dtype=torch.bool)
        return Segment(frames, action, paid[:, :steps], over & alive, alive, begins), paid

    def _fit(self, done: int) -> None:
        self.model.train()
        for number in range(done, done + EVERY):
            seed_draws(self.trial.seed + number)
            segment = self._batch(ROWS)[0]
            measure_units(self.model, segment)  # of the first segment
            self.fitter.update(segment, number, (0, UPDATES))
            with torch.no_grad():
                for _ in range(FOLLOWS - 1 if self.fitter.after_update is not None else 0):
                    self.fitter.after_update((number + 1) / UPDATES)  # type: ignore[misc]
        self.model.eval()

    @torch.no_grad()
    def _ask(self) -> None:
        segment, paid = self._batch(ASKED)
        frames, action = segment.observation, segment.action
        belief = self.model.initial({key: value[:, 0] for key, value in frames.items()})
        seen = {key: value[:, 1 : AT + 1] for key, value in frames.items()}
        belief = self.model.observe(belief, action[:, :AT], seen)
        self.observed.append(_parts(self.model.value(belief), paid[:, AT - 1 : AT + 2]))
        belief = self.model.predict(belief, action[:, AT : AT + 1]).belief
        self.predicted.append(_parts(self.model.value(belief), paid[:, AT : AT + 3]))


def values_are_expected_returns(trial: Trial) -> None:
    """Check that values contain their own reward whole, the next one discounted and as far as episodes go on,
    and none of the past."""
    if not isinstance(trial.model, Valued):
        raise NotTried("it has no value(belief), policy(belief) and gamma")
    found = Announced(trial)
    before, own, following = torch.stack(found.observed[-LAST:]).mean(0).tolist()
    told = (
        f"values tell {before:.2g} of the reward before, {own:.2g} of their own, {following:.2g} of the next"
    )
    if not found.settled and (problem := _off(trial, before, own, following)) is not None:
        raise Broken(
            f"{problem}: {told}, where 0, 1 and {GAMMA * ENDS:g} are right",
            "the value of frame t is reward[t] + gamma * (1 - terminated[t]) * the value of frame t + 1",
        )
    before, own, _ = torch.stack(found.predicted[-2:]).mean(0).tolist()
    if before > SHIFTED and before > 2 * own:
        raise Broken(
            f"after predict they are one step late: {before:.2g} of the reward of the predicted step itself, "
            f"{own:.2g} of the next one",
            "let predict return the belief after its last step, and train values there on what follows",
        )
    if not found.settled:
        raise NotTried(f"after {UPDATES} updates {told}: too little to judge")


def _off(trial: Trial, before: float, own: float, following: float) -> str | None:
    """Return the mistake by which values contain other amounts of rewards than returns do, if it is clear."""
    if before > SHIFTED:
        return "they are one step late" if before > 2 * own else "they count what is past"
    if following > SHIFTED and following > 2 * own:
        return "they are one step early"
    if own < -SHIFTED:
        return "they are of the opposite sign"
    if own < LEARNED:
        return None
    if following / own >= TOO_MUCH:
        later = torch.stack(Announced(trial, SMALL).observed[-LAST:]).mean(0)
        if later[2] / later[1] > LITTLE:
            return f"the next reward is not discounted by gamma, {GAMMA:g}"
        return "the next reward counts as if no episode ended before it"
    if following / own < LITTLE and own > TWICE:
        return "their own reward is counted again in place of the next"
    return None


def _parts(value: Tensor, paid: Tensor) -> Tensor:
    """Return the amounts [N] of rewards [B, N] in values [B], by least squares."""
    columns = torch.cat([paid, torch.ones(len(paid), 1)], 1).double()
    found: Tensor = torch.linalg.lstsq(columns, value.double().unsqueeze(1), driver="gelsd").solution
    return found[:-1, 0]
