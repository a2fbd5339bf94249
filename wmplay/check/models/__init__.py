"""Properties of world models, one function each.

A copy of the model is checked after a short fit: with its first weights a model may still ignore its inputs,
and a leak would not show.
"""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from wmplay.check.compare import TOLERANCE, blank, listed, same, shown
from wmplay.check.fixtures.fitted_model import (
    AHEAD,
    ROWS,
    SEEN,
    STEPS,
    Trial,
    loss_value,
    numbers,
    padded,
    sample,
)
from wmplay.check.models.devices import compiles_as_claimed, cpu_and_cuda_agree, follows_its_device
from wmplay.check.models.time_rule import actions_matter, no_peeking, predictions_are_on_time
from wmplay.check.report import Broken, Property, Report, examine
from wmplay.config.kinds import KINDS
from wmplay.contracts import Prediction, WorldModel, capabilities, missing_methods, model_keys
from wmplay.loop.fitter import stages_of


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
        return examine(type(model).__name__, PROPERTIES, Trial(model, env, seed, verbose), verbose, quick)


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


def the_loss_is_a_finite_scalar(trial: Trial) -> None:
    """Check that the loss is a finite scalar that depends on the weights."""
    if trial.fit_failed is not None:
        raise trial.fit_failed


def every_weight_is_trained(trial: Trial) -> None:
    """Check that the loss, or the losses of all stages together, have a gradient for each parameter."""
    if trial.untrained:
        raise Broken(
            f"no gradient reaches {listed(trial.untrained)}",
            "use them in the loss, take away a detach(), or delete them",
        )


def overfits_one_batch(trial: Trial) -> None:
    """Check that a short fit on one batch lowers its loss and the error of predictions of it."""
    if trial.stuck is not None:
        raise Broken(*trial.stuck)


def padding_counts_for_nothing(trial: Trial) -> None:
    """Check that the loss depends neither on steps outside ``mask`` nor on the frames after them."""
    real = torch.tensor([STEPS, *[SEEN] * (ROWS - 1)]).unsqueeze(1)
    junk = padded(trial.segment, torch.arange(STEPS) < real)
    clean = replace(trial.segment, mask=junk.mask)
    for stage in stages_of(trial.model):
        got, expected = (loss_value(stage.loss, data, trial.seed) for data in (junk, clean))
        if not math.isclose(got, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            raise Broken(
                f"other frames, actions and rewards after step {SEEN} of all rows but the first, where mask "
                f"is False, change the loss of '{stage.name}' from {expected:.6g} to {got:.6g}",
                "multiply each step's loss by segment.mask and divide by its sum; if you do, a frame is "
                "explained by later ones (attention without a causal mask?)",
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
    ignorant = trial.model.initial({key: value[:, 0] for key, value in start.items()})
    if bool((trial.outcome(trial.model, ignorant) - trial.outcome(trial.model)).abs().max() <= TOLERANCE):
        raise Broken(
            f"predictions after {SEEN} more steps are those from the first frame",
            "take in what observe is given",
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
    rest = model.predict(half.belief, trial.future[:, 2:])
    same(
        torch.cat([numbers(half), numbers(rest)], 1),
        usual,
        f"predicting 2 steps and {AHEAD - 2} from Prediction.belief is another future than {AHEAD} at once",
        "return the belief after the last predicted step",
    )


@torch.no_grad()
def isolation(trial: Trial) -> None:
    """Check that calls change neither the given belief nor the module."""
    model = trial.model
    belief = trial.believe(model)
    kept, weights = tree_map(torch.clone, belief), _state(model)
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


@torch.no_grad()
def same_seed_same_numbers(trial: Trial) -> None:
    """Check that draws come only from the given generator, and those of the loss from torch's global one."""
    model = trial.model
    belief = trial.believe(model)
    advice = "draw with generator=generator, and take the most likely future where it is None"
    state = torch.get_rng_state()
    one, two = (sample(model, belief, trial.future, trial.seed) for _ in range(2))
    same(one, two, "the same generator gives two futures", advice, tolerance=0)
    one, two = (trial.outcome(model, belief) for _ in range(2))
    same(one, two, "without a generator, predict gives two futures", advice, tolerance=0)
    if not torch.equal(torch.get_rng_state(), state):
        raise Broken("observe or predict draws from torch's global generator", advice)
    for stage in stages_of(model):
        first, second = (loss_value(stage.loss, trial.segment, trial.seed) for _ in range(2))
        if first != second:
            raise Broken(
                f"under the same seed the loss of '{stage.name}' is {first:.6g}, then {second:.6g}",
                "draw from torch's global generator only, and keep nothing between calls",
            )


def save_and_load(trial: Trial) -> None:
    """Check that a state_dict holds everything that predictions depend on."""
    model = trial.model
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    loaded = copy.deepcopy(model)
    blank(loaded)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    advice = "keep every tensor as an nn.Parameter or with register_buffer, every part as an nn.Module"
    outside = _unregistered(model)
    if outside:
        raise Broken(f"{listed(outside)} would not be saved, nor moved to a GPU", advice)
    same(trial.outcome(loaded), trial.outcome(model), "loaded weights predict something else", advice, 0)


def copies_are_equal_and_apart(trial: Trial) -> None:
    """Check that a deep copy and a pickled one predict the same, and share nothing with the model."""
    model = trial.model
    usual = trial.outcome(model)
    advice = "hold no function, file or other module from outside that a copy would share or could not take"
    ways: Sequence[tuple[str, Callable[[Any], Any]]] = (
        ("deepcopy", copy.deepcopy),
        ("pickle", lambda x: pickle.loads(pickle.dumps(x))),
    )
    for name, way in ways:
        try:
            twin = way(model)
        except Exception as error:  # whatever a piece's own attributes raise
            raise Broken(f"{name} raised {type(error).__name__}: {error}", advice) from error
        same(trial.outcome(twin), usual, f"a copy by {name} predicts something else", advice, 0)
        blank(twin)
        same(trial.outcome(model), usual, f"changing a copy by {name} changes the model", advice, 0)
        if torch.equal(trial.outcome(twin), usual) and any(True for _ in model.parameters()):
            raise Broken(f"a copy by {name} still predicts with the weights of the original", advice)


PROPERTIES: tuple[Property[Trial], ...] = (
    Property(shapes_and_types),
    Property(the_loss_is_a_finite_scalar),
    Property(every_weight_is_trained),
    Property(overfits_one_batch),
    Property(padding_counts_for_nothing),
    Property(batch_invariance),
    Property(no_peeking),
    Property(actions_matter),
    Property(predictions_are_on_time),
    Property(observations_matter),
    Property(seeing_in_parts),
    Property(isolation),
    Property(same_seed_same_numbers),
    Property(save_and_load),
    Property(copies_are_equal_and_apart),
    Property(follows_its_device),
    Property(cpu_and_cuda_agree),
    Property(compiles_as_claimed),
)


# ---- helpers ------------------------------------------------------------------------------------


def _state(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in [*model.named_parameters(), *model.named_buffers()]}


def _unregistered(model: torch.nn.Module) -> list[str]:
    """Return attributes with tensors, also in lists and dicts, that are not among the model's own."""
    own = {id(x) for x in [*model.parameters(), *model.buffers()]}

    def is_foreign(leaf: Any) -> bool:
        if isinstance(leaf, torch.nn.Module):
            return any(id(x) not in own for x in [*leaf.parameters(), *leaf.buffers()])
        return isinstance(leaf, Tensor) and id(leaf) not in own

    return [
        f"{name}.{key}" if name else key
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if key not in ("_parameters", "_buffers", "_modules") and any(map(is_foreign, tree_leaves(value)))
    ]


def _unchanged(before: Any, after: Any, problem: str) -> None:
    if not all(torch.equal(x, y) for x, y in zip(tree_leaves(before), tree_leaves(after), strict=True)):
        raise Broken(problem, "return a new belief, and change no tensor in place")


def _expect(name: str, value: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(value, Tensor) or tuple(value.shape) != shape or not value.is_floating_point():
        raise Broken(f"{name} is {shown(value)}", f"return a float tensor {list(shape)}")
    if not value.isfinite().all():
        raise Broken(f"{name} is not finite", "look for a log or a division of 0 at untrained weights")
