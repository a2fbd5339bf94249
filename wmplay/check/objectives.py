"""Properties of objectives, one function each.

An objective scores predictions made of recorded episodes, of which the better ones are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import torch
from torch import Tensor

from wmplay.check.compare import TOLERANCE, global_generators_at_rest, shown
from wmplay.check.fixtures.fitted_model import AHEAD, ROWS, record
from wmplay.check.report import Broken, NotTried, Property, Report, examine
from wmplay.config.constructors import label
from wmplay.contracts import GOAL_PREFIX, LazyMapping, Prediction, modelled
from wmplay.errors import WmplayError

NUDGE = 1e-2  # step of a difference quotient, in float64
FEATURES = 7  # size of a latent, whose content has no meaning


def check_objective(
    objective: Any, env: gymnasium.Env[Any, Any], *, seed: int = 0, verbose: bool = False, quick: bool = False
) -> Report:
    """Check all properties of an objective.

    Args:
        objective: used as it is.
        env: a single env with the task (the goals in its observations) that the objective is for.
        seed: of all random draws. The caller's random state is not changed.
        verbose: whether to print each finding at once.
        quick: whether to leave out slow properties.

    Raises:
        SpaceError: if the env's episodes are too short.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return examine(
            label(objective).rpartition(".")[2], PROPERTIES, Judged(objective, env, seed), verbose, quick
        )


class Judged:
    """An objective, and ROWS futures of AHEAD steps for it to score, each with the goals of its own row."""

    def __init__(self, objective: Any, env: gymnasium.Env[Any, Any], seed: int) -> None:
        self.objective = objective
        segment, _ = record(env, seed, AHEAD, "an objective")
        frames = segment.observation
        generator = torch.Generator().manual_seed(seed)
        self.now = {key: value[:, 0] for key, value in frames.items()}  # {key: [R, ...]}, goals included
        seen = modelled(frames)
        self.frames = {key: value[:, 1:].float() for key, value in seen.items()}  # {key: [R, H, ...]}
        self.reward = torch.randn(ROWS, AHEAD, generator=generator)
        self.discount = 0.5 + 0.5 * torch.rand(ROWS, AHEAD, generator=generator)

    def future(self, rows: slice = slice(None), horizon: int = AHEAD, **changed: Any) -> Prediction:
        """Return a prediction of some rows; ``reward``, ``discount`` and ``frames`` may be replaced."""
        frames = {**self.frames, **changed.get("frames", {})}
        heads = changed.get("reward", self.reward), changed.get("discount", self.discount)
        reward, discount = (None if x is None else x[rows, :horizon].clone() for x in heads)
        latent = torch.zeros(ROWS, AHEAD, FEATURES)[rows, :horizon]

        def decode(latent: Any) -> Mapping[str, Tensor]:
            return LazyMapping(frames, lambda key: frames[key][rows, :horizon].clone())

        return Prediction(latent, reward, discount, latent[:, -1], decode)

    def score(
        self, rows: slice = slice(None), now: dict[str, Tensor] | None = None, **changed: Any
    ) -> Tensor:
        """Return the scores [R]. Raise Broken unless they are one finite float for each row."""
        seen = {key: value[rows].clone() for key, value in (self.now if now is None else now).items()}
        future = self.future(rows, **changed)
        scores = self.objective(future, seen)
        expected = (len(future.latent),)
        if not isinstance(scores, Tensor) or tuple(scores.shape) != expected:
            raise Broken(
                f"of {expected[0]} futures the score is {shown(scores)}",
                f"return a float tensor {list(expected)}: a score for each future, summed over its steps",
            )
        if not scores.is_floating_point() or not scores.isfinite().all():
            raise Broken(f"the scores are {shown(scores)}, {scores.tolist()}", "return finite floats")
        return scores

    def sensitive(self, **changed: Any) -> bool:
        """Return whether scores depend on the replaced parts."""
        return not torch.equal(self.score(**changed), self.score())

    @property
    def at_the_goal(self) -> dict[str, Tensor]:
        """Frames {key: [R, H, ...]} that show the goal in every step."""
        return {
            key: self.now[GOAL_PREFIX + key].float().unsqueeze(1).expand_as(frames)
            for key, frames in self.frames.items()
            if GOAL_PREFIX + key in self.now
        }

    @property
    def other_goals(self) -> dict[str, Tensor]:
        """The current observation with the goals of the next row."""
        return {key: x.roll(1, 0) if key.startswith(GOAL_PREFIX) else x for key, x in self.now.items()}


# ---- the properties ------------------------------------------------------------------------------


def a_score_for_each_future(trial: Judged) -> None:
    """Check that scores are finite floats [R], for any horizon, and in bfloat16, in which planners
    predict."""
    trial.score()
    trial.score(horizon=1)
    trial.score(rows=slice(0, 2))
    half = {key: value.bfloat16() for key, value in trial.frames.items()}
    trial.score(frames=half, reward=trial.reward.bfloat16(), discount=trial.discount.bfloat16())


def predictions_matter(trial: Judged) -> None:
    """Check that other predictions have other scores, because a planner would search in vain."""
    other = {key: value.flip(0) for key, value in trial.frames.items()}
    if not trial.sensitive(frames=other, reward=trial.reward.flip(0), discount=trial.discount.flip(0)):
        raise Broken(
            "futures with other rewards, observations and ends all have the same scores",
            "score what is predicted (prediction.reward, prediction.observation), not what is seen now",
        )


def batch_invariance(trial: Judged) -> None:
    """Check that a future's score depends only on that future and the goal of its row."""
    together = trial.score()
    for row in range(ROWS):
        only = slice(row, row + 1)
        alone = trial.score(rows=only)
        _same(
            alone,
            together[only],
            f"future {row} alone is worth {float(alone):.4g}, among {ROWS} it is {float(together[row]):.4g}",
            "let no operation mix the rows (statistics over dim 0), and compare row r with the goal of row r",
        )


def better_is_higher(trial: Judged) -> None:
    """Check that a higher reward does not lower the score, and that the goal has the best score."""
    usual = trial.score()
    for step in range(AHEAD):
        more = trial.reward.clone()
        more[:, step] += 1
        lower = trial.score(reward=more) < usual - TOLERANCE
        if lower.any():
            row = int(lower.nonzero()[0])
            raise Broken(
                f"a reward that is higher by 1 in step {step} lowers the score of row {row}",
                "higher scores are better: return the sum of rewards, or minus a cost",
            )
    if not trial.at_the_goal or not trial.sensitive(now=trial.other_goals):
        return
    lower = trial.score(frames=trial.at_the_goal) < usual - TOLERANCE
    if lower.any():
        raise Broken(
            f"row {int(lower.nonzero()[0])} scores lower where it is at its goal in all steps than elsewhere",
            "higher scores are better: return minus the distance",
        )


def what_comes_after_the_end(trial: Judged) -> None:
    """Check that an ending step is rewarded and later steps are not, if discounts have an effect."""
    if not trial.sensitive(discount=trial.discount.flip(0)):
        raise NotTried("it does not look at predicted ends")
    for step in range(AHEAD - 1):
        ends = trial.discount.clone()
        ends[:, step] = 0
        usual = trial.score(discount=ends)
        later, now = trial.reward.clone(), trial.reward.clone()
        later[:, step + 1 :] += 10
        now[:, step] += 10
        advice = (
            "weight reward[h] by the product of discount[: h]; discount[h] is the chance to go on after h"
        )
        _same(
            trial.score(discount=ends, reward=later),
            usual,
            f"where the episode ends in step {step}, rewards of later steps change the score",
            advice,
        )
        if trial.sensitive(reward=now) and torch.equal(trial.score(discount=ends, reward=now), usual):
            raise Broken(f"where the episode ends in step {step}, that step's own reward is lost", advice)


def models_without_a_head(trial: Judged) -> None:
    """Check that a model without rewards or discounts is scored, or refused in one line."""
    for name in ("reward", "discount"):
        try:
            trial.score(**dict[str, Any]({name: None}))
        except WmplayError:
            continue
        except Broken:
            raise
        except Exception as error:
            raise Broken(
                f"where a model predicts no {name}, it raises {type(error).__name__}: {error}",
                f"do without (prediction.{name} is None), or raise wmplay.errors.ConfigError",
            ) from error


def gradients_go_through(trial: Judged) -> None:
    """Check that gradients match differences of the score, because planners may follow them."""
    usual = {
        "reward": trial.reward.double(),
        "discount": trial.discount.double(),
        **{key: value.double() for key, value in trial.frames.items()},
    }
    smooth = 0
    for name, values in usual.items():

        def score(x: Tensor, name: str = name) -> Tensor:
            given = {**usual, name: x}
            reward, discount = given.pop("reward"), given.pop("discount")
            return trial.score(frames=given, reward=reward, discount=discount).sum()

        up, here, down = (float(score(values + sign * NUDGE)) for sign in (1, 0, -1))
        slope, bend = (up - down) / (2 * NUDGE), abs(up - 2 * here + down) / NUDGE
        if abs(slope) < 1e-3 or bend > 0.1 * abs(slope):
            continue
        smooth += 1
        leaf = values.clone().requires_grad_()
        scores = score(leaf)
        (gradient,) = (
            torch.autograd.grad(scores, leaf, allow_unused=True) if scores.requires_grad else (None,)
        )
        got = 0.0 if gradient is None else float(gradient.sum())
        if abs(got - slope) > 0.1 * abs(slope):
            raise Broken(
                f"raising the predicted '{name}' changes the scores by {slope:.3g} per unit, their gradient "
                f"says {got:.3g}",
                "stay with tensors: no detach(), item(), numpy() or no_grad()",
            )
    if not smooth:
        raise NotTried("no score follows a prediction smoothly")


def isolation(trial: Judged) -> None:
    """Check that arguments are not changed, and that calls do not affect each other."""
    usual = trial.score()
    future, seen = trial.future(), {key: x.clone() for key, x in trial.now.items()}
    kept = {name: x.clone() for name, x in _parts(trial.now, future).items()}
    trial.objective(future, seen)
    after = _parts(seen, future)
    same = {name for name in kept if name in after and torch.equal(after[name], kept[name])}
    changed = [name for name in {**kept, **after} if name not in same]
    if changed:
        raise Broken(
            f"it changes the {changed[0]} that it is given", "work on new tensors: no `*=`, no `out=`"
        )
    trial.score(reward=trial.reward * 100, rows=slice(0, 2))
    advice = "keep nothing between calls: a planner compares the scores of many"
    _same(trial.score(), usual, "the same futures have other scores after other calls", advice, 0)


def same_numbers_again(trial: Judged) -> None:
    """Check that nothing is drawn, so that the same question has the same score."""
    advice = "draw nothing: break ties by order"
    with global_generators_at_rest("it", advice):
        one, two = trial.score(), trial.score()
    _same(one, two, "scored twice, a future has two scores", advice, 0)


PROPERTIES: tuple[Property[Judged], ...] = (
    Property(a_score_for_each_future),
    Property(predictions_matter),
    Property(batch_invariance),
    Property(better_is_higher),
    Property(what_comes_after_the_end),
    Property(models_without_a_head),
    Property(gradients_go_through),
    Property(isolation),
    Property(same_numbers_again),
)


# ---- helpers ------------------------------------------------------------------------------------


def _parts(observation: Mapping[str, Tensor], future: Prediction) -> dict[str, Tensor]:
    heads = {"reward": future.reward, "discount": future.discount, "latent": future.latent}
    named = {f"predicted {name}": x for name, x in {**heads, **future.observation}.items()}
    every: dict[str, Any] = {**named, **{f"observation '{key}'": x for key, x in observation.items()}}
    return every


def _same(got: Tensor, expected: Tensor, problem: str, advice: str, tolerance: float = TOLERANCE) -> None:
    if not torch.allclose(got, expected, rtol=tolerance, atol=tolerance):
        raise Broken(problem, advice)
