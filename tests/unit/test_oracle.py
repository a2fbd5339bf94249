"""The true simulator as a model: the same numbers as the env, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from refusals import refused

import wmplay
from wmplay.contracts import EnvSpec, Remembering, Simulator
from wmplay.errors import ConfigError, SpaceError
from wmplay.models.oracle import Oracle

STEPS = 50
# the env, and by how much its observations may differ from what is predicted from the first frame, in float32
WORLDS: dict[str, tuple[dict[str, Any], float]] = {
    "catch": ({"name": "catch", "rows": 31}, 0),
    "two_rooms": ({"name": "two_rooms", "max_steps": 60}, 0),
    "deep_sea": ({"name": "deep_sea", "size": 31, "shuffled": 3}, 0),
    "ring": ({"name": "ring", "slip": 0.0, "max_steps": 60}, 0),
    "springs": ({"name": "springs", "max_steps": 60}, 1e-5),
    "pendulum": ({"name": "gym", "id": "Pendulum-v1"}, 1e-3),
    "cartpole": ({"name": "gym", "id": "CartPole-v1"}, 1e-4),
    "luxo": ({"name": "luxo", "task": "body_goal", "max_steps": 61}, 1e-4),
    "cube": (
        {"name": "urchin_cube", "task": "cube_goal", "physics": "fast", "max_steps": 61},
        0.03,
    ),  # collisions multiply it
}
each_world = pytest.mark.parametrize("world", WORLDS)


def make(world: str) -> tuple[Any, Oracle]:
    env = wmplay.make_env(**WORLDS[world][0])
    return env, wmplay.make("model", "oracle", env=env)


def shown(seen: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(np.asarray(value))[None] for key, value in seen.items()}


def actions(env: Any, steps: int = STEPS) -> Any:
    env.action_space.seed(7)
    drawn = np.stack([env.action_space.sample() for _ in range(steps)])
    return 1.5 * drawn if isinstance(env.action_space, Box) else drawn  # some beyond the bounds


@each_world
def test_it_predicts_what_the_env_does(world: str) -> None:
    env, model = make(world)
    seen, _ = env.reset(seed=3)
    plan = actions(env)
    future = model.predict(model.initial(shown(seen)), torch.from_numpy(plan)[None])
    within = WORLDS[world][1]
    for t, action in enumerate(plan):
        seen, reward, terminated, _, _ = env.step(
            np.clip(action, env.action_space.low, env.action_space.high)
            if isinstance(env.action_space, Box)
            else action
        )
        assert float(future.reward[0, t]) == pytest.approx(reward, abs=max(within, 1e-6))
        assert float(future.discount[0, t]) == 1 - terminated
        for key, value in future.observation.items():
            if key == "lcd" and within:  # a pixel may hang on the last digit of a pose
                assert (value[0, t].numpy() != seen[key]).sum() <= 2
                continue
            np.testing.assert_allclose(value[0, t].numpy(), seen[key], atol=within, rtol=0)
        assert set(future.observation) == {key for key in seen if not key.startswith("goal_")}
        if terminated:
            assert not future.reward[0, t + 1 :].any(), "nothing is paid after the end"
            assert not future.discount[0, t:].any()
            break
    else:
        assert world not in ("cartpole", "catch", "deep_sea"), "these end"


@each_world
def test_what_has_ended_stays_as_it_is(world: str) -> None:
    env, model = make(world)
    belief = model.initial(shown(env.reset(seed=3)[0]))
    over = {**belief, "ended": torch.ones(1, dtype=torch.bool)}
    future = model.predict(over, torch.from_numpy(actions(env, 3))[None])
    assert torch.equal(future.latent, belief["state"].unsqueeze(1).expand(-1, 3, -1))  # type: ignore[arg-type]
    assert not future.reward.any()  # type: ignore[union-attr]
    assert not future.discount.any()  # type: ignore[union-attr]


@pytest.mark.parametrize("world", ["pendulum", "cartpole"])
def test_from_the_same_state_it_is_the_env_bit_for_bit(world: str) -> None:
    env, model = make(world)
    env.reset(seed=3)
    inner = env.unwrapped._env.unwrapped
    state, draws = np.array(inner.state, np.float64)[None], [np.random.default_rng(0)]
    plan = actions(env)
    for action in np.clip(plan, -2, 2) if world == "pendulum" else plan:
        state, reward, terminated = model.simulator.advance(state, action[None], draws)
        seen, expected, over, _, _ = env.step(action)
        assert (float(reward[0]), bool(terminated[0])) == (float(expected), over)
        assert (state[0] == inner.state).all()
        assert (model.simulator.observe(state)["vector"][0] == seen["vector"]).all()
        if over:
            break


@each_world
def test_rows_and_parts_of_a_plan_are_apart(world: str) -> None:
    env, model = make(world)
    frames = [env.reset(seed=seed)[0] for seed in (2, 3, 5)]
    now = {key: torch.from_numpy(np.stack([frame[key] for frame in frames])) for key in frames[0]}
    env.action_space.seed(1)
    plan = torch.from_numpy(np.stack([[env.action_space.sample() for _ in range(5)] for _ in range(3)]))
    belief = model.initial(now)
    kept = {key: value.clone() for key, value in belief.items()}
    whole = model.predict(belief, plan)
    assert all(torch.equal(belief[key], kept[key]) for key in kept)
    alone = model.predict(model.initial({k: v[1:2] for k, v in now.items()}), plan[1:2])
    assert torch.equal(alone.latent, whole.latent[1:2])  # type: ignore[index,arg-type]
    half = model.predict(belief, plan[:, :2])
    rest = model.predict(half.belief, plan[:, 2:])
    assert torch.equal(torch.cat([half.latent, rest.latent], 1), whole.latent)  # type: ignore[arg-type,list-item]
    assert torch.equal(torch.cat([half.reward, rest.reward], 1), whole.reward)  # type: ignore[arg-type,list-item]
    if isinstance(model.simulator, Remembering):
        return
    seen = {key: torch.stack([value, value.roll(1, 0)], 1) for key, value in now.items()}
    there = model.observe(belief, plan[:, :2], seen)
    assert torch.equal(there["state"], belief["state"].roll(1, 0)), "the last frame shows the state"


def test_what_frames_hide_follows_from_the_actions_since_the_first_one() -> None:
    """Rows of other ages, one of which begins anew, predict what their envs do."""
    envs, model = [make("luxo")[0] for _ in range(3)], make("luxo")[1]
    first = {key: [] for key in envs[0].observation_space.spaces}  # type: ignore[var-annotated]
    for seed, env in enumerate(envs):
        for key, value in env.reset(seed=seed)[0].items():
            first[key].append(torch.from_numpy(value))
    belief = model.initial({key: torch.stack(value) for key, value in first.items()})
    past, plan = (torch.from_numpy(actions(envs[0], n).astype(np.float32)).clamp(-1, 1) for n in (13, 7))
    frames = [[env.step(action.numpy())[0] for action in past] for env in envs]
    seen = {
        key: torch.stack([torch.from_numpy(np.stack([f[key] for f in row])) for row in frames])
        for key in first
    }
    belief = model.observe(belief, past.expand(3, -1, -1), seen)
    again = envs[1].reset(seed=11)[0]
    fresh = model.initial(shown(again))
    belief = {key: torch.cat([value[:1], fresh[key], value[2:]]) for key, value in belief.items()}
    future = model.predict(belief, plan.expand(3, -1, -1)).observation["proprio"]
    for row, env in enumerate(envs):
        truth = np.stack([env.step(action.numpy())[0]["proprio"] for action in plan])
        np.testing.assert_allclose(future[row].numpy(), truth, atol=1e-3)


def test_an_episode_without_the_goal_earns_nothing_and_a_plan_may_lead_beyond_its_end() -> None:
    model = wmplay.make("model", "oracle", env=wmplay.make_env("luxo", task="body_goal", max_steps=1))
    frames = wmplay.make_env("luxo").reset(seed=0)[0]
    with np.errstate(all="raise"):
        future = model.predict(model.initial(shown(frames)), torch.zeros(1, 12, 3))
    assert future.reward.tolist() == [[0] * 12]
    assert future.discount.tolist() == [[1] * 12]
    assert not future.observation["proprio"].isnan().any()


def test_chance_is_drawn_from_the_generator_and_fixed_without_one() -> None:
    env = wmplay.make_env("ring", slip=0.5)
    model = wmplay.make("model", "oracle", env=env)
    belief = model.initial(shown(env.reset(seed=0)[0]))
    plan = torch.full((1, 31), 2)

    def drawn(seed: int | None) -> torch.Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return model.predict(belief, plan, generator=generator).latent  # type: ignore[return-value]

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))
    assert torch.equal(drawn(None), drawn(None))


def test_worlds_without_a_simulator_or_with_hidden_states_are_refused() -> None:
    for env in (
        wmplay.make_env("gym", id="Acrobot-v1"),
        wmplay.make_env("luxo", factors={"gravity": [5, 15]}),
        EnvSpec(Box(0, 1, (2,)), Discrete(3)),
    ):
        with refused(ConfigError, "oracle"):
            Oracle(env, Discrete(3))
    for name in ("pendulum_screen", "shapes16", "breakout", "urchin_cube", "object2"):
        env = wmplay.make_env(name)
        assert isinstance(env.unwrapped.simulator, Simulator)
        with refused(SpaceError, "state"):
            wmplay.make("model", "oracle", env=env).initial(shown(env.reset(seed=0)[0]))


def test_there_is_nothing_to_fit() -> None:
    _, model = make("catch")
    assert not list(model.parameters())
    with refused(ConfigError, "fit"):
        model.loss(None)  # type: ignore[arg-type]


def planned(env_name: str, planner: str, episodes: int = 8, env: Any = None, **settings: Any) -> float:
    """The mean return of a planner in the true world."""
    world = wmplay.make_env(env_name, **(env or {}))
    model = wmplay.make("model", "oracle", env=world)
    parts = {
        "model": model,
        "planner": wmplay.make("planner", planner, env=world, **settings),
        "objective": wmplay.make("objective", "sum_of_rewards", env=world),
    }
    policy = wmplay.make("policy", "mpc", env=world, replan_every=1, **parts)
    many = wmplay.make_env(env_name, num_envs=episodes, **(env or {}))
    return float(np.mean([e.reward.sum() for e in wmplay.simulate(many, policy, episodes, seed=0)]))


@pytest.mark.parametrize("world", ["catch", "springs"])
@pytest.mark.parametrize("planner", ["gradient", "gradcem", "lagrangian"])
def test_a_planner_by_gradients_is_one_line(world: str, planner: str) -> None:
    env: Any = wmplay.make_env(world)
    model = Oracle(env, env.action_space)
    observation = {key: torch.as_tensor(value)[None] for key, value in env.reset(seed=0)[0].items()}
    search = wmplay.make("planner", planner, env=env, horizon=2)
    with refused(ConfigError, advice="cem"):
        search.plan(model, model.initial(observation), lambda future: future.reward.sum(1))


def test_planners_in_the_true_world_reach_its_optimum() -> None:
    assert planned("catch", "random_shooting", horizon=9, candidates=128) == 1
    assert planned("catch", "mcts", horizon=9, simulations=16) == 1
    assert planned("two_rooms", "mcts", horizon=5, simulations=32, env={"max_steps": 6}) > 0
    assert planned("deep_sea", "cem", env={"size": 5}, horizon=5, hold=1) == pytest.approx(0.99)
