"""Plots of a model's quality as a simulator: several futures of one start, and consistency of screen and
vectors."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wmplay.contracts import Array
from wmplay.evaluation.gallery import ShownClips
from wmplay.evaluation.scores import AgreementScore, Curve, SpreadScore
from wmplay.report.colours import BLUE, GREEN, INK, ORANGE, QUIET
from wmplay.report.labels import AGREEMENTS, DISTANCES
from wmplay.report.plots.figures import Line, draw_curves, entries_of_vector, legend_below, panels_of_page
from wmplay.report.style import drawing


def spread_plot(score: SpreadScore) -> Figure:
    """Plot each key's distances by horizon: between two futures, from a future to the truth, between
    clips."""
    with drawing():
        figure, panels = panels_of_page(len(score.keys), columns=2, height=2.8)
        for axes, (key, spread) in zip(panels, score.keys.items(), strict=True):
            curves: dict[str, tuple[Curve, Line]] = {
                "future to future": (spread.among, {"color": BLUE, "linestyle": "-"}),
                "future to what happened": (spread.to_truth, {"color": ORANGE, "linestyle": "--"}),
                "unrelated clips": (spread.unrelated, {"color": QUIET, "linestyle": ":"}),
            }
            draw_curves(axes, curves, f"{key}: {DISTANCES[spread.metric]}")
        legend_below(figure, panels)
    return figure


def agreement_plot(score: AgreementScore) -> Figure:
    """Plot by horizon how much of the predicted screen the predicted vectors explain."""
    with drawing():
        figure, panels = panels_of_page(1, columns=1, height=2.8)
        curves: dict[str, tuple[Curve, Line]] = {
            "true frames": (score.ceiling, {"color": GREEN, "linestyle": "--"}),
            "predicted": (score.model, {"color": BLUE, "linestyle": "-"}),
            "screen of another clip": (score.floor, {"color": QUIET, "linestyle": ":"}),
        }
        draw_curves(panels[0], curves, f"screen and drawn {score.key}: {AGREEMENTS[score.measure]}")
        panels[0].set_ylim(0, 1.02)
        legend_below(figure, panels)
    return figure


def futures_plot(clips: ShownClips, key: str) -> Figure:
    """Plot the first entries of a vector in several futures of one start, with the real one."""
    truth, futures = clips.truth[key][0], clips.prediction[key]

    def draw(axes: Axes, steps: Array, i: int) -> None:
        for number, future in enumerate(futures):
            label = "sampled futures" if number == 0 else None
            axes.plot(steps[clips.context :], future[:, i], color=BLUE, linewidth=0.9, alpha=0.7, label=label)
        axes.plot(steps, truth[:, i], color=INK, label="what happened")

    return entries_of_vector(clips, key, draw)
