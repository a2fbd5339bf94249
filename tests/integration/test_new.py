"""``wmplay new``: what it writes works from the first second, for every kind; what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wmplay
from wmplay.cli import main
from wmplay.cli.commands.new import VARIANTS
from wmplay.registry import KINDS

ROOT = Path(__file__).parents[2]
TINY = [
    "iterations=1",
    "report=false",
    "fit.steps=3",
    "evaluate.prediction.episodes=3",
    "evaluate.generation.clips=0",
]
KINDS_OF_VARIANTS = [(kind, variant) for kind, variants in VARIANTS.items() for variant in variants]
SMALL_ENV_RUN = [
    "fit.batch_size=5",
    "fit.length=7",
    "collect.random_episodes=5",
    "evaluate.policy.episodes=2",
]


def run(tool: str, *arguments: str, **environment: str) -> str:
    """The output of a Python tool; fails the test with all of it."""
    return python("-m", tool, *arguments, **environment)


def python(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which someone has begun a piece of each kind, in a file."""
    folder = tmp_path_factory.mktemp("desk")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for kind in KINDS:
            assert main(["new", kind, f"{kind}_of_mine"]) == 0
        for kind, variant in KINDS_OF_VARIANTS:
            assert main(["new", kind, f"{variant}_{kind}", "--variant", variant]) == 0
    return folder


@pytest.fixture
def _at_the_desk(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(desk)
    yield
    monkeypatch.undo()


def test_it_says_what_it_wrote_and_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "model", "forecast"]) == 0
    output = capsys.readouterr().out
    assert sorted(str(path) for path in Path().rglob("*.py")) == [
        "plugins/forecast.py",
        "plugins/tests/test_forecast.py",
    ]
    for text in (
        "wrote plugins/forecast.py",
        "wmplay train experiment=tiny model=forecast",
        "wmplay check model=forecast",
        "pytest plugins/tests/test_forecast.py",
    ):
        assert text in output
    assert "class Forecast(" in Path("plugins/forecast.py").read_text()


# ---- what it writes --------------------------------------------------------------------------------


@pytest.mark.usefixtures("_at_the_desk")
def test_every_piece_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    output = capsys.readouterr().out
    for kind in KINDS:
        assert f"plugins/{kind}_of_mine.py" in output
    assert "does not load" not in output


@pytest.mark.usefixtures("_at_the_desk")
def test_the_tests_of_every_piece_pass() -> None:
    assert "failed" not in run("pytest", "plugins", "-q")


@pytest.mark.usefixtures("_at_the_desk")
def test_every_piece_passes_the_linter_and_the_type_checker() -> None:
    check_style("plugins")
    cache = str(ROOT / ".mypy_cache")  # shares what is known of torch and gymnasium
    run("mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", cache, "plugins")


@pytest.mark.parametrize("letters", [1, 30])
def test_the_style_holds_for_short_and_long_names(letters: int) -> None:
    for number, kind in enumerate(KINDS):
        assert main(["new", kind, "abcdefg"[number] * letters]) == 0
        assert main(["new", kind, "pqrstuv"[number] * letters, "--package"]) == 0
    check_style(".")


def check_style(*paths: str) -> None:
    """By ruff's defaults, as a stranger's folder has them, and by the rules that wmplay itself keeps."""
    run("ruff", "check", "--isolated", "--no-cache", *paths)
    run("ruff", "format", "--check", "--isolated", "--no-cache", *paths)
    rules = ["--config", str(ROOT / "pyproject.toml"), "--extend-ignore", "I001,D1"]  # wmplay is not theirs
    run("ruff", "check", *rules, "--no-cache", *paths)


@pytest.mark.usefixtures("_at_the_desk")
def test_a_small_run_works_with_every_piece() -> None:
    others = ("model", "planner", "explorer", "objective", "logger")
    chosen = [f"{kind}={kind}_of_mine" for kind in others]
    assert main(["train", "experiment=tiny", *TINY, *chosen, "dir=with_all", "model.hidden=17"]) == 0
    assert main(["train", "experiment=tiny", *TINY, "policy=policy_of_mine", "dir=with_policy"]) == 0
    env = ["env=env_of_mine", "objective=goal_distance", "model=mlp", "planner.candidates=3"]
    assert main(["train", *env, *TINY, *SMALL_ENV_RUN, "dir=with_env"]) == 0

    assert "loss/lcd" in Path("with_all/metrics.csv").read_text()
    assert type(wmplay.load_run("with_all").parts.explorer).__name__ == "ExplorerOfMine"
    assert type(wmplay.load_run("with_policy").policy).__name__ == "PolicyOfMine"
    assert "screen" in wmplay.load_run("with_env").env.observation_space.spaces  # type: ignore[attr-defined]


@pytest.mark.usefixtures("_at_the_desk")
@pytest.mark.parametrize("kind", KINDS)
def test_what_it_writes_passes_its_check(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["check", f"{kind}={kind}_of_mine", *([] if kind == "env" else ["env.physics=fast"])])
    output = capsys.readouterr()
    assert status == 0, output.out + output.err


SMALL_CHECKS = {  # where a full check would take a minute
    "imagining": ["--quick", "policy.batch_size=3", "policy.length=3", "policy.horizon=3", "model.hidden=17"],
    "valued": ["--quick", "env=gym", "model.hidden=17"],
}


@pytest.mark.usefixtures("_at_the_desk")
@pytest.mark.parametrize(("kind", "variant"), KINDS_OF_VARIANTS)
def test_every_variant_passes_its_check(kind: str, variant: str, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["env.physics=fast", *SMALL_CHECKS[variant]] if kind == "policy" else SMALL_CHECKS[variant]
    status = main(["check", f"{kind}={variant}_{kind}", *small])
    output = capsys.readouterr()
    assert status == 0, output.out + output.err


def test_an_agent_that_imagines_learns_in_its_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["new", "policy", "dreams", "--variant", "imagining", "--package"]) == 0
    monkeypatch.setenv("WMPLAY_PLUGINS", "dreams/src")
    config = wmplay.registry.compose(["experiment=dreams"])
    assert (config.improve.world, config.improve.steps > 0) == ("none", True)
    assert config.pieces()["policy"]["reward"] == "task"


# ---- packages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_brings_an_experiment(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"packaged_{kind}"
    assert main(["new", kind, name, "--package"]) == 0
    assert f"pip install --editable {name}" in capsys.readouterr().out
    monkeypatch.setenv("WMPLAY_PLUGINS", f"{name}/src")  # as good as installed
    config = wmplay.registry.compose([f"experiment={name}"])
    assert config.name == name
    assert config.pieces()[kind]["_piece_"] == f"{kind}/{name}"


def test_a_package_that_is_not_installed_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "model", "not_yet", "--package"]) == 0
    for command in (["check", "model=not_yet"], ["train", "experiment=not_yet"]):
        assert main(command) == 2
        assert "[./not_yet is not installed: pip install --editable not_yet]" in capsys.readouterr().err


def test_an_installed_package_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["new", "env", "little_world", "--package"]) == 0
    site = str(tmp_path / "site")
    run("pip", "install", "./little_world", "--no-deps", "--no-build-isolation", "--target", site, "--quiet")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    small = [*TINY, *SMALL_ENV_RUN, "planner.candidates=3", "model=mlp", "dir=run"]
    train = ["train", "experiment=little_world", *small]
    code = (
        "import sys, pytest; from wmplay.cli import main; "
        f"sys.exit(pytest.main(['../little_world', '-q']) or main({train}))"
    )
    python("-c", code, PYTHONPATH=site)
    assert "env/little_world" in Path("run/config.yaml").read_text()


# ---- what it refuses -------------------------------------------------------------------------------

REFUSED = {
    "new modl mine": "unknown kind of piece 'modl': did you mean 'model'?",
    "new experiment mine": "unknown kind of piece 'experiment'",
    "new model MyModel": "expected snake_case of at most 30 characters, such as 'my_model'",
    "new model my-model": "such as 'my_model'",
    "new model 2nd": "such as 'my_idea'",
    "new model _mine": "such as 'mine'",
    "new model ../mine": "such as 'mine'",
    f"new model {'x' * 31}": "at most 30 characters",
    "new model lambda": "means something else to Python, YAML or pytest",
    "new model null": "means something else to Python, YAML or pytest",
    "new model test_mine": "means something else to Python, YAML or pytest",
    "new model rssm": "there is a model 'rssm' already (built in): choose another name",
    "new model tensor": "the class of 'tensor' would be Tensor, which its file needs",
    "new planner cem --package": "there is a planner 'cem' already",
    "new planner json --package": "there is a Python module 'json' already",
    "new planner tiny --package": "there is an experiment 'tiny' already",
    "new model mine --variant imagining": "unknown variant of model 'imagining'",
    "new env mine --variant valued": "unknown variant of env 'valued'",
    "new model": "the following arguments are required: NAME",
    "new model mine --packge": "takes no '--packge'",
}


@pytest.mark.parametrize("command", REFUSED)
def test_bad_input_is_one_line_and_writes_nothing(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert REFUSED[command] in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("there", "command"),
    [
        ("plugins/mine.py", "new model mine"),
        ("plugins/mine/notes.txt", "new model mine"),
        ("plugins/tests/test_mine.py", "new model mine"),
        ("mine/notes.txt", "new model mine --package"),
        ("plugins", "new model mine"),
    ],
)
def test_nothing_that_is_there_is_touched(
    there: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(there).parent.mkdir(parents=True, exist_ok=True)
    Path(there).write_text("mine")
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "plugins" in error or "mine" in error
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / there]
    assert Path(there).read_text() == "mine"
