"""Every registered piece: its YAML holds exactly its constructor's parameters and defaults."""

from __future__ import annotations

import dataclasses
import inspect
import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.utils import get_class
from omegaconf import OmegaConf

from wmplay import registry
from wmplay.config import plugins
from wmplay.config.constructors import optional_parts
from wmplay.config.references import MOVED
from wmplay.config.settings import Settings, field_types, settings_of
from wmplay.runs.sweep_directory import LATER_SETTINGS

FIXTURES = Path(__file__).parent.parent / "fixtures"
BUILT_IN = plugins.config_folders()[0][1]
UNIONS = (types.UnionType, typing.Union)
ENGINES = sorted((BUILT_IN / "hydra").rglob("*.yaml"))
FILES = [path for kind in registry.KINDS for path in sorted((BUILT_IN / kind).glob("*.yaml"))]


def as_yaml(value: Any) -> Any:
    """What a constructor's default looks like in YAML."""
    if isinstance(value, tuple | list):
        return [as_yaml(item) for item in value]
    return value


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_yaml_and_constructor_agree(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    config = registry.piece_config(path.parent.name, path.stem)
    make = registry.target(config)
    parts = optional_parts(make)
    parameters = {name: p for name, p in inspect.signature(make).parameters.items() if name not in parts}
    defaults = {name: as_yaml(p.default) for name, p in parameters.items() if p.default is not p.empty}
    given = {key: value for key, value in config.items() if key != "_piece_"}
    assert given.keys() == defaults.keys()
    if "defaults" in content:  # a named variant holds only what differs
        own = {key for key in content if key != "defaults"}
        assert all(given[key] != defaults[key] for key in own if key != "world"), "says what it inherits"
    else:
        assert given == defaults


def test_the_settings_of_a_run_are_those_of_its_yaml() -> None:
    content = OmegaConf.to_container(OmegaConf.load(BUILT_IN / "train.yaml"))  # which reads 3e-3 as a number
    shown = {key: value for key, value in content.items() if key not in ("defaults", "hydra")}
    pieces = {kind: {"_piece_": f"{kind}/any"} for kind in registry.KINDS}
    whole = {**pieces, **shown, "env": pieces["env"] | shown["env"]}
    assert settings_of(pieces).config() == whole
    assert settings_of(whole, complete=True) == settings_of(pieces)


def test_every_number_of_a_run_has_a_range() -> None:
    def numbers(section: type, above: str = "") -> Iterator[str]:
        for name, hint in field_types(section).items():
            if dataclasses.is_dataclass(hint):
                yield from numbers(hint, f"{above}{name}.")
            elif {int, float} & {hint, *(typing.get_args(hint) if typing.get_origin(hint) in UNIONS else ())}:
                yield above + name

    assert list(numbers(Settings)) == []


@pytest.mark.parametrize("path", ENGINES, ids=lambda path: f"hydra/{path.parent.name}={path.stem}")
def test_an_engines_yaml_shows_every_parameter(path: Path) -> None:
    given = yaml.safe_load(path.read_text())
    parameters = inspect.signature(get_class(given.pop("_target_"))).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    assert list(given) == list(defaults)
    assert {name for name, value in given.items() if value != defaults[name]} <= {"sampler"}  # it is seeded


def test_the_table_of_moved_paths_names_pieces_that_are_there() -> None:
    for path, name in MOVED.items():
        assert registry.target({"_target_": path}) is registry.target({"_piece_": name})
    assert {f"{path.parent.name}/{path.stem}" for path in FILES} >= {*MOVED.values()}


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_kind_has_a_piece(kind: str) -> None:
    assert registry.names(kind)


@pytest.mark.parametrize("name", registry.names("experiment"))
def test_experiments_compose(name: str) -> None:
    config = registry.compose([f"experiment={name}"])
    assert config.name == name


# ---- settings that came after the first release -----------------------------------------------------


def settings_since(release: Path) -> Iterator[tuple[str, Any]]:
    """Each setting that the pieces and the loop of a release did not have, by its path, and its default."""
    for where, before in json.loads(release.read_text()).items():
        if where == "train":
            now = yaml.safe_load((BUILT_IN / "train.yaml").read_text())
            flat = {
                f"{key}.{name}": x
                for key, part in now.items()
                if isinstance(part, dict)
                for name, x in part.items()
            }
            yield from ((path, value) for path, value in flat.items() if path not in before)
        else:
            kind, _, name = where.partition("/")
            config = registry.piece_config(kind, name)
            yield from ((f"{kind}.{key}", x) for key, x in config.items() if key not in ("_piece_", *before))


def test_jobs_of_an_older_sweep_are_known_whatever_settings_came_since() -> None:
    for path, default in settings_since(FIXTURES / "settings_0_1.json"):
        assert path in LATER_SETTINGS, f"{path} makes the jobs of a sweep by 0.1 others"
        assert LATER_SETTINGS[path] == default, path
