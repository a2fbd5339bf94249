from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from refusals import refused

import wmplay
from wmplay.errors import ActionError, SpaceError, WmplayError
from wmplay.simulation import blocks, simulate

LENGTHS = [5, 2, 131, 1, 7]  # the last but two makes the buffers grow
MODES = list(AutoresetMode)
ACTIONS = {"continuous": Box(-0.5, 0.5, (3,), np.float64), "discrete": Discrete(5)}


def length_of(slot: int, episode: int) -> int:
    return LENGTHS[(slot + episode) % len(LENGTHS)]


class Diary(gymnasium.Env):
    """Its observation tells which slot, episode and step it is from, and the action before it.

    Each reset with a seed begins the episode with the next number; those after it, without one, are far off.
    """

    def __init__(self, slot: int = 0, actions: gymnasium.Space = ACTIONS["continuous"]) -> None:
        self.slot, self.seeded, self.unseeded = slot, -1, 0
        self.action_space = actions
        did = Discrete(5) if isinstance(actions, Discrete) else Box(-9, 9, actions.shape, np.float32)
        self.observation_space = Dict(where=Box(-1, 10**6, (3,), np.int32), did=did)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeded, self.unseeded = (
            (self.seeded, self.unseeded + 1) if seed is None else (self.seeded + 1, 0)
        )
        self.episode, self.time = self.seeded + 1000 * self.unseeded, 0
        self.did = self.action_space.sample() * 0
        return self._observation(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.time += 1
        self.did = action
        over = self.time == length_of(self.slot, self.episode)
        return (
            self._observation(),
            self.time / 8,
            over and self.episode % 2 == 0,
            over and self.episode % 2 == 1,
            {},
        )

    def _observation(self):
        dtype = self.observation_space["did"].dtype
        return {
            "where": np.array([self.slot, self.episode, self.time], np.int32),
            "did": dtype.type(self.did),
        }


@dataclass
class Clockwork:
    """A policy whose actions follow from what it sees, and which checks what it is told."""

    discrete: bool = False
    factor: float = 0.3

    def initial(self, batch_size: int) -> torch.Tensor:
        return torch.full((batch_size,), -1)

    def act(
        self, carry, observation, last_action, first, *, explore=False, generator=None
    ) -> tuple[Any, Any]:
        slot, episode, time = observation["where"].unbind(-1)
        assert first.dtype == torch.bool
        assert torch.equal(first, time == 0)
        assert torch.equal(last_action, observation["did"])
        assert torch.equal(carry[~first] + 1, time[~first])
        return self.choose(slot, episode, time), time

    def choose(self, slot, episode, time) -> torch.Tensor:
        number = slot * 3 + episode * 7 + time
        if self.discrete:
            return number % 5
        return self.factor * torch.sin(number[..., None] * torch.tensor([1.0, 2.0, 3.0]))


def vector(slots: int, mode: AutoresetMode, actions: str = "continuous", **kwargs) -> SyncVectorEnv:
    envs = [partial(Diary, slot, ACTIONS[actions]) for slot in range(slots)]
    return SyncVectorEnv(envs, autoreset_mode=mode, **kwargs)


def assert_diary(trajectories, slots: int, policy: Clockwork | None = None) -> None:
    """All trajectories are whole, in order, and aligned."""
    for j, got in enumerate(trajectories):
        slot, episode = j % slots, j // slots
        length = length_of(slot, episode)
        assert len(got) == length
        expected = [(slot, episode, time) for time in range(length + 1)]
        np.testing.assert_array_equal(got.observation["where"], expected)
        assert not got.observation["did"][0].any()
        np.testing.assert_array_equal(got.observation["did"][1:], got.action)  # action[t] led to frame t + 1
        np.testing.assert_array_equal(got.reward, np.arange(1, length + 1, dtype=np.float32) / 8)
        last = np.arange(length) == length - 1
        np.testing.assert_array_equal(got.terminated, last & (episode % 2 == 0))
        np.testing.assert_array_equal(got.truncated, last & (episode % 2 == 1))
        if policy is not None:
            where = torch.from_numpy(got.observation["where"][:-1])
            np.testing.assert_array_equal(got.action, policy.choose(*where.unbind(-1)))


@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("episodes", [2, 3, 11])
def test_vector_envs(mode: AutoresetMode, actions: str, episodes: int) -> None:
    policy = Clockwork(discrete=actions == "discrete")
    trajectories = simulate(vector(3, mode, actions), policy, episodes)
    assert len(trajectories) == episodes
    assert_diary(trajectories, 3, policy)
    got = trajectories[0]
    assert got.observation["where"].dtype == np.int32
    assert got.reward.dtype == np.float32
    assert got.action.dtype == (np.int64 if actions == "discrete" else np.float32)
    assert got.action.shape == ((5,) if actions == "discrete" else (5, 3))


@pytest.mark.parametrize("actions", ACTIONS)
def test_a_single_env(actions: str) -> None:
    policy = Clockwork(discrete=actions == "discrete")
    trajectories = simulate(Diary(0, ACTIONS[actions]), policy, 7)
    assert len(trajectories) == 7
    assert_diary(trajectories, 1, policy)


@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_random_actions(mode: AutoresetMode, actions: str) -> None:
    env = vector(2, mode, actions)
    before = env.action_space.np_random.bit_generator.state
    trajectories = simulate(env, None, 23, seed=5)
    assert env.action_space.np_random.bit_generator.state == before  # no hidden state
    assert_diary(trajectories, 2)
    drawn = np.concatenate([one.action for one in trajectories])
    if actions == "discrete":
        assert np.bincount(drawn).min() / len(drawn) > 0.1
    else:
        assert np.abs(drawn).max() <= 0.5
        np.testing.assert_allclose(
            np.quantile(drawn, [0.25, 0.75], axis=0), [[-0.25] * 3, [0.25] * 3], atol=0.05
        )


@pytest.mark.parametrize("mode", MODES)
def test_envs_that_write_into_the_arrays_they_returned(mode: AutoresetMode) -> None:
    policy = Clockwork()
    assert_diary(simulate(vector(3, mode, copy=False), policy, 11), 3, policy)


class Bulk(SyncVectorEnv):
    """Final observations as one batched dict, as envs make them that work in bulk."""

    def step(self, actions):
        observation, reward, terminated, truncated, info = super().step(actions)
        if "final_obs" in info:
            final = {key: value.copy() for key, value in observation.items()}
            for slot in np.flatnonzero(terminated | truncated):
                for key in final:
                    final[key][slot] = info["final_obs"][slot][key]
            info = {"final_obs": final}
        return observation, reward, terminated, truncated, info


def test_batched_final_observations() -> None:
    env = Bulk([partial(Diary, slot) for slot in range(3)], autoreset_mode=AutoresetMode.SAME_STEP)
    assert_diary(simulate(env, Clockwork(), 11), 3, Clockwork())


def test_actions_are_clipped_and_recorded_as_executed() -> None:
    trajectories = simulate(Diary(), Clockwork(factor=3.0), 5)
    actions = np.concatenate([one.action for one in trajectories])
    assert actions.max() == 0.5
    assert actions.min() == -0.5
    assert ((actions > -0.5) & (actions < 0.5)).any()
    assert_diary(trajectories, 1)


@pytest.mark.parametrize("mode", [None, *MODES])
def test_a_limit_cuts_episodes(mode: AutoresetMode | None) -> None:
    env = Diary(slot=2) if mode is None else vector(3, mode)
    slots = 1 if mode is None else 3
    got = simulate(env, None if mode else Clockwork(), 3 * slots, max_steps=7)
    assert all(len(one) <= 7 for one in got)
    for one in got:
        np.testing.assert_array_equal(one.observation["did"][1:], one.action)
        assert one.terminated[-1] or one.truncated[-1]
    first, second = got[slots - 1], got[2 * slots - 1]  # of slot 2, whose first episode has 131 steps
    assert first.observation["where"][[0, -1]].tolist() == [[2, 0, 0], [2, 0, 7]]
    assert (first.terminated[-1], first.truncated.tolist()) == (False, [False] * 6 + [True])
    assert second.observation["where"][0].tolist() == [2, 1, 0]


# ------------------------------------------------------------------------------------------- reproducible


class Noise:
    """Draws from the generator; counts its steps since the episode began."""

    def initial(self, batch_size: int) -> None:
        return None

    def act(self, carry, observation, last_action, first, *, explore, generator):
        scale = 2.0 if explore else 0.1
        return scale * torch.randn(last_action.shape, generator=generator, device=last_action.device), None


@pytest.mark.parametrize("policy", [None, Noise()])
@pytest.mark.parametrize("slots", [None, 3])
def test_the_same_seed_gives_the_same_trajectories(policy, slots: int | None) -> None:
    def run(seed: int) -> list[np.ndarray]:
        env = gymnasium.make("Pendulum-v1") if slots is None else gymnasium.make_vec("Pendulum-v1", slots)
        got = simulate(env, policy, 5, seed, max_steps=13)
        return [np.concatenate([one.observation["observation"][1:], one.action], axis=1) for one in got]

    once, again, other = run(3), run(3), run(4)
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)
    assert once[0].dtype == np.float32


class Lottery(Diary):
    """Its first frame shows numbers drawn as actions are."""

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        return {**observation, "did": self.np_random.uniform(-0.5, 0.5, 3)}, info


def test_random_actions_follow_the_seed_and_not_the_envs_draws() -> None:
    one, other = (simulate(Lottery(), None, 1, seed)[0] for seed in (0, 1))
    assert not np.isclose(one.action, other.action).any()
    assert not np.isclose(one.action[0], one.observation["did"][0]).any()


def test_exploration_is_the_policys() -> None:
    env = gymnasium.make("Pendulum-v1")
    calm, bold = (simulate(env, Noise(), 1, explore=explore)[0].action.std() for explore in (False, True))
    assert bold > 5 * calm


class Counting(Clockwork):
    """Writes down how many rows it acts for; what it carries may be hidden in something without rows."""

    def __init__(self, split: bool) -> None:
        super().__init__()
        self.split, self.rows = split, []

    def initial(self, batch_size: int) -> Any:
        return self._hidden(super().initial(batch_size))

    def act(self, carry, observation, last_action, first, **how) -> tuple[Any, Any]:
        self.rows.append(len(first))
        action, carry = super().act(carry if self.split else carry[0], observation, last_action, first, **how)
        return action, self._hidden(carry)

    def _hidden(self, carry: torch.Tensor) -> Any:
        return carry if self.split else (carry, "a note")


def test_the_policy_does_not_act_where_all_episodes_are_over() -> None:
    counting, whole = Counting(True), Counting(False)
    got, same = (simulate(vector(3, AutoresetMode.DISABLED), each, 7) for each in (counting, whole))
    for one, other in zip(got, same, strict=True):
        np.testing.assert_array_equal(one.action, other.action)
    assert sum(counting.rows) == sum(len(one) for one in got)
    assert set(whole.rows) == {3}


def test_gradients_are_off() -> None:
    class Learner(Noise):
        def act(self, carry, observation, last_action, first, *, explore, generator):
            assert not torch.is_grad_enabled()
            return last_action, None

    simulate(gymnasium.make("Pendulum-v1"), Learner(), 1)
    assert torch.is_grad_enabled()


# -------------------------------------------------------------------------------------------------- spaces


def test_observations_that_are_no_dict() -> None:
    cart = simulate(gymnasium.make("CartPole-v1"), episodes=3)[1]
    assert list(cart.observation) == ["observation"]
    assert cart.observation["observation"].shape == (len(cart) + 1, 4)
    assert cart.action.dtype == np.int64
    lake = simulate(gymnasium.make_vec("FrozenLake-v1", 2), episodes=3)[1]
    assert lake.observation["observation"].shape == (len(lake) + 1,)
    assert lake.observation["observation"].dtype == np.int64


class Odd(gymnasium.Env):
    def __init__(self, observation: gymnasium.Space, action: gymnasium.Space) -> None:
        self.observation_space, self.action_space = observation, action

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}


BOX = Box(-1, 1, (2,))


@pytest.mark.parametrize(
    ("observation", "action", "fields"),
    [
        (BOX, MultiDiscrete([2, 3]), {"about": "MultiDiscrete"}),
        (BOX, Box(-1, 1, (2, 3)), {"got": Box(-1, 1, (2, 3))}),
        (BOX, Box(0, 5, (2,), np.int32), {"about": "float"}),
        (Tuple([BOX, BOX]), BOX, {"about": "observation"}),
        (Dict(a=Dict(b=BOX)), BOX, {"about": "a"}),
    ],
)
def test_spaces_it_does_not_take(observation, action, fields: dict[str, object]) -> None:
    with refused(SpaceError, **fields):
        simulate(Odd(observation, action))


# ------------------------------------------------------------------------------------------------- mistakes


class Wrong:
    def __init__(self, action: torch.Tensor) -> None:
        self.action = action

    def initial(self, batch_size: int) -> None:
        return None

    def act(self, carry, observation, last_action, first, *, explore, generator):
        return self.action, None


@pytest.mark.parametrize(
    ("actions", "action", "fields"),
    [
        (
            "continuous",
            torch.tensor([[0.1] * 3, [0.1, float("nan"), 0]]),
            {"about": ("NaN", "[1, 1]"), "expected": "finite"},
        ),
        (
            "continuous",
            torch.tensor([[float("inf")] * 3] * 2),
            {"about": ("infinity", "[0, 0]"), "expected": "finite"},
        ),
        ("continuous", torch.zeros(2, 4), {"got": (2, 4), "expected": "[2, 3]"}),
        ("continuous", torch.zeros(3), {"got": (3,), "expected": "[2, 3]"}),
        (
            "continuous",
            torch.zeros(2, 3, dtype=torch.int64),
            {"got": np.dtype("int64"), "expected": "floats"},
        ),
        ("discrete", torch.zeros(2), {"got": "float32 [2]", "expected": "0 .. 4"}),
        ("discrete", torch.tensor([0, 5]), {"got": 5, "expected": "0 .. 4"}),
        ("discrete", torch.tensor([-1, 3]), {"got": -1, "expected": "0 .. 4"}),
        ("discrete", torch.zeros(2, 1, dtype=torch.int64), {"got": (2, 1), "expected": "0 .. 4"}),
    ],
)
def test_actions_that_cannot_be_executed(
    actions: str, action: torch.Tensor, fields: dict[str, object]
) -> None:
    with refused(ActionError, **fields) as caught:
        simulate(vector(2, AutoresetMode.SAME_STEP, actions), Wrong(action))
    assert "policy Wrong" in caught.value.problem


def test_an_env_that_does_not_say_how_it_resets() -> None:
    env = vector(2, AutoresetMode.SAME_STEP)
    env.metadata = {}
    with refused(WmplayError, ("autoreset_mode", "None")):
        simulate(env)


def test_an_env_that_hides_the_last_frame() -> None:
    class Forgetful(SyncVectorEnv):
        def step(self, actions):
            return *super().step(actions)[:4], {}

    env = Forgetful([Diary, Diary], autoreset_mode=AutoresetMode.SAME_STEP)
    with refused(WmplayError, ("Diary.step", "final_obs")):
        simulate(env, episodes=2)


# ------------------------------------------------------------------------------------------------- progress


def test_progress() -> None:
    calls: list[tuple[int, int]] = []
    got = simulate(
        vector(3, AutoresetMode.SAME_STEP), None, 11, progress=lambda *counts: calls.append(counts)
    )
    assert calls == sorted(calls)
    assert calls[-1][0] == 11
    assert calls[-1][1] >= sum(len(one) for one in got)

    def stop(episodes: int, steps: int) -> None:
        if episodes >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(vector(3, AutoresetMode.SAME_STEP), None, 10**9, progress=stop)


def test_no_episodes() -> None:
    assert simulate(Diary(), None, 0) == []


def test_an_episode_that_never_ends_is_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stopped(Exception): ...

    def stop(episodes: int, steps: int) -> None:
        if steps > 700:
            raise Stopped

    monkeypatch.setattr(blocks, "ENDLESS", 500)
    env = wmplay.make_env("Pendulum-v1", max_steps=10**9)
    with pytest.raises(Stopped):
        simulate(env, episodes=1, progress=stop)
    told = capsys.readouterr().err
    assert told.count("collect.max_episode_steps") == 1
    assert told.startswith("Pendulum-v1: ")
    simulate(env, episodes=1, max_steps=701)
    assert not capsys.readouterr().err
