"""Manifests: the same unsolved starts for every policy, and two rules of success."""

import json
from dataclasses import replace

import numpy as np
import pytest
from few_settings import few_settings
from refusals import refused

from wmplay.contracts import env_spec
from wmplay.envs import make_env
from wmplay.errors import ConfigError
from wmplay.evaluation.manifest import draw_manifest, evaluation_env, score_manifest
from wmplay.simulation.blocks import simulate_blocks

LUXO = {"_piece_": "env/lcd", "world": "luxo", "task": "body_goal", "max_steps": 7, "physics": "fast"}
GYM = {"_piece_": "env/gym", "id": "Pendulum-v1"}


def settings(*, episodes=5, slots=64, seed=1000, env=LUXO, **changes):
    evaluate = {"seed": seed, "policy": {"episodes": episodes, "starts": "manifest"}}
    return few_settings(env={**env, **changes}, evaluate=evaluate, collect={"num_envs": slots})


@pytest.fixture(scope="module")
def easy():
    """Half of the starts are solved: a threshold near the median distance."""
    return settings(goal_threshold=0.35)


def first_frames(chosen, manifest, **how):
    episodes = simulate_blocks(evaluation_env(chosen), None, 5, resets=manifest.seeds, max_steps=1, **how)
    return [{key: values[0] for key, values in episode.observation.items()} for episode in episodes]


def test_a_manifest_is_the_same_for_any_number_of_slots_and_workers(easy):
    manifest = draw_manifest(easy)
    others = [settings(slots=slots, goal_threshold=0.35) for slots in (1, 2, 3)]
    others.append(replace(easy, collect=replace(easy.collect, num_workers=2)))
    assert all(draw_manifest(other) == manifest for other in others)
    frames = [first_frames(other, manifest) for other in (easy, *others)]
    for others_frames in frames[1:]:
        for one, other in zip(frames[0], others_frames, strict=True):
            assert all(np.array_equal(one[key], other[key]) for key in one)


def test_solved_starts_are_left_out(easy):
    manifest = draw_manifest(easy)
    assert len(manifest.seeds) == len(set(manifest.seeds)) == 5
    assert manifest.solved > 0
    task = env_spec(evaluation_env(easy)).task
    assert all(task.distance(frame) >= task.threshold for frame in first_frames(easy, manifest))
    few = draw_manifest(settings(episodes=3, goal_threshold=0.35))
    assert few.seeds == manifest.seeds[:3]
    assert few.solved <= manifest.solved
    assert draw_manifest(settings()).solved == 0  # at the published threshold hardly any


def test_a_digest_tells_worlds_seeds_and_goals_apart(easy):
    every = [easy, settings(), settings(seed=7), settings(episodes=4), settings(env=GYM)]
    every += [settings(world="urchin"), settings(physics="faithful"), settings(task=None)]
    assert len({draw_manifest(one).digest for one in every}) == len(every)
    assert draw_manifest(easy).digest == draw_manifest(easy).digest
    assert json.loads(json.dumps(draw_manifest(easy).content()))["seeds"] == draw_manifest(easy).seeds
    assert [draw_manifest(one).has_goal for one in (easy, settings(env=GYM))] == [True, False]


def test_a_task_that_is_always_solved_has_no_manifest():
    with refused(ConfigError, "0", expected="2", advice="goal_threshold"):
        draw_manifest(settings(episodes=2, goal_threshold=9.0))


def test_episodes_go_on_at_the_goal_and_both_rules_are_scored():
    chosen = settings(episodes=40, goal_threshold=0.15, max_steps=23)
    manifest, env = draw_manifest(chosen), evaluation_env(chosen)
    task = env_spec(env).task
    episodes = list(simulate_blocks(env, None, 40, resets=manifest.seeds))
    assert {len(episode) for episode in episodes} == {23}
    score = score_manifest(episodes, manifest, 1000, task)
    near = [task.distance(episode.observation)[1:] < task.threshold for episode in episodes]
    assert score.successes == [bool(each.any()) for each in near]
    assert score.held == [bool(each[-1]) for each in near]
    assert sum(score.held) < sum(score.successes) < 40  # so that the test can fail
    assert score.success_at_end.value == sum(score.held) / 40
    assert score.manifest == manifest.digest
    assert score.row()["success_at_end"] == score.success_at_end.value
    # the return and the length are those of an env that ends at the goal
    real = make_env("lcd", **{key: value for key, value in LUXO.items() if key != "_piece_"})
    real.task.threshold = 0.15
    for number in range(40):
        real.reset(seed=manifest.seeds[number])
        total, steps = 0.0, 0
        for action in episodes[number].action:
            _, reward, terminated, _, _ = real.step(action)
            total, steps = total + reward, steps + 1
            if terminated:
                break
        assert (score.lengths[number], score.successes[number]) == (steps, terminated)
        assert score.returns[number] == pytest.approx(total, abs=1e-4)


def test_without_a_distance_an_episode_is_scored_as_ever():
    chosen = settings(env=GYM, episodes=2)
    manifest = draw_manifest(chosen)
    episodes = list(simulate_blocks(evaluation_env(chosen), None, 2, resets=manifest.seeds, max_steps=3))
    score = score_manifest(episodes, manifest, 1000, None)
    assert (score.success, score.success_at_end, score.manifest) == (None, None, manifest.digest)
    assert score.lengths == [3, 3]
