"""The command ``wmplay study``: plan, run and report a comparison that was asked beforehand."""

from __future__ import annotations

import argparse
from typing import Any

from wmplay.cli.arguments import overrides_argument
from wmplay.errors import UsageError
from wmplay.system.printing import say

VERBS = ("plan", "run", "report")
SETTINGS = {"plan": ("dir", "pilot"), "run": ("dir", "changed"), "report": ("dir",)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "verb",
        nargs="?",
        choices=VERBS,
        help="plan: jobs, hours and power; run: the unfinished jobs; report: page, CSV and JSON; without a "
        "verb: the built-in studies",
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help="a study in YAML, or a built-in one's name")
    overrides_argument(parser, "dir=DIR, pilot=DIR, changed=true, hydra/launcher=joblib ...")


def run(options: argparse.Namespace) -> None:
    """Plan, run or report a study, or list the built-in ones.

    Raises:
        WmplayError: for any mistake that the user can fix; one line.
    """
    if options.verb is None:
        _list()
        return
    if options.file is None:
        raise UsageError(f"study {options.verb} needs a study", advice="give a file, or see wmplay study")
    from wmplay import studies
    from wmplay.system.progress import terminal

    settings, launcher = _settings(options.verb, options.overrides)
    if options.verb == "plan":
        terminal().print(studies.plan(options.file, **settings))
        return
    if options.verb == "run":
        studies.run(options.file, launcher=launcher, **settings)
    from wmplay.report.terminal import Fitted

    study, tables, verdict = studies.report(options.file, dir=settings.get("dir"))
    for grid in tables:
        terminal().print(Fitted(grid))
    say(verdict)
    say(f"report: {study.path / 'report.html'}")


def _settings(verb: str, overrides: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the command's own settings, and the launcher's."""
    own: dict[str, Any] = {}
    launcher = []
    for text in overrides:
        key, _, value = text.partition("=")
        if key in SETTINGS[verb]:
            own[key] = value.lower() == "true" if key == "changed" else value
        elif verb == "run" and key.startswith("hydra"):
            launcher.append(text)
        else:
            raise UsageError(
                f"study {verb} takes no '{text}'", got=text, expected=f"{', '.join(SETTINGS[verb])}"
            )
    return own, launcher


def _list() -> None:
    from wmplay.studies import built_in, read

    for name in built_in():
        asked = read(name)
        say(f"{name:<10} {asked.about}")
    say("run one: wmplay study run NAME; your own is a YAML file: see docs/studies.md")
