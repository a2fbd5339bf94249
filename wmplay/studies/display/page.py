"""The report of a study: one page, one CSV file, one JSON file."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from wmplay.errors import RunError
from wmplay.report.markup import Html, Part, Picture, folded, write_page
from wmplay.report.numbers import counted
from wmplay.report.plots.figures import png
from wmplay.report.tables import Grid
from wmplay.studies.analysis import Answers, analyse
from wmplay.studies.conduct import directory_of, run
from wmplay.studies.directory import StudyDirectory
from wmplay.studies.display.checkpoints import checkpoint_grid, recommendation
from wmplay.studies.display.claims import claims_grid
from wmplay.studies.display.plots import profile_plot, scores_plot
from wmplay.studies.display.ranking import practice_grid, ranking_grid
from wmplay.studies.display.tables import grids, reasons, verdict, whole, without_world
from wmplay.studies.findings.checkpoints import judge
from wmplay.studies.findings.claims import judge_claims
from wmplay.studies.findings.ranking import practised, ranked
from wmplay.studies.question import Question, differences, read
from wmplay.studies.results import Results, read_results
from wmplay.system.files import check_links, unsealed, write_sealed_json, written_beside
from wmplay.system.reading import read_json

CSV_FILE, JSON_FILE = "study.csv", "answers.json"
UNEQUAL = 1.1  # times the least effort of an arm, from which efforts are reported as unequal
SCORES = (
    "Each dot is one seed; the mark is the interquartile mean over seeds (below 4 seeds: mean), the bar its "
    "95% bootstrap interval. Dashed: the random policy. Diamond: the arm's planner on the true dynamics."
)
PROFILES = (
    "The share of runs, of all seeds and worlds, whose score is above a threshold; bands are 95% bootstrap "
    "intervals at each threshold."
)


def report(file: str | Path, *, dir: str | Path | None = None) -> tuple[StudyDirectory, list[Grid], str]:
    """Write ``report.html``, ``study.csv`` and ``answers.json`` of a study.

    Args:
        file: of the study, the name of a built-in one, or the directory of a study. What differs from the
            question that the first run froze is shown as changed.
        dir: of the study; None is ``runs/studies/<name>``.

    Returns:
        The study's directory, its tables, and its main result in a sentence.

    Raises:
        WmplayError: for any mistake that the user can fix; one line.
    """
    there = StudyDirectory(Path(file))
    if there.exists:
        study, asked = there, there.last()
    else:
        asked = read(file)
        study = StudyDirectory(directory_of(asked, dir))
    check_links(study.path, RunError)
    changes = differences(study.first(), asked)
    results = read_results(asked, study)
    answers = analyse(results)
    tables, said = grids(results, answers), verdict(asked, answers)
    if results.problems:
        said += f" {counted(len(results.problems), 'run')} missing, such as {results.problems[0]}."
    claims, judged, orders, practices = (
        judge_claims(results),
        judge(results),
        ranked(results),
        practised(results),
    )
    claimed = [claims_grid(claims)] if claims else []
    more = [*claimed, *map(checkpoint_grid, judged)]
    ranked_tables = [without_world(ranking_grid(orders), asked)] if orders else []
    practised_tables = [without_world(practice_grid(practices), asked)] if practices else []
    more += [*ranked_tables, *practised_tables]
    _write_csv(results, study.path / CSV_FILE)
    content = _answers(study, results, answers, changes)
    further: dict[str, Sequence[Any]] = {"claims": claims, "checkpoints": judged}
    further |= {"rankings": orders, "practice": practices}
    content |= {name: _finite([asdict(each) for each in found]) for name, found in further.items()}
    write_sealed_json(study.path / JSON_FILE, content)
    sections: dict[str, Sequence[Part]] = {
        "Changed after the first run": [_list(changes)] if changes else [],
        "Missing": [_list(results.problems)] if results.problems else [],
        "Arms": [
            Picture("scores.png", png(scores_plot(results, answers)), SCORES),
            *tables[:1],
            _list(reasons(answers)),
        ],
        "Claims": claimed,
        "Comparisons": tables[1:2],
        "Ranks": tables[2:3],
        "Performance profiles": [Picture("profiles.png", png(profile_plot(answers)), PROFILES)]
        if answers.profiles
        else [],
        "Checkpoints": [*map(checkpoint_grid, judged), _list([recommendation(each) for each in judged])]
        if judged
        else [],
        "Rankings of policies": ranked_tables,
        "Practice in the model": practised_tables,
        "Equal footing": [*tables[3:], _list(_footing(results, answers, study))],
        "The question": [folded("As it was asked", f"<pre>{escape(_as_yaml(asked))}</pre>")],
    }
    note = " · ".join(
        [
            asked.metric,
            counted(len(asked.all_seeds), "seed"),
            counted(asked.episodes, "episode"),
            f"question {asked.digest}",
            f"frozen {study.record().questions[0].when.replace('T', ' ')}",
        ]
    )
    title = asked.about or asked.name
    write_page(study.path, sections, kicker="wmplay study", title=title, verdict=said, note=note)
    return study, [*tables, *more], said


def study(file: str | Path, *, dir: str | Path | None = None, launcher: Sequence[str] = ()) -> dict[str, Any]:
    """Run the unfinished jobs of a study, write its report, and return its answers.

    Args:
        file: of the study, or the name of a built-in one.
        dir: of the study; None is ``runs/studies/<name>``.
        launcher: overrides of Hydra's launcher, as for ``wmplay train -m``.

    Returns:
        The content of ``answers.json``.

    Raises:
        WmplayError: for any mistake that the user can fix; one line.
    """
    run(file, dir=dir, launcher=launcher)
    written, _, _ = report(file, dir=dir)
    path = written.path / JSON_FILE
    return dict(unsealed(read_json(path, RunError), path))


def _footing(results: Results, answers: Answers, study: StudyDirectory) -> list[str]:
    """Return lines on what the arms share, and on unequal effort."""
    asked = results.question
    lines = [f"world {world}: manifest {digest}" for world, digest in study.manifests().items()]
    unit = (
        "none was set"
        if asked.budget is None
        else f"{asked.budget.amount:,g} {asked.budget.unit.replace('_', ' ')}"
    )
    lines.append(f"budget of each arm: {unit}")
    for world in asked.worlds:
        rows = [row for row in answers.rows if row.world == world and row.seeds]
        for name in ("real_steps", "updates"):
            amounts = [vars(row)[name] for row in rows if math.isfinite(vars(row)[name])]
            if amounts and max(amounts) > UNEQUAL * min(amounts):
                told = ", ".join(f"{row.arm} {whole(vars(row)[name])}" for row in rows)
                lines.append(f"world {world}: unequal {name.replace('_', ' ')} ({told})")
    return lines


def _list(lines: Sequence[str]) -> Html:
    return Html(f"<ul class=note>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>\n")


def _as_yaml(asked: Question) -> str:
    content = {key: value for key, value in asked.content().items() if value not in (None, [], "")}
    return str(yaml.safe_dump(content, sort_keys=False, width=100))


# ---- files -----------------------------------------------------------------------------------------------


def _write_csv(results: Results, path: Path) -> None:
    """Write a line for each run."""
    columns = ["question", "arm", "world", "seed", "ceiling", "status", "manifest", "metric", "value"]
    columns += ["low", "high", "floor", "real_steps", "updates", "seconds", "directory", "problem"]
    with written_beside(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for run in (*results.runs, *results.ceilings):
            place = run.place
            numbers = [run.value, run.low, run.high, run.floor, run.real_steps, run.updates, run.seconds]
            known = [x if math.isfinite(x) else "" for x in numbers]
            about = [place.question, place.arm, place.world, place.seed, place.ceiling, run.status]
            writer.writerow(
                [*about, run.manifest, results.question.metric, *known, place.directory, run.problem]
            )


def _answers(
    study: StudyDirectory, results: Results, answers: Answers, changes: Sequence[str]
) -> dict[str, Any]:
    """Return all answers as plain values for the JSON file."""
    asked = results.question
    content = {
        "question": asked.digest,
        "frozen": study.record().questions[0].digest,
        "changed": list(changes),
        "asked": asked.content(),
        "manifests": study.manifests(),
        "alpha": answers.alpha,
        "arms": [asdict(row) for row in answers.rows],
        "comparisons": [asdict(each) for each in answers.comparisons],
        "ranks": answers.ranks,
        "profiles": {
            "thresholds": answers.thresholds.tolist(),
            **{arm: shares.tolist() for arm, shares in answers.profiles.items()},
        },
        "missing": results.problems,
    }
    found: dict[str, Any] = _finite(content)
    return found


def _finite(value: Any) -> Any:
    """Return content with None for numbers that are not finite, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
