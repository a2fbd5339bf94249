"""The catalogue of pieces and what a shell completes: read off texts, nothing is imported."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from wmplay import registry
from wmplay.cli import main
from wmplay.cli.commands.completion import SCRIPTS, completions
from wmplay.cli.commands.list import defaults_of, head
from wmplay.cli.commands.new import TEMPLATES
from wmplay.cli.main import COMMANDS
from wmplay.config import plugins
from wmplay.config.kinds import KINDS
from wmplay.config.references import target
from wmplay.contracts import missing_methods

GROUPS = (*KINDS, "experiment")
BUILT_IN = [
    (kind, piece.name)
    for kind in GROUPS
    for piece in registry.pieces(kind)
    if piece.source == plugins.BUILT_IN
]
PLUGIN = '''
import wmplay

raise RuntimeError("imported")

@wmplay.register("planner", "beam")
class Beam:
    """Keep the best beams (of a few), step by step. More is said here.

    Family: trees
    Paper: Lowerre 1976
    """

    def __init__(self, action_space, *, width: int = 5, texts: tuple = ("a", "b")):
        pass
'''


@pytest.fixture
def _plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "beam.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)


def typed(line: str) -> list[str]:
    return completions(f"wmplay {line}")


@pytest.mark.parametrize(("kind", "name"), BUILT_IN)
def test_every_piece_says_what_it_is_in_a_sentence_and_its_family(kind: str, name: str) -> None:
    said = head(kind, name)
    assert said.family
    assert said.about.endswith((".", "?"))
    assert "\n" not in said.about


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, name in BUILT_IN if kind in KINDS])
def test_settings_are_those_of_the_constructor(kind: str, name: str) -> None:
    config = registry.piece_config(kind, name)
    assert defaults_of(kind, name).keys() == config.keys() - {"_piece_"}


def test_a_head_names_every_part_that_a_policy_or_an_explorer_is_built_from() -> None:
    for kind, name in BUILT_IN:
        if kind in ("policy", "explorer"):
            wanted = {part for part in registry.needs({"_piece_": f"{kind}/{name}"}) if part in KINDS}
            assert wanted - {"env"} <= {word.strip(",;") for word in head(kind, name).needs.split()}, name


@pytest.mark.usefixtures("_plugin")
def test_a_plugin_is_read_and_not_imported(capsys: pytest.CaptureFixture[str]) -> None:
    said = head("planner", "beam")
    assert (said.about, said.family, said.paper) == (
        "Keep the best beams (of a few), step by step.",
        "trees",
        "Lowerre 1976",
    )
    assert main(["list", "planner"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if " beam " in line)
    assert "Lowerre 1976" in line
    assert "plugins/beam.py" in line
    assert main(["list", "planner", "beam"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == {"width": 5, "texts": "('a', 'b')"}
    assert typed("train planner=be") == ["planner=beam"]
    assert typed("train planner=beam planner.w") == ["planner.width="]


def test_the_defaults_of_a_variant_are_shown_with_those_that_it_builds_upon(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["list", "model", "rssm_small"]) == 0
    shown = capsys.readouterr().out
    own, base = shown.split("_target_", 1)
    assert "deter: 144" in own
    assert "deter: 200" in base
    assert "# size D of the deterministic state" in base


@pytest.mark.parametrize(
    "arguments",
    [["list", "modle"], ["list", "model", "rsmm"], ["list", "modle", "rssm"], ["completion", "csh"]],
)
def test_an_unknown_kind_name_or_shell_is_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_commands_kinds_names_and_settings_are_completed() -> None:
    assert {*COMMANDS} <= {*typed("")}
    assert typed("tr") == ["train"]
    assert {f"{kind}=" for kind in GROUPS} <= {*typed("train ")}
    for kind in GROUPS:
        assert typed(f"train seed=1 {kind}=") == [f"{kind}={name}" for name in registry.names(kind)]
        assert typed(f"list {kind} ") == registry.names(kind)
    assert {"fit.steps=", "fit.lr="} <= {*typed("train fit.")}
    assert typed("train evaluate.policy.ep") == ["evaluate.policy.episodes="]
    assert typed("simulate luxo_c") == ["luxo_cube", "luxo_cubes"]
    assert "task=" in typed("simulate luxo ")
    assert typed("data im") == ["import"]
    assert "--rename" in typed("data import --")
    assert typed("train --c") == ["--cfg"]
    assert typed("check model=rssm_d") == ["model=rssm_discrete"]


def test_settings_are_of_the_piece_that_the_line_chooses() -> None:
    assert "model.deter=" in typed("train model.")  # train.yaml's own
    assert "model.frames=" in typed("train model=mlp model.")
    assert "policy.gae_lambda=" in typed("train experiment=luxo_learned policy.")
    assert "policy.tau=" in typed("train experiment=dyna_luxo policy.")  # overrides what it builds upon
    assert "policy.tau=" in typed("train experiment=luxo_learned policy=sac policy.")
    assert {"env.data=", "env.world="} <= {*typed("train env.")}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nothing ",
        "train model=nothing model.",
        "train experiment=nothing model.",
        "train =",
        "train a.b.",
    ],
)
def test_a_line_that_makes_no_sense_has_no_completions(line: str) -> None:
    assert all(text.startswith(line.split(" ")[-1]) for text in typed(line))


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_asks_for_replies(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "wmplay completion reply" in capsys.readouterr().out


def test_bash_completes_a_name_behind_an_equals_sign(tmp_path: Path) -> None:
    wmplay = tmp_path / "wmplay"
    wmplay.write_text(f'#!/bin/sh\nexec {sys.executable} -m wmplay "$@"\n')
    wmplay.chmod(0o755)
    script = f"""
        PATH={tmp_path}:$PATH; eval "$(wmplay completion bash)"; compopt() {{ :; }}
        COMP_LINE='wmplay train model=rssm_d'; COMP_POINT=${{#COMP_LINE}}; _wmplay; echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "rssm_discrete\n"


def test_listing_and_completing_import_neither_torch_nor_hydra() -> None:
    program = """
import sys
from wmplay.cli import main
main(["list"]), main(["list", "model", "rssm"]), main(["completion", "reply", "wmplay train model."])
sys.exit(", ".join({"torch", "hydra"} & {*sys.modules}) or None)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_the_table_holds(kind: str) -> None:
    row = KINDS[kind]
    assert callable(pkgutil.resolve_name(row.check))
    for template in ("piece.py.txt", "test_piece.py.txt"):
        assert (TEMPLATES / kind / template).is_file()
    piece = target({"_piece_": f"{kind}/{registry.names(kind)[0]}"})
    assert not missing_methods(piece, row.methods)
