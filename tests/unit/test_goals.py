"""A model is shown the task's goals if it says so, by everybody who calls it; any other model never is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gymnasium.spaces import Dict
from learned_push import drawn, learned, play, starts
from push import CONTINUOUS, SPACES, Push, Truth
from torch import Tensor, nn

from wmplay.check.fixtures.fitted_model import Trial
from wmplay.config import catalogue
from wmplay.contracts import Prediction, Segment, Surprise, capabilities, seen_by
from wmplay.evaluation.clips import cut_clips
from wmplay.evaluation.metrics.prediction import evaluate_prediction
from wmplay.evaluation.metrics.surprise import evaluate_surprise
from wmplay.loop.fitter import Fitter
from wmplay.loop.rehearsal import _predict
from wmplay.models.ensemble import Ensemble
from wmplay.objectives import SumOfRewards
from wmplay.planners.random_shooting import RandomShooting
from wmplay.policies.mpc import MPC
from wmplay.simulation import observe, simulate

CPU = torch.device("cpu")
told: list[set[str]] = []  # the keys of each observation that a model was shown


class Plain(Truth):
    """Notes what it is shown."""

    def initial(self, observation: Any) -> Any:
        told.append(set(observation))
        return super().initial({key: observation[key] for key in SPACES})

    def observe(self, belief: Any, action: Tensor, observation: Any) -> Any:
        told.append(set(observation))
        return {"x": observation["x"][:, -1], "v": torch.zeros_like(belief["v"])}

    def predict(self, belief: Any, action: Tensor, *, generator: Any = None, **spread: Any) -> Prediction:
        future = super().predict(belief, action, generator=generator)
        nothing = 0 * action[..., 0]
        return Prediction(future.latent, nothing, nothing + 1, future.belief, self.decode)

    def loss(self, segment: Segment) -> Any:
        told.append(set(segment.observation))
        return (self.push - 0.3).square(), {}

    def surprise(self, segment: Segment) -> Surprise:
        told.append(set(segment.observation))
        return Surprise(0 * segment.reward, "exact")


class Wanting(Plain):
    """Keeps the goal in its belief, and predicts how near it comes."""

    goals = True

    def initial(self, observation: Any) -> Any:
        return {**super().initial(observation), "goal": observation["goal_x"]}

    def observe(self, belief: Any, action: Tensor, observation: Any) -> Any:
        assert torch.equal(belief["goal"], observation["goal_x"][:, 0])
        return {**belief, **super().observe(belief, action, observation)}

    def move(self, belief: Any, action: Tensor) -> Any:
        return {**belief, **super().move(belief, action)}

    def predict(self, belief: Any, action: Tensor, *, generator: Any = None, **spread: Any) -> Prediction:
        future = super().predict(belief, action)
        near = -(future.latent - belief["goal"].unsqueeze(1)).abs().sum(-1)
        return Prediction(future.latent, near, None, future.belief, self.decode)


def clips() -> Any:
    episodes = simulate(Push(), None, 13, seed=3, max_steps=5)
    return cut_clips([e for e in episodes if len(e) == 5], context=2, horizon=3)


def evaluated(model: Any) -> None:
    evaluate_prediction(model, clips())
    evaluate_surprise(model, clips())


def acts(model: Any) -> None:
    policy = MPC(model, RandomShooting(CONTINUOUS, horizon=3, candidates=5), SumOfRewards(), replan_every=1)
    simulate(Push(), policy, 2, seed=3)


CALLERS: dict[str, Callable[[Any], Any]] = {
    "the planner's policy": acts,
    "a learned env": lambda model: play(learned(model, context=3, reward="model"), steps=5),
    "the fitter": lambda model: Fitter(model, CPU, 1).update(starts(context=3), 0, (0, 1)),
    "observe": lambda model: observe(model, starts(context=3)),
    "the rehearsal": lambda model: _predict(Push(), model, CPU),
    "the check": lambda model: Trial(model, Push(max_steps=40), 0),
    "the evaluation": evaluated,
}


@pytest.mark.parametrize("model", [Plain, Wanting])
@pytest.mark.parametrize("who", CALLERS)
def test_goals_are_for_models_that_take_them(who: str, model: Callable[[], Any]) -> None:
    told.clear()
    CALLERS[who](model())
    assert told
    assert all(keys == ({*SPACES, "goal_x"} if model is Wanting else {*SPACES}) for keys in told)


def test_only_true_is_a_wish_for_goals() -> None:
    other = nn.Identity()
    other.goals = nn.Linear(2, 3)
    assert [capabilities(each).goals for each in (Wanting(), Plain(), other)] == [True, False, False]
    given = starts(count=2)
    assert set(seen_by(Wanting(), given).observation) == set(seen_by(Wanting(), given.observation))
    assert set(seen_by(other, given).observation) == set(seen_by(other, given.observation)) == {*SPACES}


@pytest.mark.parametrize("max_steps", [11, 2])
def test_a_learned_env_keeps_the_goal_in_its_observation_and_its_belief(max_steps: int) -> None:
    env = learned(Wanting(), context=3, reward="model", max_steps=max_steps)
    first, _ = env.reset(seed=1)
    for action in drawn(env, 5):
        seen, *_ = env.step(action)
        assert torch.equal(env.belief["goal"], torch.from_numpy(seen["goal_x"]))
        assert max_steps == 2 or (seen["goal_x"] == first["goal_x"]).all()


@pytest.mark.parametrize("choose", ["episode", "step"])
@pytest.mark.parametrize("model", [Plain, Wanting])
def test_members_of_an_ensemble_see_the_goal_in_what_they_imagine_too(
    choose: Any, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(catalogue._registered, ("model", "told"), lambda **run: model())
    space = Dict({**SPACES, "goal_x": SPACES["x"]})
    group = Ensemble(space, CONTINUOUS, of="told", members=3, choose=choose)
    told.clear()
    segment = starts(count=5, context=3)
    belief = observe(group, segment)
    future = group.predict(belief, torch.zeros(5, 2, 2), generator=torch.Generator().manual_seed(3))
    assert all(keys == ({*SPACES, "goal_x"} if model is Wanting else {*SPACES}) for keys in told)
    goal = segment.observation["goal_x"][:, 0]
    assert all(torch.equal(own["goal"], goal) for own in future.belief["members"] if model is Wanting)
