"""Violation of expectation: balanced pairs, and who is surprised by what."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refused

import wmplay
from wmplay.contracts import Prediction, Segment, Surprise
from wmplay.envs.lcd.env import LcdEnv
from wmplay.errors import RunError
from wmplay.evaluation import load_evaluation, save_evaluation
from wmplay.evaluation.gallery import load_pairs
from wmplay.evaluation.scores import flat
from wmplay.evaluation.violation import draw_pairs, evaluate_violation, kinds_of
from wmplay.evaluation.violation.pairs import EVENT, KINDS, SCREEN, STEPS, Kind
from wmplay.evaluation.violation.scoring import surprise_of
from wmplay.report.plots.violation import violation_plot
from wmplay.report.tables import model_grids

WORLDS = {kind.name: kind.world or "luxo" for kind in KINDS}
PAIRS = 10


def world(name: str) -> LcdEnv:
    env = wmplay.make_env(name).unwrapped
    assert isinstance(env, LcdEnv)
    return env


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_frames_and_their_differences_are_those_of_possible_episodes(kind: Kind) -> None:
    pairs = draw_pairs(world(WORLDS[kind.name]), kind, PAIRS, seed=3)
    assert len(pairs) == PAIRS
    single: dict[bool, list[bytes]] = {True: [], False: []}
    double: dict[bool, list[bytes]] = {True: [], False: []}
    for pair in pairs:
        for possible, film in ((True, pair.possible), (False, pair.impossible)):
            screens = [screen.tobytes() for screen in film.observation[SCREEN]]
            assert len(screens) == STEPS + 1
            single[possible] += screens
            double[possible] += [one + other for one, other in pairwise(screens)]
        before, after = slice(EVENT + 1), slice(EVENT + 1, None)
        first, second = pair.possible.observation[SCREEN], pair.impossible.observation[SCREEN]
        assert np.array_equal(first[before], second[before])
        assert not np.array_equal(first[after], second[after])
        assert np.array_equal(pair.possible.action, pair.impossible.action)
    assert sorted(single[True]) == sorted(single[False])
    assert sorted(double[True]) == sorted(double[False])


def test_kinds_belong_to_worlds() -> None:
    names = {
        name: [kind.name for kind in kinds_of(world(name))] for name in ("behind", "hidden_floor", "urchin")
    }
    assert [len(each) for each in names.values()] == [8, 4, 2]
    assert kinds_of(world("bounce")) == []
    shown = wmplay.make_env("behind", full_state=True).unwrapped
    assert isinstance(shown, LcdEnv)
    assert kinds_of(shown) == []  # vectors would show what the curtain hides


def test_pairs_follow_from_their_seed() -> None:
    env = world("hidden_floor")
    kind = kinds_of(env)[0]
    first, again, other = (draw_pairs(env, kind, 2, seed) for seed in (5, 5, 6))
    assert np.array_equal(first[0].impossible.observation[SCREEN], again[0].impossible.observation[SCREEN])
    assert not np.array_equal(first[0].possible.observation[SCREEN], other[0].possible.observation[SCREEN])


class Copies(torch.nn.Module):
    """A model that expects the next screen to be the last one; it remembers nothing else."""

    def initial(self, observation: dict[str, torch.Tensor]) -> torch.Tensor:
        return observation[SCREEN].float()

    def observe(
        self, belief: torch.Tensor, action: torch.Tensor, observation: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        return observation[SCREEN][:, -1].float()

    def predict(self, belief: torch.Tensor, action: torch.Tensor, *, generator: object = None) -> Prediction:
        return Prediction(belief[:, None], None, None, belief, lambda latent: {SCREEN: latent})


class Remembers(Copies):
    """A model that expects a body to come out of the curtain at the right if it went in at the left."""

    def initial(self, observation: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.stack([observation[SCREEN].float()] * 2, 1)

    def observe(
        self, belief: torch.Tensor, action: torch.Tensor, observation: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        return torch.stack([belief[:, 0], observation[SCREEN][:, -1].float()], 1)

    def predict(self, belief: torch.Tensor, action: torch.Tensor, *, generator: object = None) -> Prediction:
        first, last = belief[:, 0], belief[:, 1]
        visible = torch.maximum(last, 0.3 * first.flip(-1))  # where a body on the other side would be now
        return Prediction(visible[:, None], None, None, belief, lambda latent: {SCREEN: latent})


def test_who_remembers_nothing_is_right_half_the_time() -> None:
    found = evaluate_violation(Copies(), world("behind"), PAIRS)
    assert found is not None
    score, shown = found
    for name, kind in score.kinds.items():
        assert kind.pairs == PAIRS
        for shares in (kind.accuracy, kind.sets):
            assert shares["model"].value == 0.5
            assert shares["pixel difference"].value == 0.5
            assert shares["oracle"].value == 1.0
        assert shown[name].frames.shape == (2, STEPS + 1, 16, 32)
        assert shown[name].surprise.shape == (2, STEPS)


def test_who_remembers_is_surprised_where_a_body_vanishes() -> None:
    found = evaluate_violation(Remembers(), world("behind"), PAIRS, untrained=Copies())
    assert found is not None
    score = found[0]
    assert score.kinds["turns_back"].sets["model"].value > 0.9
    assert score.kinds["turns_back"].sets["untrained"].value == 0.5


class Weighs(Remembers):
    """A model that finds every lit pixel unlikely, and remembers a little."""

    def predict(self, belief: torch.Tensor, action: torch.Tensor, *, generator: object = None) -> Prediction:
        first = belief[:, 0].flatten(1)
        curtain = 16 * 12  # pixels that are always lit
        p = 0.01 + 1e-4 * (first.sum(1) - curtain).clamp(min=0)  # more, if a body was seen
        screens = p[:, None, None, None].expand(-1, 1, *belief.shape[2:])
        return Prediction(screens, None, None, belief, lambda latent: {SCREEN: latent})


def test_what_an_ending_costs_by_itself_cancels_in_sets() -> None:
    found = evaluate_violation(Weighs(), world("behind"), PAIRS)
    assert found is not None
    vanishes = found[0].kinds["vanishes"]
    assert vanishes.accuracy["model"].value == 0.5  # a body costs more than none, possible or not
    assert vanishes.sets["model"].value == 1.0


class Likely(Copies):
    """A model with a likelihood of its own: a screen costs a nat for each lit pixel, and a draw."""

    kind = "exact"

    def surprise(self, segment: Segment) -> Surprise:
        lit = segment.observation[SCREEN][:, 1:].float().sum((2, 3))
        return Surprise(lit + (torch.randn(()) if self.kind == "bound" else 0), self.kind)  # type: ignore[arg-type]


def test_surprise_is_the_likelihood_of_a_model_that_has_one() -> None:
    env = world("hidden_floor")
    films = [pair.possible for pair in draw_pairs(env, kinds_of(env)[0], 2)]
    lit = np.stack([film.observation[SCREEN][1:].sum((1, 2)) for film in films])
    assert np.allclose(surprise_of(Likely(), films), lit / np.log(2))
    bound = Likely()
    bound.kind = "bound"
    shift = surprise_of(bound, films) - lit / np.log(2)
    torch.manual_seed(0)
    assert np.allclose(
        shift, float(torch.stack([torch.randn(()) for _ in range(8)]).mean()) / np.log(2), atol=1e-3
    )
    assert np.array_equal(surprise_of(bound, films), surprise_of(bound, films))


def test_surprise_is_in_bits() -> None:
    env = world("luxo")
    (pair, _) = draw_pairs(env, kinds_of(env)[0], 2)

    class Even(Copies):
        def predict(
            self, belief: torch.Tensor, action: torch.Tensor, *, generator: object = None
        ) -> Prediction:
            return Prediction(belief[:, None] * 0 + 0.5, None, None, belief, lambda latent: {SCREEN: latent})

    assert np.allclose(surprise_of(Even(), [pair.possible]), 16 * 32)


def test_a_model_without_pictures_is_scored_by_its_features() -> None:
    env = world("luxo")
    torch.manual_seed(0)
    model = wmplay.make("model", "gru", env=env, image_hidden=13)
    model.predicted = ()
    found = evaluate_violation(model.eval(), env, 4)
    assert found is not None
    score = found[0]
    assert score.unit == "latent distance"
    assert all(0 <= kind.accuracy["model"].value <= 1 for kind in score.kinds.values())


def test_a_run_keeps_its_pairs_and_shows_them(tmp_path: Path) -> None:
    score = evaluate_violation(Copies(), world("hidden_floor"), 4)
    assert score is not None
    assert flat({"violation": score[0]})["violation/stays_down"] == 0.5
    save_evaluation(tmp_path, violation=score[0], pairs=score[1])
    loaded = load_evaluation(tmp_path)
    assert loaded is not None
    assert loaded.violation == score[0]
    assert loaded.numbers()["violation/stays_down"] == 0.5
    pairs = load_pairs(tmp_path)
    assert pairs.keys() == score[1].keys()
    figure = violation_plot(score[0], pairs)
    frames, surprise = figure.axes[:2]
    assert frames.get_xlim() == surprise.get_xlim()
    assert {tuple(image.get_extent()[:2]) for image in frames.images} >= {(-0.96, 0.96), (11.04, 12.96)}
    assert len(figure.axes) == 2 * len(pairs)
    (grid,) = model_grids(loaded)
    assert len(grid.rows) == len(pairs)
    (tmp_path / "violation.npz").write_bytes(b"PK")
    with refused(RunError):
        load_pairs(tmp_path)


def test_worlds_without_kinds_have_no_score() -> None:
    assert evaluate_violation(Copies(), world("bounce"), 2) is None
