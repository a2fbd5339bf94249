"""The split of a store's episodes into those to fit on and those held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from wmplay.contracts import Trajectory
from wmplay.errors import ConfigError, StoreError
from wmplay.store import Store
from wmplay.store.metadata import SPLIT, read_metadata


class Part(Sequence[Trajectory]):
    """Some of a store's episodes, each read when it is accessed."""

    def __init__(self, store: Store, episodes: Sequence[int]) -> None:
        self.store, self.episodes = store, episodes

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.episodes)

    def __getitem__(self, index: Any) -> Any:
        """Return one episode."""
        return self.store[self.episodes[index]]

    def __iter__(self) -> Iterator[Trajectory]:
        """Iterate over all episodes."""
        return (self.store[episode] for episode in self.episodes)


def hold_out(store: Store, episodes: int, seed: int) -> tuple[Part, Part]:
    """Split a store's episodes into those to fit on and ``episodes`` others, which are drawn at random.

    If the store's metadata has a ``split`` with a part ``valid``, the held-out episodes are drawn from that
    part, and none of the part is fitted on.

    Raises:
        ConfigError: if no episode would remain to fit on, or if ``valid`` has too few.
        StoreError: for a split that is malformed.
    """
    valid = _valid(store)
    if valid is not None:
        if episodes > len(valid):
            raise ConfigError(
                f"evaluate.prediction.episodes is {episodes}, {store.path} has {len(valid)} episodes in "
                "its split's 'valid'",
                got=episodes,
                advice="lower it",
            )
        drawn = np.random.default_rng(seed).permutation(valid)[:episodes].tolist()
        rest = sorted(set(range(len(store))) - set(valid))
        return Part(store, rest), Part(store, sorted(drawn))
    if episodes >= len(store):
        raise ConfigError(
            f"evaluate.prediction.episodes is {episodes}, which are held out of the {len(store)} episodes "
            f"in {store.path}",
            advice="lower it, so that most are left to fit on",
        )
    order = np.random.default_rng(seed).permutation(len(store)).tolist()
    return Part(store, sorted(order[episodes:])), Part(store, sorted(order[:episodes]))


def _valid(store: Store) -> list[int] | None:
    """Return the episodes that the store's authors hold out, or None if they define no split."""
    split = read_metadata(store.path).get(SPLIT)
    if not isinstance(split, dict) or not split.get("valid"):
        return None
    valid = split["valid"]
    whole = isinstance(valid, list) and all(type(each) is int and 0 <= each < len(store) for each in valid)
    if not whole or len(set(valid)) in (0, len(store)):
        raise StoreError(
            f"{store.path}: the metadata's split has in 'valid' no numbers of some of its {len(store)} "
            "episodes",
            advice="fix it, or take it out",
        )
    return sorted(set(valid))
