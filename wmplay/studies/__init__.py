"""Studies: comparisons of arms that were asked beforehand, with equal budgets, starts and seeds.

A study is a YAML file. ``plan`` says what it takes, ``run`` runs its jobs, ``report`` writes its page. The
names below are imported on first use.
"""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wmplay.studies.conduct import run as run
    from wmplay.studies.display.page import report as report
    from wmplay.studies.display.page import study as study
    from wmplay.studies.forecast import plan as plan
    from wmplay.studies.question import built_in as built_in
    from wmplay.studies.question import read as read

_NAMES = {
    "built_in": "question",
    "plan": "forecast",
    "read": "question",
    "report": "display.page",
    "run": "conduct",
    "study": "display.page",
}


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'wmplay.studies' has no attribute '{name}'")
    return pkgutil.resolve_name(f"wmplay.studies.{_NAMES[name]}:{name}")
