"""Studies: what is asked, the jobs that follow, the answers, and what is refused."""

import json
import math
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from refusals import failure, refused

from wmplay import registry
from wmplay.cli import main
from wmplay.contracts import Trajectory
from wmplay.envs import build_env
from wmplay.errors import ConfigError, RunError, UnknownName, WmplayError
from wmplay.evaluation.files import save_evaluation
from wmplay.evaluation.metrics.policy import policy_score
from wmplay.evaluation.model_quality import Point
from wmplay.evaluation.ranking.scoring import Outcomes, score_ranking
from wmplay.evaluation.statistics import Interval
from wmplay.runs.disk.directory import RunDirectory
from wmplay.runs.pieces import env_config
from wmplay.studies.analysis import analyse, fault_of
from wmplay.studies.directory import Place, StudyDirectory
from wmplay.studies.display.checkpoints import recommendation
from wmplay.studies.display.page import report
from wmplay.studies.findings.checkpoints import _luck, judge, quality
from wmplay.studies.findings.claims import judge_claims
from wmplay.studies.findings.ranking import practised, ranked
from wmplay.studies.forecast import power_lines
from wmplay.studies.jobs import plan_jobs
from wmplay.studies.question import Claim, built_in, differences, question_of, read
from wmplay.studies.results import Result, Results, read_results

PENDULUM = ["env=gym", "env.id=Pendulum-v1", "env.max_steps=7"]
SMALL = {
    "arms": {"narrow": ["model.hidden=16"], "wide": ["model.hidden=32"]},
    "worlds": {"pendulum": PENDULUM},
    "shared": ["experiment=pets", "iterations=1", "fit.steps=3", "evaluate.prediction.episodes=0"],
    "seeds": 5,
    "episodes": 3,
    "metric": "policy/return",
}

ALIKE = ["evaluate.prediction.episodes=0", "evaluate.generation.clips=0"]


def asked(**changes):
    return question_of({**SMALL, **changes}, "a.yaml")


# ---- the question ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "kind", "about"),
    [
        ({"arm": {}}, ConfigError, "arm"),
        ({"arms": {}}, ConfigError, "arms"),
        ({"arms": {"one": []}}, ConfigError, "one"),
        ({"seeds": [1, 1]}, ConfigError, "seeds"),
        ({"seeds": 0}, ConfigError, "seeds"),
        ({"seeds": "many"}, ConfigError, "seeds"),
        ({"metric": "policy/sucess"}, UnknownName, "policy/sucess"),
        ({"metric": "score"}, UnknownName, "score"),
        ({"comparisons": [["narrow", "white"]]}, UnknownName, "white"),
        ({"comparisons": [["narrow", "narrow"]]}, ConfigError, "narrow"),
        ({"comparisons": [["narrow", "wide"], ["wide", "narrow"]]}, ConfigError, "comparisons"),
        ({"budget": {"updates": 3, "minutes": 1.0}}, ConfigError, "2"),
        ({"budget": {}}, ConfigError, "0"),
        ({"margin": 0}, ConfigError, "margin"),
        ({"looks": [1]}, ConfigError, "looks"),
        ({"looks": [9]}, ConfigError, "looks"),
        ({"better": "larger"}, ConfigError, "better"),
        ({"claims": {"so": {"arms": ["narrow"]}}}, ConfigError, "so"),
        ({"claims": {"so": {"arms": ["narrow"], "than": ["white"]}}}, UnknownName, "white"),
        ({"claims": {"so": {"number": "rewards/error", "worlds": ["moon"]}}}, UnknownName, "moon"),
        ({"claims": {"so": {"number": "reward/error"}}}, UnknownName, "reward/error"),
        ({"claims": {"so": {"rival": "rewards/error"}}}, ConfigError, "so"),
        ({"claims": {"so": {"arm": ["narrow"], "than": ["wide"]}}}, ConfigError, "arm"),
        ({"budget": {"real_step": 3}}, ConfigError, "real_step"),
        (
            {"claims": {"so": {"arms": ["narrow"], "than": ["wide"], "expect": "close"}}},
            ConfigError,
            "margin",
        ),
    ],
)
def test_questions_that_cannot_be_answered_are_refused(changes, kind, about):
    with refused(kind, about):
        asked(**changes)


def test_the_digest_is_of_what_is_asked_and_not_of_words():
    assert asked().digest == asked(about="in other words", name="other").digest
    others = [asked(seeds=6), asked(margin=1.0), asked(metric="policy/length"), asked(episodes=4)]
    assert len({asked().digest, *(other.digest for other in others)}) == 5
    assert [line.partition(":")[0] for line in differences(asked(), asked(margin=2.0, seeds=6))] == [
        "seeds",
        "margin",
    ]


def test_every_built_in_study_is_a_question():
    assert {"quick", "methods", "metrics", "ranking"} <= built_in().keys()
    for name in built_in():
        assert read(name).about
        assert read(name).digest
    with refused(UnknownName, "quik", advice="quick"):
        read("quik")
    with refused(ConfigError, "nowhere/question.yaml"):
        read("nowhere/question.yaml")


# ---- jobs -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planned():
    return plan_jobs(asked(budget={"updates": 5}, ceiling=["planner.candidates=3"]))


def test_arms_share_starts_seeds_and_budget(planned):
    jobs = [job for job in planned.jobs if not job.ceiling]
    assert [(job.seed, job.arm) for job in jobs[:4]] == [
        (0, "narrow"),
        (0, "wide"),
        (1, "narrow"),
        (1, "wide"),
    ]
    assert len({job.directory for job in jobs}) == 10
    for job in jobs:
        assert job.settings.seed == job.seed
        assert job.settings.fit.steps == 5
        assert job.settings.evaluate == jobs[0].settings.evaluate
        assert job.settings.evaluate.policy.starts == "manifest"
    assert len(planned.manifests["pendulum"].seeds) == 3


def test_the_ceiling_is_the_same_planner_on_the_true_dynamics(planned):
    ceilings = [job for job in planned.jobs if job.ceiling]
    assert [job.arm for job in ceilings] == ["narrow", "wide"]
    assert len({job.directory for job in ceilings}) == 1  # the arms differ in their model alone
    own, learned = ceilings[0].settings, planned.jobs[0].settings
    assert own.model["_piece_"] == "model/oracle"
    assert own.planner == {**learned.planner, "candidates": 3}
    assert (own.fit.steps, own.collect.random_episodes, own.policy) == (0, 0, learned.policy)
    assert not [job for job in plan_jobs(asked(ceiling=None)).jobs if job.ceiling]
    hidden = {"worlds": {"pendulum": ["env=pendulum_screen"]}, "shared": ["model=mlp"]}
    hidden |= {"arms": {"a": [], "b": ["model.hidden=16"]}}
    assert not [job for job in plan_jobs(asked(**hidden)).jobs if job.ceiling]  # one frame hides its velocity


@pytest.mark.parametrize(
    ("changes", "tokens", "advice"),
    [
        ({"arms": {"a": [], "b": ["seed=3"]}}, ("b", "seed=3"), "seeds"),
        ({"arms": {"a": [], "b": ["evaluate.seed=3"]}}, ("b", "evaluate.seed=3"), "seeds"),
        ({"arms": {"a": [], "b": ["env.max_steps=9"]}}, ("a", "b", "env.max_steps"), "shared"),
        (
            {"arms": {"a": [], "b": ["evaluate.prediction.horizon=9"]}},
            ("evaluate.prediction.horizon",),
            "shared",
        ),
        (
            {"arms": {"a": [], "b": ["experiment=planet_cartpole"]}, "shared": ["experiment=pets", *ALIKE]},
            ("a", "b"),
            "may_differ",
        ),
        ({"budget": {"real_steps": 99}}, ("14", "99"), "iterations"),
        ({"budget": {"updates": 5}, "shared": [*SMALL["shared"], "iterations=2"]}, ("2", "5"), "budget"),
        ({"metric": "policy/success"}, ("pendulum",), "policy/return"),
        ({"metric": "prediction/observation/mae@1"}, ("evaluate.prediction.episodes", "narrow"), "shared"),
        ({"metric": "prediction/observation/mae@3", "shared": ["experiment=pets"]}, ("3",), "horizon"),
    ],
)
def test_unequal_arms_are_refused(changes, tokens, advice):
    with refused(ConfigError, tokens, advice=advice):
        plan_jobs(asked(**changes))


def test_arms_may_differ_in_what_the_study_allows():
    arms = {"a": [], "b": ["planner=random_shooting"]}
    assert plan_jobs(asked(arms=arms)).jobs
    assert plan_jobs(asked(budget={"real_steps": 14})).jobs
    by_flops = plan_jobs(asked(budget={"flops": 1e10}, ceiling=None)).jobs
    narrow, wide = (job.settings.fit.steps for job in by_flops[:2])
    assert narrow > wide > 1


# ---- answers --------------------------------------------------------------------------------------------


def results(first, second, question=None, ceiling=None, floor=0.0):
    """Results of two arms by hand: {seed: value}."""
    question = question or asked(seeds=len(first))
    runs = []
    for arm, values in (("narrow", first), ("wide", second)):
        for seed, value in enumerate(values):
            place = Place(arm, "pendulum", seed, False, f"{arm}{seed}", question.digest)
            gone = math.isnan(value)
            problem = "failed: no" if gone else ""
            runs.append(
                Result(place, "failed" if gone else "finished", problem, value, floor=floor, variance=1.0)
            )
    ends = []
    if ceiling is not None:
        for arm in ("narrow", "wide"):
            place = Place(arm, "pendulum", 0, True, "ceiling", question.digest)
            ends.append(Result(place, "finished", "", *ceiling))
    return Results(question, runs, ends)


NOISE = np.array([0.1, -0.2, 0.0, 0.3, -0.1, 0.2, -0.3])


def verdicts(*given, **more):
    return [each.verdict for each in analyse(results(*given, **more)).comparisons]


def test_a_clear_difference_is_decided_from_five_seeds_on():
    assert verdicts(NOISE + 5, NOISE[::-1]) == ["better"]
    assert verdicts(NOISE[:5] + 5, NOISE[:5]) == ["better"]
    assert verdicts(NOISE, NOISE[::-1] + 5) == ["worse"]
    assert verdicts(NOISE + 5, NOISE, asked(seeds=7, better="lower")) == ["worse"]
    assert verdicts(NOISE[:4] + 5, NOISE[:4]) == ["open"]
    assert verdicts(NOISE[:1] + 5, NOISE[:1]) == ["open"]


def test_no_difference_is_equivalence_only_within_a_margin():
    assert verdicts(NOISE, NOISE[::-1]) == ["open"]
    assert verdicts(NOISE, NOISE[::-1], asked(seeds=7, margin=2.0)) == ["equivalent"]
    assert verdicts(NOISE, NOISE[::-1], asked(seeds=7, margin=0.01)) == ["open"]


def test_a_missing_seed_is_named_and_keeps_the_study_open():
    first = np.array([*NOISE[:6] + 5, math.nan])
    given = results(first, NOISE)
    answers = analyse(given)
    assert [each.verdict for each in answers.comparisons] == ["open"]
    assert answers.comparisons[0].seeds == 6
    assert [("seed 6" in line, "narrow" in line) for line in given.problems] == [(True, True)]
    assert [row.seeds for row in answers.rows] == [6, 7]


def test_a_look_before_the_end_decides_at_its_own_level():
    question = asked(seeds=7, looks=[5])
    first = np.array([*NOISE[:5] + 5, math.nan, math.nan])
    answers = analyse(results(first, NOISE, question))
    assert answers.alpha == 0.025
    assert answers.decided
    first[4] = math.nan
    assert not analyse(results(first, NOISE, question)).decided


def test_ranks_and_profiles_follow_the_scores():
    answers = analyse(results(NOISE + 5, NOISE))
    assert answers.ranks["narrow"] == (1, 1, 1)
    assert answers.profiles["narrow"][0, 50] == 1
    assert answers.profiles["wide"][0, 50] == 0
    assert answers.comparisons[0].improvement.value == 1


@pytest.mark.parametrize(
    ("ceiling", "score", "fault"),
    [
        ((95, 94, 96), (94, 93, 95), "neither"),
        ((95, 94, 96), (50, 45, 55), "model"),
        ((60, 58, 62), (60, 58, 62), "planner"),
        ((60, 58, 62), (30, 25, 35), "both"),
        ((88, 80, 96), (50, 45, 55), "cannot tell"),
        ((95, 90, 99), (85, 70, 99), "cannot tell"),
    ],
)
def test_the_part_to_blame(ceiling, score, fault):
    question = asked(solved=90.0)
    assert fault_of(question, Interval(*score), 5, 0.0, Interval(*ceiling))[0] == fault
    flipped = [Interval(-x, -high, -low) for x, low, high in (score, ceiling)]
    lower = asked(solved=-90.0, better="lower")
    assert fault_of(lower, flipped[0], 5, 0.0, flipped[1])[0] == fault


def test_nobody_is_to_blame_without_evidence():
    question, score, ceiling = asked(solved=90.0), Interval(50, 45, 55), Interval(95, 94, 96)
    assert fault_of(question, score, 4, 0.0, ceiling)[0] == "cannot tell"
    assert fault_of(question, score, 5, 0.0, None)[0] == "cannot tell"
    assert fault_of(asked(), score, 5, 0.0, ceiling)[0] == "cannot tell"  # nothing counts as solved


def test_power_comes_from_a_pilot():
    question = asked(seeds=7, difference=0.5)
    assert "pilot" in power_lines(question, None)[0]
    lines = power_lines(question, results(NOISE, NOISE[::-1], question))
    assert len(lines) == 4
    assert "pilot" in power_lines(question, results(NOISE[:1], NOISE[:1]))[0]


# ---- checkpoints ----------------------------------------------------------------------------------------


def along(seeds=5, checkpoints=5, **numbers):
    """Results whose checkpoints have numbers, each given as a function of the outcome and the age."""
    given = results(NOISE[:seeds], NOISE[:seeds])
    runs = []
    for i, run in enumerate(given.runs):
        outcome = np.random.default_rng(i).normal(size=checkpoints)
        points = [
            Point("", "", {"policy/return": x, **{k: f(x, age) for k, f in numbers.items()}}, float(age))
            for age, x in enumerate(outcome)
        ]
        runs.append(replace(run, evaluations=points))
    return replace(given, runs=runs)


def test_the_number_that_orders_checkpoints_as_the_metric_does_is_recommended():
    names = {
        "rewards/error": lambda x, _: 9 - x,
        "arbiter/f1@3": lambda x, _: -x,
        "surprise/bits": lambda *_: 1.0,
    }
    (judged,) = judge(along(seeds=7, **names))
    right, wrong, flat = (judged.pooled[name] for name in names)
    assert (judged.world, judged.checkpoints, judged.best) == ("pendulum", 5, "rewards/error")
    assert (right.correlation.value, right.wrong.value, right.regret.value) == (pytest.approx(1), 0, 0)
    assert (wrong.correlation.value, wrong.wrong.value) == (pytest.approx(-1), 1)
    assert wrong.regret.value > judged.chance.value > 0
    assert flat.wrong.value == 0.5  # equal numbers are a coin
    assert set(judged.arms) == {"narrow", "wide"}
    assert judged.recommended
    assert (judged.wrong.value, judged.p) == (0, 2 / 2**7)  # one number is the opposite of the best
    assert "rewards/error" in recommendation(judged)


def test_a_number_that_is_best_by_luck_is_not_recommended():
    rng = np.random.default_rng(0)
    names = {f"prediction/x/mae@{h}": lambda *_: rng.normal() for h in range(29)}
    (judged,) = judge(along(**names))
    assert not judged.recommended
    assert min(each.wrong.value for name, each in judged.pooled.items() if name != "updates") < 0.5
    assert "updates" in judged.pooled


def test_few_checkpoints_and_few_seeds_recommend_nothing():
    names = {"rewards/error": lambda x, _: -x}
    assert judge(along(checkpoints=2, **names)) == []
    assert not judge(along(seeds=4, **names))[0].recommended
    (alone,) = judge(along(seeds=1, **names))
    assert (alone.best, alone.recommended) == ("rewards/error", False)
    assert "last checkpoint" in recommendation(alone)


def test_numbers_without_a_meaning_are_rarely_recommended():
    """One simulated study in twenty at most, of 200 with seven seeds and 23 numbers."""
    rng = np.random.default_rng(0)
    wrong = sum(_luck(0.1 * rng.normal(size=(23, 7))) < 0.05 for _ in range(200))
    assert wrong <= 20  # 5% would be 10


@pytest.mark.parametrize(
    ("name", "better", "worse"),
    [
        ("prediction/lcd/iou@5", 0.9, 0.2),
        ("prediction/proprio/mae@5", 0.2, 0.9),
        ("calibration/proprio/spread_skill@5", 1.1, 0.2),
        ("calibration/proprio/spread_skill@5", 1.1, 3.0),
        ("arbiter/frechet", 3.0, 9.0),
        ("learned/success", 0.9, 0.2),
    ],
)
def test_every_number_has_a_better_end(name, better, worse):
    assert quality(name, better) > quality(name, worse)


@pytest.mark.parametrize(
    "name", ["policy/return", "random/success", "arbiter/f1@3_low", "spread/lcd/among@20"]
)
def test_numbers_that_are_no_judges(name):
    assert quality(name, 1.0) is None


# ---- practice and rankings ------------------------------------------------------------------------------


def practice(imagined, real, seeds=5):
    """Results of runs whose policy practises in the model, with a little noise by seed."""
    given = results(NOISE[:seeds], NOISE[:seeds])
    names = "learned_sampled/success", "policy_sampled/success"
    runs = []
    for run in given.runs:
        noise = 0.01 * np.random.default_rng(run.place.seed).normal(size=(len(real), 2))
        rows = np.stack([imagined, real], 1) + noise
        points = [Point("", "", dict(zip(names, row.tolist(), strict=True))) for row in rows]
        runs.append(replace(run, evaluations=points))
    return practised(replace(given, runs=runs))


RISING, FALLING = (0.2, 0.5, 0.8, 0.9), (0.2, 0.6, 0.4, 0.1)


def test_a_policy_that_gains_in_the_model_and_loses_in_reality_exploits_it():
    first, second = practice(RISING, FALLING)
    assert (first.arm, first.number, first.seeds, first.peak) == ("narrow", "success", 5, 1)
    assert first.exploited is second.exploited is True
    assert first.lost.value == pytest.approx(0.5, abs=0.05)
    assert first.gained.value == pytest.approx(0.4, abs=0.05)
    assert practice(RISING, RISING)[0].exploited is False
    assert practice(FALLING, FALLING)[0].exploited is None  # both fall: the model does not promise more
    assert practice(RISING, FALLING, seeds=4)[0].exploited is None
    assert practice(RISING[:2], FALLING[:2]) == []


def test_policies_are_jobs_of_their_own_and_are_not_scored():
    shared = [*SMALL["shared"], "model.hidden=16"]
    policies = {"longer": ["fit.steps=9"], "other": ["model=gru", "model.hidden=8"]}
    arms = {"a": [], "b": ["model.members=3"]}
    planned = plan_jobs(asked(arms=arms, shared=shared, policies=policies, imagined=7, ceiling=None))
    longer, other = (job.settings for job in planned.policies)
    assert (longer.fit.steps, longer.model["hidden"], other.model["hidden"]) == (9, 16, 8)
    assert longer.evaluate.policy.episodes == other.evaluate.policy.episodes == 0
    with refused(ConfigError, "random", got="random"):
        asked(policies={"random": []})
    assert asked(policies={}).digest == asked().digest != asked(policies=policies).digest


def test_rankings_are_averaged_over_seeds():
    def ranking(tau, imagined):
        real = Outcomes(np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]), np.tile(imagined, (6, 2)), 2.0, 1.0)
        other = replace(real, real=real.real[::-1] * 0)
        found = score_ranking({"own": real, "random": other}, "success", 0, "digest")
        return replace(found, kendall=Interval(tau, math.nan, math.nan))

    given = results(NOISE[:2], NOISE[:2])
    runs = [replace(run, ranking=ranking(run.place.seed / 2, 1.0)) for run in given.runs[:2]]
    (found,) = ranked(replace(given, runs=[*runs, *given.runs[2:]]))
    assert (found.arm, found.policies, found.kendall.value, found.horizons) == ("narrow", 2, 0.25, [1, 2])
    assert found.optimism.value == pytest.approx(1 - 1 / 3)
    assert found.reversed[-1].value == 0.5  # the model sees no difference
    assert found.width.value <= 1


def claimed(given, **claim):
    """The verdict on a claim."""
    question = replace(given.question, claims={"so": Claim(**claim)})
    (found,) = judge_claims(replace(given, question=question))
    return found.verdict


def test_claims_about_arms_need_seeds_and_may_have_a_margin():
    groups = {"arms": ["wide"], "than": ["narrow"]}

    def apart(gap, margin=None, scatter=0.0, **more):
        question = asked(seeds=7, margin=margin)
        return claimed(results(NOISE, NOISE + gap + scatter * NOISE, question), **groups, **more)

    assert (apart(1), apart(-1)) == ("holds", "does not hold")
    assert claimed(results(NOISE[:4], NOISE[:4] + 1), **groups) == "cannot tell"
    assert apart(1, margin=2) == "does not hold"  # what is below the margin is no difference
    assert (apart(1, 2.0, expect="close"), apart(1, 0.5, expect="close")) == ("holds", "does not hold")
    assert apart(-1, 2.0, expect="not worse") == "holds"
    assert apart(-1, 0.5, expect="not worse") == "does not hold"
    assert apart(0, 0.1, scatter=5, expect="not worse") == "cannot tell"


def test_claims_about_numbers_are_rank_correlations_over_the_runs_of_a_seed():
    given = results(NOISE, NOISE + 1)
    runs = [
        replace(run, evaluations=[Point("", "", {**numbers, "arbiter/recall@3": 1.0}, 1.0)])
        for run in given.runs
        for numbers in [{"rewards/error": -run.value, "surprise/bits": run.value}]
    ]
    given = replace(given, runs=runs)
    assert claimed(given, number="rewards/error") == "holds"
    assert claimed(given, number="surprise/bits") == "does not hold"
    assert claimed(given, number="rewards/error", rival="surprise/bits") == "holds"
    assert claimed(given, number="surprise/bits", rival="rewards/error") == "does not hold"
    assert claimed(given, number="arbiter/recall@3") == "cannot tell"  # always the same
    assert claimed(given, number="surprise/kl") == "cannot tell"  # no run has it


@pytest.mark.parametrize("name", [name for name in built_in() if name.startswith("pixels")])
def test_the_families_have_equal_weights(name):
    question, weights = read(name), []
    for own in question.arms.values():
        settings = registry.compose([*question.shared, *question.worlds["offline"], *own])
        with closing(build_env(env_config(settings))) as env:
            model = registry.build(settings.pieces()["model"], env=env)
        weights.append(sum(parameter.numel() for parameter in model.parameters()))
    assert len(weights) == 5
    assert 0.9 < min(weights) / np.mean(weights) <= max(weights) / np.mean(weights) < 1.1


# ---- on disk --------------------------------------------------------------------------------------------


def episode(rewards):
    """An episode with these rewards."""
    ends = np.zeros(len(rewards), bool)
    return Trajectory(
        {"x": np.zeros((len(rewards) + 1, 1))}, np.zeros((len(rewards), 1)), rewards, ends, ends
    )


def finished(study, planned, value, manifest=None):
    """Write the runs of a study as if they had finished."""
    study.freeze(planned.question, planned.jobs, changed=False)
    study.write_manifests(planned.manifests)
    for job in {job.directory: job for job in planned.jobs}.values():
        path = study.jobs.path / job.directory
        with RunDirectory.created(job.settings, job.overrides, path) as directory:
            directory.update(status="finished")
            (path / "metrics.jsonl").write_text('{"real_steps": 14, "step": 5}\n')
        digest = manifest or planned.manifests[job.world].digest
        rewards = np.full(3, value(job) / 3)
        scores = {
            name: replace(
                policy_score([episode(own + x) for x in (0, 0.1, -0.1)], None, 1000), manifest=digest
            )
            for name, own in (("policy", rewards), ("random", rewards * 0))
        }
        save_evaluation(path, **scores)


def value(job):
    return 9.0 if job.ceiling else 5.0 * (job.arm == "wide") + NOISE[job.seed]


def test_a_report_is_a_page_a_csv_and_a_json(planned, tmp_path, capsys):
    study = StudyDirectory(tmp_path / "s")
    finished(study, planned, value)
    assert main(["study", "report", str(study.path)]) == 0
    assert "worse" in capsys.readouterr().out
    lines = (study.path / "study.csv").read_text().splitlines()
    assert len(lines) == 1 + 10 + 2
    assert all(line.startswith(planned.question.digest) for line in lines[1:])
    answers = json.loads((study.path / "answers.json").read_text())
    assert [each["verdict"] for each in answers["comparisons"]] == ["worse"]
    assert answers["manifests"] == {"pendulum": planned.manifests["pendulum"].digest}
    assert (study.path / "report.html").read_text().count("<section>") >= 5


def test_results_of_another_manifest_are_refused(planned, tmp_path):
    study = StudyDirectory(tmp_path / "s")
    finished(study, planned, value, manifest="0123456789abcdef")
    with refused(RunError, "manifest", got="0123456789abcdef", expected=planned.manifests["pendulum"].digest):
        read_results(planned.question, study)
    next(study.path.glob("manifests/*.json")).unlink()
    with refused(RunError, "manifest of world 'pendulum'"):
        read_results(planned.question, study)


def test_a_metric_that_no_run_has_is_refused(planned, tmp_path):
    study = StudyDirectory(tmp_path / "s")
    finished(study, planned, value)
    unknown = replace(planned.question, metric="prediction/lcd/iou@1")
    with refused(WmplayError, "prediction/lcd/iou@1", got="prediction/lcd/iou@1"):
        read_results(unknown, study)


def test_a_changed_question_is_refused_and_then_shown(planned, tmp_path, monkeypatch):
    study = StudyDirectory(tmp_path / "s")
    study.freeze(planned.question, planned.jobs, changed=False)
    study.freeze(planned.question, planned.jobs, changed=False)
    changed = replace(planned.question, margin=3.0)
    with refused(RunError, "margin", got=["margin"], advice="changed=true"):
        study.freeze(changed, planned.jobs, changed=False)
    assert study.last() == study.first() == planned.question
    finished(study, planned, value)
    study.freeze(changed, planned.jobs, changed=True)
    assert (study.last(), study.first()) == (changed, planned.question)
    assert {place.question for place in study.record().jobs} == {planned.question.digest}
    report(study.path)
    assert json.loads((study.path / "answers.json").read_text())["changed"] == ["margin: None -> 3.0"]


def test_commands_refuse_in_one_line(tmp_path, capsys):
    assert "no study" in failure(capsys, "study", "report", "quick", f"dir={tmp_path / 'none'}")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "full" in failure(capsys, "study", "plan", "quick", f"dir={tmp_path / 'full'}")
    assert "fit.steps=3" in failure(capsys, "study", "run", "quick", "fit.steps=3")
    failure(capsys, "study", "plan")
    (tmp_path / "list.yaml").write_text("- 1\n")
    assert "list.yaml" in failure(capsys, "study", "plan", str(tmp_path / "list.yaml"))
    capsys.readouterr()
    assert main(["study"]) == 0
    assert "quick" in capsys.readouterr().out
