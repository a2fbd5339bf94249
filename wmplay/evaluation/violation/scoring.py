"""Scoring of surprise: the share of pairs in which a model is more surprised by the impossible episode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from wmplay.contracts import Array, Belief, WorldModel, capabilities, featured, seen_by
from wmplay.envs.lcd.env import LcdEnv
from wmplay.evaluation.gallery import ShownPair, ShownPairs
from wmplay.evaluation.scores import MODEL, KindViolation, ViolationScore
from wmplay.evaluation.statistics import Interval, success_rate
from wmplay.evaluation.violation.pairs import EVENT, SCREEN, draw_pairs, kinds_of
from wmplay.evaluation.violation.stage import Filmed
from wmplay.nets.trees import repeat_rows

BATCH = 64  # episodes at once
LEAST = 1e-4  # probability of a pixel: a single impossible one has a surprise of 13 bits

Surprises: TypeAlias = Callable[[Sequence[Filmed]], Array]  # N episodes of T steps -> [N, T]


def evaluate_violation(
    model: WorldModel,
    env: LcdEnv,
    pairs: int = 200,
    *,
    untrained: WorldModel | None = None,
    draws: int = 8,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[ViolationScore, ShownPairs] | None:
    """Score a model by its surprise in matched pairs of every kind that the env's world has.

    Baselines are the same model untrained, and the number of pixels that change in a step. The oracle knows
    the possible episode: its surprise is the number of pixels that differ from it.

    Args:
        model: one that predicts the screen, or one that has features.
        env: of an LCD world with such kinds.
        pairs: of each kind, even.
        untrained: the same model with first weights.
        draws: of the model's next frame, whose mean is its prediction; 0 = its most likely next frame.
        seed: of the pairs and the draws.
        device: of the models.

    Returns:
        The score, and one pair of each kind to look at; None in a world without such kinds.
    """
    predictors: dict[str, Surprises] = {MODEL: lambda films: surprise_of(model, films, draws, seed, device)}
    if untrained is not None:
        predictors["untrained"] = lambda films: surprise_of(untrained, films, draws, seed, device)
    predictors["pixel difference"] = changed_pixels
    kinds, shown = dict[str, KindViolation](), dict[str, ShownPair]()
    for kind in kinds_of(env):
        found = draw_pairs(env, kind, pairs, seed)
        films = [each.possible for each in found], [each.impossible for each in found]
        surprises = {name: (of(films[0]), of(films[1])) for name, of in predictors.items()}
        surprises["oracle"] = np.zeros_like(surprises[MODEL][0]), _unlike(*films)
        accuracy = {name: _accuracy(*each) for name, each in surprises.items()}
        kinds[kind.name] = KindViolation(kind.what, len(found), accuracy)
        screens = [film.observation[SCREEN] for film in (found[0].possible, found[0].impossible)]
        shown[kind.name] = ShownPair(np.stack(screens), np.stack([each[0] for each in surprises[MODEL]]))
    if not kinds:
        return None
    return ViolationScore("bits" if _predicts_screen(model) else "latent distance", EVENT, kinds), shown


def _accuracy(possible: Array, impossible: Array) -> Interval:
    """Return the share of pairs in which the surprise [N, T] after the event is larger where impossible."""
    before, after = (each[:, EVENT:].sum(1) for each in (possible, impossible))
    wins = float((after > before).sum() + (after == before).sum() / 2)
    interval = success_rate(round(wins), len(before))
    return interval._replace(value=wins / len(before))


def changed_pixels(films: Sequence[Filmed]) -> Array:
    """Return the numbers [N, T] of pixels that change in each step."""
    screens = np.stack([film.observation[SCREEN] for film in films]) > 0
    changed: Array = (screens[:, 1:] != screens[:, :-1]).sum((2, 3))
    return changed


def _unlike(possible: Sequence[Filmed], impossible: Sequence[Filmed]) -> Array:
    one, other = (
        np.stack([film.observation[SCREEN] for film in films]) > 0 for films in (possible, impossible)
    )
    unlike: Array = (one != other)[:, 1:].sum((2, 3))
    return unlike


@torch.no_grad()
def surprise_of(
    model: WorldModel,
    films: Sequence[Filmed],
    draws: int = 8,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Array:
    """Return a model's surprise [N, T] at each step, given all frames before it.

    It is the number of bits of a binary screen under the mean of ``draws`` predicted ones. For a model that
    predicts no screen, it is the distance of the predicted features from those of the frame.
    """
    generator = torch.Generator(device).manual_seed(seed)
    found = []
    for start in range(0, len(films), BATCH):
        some = films[start : start + BATCH]
        frames = _tensors(
            {key: np.stack([film.observation[key] for film in some]) for key in some[0].observation}
        )
        frames = {key: value.to(device) for key, value in seen_by(model, frames).items()}
        action = torch.from_numpy(np.stack([film.action for film in some])).to(device)
        found.append(_surprises(model, frames, action, draws, generator))
    return torch.cat(found).cpu().numpy()


def _surprises(
    model: WorldModel, frames: Mapping[str, Tensor], action: Tensor, draws: int, generator: torch.Generator
) -> Tensor:
    belief = model.initial({key: value[:, 0] for key, value in frames.items()})
    of_step = _bits if _predicts_screen(model) else _latent_distance
    steps = []
    for step in range(action.shape[1]):
        taken = action[:, step : step + 1]
        arrived = {key: value[:, step + 1 : step + 2] for key, value in frames.items()}
        after = model.observe(belief, taken, arrived)
        steps.append(of_step(model, belief, taken, after, arrived, draws, generator))
        belief = after
    return torch.stack(steps, 1)


def _bits(
    model: WorldModel,
    belief: Belief,
    action: Tensor,
    after: Belief,
    arrived: Mapping[str, Tensor],
    draws: int,
    generator: torch.Generator,
) -> Tensor:
    """Return the bits [B] of a screen under the mean of several predicted ones."""
    times = max(draws, 1)
    prediction = model.predict(
        repeat_rows(belief, times),
        action.repeat_interleave(times, dim=0),
        generator=generator if draws else None,
    )
    expected = prediction.observation[SCREEN][:, 0].double()
    p = expected.reshape(-1, times, *expected.shape[1:]).mean(1).clamp(LEAST, 1 - LEAST)
    lit = arrived[SCREEN][:, 0] > 0
    return -torch.where(lit, p, 1 - p).log2().flatten(1).sum(1)


def _latent_distance(
    model: WorldModel,
    belief: Belief,
    action: Tensor,
    after: Belief,
    arrived: Mapping[str, Tensor],
    draws: int,
    generator: torch.Generator,
) -> Tensor:
    """Return the distances [B] of the most likely next features from those of the frame."""
    features = featured(model, "violation of expectation").features
    return (features(model.predict(belief, action).belief) - features(after)).square().sum(-1).sqrt()


def _predicts_screen(model: WorldModel) -> bool:
    predicted = capabilities(model).predicted
    return predicted is None or SCREEN in predicted


def _tensors(arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in arrays.items()}
