"""Scoring of surprise: where a model is more surprised by impossible episodes than by possible ones.

A possible episode may cost more bits than an impossible one by itself: a body in motion more than an empty
screen. In a set of two pairs that exchange their endings, the possible and the impossible episodes have the
same beginnings and the same endings, so that only the model's memory decides (the relative score of IntPhys,
Riochet et al. 2018, arXiv 1803.07616).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from wmplay.contracts import Array, Belief, Segment, WorldModel, capabilities, featured, seen_by
from wmplay.envs.lcd.env import LcdEnv
from wmplay.evaluation.gallery import ShownPair, ShownPairs
from wmplay.evaluation.scores import MODEL, KindViolation, ViolationScore
from wmplay.evaluation.statistics import Interval, success_rate
from wmplay.evaluation.violation.pairs import EVENT, SCREEN, draw_pairs, kinds_of
from wmplay.evaluation.violation.stage import Filmed

BATCH = 64  # episodes at once
LEAST = 1e-4  # probability of a pixel: a single impossible one has a surprise of 13 bits
DRAWS = 8  # of a bound that is itself a draw

Surprises: TypeAlias = Callable[[Sequence[Filmed]], Array]  # N episodes of T steps -> [N, T]


def evaluate_violation(
    model: WorldModel,
    env: LcdEnv,
    pairs: int = 200,
    *,
    untrained: WorldModel | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[ViolationScore, ShownPairs] | None:
    """Score a model by its surprise in matched pairs of every kind that the env's world has.

    Baselines are the same model untrained, and the number of pixels that change in a step. The oracle knows
    the possible episode: its surprise is the number of pixels that differ from it.

    Args:
        model: one that predicts the screen, or one that has features.
        env: of an LCD world with such kinds.
        pairs: of each kind; one more if odd.
        untrained: the same model with first weights.
        seed: of the pairs and of the bounds' draws.
        device: of the models.

    Returns:
        The score, and one pair of each kind for the report; None in a world without such kinds.
    """
    predictors: dict[str, Surprises] = {MODEL: lambda films: surprise_of(model, films, seed, device)}
    if untrained is not None:
        predictors["untrained"] = lambda films: surprise_of(untrained, films, seed, device)
    predictors["pixel difference"] = changed_pixels
    kinds, shown = dict[str, KindViolation](), dict[str, ShownPair]()
    for kind in kinds_of(env):
        found = draw_pairs(env, kind, pairs, seed)
        films = [each.possible for each in found], [each.impossible for each in found]
        surprises = {name: (of(films[0]), of(films[1])) for name, of in predictors.items()}
        surprises["oracle"] = np.zeros_like(surprises[MODEL][0]), _unlike(*films)
        after = {
            name: (one[:, EVENT:].sum(1), other[:, EVENT:].sum(1)) for name, (one, other) in surprises.items()
        }
        kinds[kind.name] = KindViolation(
            kind.what,
            len(found),
            {name: _accuracy(*each) for name, each in after.items()},
            {name: _accuracy(*map(_in_sets, each)) for name, each in after.items()},
        )
        screens = [film.observation[SCREEN] for film in (found[0].possible, found[0].impossible)]
        shown[kind.name] = ShownPair(np.stack(screens), np.stack([each[0] for each in surprises[MODEL]]))
    if not kinds:
        return None
    return ViolationScore(_unit(model), EVENT, kinds), shown


def _in_sets(surprise: Array) -> Array:
    """Return the surprise [N / 2] of the episodes of two pairs that exchange their endings."""
    of_sets: Array = surprise.reshape(-1, 2).sum(1)
    return of_sets


def _accuracy(possible: Array, impossible: Array) -> Interval:
    """Return the share of [N] in which the surprise is larger where impossible; ties count one half."""
    wins = float((impossible > possible).sum() + (impossible == possible).sum() / 2)
    interval = success_rate(round(wins), len(possible))
    return interval._replace(value=wins / len(possible))


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
    model: WorldModel, films: Sequence[Filmed], seed: int = 0, device: torch.device | str = "cpu"
) -> Array:
    """Return a model's surprise [N, T] at each step, given all frames before it.

    It is the model's own likelihood of the screen in bits, or a bound, averaged over ``DRAWS`` draws; without
    one, the bits of the screen under its most likely prediction. For a model that predicts no screen, it is
    the distance of the predicted features from those of the frame.
    """
    own, found = capabilities(model).surprise, list[Tensor]()
    with torch.random.fork_rng(devices=[device] if torch.device(device).type == "cuda" else []):
        torch.manual_seed(seed)
        for start in range(0, len(films), BATCH):
            segment = seen_by(model, _segment(films[start : start + BATCH]).to(device))
            if own is None or not _predicts_screen(model):
                found.append(_step_by_step(model, segment))
                continue
            answers = [own(segment)]
            while answers[0].kind == "bound" and len(answers) < DRAWS:
                answers.append(own(segment))
            found.append(torch.stack([each.nats for each in answers]).mean(0) / math.log(2))
    return torch.cat(found).double().cpu().numpy()


def _step_by_step(model: WorldModel, segment: Segment) -> Tensor:
    """Return the surprise [N, T] of a model without a likelihood."""
    frames, steps = segment.observation, list[Tensor]()
    belief = model.initial({key: value[:, 0] for key, value in frames.items()})
    of_step = _bits if _predicts_screen(model) else _latent_distance
    for step in range(segment.action.shape[1]):
        taken = segment.action[:, step : step + 1]
        arrived = {key: value[:, step + 1 : step + 2] for key, value in frames.items()}
        after = model.observe(belief, taken, arrived)
        steps.append(of_step(model, belief, taken, after, arrived))
        belief = after
    return torch.stack(steps, 1)


def _bits(
    model: WorldModel, belief: Belief, action: Tensor, after: Belief, arrived: Mapping[str, Tensor]
) -> Tensor:
    """Return the bits [N] of a screen under the most likely prediction."""
    p = model.predict(belief, action).observation[SCREEN][:, 0].double().clamp(LEAST, 1 - LEAST)
    lit = arrived[SCREEN][:, 0] > 0
    return -torch.where(lit, p, 1 - p).log2().flatten(1).sum(1)


def _latent_distance(
    model: WorldModel, belief: Belief, action: Tensor, after: Belief, arrived: Mapping[str, Tensor]
) -> Tensor:
    """Return the distances [N] of the most likely next features from those of the frame."""
    features = featured(model, "violation of expectation").features
    return (features(model.predict(belief, action).belief) - features(after)).square().sum(-1).sqrt()


def _unit(model: WorldModel) -> str:
    """Return the unit of a model's surprise."""
    return "bits" if _predicts_screen(model) else "latent distance"


def _predicts_screen(model: WorldModel) -> bool:
    predicted = capabilities(model).predicted
    return predicted is None or SCREEN in predicted


def _segment(films: Sequence[Filmed]) -> Segment:
    """Return whole episodes as a batch."""
    action = torch.from_numpy(np.stack([film.action for film in films]))
    no = torch.zeros(action.shape[:2])
    frames = {
        key: torch.from_numpy(np.stack([film.observation[key] for film in films]))
        for key in films[0].observation
    }
    return Segment(frames, action, no, no > 0, no == 0, torch.ones(len(films), dtype=torch.bool))
