"""Properties of world models that concern devices and compilation."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from wmplay.check.compare import same
from wmplay.check.fixtures.fitted_model import Trial, fitted_stages, loss_value, numbers
from wmplay.check.report import Broken, NotTried
from wmplay.contracts import capabilities

GPU = "cuda"
GPU_TOLERANCE = 1e-3  # relative and absolute: other kernels, another order of sums
BACKEND = "aot_eager"  # captures forward and backward; later stages do not depend on the model


def follows_its_device(trial: Trial) -> None:
    """Check that all results are on the device of the weights, by torch's meta device, which has only
    shapes."""
    model, there = _moved(trial, "meta")
    advice = (
        "make tensors where others are (x.new_zeros, device=x.device), keep constants with register_buffer"
    )
    try:
        with torch.no_grad():
            belief = there.believe(model)
            future = model.predict(belief, there.future)
            made = [belief, future.latent, future.reward, future.discount, dict(future.observation)]
            losses = [stage.loss(there.segment)[0] for stage in fitted_stages(model)]
    except Exception as error:  # any error of the model's own code
        text = " ".join(f"{type(error).__name__}: {error}".split())
        if "device" in text and "cpu" in text:
            raise Broken(f"moved from the CPU, it raised {text}", advice) from error
        raise NotTried(f"it needs values, which torch's meta device has not ({text[:77]})") from error
    for name, tree in (("predict", made), ("the loss", losses)):
        for leaf in tree_leaves(tree):
            if isinstance(leaf, Tensor) and leaf.device.type != "meta":
                raise Broken(f"moved from the CPU, {name} gives a tensor {list(leaf.shape)} on it", advice)


def cpu_and_cuda_agree(trial: Trial) -> None:
    """Check that a GPU gives the same predictions, and finite samples and losses."""
    if not torch.cuda.is_available():
        raise NotTried("there is no CUDA device here")
    model, there = _moved(trial, GPU)
    advice = "see that nothing stays behind on the CPU, and that no kernel is left to chance"
    usual = trial.outcome(trial.model)
    same(there.outcome(model).cpu(), usual, "on the GPU it predicts something else", advice, GPU_TOLERANCE)
    generator = torch.Generator(GPU).manual_seed(trial.seed)
    with torch.no_grad():
        sampled = numbers(model.predict(there.believe(model), there.future, generator=generator))
    if sampled.shape != usual.shape or not sampled.isfinite().all():
        raise Broken("on the GPU, what it samples is not finite or of another shape", advice)
    for stage in fitted_stages(model):
        value = loss_value(stage.loss, there.segment, trial.seed)
        if not torch.tensor(value).isfinite():
            raise Broken(f"on the GPU the loss of '{stage.name}' is {value}", advice)


def compiles_as_claimed(trial: Trial) -> None:
    """Check that ``torch.compile`` captures the functions in the attribute ``compiles``, with the same
    numbers."""
    claimed = capabilities(trial.model).compiles
    methods = {"loss": trial.model.loss, "predict": trial.model.predict}
    if not claimed:
        raise NotTried("it claims nothing, by an attribute compiles = ('loss', 'predict')")
    for name in claimed:
        if name not in _RESULTS:
            raise Broken(f"compiles names '{name}'", f"name some of {', '.join(_RESULTS)}")
        result = _RESULTS[name]
        expected = result(trial, methods[name])
        try:
            got = result(trial, torch.compile(methods[name], backend=BACKEND, fullgraph=True))
        except Exception as error:  # whatever torch cannot capture
            first = str(error).strip().partition("\n")[0]
            raise Broken(
                f"torch.compile({name}, fullgraph=True) raised {type(error).__name__}: {first}",
                f"let no value decide what is computed, or take '{name}' out of compiles",
            ) from error
        finally:
            torch._dynamo.reset()
        same(got, expected, f"compiled, {name} gives something else", "see torch.compiler's documentation")


def _loss(trial: Trial, loss: Any) -> Tensor:
    return torch.tensor(loss_value(loss, trial.segment, trial.seed)).reshape(1, 1, 1)


@torch.no_grad()
def _predicted(trial: Trial, predict: Any) -> Tensor:
    return numbers(predict(trial.believe(trial.model), trial.future))


_RESULTS = {"loss": _loss, "predict": _predicted}


def _moved(trial: Trial, device: str) -> tuple[Any, Trial]:
    """Return a copy of the model on another device, and the trial with its batch there."""
    model = copy.deepcopy(trial.model)
    own = {id(weight) for weight in trial.model.parameters()}
    if any(id(weight) in own for weight in model.parameters()):
        raise NotTried("its copies share its weights")
    return model.to(device), trial.on(device)
