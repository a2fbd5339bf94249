"""Fitting of a world model: stages, optimiser, schedule, precision, and stopping when the loss diverges."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from wmplay.config.settings import Optimizer, Schedule, Settings
from wmplay.contracts import Group, Segment, Stage, capabilities
from wmplay.errors import ConfigError, DivergedError, WmplayError
from wmplay.nets.optimizers import AdamW, LaProp, clip_by_weight_
from wmplay.system.device import Precision, autocast
from wmplay.system.processes import Team

OPTIMIZERS: Mapping[Optimizer, Callable[..., torch.optim.Optimizer]] = {
    "adamw": partial(AdamW, fused=True),
    "laprop": LaProp,
}
WATCH_FROM = 100  # updates before an explosion is looked for: early losses fall by orders of magnitude


class Fitter:
    """All updates of a model in a run, in stages if it has any.

    In each iteration the stages follow each other, each with its share of the updates; if no stage has a
    share ``later``, later iterations continue the last one. A model without stages is fitted by its ``loss``.

    Args:
        model: an ``nn.Module`` with ``loss(segment) -> (scalar, metrics)``, and optionally ``stages()``.
        device: of the model.
        total: updates of the whole run.
        schedule: of the learning rate, after a linear warm-up: "cosine" falls to zero at the end of the run,
            "cosine_restarts" at the end of each iteration (SGDR, Loshchilov & Hutter, arXiv 1608.03983);
            "constant".
        settings: of ``StageFitter``, including the team.

    Raises:
        ConfigError: if the model, or a stage of it, has no weights.
        WmplayError: if the shares of its stages are not positive, or do not sum to 1; if a group of weights
            holds what is not its own.
    """

    def __init__(
        self, model: Any, device: torch.device, total: int, *, schedule: Schedule = "cosine", **settings: Any
    ) -> None:
        name = type(model).__name__
        self.stages = stages_of(model)
        shares = [stage.share for stage in self.stages]
        later = [stage.later for stage in self.stages]
        if not shares or min(shares) <= 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
            raise WmplayError(
                f"{name}.stages have the shares {shares}", expected="positive ones that sum to 1"
            )
        if any(later) and (min(later) < 0 or not math.isclose(sum(later), 1, abs_tol=1e-6)):
            raise WmplayError(
                f"{name}.stages have the later shares {later}", expected="numbers from 0 that sum to 1"
            )
        self.recurs = any(later)
        self.total, self.schedule = total, schedule
        self.after_update = capabilities(model).after_update
        groups = capabilities(model).groups
        settings["groups"] = () if groups is None else tuple(groups())
        settings["goals"] = capabilities(model).goals
        self.fitters = {stage.name: StageFitter(name, stage, device, **settings) for stage in self.stages}

    def update(self, segment: Segment, number: int, span: tuple[int, int]) -> dict[str, float]:
        """Take one gradient step and return the metrics.

        Args:
            segment: to fit; in a team, this process's part of the joint one.
            number: of the update in the run, from 0.
            span: the number of this iteration's first update, and of the next iteration's.

        Raises:
            WmplayError, DivergedError: see ``StageFitter.update``.
        """
        stage, begin, end = self._stage(number, span)
        fitter = self.fitters[stage.name]
        if self.schedule == "cosine" and self.recurs:
            length = span[1] - span[0]  # of every iteration
            begin = number - fitter.count
            end = begin + round(stage.share * length + stage.later * (self.total - length))
        elif self.schedule == "cosine" and stage is self.stages[-1]:  # it goes on in later iterations
            begin, end = number - fitter.count, self.total
        progress = min(1.0, (number - begin) / max(end - begin, 1))
        falling = 1.0 if self.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * progress))
        metrics = fitter.update(segment, number, falling)
        if self.after_update is not None:
            with torch.no_grad():
                self.after_update(min(1.0, (number + 1) / max(self.total, 1)))
        return metrics

    def _stage(self, number: int, span: tuple[int, int]) -> tuple[Stage, int, int]:
        """Return the stage of an update, with the stage's first update and end within the span."""
        first, end = span
        if first > 0 and not self.recurs:
            return self.stages[-1], first, end
        shares = {stage.name: stage.later if first else stage.share for stage in self.stages}
        *stages, last = (stage for stage in self.stages if shares[stage.name] > 0)
        share, begin = 0.0, first
        for stage in stages:
            share += shares[stage.name]
            change = max(first + round(share * (end - first)), begin + 1)  # no stage is left out
            if number < change:
                return stage, begin, change
            begin = change
        return last, begin, end

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a continued run needs besides the weights."""
        return {name: fitter.state_dict() for name, fitter in self.fitters.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``."""
        for name, fitter in self.fitters.items():
            fitter.load_state_dict(state[name])


def make_fitter(settings: Settings, model: Any, device: torch.device, team: Team = Team()) -> Fitter:  # noqa: B008
    """Return the fitter that a run's settings ask for.

    Raises:
        ConfigError: for settings that contradict each other.
        ConfigError, WmplayError: see ``Fitter``.
    """
    cfg = settings.fit
    if cfg.replay_ratio and cfg.schedule == "cosine":
        raise ConfigError(
            "fit.schedule is 'cosine', which has to know all updates of the run beforehand, but with "
            "fit.replay_ratio they depend on what is collected",
            advice="use constant or cosine_restarts",
        )
    if cfg.replay_ratio and cfg.minutes:
        raise ConfigError(
            "fit.minutes decides how many updates there are, and so does fit.replay_ratio", advice="leave one"
        )
    if cfg.batch_size % team.size:
        raise ConfigError(
            f"fit.batch_size is {cfg.batch_size}",
            got=cfg.batch_size,
            expected=f"a multiple of {team.size}, the number of processes that share each batch",
        )
    return Fitter(
        model,
        device,
        settings.iterations * cfg.steps,
        schedule=cfg.schedule,
        team=team,
        lr=cfg.lr,
        weight_decay=cfg.weight_decay,
        optimizer=cfg.optimizer,
        agc=cfg.agc,
        warmup=cfg.warmup,
        clip=cfg.clip,
        precision=cfg.precision,
        explode=cfg.explode,
    )


def segment_length(settings: Settings, model: Any) -> int:
    """Return the steps of the segments that a model is fitted on, at least as many as it needs."""
    return max(settings.fit.length, int(capabilities(model).least_length))


def stages_of(model: Any) -> list[Stage]:
    """Return the stages of a model's fit: its own, or one that fits the whole model by its ``loss``."""
    stages = capabilities(model).stages
    return [Stage("model", 1.0, model, model.loss)] if stages is None else list(stages())


class StageFitter:
    """Gradient steps on the loss of a stage, after a linear warm-up.

    Args:
        model: the name of the model.
        stage: the module and its loss.
        device: of the model.
        team: the processes that take each step together, by the gradient of their joint batch.
        groups: weights with a rate, a clip or a weight decay of their own.
        goals: whether the loss receives the task's goals.
        lr: the peak learning rate.
        weight_decay: see the optimiser.
        optimizer: "adamw" (Loshchilov & Hutter, arXiv 1711.05101) or "laprop" (see ``LaProp``).
        agc: the largest norm of a tensor's gradient, as a part of the norm of its weights; None = no limit.
        warmup: updates.
        clip: the largest gradient norm.
        precision: see ``wmplay.system.device``.
        explode: the largest ratio of the loss to its running mean.

    Raises:
        ConfigError: if the model has no weights.
    """

    def __init__(
        self,
        model: str,
        stage: Stage,
        device: torch.device,
        *,
        team: Team = Team(),  # noqa: B008 (frozen)
        groups: Sequence[Group] = (),
        goals: bool = False,
        lr: float = 3e-3,
        weight_decay: float = 1e-6,
        optimizer: Optimizer = "adamw",
        agc: float | None = None,
        warmup: int = 50,
        clip: float = 100.0,
        precision: Precision = "auto",
        explode: float = 1000.0,
    ) -> None:
        self.model, self.stage, self.device, self.team, self.goals = model, stage, device, team, goals
        self.lr, self.weight_decay, self.warmup = lr, weight_decay, warmup
        self.agc, self.clip, self.precision, self.explode = agc, clip, precision, explode
        self.count = 0  # updates so far
        self.loss_scale = 0.0  # running mean of |loss|
        weights = list(stage.module.parameters())
        if not weights:
            raise ConfigError(f"{model} has no weights to fit", advice="leave out fitting with fit.steps=0")
        self.groups = _groups(model, stage.module, groups)
        self.optimizer = OPTIMIZERS[optimizer](
            [
                {"params": list(group.parameters), "rate": group.rate, "weight_decay": self._decay(group)}
                | ({} if group.epsilon is None else {"eps": group.epsilon})
                for group in self.groups
            ],
            lr=lr,
        )
        self.loss = team.parallel(stage.module, stage.loss)

    def update(self, segment: Segment, number: int, falling: float = 1.0) -> dict[str, float]:
        """Take one gradient step, with the learning rate times ``falling``, and return the metrics.

        ``number`` is the update's number in an error.

        Raises:
            WmplayError: if the model's loss is not a scalar tensor that depends on its weights, with a dict
                of scalar metrics.
            DivergedError: if the loss or a gradient is not finite, or the loss explodes; names the part at
                fault. The weights are those before the step.
        """
        with autocast(self.device, self.precision):
            loss, metrics = self._checked(self.loss(segment if self.goals else segment.modelled()))
        metrics = self.team.mean(metrics)
        self._check_loss(metrics, number)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = self._clip()
        if not math.isfinite(norm):
            raise DivergedError(f"update {number}: the gradient of {self._culprit()} is not finite")
        rate = self.lr * falling * min(1.0, (self.count + 1) / max(self.warmup, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.optimizer.step()
        self.count += 1
        return {**metrics, "grad_norm": norm, "lr": rate}

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a continued run needs besides the weights."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "loss_scale": self.loss_scale,
            "count": self.count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``."""
        self.optimizer.load_state_dict(state["optimizer"])
        for group, own in zip(self.optimizer.param_groups, self.groups, strict=True):
            # they may be others from here on, and 0.1 saved no rate
            group["rate"], group["weight_decay"] = own.rate, self._decay(own)
        self.loss_scale, self.count = state["loss_scale"], state["count"]

    def _decay(self, group: Group) -> float:
        return self.weight_decay if group.weight_decay is None else group.weight_decay

    def _clip(self) -> float:
        """Clip the gradients, those of a group with a clip by themselves; return the norm of all before."""
        if self.agc is not None:
            clip_by_weight_(self.stage.module.parameters(), self.agc)
        own = [(group.parameters, group.clip) for group in self.groups if group.clip is not None]
        together = [weight for group in self.groups if group.clip is None for weight in group.parameters]
        parts = [*own, (together, self.clip)]
        return math.hypot(*(float(nn.utils.clip_grad_norm_(weights, most)) for weights, most in parts))

    def _checked(self, answer: Any) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and all metrics. Raise WmplayError unless the model's loss has the required
        form."""
        name = (
            f"{self.model}.loss" if self.stage.name == "model" else f"{self.model}'s {self.stage.name} loss"
        )
        if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], dict):
            parts = answer if isinstance(answer, tuple) else (answer,)
            got = ", ".join(type(part).__name__ for part in parts)
            raise WmplayError(
                f"{name} returned {got}", got=got, expected="a scalar tensor and a dict of scalars"
            )
        loss, terms = answer
        if not isinstance(loss, Tensor) or loss.ndim != 0:
            raise WmplayError(
                f"{name} returned {_shown(loss)}", expected="a scalar tensor", advice="take its mean"
            )
        if not loss.requires_grad:
            raise WmplayError(f"{name} does not depend on the weights: it returned a tensor without gradient")
        metrics = {}
        for term, value in {**terms, "loss/total": loss}.items():
            number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
            if not isinstance(number, int | float):
                raise WmplayError(
                    f"{name} returned the metric '{term}' as {_shown(value)}", expected="a scalar"
                )
            metrics[str(term)] = float(number)
        return loss, metrics

    def _check_loss(self, metrics: dict[str, float], number: int) -> None:
        loss = metrics["loss/total"]
        terms = {name: value for name, value in metrics.items() if name != "loss/total"}
        broken = [f"{name} is {value}" for name, value in terms.items() if not math.isfinite(value)]
        if not math.isfinite(loss):
            raise DivergedError(
                f"update {number}: the loss is {loss}; " + (", ".join(broken) or "no term of it is")
            )
        if self.count >= WATCH_FROM and abs(loss) > self.explode * (self.loss_scale + 1):
            worst = max(terms, key=lambda name: abs(terms[name]), default="loss/total")
            raise DivergedError(
                f"update {number}: the loss exploded to {loss:.3g}, {self.explode:g} times its running mean "
                f"{self.loss_scale:.3g}; the largest term is {worst}, {metrics[worst]:.3g}"
            )
        weight = max(0.01, 1 / (self.count + 1))
        self.loss_scale += weight * (abs(loss) - self.loss_scale)

    def _culprit(self) -> str:
        for name, parameter in self.stage.module.named_parameters():
            if parameter.grad is not None and not parameter.grad.isfinite().all():
                return str(name)
        return "the model"


def _groups(model: str, module: nn.Module, groups: Sequence[Group]) -> list[Group]:
    """Return the groups of a module's weights; the first has all weights that are in no other one."""
    own = {id(weight): weight for weight in module.parameters()}
    found = []
    for group in groups:
        weights = [own.pop(id(weight)) for weight in group.parameters if id(weight) in own]
        if weights and len(weights) < len(group.parameters):
            raise WmplayError(
                f"a group of {model}.groups has {len(group.parameters)} weights",
                got=len(weights),
                expected="each weight of a stage once, in one group",
            )
        found += [replace(group, parameters=weights)] if weights else []
    return [Group(list(own.values())), *found] if own else found


def _shown(value: Any) -> str:
    return f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
