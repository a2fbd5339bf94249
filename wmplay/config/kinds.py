"""The kinds of pieces: one table, which all code that treats a kind by name reads.

A new kind needs one row here, a folder of configs, a field of ``Settings`` and one of ``Parts``. The code
that composes, lists, checks and completes pieces, and ``wmplay new``, need no edit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PIECE = "_piece_"
TARGET = "_target_"  # in the YAML of a config group: the class that the piece is; in old files: a path
EXPERIMENT = "experiment"  # the one config group that chooses pieces and holds none


@dataclass(frozen=True)
class Kind:
    """One kind of piece.

    Attributes:
        name: its config group, and its key in the config of a run.
        about: one line for a person who does not know the kind.
        methods: what a run calls on each of its pieces.
        required: whether every run needs one; the key of any other kind may be null.
        check: the function that tries a piece as the config of a run has it, as ``module:function``.
        template: the file of ``wmplay/cli/new/templates`` that ``wmplay new`` begins a piece with.
    """

    name: str
    about: str
    methods: tuple[str, ...]
    required: bool
    check: str
    template: str


KINDS: Mapping[str, Kind] = {  # in the order in which a run names them
    kind.name: kind
    for kind in (
        Kind(
            name="env",
            about="a world to act in: observations, actions, rewards",
            methods=("reset", "step"),
            required=True,
            check="wmplay.check.configured:try_env",
            template="env.py.txt",
        ),
        Kind(
            name="model",
            about="a world model: learns from episodes to predict what actions lead to",
            methods=("initial", "observe", "predict", "decode", "loss"),
            required=False,
            check="wmplay.check.configured:try_model",
            template="model.py.txt",
        ),
        Kind(
            name="planner",
            about="searches for good actions inside the model",
            methods=("plan",),
            required=False,
            check="wmplay.check.configured:try_planner",
            template="planner.py.txt",
        ),
        Kind(
            name="policy",
            about="chooses the action in every step; some learn by practice",
            methods=("initial", "act"),
            required=False,
            check="wmplay.check.configured:try_policy",
            template="policy.py.txt",
        ),
        Kind(
            name="explorer",
            about="adds exploration to the policy while episodes are collected",
            methods=("initial", "act"),
            required=False,
            check="wmplay.check.configured:try_explorer",
            template="explorer.py.txt",
        ),
        Kind(
            name="objective",
            about="scores predicted futures, for planners",
            methods=("__call__",),
            required=False,
            check="wmplay.check.configured:try_objective",
            template="objective.py.txt",
        ),
        Kind(
            name="logger",
            about="sends the numbers of a run to a viewer",
            methods=("log", "close"),
            required=True,
            check="wmplay.check.configured:try_logger",
            template="logger.py.txt",
        ),
    )
}
