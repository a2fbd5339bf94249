"""The conformance kit on learners: an honest one passes, each property fails one built to break it."""

from __future__ import annotations

import copy
from typing import Any

import imaginers
import pytest
import torch
from mutants import Mutants, expect_failures, named
from push import CONTINUOUS, Push, Reach
from torch import Tensor, nn

import wmplay
from wmplay.check import check_policy
from wmplay.check.policies import LEARNING, lessons
from wmplay.check.policies.acting import ACTING
from wmplay.check.policies.learning import MANNERS
from wmplay.check.policies.lessons import LESSONS
from wmplay.check.policies.planning import PLANNING
from wmplay.check.policies.practising import Practised
from wmplay.check.report import examine
from wmplay.contracts import Practice
from wmplay.policies.disagreement import Disagreement
from wmplay.vector.stepping import TensorEnv, Transition

ROUND = 16  # steps of each slot
GAMMA = 0.9


class Never(Reach):
    radius = 0.0


def env() -> Push:
    return Push(max_steps=17, task=Never())


class Honest(nn.Module):
    """An actor and a critic, both linear, which learn in every step; it looks at places from their mean."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.register_buffer("mean", torch.zeros(2))
        self.actor, self.critic = nn.Linear(2, 2), nn.Linear(2, 1)
        rates = [(self.actor, 0.01), (self.critic, 0.05)]
        self.optimizer = torch.optim.Adam([{"params": part.parameters(), "lr": lr} for part, lr in rates])
        self.low, self.high = torch.from_numpy(CONTINUOUS.low), torch.from_numpy(CONTINUOUS.high)

    def initial(self, batch_size: int) -> Any:
        return ()

    def act(
        self,
        carry: Any,
        observation: Any,
        last_action: Tensor,
        first: Tensor,
        *,
        explore: bool = False,
        generator: Any = None,
    ) -> Any:
        place = self.actor(observation["x"] - self.mean).tanh()
        if explore:
            place = place + 0.3 * torch.randn(place.shape, generator=generator)
        return self.executed(place.clamp(-1, 1)), carry

    def executed(self, place: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * (1 + place) / 2

    def improve(self, practice: Practice) -> dict[str, float]:
        world = TensorEnv(practice.env, practice.device)
        generator = torch.Generator().manual_seed(practice.seed)
        x, taken, metrics = world.reset(practice.seed)["x"], 0, {}
        while taken < self.enough(practice.steps):
            rewards = []
            for _ in range(ROUND):
                place = self.actor(x - self.mean).tanh()
                tried = (place + 0.3 * self.noise(place, generator)).detach()
                outcome = world.step(self.executed(self.cut(tried)))
                self.update(x, (tried - place).square().sum(1) / 0.18, outcome)
                self.mean += 0.01 * (x - self.mean).mean(0)
                x = outcome.observation["x"]
                rewards.append(float(outcome.reward.mean()))
            taken += ROUND * world.num_envs
            metrics = {"reward": sum(rewards) / ROUND}
            self.tell(practice, taken, metrics)
        return metrics

    def update(self, x: Tensor, surprise: Tensor, outcome: Transition) -> None:
        """``surprise`` [N] is minus the log density of what was tried."""
        value = self.critic(x - self.mean).squeeze(1)
        error = (self.goal(outcome) - value).detach()
        loss = (self.wanted(error) * surprise).mean() - (error * value).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def goal(self, outcome: Transition) -> Tensor:
        later = self.critic(outcome.arrived["x"] - self.mean).squeeze(1)
        return outcome.reward + GAMMA * torch.where(outcome.terminated, 0.0, later)

    def wanted(self, error: Tensor) -> Tensor:
        return error

    def noise(self, place: Tensor, generator: Any) -> Tensor:
        return torch.randn(place.shape, generator=generator)

    def cut(self, place: Tensor) -> Tensor:
        return place.clamp(-1, 1)

    def enough(self, steps: int) -> int:
        return steps

    def tell(self, practice: Practice, taken: int, metrics: Any) -> None:
        practice.advance(taken, metrics)

    def learner_state(self) -> Any:
        return self.optimizer.state_dict()

    def load_learner_state(self, state: Any) -> None:
        self.optimizer.load_state_dict(state)


# ---- learners that each break something ----------------------------------------------------------

MUTANTS = Mutants()
breaks = MUTANTS.breaks


@breaks("practice changes it")
class NothingForTheCheckpoint(Honest):
    learner_state = None  # type: ignore[assignment]


@breaks("practice changes it")
class TellsNobody(Honest):
    def tell(self, practice: Practice, taken: int, metrics: Any) -> None:
        pass


@breaks("practice changes it")
class MetricsOfADivisionByZero(Honest):
    def improve(self, practice: Practice) -> dict[str, float]:
        return {**super().improve(practice), "terminated": float("nan")}


@breaks("practice changes it")
class Crashes(Honest):
    def update(self, *_: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


@breaks("every weight is trained")
class UnusedLayer(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(3, 5)


@breaks("as many steps as given")
class HalfTheSteps(Honest):
    def enough(self, steps: int) -> int:
        return steps // 2


@breaks("as many steps as given")
class ARoundTooMany(Honest):
    def enough(self, steps: int) -> int:
        return steps + ROUND * 7


@breaks("as many steps as given")
class CountsOneSlot(Honest):
    def tell(self, practice: Practice, taken: int, metrics: Any) -> None:
        practice.advance(taken // practice.env.num_envs, metrics)

    def enough(self, steps: int) -> int:
        return steps * 7


@breaks("bounds are kept in practice")
class PractisesBeyondTheBounds(Honest):
    def cut(self, place: Tensor) -> Tensor:
        return place


@breaks("practice follows from its seed")
class DrawsFromTheGlobalGenerator(Honest):
    def noise(self, place: Tensor, generator: Any) -> Tensor:
        return torch.randn(place.shape)


@breaks("it can be stopped")
class DeafToCtrlC(Honest):
    def tell(self, practice: Practice, taken: int, metrics: Any) -> None:
        try:
            practice.advance(taken, metrics)
        except Exception:
            self.deaf = True


@breaks("save and load")
class NormaliserOutsideTheState(Honest):
    def __init__(self) -> None:
        super().__init__()
        del self.mean
        self.mean = torch.zeros(2)


@breaks("practice goes on")
class ForgetsItsOptimiser(Honest):
    def learner_state(self) -> Any:
        return {}

    def load_learner_state(self, state: Any) -> None:
        pass


@breaks("practice goes on")
class StateThatNoCheckpointTakes(Honest):
    def learner_state(self) -> Any:
        return {"optimizer": self.optimizer}


@breaks("copies are apart")
class SharesItsCritic(Honest):
    def __deepcopy__(self, memo: Any) -> Any:
        memo[id(self.critic)] = self.critic
        memo.update({id(p): p for p in self.critic.parameters()})
        twin = Honest.__new__(type(self))
        twin.__dict__ = {key: copy.deepcopy(value, memo) for key, value in self.__dict__.items()}
        return twin


@breaks("it learns")
class WrongSign(Honest):
    def wanted(self, error: Tensor) -> Tensor:
        return -error


@breaks("ends make a difference")
class AnEndIsNone(Honest):
    def goal(self, outcome: Transition) -> Tensor:
        return super().goal(outcome._replace(terminated=outcome.terminated & False))


@breaks("ends make a difference")
class OutOfTimeIsTheEnd(Honest):
    def goal(self, outcome: Transition) -> Tensor:
        return super().goal(outcome._replace(terminated=outcome.terminated | outcome.truncated))


@breaks("out of time is not over")
class ValueOfTheNextEpisode(Honest):
    def goal(self, outcome: Transition) -> Tensor:
        return super().goal(outcome._replace(arrived=outcome.observation))


@breaks("acting leaves it as it is")
class NormaliserThatGoesOnWhileActing(Honest):
    def act(self, carry: Any, observation: Any, *told: Any, **draws: Any) -> Any:
        self.mean += 1e-6 * observation["x"].mean(0)
        return super().act(carry, observation, *told, **draws)


# ---- tests ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _short_lessons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "STEPS", 6_000)  # these learn quickly, or never
    monkeypatch.setattr(lessons, "PATIENCE", 6_000)


def test_an_honest_learner_has_every_property() -> None:
    policy = Honest()
    before, state = copy.deepcopy(policy.state_dict()), torch.get_rng_state()
    report = check_policy(policy, env())
    assert report.passed, report
    untried = {finding.name for finding in report.findings if not finding.tried}
    assert untried == {
        "memory is kept",
        "memory is used",
        "what was executed counts",
        "actions follow their frames",
        "imagined actions follow what is imagined",
        "the last value is that of the last state",
        "its exploring policy learns what is new",
        *named(PLANNING),
    }
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


EVERY = {**MUTANTS, **imaginers.MUTANTS}


@pytest.mark.parametrize("mutant", EVERY)
def test_a_mutant_fails_what_it_breaks_and_nothing_else(mutant: str) -> None:
    make, expected = EVERY[mutant]
    for group in (MANNERS, LESSONS, ACTING):  # the group of its cause: the others would show effects
        if expected <= named(group):
            report = examine(mutant, group, Practised(make(), env(), 0))
            expect_failures(report, expected)
            return
    raise AssertionError(expected)


def test_each_property_of_learning_is_broken_by_a_mutant() -> None:
    broken = MUTANTS.broken() | imaginers.MUTANTS.broken()
    tried_elsewhere = {"its exploring policy learns what is new"}
    assert broken | tried_elsewhere == named(LEARNING) | {"acting leaves it as it is"}


@pytest.mark.parametrize("late", [False, True], ids=["on time", "late"])
def test_a_reward_for_what_is_new_belongs_to_its_own_step(
    late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Disagreement.forward

    def forward(self: Disagreement, features: Tensor, action: Tensor) -> Tensor:
        reward = usual(self, features, action)
        return torch.cat([torch.zeros_like(reward[:, :1]), reward[:, :-1]], 1) if late else reward

    monkeypatch.setattr(Disagreement, "forward", forward)
    world = env()
    model = wmplay.make("model", "rssm", env=world, deter=7, stoch=3, hidden=7, image_hidden=7)
    small = {"hidden": 13, "layers": 1, "batch_size": 5, "length": 3, "horizon": 3, "ensemble": 3}
    policy = wmplay.make("policy", "plan2explore", env=world, model=model, **small)
    report = examine("plan2explore", LESSONS[-1:], Practised(policy, world, 0, model))
    assert (report.tried, report.passed) == (1, not late), report


@pytest.mark.parametrize("make", [imaginers.Imagines, imaginers.Foresees, imaginers.Clones])
def test_who_needs_no_env_is_lent_a_model_and_a_store(make: Any) -> None:
    report = check_policy(make(), env())
    assert report.passed, report
    tried = {finding.name for finding in report.findings if finding.tried}
    imagined = {"ends make a difference", "it learns", "it learns what frames tell", "over is over"}
    imagined |= {"imagined actions follow what is imagined"}
    learned = {
        imaginers.Imagines: imagined,
        imaginers.Foresees: imagined | {"the last value is that of the last state"},
        imaginers.Clones: {"actions follow their frames"},
    }[make]
    assert tried & named(LESSONS) == learned


def test_a_model_that_the_policy_holds_is_the_one_that_is_lent() -> None:
    world = env()
    model = wmplay.make("model", "mlp", env=world, hidden=5)
    before = copy.deepcopy(model.state_dict())
    group = (*MANNERS[:4], LESSONS[1])
    report = examine("imagines", group, Practised(imaginers.Imagines(model), world, 0, model))
    assert report.passed, report
    assert report.tried == len(group)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    down = examine("goes down", group, Practised(imaginers.GoesDown(model), world, 0, model))
    assert [finding.name for finding in down.failures] == ["it learns"]
