"""Stages in their order, each with its share and its weights; learning rates at known points; going on."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from refusals import refused
from torch import Tensor, nn

from wmplay.contracts import Group, Segment, Stage
from wmplay.errors import ConfigError, DivergedError, WmplayError
from wmplay.loop.fitter import WATCH_FROM, Fitter
from wmplay.nets.optimizers import Adam, AdamW, LaProp, clip_by_weight_

CPU = torch.device("cpu")
PLAIN: dict[str, Any] = {"lr": 0.01, "warmup": 0, "weight_decay": 0.0, "precision": "float32"}


def segment(seed: int = 0) -> Segment:
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(seed))
    nothing = torch.zeros(2, 5)
    return Segment({"x": x}, nothing.unsqueeze(-1), nothing, nothing.bool(), ~nothing.bool())


class Model(nn.Module):
    """Says that x is what it knows by heart."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.guess = nn.Linear(3, 3)

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        error = self.guess(segment.observation["x"]) - 2 * segment.observation["x"]
        return error.square().mean(), {"loss/x": error.abs().mean().detach()}


class Staged(Model):
    """An eye, a code and a forecast; each stage's loss reaches back into the ones before."""

    def __init__(self, shares: tuple[float, ...] = (0.3, 0.5, 0.2)) -> None:
        super().__init__()
        self.eye, self.code, self.forecast = (nn.Linear(3, 3) for _ in range(3))
        self.shares, self.calls = shares, list[str]()

    def stages(self) -> list[Stage]:
        modules = (self.eye, self.code, self.forecast)
        names = ("eye", "code", "forecast")
        return [
            Stage(name, share, module, self.through(name, modules[: i + 1]))
            for i, (name, share, module) in enumerate(zip(names, self.shares, modules, strict=False))
        ]

    def through(self, name: str, modules: tuple[nn.Module, ...]) -> Callable[[Segment], Any]:
        def loss(segment: Segment) -> Any:
            self.calls.append(name)
            x = segment.observation["x"]
            for module in modules:
                x = module(x)
            return (x - segment.observation["x"]).square().mean(), {}

        return loss


def run(fitter: Fitter, spans: list[tuple[int, int]], until: int | None = None) -> list[dict[str, float]]:
    """All updates of iterations with these spans."""
    lines = []
    for begin, end in spans:
        for number in range(begin, end if until is None else min(end, until)):
            lines.append(fitter.update(segment(number), number, (begin, end)))
    return lines


def rates(
    schedule: Any, spans: list[tuple[int, int]], total: int, model: Any = None, **settings: Any
) -> list[float]:
    fitter = Fitter(model or Model(), CPU, total, schedule=schedule, **{**PLAIN, **settings})
    return [line["lr"] / 0.01 for line in run(fitter, spans)]


def cosine(*points: float) -> Any:
    """Of how far things are, 0 to 1."""
    return pytest.approx([0.5 * (1 + math.cos(math.pi * x)) for x in points])


# ---- learning rates ------------------------------------------------------------------------------


def test_cosine_falls_over_the_run() -> None:
    got = rates("cosine", [(0, 5), (5, 10)], 10)
    assert got == cosine(*[x / 10 for x in range(10)])


def test_cosine_with_restarts_falls_over_each_iteration() -> None:
    got = rates("cosine_restarts", [(0, 5), (5, 12)], 12)
    assert got == cosine(*[x / 5 for x in range(5)], *[x / 7 for x in range(7)])


def test_constant_is_constant_after_the_warmup() -> None:
    got = rates("constant", [(0, 5), (5, 10)], 10, warmup=4)
    assert got == pytest.approx([0.25, 0.5, 0.75, *[1.0] * 7])


def test_the_warmup_is_that_of_each_stage() -> None:
    got = rates("constant", [(0, 10)], 10, Staged(), warmup=2)
    assert got == pytest.approx([0.5, 1, 1, 0.5, 1, 1, 1, 1, 0.5, 1])


def test_stages_fall_one_by_one_and_the_last_goes_on() -> None:
    eye, code = cosine(0, 1 / 3, 2 / 3), cosine(0, 0.2, 0.4, 0.6, 0.8)
    got = rates("cosine", [(0, 10), (10, 20)], 20, Staged())
    assert got[:3] == eye
    assert got[3:8] == code
    assert got[8:] == cosine(*[x / 12 for x in range(12)]), "to zero at the end of the run"
    got = rates("cosine_restarts", [(0, 10), (10, 20)], 20, Staged())
    assert got[:3] == eye
    assert got[3:8] == code
    assert got[8:10] == cosine(0, 0.5)
    assert got[10:] == cosine(*[x / 10 for x in range(10)])


def test_the_first_iteration_with_updates_may_be_a_later_one() -> None:
    fitter = Fitter(model := Staged(), CPU, 10, **PLAIN)
    run(fitter, [(0, 0), (0, 10)])
    assert model.calls == ["eye"] * 3 + ["code"] * 5 + ["forecast"] * 2


def test_more_updates_than_were_foreseen_do_not_rise_again() -> None:
    got = rates("cosine", [(0, 5), (5, 8)], 5)
    assert got[5:] == [0, 0, 0]


# ---- stages --------------------------------------------------------------------------------------


def test_stages_follow_each_other_and_change_only_their_own_weights() -> None:
    model = Staged()
    fitter = Fitter(model, CPU, 20, **{**PLAIN, "weight_decay": 0.1})
    names = ["eye"] * 3 + ["code"] * 5 + ["forecast"] * 12  # of the second iteration, the last stage only
    for number, name in enumerate(names):
        before = copy.deepcopy(model.state_dict())
        fitter.update(segment(number), number, (0, 10) if number < 10 else (10, 20))
        changed = {
            key.split(".")[0]
            for key, value in model.state_dict().items()
            if not torch.equal(value, before[key])
        }
        assert changed == {name}
        assert model.calls[-1] == name


def test_a_stage_with_a_small_share_is_not_left_out() -> None:
    model = Staged((0.01, 0.01, 0.98))
    run(Fitter(model, CPU, 5, **PLAIN), [(0, 5)])
    assert model.calls == ["eye", "code", "forecast", "forecast", "forecast"]


def test_a_model_without_stages_is_fitted_by_its_loss() -> None:
    fitter = Fitter(Model(), CPU, 200, **{**PLAIN, "lr": 0.03})
    lines = run(fitter, [(0, 200)])
    assert lines[-1]["loss/total"] < 0.2 * lines[0]["loss/total"]
    assert {"loss/x", "loss/total", "grad_norm", "lr"} == lines[0].keys()


@pytest.mark.parametrize("shares", [(0.5, 0.6), (0.5,), (1.5, -0.5), (1.0, 0.0), ()])
def test_shares_that_do_not_add_up_are_refused(shares: tuple[float, ...]) -> None:
    with refused(WmplayError, "Staged.stages"):
        Fitter(Staged(shares), CPU, 10)


def test_a_stage_without_weights_is_refused() -> None:
    model = Staged()
    model.code = nn.Identity()  # type: ignore[assignment]
    with refused(ConfigError, "Staged"):
        Fitter(model, CPU, 10)


def test_an_error_names_the_stage() -> None:
    model = Staged()
    model.through = lambda name, modules: lambda segment: torch.zeros(())  # type: ignore[method-assign]
    with refused(WmplayError, got="Tensor", expected="dict"):
        Fitter(model, CPU, 10, **PLAIN).update(segment(), 0, (0, 10))


# ---- going on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [2, 3, 7, 9, 10, 13])
@pytest.mark.parametrize("schedule", ["cosine", "cosine_restarts", "constant"])
def test_it_goes_on_as_if_nothing_had_been(stop: int, schedule: Any) -> None:
    spans = [(0, 10), (10, 16)]
    settings = {**PLAIN, "warmup": 4, "schedule": schedule}
    whole = Staged()
    lines = run(Fitter(whole, CPU, 16, **settings), spans)

    broken = Staged()
    fitter = Fitter(broken, CPU, 16, **settings)
    run(fitter, spans, until=stop)
    weights, state = copy.deepcopy(broken.state_dict()), copy.deepcopy(fitter.state_dict())
    other = Staged()
    other.load_state_dict(weights)
    fitter = Fitter(other, CPU, 16, **settings)
    fitter.load_state_dict(state)
    rest = [
        fitter.update(segment(number), number, span)
        for span in spans
        for number in range(*span)
        if number >= stop
    ]
    assert rest == lines[stop:]
    for key, value in whole.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


# ---- stopping ------------------------------------------------------------------------------------


class Wild(Model):
    """Its loss is what one says."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 1.0

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        loss, _ = super().loss(segment)
        return loss * self.times, {"loss/culprit": (loss * self.times).detach()}


@pytest.mark.parametrize(
    ("times", "fields"),
    [
        (math.nan, {"about": ("110", "nan", "loss/culprit")}),
        (math.inf, {"about": ("110", "inf", "loss/culprit")}),
        (1e9, {"about": ("110", "1000", "loss/culprit")}),
    ],
)
def test_a_loss_that_breaks_leaves_the_weights_as_they_were(times: float, fields: dict[str, object]) -> None:
    model = Wild()
    fitter = Fitter(model, CPU, 200, **PLAIN)
    run(fitter, [(0, 110)])
    assert WATCH_FROM <= 110
    before = copy.deepcopy(model.state_dict())
    model.times = times
    with refused(DivergedError, **fields):
        fitter.update(segment(), 110, (0, 200))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


# ---- groups, recurring stages, what moves after an update, another optimiser ------------------------


class Grouped(Model):
    """Two layers; the first is fitted slowly and clipped by itself, and a slow copy follows the second."""

    def __init__(self, **group: Any) -> None:
        super().__init__()
        self.eye = nn.Linear(3, 3)
        self.group, self.progress = group, list[float]()
        self.register_buffer("slow", self.guess.weight.detach().clone())

    def groups(self) -> list[Group]:
        return [Group(list(self.eye.parameters()), **self.group)]

    def after_update(self, progress: float) -> None:
        assert not torch.is_grad_enabled()
        self.progress.append(progress)
        self.slow.lerp_(self.guess.weight, 0.5)

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        x = segment.observation["x"]
        return (self.guess(self.eye(x)) - 2 * x).square().mean(), {}


def moved(model: Grouped, optimizer: Any = "adamw", **settings: Any) -> dict[str, Tensor]:
    """How far each weight moves in the first update."""
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    Fitter(model, CPU, 1, **{**PLAIN, "schedule": "constant", "optimizer": optimizer, **settings}).update(
        segment(), 0, (0, 1)
    )
    return {name: weight.detach() - before[name] for name, weight in model.named_parameters()}


@pytest.mark.parametrize("optimizer", ["adamw", "laprop"])
def test_a_group_has_its_own_rate(optimizer: Any) -> None:
    step = moved(Grouped(rate=0.25), optimizer)
    torch.testing.assert_close(step["guess.weight"].abs(), torch.full((3, 3), 0.01), rtol=1e-3, atol=0)
    torch.testing.assert_close(step["eye.weight"].abs(), torch.full((3, 3), 0.0025), rtol=1e-3, atol=0)


def test_a_group_has_its_own_weight_decay() -> None:
    plain, decayed = (moved(Grouped(weight_decay=decay)) for decay in (None, 0.5))
    assert torch.equal(plain["guess.weight"], decayed["guess.weight"])
    assert not torch.equal(plain["eye.weight"], decayed["eye.weight"])


def test_a_group_is_clipped_by_itself() -> None:
    model, free = Grouped(clip=1e-6), Grouped()
    for each in (model, free):
        moved(each)
    norm = lambda layer: float(torch.cat([w.grad.flatten() for w in layer.parameters()]).norm())  # noqa: E731
    assert norm(model.eye) == pytest.approx(1e-6, rel=1e-3)
    assert norm(model.guess) == pytest.approx(norm(free.guess), rel=1e-6)


def test_groups_that_share_weights_are_refused() -> None:
    model = Grouped()
    model.groups = lambda: [Group([model.eye.weight]), Group([model.eye.weight, model.eye.bias])]  # type: ignore[method-assign]
    with pytest.raises(WmplayError) as error:
        Fitter(model, CPU, 1, **PLAIN)
    assert (error.value.got, "Grouped.groups" in error.value.problem) == (1, True)


def test_a_slow_copy_follows_after_each_update() -> None:
    model = Grouped()
    slow = model.slow.clone()
    fitter = Fitter(model, CPU, 4, **PLAIN)
    for number in range(4):
        fitter.update(segment(number), number, (0, 4))
        slow = 0.5 * slow + 0.5 * model.guess.weight.detach()
        torch.testing.assert_close(model.slow, slow)
    assert model.progress == [0.25, 0.5, 0.75, 1.0]


def test_stages_recur_with_their_later_shares() -> None:
    class Recurring(Staged):
        def stages(self) -> list[Stage]:
            later = {"eye": 0.0, "code": 0.25, "forecast": 0.75}
            return [replace(stage, later=later[stage.name]) for stage in super().stages()]

    model = Recurring()
    lines = run(Fitter(model, CPU, 20, **PLAIN), [(0, 10), (10, 14), (14, 18)])
    first, second, third = model.calls[:10], model.calls[10:14], model.calls[14:]
    assert first == ["eye"] * 3 + ["code"] * 5 + ["forecast"] * 2
    assert second == third == ["code"] + ["forecast"] * 3
    assert lines[9]["lr"] > lines[17]["lr"] > 0  # the forecast's rate falls over the run


@pytest.mark.parametrize("later", [(0.5, 0.2, 0.2), (-0.5, 1.0, 0.5)])
def test_later_shares_that_do_not_add_up_are_refused(later: tuple[float, ...]) -> None:
    model = Staged()
    stages = [replace(stage, later=share) for stage, share in zip(model.stages(), later, strict=True)]
    model.stages = lambda: stages  # type: ignore[method-assign]
    with refused(WmplayError, "later"):
        Fitter(model, CPU, 20, **PLAIN)


def test_the_first_step_of_laprop_is_the_rate_and_later_ones_keep_their_momentum() -> None:
    weight = nn.Parameter(torch.tensor([2.0, -3.0]))
    optimizer = LaProp([weight], lr=0.1)
    weight.grad = torch.tensor([1e-6, -40.0])
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([1.9, -2.9]))
    weight.grad = torch.zeros(2)
    optimizer.step()  # momentum .1 x .9 of the first, without bias: .09 / .19
    torch.testing.assert_close(
        weight.detach(), torch.tensor([1.9, -2.9]) + torch.tensor([-0.1, 0.1]) * 0.09 / 0.19
    )


@pytest.mark.parametrize(
    ("ours", "torchs"), [(Adam, torch.optim.Adam), (AdamW, torch.optim.AdamW), (LaProp, LaProp)]
)
def test_optimisers_take_the_steps_of_torch_without_its_compiler(
    ours: Any, torchs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps(optimizer: torch.optim.Optimizer) -> None:
        for number in range(3):
            optimizer.zero_grad()
            weight = optimizer.param_groups[0]["params"][0]
            (weight * torch.tensor([3.0, -1.0, number])).square().sum().backward()
            optimizer.step()

    known, first, second = (nn.Parameter(torch.tensor([2.0, -3.0, 0.5])) for _ in range(3))
    expected = torchs([known], lr=0.1, weight_decay=0.1)
    steps(expected)
    steps(expected)
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # importing it is an error
    optimizer = ours([first], lr=0.1, weight_decay=0.1)
    steps(optimizer)
    second.data.copy_(first)
    again = ours([second], lr=0.2, weight_decay=0.1)
    again.load_state_dict(optimizer.state_dict())
    steps(again)
    assert torch.equal(second, known)


def test_gradients_are_clipped_by_the_norm_of_their_weights() -> None:
    weight, zero = nn.Parameter(torch.tensor([2.0, 0.0])), nn.Parameter(torch.zeros(2))
    weight.grad, zero.grad = torch.tensor([0.0, 3.0]), torch.tensor([3.0, 0.0])
    clip_by_weight_([weight, zero], 0.3)
    torch.testing.assert_close(weight.grad, torch.tensor([0.0, 3.0]) * 0.2)
    torch.testing.assert_close(zero.grad, torch.tensor([0.3e-3, 0.0]))
    clip_by_weight_([weight], 0.3)
    torch.testing.assert_close(weight.grad, torch.tensor([0.0, 3.0]) * 0.2)  # small ones are left


def test_a_run_with_another_optimiser_goes_on_as_if_nothing_had_been() -> None:
    settings: dict[str, Any] = {**PLAIN, "optimizer": "laprop", "agc": 0.3}
    whole, first = Grouped(rate=0.5), Grouped(rate=0.5)
    run(Fitter(whole, CPU, 6, **settings), [(0, 6)])
    fitter = Fitter(first, CPU, 6, **settings)
    run(fitter, [(0, 6)], until=3)
    second = copy.deepcopy(first)
    again = Fitter(second, CPU, 6, **settings)
    again.load_state_dict(fitter.state_dict())
    for number in range(3, 6):
        again.update(segment(number), number, (0, 6))
    for one, other in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
