"""``report.html``: one file without links to anything, built from what is on disk of a run."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from wmplay.files import written_beside
from wmplay.report import plots, screens
from wmplay.report.record import Record, read_record
from wmplay.report.style import BLUE, INK, PAPER, QUIET, RULE
from wmplay.report.tables import Grid, policy_grid, prediction_grids
from wmplay.report.words import counted, duration, verdict, wall_times

REPORT_FILE = "report.html"
PICTURES = "report"  # the folder of the pictures, beside the page


@dataclass(frozen=True)
class Picture:
    """An image of the report; its file's ending says which kind."""

    file: str
    content: bytes
    caption: str  # plain text; it is the image's description too


def write_report(run_dir: Path | str) -> Path:
    """Builds a run's ``report.html``, and its pictures in ``report/``, from what the run left on disk.

    It may be called at any time and as often as one likes; parts that are not there yet are left out.

    Returns:
        The path of the page.

    Raises:
        RunError: if the directory is not a run's, or a file in it is damaged.
    """
    run_dir = Path(run_dir)
    record = read_record(run_dir)
    sections: dict[str, Iterable[Picture | Grid | Html]] = {
        "Results": _results(record),
        "How far ahead it sees": _prediction(record),
        "What it sees": _clips(record),
        "What the policy does": _episodes(record),
        "How it learned": _learning(record),
        "How it was made": _making(record),
    }
    (run_dir / PICTURES).mkdir(exist_ok=True)
    body = []
    for title, parts in sections.items():
        content = [_show(part, run_dir / PICTURES) for part in parts]
        if content:
            body.append(f"<section><h2>{escape(title)}</h2>\n{''.join(content)}</section>")
    path = run_dir / REPORT_FILE
    with written_beside(path) as beside:
        beside.write_text(_page(record, "\n".join(body)), encoding="utf-8")
    return path


# The sections: pictures, tables and ready HTML ----------------------------------------------------------


@dataclass(frozen=True)
class Html:
    """Ready markup."""

    markup: str


def _results(record: Record) -> Iterator[Grid]:
    if record.evaluation is None:
        return
    policies = policy_grid(record.evaluation.policies)
    if policies is not None:
        yield policies
    if record.evaluation.prediction is not None:
        yield from prediction_grids(record.evaluation.prediction)


def _prediction(record: Record) -> Iterator[Picture]:
    score = record.evaluation.prediction if record.evaluation is not None else None
    if score is not None and score.keys:
        yield Picture(
            "prediction.png",
            plots.png(plots.prediction_plot(score)),
            f"Open-loop prediction under the true actions after {counted(score.context, 'frame')} of "
            f"context: means over {counted(score.clips, 'held-out clip')} with 95% intervals. The baselines "
            "are scored on the same clips.",
        )


def _clips(record: Record) -> Iterator[Picture]:
    clips = record.clips
    if clips is None:
        return
    images = screens.image_keys(clips)
    for key in images:
        name = _file_name(key)
        yield Picture(
            f"clips_{name}.gif",
            screens.clips_gif(clips, key),
            f"Held-out clips of {key}. Green: the context, real frames that the model is shown. Blue: its "
            "own prediction, given the real actions and no further frame.",
        )
        yield Picture(
            f"strip_{name}.png",
            screens.film_strip(clips, key),
            "The same clips, still: the frames of context, up to frame 0, then the steps predicted.",
        )
    for key, value in clips.truth.items():
        if value.ndim == 3:
            yield Picture(
                f"vector_{_file_name(key)}.png",
                plots.png(plots.vector_plot(clips, key)),
                f"Entries of {key} in a held-out clip: what happened and what was predicted.",
            )


def _episodes(record: Record) -> Iterator[Picture]:
    if record.episodes:
        yield Picture(
            "episodes.gif",
            screens.episodes_gif(record.episodes),
            "Episodes of the policy in the real environment, without exploration.",
        )


def _learning(record: Record) -> Iterator[Picture]:
    progress = plots.progress_plot(record.metrics)
    if progress is not None:
        caption = "Over the run's iterations; bands are 95% intervals over episodes."
        yield Picture("progress.png", plots.png(progress), caption)
    losses = plots.loss_plot(record.metrics)
    if losses is not None:
        caption = (
            "What fitting the model logged. Long curves have their running mean; a steep start is cut off."
        )
        yield Picture("losses.png", plots.png(losses), caption)


def _making(record: Record) -> Iterator[Html]:
    info = record.info
    facts = {
        "command": info.get("command"),
        "seed": info.get("seed"),
        "started": info.get("started"),
        "status": info.get("status"),
        "code": info.get("git"),
        "wall time": wall_times(info),
    }
    yield Html(_facts({name: value for name, value in facts.items() if value not in (None, "", {})}))
    for title, content in (("Versions", info.get("versions")), ("Machine", info.get("machine"))):
        if content:
            yield Html(f"<details><summary>{title}</summary>{_facts(content)}</details>\n")
    if record.config:
        config = f"<pre>{escape(record.config)}</pre>"
        yield Html(f"<details><summary>Configuration</summary>{config}</details>\n")


def _file_name(key: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in key)


# Markup -------------------------------------------------------------------------------------------------


def _show(part: Picture | Grid | Html, folder: Path) -> str:
    """A part as HTML; a picture is also written into the folder."""
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


def _facts(facts: Any) -> str:
    """A dict as a two-column table, whatever its values are."""
    items = facts.items() if isinstance(facts, Mapping) else enumerate(facts)
    rows = "".join(f"<tr><th>{escape(str(name))}</th><td>{_value(value)}</td></tr>" for name, value in items)
    return f"<table class=facts><tbody>{rows}</tbody></table>\n"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return escape(", ".join(f"{name} {item}" for name, item in value.items()))
    if isinstance(value, list):
        return escape(", ".join(map(str, value)) or "none")
    return escape(str(value))


def _page(record: Record, body: str) -> str:
    title = escape(record.name)
    facts = [f"seed {record.info['seed']}"] if "seed" in record.info else []
    facts += [str(record.info["started"]).replace("T", " ")] if record.info.get("started") else []
    wall = sum((record.info.get("wall") or {}).values())
    facts += [duration(wall)] if wall else []
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · wmplay</title>
<style>{_style()}</style>
</head>
<body>
<header>
<p class=kicker>wmplay run</p>
<h1>{title}</h1>
<p class=verdict>{escape(verdict(record))}</p>
<p class=note>{escape(" · ".join(facts))}</p>
</header>
<main>
{body}
</main>
</body>
</html>
"""


def _style() -> str:
    colours = {"ink": INK, "quiet": QUIET, "rule": RULE, "card": PAPER, "accent": BLUE}
    variables = " ".join(f"--{name}: {colour};" for name, colour in colours.items())
    return f":root {{ {variables} }}\n" + Path(__file__).with_name("page.css").read_text(encoding="utf-8")
