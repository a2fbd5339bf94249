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
from refusals import failure, refusal

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
    "text": (Text(5), "observation of 'Odd-v0' is Text("),
    "graph": (Graph(VECTOR, VECTOR), "observation of 'Odd-v0' is Graph("),
    "sequence": (Sequence(VECTOR), "observation of 'Odd-v0' is Sequence("),
}
DONE = {
    "multidiscrete": (MultiDiscrete([2, 3]), "action of 'Odd-v0' is MultiDiscrete("),
    "multibinary": (MultiBinary(3), "action of 'Odd-v0' is MultiBinary("),
    "tuple": (Tuple((Discrete(2),)), "action of 'Odd-v0' is Tuple("),
    "dict": (Dict(a=VECTOR), "action of 'Odd-v0' is Dict("),
}


def register(seen: Space, done: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(gymnasium.registry, "Odd-v0", raising=False)
    gymnasium.register("Odd-v0", entry_point=lambda: Odd(seen, done), max_episode_steps=7)


@pytest.mark.parametrize(("space", "message"), SEEN.values(), ids=SEEN)
def test_an_observation_space_that_nothing_handles(
    space: Space, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(space, VECTOR, monkeypatch)
    assert message in refusal(capsys, "simulate", "Odd-v0", "--out", "store", "--episodes", "1")


@pytest.mark.parametrize(("space", "message"), DONE.values(), ids=DONE)
def test_an_action_space_that_nothing_handles(
    space: Space, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(VECTOR, space, monkeypatch)
    train = ("train", "env=gym", "env.id=Odd-v0", "objective=sum_of_rewards")
    assert message in refusal(capsys, *train)


def test_actions_without_bounds_cannot_be_planned(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(VECTOR, Box(-np.inf, np.inf, (2,), np.float32), monkeypatch)
    assert "expected finite bounds" in refusal(capsys, "train", "env=gym", "env.id=Odd-v0")


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.array([0, np.nan, 0]), "has NaN"),
        (np.zeros(5), r"has shape \[5\], expected \[3\]"),
        ("left", "action is a str, expected an array of numbers"),
    ],
)
def test_an_action_that_cannot_be(action: object, message: str) -> None:
    for env in (wmplay.make_env("luxo", physics="fast"), wmplay.make_env("Pendulum-v1")):
        env.reset(seed=0)
        bad = action[:1] * np.nan if message == "has NaN" and env.action_space.shape == (1,) else action
        expected = message.replace("[3", f"[{env.action_space.shape[0]}")
        with pytest.raises(ActionError, match=expected):
            env.step(bad)


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
    ("np.zeros(3, np.float32)", "np.zeros(5)"): (
        "Shaft.reset (episode 1): observation 'state' has shape [5], expected [3]: observation_space says so"
    ),
    ("np.zeros((2, 5), np.uint8)", "np.ones((2, 5)) / 2"): "observation 'screen' is float64, expected uint8",
    ("np.zeros((2, 5), np.uint8)", "[[None] * 5] * 2"): "observation 'screen' is object, expected uint8",
    (
        '"screen": ',
        '"scren": ',
    ): "Shaft.reset (episode 1): observation has scren, state; its observation_space has screen,",
    (
        'return {"state"',
        'return 3, {"state"',
    ): "Shaft.reset (episode 1): observation has tuple; its observation_space has",
    ("self.observe(), {}", "self.observe()"): "Shaft.reset returned a dict, expected (observation, info)",
    ("0.0, False, True", "0.0, True"): "Shaft.step returned 4 values, expected (observation, reward, termin",
    ("def step", "def stepp"): "Shaft has no step(), as every env needs it: see docs/env.md",
    ("def reset", "def rest"): "Shaft has no reset(), as every env needs it: see docs/env.md",
    ("0.0, False", "1 / 0, False"): (
        "ZeroDivisionError: division by zero: fix plugins/mine.py, line 19, in Shaft.step (with --debug: the"
    ),
}


@pytest.mark.parametrize(("change", "message"), ANSWERS.items())
def test_what_an_env_returns_is_looked_at_before_a_run(
    change: tuple[str, str], message: str, plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert change[0] in SHAFT
    (plugins / "mine.py").write_text(SHAFT.replace(*change))
    refused(capsys, message, "train", "env=mine", "model=mlp", "objective=sum_of_rewards")


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
    "3.0, {}": "Mine.loss returned float, expected a scalar tensor: take its mean",
    "None": "Mine.loss returned NoneType, expected a scalar tensor and a dict of scalars",
    "loss": "Mine.loss returned Tensor, expected a scalar tensor and a dict of scalars",
    "loss.expand(5), {}": "Mine.loss returned a tensor of shape [5], expected a scalar tensor: take its mean",
    "loss.detach(), {}": "Mine.loss does not depend on the weights",
    "loss, {'loss/a': 'low'}": "Mine.loss returned the metric 'loss/a' as str, expected a scalar",
    "loss, {'loss/a': torch.zeros(3)}": "the metric 'loss/a' as a tensor of shape [3], expected a scalar",
    "loss * float('nan'), {'loss/a': loss * float('nan')}": "update 0: the loss is nan; loss/a is nan",
    "loss * float('inf'), {}": "update 0: the loss is inf; no term of it is; the last good",
}


@pytest.mark.parametrize(("returned", "message"), LOSSES.items())
def test_a_loss_that_cannot_be_is_named_and_a_run_that_diverges_kept(
    returned: str, message: str, plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = (
        f"    def loss(self, segment):\n        loss, _ = super().loss(segment)\n        return {returned}\n"
    )
    (plugins / "mine.py").write_text(MODEL + body)
    assert message in failure(capsys, *SMALL, "model=mine")
    if not message.startswith("update"):  # the rehearsal tries an update, too
        assert not Path("runs").exists()
        return
    (path,) = Path("runs/tiny").iterdir()
    run = RunDirectory(path)
    assert run.read()["status"] == "failed"
    assert run.read_checkpoint()["state"]["phase"] == "fit"
    assert len(wmplay.load_trajectories(run.trajectories)) == 5


PREDICTIONS = {
    "(1, 2)": "Mine.predict returned a tuple, expected a Prediction",
    "Prediction(p.latent, p.reward[..., None], p.discount, p.belief, p.decode)": "Mine.predict: reward has",
    "Prediction(p.latent, p.reward, p.discount[:, 1:], p.belief, p.decode)": "Mine.predict: discount",
    "Prediction(p.latent, p.reward, p.discount, p.belief, lambda _: {'lcd': torch.zeros(1, 2, 5)})": (
        "Mine: the predicted 'lcd' has shape [1, 2, 5], expected [1, 2, 16, 32]"
    ),
}


@pytest.mark.parametrize(("returned", "message"), PREDICTIONS.items())
def test_a_prediction_that_cannot_be_costs_no_run(
    returned: str, message: str, plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict = "    def predict(self, belief, action, *, generator=None):\n"
    body = f"        p = super().predict(belief, action, generator=generator)\n        return {returned}\n"
    (plugins / "mine.py").write_text(MODEL + predict + body)
    refused(capsys, message, *SMALL, "model=mine")


PLAIN = """
class Plain:
    initial = observe = predict = decode = loss = print

@wmplay.register("model", "plain")
class Maker(MLP):
    def __new__(cls, observation_space, action_space):
        return Plain()
"""


@pytest.mark.parametrize(
    ("text", "model", "message"),
    [
        (MODEL + "    predict = None", "mine", "Mine has no predict(), as every model needs it: see wmplay/"),
        (MODEL + PLAIN, "plain", "Plain is no torch.nn.Module, as every model is: let it inherit from that"),
    ],
)
def test_a_class_that_is_no_model(
    text: str, model: str, message: str, plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (plugins / "mine.py").write_text(text)
    refused(capsys, message, *SMALL, f"model={model}")


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
    "None": "Mine.plan returned a NoneType, expected a Plan(action, score)",
    "(plan.action, plan.score)": "Mine.plan returned a tuple, expected a Plan(action, score)",
    "wmplay.Plan(plan.action[:, 0], plan.score)": "Mine.plan: the action has shape [1, 3], expected [1, H,",
    "wmplay.Plan(plan.action[..., 1:], plan.score)": ", 2], expected [1, H, 3]",
}


@pytest.mark.parametrize(("returned", "message"), PLANS.items())
def test_a_plan_that_cannot_be_costs_no_run(
    returned: str, message: str, plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (plugins / "mine.py").write_text(PLANNER.replace("RETURNED", returned))
    refused(capsys, message, *SMALL, "planner=mine", "~planner.iterations")


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
    "torch.full(shape, float('nan')), carry": "an action that has NaN at [0, 0], expected finite",
    "torch.zeros(2, *shape), carry": "an action that has shape [2, 1, 3], expected [1, 3]",
    "torch.zeros(shape[0], 5), carry": "an action that has shape [1, 5], expected [1, 3]",
    "torch.zeros(shape).long(), carry": "policy Mine returned an action that is int64, expected floats",
    "torch.zeros(shape)": "policy Mine.act returned a Tensor, expected (action tensor, carry)",
    "np.zeros(shape), carry": "policy Mine.act returned a tuple, expected (action tensor, carry)",
    "None": "policy Mine.act returned a NoneType, expected (action tensor, carry)",
}


@pytest.mark.parametrize(("returned", "message"), ACTIONS.items())
def test_an_action_of_a_policy_that_cannot_be_costs_no_run(
    returned: str, message: str, plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (plugins / "mine.py").write_text(POLICY.replace("RETURNED", returned))
    refused(capsys, message, *SMALL, "policy=mine")


# ---- plugins ---------------------------------------------------------------------------------------

GOOD = """
import wmplay

@wmplay.register("model", "good")
class Good:
    def __init__(self, observation_space, action_space, width: int = 7): ...
"""
BROKEN = {
    "import no_such_module": (
        "ModuleNotFoundError: No module named 'no_such_module': fix plugins/broken.py, line 1, in <module>"
    ),
    "def f(:": "SyntaxError: invalid syntax",
    "raise SystemExit(1)": "SystemExit: 1",
    "1 / 0": "ZeroDivisionError: division by zero",
    GOOD.replace(
        '"good"', '"rssm"'
    ): "model 'rssm' is taken by a built-in piece: register Good under another name",
    GOOD.replace('"model"', '"modle"'): "unknown kind of piece 'modle': did you mean 'model'?",
}


@pytest.mark.parametrize(("text", "reason"), BROKEN.items())
def test_a_broken_plugin_is_named_and_leaves_the_rest_working(
    text: str, reason: str, plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (plugins / "broken.py").write_text(text)
    (plugins / "good.py").write_text(GOOD)
    assert main(["train", "--cfg", "model=good"]) == 0
    assert "width: 7" in capsys.readouterr().out
    message = refused(capsys, "unknown model 'gooood': did you mean 'good'?", "train", "model=gooood")
    assert f"[plugins/broken.py does not load ({reason}" in message


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            ("int = 7", "intt = 7"),
            "NameError: name 'intt' is not defined: fix plugins/good.py, line 6, in Good",
        ),
        (("import wmplay", ""), "NameError: name 'wmplay' is not defined: fix plugins/good.py, line 4, in "),
        (
            ("class Good:", "class Good:\n    size = {}[3]"),
            "KeyError: 3: fix plugins/good.py, line 6, in Good",
        ),
    ],
)
def test_a_piece_whose_plugin_does_not_load_says_why(
    change: tuple[str, str], why: str, plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (plugins / "good.py").write_text(GOOD.replace(*change))
    message = f"model 'good' is in plugins/good.py, which does not load: {why}"
    refused(capsys, message, "train", "model=good")
    refused(capsys, message, "check", "model=good")
    with pytest.raises(PluginError, match=r"model 'good' is in plugins/good\.py, which does not load: "):
        wmplay.make("model", "good", env=wmplay.make_env("luxo"))


def test_a_name_that_two_pieces_want_is_nobodys(plugins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else a run would be one of the other piece, and look as it should."""
    (plugins / "a.py").write_text(GOOD)
    (plugins / "b.py").write_text(GOOD)
    (plugins / "c.py").write_text(GOOD.replace('"good"', '"rssm"'))
    assert main(["list", "model"]) == 0
    told = capsys.readouterr().out
    assert "plugins/b.py does not load: model 'good' is already in plugins/a.py: take another name" in told
    assert "plugins/c.py does not load: model 'rssm' is already built in: take another name" in told
    for name, source, owner in (("good", "b", "wmplay_plugins.a.Good"), ("rssm", "c", "a built-in piece")):
        message = (
            f"model '{name}' is in plugins/{source}.py, which does not load: model '{name}' is taken by "
        )
        refused(capsys, message + owner, "train", f"model={name}")


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
    assert message.startswith("RuntimeError: mat1 and mat2 shapes cannot be multiplied (")
    assert message.endswith(f"997x2): fix {WHERE} (with --debug: the traceback)")
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        main([*SMALL, "model=mine", "--debug"])
    assert main(["check", "model=mine"]) == 2
    assert f"997x2); fix {WHERE}\n" in capsys.readouterr().out


def test_so_it_is_in_a_sweep(plugins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (plugins / "mine.py").write_text(WRONG)
    message = failure(capsys, *SMALL, "model=mine", "seed=3", "-m", "hydra.sweep.dir=runs/all")
    assert "1 of 1 jobs failed" in message
    assert f"997x2): fix {WHERE}; when the cause is fixed" in message
    (told,) = Path("runs/all").glob("*/failure.txt")
    assert "Traceback (most recent call last)" in told.read_text()


def test_what_a_plugin_calls_wrongly_is_named_too(plugins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = "    def predict(self, belief, action, **_):\n        return super().predict(belief, action[0])\n"
    (plugins / "mine.py").write_text(MODEL + body)
    message = failure(capsys, *SMALL, "model=mine")
    assert "fix plugins/mine.py, line 13, in Mine.predict, which calls " in message
    assert "wmplay/" in message.partition("which calls ")[2]


def test_a_mistake_of_our_own_comes_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wmplay.registry.pieces", None)
    with pytest.raises(TypeError, match="not callable"):
        main(["list"])


def test_a_folder_of_plugins_that_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WMPLAY_PLUGINS", "plugin_s")
    message = refusal(capsys, "train", "model=mine")
    assert "[$WMPLAY_PLUGINS: plugin_s does not load (there is no such folder)]" in message


def refused(capsys: pytest.CaptureFixture[str], message: str, *arguments: str) -> str:
    """A refusal, but for the bytecode of the plugins; returns the whole message."""
    whole = failure(capsys, *arguments)
    assert message in whole
    assert not Path("runs").exists()
    return whole
