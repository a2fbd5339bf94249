"""The table of a study's claims."""

from __future__ import annotations

from collections.abc import Sequence

from wmplay.report.numbers import broken, interval
from wmplay.report.tables import Grid
from wmplay.studies.findings.claims import Tested

ABOUT = (
    "Means over seeds with {:.3g}% t intervals: all claims together err as often as one test at 95%. "
    "Differences of means: of the scores of two groups of arms, paired by seed. Rank correlations: of a "
    "number about the models with the score, over the runs of a seed, signed so that 1 is right."
)


def claims_grid(tested: Sequence[Tested]) -> Grid:
    """Return the table of claims: a row for each."""
    rows = [
        [each.claim, each.measured, f"{each.seeds}", broken(interval(each.found)), each.verdict]
        for each in tested
    ]
    columns = ["claim", "measured", "seeds", "found", "verdict"]
    return Grid("Claims", columns, rows, ABOUT.format(100 * tested[0].confidence))
