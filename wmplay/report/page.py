"""``report.html``: one file without links to anything, built from what is on disk of a run."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from wmplay.files import written_beside
from wmplay.report import plots, screens
from wmplay.report.record import Record, read_record
from wmplay.report.style import BLUE, INK, PAPER, QUIET, RULE
from wmplay.report.tables import Grid, policy_grid, prediction_grids
from wmplay.report.words import counted, duration, verdict

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
    sections = [
        ("Results", _results(record)),
        ("How far ahead it sees", _prediction(record)),
        ("What it sees", _clips(record)),
        ("What the policy does", _episodes(record)),
        ("How it learned", _learning(record)),
        ("How it was made", _making(record)),
    ]
    (run_dir / PICTURES).mkdir(exist_ok=True)
    body = []
    for title, parts in sections:
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
            f"Open-loop prediction under the true actions after {counted(score.context, 'frame')} of context: "
            f"means over {counted(score.clips, 'held-out clip')} with 95% intervals. The baselines are scored on "
            "the same clips.",
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
            f"Held-out clips of {key}. Green: the context, real frames that the model is shown. Blue: its own "
            "prediction, the real actions given, nothing seen any more.",
        )
        yield Picture(
            f"strip_{name}.png",
            screens.film_strip(clips, key),
            f"The same clips, still: columns are the frames of context (up to 0) and then the steps predicted of {key}.",
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
            "What fitting the model logged; where there are many points, the line is their running mean."
        )
        yield Picture("losses.png", plots.png(losses), caption)


def _making(record: Record) -> Iterator[Html]:
    info = record.info
    wall: Mapping[str, float] = info.get("wall") or {}
    facts = {
        "command": info.get("command"),
        "seed": info.get("seed"),
        "started": info.get("started"),
        "status": info.get("status"),
        "code": info.get("git"),
        "wall time": ", ".join(f"{phase} {duration(seconds)}" for phase, seconds in wall.items() if seconds),
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
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>\n"


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
<style>{STYLE}</style>
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


STYLE = f"""
:root {{ --ink: {INK}; --quiet: {QUIET}; --rule: {RULE}; --paper: {PAPER}; --shade: #f6f8fa; --accent: {BLUE}; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e6e9ec; --quiet: #9aa5b1; --rule: #323a43; --paper: #15191e; --shade: #1d2329; --accent: #56b4e9; }}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; padding: 40px 28px 80px; max-width: 1040px; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }}
header {{ border-bottom: 1px solid var(--rule); padding-bottom: 12px; }}
h1 {{ margin: 0; font-size: 30px; line-height: 1.2; letter-spacing: -.01em; }}
h2 {{ margin: 48px 0 12px; font-size: 21px; }}
h3 {{ margin: 24px 0 6px; font-size: 15px; }}
.kicker {{ margin: 0 0 4px; color: var(--accent); font-size: 13px; font-weight: 600; letter-spacing: .06em;
  text-transform: uppercase; }}
.verdict {{ margin: 14px 0 10px; max-width: 46em; font-size: 19px; line-height: 1.5; }}
.note, figcaption {{ margin: 6px 0 0; max-width: 62em; color: var(--quiet); font-size: 13.5px; }}
figure {{ margin: 16px 0 30px; }}
figure img {{ display: block; max-width: 100%; height: auto; padding: 10px; background: {PAPER};
  border: 1px solid var(--rule); border-radius: 6px; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 5px 18px 5px 0; text-align: right; white-space: nowrap; }}
th:first-child {{ text-align: left; font-weight: 400; }}
thead th {{ color: var(--quiet); font-weight: 600; border-bottom: 1px solid var(--quiet); }}
thead th:first-child {{ font-weight: 600; }}
tbody tr + tr > * {{ border-top: 1px solid var(--rule); }}
.facts th {{ color: var(--quiet); vertical-align: top; }}
.facts td {{ text-align: left; white-space: normal; overflow-wrap: anywhere; }}
details {{ margin-top: 10px; border: 1px solid var(--rule); border-radius: 6px; padding: 8px 14px; }}
summary {{ cursor: pointer; font-weight: 600; font-size: 15px; }}
pre {{ margin: 10px 0 4px; padding: 12px; overflow-x: auto; background: var(--shade); border-radius: 4px;
  font: 13px/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
"""
