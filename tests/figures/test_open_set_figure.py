"""The figure of known images and strangers: the numbers drawn, and what its words say."""

from dataclasses import replace

import numpy as np
from figure_data import OPEN_SET, data_of, seen

from src.figures import draw


class TestOpenSet:
    def test_the_numbers_drawn(self):
        picture = draw("open_set", data_of())
        of_scores, of_rates = picture.figure.axes
        assert [line.get_xdata()[0] for line in of_scores.lines] == [0.5, 0.25]
        shares = [patch.get_data().values for patch in of_scores.patches[1::2]]
        np.testing.assert_allclose(shares[0], [40 / 60, 15 / 60, 5 / 60, 0])
        np.testing.assert_allclose(shares[1], [0, 5 / 40, 15 / 40, 20 / 40])
        curve, *points = of_rates.lines
        np.testing.assert_allclose(curve.get_ydata(), [0.7, 0.9, 0.95])
        # An FPIR of 0 has no place on a logarithmic axis; a missing threshold has no point.
        assert [(p.get_xdata()[0], p.get_ydata()[0]) for p in points] == [(0.125, 0.9)]
        assert "60 test images and 40 strangers" in picture.caption
        assert "0.912" in picture.alt
        assert "flatter" not in picture.caption

    def test_it_says_that_known_classes_flatter(self):
        known = {**OPEN_SET, "calibrated_on": "known classes"}
        assert "numbers flatter" in draw("open_set", replace(data_of(), open_set=known)).caption

    def test_without_strangers_there_is_none(self):
        assert draw("open_set", replace(data_of(), open_set=None)) is None
        undefined = {**OPEN_SET, "auroc": None}
        assert draw("open_set", replace(data_of(), open_set=undefined)) is None

    def test_without_a_threshold(self):
        no_threshold = {"threshold": None, "reported": {"fpir": None, "dir": None}}
        found = {**OPEN_SET, "at": dict.fromkeys(OPEN_SET["at"], no_threshold)}
        picture = draw("open_set", replace(data_of(), open_set=found))
        assert "Scores" in seen(picture)
        assert not picture.figure.axes[0].lines
