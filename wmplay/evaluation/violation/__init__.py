"""Violation of expectation: whether a model is more surprised by what cannot happen.

Every impossible episode is made of two possible ones that look the same at one moment: the first up to this
moment, the second from there on. The impossible episodes therefore consist of the very frames, and of the
very pairs of successive frames, of the possible ones: no single frame and no difference of two frames tells
them apart. Only what a model remembers can.
"""

from wmplay.evaluation.violation.pairs import Pair, draw_pairs, kinds_of
from wmplay.evaluation.violation.scoring import evaluate_violation

__all__ = ["Pair", "draw_pairs", "evaluate_violation", "kinds_of"]
