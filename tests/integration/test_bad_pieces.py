"""Pieces with mistakes in them: environments, models, policies and plugins that do not do as they should."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import (
    Box,
    Dict,
    Discrete,
    Graph,
    MultiBinary,
    MultiDiscrete,
    Sequence,
    Space,
    Text,
    Tuple,
)
from refusals import assert_tokens, failure, refusal, refused

import wmplay
from wmplay.cli import main
from wmplay.config.plugins import in_one_line
from wmplay.errors import ActionError, PluginError
from wmplay.runs.disk.directory import RunDirectory

SMALL = ("train", "experiment=tiny", "iterations=1", "collect.random_episodes=2", "report=false")
VECTOR = Box(-1, 1, (3,), np.float32)


@pytest.fixture(autouse=True)
def plugins(tmp_path: Path) -> Path:
    folder = tmp_path / "plugins"
    folder.mkdir()
    return folder


# ---- environments ----------------------------------------------------------------------------------


class Odd(gymnasium.Env):
    """An environment with any spaces."""

    def __init__(self, seen: Space = VECTOR, done: Space = VECTOR) -> None:
        self.observation_space, self.action_space = seen, done

    def reset(self, *, seed: int | None = None, options: object = None) -> tuple[object, dict]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: object) -> tuple[object, float, bool, bool, dict]:
        return self.observation_space.sample(), 0.0, False, False, {}


SEEN = {
    "text": (Text(5), ("observation", "Odd-v0", "Text")),
    "graph": (Graph(VECTOR, VECTOR), ("observation", "Odd-v0", "Graph")),
    "sequence": (Sequence(VECTOR), ("observation", "Odd-v0", "Sequence")),
}
DONE = {
    "multidiscrete": (MultiDiscrete([2, 3]), ("action", "Odd-v0", "MultiDiscrete")),
    "multibinary": (MultiBinary(3), ("action", "Odd-v0", "MultiBinary")),
    "tuple": (Tuple((Discrete(2),)), ("action", "Odd-v0", "Tuple")),
    "dict": (Dict(a=VECTOR), ("action", "Odd-v0", "Dict")),
}


def register(seen: Space, done: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(gymnasium.registry, "Odd-v0", raising=False)
    gymnasium.register("Odd-v0", entry_point=lambda: Odd(seen, done), max_episode_steps=7)


@pytest.mark.parametrize(("space", "tokens"), SEEN.values(), ids=SEEN)
def test_an_observation_space_that_nothing_handles(
    space: Space,
    tokens: str | tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(space, VECTOR, monkeypatch)
    assert_tokens(refusal(capsys, "simulate", "Odd-v0", "--out", "store", "--episodes", "1"), tokens)


@pytest.mark.parametrize(("space", "tokens"), DONE.values(), ids=DONE)
def test_an_action_space_that_nothing_handles(
    space: Space,
    tokens: str | tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(VECTOR, space, monkeypatch)
    train = ("train", "env=gym", "env.id=Odd-v0", "objective=sum_of_rewards")
    assert_tokens(refusal(capsys, *train), tokens)


def test_actions_without_bounds_cannot_be_planned(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(VECTOR, Box(-np.inf, np.inf, (2,), np.float32), monkeypatch)
    assert_tokens(refusal(capsys, "train", "env=gym", "env.id=Odd-v0"), ("inf", "env.action_limit=1"))


@pytest.mark.parametrize("name", ["luxo", "Pendulum-v1"])
def test_an_action_that_cannot_be(name: str) -> None:
    env = wmplay.make_env(name, **({"physics": "fast"} if name == "luxo" else {}))
    env.reset(seed=0)
    (size,) = env.action_space.shape
    for action, fields in (
        (np.full(size, np.nan), {"about": ("action", "NaN", "[0]")}),
        (np.zeros(5), {"about": "action", "got": (5,), "expected": f"[{size}]"}),
        ("left", {"about": "action", "got": "str", "expected": "array"}),
    ):
        with refused(ActionError, **fields):
            env.step(action)


SHAFT = """
import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict

import wmplay

@wmplay.register("env", "mine")
class Shaft(gymnasium.Env):
    def __init__(self):
        self.observation_space = Dict(state=Box(-1, 1, (3,), np.float32), screen=Box(0, 1, (2, 5), np.uint8))
        self.action_space = Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observe(), {}

    def step(self, action):
        return self.observe(), 0.0, False, True, {}

    def observe(self):
        return {"state": np.zeros(3, np.float32), "screen": np.zeros((2, 5), np.uint8)}
"""
ANSWERS = {
    ("np.zeros(3, np.float32)", "np.zeros(5)"): (("Shaft.reset", "'state'", "[5]", "[3]")),
    ("np.zeros((2, 5), np.uint8)", "np.ones((2, 5)) / 2"): ("'screen'", "float64", "uint8"),
    ("np.zeros((2, 5), np.uint8)", "[[None] * 5] * 2"): ("'screen'", "object", "uint8"),
    (
        '"screen": ',
        '"scren": ',
    ): ("Shaft.reset", "scren", "screen"),
    (
        'return {"state"',
        'return 3, {"state"',
    ): ("Shaft.reset", "tuple", "screen"),
    ("self.observe(), {}", "self.observe()"): ("Shaft.reset", "dict", "observation, info"),
    ("0.0, False, True", "0.0, True"): ("Shaft.step", "4", "observation, reward, terminated"),
    ("def step", "def stepp"): ("Shaft", "step()", "docs/env.md"),
    ("def reset", "def rest"): ("Shaft", "reset()", "docs/env.md"),
    ("0.0, False", "1 / 0, False"): (
        ("ZeroDivisionError", "plugins/mine.py, line 19", "Shaft.step", "--debug")
    ),
}


@pytest.mark.parametrize(("change", "tokens"), ANSWERS.items())
def test_what_an_env_returns_is_looked_at_before_a_run(
    change: tuple[str, str], tokens: tuple[str, ...], plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert change[0] in SHAFT
    (plugins / "mine.py").write_text(SHAFT.replace(*change))
    answered(capsys, tokens, "train", "env=mine", "model=mlp", "objective=sum_of_rewards")


def test_a_mistake_in_a_worker_is_told_with_its_line(
    plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = (
        "    count = 0\n\n    def observe(self):\n        Shaft.count += 1\n        assert Shaft.count < 7\n"
    )
    (plugins / "mine.py").write_text(SHAFT.replace("    def observe(self):\n", counts))
    with pytest.raises(AssertionError) as caught:
        wmplay.simulate(wmplay.make_env("mine", num_envs=4, num_workers=2), episodes=97)
    assert "raised in an env worker" in caught.value.__notes__[0]
    place = "plugins/mine.py, line 25, in Shaft.observe"
    assert in_one_line(caught.value) == f"AssertionError: fix {place}"


# ---- models ----------------------------------------------------------------------------------------

MODEL = """
import torch
import wmplay
from wmplay.contracts import Prediction
from wmplay.models.mlp import MLP

@wmplay.register("model", "mine")
class Mine(MLP):
    def __init__(self, observation_space, action_space):
        super().__init__(observation_space, action_space, hidden=16, image_hidden=16)

"""

LOSSES = {
    "3.0, {}": ("Mine.loss", "float", "scalar"),
    "None": ("Mine.loss", "NoneType", "dict"),
    "loss": ("Mine.loss", "Tensor", "dict"),
    "loss.expand(5), {}": ("Mine.loss", "shape [5]", "scalar"),
    "loss.detach(), {}": ("Mine.loss", "weights"),
    "loss, {'loss/a': 'low'}": ("Mine.loss", "'loss/a'", "str"),
    "loss, {'loss/a': torch.zeros(3)}": ("Mine.loss", "'loss/a'", "shape [3]"),
    "loss * float('nan'), {'loss/a': loss * float('nan')}": ("update 0", "nan", "loss/a"),
    "loss * float('inf'), {}": ("update 0", "inf"),
}


@pytest.mark.parametrize(("returned", "tokens"), LOSSES.items())
def test_a_loss_that_cannot_be_is_named_and_a_run_that_diverges_kept(
    returned: str, tokens: tuple[str, ...], plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = (
        f"    def loss(self, segment):\n        loss, _ = super().loss(segment)\n        return {returned}\n"
    )
    (plugins / "mine.py").write_text(MODEL + body)
    assert_tokens(failure(capsys, *SMALL, "model=mine"), tokens)
    if not tokens[0].startswith("update"):  # the rehearsal tries an update, too
        assert not Path("runs").exists()
        return
    (path,) = Path("runs/tiny").iterdir()
    run = RunDirectory(path)
    assert run.read()["status"] == "failed"
    assert run.read_checkpoint()["state"]["phase"] == "fit"
    assert len(wmplay.load_trajectories(run.trajectories)) == 5


PREDICTIONS = {
    "(1, 2)": ("Mine.predict", "tuple", "Prediction"),
    "Prediction(p.latent, p.reward[..., None], p.discount, p.belief, p.decode)": ("Mine.predict", "reward"),
    "Prediction(p.latent, p.reward, p.discount[:, 1:], p.belief, p.decode)": ("Mine.predict", "discount"),
    "Prediction(p.latent, p.reward, p.discount, p.belief, lambda _: {'lcd': torch.zeros(1, 2, 5)})": (
        ("Mine", "'lcd'", "[1, 2, 5]", "[1, 2, 16, 32]")
    ),
}


@pytest.mark.parametrize(("returned", "tokens"), PREDICTIONS.items())
def test_a_prediction_that_cannot_be_costs_no_run(
    returned: str, tokens: tuple[str, ...], plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict = "    def predict(self, belief, action, *, generator=None):\n"
    body = f"        p = super().predict(belief, action, generator=generator)\n        return {returned}\n"
    (plugins / "mine.py").write_text(MODEL + predict + body)
    answered(capsys, tokens, *SMALL, "model=mine")


PLAIN = """
class Plain:
    initial = observe = predict = decode = loss = print

@wmplay.register("model", "plain")
class Maker(MLP):
    def __new__(cls, observation_space, action_space):
        return Plain()
"""


@pytest.mark.parametrize(
    ("text", "model", "tokens"),
    [
        (MODEL + "    predict = None", "mine", ("Mine", "predict()", "wmplay/contracts")),
        (MODEL + PLAIN, "plain", ("Plain", "torch.nn.Module")),
    ],
)
def test_a_class_that_is_no_model(
    text: str, model: str, tokens: tuple[str, ...], plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (plugins / "mine.py").write_text(text)
    answered(capsys, tokens, *SMALL, f"model={model}")


# ---- planners --------------------------------------------------------------------------------------

PLANNER = """
import wmplay
from wmplay.planners.random_shooting import RandomShooting

@wmplay.register("planner", "mine")
class Mine(RandomShooting):
    def __init__(self, action_space, horizon: int = 5, candidates: int = 7):
        super().__init__(action_space, horizon=horizon, candidates=candidates)

    def plan(self, model, belief, score, **how):
        plan = super().plan(model, belief, score, **how)
        return RETURNED
"""
PLANS = {
    "None": ("Mine.plan", "NoneType", "Plan(action, score"),
    "(plan.action, plan.score)": ("Mine.plan", "tuple", "Plan(action, score"),
    "wmplay.Plan(plan.action[:, 0], plan.score)": ("Mine.plan", "[1, 3]", "[1, H, 3]"),
    "wmplay.Plan(plan.action[..., 1:], plan.score)": ("Mine.plan", "[1, H, 3]"),
}


@pytest.mark.parametrize(("returned", "tokens"), PLANS.items())
def test_a_plan_that_cannot_be_costs_no_run(
    returned: str, tokens: tuple[str, ...], plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (plugins / "mine.py").write_text(PLANNER.replace("RETURNED", returned))
    answered(capsys, tokens, *SMALL, "planner=mine", "~planner.iterations")


# ---- policies --------------------------------------------------------------------------------------

POLICY = """
import numpy as np
import torch
import wmplay

@wmplay.register("policy", "mine")
class Mine:
    def __init__(self, action_space):
        self.size = action_space.shape[0]

    def initial(self, batch_size):
        return ()

    def act(self, carry, observation, last_action, first, *, explore=False, generator=None):
        shape = (len(first), self.size)
        return RETURNED
"""

ACTIONS = {
    "torch.full(shape, float('nan')), carry": ("policy Mine", "NaN", "[0, 0]", "finite"),
    "torch.zeros(2, *shape), carry": ("policy Mine", "[2, 1, 3]", "[1, 3]"),
    "torch.zeros(shape[0], 5), carry": ("policy Mine", "[1, 5]", "[1, 3]"),
    "torch.zeros(shape).long(), carry": ("policy Mine", "int64", "floats"),
    "torch.zeros(shape)": ("Mine.act", "Tensor", "action tensor, carry"),
    "np.zeros(shape), carry": ("Mine.act", "tuple", "action tensor, carry"),
    "None": ("Mine.act", "NoneType", "action tensor, carry"),
}


@pytest.mark.parametrize(("returned", "tokens"), ACTIONS.items())
def test_an_action_of_a_policy_that_cannot_be_costs_no_run(
    returned: str, tokens: tuple[str, ...], plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (plugins / "mine.py").write_text(POLICY.replace("RETURNED", returned))
    answered(capsys, tokens, *SMALL, "policy=mine")


# ---- plugins ---------------------------------------------------------------------------------------

GOOD = """
import wmplay

@wmplay.register("model", "good")
class Good:
    def __init__(self, observation_space, action_space, width: int = 7): ...
"""
BROKEN = {
    "import no_such_module": ("ModuleNotFoundError", "'no_such_module'", "plugins/broken.py, line 1"),
    "def f(:": "SyntaxError",
    "raise SystemExit(1)": "SystemExit: 1",
    "1 / 0": "ZeroDivisionError: division by zero",
    GOOD.replace('"good"', '"rssm"'): ("'rssm'", "built-in", "Good"),
    GOOD.replace('"model"', '"modle"'): ("'modle'", "'model'"),
}


@pytest.mark.parametrize(("text", "reason"), BROKEN.items())
def test_a_broken_plugin_is_named_and_leaves_the_rest_working(
    text: str, reason: str | tuple[str, ...], plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (plugins / "broken.py").write_text(text)
    (plugins / "good.py").write_text(GOOD)
    assert main(["train", "--cfg", "model=good"]) == 0
    assert "width: 7" in capsys.readouterr().out
    message = answered(capsys, ("model 'gooood'", "'good'"), "train", "model=gooood")
    assert_tokens(message.partition("[plugins/broken.py")[2], reason)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("int = 7", "intt = 7"), ("NameError", "'intt'", "line 6")),
        (("import wmplay", ""), ("NameError", "'wmplay'", "line 4")),
        (("class Good:", "class Good:\n    size = {}[3]"), ("KeyError: 3", "line 6")),
    ],
)
def test_a_piece_whose_plugin_does_not_load_says_why(
    change: tuple[str, str], why: tuple[str, ...], plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (plugins / "good.py").write_text(GOOD.replace(*change))
    tokens = ("model 'good'", "plugins/good.py", *why)
    answered(capsys, tokens, "train", "model=good")
    answered(capsys, tokens, "check", "model=good")
    with refused(PluginError, tokens, got="good"):
        wmplay.make("model", "good", env=wmplay.make_env("luxo"))


def test_a_name_that_two_pieces_want_is_nobodys(plugins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else a run would be one of the other piece, and look as it should."""
    (plugins / "a.py").write_text(GOOD)
    (plugins / "b.py").write_text(GOOD)
    (plugins / "c.py").write_text(GOOD.replace('"good"', '"rssm"'))
    assert main(["list", "model"]) == 0
    told = capsys.readouterr().out
    for tokens in (("plugins/b.py", "'good'", "plugins/a.py"), ("plugins/c.py", "'rssm'", "built in")):
        assert_tokens(next(line for line in told.splitlines() if tokens[0] in line), tokens)
    for name, source, owner in (("good", "b", "wmplay_plugins.a.Good"), ("rssm", "c", "built-in")):
        answered(capsys, (f"model '{name}'", f"plugins/{source}.py", owner), "train", f"model={name}")


# ---- a plugin's own mistakes while it is used ------------------------------------------------------

WRONG = (
    MODEL
    + """    def loss(self, segment):
        return self.worth(segment.reward), {}

    def worth(self, reward):
        return reward @ torch.zeros(997, 2)
"""
)
WHERE = "plugins/mine.py, line 16, in Mine.worth"


def test_a_mistake_within_a_plugin_is_told_with_its_line(
    plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (plugins / "mine.py").write_text(WRONG)
    message = failure(capsys, *SMALL, "model=mine")
    assert_tokens(message, ("RuntimeError", "997x2", WHERE, "--debug"))
    with pytest.raises(RuntimeError, match="997x2"):
        main([*SMALL, "model=mine", "--debug"])
    assert main(["check", "model=mine"]) == 2
    assert f"997x2); fix {WHERE}\n" in capsys.readouterr().out


def test_so_it_is_in_a_sweep(plugins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (plugins / "mine.py").write_text(WRONG)
    message = failure(capsys, *SMALL, "model=mine", "seed=3", "-m", "hydra.sweep.dir=runs/all")
    assert_tokens(message, "1 of 1")
    assert_tokens(message, ("997x2", WHERE))
    (told,) = Path("runs/all").glob("*/failure.txt")
    assert "Traceback (most recent call last)" in told.read_text()


def test_what_a_plugin_calls_wrongly_is_named_too(plugins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = "    def predict(self, belief, action, **_):\n        return super().predict(belief, action[0])\n"
    (plugins / "mine.py").write_text(MODEL + body)
    message = failure(capsys, *SMALL, "model=mine")
    assert_tokens(message, ("plugins/mine.py, line 13", "Mine.predict"))
    assert "wmplay/" in message.partition("which calls ")[2]


def test_a_mistake_of_our_own_comes_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wmplay.registry.pieces", None)
    with pytest.raises(TypeError, match="NoneType"):
        main(["list"])


def test_a_folder_of_plugins_that_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WMPLAY_PLUGINS", "plugin_s")
    message = refusal(capsys, "train", "model=mine")
    assert_tokens(message, "$WMPLAY_PLUGINS: plugin_s")


def answered(capsys: pytest.CaptureFixture[str], tokens: str | tuple[str, ...], *arguments: str) -> str:
    """A refusal, but for the bytecode of the plugins; returns the whole message."""
    whole = failure(capsys, *arguments)
    assert_tokens(whole, tokens)
    assert not Path("runs").exists()
    return whole
