"""Two processes are one with the joint batch: gradients, weights, metrics, and what goes wrong."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import forks
from refusals import refused
from small_models import ACTIONS, OBSERVATIONS, make_model, seed_spaces
from small_models import segment as random_segment
from torch import Tensor, nn

from wmplay.contracts import Segment
from wmplay.errors import ConfigError, DivergedError
from wmplay.loop.fitter import Fitter
from wmplay.system.device import choose_device
from wmplay.system.processes import Stopped, Team, joined, joint_count

CPU = torch.device("cpu")
PROCESSES, STEPS, UPDATES = 2, 5, 3
ROWS = 12  # so that each member of the ensemble gets whole rows of each process
MODELS = ("mlp", "gru", "ensemble")  # their losses draw nothing, and have masks


class Plain(nn.Module):
    """A mean over rows, by weights of which some are never used."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.used, self.unused = nn.Linear(11, 3), nn.Linear(7, 3)

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        error = (self.used(segment.action) - segment.reward.unsqueeze(-1)).square()
        return error.mean(), {"loss/error": error.mean().detach()}


def model_of(name: str) -> Any:
    space = OBSERVATIONS["screen and vector"]
    return Plain() if name == "plain" else make_model(name, space, ACTIONS["continuous"])


def batch(number: int) -> Segment:
    """The joint batch of an update: much of its end is padding, nearly all in the rows of one process."""
    torch.manual_seed(number)
    seed_spaces(number)
    whole = random_segment(OBSERVATIONS["screen and vector"], ACTIONS["continuous"], ROWS, STEPS)
    length = torch.where(torch.arange(ROWS) % 2 == 0, STEPS, 1 + torch.arange(ROWS) % 3)
    mask = torch.arange(STEPS) < length.unsqueeze(1)
    first = torch.arange(ROWS) % 3 == 0
    return Segment(whole.observation, whole.action, whole.reward, whole.terminated, mask, first)


def fitted(name: str, team: Team) -> dict[str, Any]:
    """Some updates of a model: its gradients in the first, its weights after each, the metrics."""
    model = model_of(name)
    fitter = Fitter(model, CPU, UPDATES, team=team, lr=1e-3, warmup=0, precision="float32")
    found: dict[str, Any] = {"metrics": []}
    for number in range(UPDATES):
        torch.manual_seed(100 + team.rank)
        part = batch(number).rows(team.part())
        found["metrics"].append(fitter.update(part, number, (0, UPDATES)))
        if number == 0:
            found["gradients"] = {k: None if p.grad is None else p.grad for k, p in model.named_parameters()}
            found["gradients"] = {k: g if g is None else g.clone() for k, g in found["gradients"].items()}
    found["weights"] = model.state_dict()
    return found


def fit_all(team: Team) -> Any:
    return {name: fitted(name, team) for name in (*MODELS, "plain")}


def fit_what_is_broken_in_one(team: Team) -> str:
    part = batch(0).rows(team.part())
    if team.rank == 1:
        part.reward[0, 0] = torch.nan
    with pytest.raises(DivergedError) as caught:
        Fitter(Plain(), CPU, 1, team=team).update(part, 0, (0, 1))
    return str(caught.value)


def talk(team: Team) -> Any:
    """What the methods of a team give, and what the others hear of a mistake of the first one's."""

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError if team.leads else Stopped):
        team.lead(fail)
    with pytest.raises(ZeroDivisionError if team.leads else Stopped):
        team.each(fail)
    module = nn.Linear(3, 5)
    nn.init.constant_(module.weight, team.rank + 7)
    team.align(module)
    return {
        "lead": team.lead(lambda: ["from", team.rank]),
        "each": team.each(lambda: team.rank),
        "any": [team.any(False), team.any(team.rank == 1)],
        "mean": team.mean({"a": 2.0 + team.rank, "b": 7.0}),
        "weight": module.weight.mean().item(),
    }


def run(rank: int, port: int, folder: Path) -> None:
    """What a process does: all that the tests below look at, as it takes a while to start."""
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": PROCESSES, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in place.items()}, MASTER_ADDR="127.0.0.1")
    with joined() as team:
        found = {work.__name__: work(team) for work in (fit_all, fit_what_is_broken_in_one, talk)}
        torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each of the processes found."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [forks.Process(target=run, args=(i, port, folder)) for i in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    return [torch.load(folder / f"{i}.pt", weights_only=False) for i in range(PROCESSES)]


@pytest.mark.parametrize("name", [*MODELS, "plain"])
def test_gradients_weights_and_metrics_are_those_of_one_process(both: list[Any], name: str) -> None:
    alone = fitted(name, Team())
    for found in (process["fit_all"][name] for process in both):
        assert found["gradients"].keys() == alone["gradients"].keys()
        for key, gradient in alone["gradients"].items():
            torch.testing.assert_close(found["gradients"][key], gradient, rtol=1e-4, atol=1e-6)
        for key, weight in alone["weights"].items():
            torch.testing.assert_close(found["weights"][key], weight, rtol=0, atol=2e-5)
        for ours, theirs in zip(found["metrics"], alone["metrics"], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_means_within_each_process_are_something_else(name: str) -> None:
    """Otherwise the test above would show nothing."""

    def gradient(segment: Segment) -> Tensor:
        model = model_of(name)
        model.loss(segment)[0].backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    halves = [gradient(batch(0).rows(Team(i, PROCESSES).part())) for i in range(PROCESSES)]
    joint = gradient(batch(0))
    assert (torch.stack(halves).mean(0) - joint).norm() > 0.02 * joint.norm()


def test_both_have_the_same_weights_to_the_bit(both: list[Any]) -> None:
    first, second = (process["fit_all"] for process in both)
    for name in MODELS:
        for key, weight in first[name]["weights"].items():
            assert torch.equal(second[name]["weights"][key], weight)
    assert first["plain"]["gradients"]["unused.weight"] is None


def test_what_diverges_in_one_stops_both(both: list[Any]) -> None:
    for process in both:
        assert process["fit_what_is_broken_in_one"] == "update 0: the loss is nan; loss/error is nan"


def test_a_team_waits_for_its_first_process(both: list[Any]) -> None:
    first, second = (process["talk"] for process in both)
    assert [first.pop("each"), second.pop("each")] == [0, 1]
    assert first == second
    assert first["lead"] == ["from", 0]
    assert first["any"] == [False, True]
    assert first["mean"] == {"a": 2.5, "b": 7.0}
    assert first["weight"] == 7


def test_one_process_alone() -> None:
    team = Team()
    assert team.leads
    assert team.part() == slice(0, None, 1)
    assert team.lead(lambda: 3) == team.each(lambda: 3) == 3
    assert team.any(True)
    assert team.mean({"a": 5.0}) == {"a": 5.0}
    mask = torch.tensor([[True, True], [False, True]])
    assert joint_count(mask) == 3
    assert joint_count(~mask & mask) == 1


# ---- bad input -----------------------------------------------------------------------------------


def test_a_team_that_is_not_told_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with (
        refused(ConfigError, ("WORLD_SIZE", "2", "MASTER_ADDR")),
        joined(),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("cuda:1", {"about": "device", "got": "cuda:1", "advice": "device=cuda"}),
        ("cuda", {"about": ("device", "device=cpu"), "got": "cuda:1"}),
        ("cud", {"about": "device", "got": "cud"}),
    ],
)
def test_devices_that_several_processes_cannot_have(
    monkeypatch: pytest.MonkeyPatch, name: str, fields: dict[str, object]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with refused(ConfigError, **fields):
        choose_device(name, local_rank=1)


def test_each_process_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(choose_device(name, 1)) for name in ("auto", "cuda", "cpu")] == ["cuda:1", "cuda:1", "cpu"]
