"""Futures of recorded episodes, for an objective to score."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import gymnasium
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from wmplay.check.compare import claim, shown
from wmplay.check.fixtures.fitted_model import AHEAD, ROWS, record
from wmplay.check.report import Broken
from wmplay.contracts import GOAL_PREFIX, LazyMapping, Prediction, WorldModel, modelled, seen_by

FEATURES = 7  # size of a latent, whose content has no meaning
LONG = 11  # steps of a future whose rewards are weighed one by one


class Judged:
    """An objective, and ROWS futures of AHEAD steps for it to score, each with the goals of its own row."""

    def __init__(self, objective: Any, env: gymnasium.Env[Any, Any], seed: int, model: Any = None) -> None:
        self.objective, self.model = objective, model or _model_of(objective)
        self.unused = copy.deepcopy(objective)  # never called before
        segment, _ = record(env, seed, AHEAD, "an objective")
        generator = torch.Generator().manual_seed(seed)
        self.now = {
            key: value[:, 0] for key, value in segment.observation.items()
        }  # {key: [R, ...]}, goals included
        seen = modelled(segment.observation)
        self.frames = {
            key: _longer(value[:, 1:]).float() for key, value in seen.items()
        }  # {key: [R, LONG, ...]}
        self.reward = torch.randn(ROWS, LONG, generator=generator)
        self.discount = 0.5 + 0.5 * torch.rand(ROWS, LONG, generator=generator)
        self.latent: Any = torch.zeros(ROWS, LONG, FEATURES)
        self.belief: Any = self.latent[:, -1]
        if self.model is not None:
            with torch.no_grad():
                first = self.model.initial(seen_by(self.model, self.now))
                predicted = self.model.predict(first, _longer(segment.action))
            self.latent, self.belief = predicted.latent, predicted.belief

    def future(self, rows: Any = slice(None), horizon: int = AHEAD, **changed: Any) -> Prediction:
        """Return a prediction of some rows.

        ``reward``, ``discount``, ``frames`` and ``latent`` may be replaced.
        """
        frames = {**self.frames, **changed.get("frames", {})}
        heads = changed.get("reward", self.reward), changed.get("discount", self.discount)
        reward, discount = (None if x is None else x[rows, :horizon].clone() for x in heads)
        latent = tree_map(lambda x: x[rows, :horizon].clone(), changed.get("latent", self.latent))
        belief = tree_map(lambda x: x[rows].clone(), self.belief)

        def decode(latent: Any) -> Mapping[str, Tensor]:
            return LazyMapping(frames, lambda key: frames[key][rows, :horizon].clone())

        return Prediction(latent, reward, discount, belief, decode)

    def score(
        self,
        rows: slice = slice(None),
        now: dict[str, Tensor] | None = None,
        objective: Any = None,
        **changed: Any,
    ) -> Tensor:
        """Return the scores [R]. Raise Broken unless they are one finite float for each row."""
        seen = {key: value[rows].clone() for key, value in (self.now if now is None else now).items()}
        scores = (objective or self.objective)(self.future(rows, **changed), seen)
        expected = (len(self.reward[rows]),)
        if not isinstance(scores, Tensor) or tuple(scores.shape) != expected:
            raise Broken(
                f"of {expected[0]} futures the score is {shown(scores)}",
                f"return a float tensor {list(expected)}: a score for each future, summed over its steps",
            )
        if not scores.is_floating_point() or not scores.isfinite().all():
            raise Broken(f"the scores are {shown(scores)}, {scores.tolist()}", "return finite floats")
        return scores

    @cached_property
    def weights(self) -> Tensor:
        """The change of scores by 1 more of each step's reward, [R, LONG] float64, if no episode ends."""
        heads: dict[str, Any] = {"discount": torch.ones_like(self.discount).double(), "horizon": LONG}
        reward = self.reward.double()
        usual = self.score(reward=reward, **heads)
        more = [reward + torch.nn.functional.one_hot(torch.tensor(step), LONG) for step in range(LONG)]
        weights = torch.stack([self.score(reward=each, **heads) - usual for each in more], 1)
        return weights.double()

    @cached_property
    def observed(self) -> Tensor:
        """For each step, True if another observation in it changes the score, [R, LONG]."""
        usual, changes = self.score(horizon=LONG), []
        for step in range(LONG):
            frames = {key: x.clone() for key, x in self.frames.items()}
            for x in frames.values():
                x[:, step] = x[:, step].roll(1, 0)
            changes.append(self.score(frames=frames, horizon=LONG) != usual)
        return torch.stack(changes, 1)

    def discerns(self, **without: Any) -> bool:
        """Return whether some futures have other scores, from a model that lacks some heads."""
        others: list[dict[str, Any]] = [
            {
                "frames": {key: value.flip(0) for key, value in self.frames.items()},
                "latent": tree_map(lambda x: x.flip(0), self.latent),
                "reward": self.reward.flip(0),
                "discount": self.discount.flip(0),
            },
            {"frames": self.at_the_goal},  # some score is paid only there
            *({"reward": torch.full_like(self.reward, reward)} for reward in (-100.0, 0.0, 1.0, 100.0)),
            *({"discount": torch.full_like(self.discount, discount)} for discount in (0.0, 1.0)),
        ]
        usual = self.score(**without)
        return any(not torch.equal(self.score(**{**other, **without}), usual) for other in others)

    def sensitive(self, **changed: Any) -> bool:
        """Return whether scores depend on the replaced parts."""
        return not torch.equal(self.score(**changed), self.score())

    @property
    def at_the_goal(self) -> dict[str, Tensor]:
        """Frames {key: [R, LONG, ...]} that show the goal in every step."""
        return {
            key: self.now[GOAL_PREFIX + key].float().unsqueeze(1).expand_as(frames)
            for key, frames in self.frames.items()
            if GOAL_PREFIX + key in self.now
        }

    @property
    def elsewhere(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Frames that are not at the goal in all steps, with a description of each."""
        goal = self.at_the_goal
        yield "elsewhere", {}
        yield "at the goal of another row", {key: x.roll(1, 0) for key, x in goal.items()}
        for key, x in goal.items():
            for other, y in goal.items():
                if other != key and x.shape == y.shape:
                    yield f"where '{key}' is at '{GOAL_PREFIX}{other}'", {**goal, key: y}

    @property
    def other_goals(self) -> dict[str, Tensor]:
        """The current observation with the goals of the next row."""
        return {key: x.roll(1, 0) if key.startswith(GOAL_PREFIX) else x for key, x in self.now.items()}


def _model_of(objective: Any) -> Any:
    """Return the world model among an objective's attributes, or None."""
    held = {**claim(objective, "__dict__", {}), **claim(objective, "_modules", {})}.values()
    return next((each for each in held if isinstance(each, WorldModel)), None)


def _longer(steps: Tensor) -> Tensor:
    """Return [R, LONG, ...], which repeats [R, AHEAD, ...]."""
    return steps[:, torch.arange(LONG) % AHEAD]
