"""Changes of a continued run's settings: they are recorded, and those without effect are reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wmplay.config.overrides import parse
from wmplay.config.settings import Settings
from wmplay.loop.state import PHASE_NAMES, State
from wmplay.runs.disk.directory import RunDirectory
from wmplay.system.progress import tell

ALWAYS = ("iterations", "report", "name")  # settings that take effect even after the last phase
ONCE = ("collect.random_episodes", "collect.held", "env.data")  # only before the first iteration's episodes
NEEDED = {  # {beginning of a key: the phases that read it}, the first that fits
    "fit.steps": ("collect",),  # which says at its end how many updates follow
    "fit.replay_ratio": ("collect",),
    "collect": ("collect",),
    "fit": ("fit",),
    "checkpoint": ("fit",),
    "improve": ("improve",),
    "learned": ("improve", "evaluate"),
    "evaluate": ("evaluate",),
}


def note_changes(
    directory: RunDirectory, before: Settings, after: Settings, overrides: Sequence[str], state: State
) -> None:
    """Write a run's config with its overrides, and record the changes in ``run.json``.

    Args:
        directory: of the run, which is held.
        before: the settings so far.
        after: the settings with the overrides.
        overrides: as typed.
        state: position of the run.

    Raises:
        WriteError: no space, no permission.
    """
    old, new = _by_key(before.config()), _by_key(after.config())
    changed = {key: [old.get(key), value] for key, value in new.items() if old.get(key) != value}
    for override in parse(overrides):
        key = override.key_or_group
        if key == "run":
            continue
        if not any(each == key or each.startswith(f"{key}.") for each in changed):
            tell(f"{override.input_line} changes nothing: it is so already")
        elif why := _without_effect(key, state, after):
            tell(f"{override.input_line} changes nothing: {why}")
    if not directory.config_is_as_written():
        tell(f"{directory.path / 'config.yaml'} is not as the run wrote it, and is taken as it is")
    if changed:
        directory.change_settings(after, iteration=state.iteration, updates=state.updates, settings=changed)


def _without_effect(key: str, state: State, settings: Settings) -> str | None:
    """Return the reason why no later phase reads a setting, or None."""
    names = PHASE_NAMES
    if key == "dir":
        return "a run that goes on stays where it is"
    if key in ALWAYS:
        return None
    left = names[names.index(state.phase) :] if state.iteration == settings.iterations - 1 else names
    if state.iteration >= settings.iterations:
        return f"the run has done its {state.iteration} iterations; iterations=<more> lets it go on"
    if key in ONCE and (state.iteration, state.phase) != (0, names[0]):
        return "these episodes are collected already"
    needed = next((phases for start, phases in NEEDED.items() if f"{key}.".startswith(f"{start}.")), names)
    if not set(needed) & set(left):
        return f"the run's last {needed[0]} is over; iterations=<more> lets it go on"
    return None


def _by_key(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of a config by their keys with dots."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= _by_key(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
