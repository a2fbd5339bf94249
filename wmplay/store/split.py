"""A store's episodes in two parts: those to fit on, and those held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from wmplay.contracts import Trajectory
from wmplay.errors import ConfigError, StoreError
from wmplay.store import Store
from wmplay.store.metadata import SPLIT, read_metadata


class Part(Sequence[Trajectory]):
    """Some of a store's episodes, each read when it is asked for."""

    def __init__(self, store: Store, episodes: Sequence[int]) -> None:
        self.store, self.episodes = store, episodes

    def __len__(self) -> int:
        """The number of episodes."""
        return len(self.episodes)

    def __getitem__(self, index: Any) -> Any:
        """One episode."""
        return self.store[self.episodes[index]]

    def __iter__(self) -> Iterator[Trajectory]:
        """All of them."""
        return (self.store[episode] for episode in self.episodes)


def hold_out(store: Store, episodes: int, seed: int) -> tuple[Part, Part]:
    """A store's episodes in two parts: those to fit on, and so many others, drawn at random.

    Where the store's metadata has a ``split`` with a part ``valid``, the others are drawn from that part, and
    none of it is fitted on.

    Raises:
        ConfigError: if none would be left to fit on, or fewer are in ``valid``.
        StoreError: for a split that is none.
    """
    valid = _valid(store)
    if valid is not None:
        if episodes > len(valid):
            raise ConfigError(
                f"evaluate.prediction.episodes is {episodes}, {store.path} has {len(valid)} episodes in its "
                "split's 'valid': lower it"
            )
        drawn = np.random.default_rng(seed).permutation(valid)[:episodes].tolist()
        rest = sorted(set(range(len(store))) - set(valid))
        return Part(store, rest), Part(store, sorted(drawn))
    if episodes >= len(store):
        raise ConfigError(
            f"evaluate.prediction.episodes is {episodes}, which are held out of the {len(store)} episodes in "
            f"{store.path}: lower it, so that most are left to fit on"
        )
    order = np.random.default_rng(seed).permutation(len(store)).tolist()
    return Part(store, sorted(order[episodes:])), Part(store, sorted(order[:episodes]))


def _valid(store: Store) -> list[int] | None:
    """The episodes that the store's authors hold out; None where they say nothing."""
    split = read_metadata(store.path).get(SPLIT)
    if not isinstance(split, dict) or not split.get("valid"):
        return None
    valid = split["valid"]
    whole = isinstance(valid, list) and all(type(each) is int and 0 <= each < len(store) for each in valid)
    if not whole or len(set(valid)) in (0, len(store)):
        raise StoreError(
            f"{store.path}: the metadata's split has in 'valid' no numbers of some of its {len(store)} "
            "episodes: mend it, or take it out"
        )
    return sorted(set(valid))
