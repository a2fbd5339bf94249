"""Extras: named as every pip knows them (PEP 685); no page, config or message names one that is missing."""

import re
import tomllib
from pathlib import Path

import pytest

from wmplay.formats import FORMATS
from wmplay.system import extras

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = set(PROJECT["optional-dependencies"])
FOLDERS = ("wmplay", "hydra_plugins", "configs", "docs", "plugins", "scripts", "tests")
NAMED = re.compile(r"wmplay\\?\[([\w.,-]+)\\?\]")


def written() -> dict[str, set[str]]:
    """Extras by the file that names them."""
    files = [
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".md", ".yaml", ".txt"}
    ]
    files += [ROOT / name for name in ("README.md", "CHANGELOG.md", "pyproject.toml", "Makefile")]
    found = {
        str(path.relative_to(ROOT)): NAMED.findall(path.read_text(encoding="utf-8", errors="replace"))
        for path in files
    }
    return {name: {extra for each in lists for extra in each.split(",")} for name, lists in found.items()}


def test_names_are_normalised() -> None:
    """pip before 23.3 does not normalise what is asked for: another spelling installs nothing."""
    names = {*EXTRAS, *extras.PACKAGES, *(extra for extra in FORMATS.values() if extra)}
    assert {name for name in names if re.sub(r"[-_.]+", "-", name).lower() != name} == set()


def test_every_extra_that_is_named_is_there() -> None:
    assert {*extras.PACKAGES, *(extra for extra in FORMATS.values() if extra)} <= EXTRAS
    assert {name: each - EXTRAS for name, each in written().items() if each - EXTRAS} == {}


@pytest.mark.parametrize("extra", extras.PACKAGES)
def test_an_extra_brings_the_package_it_is_about(extra: str) -> None:
    brought = {re.split(r"[<>=;\[ ]", each)[0] for each in PROJECT["optional-dependencies"][extra]}
    assert extras.PACKAGES[extra] in brought


@pytest.mark.parametrize(
    ("piece", "extra"), [("dm_control", "dm-control"), ("atari", "atari"), ("gru", None)]
)
def test_a_piece_knows_its_extra(piece: str, extra: str | None) -> None:
    assert extras.extra_of(piece) == extra
