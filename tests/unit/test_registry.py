"""The registry: YAML groups, registered classes, plugins, and one-line errors."""

from __future__ import annotations

import dataclasses
import textwrap
from pathlib import Path

import pytest
from refusals import refused

import wmplay
from wmplay import registry
from wmplay.config import catalogue, plugins
from wmplay.errors import ConfigError, PluginError, SpaceError, UnknownName, UnknownSetting

MODEL = """
    import wmplay

    @wmplay.register("model", "{name}")
    class Tiny:
        def __init__(self, observation_space, action_space, *, width: int = 7, rate: float = 0.5):
            self.spaces, self.width, self.rate = (observation_space, action_space), width, rate
"""


class Spaces:
    observation_space = "what is seen"
    action_space = "what is done"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugins").mkdir()
    return tmp_path / "plugins"


def write(path: Path, text: str, **names: str) -> None:
    path.write_text(textwrap.dedent(text).format(**names))


def test_a_file_in_plugins_is_listed_and_built(folder: Path) -> None:
    write(folder / "tiny.py", MODEL, name="tiny")
    assert registry.Piece("model", "tiny", "plugins/tiny.py") in registry.pieces("model")
    model = wmplay.make("model", "tiny", env=Spaces(), width=11)
    assert (model.width, model.rate) == (11, 0.5)
    assert model.spaces == ("what is seen", "what is done")


def test_an_action_space_is_refused_in_the_name_of_the_piece() -> None:
    cart, pendulum = wmplay.make_env("gym", id="CartPole-v1"), wmplay.make_env("gym", id="Pendulum-v1")
    pieces = [("model", "muzero", pendulum), ("model", "tdmpc2", cart), ("planner", "mcts", pendulum)]
    for kind, name, env in [*pieces, ("policy", "sac", cart)]:
        with pytest.raises(SpaceError) as error:
            wmplay.make(kind, name, env=env)
        assert str(error.value).count(name) == 1
        assert error.value.problem in str(error.value)


def test_wmplay_plugins_names_more_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "elsewhere.py", MODEL, name="elsewhere")
    assert "elsewhere" not in registry.names("model")
    monkeypatch.setenv("WMPLAY_PLUGINS", str(tmp_path))
    assert "elsewhere" in registry.names("model")
    assert wmplay.make("model", "elsewhere", env=Spaces()).width == 7


def test_a_package_brings_its_own_configs(folder: Path) -> None:
    package = folder / "pack"
    file = package / "configs" / "model" / "big.yaml"
    file.parent.mkdir(parents=True)
    write(package / "__init__.py", "class Big:\n    def __init__(self, width: int = 3): self.width = width\n")
    for width in (13, 7):  # the second time the file was edited
        file.write_text(f"_target_: wmplay_plugins.pack.Big\nwidth: {width}\n")
        assert "big" in registry.names("model")
        assert wmplay.make("model", "big").width == width
        assert registry.compose(["model=big"]).model["width"] == width


def test_who_changes_the_config_of_a_piece_changes_only_his_own() -> None:
    registry.piece_config("model", "ensemble")["settings"]["hidden"] = 3
    assert registry.piece_config("model", "ensemble")["settings"] == {}


def test_a_plugin_is_an_option_of_its_config_group(folder: Path) -> None:
    write(folder / "tiny.py", MODEL, name="tiny")
    config = registry.compose(["model=tiny", "model.width=5"])
    assert config.model == {"_piece_": "model/tiny", "width": 5, "rate": 0.5}


def test_a_broken_plugin_is_named_and_the_rest_works(folder: Path) -> None:
    write(folder / "good.py", MODEL, name="good")
    (folder / "broken.py").write_text("import no_such_module\n")
    (folder / "typo.py").write_text("def f(:\n")
    assert registry.compose(["model=good"]).model["width"] == 7
    failures = plugins.load_all()
    assert failures["plugins/broken.py"] == (
        "ModuleNotFoundError: No module named 'no_such_module': fix plugins/broken.py, line 1, in <module>"
    )
    assert failures["plugins/typo.py"].startswith("SyntaxError")
    with refused(UnknownName, got="goood", advice="plugins/broken.py"):
        registry.compose(["model=goood"])


@pytest.mark.parametrize(
    ("encoding", "first_line"),
    [("utf-8-sig", ""), ("latin-1", "# coding: latin-1 is this file, caf\xe9"), ("utf-8", "# caf\xe9")],
)
def test_a_plugin_in_any_encoding_that_python_reads(folder: Path, encoding: str, first_line: str) -> None:
    text = first_line + textwrap.dedent(MODEL).format(name="tiny")
    (folder / "tiny.py").write_bytes(text.encode(encoding))
    assert registry.Piece("model", "tiny", "plugins/tiny.py") in registry.pieces("model")
    assert plugins.load_all() == {}
    assert wmplay.make("model", "tiny", env=Spaces()).width == 7


@pytest.mark.filterwarnings("error:changed since")
def test_the_same_file_name_in_another_folder_is_another_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        (tmp_path / name / "plugins").mkdir(parents=True)
        write(tmp_path / name / "plugins" / "mine.py", MODEL, name=name)
        monkeypatch.chdir(tmp_path / name)
        assert wmplay.make("model", name, env=Spaces()).width == 7
    assert "first" not in registry.names("model")


@pytest.mark.parametrize("text", ["class Tiny: ...\n", "import math\n", ""])
def test_a_plugin_that_registers_nothing_is_named_with_an_unknown_name(folder: Path, text: str) -> None:
    (folder / "tiny.py").write_text(text)
    write(folder / "good.py", MODEL, name="good")
    for make in (lambda: registry.compose(["model=tiny"]), lambda: wmplay.make("model", "tiny")):
        with refused(UnknownName, got="tiny", advice="plugins/tiny.py") as caught:
            make()
        assert "good.py" not in str(caught.value)


def test_an_edited_plugin_is_read_again_when_asked_to_be(folder: Path) -> None:
    write(folder / "tiny.py", MODEL, name="tiny")
    (folder / "pack").mkdir()
    write(folder / "pack" / "__init__.py", "from .width import WIDTH\n" + textwrap.dedent(MODEL), name="pack")
    (folder / "pack" / "width.py").write_text("WIDTH = 7")
    before = wmplay.make("model", "tiny", env=Spaces())
    assert registry.compose(["model=pack"]).model["width"] == 7
    assert registry.reload() == []

    write(folder / "tiny.py", MODEL.replace("int = 7", "int = 8"), name="tiny")  # as long, in the same second
    with pytest.warns(UserWarning, match=r"wmplay\.registry\.reload\(\)"):
        assert wmplay.make("model", "tiny", env=Spaces()).width == 7
    with pytest.warns(UserWarning, match=r"wmplay\.registry\.reload\(\)"):
        assert registry.compose(["model=tiny"]).model["width"] == 7
    assert registry.reload() == ["plugins/tiny.py"]
    assert wmplay.make("model", "tiny", env=Spaces()).width == 8
    assert registry.compose(["model=tiny"]).model["width"] == 8
    assert before.width == 7
    assert type(before) is not catalogue.registered()["model", "tiny"]

    write(folder / "pack" / "__init__.py", MODEL.replace("int = 7", "int = WIDTH"), name="pack")
    text = (folder / "pack" / "__init__.py").read_text()
    (folder / "pack" / "__init__.py").write_text("from .width import WIDTH\n" + text)
    (folder / "pack" / "width.py").write_text("WIDTH = 9")
    assert registry.reload() == ["plugins/pack"]
    assert wmplay.make("model", "pack", env=Spaces()).width == 9


def test_an_edit_that_breaks_a_plugin_is_named_and_so_mended(folder: Path) -> None:
    write(folder / "tiny.py", MODEL, name="tiny")
    assert wmplay.make("model", "tiny", env=Spaces()).width == 7
    (folder / "tiny.py").write_text((folder / "tiny.py").read_text() + "\n1 / 0\n")
    assert registry.reload() == ["plugins/tiny.py"]
    with refused(PluginError, ("ZeroDivisionError", "plugins/tiny.py"), got="tiny"):
        wmplay.make("model", "tiny", env=Spaces())
    write(folder / "tiny.py", MODEL.replace("int = 7", "int = 5"), name="tiny")
    assert wmplay.make("model", "tiny", env=Spaces()).width == 5


def test_a_taken_name_is_refused(folder: Path) -> None:
    write(folder / "a.py", MODEL, name="same")
    write(folder / "b.py", MODEL, name="same")
    assert plugins.load_all() == {
        "plugins/b.py": "model 'same' is taken by wmplay_plugins.a.Tiny: register Tiny under another name"
    }
    with refused(PluginError, got="none"):
        registry.register("logger", "none")(Spaces)


def test_a_compose_lists_the_plugins_once_and_reads_no_plugin_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "tiny.py", MODEL, name="tiny")
    assert registry.compose(["model=tiny"]).pieces()["model"]["width"] == 7
    listed = []
    monkeypatch.setattr(plugins, "_list", lambda found=plugins._list: listed.append(1) or found())
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read again"))
    registry.compose(["experiment=tiny", "model=tiny", "seed=3"])
    assert listed == [1]


def test_an_unknown_kind_and_name_give_the_nearest() -> None:
    with refused(UnknownName, got="modle", advice="model"):
        registry.names("modle")
    with refused(UnknownName, "logger", got="wandbb", advice="wandb"):
        wmplay.make("logger", "wandbb")
    with refused(UnknownName, got="modle", advice="model"):
        registry.register("modle", "x")


class Strict:
    def __init__(self, env: object, *, steps: int = 3, names: list[str] | None = None) -> None:
        self.steps = steps


class Astray:
    def __init__(self, env: object, action_spce: object) -> None: ...


TARGET, ASTRAY, OLD = "model/strict", "model/astray", f"{__name__}.Strict"


@pytest.fixture
def _two_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, cls in (("strict", Strict), ("astray", Astray)):
        monkeypatch.setitem(catalogue._registered, ("model", name), cls)


@pytest.mark.parametrize(
    ("config", "run", "fields"),
    [
        ({"_piece_": TARGET, "stepz": 3}, {"env": 1}, {"about": "Strict", "got": "stepz", "advice": "steps"}),
        (
            {"_piece_": TARGET, "steps": "many"},
            {"env": 1},
            {"about": ("steps", "many", "str"), "got": "'many' (str)", "expected": "int"},
        ),
        (
            {"_piece_": TARGET, "steps": None},
            {"env": 1},
            {"about": "steps", "got": "null", "expected": "int"},
        ),
        (
            {"_piece_": TARGET, "names": [3]},
            {"env": 1},
            {"about": ("names", "[3]", "list"), "got": "[3] (list)"},
        ),
        ({"_piece_": TARGET}, {}, {"about": "Strict"}),
        ({"_piece_": TARGET, "env": 3}, {"env": 1}, {"about": "Strict", "got": "env"}),
        ({"_piece_": ASTRAY}, {"env": Spaces()}, {"about": "action_spce", "advice": "action_space"}),
        (
            {"_piece_": ASTRAY},
            {},
            {"about": ("Astray", "action_spce"), "advice": "action_space"},
        ),
        ({"_target_": OLD, "stepz": 3}, {"env": 1}, {"about": "Strict", "got": "stepz", "advice": "steps"}),
        ({"steps": 3}, {}, {"about": "_piece_"}),
        ({"_piece_": TARGET, "_target_": OLD}, {}, {"about": "_piece_"}),
        ({"_piece_": "model/strikt"}, {}, {"about": ("model", "strict"), "got": "strikt"}),
        ({"_piece_": "modle/strict"}, {}, {"got": "modle/strict", "expected": "<kind>/<name>"}),
        ({"_piece_": "model/../../strict"}, {}, {"got": "model/../../strict", "expected": "<kind>/<name>"}),
        ({"_piece_": ["model/strict"]}, {}, {"got": ["model/strict"], "expected": "<kind>/<name>"}),
        ({"_target_": ["timeit.timeit"]}, {}, {"got": ["timeit.timeit"]}),
        ({"_target_": "timeit.timeit"}, {}, {"got": "timeit.timeit"}),
        ({"_target_": f"{__name__}.TARGET"}, {}, {"got": f"{__name__}.TARGET"}),
        (
            {"_target_": "wmplay_plugins.gone.Model"},
            {},
            {"about": ("gone", "./plugins"), "got": "wmplay_plugins.gone.Model"},
        ),
    ],
)
@pytest.mark.usefixtures("_two_pieces")
def test_build_says_what_is_wrong(
    config: dict[str, object], run: dict[str, object], fields: dict[str, object]
) -> None:
    with refused(ConfigError, **fields):
        registry.build(config, **run)


@pytest.mark.parametrize(
    ("override", "kind", "fields"),
    [
        ("model=rsm", UnknownName, {"about": "model", "got": "rsm", "advice": "rssm"}),
        (
            "experiment=quikstart",
            UnknownName,
            {"about": "experiment", "got": "quikstart", "advice": "quickstart"},
        ),
        ("model.deterr=3", UnknownSetting, {"about": "RSSM", "got": "deterr", "advice": "deter"}),
        ("itrations=3", ConfigError, {"got": "itrations", "advice": "iterations"}),
        ("fit.stps=3", ConfigError, {"about": "fit", "got": "stps", "advice": "steps"}),
        ("seed.x=3", ConfigError, {"about": ("seed", "{'x': 3}", "dict"), "expected": "int >= 0"}),
        ("just words", ConfigError, {"about": "key=value", "got": "just words"}),
        ("seed=[1", ConfigError, {"about": ("key=value", "quote"), "got": "seed=[1"}),
    ],
)
def test_a_typo_in_an_override_is_one_line(override: str, kind: type, fields: dict[str, object]) -> None:
    with refused(kind, **fields):
        registry.compose([override])


def test_composed_settings_are_frozen() -> None:
    settings = registry.compose(["seed=3"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.seed = 4  # type: ignore[misc]
