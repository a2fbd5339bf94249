"""Images and tables as HTML, and the page around them: one file that needs no other."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

from wmplay.report.colours import BLUE, INK, PAPER, QUIET, RULE
from wmplay.report.tables import Grid
from wmplay.system.files import written_beside

REPORT_FILE = "report.html"
PICTURES = "report"  # the folder of the pictures, next to the page


@dataclass(frozen=True)
class Picture:
    """An image of the report; the ending of its file name gives its format."""

    file: str
    content: bytes
    caption: str  # plain text; it is the image's description too


@dataclass(frozen=True)
class Html:
    """Ready markup."""

    markup: str


Part: TypeAlias = Picture | Grid | Html


def write_page(
    folder: Path, sections: Mapping[str, Iterable[Part]], *, kicker: str, title: str, verdict: str, note: str
) -> Path:
    """Write ``report.html`` into a folder, and its images into ``report/`` next to it.

    Args:
        folder: of the run or sweep.
        sections: by title; those without parts are left out.
        kicker: the kind of page, above its title.
        title, verdict, note: the subject, the main result, a line of facts; plain text.
    """
    (folder / PICTURES).mkdir(exist_ok=True)
    body = []
    for name, parts in sections.items():
        content = [_show(part, folder / PICTURES) for part in parts]
        if content:
            body.append(f"<section><h2>{escape(name)}</h2>\n{''.join(content)}</section>")
    path = folder / REPORT_FILE
    text = "\n".join(body)
    with written_beside(path) as beside:
        beside.write_text(
            f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} · wmplay</title>
<style>{_style()}</style>
</head>
<body>
<header>
<p class=kicker>{escape(kicker)}</p>
<h1>{escape(title)}</h1>
<p class=verdict>{escape(verdict)}</p>
<p class=note>{escape(note)}</p>
</header>
<main>
{text}
</main>
</body>
</html>
""",
            encoding="utf-8",
        )
    return path


def facts_table(facts: Any) -> str:
    """Return a dict as a two-column table, whatever the types of its values."""
    items = facts.items() if isinstance(facts, Mapping) else enumerate(facts)
    rows = "".join(f"<tr><th>{escape(str(name))}</th><td>{_value(value)}</td></tr>" for name, value in items)
    return f"<table class=facts><tbody>{rows}</tbody></table>\n"


def folded(title: str, markup: str) -> Html:
    """Return markup behind a title that opens it."""
    return Html(f"<details><summary>{escape(title)}</summary>{markup}</details>\n")


def file_names(keys: Iterable[str]) -> dict[str, str]:
    """Return each observation key as part of a file's name, of letters, digits, ``-`` and ``_``."""
    found: dict[str, str] = {}
    for key in keys:
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in key)
        while name in found.values():  # of images.top and images_top
            name += "_"
        found[key] = name
    return found


def _show(part: Part, folder: Path) -> str:
    """Return a part as HTML, and write an image into the folder."""
    if isinstance(part, Html):
        return part.markup
    if isinstance(part, Grid):
        return _table(part)
    with written_beside(folder / part.file) as beside:
        beside.write_bytes(part.content)
    kind = part.file.rpartition(".")[2]
    data = base64.b64encode(part.content).decode()
    text = escape(part.caption)
    image = f'<img src="data:image/{kind};base64,{data}" alt="{text}">'
    return f"<figure><div class=card>{image}</div><figcaption>{text}</figcaption></figure>\n"


def _table(grid: Grid) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in grid.columns)
    rows = "".join(_row(row) for row in grid.rows)
    note = f"<p class=note>{escape(grid.note)}</p>" if grid.note else ""
    return (
        f"<h3>{escape(grid.title)}</h3><div class=scroll><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{note}\n"
    )


def _row(cells: Sequence[str]) -> str:
    return f"<tr><th>{escape(cells[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells[1:])}</tr>"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return escape(", ".join(f"{name} {item}" for name, item in value.items()))
    if isinstance(value, list):
        return escape(", ".join(map(str, value)) or "none")
    return escape(str(value))


def _style() -> str:
    colours = {"ink": INK, "quiet": QUIET, "rule": RULE, "card": PAPER, "accent": BLUE}
    variables = " ".join(f"--{name}: {colour};" for name, colour in colours.items())
    return f":root {{ {variables} }}\n" + Path(__file__).with_name("page.css").read_text(encoding="utf-8")
