"""The report of a run: ``report.html``, the tables of the terminal, and those of a sweep.

The numbers come from ``evaluation``; this room puts them into words and pictures. The names below are
imported on first use, so that processes that draw no picture do without matplotlib.
"""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wmplay.report.numbers import duration as duration
    from wmplay.report.numbers import wall_times as wall_times
    from wmplay.report.page import write_report as write_report
    from wmplay.report.sweep.page import print_sweep as print_sweep
    from wmplay.report.sweep.page import write_sweep as write_sweep
    from wmplay.report.sweep.summary import summarise_sweep as summarise_sweep
    from wmplay.report.terminal import result_table as result_table

_NAMES = {
    "duration": "numbers",
    "print_sweep": "sweep.page",
    "result_table": "terminal",
    "summarise_sweep": "sweep.summary",
    "wall_times": "numbers",
    "write_report": "page",
    "write_sweep": "sweep.page",
}


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'wmplay.report' has no attribute '{name}'")
    return pkgutil.resolve_name(f"wmplay.report.{_NAMES[name]}:{name}")
