"""Every command and code block of the pages does what the page says, in a folder of its own."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest
import yaml
from pages import COMMANDS, Block, blocks, inline_commands, is_shown

from wmplay import registry, sweeps
from wmplay.cli import main
from wmplay.cli.main import parse
from wmplay.config import catalogue, plugins

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "plugins" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OF_EVAL = ("cases=", "violation=", "policies=", "imagined=")  # arguments that are no settings
WITH_CODE = [page for page in PAGES if blocks(page) or inline_commands(page)]


class Reader:
    """Someone who does what a page says, in an empty folder.

    Args:
        page: what is read.
        folder: where.
    """

    def __init__(self, page: Path, folder: Path) -> None:
        self.page, self.folder = page, folder
        self.module = types.ModuleType(f"page_{page.stem}")  # a real one: what it defines can be pickled
        self.output = ""

    def follow(self) -> None:
        """Does all blocks, in order."""
        parts = blocks(self.page)
        for block, following in zip_longest(parts, parts[1:]):
            shown = following.text if following and following.language == "" else ""
            may_fail = any(word in shown for word in ("error:", "Error:", "FAIL"))
            for command in block.before:
                self.command(command)
            self.block(block, may_fail)
        for command in inline_commands(self.page):
            parsed(command)

    def block(self, block: Block, may_fail: bool) -> None:
        """Does one block."""
        if block.title is not None:
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self.python(block, may_fail)
        elif block.language in COMMANDS:
            for command in block.commands:
                if block.not_run:
                    parsed(command)
                else:
                    self.command(command, block.run, block.check, may_fail=may_fail)
        elif block.language == "" and not block.not_run:
            if block.of is not None:
                self.command(block.of, may_fail=True)
            where = f"{self.page.name}:{block.line}"
            assert is_shown(block.text, self.output), (
                f"{where} shows\n{block.text}\nbut it was\n{self.output}"
            )

    def python(self, block: Block, may_fail: bool) -> None:
        """Executes a block in the page's module; of one that is not run, the imports."""
        tree = ast.parse("\n" * (block.line - 1) + block.text)  # tracebacks have the page's lines
        if block.not_run:
            tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        with self.listening():
            try:
                exec(compile(tree, str(self.page), "exec"), vars(self.module))
            except Exception as error:
                if not may_fail:
                    raise
                print(f"{type(error).__name__}: {error}")

    def command(
        self,
        command: str,
        overrides: tuple[str, ...] = (),
        checked: tuple[str, ...] = (),
        *,
        may_fail: bool = False,
    ) -> None:
        """Runs one command: ``wmplay`` in this process, which is quicker, others in a shell."""
        words = shlex.split(command, comments=True)
        if words[0] == "cd":
            os.chdir(words[1])
            return
        with self.listening():
            if words[0] == "wmplay" and not {"|", "&&", ">"} & set(words):
                forget_plugins()  # as a new process would have: the page may have changed them
                more = {
                    "train": [x for x in overrides if not x.startswith("--")],
                    "simulate": [x for x in overrides if x.startswith("--")],
                    "check": checked,
                }
                code = main([*words[1:], *more.get(words[1], ())])
            else:
                done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
                print(done.stdout, done.stderr, sep="\n")
                code = done.returncode
        assert code == 0 or may_fail, f"{self.page.name}: {command}\n{self.output}"

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Keeps what is printed."""
        heard = io.StringIO()
        try:
            with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
                yield
        finally:
            self.output += heard.getvalue()


def forget_plugins() -> None:
    """Lets plugin files be imported anew."""
    for name in [name for name in sys.modules if name.startswith(f"{plugins.NAMESPACE}.")]:
        del sys.modules[name]


def parsed(command: str) -> None:
    """Checks a command as far as is possible without running it."""
    words = shlex.split(command, comments=True)
    if words[0] == "wmplay":
        options = parse(words[1:])
        overrides = [x for x in getattr(options, "overrides", []) if not x.startswith("run=")]
        if options.command == "train" and options.multirun:
            sweeps.check(overrides)
        elif options.command in ("train", "eval", "check"):
            overrides = [text for text in overrides if not text.startswith(OF_EVAL)]
            registry.compose([options.piece, *overrides] if options.command == "check" else overrides)
    elif words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets), command
    elif words[:2] == ["pip", "install"] or words[1:3] == ["-m", "pip"]:
        wanted = {x for extras in re.findall(r"\[([\w,-]+)\]", command) for x in extras.split(",")}
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert wanted <= set(project["optional-dependencies"]), command
    elif words[0] == "python" and words[1].endswith(".py"):
        assert (ROOT / words[1]).exists(), command


@pytest.fixture
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, in which nothing that a page registers outlives it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(catalogue, "_registered", dict(catalogue._registered))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "300")  # tables and errors unwrapped


@pytest.mark.usefixtures("_apart")
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_the_page_says_works(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page.parent.name == "plugins":
        shutil.copytree(page.parent, tmp_path / "plugins")
    reader = Reader(page, tmp_path)
    monkeypatch.setitem(sys.modules, reader.module.__name__, reader.module)
    reader.follow()


def test_every_page_is_in_the_navigation() -> None:
    def pages(node: object) -> set[str]:
        if isinstance(node, str):
            return {node}
        children = node.values() if isinstance(node, dict) else node
        assert isinstance(children, list | type({}.values()))
        return {page for child in children for page in pages(child)}

    nav = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    docs = ROOT / "docs"
    assert nav == {str(path.relative_to(docs)) for path in docs.rglob("*.md")}


@pytest.mark.parametrize(
    ("expected", "output", "shown"),
    [
        ("loss 3.5\nsaved", "x loss  12.25 saved y", True),
        ("loss 3.5", "lost 3.5", False),
        ("run in ...\nreport: runs/...", "run in runs/a\nreport: runs/a/report.html", True),
        ("FAIL shapes", "ok   shapes", False),
        ("by -0.031); fix", "by 7e-05); fix", True),
    ],
)
def test_output_is_compared_loosely(expected: str, output: str, shown: bool) -> None:
    assert is_shown(expected, output) is shown
