"""The code blocks of a page in Markdown, and the comments that say how a test runs them.

A block with a title is a file: it is written. ``python`` is executed, ``sh``, ``bash`` and ``console`` are
commands, a block without a language is what the commands before it print. HTML comments above a block, which
no reader sees:

- ``<!-- run: key=value ... -->`` is appended to its ``wmplay train`` (what begins with ``--`` to its ``wmplay
  simulate``); ``small`` stands for ``SMALL``;
- ``<!-- check: key=value ... -->`` is appended to its ``wmplay check``;
- ``<!-- not run: why -->``: commands are only parsed and their configs composed, Python only imports;
- ``<!-- before: command -->`` is done first;
- ``<!-- of: command -->``: the block is what this prints.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

COMMANDS = ("sh", "bash", "console")
SMALL = (
    "iterations=1",
    "threads=1",
    "report=false",
    "collect.random_episodes=5",
    "collect.num_envs=5",
    "collect.num_workers=0",
    "fit.steps=2",
    "fit.minutes=null",
    "fit.batch_size=5",
    "fit.length=7",
    "evaluate.prediction.episodes=2",
    "evaluate.prediction.horizon=5",
    "evaluate.generation.clips=0",
    "evaluate.policy.episodes=1",
    "env.max_steps=30",
    "planner.candidates=2",
    "planner.horizon=3",
)

FENCE = re.compile(r"^( *)```(.*)$")
INLINE = re.compile(r"`(wmplay (?:train|eval|check|simulate|new|data|report|list) [^`]*)`")
NOTE = re.compile(r"^ *<!-- (run|check|not run|before|of): (.*) -->$")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    title: str | None  # the file that it is
    text: str
    line: int  # of its first line of text, in the page
    run: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    not_run: bool = False
    before: tuple[str, ...] = ()
    of: str | None = None

    @property
    def commands(self) -> list[str]:
        """One command in each, without prompts, continued lines joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [x.removeprefix("$ ") for x in lines if x.strip() and not x.lstrip().startswith("#")]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    found: list[Block] = []
    notes: list[tuple[str, str]] = []
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), start=1))
    for _, line in lines:
        if note := NOTE.match(line):
            notes.append((note[1], note[2]))
        elif fence := FENCE.match(line):
            indent, info = len(fence[1]), fence[2]
            body = []
            for number, line in lines:  # noqa: B007 (goes on with the same iterator)
                if line.strip() == "```":
                    break
                body.append(line[indent:])
            found.append(_block(info, body, number - len(body), notes))
            notes = []
        elif line.strip():
            notes = []
    return found


def inline_commands(page: Path) -> list[str]:
    """The ``wmplay`` commands within the text of a page that are whole: nothing to fill in but a seed."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    commands = [" ".join(command.split()).replace("<s>", "0") for command in INLINE.findall(text)]
    return [command for command in commands if not re.search(r"[<|]|\.\.\.|[A-Z]{3}", command)]


def _block(info: str, body: list[str], line: int, notes: list[tuple[str, str]]) -> Block:
    title = re.search(r'title="([^"]+)"', info)
    words = [word for kind, text in notes if kind == "run" for word in text.split()]
    run = [part for word in words for part in (SMALL if word == "small" else [word])]
    return Block(
        language=info.split(" ")[0],
        title=title[1] if title else None,
        text="\n".join(body) + "\n",
        line=line,
        run=tuple(run),
        check=tuple(word for kind, text in notes if kind == "check" for word in text.split()),
        not_run=any(kind == "not run" for kind, _ in notes),
        before=tuple(text for kind, text in notes if kind == "before"),
        of=next((text for kind, text in notes if kind == "of"), None),
    )


def is_shown(expected: str, output: str) -> bool:
    """Whether output holds what a page shows of it: any spaces, any numbers, anything for ``...``."""
    pattern = re.escape(" ".join(expected.split()))
    pattern = re.sub(r"(\\-)?\d[\d,:]*(\\\.\d+)?", r"\\S+?", pattern.replace(r"\ ", r"\s+"))
    return re.search(pattern.replace(r"\.\.\.", ".*?"), " ".join(output.split())) is not None
