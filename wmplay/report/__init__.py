"""The report of a run: ``report.html``, the tables of the terminal, the tables of a sweep."""

from wmplay.report.page import write_report
from wmplay.report.sweep.page import print_sweep, write_sweep
from wmplay.report.sweep.summary import summarise_sweep
from wmplay.report.tables import result_table

__all__ = ["print_sweep", "result_table", "summarise_sweep", "write_report", "write_sweep"]
