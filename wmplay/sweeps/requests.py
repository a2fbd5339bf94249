"""The overrides of a sweep, before any job starts: completed, checked, and the directory they lead to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from hydra.core.override_parser.types import IntervalSweep, Override, Quote, QuotedString

from wmplay import registry
from wmplay.config.composing import prepare
from wmplay.config.overrides import is_hydras, parse
from wmplay.errors import ConfigError
from wmplay.runs.sweep_directory import SWEEP_FILE, SweepDirectory, check_own
from wmplay.system.extras import PACKAGES, how_to_install, installed

EXTRAS = {  # engines that need an optional package
    "hydra/launcher=ray": "ray",
    "hydra/launcher=submitit_local": "submitit",
    "hydra/launcher=submitit_slurm": "submitit",
    "hydra/sweeper=optuna": "optuna",
}


def with_the_sweeps_own(overrides: Sequence[str]) -> list[str]:
    """Return the overrides, preceded by the sweep's own if they only name a sweep to resume and new seeds."""
    parsed = parse(overrides)
    chosen = chosen_directory(parsed)
    given = {override.key_or_group for override in parsed}
    if chosen is None or not all(is_hydras(key) or key == "seed" for key in given):
        return list(overrides)
    if "seed" in given and not (chosen / SWEEP_FILE).exists():  # a new one
        return list(overrides)
    engines = tuple(f"{key.replace('/', '.')}." for key in given if "/" in key)  # another has other settings
    own = SweepDirectory(chosen).overrides()
    kept = [
        text
        for text, old in zip(own, parse(own), strict=True)
        if old.key_or_group not in given and not old.key_or_group.startswith(engines)
    ]
    check_own(chosen / SWEEP_FILE, kept)
    return [*kept, *overrides]


def check(overrides: Sequence[str]) -> None:
    """Compose the first job, and one for each other swept value, before any job starts."""
    parsed = parse(overrides)
    if any(override.key_or_group == "run" for override in parsed):
        raise ConfigError(
            "a sweep makes new runs",
            advice="leave out run=, or go on with a sweep by hydra.sweep.dir=<its directory>",
        )
    for override in parsed:
        check_extra(override)
    prepare(parsed)
    values = {i: _values(override) for i, override in enumerate(parsed) if override.is_sweep_override()}
    first = [values[i][0] if i in values else text for i, text in enumerate(overrides)]
    registry.compose(first)
    for i, others in values.items():
        for other in others[1:]:
            registry.compose([*first[:i], other, *first[i + 1 :]])


def check_values(overrides: Sequence[str]) -> None:
    """Raise ConfigError for a swept key without a list of values."""
    for override in parse(overrides):
        if override.is_interval_sweep():
            text = str(override.input_line).removeprefix("++")
            raise ConfigError(
                f"'{text}' is a range to search in",
                advice=(
                    "choose a sweeper that searches (hydra/sweeper=optuna), or give values, as in key=1,2,3"
                ),
            )


def directory_for(overrides: Sequence[str]) -> Path:
    """Return the directory that the user chose, else ``runs/<name>/<date-time>-sweep``."""
    parsed = parse(overrides)
    chosen = chosen_directory(parsed)
    if chosen is not None:
        return chosen
    fixed = [
        text for text, override in zip(overrides, parsed, strict=True) if not override.is_sweep_override()
    ]
    name = str(registry.compose([text for text in fixed if not text.startswith("hydra")]).name)
    return Path("runs") / name / f"{datetime.now():%Y-%m-%d_%H-%M-%S}-sweep"


def chosen_directory(parsed: Sequence[Override]) -> Path | None:
    """Return the directory of the sweep that the user chose, or None."""
    chosen = [override.value() for override in parsed if override.key_or_group == "hydra.sweep.dir"]
    return Path(str(chosen[-1])) if chosen else None


def as_typed(overrides: Sequence[str]) -> list[str]:
    """Return overrides as a user types them, given overrides in Hydra's form."""
    return [text.removeprefix("++") for text in overrides]


def quoted(path: Path) -> str:
    """Return a path quoted by Hydra's grammar."""
    return QuotedString(str(path), Quote.single).with_quotes()


def check_extra(override: Override) -> None:
    """Raise ConfigError if the package that a launcher or a sweeper needs is not installed."""
    text = str(override.input_line)
    extra = EXTRAS.get(text)
    if extra is not None and installed(extra) is None:
        raise ConfigError(
            f"{text} needs the package {PACKAGES[extra]}, which is not here: {how_to_install(extra)}"
        )


def _values(override: Override) -> list[str]:
    """Return one override per value of a sweep; for a range to search in, one with its lower end."""
    key, swept = override.get_key_element(), override.value()
    if isinstance(swept, IntervalSweep):
        return [f"{key}={swept.start}"]
    values = [f"{key}={value}" for value in override.sweep_string_iterator()]
    if not values:
        raise ConfigError(f"'{override.input_line}' has no values", advice="give at least one")
    return values
