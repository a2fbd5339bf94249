"""A run as one folder: it acts and predicts to the bit as the run does; what is wrong is one line."""

import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import assert_tokens, refusal, refused

import wmplay
from wmplay.cli import main
from wmplay.config import plugins
from wmplay.errors import ConfigError, DamagedError, RunError, WmplayError
from wmplay.runs.load import ExportedRun, Run

TINY = (
    *("experiment=tiny", "iterations=1", "report=false", "fit.steps=2", "collect.episodes=0"),
    *("evaluate.prediction.episodes=0", "evaluate.policy.episodes=0"),
)
LEARNS = (*TINY, "policy=ppo", "objective=sum_of_rewards", "explorer=null")
PLUGIN = """
import torch
from torch import nn
import wmplay

@wmplay.register("policy", "linear")
class Linear(nn.Module):
    def __init__(self, action_space, gain: float = 2.0):
        super().__init__()
        self.gain, self.size = gain, action_space.shape[0]
        self.tied = self.weight = nn.Parameter(torch.randn(self.size, 4))
    def initial(self, batch_size):
        return None
    def act(self, carry, observation, last_action, first, *, explore=False, generator=None):
        return self.gain * observation["proprio"][:, :4] @ self.weight.T, None
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that plan, that learned, and with a plugin; each exported."""
    path = tmp_path_factory.mktemp("made")
    (path / "plugins").mkdir()
    (path / "plugins" / "linear.py").write_text(PLUGIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        for name, overrides in (
            ("plans", TINY),
            ("learned", (*LEARNS, "improve.steps=64", "improve.world=real", "improve.num_envs=4")),
            ("plugged", (*LEARNS, "policy=linear", "model=null", "fit.steps=0")),
        ):
            wmplay.train([*overrides, f"dir={name}"])
            assert main(["export", name, "--out", f"{name}-out"]) == 0
    return path


@pytest.fixture(autouse=True)
def _here(made: Path) -> None:
    for path in made.iterdir():
        if path.name != "plugins":
            Path(path.name).symlink_to(path)


def own(name: str) -> Path:
    """A copy that a test may change."""
    made = Path(name).resolve()
    Path(name).unlink()
    return Path(shutil.copytree(made, name))


@pytest.mark.parametrize("name", ["plans", "learned"])
def test_it_acts_and_predicts_as_the_run_does_to_the_bit(name: str) -> None:
    run, exported = wmplay.load_run(name), wmplay.load_run(f"{name}-out")
    assert (type(run), type(exported)) == (Run, ExportedRun)
    made = [
        wmplay.simulate(each.env, each.policy, episodes=2, seed=5, max_steps=7) for each in (run, exported)
    ]
    for ours, theirs in zip(*made, strict=True):
        np.testing.assert_array_equal(ours.action, theirs.action)
    belief = {key: torch.from_numpy(value[:1]) for key, value in made[0][0].observation.items()}
    actions = torch.from_numpy(made[0][0].action[None])
    futures = [wmplay.predict(each.model, each.model.initial(belief), actions) for each in (run, exported)]
    for key, value in futures[0].observation.items():
        assert torch.equal(value, futures[1].observation[key])
    act, observation = exported.actor(seed=5), run.env.reset(seed=5)[0]
    np.testing.assert_array_equal(act(observation), made[0][0].action[0])


def test_what_is_in_the_folder(made: Path) -> None:
    assert {file.name for file in Path("learned-out").iterdir()} == {
        "card.json",
        "card.md",
        "config.yaml",
        "export.json",
        "spaces.json",
        "weights.safetensors",
    }
    about = json.loads(Path("learned-out/export.json").read_text())
    assert (about["format"], about["name"], about["made_with"]["world"]) == (1, "tiny", "luxo")
    assert about["versions"]["torch"] == version("torch")
    assert Path("learned-out").stat().st_mode & 0o777 == Path("learned").stat().st_mode & 0o777


def test_it_loads_elsewhere_without_what_trains_and_without_the_env() -> None:
    """A policy that needs no more than spaces: neither the loop, nor the world's physics."""
    code = (
        "import sys, json, numpy as np, wmplay; run = wmplay.load_run('learned-out'); act = run.actor(); "
        "spaces = run.parts.env.observation_space.spaces; "
        "print(json.dumps([act({key: space.high for key, space in spaces.items()}).tolist(), "
        "sorted({'wmplay.train', 'wmplay.loop.fitter', 'wmplay.loop.session', 'Box2D'} & set(sys.modules))]))"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    action, loaded = json.loads(output)
    assert loaded == []
    run = wmplay.load_run("learned")
    highest = {key: space.high for key, space in run.env.observation_space.spaces.items()}
    np.testing.assert_array_equal(run.actor()(highest), np.float32(action))


def test_simulate_and_compare_with_an_exported_run(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["simulate", "luxo", "task=body_goal", "physics=fast", "max_steps=5", "--episodes", "2"]
    assert main([*command, "--run", "learned-out", "--out", "s"]) == 0
    other = ["simulate", "urchin", *command[2:], "--run", "learned-out", "--out", "t"]
    assert_tokens(refusal(capsys, *other), ("learned-out", "world=luxo"))


def damaged(name: str, how: str) -> None:
    file = own("learned-out") / name
    if how == "gone":
        file.unlink()
    elif how == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif how == "flipped":
        content = bytearray(file.read_bytes())
        content[-5] ^= 16
        file.write_bytes(content)
    else:
        file.write_text(how)


@pytest.mark.parametrize(
    ("name", "how", "kind", "fields"),
    [
        ("weights.safetensors", "gone", RunError, {"about": ("learned-out", "weights.safetensors")}),
        ("weights.safetensors", "cut", DamagedError, {"about": ("weights.safetensors", "checksum")}),
        ("weights.safetensors", "flipped", DamagedError, {"about": ("weights.safetensors", "checksum")}),
        ("config.yaml", "gone", RunError, {"about": ("learned-out", "config.yaml")}),
        ("config.yaml", "a: [", WmplayError, {"about": ("config.yaml", "damaged")}),
        ("config.yaml", "flipped", DamagedError, {"about": ("config.yaml", "checksum")}),
        ("spaces.json", "gone", RunError, {"about": ("learned-out", "spaces.json")}),
        ("spaces.json", "cut", WmplayError, {"about": ("spaces.json", "damaged")}),
        ("spaces.json", "{}", RunError, {"about": ("spaces.json", "KeyError('observation_space')")}),
        ("spaces.json", '{"observation_space": {"type": "Text"}}', WmplayError, {"about": "'Text'"}),
        ("export.json", "gone", RunError, {"about": ("learned-out", "run.json")}),
        ("export.json", "cut", WmplayError, {"about": ("export.json", "damaged")}),
        ("export.json", "[]", DamagedError, {"about": "export.json", "got": "list"}),
        ("export.json", '{"format": 7}', RunError, {"about": ("learned-out", "format 7"), "expected": "1"}),
    ],
)
def test_a_damaged_folder_is_told_in_one_line(
    name: str, how: str, kind: type[WmplayError], fields: dict[str, object]
) -> None:
    damaged(name, how)
    with refused(kind, **fields):
        _ = wmplay.load_run("learned-out").policy


def without_digest_of_the_config(folder: Path) -> None:
    """As 0.1.0 exported."""
    about = json.loads((folder / "export.json").read_text())
    del about["config_sha256"], about["checksum"]
    (folder / "export.json").write_text(json.dumps(about))


def test_a_config_without_a_digest_is_read() -> None:
    damaged("config.yaml", "[1]")
    without_digest_of_the_config(Path("learned-out"))
    with refused(RunError, "config.yaml"):
        _ = wmplay.load_run("learned-out").policy


def test_weights_of_another_model() -> None:
    config = own("learned-out") / "config.yaml"
    config.write_text(config.read_text().replace("hidden: 128", "hidden: 64"))
    without_digest_of_the_config(Path("learned-out"))
    with refused(RunError, ("learned-out", "policy", "PPO")):
        _ = wmplay.load_run("learned-out").policy


def test_a_plugin_that_is_not_here(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith(plugins.NAMESPACE)]:
        monkeypatch.delitem(sys.modules, module)
    with refused(ConfigError, ("policy 'linear'", "linear.py", "./plugins")):
        _ = wmplay.load_run("plugged-out").policy
    shutil.copytree(made / "plugins", "plugins")
    ours, theirs = (wmplay.load_run(name).policy.weight for name in ("plugged", "plugged-out"))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("command", "tokens"),
    [
        ("export plans --out plans-out", ("plans-out", "--out")),
        ("export nowhere --out x", ("nowhere", "run.json")),
        ("export plans", "--out"),
        ("export plans-out --out x", ("plans-out", "export", "run")),
        ("eval plans-out", ("plans-out", "export", "run")),
    ],
)
def test_refusals(capsys: pytest.CaptureFixture[str], command: str, tokens: str | tuple[str, ...]) -> None:
    assert_tokens(refusal(capsys, *command.split()), tokens)


def test_a_run_without_a_checkpoint_is_not_exported(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(own("plans") / "checkpoints")
    assert_tokens(refusal(capsys, "export", "plans", "--out", "x"), ("plans", "checkpoint", "copy"))
