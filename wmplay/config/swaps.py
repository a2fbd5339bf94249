"""Swaps: a piece that replaces a piece of an experiment drops the experiment's settings of the replaced one.

An experiment chooses pieces and sets their settings. If a piece of another class is chosen instead, the
experiment's settings of the replaced piece are dropped, even those whose names the new piece knows: they were
chosen for the old piece. A piece of the same class (``model=rssm_small`` for ``rssm``, ``env=urchin`` for
``luxo``) is the same piece with other defaults, and keeps the settings.
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

WITH = {"env": "collect.env"}  # {kind: the section in which a config holds further settings of its piece}
PRACTICE = "improve"  # section for policies that learn, and the method that they have
TASK = "objective"  # the kind in which experiments choose the task of their env
WORLD = "improve.world"  # the setting for the world of the practice
REWARD = "learned.reward"  # the setting for the source of the practice's reward
HEADS = ("model.reward_weight", "model.continuation_weight")  # zero if no other piece reads them

Choices = dict[str, str | None]  # {kind: name}; None for a kind without a piece


@dataclass
class Swaps:
    """The changes in an experiment whose pieces are swapped.

    Attributes:
        fallen: dotted keys of the experiment's settings that are dropped.
        choices: overrides that choose further pieces, or the source of the practice's reward.
        lines: a message to the user for each swapped piece.
        pieces: {kind: name} of the run, None for a kind without a piece.
        settings: of the experiment, as its files have them.
    """

    fallen: list[str] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    pieces: Choices = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pieces:
    """Facts about pieces that the rules of a swap need.

    Attributes:
        lent: {kind: settings under its key that belong to the loop}; a swap keeps these.
        class_of: returns the class (or function) of a piece, given its kind and name.
    """

    lent: Mapping[str, Collection[str]]
    class_of: Callable[[str, str], Callable[..., object]]

    def differ(self, kind: str, old: str | None, new: str | None) -> bool:
        """Return whether two pieces have different classes."""
        if old is None or new is None:
            return old is not new
        return old != new and self.class_of(kind, old) is not self.class_of(kind, new)

    def of_an_env(self, objective: str | None) -> bool:
        """Return whether an objective is built from the env, and so may not fit another one."""
        return objective is not None and "env" in required(self.class_of(TASK, objective))

    def practises(self, policy: str | None) -> bool:
        """Return whether a policy learns by practice."""
        return policy is not None and not missing_methods(self.class_of("policy", policy), (PRACTICE,))


def find_swaps(overrides: Sequence[Override], pieces: Pieces) -> Swaps:
    """Find the pieces of an experiment that overrides replace.

    Args:
        overrides: as on the command line, each of a single value.
        pieces: the facts about pieces.

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
        if kind == "env" and TASK not in given and pieces.of_an_env(now.get(TASK)):
            others = {TASK: defaults[TASK]} if pieces.differ(TASK, now[TASK], defaults[TASK]) else {}
            fallen += _keys(settings, TASK) if others else []
        others |= _missing(kind, now, given, defaults, pieces)
        elsewhere = loading.select(settings, WORLD) in ("real", "none")
        in_model = pieces.practises(now.get("policy")) and not elsewhere
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
    swaps.pieces, swaps.settings = {kind: now.get(kind) for kind in KINDS}, settings
    return swaps


def _missing(kind: str, now: Choices, given: Choices, defaults: Choices, pieces: Pieces) -> Choices:
    """Return the default piece of each kind that the run lacks and that one of its pieces needs."""
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
