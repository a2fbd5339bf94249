"""The tables of results on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from wmplay.evaluation.scores import Evaluation
from wmplay.report.numbers import wall_times
from wmplay.report.run_files import read_run_files
from wmplay.report.tables import Grid, model_grids, policy_grid
from wmplay.report.verdict import verdict

GAP = 3  # between two columns, and at the left edge one more character


def result_table(run_dir: Path) -> Group:
    """Return the text printed at the end of a run: the verdict, the results, the time of each phase.

    Raises:
        RunError: if the directory is not a run's.
    """
    run = read_run_files(run_dir)
    evaluation = run.evaluation or Evaluation()
    grids = [policy_grid(evaluation.policies), *model_grids(evaluation)]
    tables = [Fitted(grid) for grid in grids if grid is not None]
    times = wall_times(run.info)
    closing = [Text(f"time: {times}", style="dim")] if times else []
    return Group(Padding(Text(verdict(run), style="bold"), (1, 0)), *tables, *closing)


@dataclass(frozen=True)
class Fitted:
    """A grid for the terminal: one table, or several with some of its columns each where it is too wide.

    No word is cut off: rich shortens those of some columns while others have room.
    """

    grid: Grid

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        begin, count, width = 1, len(self.grid.columns), options.max_width - 1
        while begin < count:
            end = begin + 1
            while end < count and sum(self._least((0, *range(begin, end + 1)))) <= width:
                end += 1
            yield self._table((0, *range(begin, end)), width)
            begin = end
        if self.grid.note:
            yield Text(f"{self.grid.note}\n", style="dim")

    def _table(self, shown: Sequence[int], width: int) -> Table:
        """Return the table of some columns, of which the first has the names of the rows."""
        table = Table(box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
        table.title = Text(self.grid.title) if 1 in shown else None
        least, most = self._least(shown), self._sizes(shown, str.splitlines)
        left = width - sum(least)
        for i, narrow, wide in zip(shown, least, most, strict=True):
            more = max(0, min(wide - narrow, left))
            left -= more
            justify: Literal["left", "right"] = "right" if i else "left"
            table.add_column(Text(self.grid.columns[i]), justify=justify, width=narrow + more - GAP)
        for row in self.grid.rows:
            table.add_row(*(Text(row[i]) for i in shown))
        return table

    def _least(self, shown: Sequence[int]) -> list[int]:
        """Return the widths of columns, with the gaps beside them, in which names and other words fit."""
        return [*self._sizes(shown[:1], str.splitlines), *self._sizes(shown[1:], str.split)]

    def _sizes(self, shown: Sequence[int], parts: Callable[[str], list[str]]) -> list[int]:
        columns = [[self.grid.columns[i], *(row[i] for row in self.grid.rows)] for i in shown]
        return [
            GAP + max(cell_len(part) for cell in each for part in parts(cell) or [""]) for each in columns
        ]
