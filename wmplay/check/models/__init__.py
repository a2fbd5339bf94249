"""Properties of world models, one function each.

A copy of the model is checked after a short fit: with its first weights a model may still ignore its inputs,
and a leak would not show.
"""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from wmplay.check.compare import TOLERANCE, same, shown
from wmplay.check.fixtures.fitted_model import (
    AHEAD,
    FEWER,
    ROWS,
    SEEN,
    STEPS,
    UPDATES,
    Trial,
    fitted_stages,
    numbers,
)
from wmplay.check.models.agreement import (
    observe_agrees_with_the_loss,
    predict_agrees_with_the_loss,
    predict_remembers_as_observe_does,
)
from wmplay.check.models.copies import copies_are_equal_and_apart, save_and_load
from wmplay.check.models.devices import compiles_as_claimed, cpu_and_cuda_agree, follows_its_device
from wmplay.check.models.draws import (
    draws_are_independent,
    draws_are_lived,
    same_seed_same_numbers,
    temperature_is_heeded,
)
from wmplay.check.models.losses import (
    every_step_counts,
    every_weight_is_trained,
    padding_counts_for_nothing,
    rows_are_apart_in_the_loss,
    the_loss_is_a_finite_scalar,
    the_loss_looks_no_step_ahead,
    the_loss_sees_no_future,
    the_loss_takes_any_segment,
)
from wmplay.check.models.offers import (
    features_are_those_of_the_last_step,
    features_hold_what_is_remembered,
    proposals_are_actions,
    slow_copies_follow,
    slow_copies_wait_for_after_update,
    track_is_observe_at_every_frame,
    values_belong_to_their_rows,
)
from wmplay.check.models.reach import gradients_go_through, long_episodes
from wmplay.check.models.time_rule import (
    actions_matter,
    each_head_tells_what_the_loss_knows,
    no_peeking,
    predictions_are_on_time,
)
from wmplay.check.models.values import values_are_expected_returns
from wmplay.check.models.widths import draws_spread_as_fitted
from wmplay.check.report import Broken, NotTried, Property, Report, examine
from wmplay.config.kinds import KINDS
from wmplay.contracts import Prediction, WorldModel, capabilities, missing_methods, model_keys

NEARER = 0.8  # of the error before the fit


def check_model(
    model: Any, env: gymnasium.Env[Any, Any], *, seed: int = 0, verbose: bool = False, quick: bool = False
) -> Report:
    """Check all properties of a world model.

    Args:
        model: on the CPU; it is copied, and not changed.
        env: a single env, with the observations and actions that the model is made for; the model is fitted
            on a few short random episodes of it.
        seed: of all random draws. The caller's random state is not changed.
        verbose: whether to print each finding at once, and the progress of the fit.
        quick: whether to leave out slow properties.

    Raises:
        SpaceError: if the env's episodes are too short.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return examine(
            type(model).__name__,
            PROPERTIES,
            Trial(model, env, seed, verbose, FEWER if quick else UPDATES),
            verbose,
            quick,
        )


# ---- the properties ------------------------------------------------------------------------------


@torch.no_grad()
def shapes_and_types(trial: Trial) -> None:
    """Check that predictions have the contract's shapes and are finite, and beliefs are tensors, batch
    first."""
    model = trial.model
    if not isinstance(model, WorldModel) or not isinstance(model, torch.nn.Module):
        missing = missing_methods(model, KINDS["model"].methods)
        raise Broken(
            f"it has no {', '.join(missing)}" if missing else "it is no nn.Module",
            "see WorldModel in wmplay/contracts",
        )
    belief = trial.believe(model)
    for leaf in tree_leaves(belief):
        if not isinstance(leaf, Tensor) or leaf.shape[:1] != (ROWS,):
            raise Broken(
                f"the belief after {ROWS} rows holds {shown(leaf)}",
                f"keep only tensors with the batch first ([{ROWS}, ...]) in it",
            )
    future = model.predict(belief, trial.future)
    if not isinstance(future, Prediction):
        raise Broken(f"predict returned a {type(future).__name__}", "return a wmplay.Prediction")
    for name, value in (("reward", future.reward), ("discount", future.discount)):
        if value is not None:
            _expect(name, value, (ROWS, AHEAD))
    if future.discount is not None and not ((future.discount >= 0) & (future.discount <= 1)).all():
        raise Broken("a discount is not within 0 and 1", "it is the probability that the episode goes on")
    for leaf in tree_leaves(future.latent):
        if leaf.shape[:2] != (ROWS, AHEAD):
            raise Broken(f"the latent holds {shown(leaf)}", f"begin its shape with [B, H], [{ROWS}, {AHEAD}]")
    predicted = capabilities(model).predicted
    expected = model_keys(trial.spaces) if predicted is None else list(predicted)
    if sorted(future.observation) != sorted(expected):
        raise Broken(
            f"it predicts {', '.join(future.observation) or 'no observation'}",
            f"decode {', '.join(expected)}",
        )
    for key in expected:
        _expect(f"the predicted '{key}'", future.observation[key], (ROWS, AHEAD, *trial.spaces[key].shape))


def overfits_one_batch(trial: Trial) -> None:
    """Check that a short fit on one batch lowers the loss of each stage."""
    fitted_stages(trial.model)
    if (stuck := trial.stuck) is None:
        return
    if trial.errors is not None and trial.errors[1] < NEARER * trial.errors[0]:
        raise NotTried("its loss does not fall, but its predictions come nearer: its weights change")
    raise Broken(*stuck)


def predictions_come_nearer(trial: Trial) -> None:
    """Check that a short fit on one batch lowers the error of predictions of it, and that it goes on."""
    if trial.updates < UPDATES:
        raise NotTried(f"{trial.updates} updates are too few to tell")
    if trial.errors is not None and not trial.errors[1] < NEARER * trial.errors[0]:
        before, after = trial.errors
        raise Broken(
            f"{trial.updates} updates on one batch lower the loss, but the error of predictions of it went "
            f"from {before:.3g} to {after:.3g} of the batch's variance",
            "see whether the loss and predict mean the same: its sign, the time rule, units, masks",
        )
    with torch.no_grad():
        discount = trial.model.predict(trial.believe(trial.model), trial.future).discount
    if trial.losses and discount is not None and bool(discount.mean() < 0.5):
        raise Broken(
            f"fitted to steps that end no episode, it predicts a discount of {float(discount.mean()):.2g}",
            "the discount is the probability that the episode goes on, not that it ends",
        )


def batch_invariance(trial: Trial) -> None:
    """Check that the prediction of a row depends on that row alone."""
    together = trial.outcome(trial.model)
    for row in range(ROWS):
        only = slice(row, row + 1)
        alone = trial.outcome(trial.model, trial.believe(trial.model, only), trial.future[only])
        same(
            alone,
            together[only],
            f"row {row} alone is predicted differently than among {ROWS} rows",
            "let no operation mix the rows: statistics over dim 0, view() that swaps axes, BatchNorm in eval",
        )


def observations_matter(trial: Trial) -> None:
    """Check that observations change predictions."""
    start = trial.frames(0, 1)
    now = {key: value[:, 0] for key, value in start.items()}
    other = {key: value.roll(1, 0) for key, value in now.items()}
    one, two = (trial.outcome(trial.model, trial.model.initial(first)) for first in (now, other))
    if torch.equal(one, two):
        raise Broken(
            "another first frame leaves all predictions after it as they were", "take it in in initial"
        )
    ignorant = trial.model.initial(now)
    if bool((trial.outcome(trial.model, ignorant) - trial.outcome(trial.model)).abs().max() <= TOLERANCE):
        raise Broken(
            f"predictions after {SEEN} more steps are those from the first frame",
            "take in what observe is given",
        )
    later, action = trial.frames(1, SEEN + 1), trial.segment.action[:, :SEEN]
    usual = trial.outcome(trial.model, trial.model.observe(ignorant, action, later))
    for key, value in now.items():
        at_first = trial.outcome(trial.model, trial.model.initial({**now, key: other[key]}))
        unseen = torch.equal(at_first, one) and not torch.equal(value, other[key])
        seen = trial.model.observe(ignorant, action, {**later, key: later[key].roll(1, 0)})
        if unseen and not torch.equal(trial.outcome(trial.model, seen), usual):
            raise Broken(
                f"'{key}' counts in later frames, but not in the first one", "take it in in initial, too"
            )


@torch.no_grad()
def seeing_in_parts(trial: Trial) -> None:
    """Check that observing step by step equals observing at once, and that predictions can be continued."""
    model = trial.model
    stepwise = model.initial({key: value[:, 0] for key, value in trial.frames(0, 1).items()})
    for t in range(SEEN):
        stepwise = model.observe(stepwise, trial.segment.action[:, t : t + 1], trial.frames(t + 1, t + 2))
    usual = trial.outcome(model)
    same(
        trial.outcome(model, stepwise),
        usual,
        f"{SEEN} calls of observe with one step each leave another belief than one call with all",
        "let the belief hold all that the next step needs, and step t see nothing after it",
    )
    half = model.predict(trial.believe(model), trial.future[:, :2])
    parts = half, model.predict(half.belief, trial.future[:, 2:])
    whole = model.predict(trial.believe(model), trial.future)
    how = f"predicting 2 steps and {AHEAD - 2} from Prediction.belief"
    latents = [tree_leaves(each.latent) for each in (*parts, whole)]
    same_latents = all(
        torch.allclose(torch.cat([one, two], 1), both) for one, two, both in zip(*latents, strict=True)
    )
    for name in ("reward", "discount") if same_latents else ():
        if getattr(whole, name) is not None:
            same(
                torch.cat([getattr(each, name) for each in parts], 1).unsqueeze(-1),
                getattr(whole, name).unsqueeze(-1),
                f"{how} gives the same latents as {AHEAD} at once, but another {name}",
                "predict each step's own reward and its own probability to go on, not sums or products",
            )
    same(
        torch.cat([numbers(each) for each in parts], 1),
        usual,
        f"{how} is another future than {AHEAD} at once",
        "return the belief after the last predicted step",
    )


@torch.no_grad()
def isolation(trial: Trial) -> None:
    """Check that calls change neither the given belief nor the module."""
    model = trial.model
    belief = trial.believe(model)
    kept, weights, given = tree_map(torch.clone, belief), _state(model), copy.deepcopy(vars(trial.segment))
    usual = trial.outcome(model, belief)
    _unchanged(kept, belief, "predict changes the belief that it is given")
    following = trial.segment.action[:, SEEN:]
    model.observe(belief, following, trial.frames(SEEN + 1, STEPS + 1))
    _unchanged(kept, belief, "observe changes the belief that it is given")
    trial.outcome(model, trial.believe(model, slice(0, 1)), trial.other(trial.future[:1]))
    fresh = "keep nothing in the module between calls: what is remembered belongs into the belief"
    same(trial.outcome(model, kept), usual, "predict answers differently after other calls", fresh)
    same(trial.outcome(model), usual, "observe answers differently after other calls", fresh)
    _unchanged(weights, _state(model), "initial, observe or predict changed a parameter or buffer")
    _unchanged(
        given, vars(trial.segment), "observe or predict writes into the frames or actions that it is given"
    )
    training = copy.deepcopy(model).train()
    modes = [module.training for module in training.modules()]
    trial.outcome(training)
    if [module.training for module in training.modules()] != modes:
        raise Broken("observe or predict calls train() or eval()", "leave the mode to the caller")


OFFERS: tuple[Property[Trial], ...] = (
    Property(features_are_those_of_the_last_step),
    Property(features_hold_what_is_remembered, after=(features_are_those_of_the_last_step,)),
    Property(track_is_observe_at_every_frame, after=(features_are_those_of_the_last_step, seeing_in_parts)),
    Property(slow_copies_wait_for_after_update),
    Property(slow_copies_follow, after=(slow_copies_wait_for_after_update,)),
    Property(values_belong_to_their_rows),
    Property(values_are_expected_returns, after=(values_belong_to_their_rows,), slow=True),
    Property(proposals_are_actions),
)
LEARNS = (overfits_one_batch, actions_matter, observations_matter)

PROPERTIES: tuple[Property[Trial], ...] = (
    Property(shapes_and_types, decisive=True),
    Property(the_loss_is_a_finite_scalar, decisive=True),
    Property(same_seed_same_numbers, decisive=True),
    Property(isolation, decisive=True),
    Property(batch_invariance, decisive=True),
    Property(the_loss_takes_any_segment, decisive=True),
    Property(overfits_one_batch),
    Property(every_weight_is_trained),
    Property(rows_are_apart_in_the_loss, decisive=True),
    Property(padding_counts_for_nothing),
    Property(the_loss_sees_no_future, after=(padding_counts_for_nothing,)),
    Property(no_peeking),
    Property(actions_matter),
    Property(observations_matter),
    Property(
        predictions_are_on_time,
        slow=True,
        after=(every_weight_is_trained, padding_counts_for_nothing, the_loss_sees_no_future, *LEARNS),
    ),
    Property(
        the_loss_looks_no_step_ahead,
        after=(padding_counts_for_nothing, the_loss_sees_no_future, predictions_are_on_time),
    ),
    Property(every_step_counts, after=(predictions_are_on_time, the_loss_looks_no_step_ahead)),
    Property(observe_agrees_with_the_loss, after=(*LEARNS, predictions_are_on_time)),
    Property(predict_agrees_with_the_loss, after=(*LEARNS, predictions_are_on_time)),
    Property(seeing_in_parts, after=(no_peeking, predictions_are_on_time, observe_agrees_with_the_loss)),
    Property(
        predict_remembers_as_observe_does,
        after=(
            no_peeking,
            *LEARNS,
            predictions_are_on_time,
            observe_agrees_with_the_loss,
            predict_agrees_with_the_loss,
            seeing_in_parts,
        ),
    ),
    Property(
        each_head_tells_what_the_loss_knows,
        slow=True,
        after=(every_weight_is_trained, *LEARNS, predictions_are_on_time, predict_agrees_with_the_loss),
    ),
    Property(
        predictions_come_nearer,
        after=(*LEARNS, predictions_are_on_time, each_head_tells_what_the_loss_knows),
    ),
    Property(draws_are_lived, after=(seeing_in_parts,)),
    Property(draws_are_independent, after=(seeing_in_parts, draws_are_lived)),
    Property(temperature_is_heeded, after=(draws_are_independent,)),
    Property(
        draws_spread_as_fitted,
        slow=True,
        after=(predictions_are_on_time, each_head_tells_what_the_loss_knows, draws_are_independent),
    ),
    Property(
        long_episodes,
        after=(*LEARNS, predictions_are_on_time, observe_agrees_with_the_loss, seeing_in_parts),
    ),
    Property(gradients_go_through, after=(every_weight_is_trained,)),
    *OFFERS,
    Property(save_and_load),
    Property(copies_are_equal_and_apart),
    Property(follows_its_device, slow=True),  # torch imports its compiler for the meta device
    Property(cpu_and_cuda_agree),
    Property(compiles_as_claimed, slow=True),
)


# ---- helpers ------------------------------------------------------------------------------------


def _state(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in [*model.named_parameters(), *model.named_buffers()]}


def _unchanged(before: Any, after: Any, problem: str) -> None:
    if not all(torch.equal(x, y) for x, y in zip(tree_leaves(before), tree_leaves(after), strict=True)):
        raise Broken(problem, "return a new belief, and change no tensor in place")


def _expect(name: str, value: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(value, Tensor) or tuple(value.shape) != shape or not value.is_floating_point():
        raise Broken(f"{name} is {shown(value)}", f"return a float tensor {list(shape)}")
    if not value.isfinite().all():
        raise Broken(f"{name} is not finite", "look for a log or a division of 0 at untrained weights")
