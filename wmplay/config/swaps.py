"""Swapping a piece of an experiment: what the experiment sets for a piece falls away with that piece.

An experiment chooses pieces and gives them settings. Where a piece of another class is chosen in place of
its own, its settings for that piece fall away, also those whose names the new piece knows: they were meant
for the other one. A piece of the same class (``model=rssm_small`` for ``rssm``, ``env=urchin`` for ``luxo``)
is the same piece with other defaults, and keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.types import Override

from wmplay.config import loading
from wmplay.config.constructors import required
from wmplay.config.kinds import EXPERIMENT, KINDS
from wmplay.config.overrides import lenient
from wmplay.contracts import missing_methods

WITH = {"env": "collect.env"}  # where a config sets something for a piece besides its own section
PRACTICE = "improve"  # the section for policies that learn, and the method that these have
TASK = "objective"  # the kind that experiments choose for the task of their env
WORLD = "improve.world"  # where practice is
REWARD = "learned.reward"  # whence the reward of practice in the model comes
HEADS = ("model.reward_weight", "model.continuation_weight")  # off where nothing of theirs reads them

Choices = dict[str, str | None]  # {kind: name}, None where there is no piece


@dataclass
class Swaps:
    """What changes in an experiment since pieces of it are swapped.

    Attributes:
        fallen: dotted keys of its settings that fall away.
        choices: overrides that choose further pieces, or where the reward of practice comes from.
        lines: what to tell a person, one line for each swapped piece.
        pieces: {kind: name} of the run, None where a kind has no piece.
    """

    fallen: list[str] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    pieces: Choices = field(default_factory=dict)


@dataclass(frozen=True)
class Pieces:
    """What has to be known of pieces.

    Attributes:
        lent: {kind: settings under its key that are the loop's own}; these stay.
        class_of: the class (or function) of a piece, by kind and name.
    """

    lent: Mapping[str, Collection[str]]
    class_of: Callable[[str, str], Callable[..., object]]

    def differ(self, kind: str, old: str | None, new: str | None) -> bool:
        """Whether two pieces are not of one class."""
        if old is None or new is None:
            return old is not new
        return old != new and self.class_of(kind, old) is not self.class_of(kind, new)

    def practises(self, policy: str | None) -> bool:
        """Whether a policy learns by practice."""
        return policy is not None and not missing_methods(self.class_of("policy", policy), (PRACTICE,))


def find_swaps(overrides: Sequence[Override], pieces: Pieces) -> Swaps:
    """Compares the pieces that overrides choose with those of the experiment among them.

    Args:
        overrides: as on the command line, each of a single value.
        pieces: what has to be known of them.

    Raises:
        ConfigError, UnknownName: for overrides that do not compose.
    """
    swaps = Swaps()
    experiments = [each for each in overrides if each.key_or_group == EXPERIMENT]
    given: Choices = {
        each.key_or_group: None if each.is_delete() or each.value() is None else str(each.value())
        for each in overrides
        if each.key_or_group in KINDS
    }
    if not experiments or not given:
        return swaps
    keys = {each.key_or_group for each in overrides}
    own, settings = loading.experiment(lenient(experiments))
    now, defaults = own | given, loading.default_choices()
    for kind in KINDS:
        old, new = own.get(kind), now.get(kind)
        if kind not in given or not pieces.differ(kind, old, new) or (new is None and KINDS[kind].required):
            continue
        lent = pieces.lent.get(kind, ())
        fallen = [key for key in _keys(settings, kind) if key.partition(".")[2] not in lent]
        fallen += _keys(settings, WITH.get(kind))
        if kind == "policy" and not pieces.practises(new):
            fallen += _keys(settings, PRACTICE)
        others: Choices = {}
        if kind == "env" and now.get(TASK) is not None and TASK not in given:
            others = {TASK: defaults[TASK]} if pieces.differ(TASK, now[TASK], defaults[TASK]) else {}
            fallen += _keys(settings, TASK) if others else []
        others |= _missing(kind, now, given, defaults, pieces)
        in_model = pieces.practises(now.get("policy")) and loading.select(settings, WORLD) != "real"
        if kind == "env" and in_model and REWARD not in keys:
            others[REWARD] = "model"  # of any env; the experiment may count on the task of its own
        if {TASK, REWARD} & {kind, *others} and "model" not in given:
            fallen += [key for key in HEADS if loading.select(settings, key) is not None]
        now |= others
        choices = [f"{other}={name}" for other, name in others.items()]
        swaps.fallen += fallen
        swaps.choices += choices
        changes = [f"without its {', '.join(fallen)}"] if fallen else []
        changes += [f"with {', '.join(choices)}"] if choices else []
        if changes:
            swaps.lines.append(
                f"{experiments[-1].input_line}: {kind}={new or 'null'} for {old}, {' and '.join(changes)}"
            )
    swaps.pieces = {kind: now.get(kind) for kind in KINDS}
    return swaps


def _missing(kind: str, now: Choices, given: Choices, defaults: Choices, pieces: Pieces) -> Choices:
    """The default piece of each kind that a piece needs, or another that it needs, and that is not there."""
    found: Choices = {}
    wanted = [kind]
    while wanted:
        asking = wanted.pop()
        name = found.get(asking, now.get(asking))
        if name is None:
            continue
        for part in required(pieces.class_of(asking, name)):
            if part in KINDS and part not in given and part not in found and now.get(part) is None:
                found[part] = defaults[part]
                wanted.append(part)
    return found


def _keys(settings: Mapping[str, Any], section: str | None) -> list[str]:
    """Return the dotted keys that an experiment sets in a section of the config."""
    found = None if section is None else loading.select(settings, section)
    return [f"{section}.{key!s}" for key in found] if isinstance(found, Mapping) else []
