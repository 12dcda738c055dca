"""The curves of loss and fraction_positive."""

from dataclasses import replace

import numpy as np
import pytest
from figure_data import data_of

from src.figures import draw
from src.figures.curves import running_mean


def test_the_points():
    of_best, of_loss, of_fraction = draw("curves", data_of()).figure.axes
    assert of_best.get_title() == "map_at_r_within: step 101 was chosen"
    curve, mark = (line.get_xydata().tolist() for line in of_best.lines)
    assert curve == [[101, 0.7]]
    assert [x for x, _ in mark] == [101, 101]
    assert 0.5 < of_best.get_ylim()[0] < 0.7  # a metric near 1 does not begin at 0
    assert of_loss.get_title() == "loss"
    assert of_fraction.get_title() == "fraction_positive"
    drawn, smoothed, validation = (line.get_xydata().tolist() for line in of_loss.lines)
    assert drawn == [[1, 1.0], [51, 0.5], [101, 0.3]]
    np.testing.assert_allclose(smoothed, drawn)  # too few points for a mean of several
    assert validation == [[100, 0.6]]
    assert [text.get_text() for text in of_loss.get_legend().get_texts()] == [
        *("training", "validation")
    ]


def test_the_metric_that_chose_is_not_drawn_twice():
    loss, fraction = draw("curves", data_of(best_metric="loss")).figure.axes
    assert loss.get_title() == "loss: step 101 was chosen"
    assert fraction.get_title() == "fraction_positive"


@pytest.mark.parametrize("validation", [{}, {"loss": ([100], [0.6])}])
def test_without_a_curve_of_it_nothing_is_said_to_have_chosen(validation):
    data = data_of()
    data = replace(data, curves={"training": data.curves["training"], "validation": validation})
    drawn = draw("curves", data)
    assert [axes.get_title() for axes in drawn.figure.axes] == ["loss", "fraction_positive"]
    assert drawn.caption.startswith("Training: single batches")


def test_running_mean():
    values = np.random.default_rng(0).random(100).tolist()
    means = running_mean((list(range(100)), values))
    for position in range(100):
        reach = min(2, position, 99 - position)  # 5 % of 100, half of it on each side
        window = values[position - reach : position + reach + 1]
        assert means[position] == pytest.approx(np.mean(window))
