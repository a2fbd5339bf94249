"""A run directory as a run leaves it, built without running anything; a page of a report, checked."""

import json
from html.parser import HTMLParser

import numpy as np
from conveyor import Conveyor, episodes

from wmplay.evaluation.clips import cut_clips, cut_from_resets
from wmplay.evaluation.files import save_evaluation
from wmplay.evaluation.metrics.futures import shown_futures
from wmplay.evaluation.metrics.policy import score_episodes
from wmplay.evaluation.metrics.prediction import evaluate_prediction
from wmplay.evaluation.metrics.spread import evaluate_spread
from wmplay.evaluation.scores import AgreementScore, ArbiterScore, Curve, Likeness, SurpriseScore
from wmplay.evaluation.statistics import Interval
from wmplay.report import write_report

VOID = {"meta", "img", "br", "link", "input"}


def write_run(path, *, late=1, seed=0, overrides=(), success=True, **info):
    path.mkdir(parents=True, exist_ok=True)
    (path / "run.json").write_text(
        json.dumps(
            {
                "name": "conveyor <belt>",
                "seed": seed,
                "overrides": [*overrides, f"seed={seed}"],
                "command": "wmplay train env=conveyor",
                "versions": {"python": "3.11", "wmplay": "0.1.0"},
                "git": "abc1234",
                "machine": {"system": "Linux", "threads": 2, "cuda": []},
                "started": "2026-11-03T10:12:44",
                "status": "finished",
                "wall": {"collect": 0.5, "fit": 61.2, "improve": 0.0, "evaluate": 3.0},
                **info,
            }
        )
    )
    (path / "config.yaml").write_text("seed: 0\nenv:\n  name: <conveyor>\n")
    write_metrics(path, range(0, 1000, 5))
    store = episodes(11, seed=seed, goal=True)
    save_evaluation(
        path,
        prediction=evaluate_prediction(Conveyor(late=late), cut_clips(store, horizon=7)),
        clips=shown_futures(Conveyor(late=late), cut_clips(store, horizon=7, number=6)),
        episodes=[*episodes(1, goal=True, terminated=True, steps=5), *episodes(1, goal=True, steps=7)],
        policy=score_episodes(episodes(5, goal=True, terminated=success), seed),
        random=score_episodes(episodes(5, goal=True), seed),
    )
    return path


def write_simulator(path, seed=0):
    """Adds all that can be known of a learned simulator, and of a policy that practised in it."""
    model, store = Conveyor(noise=1), episodes(11, seed=seed, goal=True)
    rising = Curve([0.2, 0.3, 0.4], [0.1, 0.2, 0.3], [0.3, 0.4, 0.5])
    likeness = Likeness(
        Interval(1.5, 1.2, 1.8), {"precision@3": Interval(0.7, 0.6, 0.8)}, Interval(0.2, 0.1, 0.3)
    )
    reached, late = (episodes(5, goal=True, terminated=ends) for ends in (True, False))
    save_evaluation(
        path,
        prediction=evaluate_prediction(model, cut_clips(store, horizon=7)),
        spread=evaluate_spread(model, cut_clips(store, horizon=7), 3),
        surprise=SurpriseScore(
            "bound", 11, 7, 55, seed, Interval(5.5, 5.0, 6.0), {"marginal": Interval(37.0, 36.0, 38.0)}
        ),
        agreement=AgreementScore("iou", "place", 3, 3, 11, seed, rising, rising, rising),
        arbiter=ArbiterScore(
            "belt-v1", "abc", 3, 7, 512, 11, seed, {"model": likeness, "real": likeness}, chance=0.33
        ),
        clips=shown_futures(model, cut_clips(store, horizon=7, number=6)),
        unprompted=shown_futures(model, cut_from_resets(store, 11), 1),
        duplicate=shown_futures(model, cut_clips(store, horizon=7, number=1), 3),
        episodes=[*episodes(1, goal=True, terminated=True, steps=5), *episodes(1, goal=True, steps=7)],
        learned_episodes=[*episodes(1, goal=True, steps=7), *episodes(1, goal=True, steps=7)],
        policy=score_episodes(late[:4] + reached[:1], seed),
        policy_sampled=score_episodes(late[:3] + reached[:2], seed),
        learned_sampled=score_episodes(late[:2] + reached[:3], seed),
        untrained_sampled=score_episodes(late, seed),
        random=score_episodes(late, seed),
    )
    return path


def write_metrics(path, steps):
    rng = np.random.default_rng(0)
    lines = [
        {
            "step": step,
            "phase": "fit",
            "iteration": 0,
            "time": 1.0,
            "loss/total": 9 / (1 + step),
            "fit/lr": 1e-3,
        }
        for step in steps
    ]
    for iteration in range(3):
        where = {"step": 100 * iteration, "iteration": iteration, "time": 1.0}
        value = float(rng.random())
        lines.append({**where, "phase": "collect", "collect/return": value})
        ends = {
            "policy/success": value,
            "policy/success_low": value - 0.1,
            "policy/success_high": value + 0.1,
        }
        quality = {"prediction/lcd/iou@5": value, "prediction/place/mae@1": 1 - value}
        lines.append({**where, "phase": "evaluate", **ends, **quality})
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps images, links and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.links, self.text = [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "img":
            self.images.append(attributes)
        self.links += [attributes[name] for name in ("src", "href", "data", "srcset") if name in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def page_of(run_dir):
    return Page(write_report(run_dir).read_text())
