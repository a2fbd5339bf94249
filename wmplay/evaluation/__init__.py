"""Evaluation: the scores of a policy and of a world model, with intervals and baselines.

``assess`` orders what a run's config asks for: held-out episodes are cut into clips once, each metric is a
function of a model and clips that returns a score, and ``save_evaluation`` writes the scores into the run.
"""

from wmplay.evaluation.arbiter.choice import check_arbiter
from wmplay.evaluation.assess import assess
from wmplay.evaluation.files import load_evaluation, save_evaluation
from wmplay.evaluation.held_out import given_episodes
from wmplay.evaluation.metrics.factors import check_sweep
from wmplay.evaluation.scores import flat

__all__ = [
    "assess",
    "check_arbiter",
    "check_sweep",
    "flat",
    "given_episodes",
    "load_evaluation",
    "save_evaluation",
]
