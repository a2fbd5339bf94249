import dataclasses
import json
from contextlib import closing
from itertools import pairwise

import numpy as np
import pytest
import torch
from conveyor import Conveyor, episodes
from refusals import refused

import wmplay
from wmplay.contracts import Trajectory
from wmplay.errors import ArbiterError
from wmplay.evaluation.arbiter.network import (
    FOLDER,
    FRAMES,
    Arbiter,
    load_arbiter,
    save_arbiter,
    shipped_arbiters,
    version_of,
)
from wmplay.evaluation.arbiter.realism import compare, judge
from wmplay.evaluation.arbiter.training import train_arbiter
from wmplay.evaluation.clips import cut_clips
from wmplay.evaluation.scores import MODEL, REAL, ArbiterScore

N, H, W, P, A = 7, 11, 13, 3, 2

# Frozen: an arbiter that is not the one of its name makes old scores wrong. Another one is another version.
DIGESTS = {
    "bounce": "1e20a6f04ef9da592794a7e7135c60f0",
    "bounce2": "c65ad4d42b9ee00583dcd1bd680c283a",
    "dropbox": "6eb4efffba476c9490ac047481c96146",
    "luxo": "67a3b0eb900425b655a7b12ab579da78",
    "luxo_cube": "0661f9978679da8daf7efccee574b84c",
    "urchin": "0ee5f94aa55ef112c2be1667c75593ff",
    "urchin_cube": "01e641f31ec91cc712cc234c93791b41",
}


def untrained(**sizes):
    torch.manual_seed(3)
    about = {"world": "nowhere", "version": 1}
    return Arbiter(
        about, (H, W), **{"proprio": P, "actions": A, "latent": 5, "channels": 3, "hidden": 17, **sizes}
    ).eval()


def clips(n=N):
    generator = torch.Generator().manual_seed(5)
    lcd = torch.randint(2, (n, FRAMES, H, W), generator=generator, dtype=torch.uint8)
    return {"lcd": lcd, "proprio": torch.randn(n, FRAMES, P, generator=generator)}


# The network ------------------------------------------------------------------------------------------


def test_shapes():
    arbiter = untrained()
    latent = arbiter(clips())
    assert latent.shape == (N, 10)
    assert arbiter.read_actions(latent).shape == (N, FRAMES - 1, A)


def test_each_half_sees_its_own():
    arbiter, frames = untrained(), clips()
    screens, proprio = arbiter.squeeze(frames).split(5, dim=1)
    other = clips(N + 1)
    dark = arbiter.squeeze({**frames, "lcd": other["lcd"][1:]})
    moved = arbiter.squeeze({**frames, "proprio": other["proprio"][1:]})
    assert torch.equal(dark[:, 5:], proprio)
    assert torch.equal(moved[:, :5], screens)
    assert not torch.isclose(dark[:, :5], screens).all(1).any()
    assert not torch.isclose(moved[:, 5:], proprio).all(1).any()


def test_without_a_robot_there_are_only_screens():
    arbiter = untrained(proprio=0, actions=0)
    latent = arbiter({"lcd": clips()["lcd"]})
    assert latent.shape == (N, 5)
    assert torch.equal(arbiter(clips()), latent)
    assert arbiter.read_actions(latent) is None


def test_what_it_cannot_judge_is_one_clear_line():
    arbiter, frames = untrained(), clips()
    with refused(ArbiterError, "proprio", got=["lcd"]):
        arbiter({"lcd": frames["lcd"]})
    with refused(ArbiterError, ("lcd", "[5, 11, 13]"), got=[5, 13, 11]):
        arbiter({**frames, "lcd": frames["lcd"].mT})
    with refused(ArbiterError, ("proprio", "[5, 3]"), got=[5, 2]):
        arbiter({**frames, "proprio": frames["proprio"][..., :2]})


# Training, on a belt with a bar that each action moves ------------------------------------------------------


class Belt(Conveyor):
    """The conveyor with the names that an arbiter knows."""

    def initial(self, observation):
        return super().initial({"place": observation["proprio"]})

    def observe(self, belief, action, observation):
        return super().observe(belief, action, {"place": observation["proprio"]})

    def decode(self, latent):
        decoded = super().decode(latent)
        return {"lcd": decoded["lcd"], "proprio": decoded["place"]}


def belt(n, seed=0):
    return [
        dataclasses.replace(t, observation={"lcd": t.observation["lcd"], "proprio": t.observation["place"]})
        for t in episodes(n, seed)
    ]


def still(trajectory):
    """The same without a robot: proprio is a zero."""
    zero = np.zeros_like(trajectory.observation["proprio"])
    return dataclasses.replace(trajectory, observation={**trajectory.observation, "proprio": zero})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return wmplay.save_trajectories(belt(150), tmp_path_factory.mktemp("belt") / "store")


@pytest.fixture(scope="module")
def arbiter(store):
    return train_arbiter(store, store, "belt", seed=1, updates=300, batch_size=64, about={"command": "this"})


def test_it_learns_to_read_actions_and_knows_the_scale(store, arbiter):
    segment = store.sample(5000, FRAMES - 1, 9)
    latent = arbiter(segment.observation)
    error = (arbiter.read_actions(latent) - segment.action).square().mean()
    assert error < 0.5 * segment.action.var()
    covariance = latent.T.cov()
    assert covariance.diagonal().max() < 1.1
    assert (covariance - torch.diag(covariance.diagonal())).abs().max() < 0.1
    assert latent.mean(0).abs().max() < 0.1


def test_it_says_what_it_is(arbiter):
    assert arbiter.name == "belt-v1"
    about = arbiter.about
    assert about["command"] == "this"
    assert (about["seed"], about["updates"], about["batch_size"]) == (1, 300, 64)
    assert set(about["losses"]) == {"screens", "proprio", "proprio_of_screens", "actions"}
    assert about["losses"]["actions"] < 0.5


def test_the_same_seed_gives_the_same_arbiter_and_draws_nothing_from_elsewhere(store):
    def train(seed):
        return train_arbiter(store, store, "belt", seed, updates=3, batch_size=5).digest

    torch.manual_seed(8)
    expected = torch.rand(1)
    torch.manual_seed(8)
    first = train(2)
    assert torch.equal(torch.rand(1), expected)
    assert train(2) == first
    assert train(3) != first


def test_a_world_without_a_robot(tmp_path):
    store = wmplay.save_trajectories([still(t) for t in belt(20)], tmp_path / "store")
    arbiter = train_arbiter(store, store, "passive", seed=1, updates=3, batch_size=5)
    assert list(arbiter.shapes) == ["lcd"]
    assert set(arbiter.about["losses"]) == {"screens"}
    score = judge(Belt(), cut_clips([still(t) for t in belt(40, seed=4)]), arbiter)
    assert score.chance is None
    assert score.likeness[MODEL].action_error is None
    assert "action_error" not in score.row()


# On disk ----------------------------------------------------------------------------------------------


def test_saved_and_loaded_it_says_the_same(arbiter, store, tmp_path):
    path = tmp_path / "belt-v1.npz"
    save_arbiter(arbiter, path)
    loaded = load_arbiter("belt", path)
    frames = store.sample(N, FRAMES - 1, 9).observation
    assert torch.equal(loaded(frames), arbiter(frames))
    assert torch.equal(loaded.read_actions(loaded(frames)), arbiter.read_actions(arbiter(frames)))
    assert (loaded.digest, loaded.about) == (arbiter.digest, arbiter.about)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_an_arbiter_that_is_not_there():
    with refused(ArbiterError, "luxo", got="luxi"):
        load_arbiter("luxi")


def test_of_another_world_or_version(arbiter, tmp_path):
    path = tmp_path / "belt.npz"
    save_arbiter(arbiter, path)
    with refused(ArbiterError, ("belt", "1"), got=("belt", 1), expected="luxo"):
        load_arbiter("luxo", path)
    with refused(ArbiterError, got=("belt", 1), expected=("luxo_cube", "2")):
        load_arbiter("luxo_cube", path)
    later = untrained()
    later.about["version"] = 2
    save_arbiter(later, path)
    with refused(ArbiterError, ("2", "nowhere"), got=("nowhere", 2), expected="1"):
        load_arbiter("nowhere", path)


def test_damaged_files(arbiter, tmp_path):
    path = tmp_path / "belt.npz"
    for content in (b"", b"nonsense", b"PK\x03\x04 half an archive"):
        path.write_bytes(content)
        with refused(ArbiterError, got=path):
            load_arbiter("belt", path)
    save_arbiter(arbiter, path)
    arrays = dict(np.load(path))
    changed = arrays["screens.0.bias"].copy()
    changed[3] += 0.5
    np.savez(path, **{**arrays, "screens.0.bias": changed})
    with refused(ArbiterError, path, expected=arbiter.digest):
        load_arbiter("belt", path)
    np.savez(path, **{**arrays, "screens.0.bias": changed[1:]})
    with refused(ArbiterError, "sizes", got=path):
        load_arbiter("belt", path)


def test_those_that_are_shipped():
    assert shipped_arbiters() == sorted(DIGESTS)
    for world, digest in DIGESTS.items():
        arbiter = load_arbiter(world)
        assert (arbiter.digest, arbiter.about["version"]) == (digest, version_of(world))
        assert arbiter.about["command"] == f"python scripts/train_arbiter.py {world}"
        assert (FOLDER / f"{arbiter.name}.npz").stat().st_size < 300_000
        with closing(wmplay.make_env(world)) as env:
            observation, _ = env.reset(seed=1)
        arbiter(
            {
                key: torch.from_numpy(value)[None, None].expand(2, FRAMES, *value.shape)
                for key, value in observation.items()
            }
        )


# Judging ----------------------------------------------------------------------------------------------


def test_a_perfect_model_is_as_good_as_real_and_a_frozen_one_as_bad_as_copying(arbiter):
    held_out = belt(150, seed=4)
    score = judge(Belt(), cut_clips(held_out, horizon=11), arbiter)
    assert score.likeness[MODEL] == score.likeness[REAL]
    assert (score.clips, score.episodes) == (150, 75)
    frozen = judge(Belt(speed=0), cut_clips(held_out, horizon=11), arbiter)
    assert frozen.likeness[MODEL] == frozen.likeness["copy-last"]
    assert frozen.likeness[REAL] == score.likeness[REAL]
    late = judge(Belt(late=2), cut_clips(held_out, horizon=11), arbiter)
    floor, ceiling = score.likeness[REAL], score.likeness["copy-last"]
    assert floor.frechet.value < late.likeness[MODEL].frechet.value < ceiling.frechet.value
    assert floor.action_error.high < late.likeness[MODEL].action_error.low
    assert score.chance == pytest.approx(0.25, abs=0.02)


def test_the_seed_settles_everything(arbiter):
    held_out = belt(60, seed=4)
    first, again, other = (
        judge(Belt(noise=2), cut_clips(held_out, seed=seed), arbiter) for seed in (5, 5, 6)
    )
    assert first == again
    assert first != other


def test_screens_are_judged_as_a_player_sees_them(arbiter):
    class Faint(Belt):
        def decode(self, latent):
            decoded = super().decode(latent)
            return {**decoded, "lcd": 0.4 + 0.3 * decoded["lcd"], "sound": decoded["proprio"]}

    clips = cut_clips(belt(150), horizon=5)  # probabilities of .46 and .64, and of .2 and .8
    assert judge(Faint(), clips, arbiter) == judge(Belt(), clips, arbiter)


def test_fewer_clips_than_asked_for_or_than_needed(arbiter):
    held_out = belt(200, seed=4)
    assert judge(Belt(), cut_clips(held_out, horizon=5, number=134), arbiter).clips == 67
    with refused(ArbiterError, "48", got=28, expected="49"):
        judge(Belt(), cut_clips(held_out[:16]), arbiter)
    with refused(ArbiterError, "episode", got=1, expected="many"):
        judge(Belt(), cut_clips(held_out[:1]), arbiter)
    with refused(ArbiterError, "horizon", got=4, expected="5"):
        judge(Belt(), cut_clips(held_out, horizon=4), arbiter)


def test_a_model_that_does_not_predict_screens(arbiter):
    class Blind(Belt):
        def decode(self, latent):
            return {"proprio": super().decode(latent)["proprio"]}

    with refused(ArbiterError, "lcd", got=["proprio"]):
        judge(Blind(), cut_clips(belt(150)), arbiter)


def test_a_model_that_has_diverged(arbiter):
    class Broken(Belt):
        def decode(self, latent):
            decoded = super().decode(latent)
            return {**decoded, "proprio": decoded["proprio"] / 0}

    with refused(ArbiterError, "finite"):
        judge(Broken(), cut_clips(belt(150)), arbiter)


def test_a_store_of_another_world(arbiter):
    def wider(t: Trajectory) -> Trajectory:
        lcd = np.pad(t.observation["lcd"], ((0, 0), (0, 0), (0, 2)))
        return dataclasses.replace(t, observation={**t.observation, "lcd": lcd})

    with refused(ArbiterError, ("lcd", "[5, 5, 11]"), got=[5, 5, 13]):
        judge(Belt(), cut_clips([wider(t) for t in belt(150)]), arbiter)


def test_scores_are_plain_data(arbiter):
    score = judge(Belt(), cut_clips(belt(80)), arbiter)
    content = json.loads(json.dumps(dataclasses.asdict(score)))
    assert content["arbiter"] == arbiter.name
    assert content["digest"] == arbiter.digest
    assert set(content) == {field.name for field in dataclasses.fields(ArbiterScore)}
    assert content["likeness"]["copy-last"]["frechet"] == list(score.likeness["copy-last"].frechet)
    row = score.row()
    assert row["frechet_low"] <= row["frechet"] <= row["frechet_high"]
    assert row["precision@3"] == score.likeness[MODEL].neighbours["precision@3"].value
    assert len(row) == 3 * 10


# Does the judge judge ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def luxo():
    """(arbiter, real futures, other real futures, the actions of the first)."""
    with closing(wmplay.make_env("luxo", num_envs=32)) as env:
        clips = cut_clips(wmplay.simulate(env, None, 96, seed=71), context=1)
    futures = {key: clips.truth[key] for key in ("lcd", "proprio")}
    half = ({key: value[rows] for key, value in futures.items()} for rows in (slice(48), slice(48, 96)))
    return load_arbiter("luxo"), *half, clips.actions[:48]


def test_the_more_noise_the_further(luxo):
    arbiter, true, real, actions = luxo
    generator = torch.Generator().manual_seed(1)
    lcd, proprio = true["lcd"] > 0, true["proprio"]
    where = torch.rand(lcd.shape, generator=generator)
    noise = proprio.std((0, 1)) * torch.randn(proprio.shape, generator=generator)
    for spoiled in (
        [{**true, "lcd": lcd ^ (where < part)} for part in (0, 0.003, 0.01, 0.03, 0.1)],
        [{**true, "proprio": proprio + size * noise} for size in (0, 0.1, 0.2, 0.5, 1)],
    ):
        scores = [compare(arbiter, frames, real, actions) for frames in spoiled]
        assert scores[0] == compare(arbiter, true, real, actions)
        for less, more in pairwise(scores):
            assert less.frechet.value < more.frechet.value
            assert less.neighbours["precision@5"].value >= more.neighbours["precision@5"].value
            assert less.neighbours["f1@5"].value >= more.neighbours["f1@5"].value
            assert less.action_error.value < more.action_error.value


def test_time_and_actions_that_do_not_fit(luxo):
    arbiter, true, real, actions = luxo
    floor = compare(arbiter, true, real, actions)
    chance = float((actions - actions.mean((0, 1))).square().mean())
    assert floor.action_error.high < 0.4 * chance
    backwards = {key: value.flip(1) for key, value in true.items()}
    assert compare(arbiter, backwards, real, actions).action_error.low > chance
    assert compare(arbiter, true, real, actions.roll(1, 0)).action_error.low > chance
    swapped = {**true, "lcd": true["lcd"].roll(1, 0)}
    assert compare(arbiter, swapped, real, actions).frechet.low > 5 * floor.frechet.high


def test_only_half_of_the_world(luxo):
    arbiter, true, real, actions = luxo
    floor = compare(arbiter, true, real, actions)
    left = true["proprio"][:, 0, 0].argsort()[:24].repeat(2)
    half = compare(arbiter, {key: value[left] for key, value in true.items()}, real, actions[left])
    assert half.frechet.value > floor.frechet.high
    assert half.neighbours["recall@3"].high < floor.neighbours["recall@3"].low
    assert half.neighbours["recall@3"].value < half.neighbours["precision@3"].value
