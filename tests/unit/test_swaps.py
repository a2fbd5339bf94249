"""Swapping pieces of experiments: what was set for a piece falls away with it, and is told."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf
from refusals import refused

from wmplay import registry
from wmplay.config import loading, plugins, references
from wmplay.config.constructors import required
from wmplay.config.overrides import parse
from wmplay.config.settings import RUN_KEYS
from wmplay.config.swaps import Pieces, find_swaps
from wmplay.errors import ConfigError

PLUGIN = """
import wmplay

@wmplay.register("planner", "beam")
class Beam:
    def __init__(self, action_space, width: int = 5, horizon: int = 3):
        pass

@wmplay.register("env", "rooms")
class Rooms:
    def __init__(self, size: int = 4):
        pass

@wmplay.register("policy", "still")
class Still:
    def __init__(self, action_space):
        pass
"""
EXPERIMENT = """# @package _global_
defaults:
  - override /env: recorded
  - override /model: null
  - override /policy: null
env:
  data: somewhere
  keys: [a]
"""

config_of = functools.cache(registry.piece_config)
PIECES = [
    (kind, piece.name)
    for kind in registry.KINDS
    for piece in registry.pieces(kind)
    if piece.source == plugins.BUILT_IN
]
EXPERIMENTS = registry.names("experiment")


class_of = functools.cache(references.class_of)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiments = tmp_path / "plugins" / "mine" / "configs" / "experiment"
    experiments.mkdir(parents=True)
    (experiments.parent.parent / "__init__.py").write_text(PLUGIN)
    (experiments / "replayed.yaml").write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)


def composed(*overrides: str) -> tuple[DictConfig, list[str]]:
    lines: list[str] = []
    return OmegaConf.create(registry.compose(overrides, lines.append).config()), lines


def test_the_settings_of_a_swapped_piece_fall_away_and_its_own_are_the_defaults() -> None:
    config, lines = composed("experiment=tiny", "planner=beam")
    assert (config.planner.width, config.planner.horizon) == (5, 3)  # tiny has a horizon of 4
    (line,) = lines
    for key in ("planner.candidates", "planner.iterations", "planner.horizon", "planner=beam"):
        assert key in line


def test_what_the_user_sets_stays_and_is_checked_against_the_new_piece() -> None:
    assert composed("planner.horizon=7", "experiment=tiny", "planner=beam")[0].planner.horizon == 7
    with refused(ConfigError, got="iterations"):
        composed("experiment=tiny", "planner=beam", "planner.iterations=2")
    assert composed("experiment=tiny", "planner=beam", "~planner.iterations")[0].planner.width == 5


def test_what_the_user_sets_comes_after_what_stays_of_the_experiment() -> None:
    config, _ = composed(
        "experiment=tiny", "planner=beam", "fit.steps=7", "name='a b'", "~collect.env.max_steps"
    )
    assert (config.fit.steps, config.name, dict(config.collect.env)) == (7, "a b", {})
    assert config.env["task"] == composed("experiment=tiny")[0].env["task"]
    kept = composed("experiment=tiny", "planner=beam")[0]
    assert (kept.threads, dict(kept.collect.env)) == (1, dict(composed("experiment=tiny")[0].collect.env))


def test_nothing_falls_away_where_nothing_is_swapped() -> None:
    for same in ((), ("planner=cem",), ("model=mlp",), ("policy=mpc", "explorer=null")):
        config, lines = composed("experiment=tiny", *same)
        assert (config.planner.candidates, config.env.task, lines) == (8, "body_goal", [])
    assert composed("planner=beam") == (composed("planner=beam")[0], [])  # no experiment


def test_a_piece_of_the_same_class_keeps_them() -> None:
    config, lines = composed("experiment=tiny", "env=urchin")
    assert (config.env.world, config.env.task, config.collect.env.max_steps) == ("urchin", "body_goal", 30)
    config, more = composed("experiment=simulators", "model=rssm_small")
    assert (config.model.deter, config.model.reward_weight) == (
        composed("model=rssm_small")[0].model.deter,
        0.0,
    )
    assert lines == more == []


def test_with_the_env_go_its_overrides_and_the_objective_of_its_task() -> None:
    config, (line,) = composed("experiment=tiny", "env=rooms")
    assert dict(config.collect.env) == {}
    assert config.objective == composed()[0].objective
    for text in ("env.task", "env.physics", "collect.env.max_steps", "objective=sum_of_rewards"):
        assert text in line
    kept, _ = composed("experiment=tiny", "env=rooms", "objective=goal_distance", "collect.env.size=3")
    assert kept.collect.env == {"size": 3}
    assert kept.objective == composed("objective=goal_distance")[0].objective


def test_an_objective_that_is_of_no_env_stays() -> None:
    config, _ = composed("experiment=tdmpc2", "env=luxo", "env.task=body_goal")
    assert config.objective == composed("experiment=tdmpc2")[0].objective


def test_heads_that_an_experiment_does_without_are_there_for_an_objective_that_reads_them() -> None:
    assert composed("experiment=quickstart")[0].model.reward_weight == 0
    for swap in ("objective=sum_of_rewards", "env=rooms"):
        config, (line,) = composed("experiment=quickstart", swap)
        assert (config.model.reward_weight, config.model.continuation_weight) == (1, 1)
        assert "model.reward_weight" in line
    config, _ = composed("experiment=luxo_learned", "policy=mpc")  # which needs an objective
    assert config.model.reward_weight == 1
    for same in ("planner=random_shooting", "objective=goal_distance"):
        assert composed("experiment=quickstart", same)[0].model.reward_weight == 0
    kept = composed("experiment=quickstart", "objective=sum_of_rewards", "model.reward_weight=0.5")[0]
    assert kept.model.reward_weight == 0.5


def test_practice_in_the_model_of_an_env_without_a_task_has_its_reward_from_the_model() -> None:
    config, (line,) = composed("experiment=luxo_learned", "env=rooms")
    assert config.learned.reward == "model"
    assert (config.model.reward_weight, config.model.continuation_weight) == (1, 1)
    assert "learned.reward=model" in line
    for chosen in (
        ("experiment=luxo_learned", "env=urchin"),
        ("experiment=luxo_real", "env=rooms"),
        ("experiment=luxo_learned", "env=rooms", "learned.reward=task"),
    ):
        assert composed(*chosen)[0].learned.reward == "task"


def test_what_is_the_loops_own_stays() -> None:
    config, (line,) = composed("experiment=replayed", "env=rooms")
    assert config.env.data == "somewhere"
    assert "env.keys" in line
    assert "env.data" not in line


def test_a_piece_can_be_taken_out() -> None:
    for text in ("planner=null", "~planner"):
        config, (line,) = composed("experiment=tiny", text, "policy=random")
        assert config.planner is None
        assert "planner.candidates" in line


def test_a_policy_that_does_not_learn_has_no_practice() -> None:
    config, (line,) = composed("experiment=luxo_learned", "policy=still")
    assert config.improve == composed()[0].improve
    assert "improve.steps" in line
    assert composed("experiment=luxo_learned", "policy=sac")[0].improve.steps == 550000


def test_the_parts_that_a_new_piece_needs_come_with_it() -> None:
    config, (line,) = composed("experiment=replayed", "explorer=epsilon_greedy")
    default = composed("explorer=epsilon_greedy")[0]
    for kind in ("model", "planner", "objective", "policy"):
        assert config[kind] == default[kind]
    assert "policy=mpc" in line
    refused, _ = composed("experiment=replayed", "policy=mpc", "model=null")  # it was said
    assert refused.model is None


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_piece_goes_into_every_experiment(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own, settings = loading.experiment([f"experiment={experiment}"])
    monkeypatch.setattr(loading, "experiment", lambda overrides: (dict(own), settings))
    pieces = Pieces(RUN_KEYS, class_of)
    for kind, name in PIECES:
        swaps = find_swaps(parse([f"experiment={experiment}", f"{kind}={name}"]), pieces)
        old = own.get(kind)
        same = old is not None and class_of(kind, old) is class_of(kind, name)
        given = {key for key in settings.get(kind) or {} if key not in RUN_KEYS.get(kind, ())}
        assert {key for key in given if f"{kind}.{key}" not in swaps.fallen} == (given if same else set())
        after = own | {kind: name} | dict(text.split("=") for text in swaps.choices)
        assert all(after[part] for part in required(class_of(kind, name)) if part in registry.KINDS)
        assert len(swaps.lines) == bool(swaps.fallen or swaps.choices) <= 1


@pytest.mark.parametrize("kind", registry.KINDS)
def test_the_pieces_compose_within_an_experiment_of_another(kind: str) -> None:
    name = next(name for of, name in PIECES if of == kind)
    config, _ = composed("experiment=dyna_luxo", f"{kind}={name}")
    assert config[kind].items() >= config_of(kind, name).items()


def test_hydras_own_settings_are_no_part_of_a_swapped_experiment() -> None:
    swapped = ["experiment=quickstart", "model=rssm"]
    assert registry.compose([*swapped, "hydra.sweep.dir=x", "hydra/launcher=basic"]) == registry.compose(
        swapped
    )
