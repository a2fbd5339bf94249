"""The checkpoints of a run: all state that the remaining run depends on, saved and restored."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict

from wmplay.contracts import learner_of
from wmplay.errors import RunError
from wmplay.loggers import Jsonl
from wmplay.loop.fitter import Fitter
from wmplay.loop.state import State
from wmplay.runs.disk.directory import RunDirectory
from wmplay.runs.pieces import Parts
from wmplay.runs.weights import load_weights, weights_of
from wmplay.store import Store, load_trajectories
from wmplay.store.manifest import exists as is_store
from wmplay.system.files import explained


class Checkpoints:
    """The checkpoints of a run directory, for the given pieces and the model's optimiser, if any."""

    def __init__(self, directory: RunDirectory, parts: Parts, fitter: Fitter | None) -> None:
        self.directory, self.parts, self.fitter = directory, parts, fitter
        # A policy that learns by itself has an optimiser of its own.
        self.learner = learner_of(parts.policy)
        self._saved = time.monotonic()

    @property
    def age(self) -> float:
        """The seconds since the last checkpoint of this process."""
        return time.monotonic() - self._saved

    def save(self, state: State, store: Store | None, position: int) -> None:
        """Save a checkpoint.

        Args:
            state: of the run.
            store: the collected episodes; those that were dropped are deleted.
            position: the size of ``metrics.jsonl`` in bytes.
        """
        self._saved = time.monotonic()
        self.directory.save_checkpoint(
            {
                "state": asdict(state),
                "weights": weights_of(self.parts.modules()),
                "fitter": None if self.fitter is None else self.fitter.state_dict(),
                "learner": None if self.learner is None else self.learner.learner_state(),
                "store": None if store is None else store.snapshot(),
                "metrics": position,
            }
        )
        if store is not None:
            store.vacuum()  # not earlier: the checkpoint before refers to what was dropped

    def restore(self, *, write: bool) -> tuple[State, Store | None] | None:
        """Load the last checkpoint into the pieces and the optimiser, and return the run's state and store.

        Args:
            write: whether to cut the store and the metrics back to the checkpoint.

        Returns:
            None for a run that was killed before its first checkpoint and begins at the beginning.

        Raises:
            RunError: if no checkpoint can be read although one was written, or if it belongs to other pieces;
                nothing is deleted then.
            StoreError: if the collected episodes are damaged, or cannot be read.
        """
        directory, trajectories = self.directory, self.directory.trajectories
        if not (directory.checkpoints() or is_store(trajectories) or Jsonl.size(directory.metrics)):
            return None
        saved = directory.read_checkpoint()
        load_weights(self.parts.modules(), saved["weights"], directory.path)
        try:
            state = State(**saved["state"])
            if self.fitter is not None and saved["fitter"] is not None:
                self.fitter.load_state_dict(saved["fitter"])
            if self.learner is not None and saved["learner"] is not None:
                self.learner.load_learner_state(saved["learner"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())
            raise RunError(
                f"the checkpoint in {directory.path} is of other pieces than those configured ({why})"
            ) from error
        snapshot = saved["store"]
        if not write:
            return state, None if snapshot is None else load_trajectories(trajectories)
        store = None
        if snapshot is not None:
            store = Store.restore(trajectories, snapshot)
        elif is_store(trajectories):  # since the checkpoint; the same episodes are going to be collected
            load_trajectories(trajectories)  # refuses what is anything else
            with explained(trajectories):
                shutil.rmtree(trajectories)
        Jsonl.cut(directory.metrics, saved["metrics"])
        return state, store
