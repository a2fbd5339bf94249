"""Properties of objectives, one function each.

An objective scores predictions made of recorded episodes, of which the better ones are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from wmplay.check.compare import TOLERANCE, global_generators_at_rest
from wmplay.check.fixtures.fitted_model import AHEAD, ROWS
from wmplay.check.objectives.judged import LONG, Judged
from wmplay.check.report import Broken, NotTried, Property, Report, examine
from wmplay.config.constructors import label
from wmplay.contracts import Prediction

NUDGE = 1e-2  # step of a difference quotient, in float64


def check_objective(
    objective: Any,
    env: gymnasium.Env[Any, Any],
    *,
    model: Any = None,
    seed: int = 0,
    verbose: bool = False,
    quick: bool = False,
) -> Report:
    """Check all properties of an objective.

    Args:
        objective: used as it is.
        env: a single env with the task (the goals in its observations) that the objective is for.
        model: the world model whose latents it scores, fitted or not; if it is not given, one that the
            objective has as an attribute. Without any, latents are zeros.
        seed: of all random draws. The caller's random state is not changed.
        verbose: whether to print each finding at once.
        quick: whether to leave out slow properties.

    Raises:
        SpaceError: if the env's episodes are too short.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return examine(
            label(objective).rpartition(".")[2],
            PROPERTIES,
            Judged(objective, env, seed, model),
            verbose,
            quick,
        )


# ---- the properties ------------------------------------------------------------------------------


def a_score_for_each_future(trial: Judged) -> None:
    """Check that scores are finite floats [R], for any horizon, and in bfloat16, in which planners
    predict."""
    trial.score()
    trial.score(horizon=1)
    trial.score(rows=slice(0, 2))
    half = {key: value.bfloat16() for key, value in trial.frames.items()}
    trial.score(frames=half, reward=trial.reward.bfloat16(), discount=trial.discount.bfloat16())


def same_numbers_again(trial: Judged) -> None:
    """Check that nothing is drawn, so that the same question has the same score."""
    advice = "draw nothing: break ties by order"
    with global_generators_at_rest("it", advice):
        one, two = trial.score(), trial.score()
    _same(one, two, "scored twice, a future has two scores", advice, 0)


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
    used, unused = (trial.score(now=trial.other_goals, objective=each) for each in (None, trial.unused))
    _same(used, unused, "after a first call the scores for other goals are others than at once", advice, 0)


def predictions_matter(trial: Judged) -> None:
    """Check that other predictions have other scores, because a planner would search in vain."""
    if not trial.discerns():
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
    best = trial.score(frames=trial.at_the_goal)
    for where, frames in trial.elsewhere:
        better = trial.score(frames=frames) > best + TOLERANCE
        if better.any():
            raise Broken(
                f"row {int(better.nonzero()[0])} scores lower at its goal in all steps than {where}",
                "higher scores are better: return minus the distance between each key and its own goal_<key>",
            )


def every_step_counts(trial: Judged) -> None:
    """Check that neither the first nor the last reward or observation is left out."""
    if trial.sensitive(latent=tree_map(lambda x: x.flip(0), trial.latent)):
        raise NotTried("what its latents are worth may stand for a step")
    for what, counts in (("reward", trial.weights != 0), ("observation", trial.observed)):
        for step, others in ((0, counts[:, 1:]), (LONG - 1, counts[:, :-1])):
            if others.all() and not counts[:, step].any():
                raise Broken(
                    f"the {what} of step {step} of {LONG} counts for nothing, all others do",
                    f"entry h of the predicted {what}s is what step h leads to: use all of them",
                )


def discounts_go_forward(trial: Judged) -> None:
    """Check that later rewards do not count more by a constant factor, and that the first counts most if they
    count less."""
    weights = trial.weights
    if not weights.any():
        raise NotTried("it does not look at rewards")
    if bool((weights <= 1e-9).any()):
        raise NotTried("it does not add up the rewards of all steps")
    advice = "discount what comes later: weight reward[:, h] by gamma ** h, h = 0 for the next step"
    factor = _constant_factor(weights)
    if factor is not None and factor > 1:
        raise Broken(
            f"the reward of each step counts {factor:.4g} times as much as that of the step before it", advice
        )
    for step in range(1, LONG):
        factor = _constant_factor(weights.roll(-step, 1))
        if factor is not None:
            raise Broken(
                f"the reward of step {step} counts most, each after it {factor:.4g} times as much as that of "
                "the step before, and then those of the first steps",
                f"{advice}; see which steps it puts together",
            )


def small_differences_count(trial: Judged) -> None:
    """Check that scores which grow with rewards are not cut to steps, in which small differences get lost,
    nor cut off where rewards are large."""
    reward = trial.reward.double()

    def score(more: float) -> Tensor:
        return trial.score(reward=reward + more).double()

    near, nearer = ((score(more) - score(-more)) / (2 * more) for more in (0.2, 0.1))
    bounds = [torch.equal(score(sign * 100.0), score(sign * 200.0)) for sign in (-1, 1)]
    if all(bounds) and ((near > 0) & torch.isclose(near, nearer, rtol=0.02)).any():
        raise Broken(
            "small rewards count in proportion, and rewards higher by 200 are worth as much as by 100",
            "do not clip rewards: plans that differ beyond the bound look equal",
        )
    slope, further = ((score(more) - score(-more)) / (2 * more) for more in (100.0, 200.0))
    if not (slope > 0).all() or not torch.allclose(slope, further, rtol=0.02):
        raise NotTried("its scores are not in proportion to rewards")
    lost = [score(place + NUDGE) == score(place) for place in (0.0, 0.17, 0.34, 0.51, 0.68)]
    if float(torch.stack(lost).double().mean()) > 0.7:
        raise Broken(
            f"rewards that are all higher by {NUDGE:g} mostly leave the score as it is, by 100 they add "
            f"{100 * float(slope[0]):.3g}",
            "do not round scores: plans that differ by less look equal",
        )


def what_comes_after_the_end(trial: Judged) -> None:
    """Check that an ending step is rewarded and later steps are not, if discounts have an effect."""
    ended = []
    for step in range(AHEAD):
        ended.append(trial.discount.clone())
        ended[-1][:, step] = 0
    if not any(trial.sensitive(discount=ends) for ends in ended):
        raise NotTried("it does not look at predicted ends")
    advice = "weight reward[h] by the product of discount[: h]; discount[h] is the chance to go on after h"
    for step, ends in enumerate(ended[:-1]):
        usual = trial.score(discount=ends)
        later, now = trial.reward.clone(), trial.reward.clone()
        later[:, step + 1 :] += 10
        now[:, step] += 10
        _same(
            trial.score(discount=ends, reward=later),
            usual,
            f"where the episode ends in step {step}, rewards of later steps change the score",
            advice,
        )
        if trial.sensitive(reward=now) and torch.equal(trial.score(discount=ends, reward=now), usual):
            raise Broken(f"where the episode ends in step {step}, that step's own reward is lost", advice)


def models_without_a_head(trial: Judged) -> None:
    """Check that futures without rewards or discounts are refused, or do not all have the same score."""
    for name in ("reward", "discount"):
        try:
            discerns = trial.discerns(**{name: None})
        except Broken:
            raise
        except Exception:  # loud enough
            continue
        if not discerns:
            raise Broken(
                f"where a model predicts no {name}, all futures have the same score",
                f"raise wmplay.errors.ConfigError where prediction.{name} is None",
            )


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


PROPERTIES: tuple[Property[Judged], ...] = (
    Property(a_score_for_each_future, decisive=True),
    Property(same_numbers_again, decisive=True),
    Property(isolation, decisive=True),
    Property(predictions_matter, decisive=True),
    Property(batch_invariance, decisive=True),
    Property(better_is_higher),
    Property(every_step_counts, after=(better_is_higher,)),
    Property(discounts_go_forward, after=(better_is_higher,)),
    Property(small_differences_count, after=(better_is_higher,)),
    Property(what_comes_after_the_end),
    Property(models_without_a_head),
    Property(gradients_go_through),
)


# ---- helpers ------------------------------------------------------------------------------------


def _constant_factor(weights: Tensor) -> float | None:
    """Return by how much weights [R, H] grow from each step to the next; None if they do not, or unevenly."""
    factors = weights[:, 1:] / weights[:, :-1]
    mean = float(factors.mean())
    even = bool((factors - mean).abs().max() < 0.2 * abs(mean - 1))
    return mean if even and abs(mean - 1) > 1e-4 else None


def _parts(observation: Mapping[str, Tensor], future: Prediction) -> dict[str, Tensor]:
    latent = {f"latent {number}": x for number, x in enumerate(tree_leaves(future.latent))}
    heads = {"reward": future.reward, "discount": future.discount, **latent}
    named = {f"predicted {name}": x for name, x in {**heads, **future.observation}.items()}
    every: dict[str, Any] = {**named, **{f"observation '{key}'": x for key, x in observation.items()}}
    return every


def _same(got: Tensor, expected: Tensor, problem: str, advice: str, tolerance: float = TOLERANCE) -> None:
    if not torch.allclose(got, expected, rtol=tolerance, atol=tolerance):
        raise Broken(problem, advice)
