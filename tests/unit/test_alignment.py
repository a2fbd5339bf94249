"""The oracle finds every shift, and whatever carries episodes here shifts nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from refusals import refused

import wmplay
from wmplay.check.fixtures.alignment_env import AlignmentWorld, check_alignment
from wmplay.contracts import Array, Trajectory
from wmplay.envs import build_env
from wmplay.errors import AlignmentError
from wmplay.formats import FORMATS, READ_ONLY, data_format
from wmplay.simulation import simulate
from wmplay.store import save_trajectories

WORLD = {"_piece_": "env/alignment_world"}
wmplay.register("env", "alignment_world")(AlignmentWorld)
discrete_or_not = pytest.mark.parametrize("discrete", [False, True])


def early(values: Array) -> Array:
    return np.concatenate([values[1:], values[-1:]])


def late(values: Array) -> Array:
    return np.concatenate([values[:1], values[:-1]])


def moved(trajectory: Trajectory, key: str, shift) -> Trajectory:
    return replace(
        trajectory, observation={**trajectory.observation, key: shift(trajectory.observation[key])}
    )


def an_episode(*, odd: bool, discrete: bool = False) -> Trajectory:
    episodes = simulate(AlignmentWorld(discrete=discrete), None, 13, seed=5)
    return next(each for each in episodes if len(each) > 5 and len(each) % 2 == odd)


# ------------------------------------------------------------------------------------ what it is for


@discrete_or_not
@pytest.mark.parametrize("shift", [early, late])
@pytest.mark.parametrize("name", ["action", "reward", "clock", "screen", "led_by"])
def test_names_the_array_and_the_direction(name, shift, discrete: bool) -> None:
    episode = an_episode(odd=True, discrete=discrete)
    if name in episode.observation:
        broken = moved(episode, name, shift)
    else:
        broken = replace(episode, **{name: shift(getattr(episode, name))})
    with refused(AlignmentError, ("trajectory 1", name, shift.__name__)):
        check_alignment([episode, broken])


@pytest.mark.parametrize(("name", "odd"), [("terminated", True), ("truncated", False)])
def test_finds_an_end_that_is_elsewhere(name: str, odd: bool) -> None:
    episode = an_episode(odd=odd)
    flags = getattr(episode, name)
    with refused(AlignmentError, (name, "early")):
        check_alignment([replace(episode, **{name: np.append(flags[1:], False)})])
    with refused(AlignmentError, (name, f"entry {len(episode) - 1}", "0"), expected="1"):
        check_alignment([replace(episode, **{name: np.zeros_like(flags)})])


def test_finds_the_next_episodes_first_frame() -> None:
    episode, following = an_episode(odd=True), an_episode(odd=False)
    for key, values in episode.observation.items():
        values[-1] = following.observation[key][0]
    with refused(AlignmentError, (f"frame {len(episode)}", "episode")):
        check_alignment([episode])


def test_finds_an_episode_that_lost_its_beginning() -> None:
    episode = an_episode(odd=True)
    part = Trajectory(
        {key: values[1:] for key, values in episode.observation.items()},
        episode.action[1:],
        episode.reward[1:],
        episode.terminated[1:],
        episode.truncated[1:],
    )
    check_alignment([part], whole=False)
    with refused(AlignmentError, "clock"):
        check_alignment([part])


# ------------------------------------------------------------------------------------ who is checked


@discrete_or_not
def test_the_world_is_a_gymnasium_env(discrete: bool) -> None:
    check_env(AlignmentWorld(discrete=discrete), skip_render_check=True)


@discrete_or_not
def test_a_single_env(discrete: bool) -> None:
    check_alignment(simulate(AlignmentWorld(discrete=discrete), None, 11))


@discrete_or_not
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_vector_env_in_every_autoreset_mode(mode: AutoresetMode, discrete: bool) -> None:
    venv = SyncVectorEnv([lambda: AlignmentWorld(discrete=discrete)] * 3, autoreset_mode=mode)
    episodes = simulate(venv, None, 17, seed=2)
    check_alignment(episodes)
    assert len({int(each.observation["episode"][0, 0]) for each in episodes}) == 17


@pytest.mark.parametrize("autoreset", ["same_step", "next_step", "disabled"])
def test_envs_in_worker_processes(autoreset) -> None:
    venv = build_env(WORLD, 3, 2, autoreset)
    try:
        check_alignment(simulate(venv, None, 11))
    finally:
        venv.close()


class Late(gymnasium.Wrapper):
    """Pays each reward one step too late, as a wrapper with a buffer might."""

    held = 0.0

    def step(self, action):
        observation, reward, *rest = self.env.step(action)
        self.held, reward = reward, self.held
        return observation, reward, *rest


def test_an_env_that_is_late_is_found() -> None:
    with refused(AlignmentError, ("reward", "late")):
        check_alignment(simulate(Late(AlignmentWorld()), None, 3))


@discrete_or_not
def test_the_store_and_its_segments(tmp_path: Path, discrete: bool) -> None:
    store = save_trajectories(simulate(AlignmentWorld(discrete=discrete), None, 29), tmp_path / "s")
    check_alignment(store)
    segment = store.sample(53, 5, 0)

    def rows() -> Iterator[Trajectory]:
        for b, length in enumerate(segment.mask.sum(1).tolist()):
            yield Trajectory(
                {key: value[b, : length + 1].numpy() for key, value in segment.observation.items()},
                *(x[b, :length].numpy() for x in (segment.action, segment.reward, segment.terminated)),
                np.zeros(length, np.bool_),
            )

    assert any(len(each) < 5 for each in rows())
    check_alignment(rows(), whole=False)


@discrete_or_not
@pytest.mark.parametrize("name", [name for name in FORMATS if name not in READ_ONLY])
def test_every_data_format(tmp_path: Path, name: str, discrete: bool) -> None:
    episodes = simulate(AlignmentWorld(discrete=discrete), None, 11)
    chosen, path = data_format(name), tmp_path / "oracle-v0"
    chosen.write(episodes, path, {})
    assert chosen.count(path) == 11
    check_alignment(chosen.read(path))
