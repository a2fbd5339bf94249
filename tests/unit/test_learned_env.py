"""A learned world with the true rule in it is the real one; the rest follows from the config."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import vector as wrappers
from learned_push import N, drawn, learned, play, starts
from push import CONTINUOUS, DISCRETE, STEPS, Fixed, Push, Reach, Truth, vector
from refusals import refused
from torch import Tensor

import wmplay
from wmplay.envs.learned.env import LearnedVectorEnv
from wmplay.errors import ActionError, ConfigError

# ---- the same as the real one --------------------------------------------------------------------


@pytest.mark.parametrize("context", [1, 3])
@pytest.mark.parametrize("actions", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
def test_with_the_true_rule_it_is_the_real_env_step_by_step(context: int, actions: Any) -> None:
    """Real envs are put where each imagined episode begins, and then do the same."""
    env = learned(context=context, actions=actions)
    pool = {key: value.numpy() for key, value in starts(context=context, actions=actions).observation.items()}
    real = [Push(actions) for _ in range(N)]

    def begin(row: int, seen: dict[str, Any]) -> None:
        (which,) = np.flatnonzero((pool["x"][:, -1] == seen["x"][row]).all(-1))
        x, goal = pool["x"][which], pool["goal_x"][which, -1]
        assert np.array_equal(seen["goal_x"][row], goal), "the goal is the start's own"
        v = (x[-1] - x[-2]) / 2 if context > 1 else np.zeros(2, np.float32)
        shown, _ = real[row].reset(options={"state": (x[-1], v, goal)})
        assert data_equivalence({key: seen[key][row] for key in seen}, shown, exact=True)

    observation, _ = env.reset(seed=1)
    for row in range(N):
        begin(row, observation)
    ends = {"terminated": 0, "truncated": 0}
    for action in drawn(env, 61):
        observation, reward, terminated, truncated, info = env.step(action)
        for row in range(N):
            shown, *expected, _ = real[row].step(action[row])
            assert [reward[row], terminated[row], truncated[row]] == pytest.approx(expected, abs=1e-6)
            over = bool(terminated[row] or truncated[row])
            seen = {key: value[row] for key, value in observation.items()}
            if over:
                assert info["_final_obs"][row]
                seen = info["final_obs"][row]
                begin(row, observation)
            else:
                assert "_final_obs" not in info or not info["_final_obs"][row]
            assert data_equivalence(seen, shown, exact=True)
        ends = {
            "terminated": ends["terminated"] + terminated.sum(),
            "truncated": ends["truncated"] + truncated.sum(),
        }
    assert all(number > 3 for number in ends.values())


def test_what_it_says_has_the_form_of_what_gymnasium_says() -> None:
    env, real = learned(), vector()
    assert isinstance(env, VectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    for name in ("single_observation_space", "observation_space", "single_action_space", "action_space"):
        assert getattr(env, name) == getattr(real, name)
    for ours, theirs in zip(play(env), play(real), strict=True):
        assert env.observation_space.contains(ours[0])
        for mine, its in zip(ours[1:-1], theirs[1:-1], strict=True):
            assert (mine.dtype, mine.shape) == (its.dtype, its.shape)
        for key, value in ours[0].items():
            assert (value.dtype, value.shape) == (theirs[0][key].dtype, theirs[0][key].shape)
        if "final_obs" in ours[-1]:
            ended = ours[2] | ours[3]
            assert (ours[-1]["_final_obs"] == ended).all()
            assert ours[-1]["final_obs"].dtype == object
            for row, last in enumerate(ours[-1]["final_obs"]):
                assert last is None or env.single_observation_space.contains(last)
                assert (last is None) == (not ended[row])
    finals = [
        set(each[-1][-1]) for each in ([s for s in play(e) if "final_obs" in s[-1]] for e in (env, real))
    ]
    assert finals[0] == finals[1]


def test_the_same_seed_gives_the_same_numbers_and_another_does_not() -> None:
    env = learned(Truth(noise=0.1))
    first, again, other = (play(env, seed) for seed in (1, 1, 2))
    assert data_equivalence(first, again, exact=True)
    assert not data_equivalence(first, other)
    assert data_equivalence(first, play(learned(Truth(noise=0.1))), exact=True), "the seed says it all"
    assert data_equivalence(env.reset(seed=[1, 2, 3, 4, 5]), env.reset(seed=[1, 2, 3, 4, 5]))
    env.reset(seed=1)
    env.step(env.action_space.sample())
    env.reset()
    going_on = [env.step(action) for action in drawn(env, 17)]
    assert not data_equivalence(going_on, first[1:]), "without a seed the draws go on"
    state = torch.get_rng_state()
    play(env)
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left alone"


def test_what_it_returned_stays_as_it_was() -> None:
    env = learned()
    observation, _ = env.reset(seed=1)
    kept = {key: value.copy() for key, value in observation.items()}
    for value in observation.values():
        value[:] = 0
    for action in drawn(env, 2):
        env.step(action)
    env.reset(seed=1)
    assert data_equivalence(env.reset(seed=1)[0], kept, exact=True)


def test_gymnasiums_wrappers_work_on_it() -> None:
    env = wrappers.RecordEpisodeStatistics(learned())
    returns, finished = np.zeros(N), []
    env.reset(seed=1)
    for action in drawn(env, 31):
        _, reward, terminated, truncated, info = env.step(action)
        returns += reward
        for row in np.flatnonzero(terminated | truncated):
            assert info["episode"]["r"][row] == pytest.approx(returns[row])
            assert 1 <= info["episode"]["l"][row] <= STEPS
            finished.append(row)
        returns[terminated | truncated] = 0
    assert len(finished) > 20


def test_gymnasiums_tensor_wrapper_works_on_it() -> None:
    pytest.importorskip("array_api_compat", reason="Gymnasium's conversion of arrays needs it")
    torch_env = wrappers.NumpyToTorch(learned(), device="cpu")
    observation, _ = torch_env.reset(seed=1)
    expected = play(learned())
    assert data_equivalence({key: value.numpy() for key, value in observation.items()}, expected[0][0])
    for action, (seen, reward, *_) in zip(drawn(torch_env, 17), expected[1:], strict=True):
        observation, rewards, *_ = torch_env.step(torch.from_numpy(action))
        assert isinstance(observation["x"], Tensor)
        assert np.array_equal(observation["x"].numpy(), seen["x"])
        np.testing.assert_allclose(rewards.numpy(), reward, rtol=1e-6)


def test_gymnasiums_wrappers_of_what_is_seen_and_told_work_on_it() -> None:
    twice = wrappers.TransformReward(learned(), lambda reward: 2 * reward)
    unit = wrappers.RescaleAction(twice, np.float32(-1), np.float32(1))
    unit.reset(seed=1)
    for action, expected in zip(drawn(learned(), 17), play(learned())[1:], strict=True):
        scaled = (action - [0, 1]) / 2
        seen, reward, *_ = unit.step(scaled.astype(np.float32))
        np.testing.assert_allclose(seen["x"], expected[0]["x"], atol=1e-5)
        np.testing.assert_allclose(reward, 2 * expected[1], atol=1e-5)
    listed = wrappers.DictInfoToList(learned())
    listed.reset(seed=1)
    infos = [listed.step(action)[-1] for action in drawn(listed, 17)]
    assert any("final_obs" in each for info in infos for each in info)


def test_simulate_cannot_tell() -> None:
    env = learned(Truth(noise=0.05))
    trajectories = wmplay.simulate(env, None, episodes=11, seed=7)
    again = wmplay.simulate(env, None, episodes=11, seed=7)
    assert len(trajectories) == 11
    assert {len(trajectory) for trajectory in trajectories} >= {STEPS}
    for trajectory, same in zip(trajectories, again, strict=True):
        assert data_equivalence(vars(trajectory), vars(same), exact=True)
        assert set(trajectory.observation) == {"lcd", "x", "goal_x"}
        assert (trajectory.observation["goal_x"] == trajectory.observation["goal_x"][0]).all()
        was, now = (
            {key: value[step] for key, value in trajectory.observation.items()}
            for step in (slice(-1), slice(1, None))
        )
        reward, terminated = Reach().reward_and_terminated(was, now)
        np.testing.assert_allclose(trajectory.reward, reward, atol=1e-6)
        assert (trajectory.terminated == terminated).all()
        assert len(trajectory) <= STEPS
        assert trajectory.truncated[-1] == (len(trajectory) == STEPS)


def test_nothing_is_decoded_that_nobody_looks_at() -> None:
    env = learned(Truth(blind=True))
    env.reset_tensors(seed=1)
    ended = 0
    for action in drawn(env, 17):
        transition = env.step_tensors(torch.from_numpy(action))
        assert transition.observation["x"].shape == transition.arrived["goal_x"].shape == (N, 2)
        ended += int((transition.terminated | transition.truncated).sum())
    assert ended > N
    with pytest.raises(AssertionError, match="nobody asked for the screen"):
        _ = transition.observation["lcd"]
    with pytest.raises(AssertionError, match="nobody asked for the screen"):
        env.step(action)


def test_tensors_and_arrays_say_the_same() -> None:
    env = learned(Truth(noise=0.1))
    expected = play(env)
    observation = env.reset_tensors(seed=1)
    for action, (seen, *outcome, info) in zip(drawn(env, 17), expected[1:], strict=True):
        arrived, observation, *tensors = env.step_tensors(torch.from_numpy(action))
        assert [x.dtype for x in tensors] == [torch.float32, torch.bool, torch.bool]
        assert not any(x.requires_grad for x in tensors)
        assert all(np.array_equal(observation[key].numpy(), seen[key]) for key in seen)
        for ours, theirs in zip(tensors, outcome, strict=True):
            assert np.array_equal(ours.numpy(), theirs.astype(ours.numpy().dtype))
        for row in np.flatnonzero(info.get("_final_obs", [])):
            assert all(np.array_equal(arrived[key][row].numpy(), info["final_obs"][row][key]) for key in seen)
    assert not observation["x"].requires_grad


def test_actions_of_another_shape_are_refused() -> None:
    env = learned()
    env.reset(seed=0)
    for actions in (np.zeros((N, 3), np.float32), np.zeros(2, np.float32), np.zeros((N + 1, 2), np.float32)):
        with refused(ActionError, "action", expected="[5, 2]"):
            env.step(actions)
        with refused(ActionError, "action", expected="[5, 2]"):
            env.step_tensors(torch.from_numpy(actions))


def test_discrete_spaces_are_drawn_from() -> None:
    assert isinstance(DISCRETE, Discrete)
    env = learned(actions=DISCRETE)
    _, observation, *_ = env.reset_tensors(0), env.step_tensors(torch.tensor([0, 1, 2, 3, 4]))
    assert observation.reward.shape == (N,)


def test_making_one_changes_nothing() -> None:
    env = Push()
    env.action_space = Box(-1, 1, (2,), np.float32)
    env.action_space.seed(1)
    expected = env.action_space.sample()
    env.action_space.seed(1)
    LearnedVectorEnv(Truth(), env, starts(), N)
    assert np.array_equal(env.action_space.sample(), expected), "nobody draws from the real env's space"


def test_a_model_that_does_not_predict_all_that_the_env_shows() -> None:
    """What it shows is less, then, and its spaces say so."""
    env = learned(Truth(keys=("x",)))
    assert set(env.single_observation_space.spaces) == {"x", "goal_x"}
    for seen, *_ in play(env):
        assert env.observation_space.contains(seen)
    with pytest.raises(KeyError):
        env.reset_tensors(0)["lcd"]


# ---- sampling ------------------------------------------------------------------------------------


def spread(temperature: float) -> float:
    env = learned(Truth(noise=0.01), num_envs=503, temperature=temperature)
    before = env.reset_tensors(seed=1)["x"]
    return float((env.step_tensors(torch.zeros(503, 2)).arrived["x"] - before).std())


def test_temperature_is_how_much_the_futures_spread() -> None:
    assert spread(0.0) == 0.0
    assert spread(1.0) == pytest.approx(0.01, rel=0.15)
    assert spread(3.0) == pytest.approx(3 * spread(1.0), rel=0.02)


def test_temperature_0_is_the_most_likely_future() -> None:
    assert data_equivalence(play(learned(Truth(noise=0.1), temperature=0.0)), play(learned()), exact=True)


def test_a_temperature_that_cannot_be_is_refused() -> None:
    for temperature in (0, 1):
        learned(Fixed(noise=0.1), temperature=temperature)
    with refused(ConfigError, "Fixed", advice=("learned.temperature", "1", "0")):
        learned(Fixed(), temperature=0.5)
    with refused(ConfigError, "learned.temperature", got=-1, expected="0"):
        learned(temperature=-1)
