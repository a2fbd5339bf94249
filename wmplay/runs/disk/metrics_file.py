"""The only reader of ``metrics.jsonl``, so that all views of a run show the same lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from rich.markup import escape

from wmplay.errors import RunError
from wmplay.system.progress import console

LONGEST = 1 << 20  # bytes of a line
WHERE = {  # the types of what every line says, by name
    **dict.fromkeys(("step", "iteration", "real_steps", "learned_steps"), (int,)),
    "time": (int, float),
    "phase": (str,),
}
ALWAYS = ("step", "phase")


class Lines(NamedTuple):
    """The lines of a file of metrics. Damaged lines are left out."""

    sound: list[dict[str, Any]]
    damaged: list[int]  # their numbers, from 1 on

    def warn(self, path: Path) -> None:
        """Print the numbers of damaged lines, if there are any."""
        damaged = self.damaged
        if damaged:
            which = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
            total = len(self.sound) + len(damaged)
            told = f"{path}: {len(damaged)} of {total} lines are damaged and left out (line {which})"
            console.print(f"[yellow]{escape(told)}[/yellow]", soft_wrap=True)


def read_metrics(path: Path) -> Lines:
    """Return the lines of a run's ``metrics.jsonl``, none if the file does not exist.

    A last line without its end, which a run is writing or was killed while writing, is left out, and does not
    count as damaged.

    Raises:
        RunError: if the file cannot be read.
    """
    lines = Lines([], [])
    try:
        with path.open("rb") as file:
            number = 0
            while text := file.readline(LONGEST):
                number += 1
                whole = text.endswith(b"\n")
                while not text.endswith(b"\n") and (text := file.readline(LONGEST)):
                    pass  # the rest of what is too long
                line = _parsed(text) if whole else None
                if line is not None:
                    lines.sound.append(line)
                elif text:  # else the last one has no end
                    lines.damaged.append(number)
    except FileNotFoundError:
        return lines
    except OSError as error:
        raise RunError(
            f"cannot read {path} ({error.strerror or error})", advice="check its permissions"
        ) from error
    return lines


def _parsed(text: bytes) -> dict[str, Any] | None:
    """Return the content of a line, or None if it is not a line of a run."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or any(name not in line for name in ALWAYS):
        return None
    wrong = [name for name, kinds in WHERE.items() if name in line and type(line[name]) not in kinds]
    nested = [name for name, value in line.items() if isinstance(value, list | dict)]
    return None if wrong or nested else line
