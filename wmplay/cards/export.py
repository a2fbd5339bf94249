"""Export of a run as one portable folder with a card."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from wmplay.cards.card import Card, page
from wmplay.cards.scoring import (
    digest_of_held_out,
    episodes_of,
    is_recorded,
    manifest_of,
    numbers,
    of_card,
    score,
)
from wmplay.config.kinds import PIECE
from wmplay.config.settings import Settings
from wmplay.contracts import provenance_of
from wmplay.errors import RunError
from wmplay.runs.disk.portable import write_portable
from wmplay.runs.load import Run
from wmplay.runs.weights import weights_of
from wmplay.store import Store
from wmplay.store.provenance import in_words, origin_of
from wmplay.studies.work import flops_of_update
from wmplay.system.device import use_threads

TOLD = ("name", "seed", "plugins", "versions", "git", "started")  # of run.json, and told in an export
EPISODES = 64  # on a card, of each kind, unless another number is asked for
NOT_STATED = "not stated"


def export_run(path: Path, out: Path, *, episodes: int = EPISODES, licence: str = NOT_STATED) -> Card:
    """Write a run's last checkpoint as one portable folder with a card; return the card.

    The numbers are scored here, from the seed of the run's own evaluation, on at most as many episodes.

    Args:
        path: of the run.
        out: a path that is free.
        episodes: starts of the policy, and held-out episodes of the model, at most.
        licence: of the weights, for the card.

    Raises:
        RunError: if the path is not a run, if the run has no checkpoint, or if ``out`` is taken.
        ConfigError: if the run cannot be built here.
        SpaceError: if its spaces cannot be written.
        WriteError: no space, no permission; nothing is written.
    """
    run = Run(path)
    if out.exists():
        raise RunError(f"{out} is there already", advice="choose another --out, or move it away")
    weights = weights_of(run.parts.modules())
    config = {**run.settings.config(), "device": "auto", "dir": None}  # it may act on another machine
    env, content = run.env, run.directory.read()
    command = _command(content)
    about = {**{key: value for key, value in content.items() if key in TOLD}, "command": command}
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    card = make_card(run, out, of_card(run.settings, episodes), command, licence)
    made_with = provenance_of(env)
    write_portable(out, config, weights, spaces, {**about, "made_with": made_with}, asdict(card), page(card))
    return card


def make_card(run: Run, out: Path, settings: Settings, command: str, licence: str) -> Card:
    """Score a run as the settings say, and return its card."""
    content, recorded = run.directory.read(), is_recorded(settings)
    use_threads(settings.threads or "auto", content.get("machine", {}).get("threads"))
    store = run.trajectories if run.directory.trajectories.exists() else None
    with TemporaryDirectory() as folder:
        held_out = run.directory.held_out if recorded else Path(folder)
        scores = score(settings, run.parts, run.device, held_out, reference=store, baselines=True)
        first_frames = digest_of_held_out(settings, held_out, run.device)
    return Card(
        name=out.name,
        pieces={kind: _name(piece) for kind, piece in settings.pieces().items() if kind != "logger"},
        world=in_words(provenance_of(run.env) or origin_of(settings.env)),
        weights={
            part: sum(each.numel() for each in m.parameters()) for part, m in run.parts.modules().items()
        },
        data=_data(run, store),
        work=_work(run),
        evaluate=settings.config()["evaluate"],
        manifest=manifest_of(scores),
        held_out=first_frames,
        numbers=numbers(scores),
        episodes=episodes_of(scores),
        licence=licence,
        train=command,
        verify=None if recorded else f"wmplay eval {shlex.quote(out.name)} --verify",
        made={
            **(content.get("versions") or {}),
            "commit": content.get("git"),
            "started": content.get("started"),
        },
    )


def _command(content: Mapping[str, Any]) -> str:
    """Return the command that trained a run, and those that continued it with other settings."""
    typed = [text for text in content.get("overrides", []) if not text.startswith("dir=")]
    commands = [shlex.join(["wmplay", "train", *typed])]
    for change in content.get("changes") or []:
        changed = (f"{key}={after}" for key, (_, after) in change.get("settings", {}).items())
        again = shlex.join(["wmplay", "train", "run=RUN", *changed])
        commands.append(f"after {change.get('updates', 0):,} updates: {again}")
    return "; ".join(commands)


def _name(piece: Mapping[str, Any]) -> str:
    return str(piece[PIECE]).partition("/")[2]


def _data(run: Run, store: Store | None) -> dict[str, int | bool | None]:
    """Return the data that a run learned from."""
    state = run.directory.read_checkpoint().get("state", {})
    return {
        "real_steps": state.get("real_steps"),
        "episodes": None if store is None else len(store),
        "recorded": run.settings.recorded.data is not None,
    }


def _work(run: Run) -> dict[str, float | None]:
    """Return the work of a run: updates of its model with their floating-point operations, and practice."""
    state = run.directory.read_checkpoint().get("state", {})
    updates = state.get("updates", 0)
    counted = updates and run.model is not None and not is_recorded(run.settings)  # by a simulated episode
    flop = flops_of_update(run.settings) * updates if counted else None
    return {
        "updates": updates,
        "gflop": None if flop is None else flop / 1e9,
        "practice_steps": state.get("learned_steps", 0),
    }
