"""The page ``report.html`` of a run, built from the files of the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

import numpy as np

from wmplay.contracts import Trajectory
from wmplay.errors import RunError
from wmplay.evaluation.gallery import ShownClips
from wmplay.evaluation.model_quality import measured
from wmplay.registry import KINDS
from wmplay.report.labels import POLICY, SAMPLED
from wmplay.report.markup import Html, Part, Picture, facts_table, file_names, folded, write_page
from wmplay.report.numbers import counted, duration, wall_times
from wmplay.report.pictures import clips, episodes
from wmplay.report.plots import lines, simulator
from wmplay.report.plots.calibration import calibration_plot
from wmplay.report.plots.factors import factors_plot
from wmplay.report.plots.features import features_plot
from wmplay.report.plots.figures import png
from wmplay.report.plots.violation import violation_plot
from wmplay.report.run_files import RunFiles, read_run_files
from wmplay.report.sweep.quality import quality_plot
from wmplay.report.tables import Grid, model_grids, policy_grid
from wmplay.report.verdict import verdict
from wmplay.system.files import check_links


def write_report(run_dir: Path | str) -> Path:
    """Build a run's ``report.html``, and its images in ``report/``, from the files of the run.

    It may be called at any time and any number of times; parts that do not exist yet are left out.

    Returns:
        The path of the page.

    Raises:
        RunError: if the directory is not a run's, or if one of its files is damaged.
    """
    run_dir = Path(run_dir)
    check_links(run_dir, RunError)
    run = read_run_files(run_dir)
    run.metrics.warn(run.path / "metrics.jsonl")
    sections: dict[str, Iterable[Part]] = {
        "Results": _results(run),
        "How far ahead the model predicts": _prediction(run),
        "What the features hold": _features(run),
        "What the model predicts": _clips(run),
        "One beginning, several futures": _futures(run),
        "Futures from a reset": _dreams(run),
        "What the model finds impossible": _violation(run),
        "In worlds with other factors": _factors(run),
        "What the policy does": _episodes(run),
        "Does a better model make a better policy": _quality(run),
        "How the model learned": _learning(run),
        "How the run was made": _making(run),
    }
    facts = _pieces(run)
    facts += [f"seed {run.info['seed']}"] if "seed" in run.info else []
    facts += [str(run.info["started"]).replace("T", " ")] if run.info.get("started") else []
    wall = sum((run.info.get("wall") or {}).values())
    facts += [duration(wall)] if wall else []
    damaged = len(run.metrics.damaged)
    facts += [f"without {counted(damaged, 'damaged line')} of metrics.jsonl"] if damaged else []
    return write_page(
        run_dir, sections, kicker="wmplay run", title=run.name, verdict=verdict(run), note=" · ".join(facts)
    )


def _pieces(run: RunFiles) -> list[str]:
    """Return the pieces that the run was started with, by the names given."""
    overrides = [str(text) for text in run.info.get("overrides", [])]
    return [text for text in overrides if text.partition("=")[0] in (*KINDS, "experiment")]


def _results(run: RunFiles) -> Iterator[Grid]:
    if run.evaluation is None:
        return
    policies = policy_grid(run.evaluation.policies)
    if policies is not None:
        yield policies
    yield from model_grids(run.evaluation)


def _prediction(run: RunFiles) -> Iterator[Picture]:
    score = run.evaluation.prediction if run.evaluation is not None else None
    if score is not None and score.keys:
        yield Picture(
            "prediction.png",
            png(lines.prediction_plot(score)),
            f"Open-loop prediction under the true actions after {counted(score.context, 'frame')} of "
            f"context: means over {counted(score.clips, 'held-out clip')} with 95% intervals. The baselines "
            "are scored on the same clips.",
        )


def _features(run: RunFiles) -> Iterator[Picture]:
    score = run.evaluation.features if run.evaluation is not None else None
    if score is not None:
        yield Picture(
            "features.png",
            png(features_plot(score)),
            "Left: the part of each vector that a linear probe reads from the features, in episodes held out "
            "from the probe, with 95% intervals. Right: the squared distance of predicted latents to real "
            "ones, as a part of the latents' variance (always guessing their mean has an error of 1).",
        )


def _clips(run: RunFiles) -> Iterator[Picture]:
    shown = run.clips
    if shown is None:
        return
    names = file_names(shown.truth)
    for key in clips.image_keys(shown):
        yield Picture(
            f"clips_{names[key]}.gif",
            clips.clips_gif(shown, key),
            f"Held-out clips of {key}. Green: the context, real frames that the model observes. Blue: the "
            "model's prediction from the real actions, without further frames.",
        )
        yield Picture(
            f"strip_{names[key]}.png",
            clips.film_strip(shown, key),
            "The same clips as single frames: the context, up to frame 0, then the predicted steps.",
        )
    for key in _vector_keys(shown):
        yield Picture(
            f"vector_{names[key]}.png",
            png(lines.vector_plot(shown, key)),
            f"Entries of {key} in a held-out clip, real and predicted.",
        )


def _futures(run: RunFiles) -> Iterator[Picture]:
    evaluation, shown = run.evaluation, run.duplicate
    if evaluation is not None and evaluation.spread is not None:
        spread = evaluation.spread
        yield Picture(
            "spread.png",
            png(simulator.spread_plot(spread)),
            f"{counted(spread.futures, 'sampled future')} of each of {counted(spread.clips, 'beginning')} "
            "under the same actions: their distance from each other, and from the real future. If the "
            "model's uncertainty is right, the two lines are equal; if the first is far below the second, "
            "the model is too certain. Unrelated clips give the scale.",
        )
    if evaluation is not None and evaluation.calibration is not None:
        yield Picture(
            "calibration.png",
            png(calibration_plot(evaluation.calibration)),
            "Calibration of the same futures. Reliability: pixels that the model finds likely in a part p of "
            "the futures, and how often they are lit; the diagonal is right. Spread to skill: the futures' "
            "spread by the error of their mean; below 1 the model is too certain. CRPS: the error of a "
            "distribution, in the unit of its vector, next to that of the last frame, copied.",
        )
    if shown is not None:
        names = file_names(shown.truth)
        for key in clips.image_keys(shown):
            yield Picture(
                f"futures_{names[key]}.png",
                clips.futures_strip(shown, key),
                f"Sampled futures of one beginning of {key}, under the same actions, below the real "
                "future. Green: the frames that the model observes.",
            )
        for key in _vector_keys(shown):
            yield Picture(
                f"futures_{names[key]}.png",
                png(simulator.futures_plot(shown, key)),
                f"Entries of {key} in the same futures.",
            )
    if evaluation is not None and evaluation.agreement is not None:
        agreement = evaluation.agreement
        yield Picture(
            "agreement.png",
            png(simulator.agreement_plot(agreement)),
            f"Agreement of a sampled future's {agreement.key}, drawn by the world's own renderer, with the "
            "future's screen. Real frames are the ceiling, the screen of another clip is the floor.",
        )


def _dreams(run: RunFiles) -> Iterator[Picture]:
    shown = run.unprompted
    if shown is None:
        return
    names = file_names(shown.truth)
    for key in clips.image_keys(shown):
        yield Picture(
            f"unprompted_{names[key]}.gif",
            clips.clips_gif(shown, key, clips.DREAM_ROWS),
            "Sampled from the first frame of a reset, under random actions. Above: the real world, from the "
            "same frame under the same actions. After some steps the two may differ.",
        )


def _violation(run: RunFiles) -> Iterator[Picture]:
    score = run.evaluation.violation if run.evaluation is not None else None
    if score is None or not run.pairs:
        return
    yield Picture(
        "violation.png",
        png(violation_plot(score, run.pairs)),
        "One pair of each kind. Above: the possible episode, then the impossible one, every second frame; up "
        "to the event (the line) they are the same. Below: the model's surprise at each step.",
    )


def _factors(run: RunFiles) -> Iterator[Picture]:
    score = run.evaluation.factors if run.evaluation is not None else None
    if score is None or not any(sweep.model or sweep.policies for sweep in score.sweeps.values()):
        return
    yield Picture(
        "factors.png",
        png(factors_plot(score)),
        f"Scores by the value of one factor, the others as in the run, with 95% intervals over episodes; "
        f"predictions at {counted(score.horizon, 'step')}. Shaded: the values that the run learned in.",
    )


def _episodes(run: RunFiles) -> Iterator[Picture]:
    if not run.episodes:
        return
    sampled = run.evaluation is not None and POLICY + SAMPLED in run.evaluation.policies
    how = "with sampled actions" if sampled else "without exploration"
    worlds = {"real": run.episodes}
    caption = f"Episodes of the policy in the real world, {how}."
    both = {**worlds, "learned": run.learned_episodes}
    if run.learned_episodes and episodes.shown_key(both) is not None:  # a model may predict no image
        worlds = both
        pairs = zip(run.episodes, run.learned_episodes, strict=False)
        alike = (
            ", from the same starts to the same goals" if all(_begin_alike(*pair) for pair in pairs) else ""
        )
        caption = f"The policy in the real world, above, and in the learned one{alike}; {how}."
    yield Picture("episodes.gif", episodes.episodes_gif(worlds), caption)


def _begin_alike(one: Trajectory, other: Trajectory) -> bool:
    """Return whether two episodes have the same first frames, for the keys that both have."""
    shared = one.observation.keys() & other.observation.keys()
    return all(np.array_equal(one.observation[key][0], other.observation[key][0]) for key in shared)


def _quality(run: RunFiles) -> Iterator[Picture]:
    figure = quality_plot(measured({run.name: run.log}))
    if figure is not None:
        yield Picture(
            "quality.png",
            png(figure),
            "Each point is one evaluation of this run. Spearman's rank correlation has a 95% bootstrap "
            "interval from five evaluations on, which may be too narrow, because evaluations of one run are "
            "not independent.",
        )


def _learning(run: RunFiles) -> Iterator[Picture]:
    progress = lines.progress_plot(run.log)
    if progress is not None:
        caption = "Over the run's iterations; bands are 95% intervals over episodes."
        yield Picture("progress.png", png(progress), caption)
    practice = lines.practice_plot(run.log)
    if practice is not None:
        yield Picture("practice.png", png(practice), "Metrics of the policy's practice.")
    losses = lines.loss_plot(run.log)
    if losses is not None:
        caption = "Metrics of fitting the model. Long curves have a running mean; a steep start is cut off."
        yield Picture("losses.png", png(losses), caption)


def _making(run: RunFiles) -> Iterator[Html]:
    info = run.info
    facts = {
        "command": info.get("command"),
        "seed": info.get("seed"),
        "started": info.get("started"),
        "status": info.get("status"),
        "code": info.get("git"),
        "wall time": wall_times(info),
    }
    yield Html(facts_table({name: value for name, value in facts.items() if value not in (None, "", {})}))
    for title, content in (("Versions", info.get("versions")), ("Machine", info.get("machine"))):
        if content:
            yield folded(title, facts_table(content))
    if run.config:
        yield folded("Configuration", f"<pre>{escape(run.config)}</pre>")


def _vector_keys(shown: ShownClips) -> list[str]:
    return [key for key, value in shown.truth.items() if value.ndim == 3]
