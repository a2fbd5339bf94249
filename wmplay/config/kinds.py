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
    """

    name: str
    about: str
    methods: tuple[str, ...]
    required: bool = False

    @property
    def check(self) -> str:
        """The function that tries a piece as the config of a run has it, as ``module:function``."""
        return f"wmplay.check.configured:try_{self.name}"


KINDS: Mapping[str, Kind] = {  # in the order in which a run names them
    kind.name: kind
    for kind in (
        Kind("env", "a world to act in: observations, actions, rewards", ("reset", "step"), required=True),
        Kind(
            "model",
            "a world model: learns from episodes to predict what actions lead to",
            ("initial", "observe", "predict", "decode", "loss"),
        ),
        Kind("planner", "searches for good actions inside the model", ("plan",)),
        Kind("policy", "chooses the action in every step; some learn by practice", ("initial", "act")),
        Kind("explorer", "adds exploration to the policy while episodes are collected", ("initial", "act")),
        Kind("objective", "scores predicted futures, for planners", ("__call__",)),
        Kind("logger", "sends the numbers of a run to a viewer", ("log", "close"), required=True),
    )
}
