"""Legends within a panel may have to lie over its curves, and can then still be read."""

from wmplay.report.plots.lines import progress_plot


def test_words_over_curves_have_a_ground() -> None:
    lines = [
        {
            "iteration": i,
            "phase": "evaluate",
            **{f"prediction/lcd/iou@{h}": 0.9 - 0.1 * h for h in range(1, 6)},
        }
        for i in range(3)
    ]
    figure = progress_plot(lines)
    assert figure is not None
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        "1 step",
        *(f"{h} steps" for h in range(2, 6)),
    ]
    assert legend.get_frame_on()
    assert 0.5 < legend.get_frame().get_alpha() < 1
