"""Fitting a world model: optimiser, schedule, precision, and stopping when the loss diverges."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wmplay.contracts import Segment
from wmplay.device import Precision, autocast
from wmplay.errors import ConfigError, DivergedError, WmplayError

WATCH_FROM = 100  # updates before an explosion is looked for: early losses fall by orders of magnitude


class Fitter:
    """AdamW (Loshchilov & Hutter, arXiv 1711.05101) on ``model.loss``, with warm-up and a schedule.

    Args:
        model: an ``nn.Module`` with ``loss(segment) -> (scalar, metrics)``.
        device: where the model is.
        total: updates of the whole run, over which the cosine falls to zero.
        lr: the peak learning rate.
        weight_decay: of AdamW.
        schedule: "cosine" or "constant", after a linear warm-up.
        warmup: updates.
        clip: the largest gradient norm.
        precision: see ``wmplay.device``.
        explode: how many times its running mean the loss may be.

    Raises:
        ConfigError: if the model has no weights.
    """

    def __init__(
        self,
        model: Any,
        device: torch.device,
        total: int,
        *,
        lr: float = 3e-3,
        weight_decay: float = 1e-6,
        schedule: Literal["cosine", "constant"] = "cosine",
        warmup: int = 50,
        clip: float = 100.0,
        precision: Precision = "auto",
        explode: float = 1000.0,
    ) -> None:
        self.model, self.device, self.total = model, device, total
        self.lr, self.schedule, self.warmup = lr, schedule, warmup
        self.clip, self.precision, self.explode = clip, precision, explode
        self.loss_scale = 0.0  # running mean of |loss|
        if next(model.parameters(), None) is None:
            raise ConfigError(f"{type(model).__name__} has no weights: leave out fitting with fit.steps=0")
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay, fused=True)

    def update(self, segment: Segment, step: int) -> dict[str, float]:
        """One gradient step, the ``step``-th of the run; returns the metrics.

        Raises:
            WmplayError: if the model's loss is not a scalar tensor that depends on its weights, with a
                dict of scalar metrics.
            DivergedError: if the loss or a gradient is not finite, or the loss explodes; names the
                culprit. The weights are as they were before the step.
        """
        with autocast(self.device, self.precision):
            loss, metrics = self._checked(self.model.loss(segment))
        self._check_loss(metrics, step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.clip))
        if not math.isfinite(norm):
            raise DivergedError(f"update {step}: the gradient of {self._culprit()} is not finite")
        rate = self.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return {**metrics, "grad_norm": norm, "lr": rate}

    def rate(self, step: int) -> float:
        """The learning rate of a step: a linear warm-up, then the schedule."""
        warm = min(1.0, (step + 1) / max(self.warmup, 1))
        if self.schedule == "constant":
            return self.lr * warm
        return self.lr * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(self.total, 1))))

    def state_dict(self) -> dict[str, Any]:
        """What a continued run needs besides the weights."""
        return {"optimizer": self.optimizer.state_dict(), "loss_scale": self.loss_scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over from ``state_dict``."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.loss_scale = state["loss_scale"]

    def _checked(self, answer: Any) -> tuple[Tensor, dict[str, float]]:
        """The loss and all metrics, if what the model's loss returned is what it has to be."""
        name = f"{type(self.model).__name__}.loss"
        if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], dict):
            parts = answer if isinstance(answer, tuple) else (answer,)
            got = ", ".join(type(part).__name__ for part in parts)
            raise WmplayError(f"{name} returned {got}, expected a scalar tensor and a dict of scalars")
        loss, terms = answer
        if not isinstance(loss, Tensor) or loss.ndim != 0:
            raise WmplayError(f"{name} returned {_shown(loss)}, expected a scalar tensor: take its mean")
        if not loss.requires_grad:
            raise WmplayError(f"{name} does not depend on the weights: it returned a tensor without gradient")
        metrics = {}
        for term, value in {**terms, "loss/total": loss}.items():
            number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
            if not isinstance(number, int | float):
                raise WmplayError(
                    f"{name} returned the metric '{term}' as {_shown(value)}, expected a scalar"
                )
            metrics[str(term)] = float(number)
        return loss, metrics

    def _check_loss(self, metrics: dict[str, float], step: int) -> None:
        loss = metrics["loss/total"]
        terms = {name: value for name, value in metrics.items() if name != "loss/total"}
        broken = [f"{name} is {value}" for name, value in terms.items() if not math.isfinite(value)]
        if not math.isfinite(loss):
            raise DivergedError(
                f"update {step}: the loss is {loss}; " + (", ".join(broken) or "no term of it is")
            )
        if step >= WATCH_FROM and abs(loss) > self.explode * (self.loss_scale + 1):
            worst = max(terms, key=lambda name: abs(terms[name]), default="loss/total")
            raise DivergedError(
                f"update {step}: the loss exploded to {loss:.3g}, {self.explode:g} times its running mean "
                f"{self.loss_scale:.3g}; the largest term is {worst}, {metrics[worst]:.3g}"
            )
        weight = max(0.01, 1 / (step + 1))
        self.loss_scale += weight * (abs(loss) - self.loss_scale)

    def _culprit(self) -> str:
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None and not parameter.grad.isfinite().all():
                return str(name)
        return "the model"


def _shown(value: Any) -> str:
    return f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
