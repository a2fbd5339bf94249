"""The report of a run: ``report.html``, the tables of the terminal, and those of a sweep.

The numbers come from ``evaluation``; this room puts them into words and pictures.
"""

from wmplay.report.numbers import duration, wall_times
from wmplay.report.page import write_report
from wmplay.report.sweep.page import print_sweep, write_sweep
from wmplay.report.sweep.summary import summarise_sweep
from wmplay.report.tables import result_table

__all__ = [
    "duration",
    "print_sweep",
    "result_table",
    "summarise_sweep",
    "wall_times",
    "write_report",
    "write_sweep",
]
