"""Prompts: frames of a store, of a case, or drawn by hand, and the futures after them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refused

import wmplay
from wmplay.cli import main
from wmplay.config.settings import RecordedSettings
from wmplay.contracts import Array, Trajectory
from wmplay.envs import env_config
from wmplay.errors import ConfigError, DataError, RunError, UnknownName, WmplayError, WorldError
from wmplay.evaluation.cases import About, save_case
from wmplay.play.prompt import clips, prompt, read_clip

STEPS, FRAMES, FUTURES = 7, 3, 5


@dataclass
class Loaded:
    """A run that was never written: a world, and a model that has learned nothing."""

    world: str
    name: str | None = "mlp"
    path: Path = Path("run")
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @cached_property
    def env(self) -> Any:
        return wmplay.make_env(self.world)

    @cached_property
    def settings(self) -> Any:
        return SimpleNamespace(env=env_config(self.world), recorded=RecordedSettings())

    @cached_property
    def model(self) -> Any:
        torch.manual_seed(0)
        small = {"hidden": 13, "image_hidden": 17} if self.name == "mlp" else {}
        return self.name and wmplay.make("model", self.name, env=self.env, **small).eval()


def run(world: str = "luxo", name: str | None = "mlp") -> Any:
    return Loaded(world, name)


def recorded(world: str, path: Path, steps: int = 11) -> Trajectory:
    env = wmplay.make_env(world)
    (episode,) = wmplay.simulate(env, episodes=1, seed=3, max_steps=steps)
    wmplay.save_trajectories([episode], path, env=env)
    return episode


def drawn(path: Path, screens: Array, times: int = 1, light: int = 0, ground: int = 255) -> Path:
    """Write screens [F, h, w] of 0 and 1 as a strip, each pixel a number of times larger."""
    grey = np.where(np.concatenate(list(screens), 1) > 0, light, ground).astype(np.uint8)
    Image.fromarray(grey.repeat(times, 0).repeat(times, 1)).save(path)
    return path


def test_a_store_prompts_with_its_frames_and_actions(tmp_path: Path) -> None:
    episode = recorded("luxo", tmp_path / "store")
    found = prompt(run(), tmp_path / "store", steps=STEPS, futures=FUTURES)
    assert found.observation["lcd"].shape == (FUTURES, STEPS, 16, 32)
    assert np.array_equal(found.action, episode.action[: FRAMES - 1 + STEPS])
    for key, frames in found.clip.observation.items():
        assert np.array_equal(frames, episode.observation[key][:FRAMES])
    assert not np.array_equal(found.observation["lcd"][0], found.observation["lcd"][1])
    again = prompt(run(), tmp_path / "store", steps=STEPS, futures=FUTURES)
    assert np.array_equal(found.observation["lcd"], again.observation["lcd"])
    other = prompt(run(), tmp_path / "store", steps=STEPS, futures=FUTURES, seed=1)
    assert not np.array_equal(found.observation["lcd"], other.observation["lcd"])


def test_futures_are_those_of_the_model_after_the_frames(tmp_path: Path) -> None:
    recorded("luxo", tmp_path / "store")
    loaded = run()
    found = prompt(loaded, tmp_path / "store", steps=STEPS, futures=1, seed=4)
    segment = wmplay.load_trajectories(tmp_path / "store").sample(1, 11, generator=0)
    belief = wmplay.observe(loaded.model, segment, FRAMES)
    actions = segment.action[:, FRAMES - 1 : FRAMES - 1 + STEPS]
    expected = wmplay.predict(loaded.model, belief, actions, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        assert np.allclose(found.observation["lcd"], expected.observation["lcd"], atol=1e-6)


def test_a_case_prompts_from_its_moment(tmp_path: Path) -> None:
    env = wmplay.make_env("luxo")
    (episode,) = wmplay.simulate(env, episodes=1, seed=3, max_steps=11)
    about = About(name="c", key="lcd", since=4, held=0, model="MLP", run="r", seed=3)
    save_case(tmp_path / "c", about, episode, episode.steps(4, 11), env)
    found = prompt(run(), tmp_path / "c", steps=STEPS)
    assert found.clip.frames == 5
    assert np.array_equal(found.action, episode.action[: 4 + STEPS])


@pytest.mark.parametrize(("times", "light", "ground"), [(1, 0, 255), (3, 255, 0), (2, 40, 200)])
def test_a_strip_is_read_as_the_screens_that_were_drawn(
    tmp_path: Path, times: int, light: int, ground: int
) -> None:
    episode = recorded("bounce", tmp_path / "store")
    screens = episode.observation["lcd"][:FRAMES]
    clip = read_clip(drawn(tmp_path / "strip.png", screens, times, light, ground), run("bounce"))
    assert np.array_equal(clip.observation["lcd"], screens)
    assert clip.observation["proprio"].shape == (FRAMES, 1)
    found = prompt(run("bounce"), clip, steps=STEPS, futures=2)  # the world has no motors: no actions
    assert found.observation["lcd"].shape == (2, STEPS, 16, 16)
    assert not found.action.any()


def test_a_moving_picture_is_read_frame_by_frame(tmp_path: Path) -> None:
    screens = recorded("bounce", tmp_path / "store").observation["lcd"][:FRAMES]
    images = [Image.fromarray(np.where(each > 0, 0, 255).astype(np.uint8)) for each in screens]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=100)
    clip = read_clip(tmp_path / "a.gif", run("bounce"))
    assert np.array_equal(clip.observation["lcd"], screens)
    assert read_clip(tmp_path / "a.gif", run("bounce"), since=1).frames == 2


def test_vectors_of_a_drawing_are_those_of_similar_real_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips, "REAL", 5)
    monkeypatch.setattr(clips, "STEPS", 31)
    env = wmplay.make_env("luxo", num_envs=5)
    real = wmplay.simulate(env, episodes=5, max_steps=31)[3].steps(20, 22)
    clip = read_clip(drawn(tmp_path / "strip.png", real.observation["lcd"]), run())
    assert clip.likeness == 1.0
    assert np.abs(clip.observation["proprio"] - real.observation["proprio"]).mean() < 0.2
    assert clip.action is None


def test_futures_are_written_and_can_prompt_again(tmp_path: Path) -> None:
    recorded("bounce", tmp_path / "store")
    found = prompt(run("bounce"), tmp_path / "store", steps=STEPS, futures=FUTURES)
    found.save(tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"futures.gif", *(f"future_{i}.png" for i in range(1, FUTURES + 1))}
    with Image.open(tmp_path / "out" / "futures.gif") as gif:
        assert gif.n_frames == FRAMES + STEPS
    assert read_clip(tmp_path / "out" / "future_2.png", run("bounce")).frames == STEPS


def test_actions_are_recorded_none_or_random(tmp_path: Path) -> None:
    episode = recorded("luxo", tmp_path / "store")
    still = prompt(run(), tmp_path / "store", steps=20, actions="still")
    random = prompt(run(), tmp_path / "store", steps=20, actions="random")
    for found in (still, random):
        assert np.array_equal(found.action[: FRAMES - 1], episode.action[: FRAMES - 1])
    assert not still.action[FRAMES - 1 :].any()
    assert np.unique(random.action[FRAMES - 1 :]).size > 20
    with refused(WmplayError, ["9"], got=9, expected=["20"], advice=["9", "still", "random"]):
        prompt(run(), tmp_path / "store", steps=20)
    with refused(UnknownName, ["slowly"]):
        prompt(run(), tmp_path / "store", actions="slowly")  # type: ignore[arg-type]
    unknown = dataclasses.replace(still.clip, action=None)
    with refused(WmplayError, got=0, expected=["7"], advice=["still", "random"]):
        prompt(run(), unknown, steps=STEPS)
    recorded("catch", tmp_path / "catch")
    with refused(WmplayError, advice=["random"]):
        prompt(run("catch"), tmp_path / "catch", actions="still")


def test_clips_of_other_worlds_and_moments_are_refused(tmp_path: Path) -> None:
    recorded("luxo", tmp_path / "store")
    with refused(WorldError, ["luxo", "bounce"]):
        read_clip(tmp_path / "store", run("bounce"))
    for settings in ({"episode": 1}, {"since": 12}):
        with refused(
            WmplayError, ["1" if "episode" in settings else "12"], got=next(iter(settings.values()))
        ):
            read_clip(tmp_path / "store", run(), **settings)
    (tmp_path / "empty").mkdir()
    for path in ("nothing", "empty"):
        with refused(RunError, [tmp_path / path]):
            read_clip(tmp_path / path, run())


def sheet(height: int, width: int, spots: Sequence[tuple[int, int, int]] = ()) -> Array:
    image = np.full((height, width, 3), 255, np.uint8)
    for i, spot in enumerate(spots):
        image[2, i] = spot
    return image


@pytest.mark.parametrize(
    "image",
    [
        sheet(16, 40),
        sheet(15, 16),
        sheet(24, 24),
        sheet(16, 16, [(255, 0, 0)]),
        sheet(16, 16, [(0, 0, 200)]),
        sheet(16, 16, [(128, 128, 128)]),
    ],
    ids=["wide", "low", "not a multiple", "red", "blue", "grey"],
)
def test_pictures_of_another_size_or_with_colours_are_refused(tmp_path: Path, image: Array) -> None:
    Image.fromarray(image).save(tmp_path / "a.png")
    size = image.shape[:2] != (16, 16)
    with refused(DataError, [tmp_path / "a.png"], expected=["16 x 16"] if size else ["dark", "light"]):
        read_clip(tmp_path / "a.png", run("bounce"))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(7)])
def test_files_that_are_no_pictures_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with refused(DataError, [tmp_path / "a.png"]):
        read_clip(tmp_path / "a.png", run("bounce"))


def test_models_that_cannot_draw_are_refused(tmp_path: Path) -> None:
    recorded("luxo", tmp_path / "store")
    with refused(ConfigError, ["run"]):
        prompt(run(name=None), tmp_path / "store")
    with refused(ConfigError, ["lcd"]):
        prompt(run(name="lewm"), tmp_path / "store")
    with refused(ConfigError, got=0):
        prompt(run(), tmp_path / "store", steps=0)


def test_the_command_needs_a_run_and_takes_no_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["luxo", "--prompt", "a.png"], ["luxo", "task=null", "--prompt", "a.png"], ["luxo"]):
        assert main(["simulate", *arguments]) == 2
        assert capsys.readouterr().err.count("\n") == 1
