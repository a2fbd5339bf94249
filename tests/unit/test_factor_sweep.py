"""Scores by the value of a factor, inside and outside of the range that a run learned in."""

import pytest
import torch
from few_settings import few_settings
from refusals import refused

from wmplay.envs.exact.catch import Catch
from wmplay.errors import ConfigError, UnknownName
from wmplay.evaluation.files import load_evaluation, save_evaluation
from wmplay.evaluation.metrics.factors import check_sweep, evaluate_factors
from wmplay.report.plots.factors import factors_plot
from wmplay.runs.pieces import assemble

CPU = torch.device("cpu")


def swept(swept_over, **env):
    settings = few_settings(
        env={"_piece_": "env/lcd", "world": "dropbox", "max_steps": 13, "full_state": True, **env},
        model={"_piece_": "model/mlp", "hidden": 8},
        policy={"_piece_": "policy/random"},
        evaluate={
            "prediction": {"episodes": 5, "context": 2, "horizon": 3},
            "policy": {"episodes": 3},
            "factors": swept_over,
        },
    )
    return settings, assemble(settings, CPU)


def test_what_does_not_fall_is_predicted_by_its_last_frame(tmp_path):
    settings, parts = swept({"gravity": [20, 0], "size": [1]}, factors={"gravity": [5, 15]})
    score = evaluate_factors(settings, parts.model, parts.policy, parts.env, CPU)
    fall = score.sweeps["gravity"]
    assert fall.values == [20, 0]
    assert fall.copy_last["full_state"].mean[0] > 0.02
    assert fall.copy_last["full_state"].mean[1] < 2e-3  # a corner that starts in a wall is pushed out
    assert fall.trained == [5, 15]
    assert score.sweeps["size"].trained == [1, 1]
    assert score.measure == "return"
    assert score.row().keys() >= {"gravity=20/lcd/iou@3", "gravity=0/return", "size=1/full_state/mae@3"}
    save_evaluation(tmp_path, factors=score)
    loaded = load_evaluation(tmp_path).factors
    assert loaded == score
    panels = factors_plot(loaded).axes
    assert len(panels) == 2 * (len(score.metrics) + 1)  # keys and the policy, of two factors
    (span,) = panels[0].patches  # the range that was learned in
    assert (span.get_x(), span.get_width()) == (5, 10)


@pytest.mark.parametrize(
    ("factors", "kind", "token"),
    [
        ({"gravitas": [1]}, UnknownName, "gravitas"),
        ({"gravity": []}, ConfigError, "gravity"),
        ({"gravity": [5, 99]}, ConfigError, "gravity"),
        ({"motor": [1]}, ConfigError, "motor"),
        ({"size": [0.1]}, ConfigError, "size"),
    ],
)
def test_values_that_the_world_cannot_have_are_refused(factors, kind, token):
    settings, parts = swept(factors)
    with refused(kind, token):
        check_sweep(settings, parts.env)


def test_other_worlds_have_no_factors():
    with refused(ConfigError, "gravity", got={"gravity": [1.0]}):
        check_sweep(few_settings(evaluate={"factors": {"gravity": [1.0]}}), Catch())
