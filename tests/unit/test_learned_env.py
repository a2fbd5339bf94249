"""A learned world with the true rule in it is the real one; the rest follows from the config."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import vector as wrappers
from push import CONTINUOUS, DISCRETE, STEPS, Fixed, Push, Reach, Truth, vector
from small_models import ACTIONS, MODELS, OBSERVATIONS, make_model, seed_spaces, takes
from torch import Tensor, nn

import wmplay
from wmplay.contracts import Segment
from wmplay.envs.learned import LearnedVectorEnv
from wmplay.envs.starts import real_starts, stored_starts
from wmplay.errors import ActionError, ConfigError
from wmplay.nets.trees import take_rows

N = 5


def starts(count: int = 31, context: int = 1, seed: int = 3, **settings: Any) -> Segment:
    return real_starts(vector(**settings), count, context, seed)


def learned(
    model: Any = None, context: int = 1, actions: Any = CONTINUOUS, num_envs: int = N, **settings: Any
) -> LearnedVectorEnv:
    settings = {"precision": "float32", **settings}
    given = starts(context=context, actions=actions)
    return LearnedVectorEnv(Truth() if model is None else model, Push(actions), given, num_envs, **settings)


def drawn(env: Any, steps: int, seed: int = 11) -> list[Any]:
    env.action_space.seed(seed)
    return [env.action_space.sample() for _ in range(steps)]


def play(env: Any, seed: int = 1, steps: int = 17) -> list[Any]:
    """All that an env says."""
    return [env.reset(seed=seed), *[env.step(action) for action in drawn(env, steps)]]


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
        with pytest.raises(ActionError, match=rf"action has shape .*, expected \[{N}, 2\]"):
            env.step(actions)
        with pytest.raises(ActionError, match=rf"action has shape .*, expected \[{N}, 2\]"):
            env.step_tensors(torch.from_numpy(actions))


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
    with pytest.raises(
        ConfigError, match=r"Fixed has no temperature to set: leave learned.temperature at 1 or 0"
    ):
        learned(Fixed(), temperature=0.5)
    with pytest.raises(ConfigError, match=r"learned.temperature is -1, expected at least 0"):
        learned(temperature=-1)


# ---- where episodes begin ------------------------------------------------------------------------


@pytest.mark.parametrize("context", [1, 3])
def test_real_starts_are_the_beginnings_of_real_episodes(context: int) -> None:
    given = starts(count=31, context=context)
    assert {key: tuple(value.shape) for key, value in given.observation.items()} == {
        "lcd": (31, context, 5, 7),
        "x": (31, context, 2),
        "goal_x": (31, context, 2),
    }
    assert given.action.shape == (31, context - 1, 2)
    x = given.observation["x"]
    assert len(x[:, 0].unique(dim=0)) == 31
    assert len(given.observation["goal_x"][:, 0].unique(dim=0)) == 31
    moved = Truth().predict(Truth().initial({"x": x[:, 0]}), given.action).latent if context > 1 else x[:, 1:]
    assert torch.equal(moved, x[:, 1:]), "the actions are those between the frames"
    again = starts(31, context)
    assert torch.equal(given.action, again.action)
    assert all(torch.equal(value, again.observation[key]) for key, value in given.observation.items())
    assert not torch.equal(x, starts(31, context, seed=4).observation["x"])
    first, _ = vector().reset(seed=3)
    assert np.array_equal(x[:3, 0], first["x"][:3]), "the frames and goals of the env's own resets"
    assert np.array_equal(given.observation["goal_x"][:3, 0], first["goal_x"][:3])


def test_starts_without_an_end_in_them() -> None:
    task = Reach()
    task.radius = 0.5
    given = starts(count=97, context=4, task=task)
    now = {key: value[:, 1:] for key, value in given.observation.items()}
    _, terminated = task.reward_and_terminated(
        {key: value[:, :-1] for key, value in given.observation.items()}, now
    )
    assert not terminated.any()
    with pytest.raises(
        ConfigError, match=r"learned.context is 9: the env's episodes end before so many frames"
    ):
        starts(count=2, context=9)


@pytest.mark.parametrize("context", [1, 3])
def test_stored_starts_are_from_anywhere_with_goals_of_real_resets(context: int, tmp_path: Any) -> None:
    trajectories = wmplay.simulate(vector(), None, episodes=23, seed=5)
    store = wmplay.save_trajectories(trajectories, tmp_path / "store")
    goals = starts(count=13)
    given = stored_starts(store, goals, count=101, context=context, seed=2)
    x = given.observation["x"]
    assert x.shape[1:] == (context, 2)
    assert given.action.shape == (len(x), context - 1, 2)
    windows = {
        tuple(trajectory.observation["x"][t : t + context].flatten().tolist()): t
        for trajectory in trajectories
        for t in range(len(trajectory) + 2 - context)
    }
    begins = [windows[tuple(each.flatten().tolist())] for each in x]
    assert {0, 1, 2, 3} <= set(begins), "anywhere in the episodes"
    real = goals.observation["goal_x"][:, 0]
    chosen = given.observation["goal_x"]
    assert (chosen == chosen[:, :1]).all(), "one goal for all frames"
    which = (chosen[:, :1] == real).all(-1).float().argmax(-1)
    assert torch.equal(real[which], chosen[:, 0])
    assert len(which.unique()) == 13
    assert torch.equal(x, stored_starts(store, goals, 101, context, 2).observation["x"])
    assert not torch.equal(chosen, stored_starts(store, goals, 101, context, 3).observation["goal_x"])
    env = LearnedVectorEnv(Truth(), Push(), given, N, precision="float32")
    assert env.observation_space.contains(play(env)[-1][0])


def test_a_context_longer_than_the_stored_trajectories_is_refused(tmp_path: Any) -> None:
    store = wmplay.save_trajectories(wmplay.simulate(vector(), None, episodes=3, seed=5), tmp_path / "store")
    assert stored_starts(store, None, 31, STEPS + 1, 0).observation["x"].shape[1] == STEPS + 1
    with pytest.raises(
        ConfigError, match=r"learned.context is 9 frames, the trajectories in the store have fewer"
    ):
        stored_starts(store, None, 31, STEPS + 2, 0)


def test_episodes_begin_with_the_starts_in_order_and_go_on_with_any() -> None:
    env, pool = learned(num_envs=37), starts().observation
    seen = env.reset_tensors(seed=1)
    assert torch.equal(seen["x"], torch.cat([pool["x"], pool["x"][:6]])[:, 0])
    later: set[int] = set()
    for action in drawn(env, 41):
        step = env.step_tensors(torch.from_numpy(action))
        ended = step.terminated | step.truncated
        same = (step.observation["x"][ended].unsqueeze(1) == pool["x"][:, -1]).all(-1)
        assert same.any(-1).all()
        later |= set(same.float().argmax(-1).tolist())
    assert later == set(range(31))


# ---- when they end, and what they are worth ------------------------------------------------------


@pytest.mark.parametrize(("given", "expected"), [(None, STEPS), (3, 3)])
def test_the_clock(given: int | None, expected: int) -> None:
    env = learned(Truth(discount=1.0, reward=0.0), reward="model", max_steps=given)
    lengths = {len(trajectory) for trajectory in wmplay.simulate(env, None, 11)}
    assert lengths == {expected}


def test_an_envs_clock_may_be_in_its_spec_or_nowhere() -> None:
    env = gym.make("Pendulum-v1")
    space = Dict({"vector": env.observation_space})
    env.unwrapped.observation_space = space
    none = torch.zeros(3, 0)
    given = Segment({"vector": torch.zeros(3, 1, 3)}, torch.zeros(3, 0, 1), none, none.bool(), none.bool())
    seed_spaces()
    model = make_model("mlp", space, env.action_space)
    assert env.spec.max_episode_steps == 200
    wrapped = gym.wrappers.TransformObservation(env, lambda seen: {"vector": seen}, space)
    assert LearnedVectorEnv(model, wrapped, given, 2, reward="model").max_steps == 200
    endless = Push(max_steps=None)
    unlimited = LearnedVectorEnv(Truth(), endless, starts(), 2)
    unlimited.reset_tensors(0)
    assert unlimited.max_steps is None
    assert not unlimited.step_tensors(torch.zeros(2, 2)).truncated.any()


def test_rewards_and_endings_of_the_models_heads() -> None:
    env = learned(Truth(reward=-0.7, discount=0.25), reward="model", num_envs=997)
    env.reset_tensors(seed=1)
    action = torch.zeros(997, 2)
    first = env.step_tensors(action)
    assert (first.reward == -0.7).all()
    assert float(first.terminated.float().mean()) == pytest.approx(0.75, abs=0.05)
    second = env.step_tensors(action)
    assert not torch.equal(first.terminated, second.terminated)
    env.reset_tensors(seed=1)
    assert torch.equal(env.step_tensors(action).terminated, first.terminated)
    for discount, ends in ((1.0, False), (0.0, True), (None, False)):
        env = learned(Truth(reward=0.0, discount=discount), reward="model")
        env.reset_tensors(seed=1)
        assert (env.step_tensors(torch.zeros(N, 2)).terminated == ends).all()


def test_a_model_that_cannot_give_the_reward_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"the task's reward needs 'x', but Truth predicts lcd and the starts have"
    ):
        learned(Truth(keys=("lcd",)))
    with pytest.raises(
        ConfigError, match=r"Truth predicts no reward: give it a reward head, or learned.reward="
    ):
        learned(Truth(), reward="model")
    given = starts()
    without = Segment(
        {key: value for key, value in given.observation.items() if key != "goal_x"},
        *(given.action, given.reward, given.terminated, given.mask),
    )
    with pytest.raises(
        ConfigError, match=r"the task's reward needs 'goal_x', but .* the starts have no goal"
    ):
        LearnedVectorEnv(Truth(), Push(), without, N)
    for task in (None, "a name"):
        env = Push()
        env.task = task
        with pytest.raises(
            ConfigError, match=r"the real env has none: give env.task, or learned.reward=model"
        ):
            LearnedVectorEnv(Truth(), env, given, N)
        LearnedVectorEnv(Truth(reward=0.0), env, given, N, reward="model")


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


# ---- gradients -----------------------------------------------------------------------------------


class Tape(nn.Module):
    """Acts from a tape [B, H, A] of actions."""

    def __init__(self, tape: Tensor) -> None:
        super().__init__()
        self.tape = tape

    def initial(self, batch_size: int) -> Any:
        return 0

    def act(self, carry: Any, observation: Any, last_action: Tensor, first: Tensor, **_: Any) -> Any:
        expected = self.tape[:, carry - 1] if carry else torch.zeros_like(last_action)
        assert torch.equal(last_action, expected), "told what was executed"
        assert (first == (carry == 0)).all()
        return self.tape[:, carry], carry + 1


class Steering(nn.Module):
    """Acts by a linear law of where it is and has to go; explores by adding noise."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.law = nn.Linear(4, 2, dtype=dtype)

    def initial(self, batch_size: int) -> Any:
        return ()

    def act(
        self,
        carry: Any,
        observation: Any,
        last_action: Tensor,
        first: Tensor,
        *,
        explore: bool,
        generator: Any,
    ) -> Any:
        seen = torch.cat([observation["x"], observation["goal_x"]], -1).to(self.law.weight.dtype)
        action = self.law(seen).tanh()
        if explore:
            action = action + 0.1 * torch.randn(action.shape, generator=generator, dtype=action.dtype)
        return action, carry


def precise(env: LearnedVectorEnv, count: int = 2) -> tuple[Any, dict[str, Tensor]]:
    """A beginning in float64, so that finite differences mean something."""
    env.model.double()
    env.reset_tensors(seed=1)
    belief, observation, _ = env.begin(torch.arange(count))
    double = {key: value.double() for key, value in observation.items()}
    return {key: 0.3 * value.double() for key, value in belief.items()}, {**double, "x": 0.3 * double["x"]}


@pytest.mark.parametrize("noise", [None, 0.05])
def test_the_gradient_of_reward_to_actions_is_that_of_finite_differences(noise: float | None) -> None:
    env = learned(Truth(noise=noise or 0.0))
    belief, observation = precise(env)
    torch.manual_seed(5)
    actions = (torch.rand(2, 3, 2, dtype=torch.float64) - 0.5).requires_grad_()

    def worth(actions: Tensor) -> Tensor:
        generator = None if noise is None else torch.Generator().manual_seed(7)
        return env.rollout(belief, Tape(actions), observation, 3, generator).reward.sum()

    assert torch.autograd.gradcheck(worth, (actions,), eps=1e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(worth(actions), actions)
    assert gradient.abs().min() > 1e-3, "every action matters"


@pytest.mark.parametrize("sampled", [False, True])
def test_the_gradient_of_reward_to_a_policys_weights_is_that_of_finite_differences(sampled: bool) -> None:
    env, policy = learned(Truth(noise=0.05)), Steering()
    belief, observation = precise(env)

    def worth(weight: Tensor, bias: Tensor) -> Tensor:
        def act(*told: Any, **how: Any) -> Any:
            return torch.func.functional_call(policy, {"law.weight": weight, "law.bias": bias}, told, how)

        bound = Steering()
        bound.act = act  # type: ignore[method-assign]
        generator = torch.Generator().manual_seed(7) if sampled else None
        return env.rollout(belief, bound, observation, 3, generator).reward.sum()

    policy.forward = policy.act  # type: ignore[method-assign]
    weights = [parameter.detach().clone().requires_grad_() for parameter in policy.law.parameters()]
    assert torch.autograd.gradcheck(worth, weights, eps=1e-6, atol=1e-6)
    assert all(gradient.abs().min() > 1e-4 for gradient in torch.autograd.grad(worth(*weights), weights))


def test_gradients_pass_through_a_fitted_kind_of_model_and_the_tasks_of_the_worlds() -> None:
    real = wmplay.make_env("luxo", task="body_goal", physics="fast", num_envs=2)
    single = wmplay.make_env("luxo", task="body_goal", physics="fast")
    torch.manual_seed(2)
    model = wmplay.make(
        "model", "mlp", env=single, hidden=17, layers=1, reward_weight=0, continuation_weight=0
    )
    env = LearnedVectorEnv(model, single, real_starts(real, 5, 3, 0), 2, precision="float32")
    env.reset_tensors(0)
    belief, observation, _ = env.begin(torch.arange(2))
    actions = torch.zeros(2, 3, *single.action_space.shape)
    direction = torch.randn(actions.shape, generator=torch.Generator().manual_seed(1))

    def worth(step: float) -> Tensor:
        return env.rollout(belief, Tape(actions + step * direction), observation, 3).reward.sum()

    actions.requires_grad_()
    worth(0.0).backward()
    assert actions.grad is not None
    with torch.no_grad():
        expected = (worth(0.03) - worth(-0.03)) / 0.06
    assert float((actions.grad * direction).sum()) == pytest.approx(float(expected), rel=0.05)
    assert abs(float(expected)) > 1e-4


def test_a_rollout_is_what_the_env_would_do() -> None:
    env = learned(temperature=0.0)
    observation = env.reset_tensors(seed=1)
    torch.manual_seed(5)
    tape = 2 * torch.rand(N, 3, 2) - 1
    imagined = env.rollout(env.belief, Tape(tape), observation, 3)
    assert imagined.reward.shape == imagined.terminated.shape == (N, 3)
    assert torch.equal(imagined.action, tape)
    alive = torch.ones(N, dtype=torch.bool)
    for t in range(3):
        step = env.step_tensors(tape[:, t])
        assert torch.equal(imagined.reward[alive, t], step.reward[alive])
        assert torch.equal(imagined.terminated[alive, t], step.terminated[alive])
        assert torch.equal(imagined.observation[t]["x"][alive], step.arrived["x"][alive])
        alive &= ~step.terminated
    assert 0 < alive.sum() < N


def test_a_rollout_leaves_the_env_as_it_was() -> None:
    def after(imagine: bool) -> Any:
        env = learned(Truth(noise=0.1, reward=0.1, discount=0.5), reward="model")
        observation = env.reset_tensors(seed=1)
        if imagine:
            policy = Steering(torch.float32)
            sampled = [
                env.rollout(env.belief, policy, observation, 3, torch.Generator().manual_seed(s))
                for s in (2, 2, 3)
            ]
            assert torch.equal(sampled[0].terminated, sampled[1].terminated), (
                "the generator given is the only one"
            )
            assert not torch.equal(sampled[0].terminated, sampled[2].terminated)
            likely = env.rollout(env.belief, policy, observation, 3)
            assert torch.equal(likely.reward, env.rollout(env.belief, policy, observation, 3).reward)
        return [env.step(action) for action in drawn(env, 5)]

    assert data_equivalence(after(True), after(False), exact=True)


# ---- every model ---------------------------------------------------------------------------------


EVERY_WORLD = [
    pytest.param(model, observation, action, id=f"{model}-{observation}-{action}")
    for model in MODELS
    for observation in ("screen and vector", "vector")
    for action in ACTIONS
    if takes(model, observation)
]


class Noise(gym.Env[Any, Any]):
    """Shows samples of its spaces."""

    def __init__(self, seen: Any, actions: Any) -> None:
        self.observation_space, self.action_space, self.max_steps = seen, actions, 3

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, {}


@pytest.mark.parametrize(("model", "observation", "action"), EVERY_WORLD)
def test_every_model_with_a_vector_makes_a_world(model: str, observation: str, action: str) -> None:
    seed_spaces()
    space, actions = OBSERVATIONS[observation], ACTIONS[action]
    make = SyncVectorEnv([lambda: Noise(space, actions)] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    given = real_starts(make, 7, 3, 1)
    net = make_model(model, space, actions).eval()
    env = LearnedVectorEnv(net, Noise(space, actions), given, N, reward="model")
    first, again = (play(env, steps=7) for _ in range(2))
    assert data_equivalence(first, again, exact=True)
    for seen, *_ in first:
        assert env.observation_space.contains(seen)
    ended = np.array([terminated | truncated for _, _, terminated, truncated, _ in first[1:]])
    assert ended.any(), "episodes have begun again"

    # rows of a running batch are those rows alone, also where some have just begun again
    env.reset_tensors(seed=1)
    for step in drawn(env, 2):
        env.step_tensors(torch.as_tensor(step))
    move = torch.as_tensor(drawn(env, 1, seed=3)[0]).unsqueeze(1)
    with torch.no_grad():
        whole = net.predict(env.belief, move)
        alone = net.predict(take_rows(env.belief, torch.tensor([2])), move[2:3])
    for key, value in whole.observation.items():
        torch.testing.assert_close(alone.observation[key][0], value[2], rtol=1e-3, atol=1e-4)


def test_discrete_spaces_are_drawn_from() -> None:
    assert isinstance(DISCRETE, Discrete)
    env = learned(actions=DISCRETE)
    _, observation, *_ = env.reset_tensors(0), env.step_tensors(torch.tensor([0, 1, 2, 3, 4]))
    assert observation.reward.shape == (N,)
