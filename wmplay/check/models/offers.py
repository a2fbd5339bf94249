"""Properties of what a world model may offer besides: features, values, proposals, slow copies."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from wmplay.check.compare import TOLERANCE, same, shown
from wmplay.check.fixtures.fitted_model import ROWS, SEEN, STEPS, Trial, fitted_stages
from wmplay.check.report import Broken, NotTried
from wmplay.contracts import GOAL_PREFIX, Belief, Prediction, Valued, capabilities
from wmplay.system.device import seed_draws

DRAWS = 11
KEPT = 3  # last frames
PATIENCE = 1000  # calls of after_update, until a slow copy moves that is copied from time to time
ROUNDING = 1e-7


def features_are_those_of_the_last_step(trial: Trial) -> None:
    """Check that features are [B, F], let gradients pass, and after predict are those of its last step."""
    features = capabilities(trial.model).features
    if features is None:
        raise NotTried("it has no features(belief) and track(segment)")
    future: Prediction = trial.model.predict(trial.believe(trial.model), trial.future)
    found = features(future.belief)
    if found.ndim != 2 or len(found) != ROWS or not found.is_floating_point():
        raise Broken(f"the features are {shown(found)}", f"return floats [B, F], [{ROWS}, F]")
    latent = torch.cat([leaf[:, -1].flatten(1) for leaf in tree_leaves(future.latent)], 1)
    advice = "return the last predicted latent: an actor imagines with what predict returns"
    if latent.shape == found.shape:
        same(
            found.unsqueeze(1), latent.unsqueeze(1), "features after predict are not its last latent", advice
        )
    other = trial.future.clone()
    other[:, -1] = trial.other(other[:, -1])
    if torch.equal(features(trial.model.predict(trial.believe(trial.model), other).belief), found):
        raise Broken("another action in the last predicted step leaves the features as they were", advice)
    if not found.requires_grad and _has_gradient(future):
        raise Broken(
            "features have no gradient, latents have one", "compute them without no_grad or detach()"
        )


@torch.no_grad()
def features_hold_what_is_remembered(trial: Trial) -> None:
    """Check that after other pasts, and the same last frames, features differ where predictions do."""
    features = capabilities(trial.model).features
    if features is None:
        raise NotTried("it has no features(belief) and track(segment)")
    segment = trial.segment
    belief = trial.believe(trial.model)
    known, told = features(belief), trial.outcome(trial.model, belief)
    for kept in range(1, KEPT + 1):
        past = slice(SEEN + 1 - kept)
        action, frames = segment.action.clone(), dict(segment.observation)
        action[:, past] = action[:, past].roll(1, 0)
        for key, value in frames.items():
            if not key.startswith(GOAL_PREFIX):
                frames[key] = torch.cat([value[:, past].roll(1, 0), value[:, SEEN + 1 - kept :]], 1)
        elsewhere = copy.copy(trial)
        elsewhere.segment = replace(segment, action=action, observation=frames)
        other = elsewhere.believe(trial.model)
        moved = (trial.outcome(trial.model, other) - told).abs().amax((1, 2))  # [B]
        alike = (features(other) - known).abs().amax(1) <= ROUNDING * known.abs().amax()
        if bool((alike & (moved > TOLERANCE * (1 + told.abs().amax()))).any()):
            raise Broken(
                f"after another past, with the same last {kept} frames, another future is predicted, but "
                "features are the same",
                "give all that the future depends on, the memory too: an actor has none of its own",
            )


def track_is_observe_at_every_frame(trial: Trial) -> None:
    """Check that row b * (T + 1) + t of ``track`` is the belief after frames 0 to t of row b."""
    offered = capabilities(trial.model)
    if offered.track is None or offered.features is None:
        raise NotTried("it has no features(belief) and track(segment)")
    with torch.no_grad():
        tracked = offered.track(trial.segment)
        rows = {len(leaf) for leaf in tree_leaves(tracked)}
        if rows != {ROWS * (STEPS + 1)}:
            raise Broken(f"track gives a belief of {rows} rows", f"give B * (T + 1), {ROWS * (STEPS + 1)}")
        usual = trial.outcome(trial.model)
        for step in (SEEN, 0, STEPS):
            row = torch.arange(ROWS) * (STEPS + 1) + step
            got = offered.features(_taken(tracked, row)).unsqueeze(1)
            wanted = offered.features(_seen(trial, step)).unsqueeze(1)
            problem = f"frame {step} by track has other features than after observe"
            advice = "row b * (T + 1) + t is the belief after frames 0 to t, by the actions between them"
            same(got, wanted, problem, advice)
            if step == SEEN:
                beliefs = _taken(tracked, row)
                same(trial.outcome(trial.model, beliefs), usual, "predictions from track are others", advice)


def slow_copies_wait_for_after_update(trial: Trial) -> None:
    """Check that the loss moves nothing, and that calling ``after_update`` again changes no prediction."""
    if capabilities(trial.model).after_update is None:
        raise NotTried("it has no after_update(progress)")
    model = copy.deepcopy(trial.model).train()
    before = _slow(model)
    for stage in fitted_stages(model):
        seed_draws(trial.seed)
        stage.loss(trial.segment)
    moved = [name for name, value in _slow(model).items() if not torch.equal(value, before[name])]
    if moved:
        raise Broken(
            f"the loss moves '{moved[0]}'", "move slow copies, scales and ramps in after_update alone"
        )
    model.eval()
    update = capabilities(model).after_update
    assert update is not None
    with torch.no_grad():
        update(1.0)  # it may move what the loss has noted, once
        usual = trial.outcome(model)
        for _ in range(2):
            update(1.0)
    problem = "further calls of after_update(1.0) without an update between them change predictions"
    same(trial.outcome(model), usual, problem, "predict with the weights that are fitted, not a slow copy")


@torch.no_grad()
def slow_copies_follow(trial: Trial) -> None:
    """Check that a frozen copy of a weight that is trained moves, in the fit or in ``after_update``."""
    begun = {name: x for name, x in trial.given.state_dict().items() if bool((x != x.flatten()[:1]).any())}
    trained = {name for name, p in trial.given.named_parameters() if p.requires_grad} & begun.keys()
    copies = {
        name: [each for each in trained if torch.equal(begun[each], value)]
        for name, value in begun.items()
        if name not in trained
    }
    if not any(copies.values()):
        raise NotTried("it has no frozen copy of a weight that is trained")
    model = copy.deepcopy(trial.model).train()
    update, calls = capabilities(model).after_update, 0

    def still() -> list[str]:
        now = model.state_dict()
        return [
            name
            for name, those in copies.items()
            if any(not torch.equal(now[each], begun[each]) for each in those)
            and torch.equal(now[name], begun[name])
        ]

    while still() and update is not None and calls < PATIENCE:
        update(1.0)
        calls += 1
    if left := still():
        raise Broken(
            f"'{left[0]}' begins as a copy of '{copies[left[0]][0]}', and never follows it",
            "let it follow in after_update: slow.lerp_(quick, rate)",
        )


def values_belong_to_their_rows(trial: Trial) -> None:
    """Check that values are [B], finite, and go with their rows."""
    model = _valued(trial)
    with torch.no_grad():
        belief = trial.believe(model)
        value = model.value(belief)
        if tuple(value.shape) != (ROWS,) or not value.is_floating_point() or not value.isfinite().all():
            raise Broken(f"the values of {ROWS} rows are {shown(value)}", f"return finite floats [{ROWS}]")
        order = torch.arange(ROWS).roll(2)
        advice = "let no operation mix the rows: a scale or a mean over the batch, a view() that swaps axes"
        got = model.value(_taken(belief, order))
        same(_wide(got), _wide(value[order]), "values of rows in another order are others", advice)
        alone = torch.cat([model.value(_taken(belief, torch.tensor([row]))) for row in range(ROWS)])
        same(_wide(alone), _wide(value), "a row alone has another value than among others", advice)
    if not 0 < model.gamma <= 1:
        raise Broken(f"gamma is {model.gamma}", "it is the discount per step, in (0, 1]")


def proposals_are_actions(trial: Trial) -> None:
    """Check that proposed actions are of the space, row by row, and drawn from the given generator."""
    model, space = _valued(trial), trial.action_space
    discrete = isinstance(space, Discrete)
    with torch.no_grad():
        belief = trial.believe(model)
        proposed = model.policy(belief)
        draws = [proposed.sample(torch.Generator().manual_seed(seed)) for seed in (*range(DRAWS), 0)]
        shape = tuple(trial.segment.action[:, 0].shape)
        for name, action in (("mode", proposed.mode()), *(("sample", draw) for draw in draws)):
            if tuple(action.shape) != shape or (action.dtype == torch.int64) != discrete:
                raise Broken(f"the {name} of proposals is {shown(action)}", f"return actions {list(shape)}")
            _expect_inside(name, action, space)
        if not torch.equal(draws[0], draws[-1]):
            raise Broken("the same generator draws two proposals", "draw with the generator that is given")
        likely, spread = proposed.log_prob(draws[0]), proposed.entropy()
        for name, number in (("log_prob", likely), ("entropy", spread)):
            if tuple(number.shape) != (ROWS,) or not number.isfinite().all():
                raise Broken(f"{name} of proposals is {shown(number)}", f"return finite floats [{ROWS}]")
        order = torch.arange(ROWS).roll(2)
        same(
            _wide(model.policy(_taken(belief, order)).mode().float()),
            _wide(proposed.mode()[order].float()),
            "proposals of rows in another order are others",
            "let no operation mix the rows",
        )


# ---- helpers ------------------------------------------------------------------------------------


def _valued(trial: Trial) -> Any:
    if not isinstance(trial.model, Valued):
        raise NotTried("it has no value(belief), policy(belief) and gamma")
    return trial.model


def _has_gradient(future: Prediction) -> bool:
    return any(leaf.requires_grad for leaf in tree_leaves(future.latent))


def _seen(trial: Trial, step: int) -> Belief:
    """Return the belief after ``step`` steps."""
    first, later = trial.frames(0, 1), trial.frames(1, step + 1)
    belief = trial.model.initial({key: value[:, 0] for key, value in first.items()})
    return trial.model.observe(belief, trial.segment.action[:, :step], later) if step else belief


def _taken(belief: Belief, rows: Tensor) -> Belief:
    return tree_map(lambda leaf: leaf[rows], belief)


def _wide(value: Tensor) -> Tensor:
    return value.reshape(len(value), 1, -1)


def _slow(model: torch.nn.Module) -> dict[str, Tensor]:
    """Return copies of all that no optimiser moves, but the statistics of normalisation layers."""
    norms = torch.nn.modules.batchnorm._NormBase
    counted = {id(b) for part in model.modules() if isinstance(part, norms) for b in part.buffers()}
    fixed = [*model.named_buffers(), *model.named_parameters()]
    return {name: value.detach().clone() for name, value in fixed if id(value) not in counted}


def _expect_inside(name: str, action: Tensor, space: Any) -> None:
    if isinstance(space, Discrete):
        low, high = float(space.start), float(space.start + space.n - 1)
        inside = bool(((action >= low) & (action <= high)).all())
    else:
        bounds = (torch.from_numpy(np.asarray(bound)) for bound in (space.low, space.high))
        low_, high_ = bounds
        inside = bool(((action >= low_ - 1e-5) & (action <= high_ + 1e-5)).all())
    if not inside:
        raise Broken(
            f"the {name} of proposals is out of the action space", "squash or clamp it into the space"
        )
