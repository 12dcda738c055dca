"""The hardest and the easiest triplets, against all triplets."""

from dataclasses import replace

import numpy as np
import pytest
from figure_data import data_of

from src.figures import draw
from src.figures.triplets import extreme_triplets, triplet_distances, triplet_losses
from src.params.schema import Params


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"distance": "cosine", "margin": 0.2},
        {"margin": "soft", "triplet_strategy": "batch_hard", "squared": True},
        {"triplet_strategy": "supervised_contrastive", "distance": "cosine"},
    ],
)
class TestTriplets:
    def test_against_all_triplets(self, params):
        data = data_of(40, 3, **params)
        labels = data.split.labels
        every = np.array(
            [
                (a, p, n)
                for a in range(40)
                for p in range(40)
                for n in range(40)
                if a != p and labels[a] == labels[p] != labels[n]
            ]
        )
        to_positive, to_negative = triplet_distances(data, every)
        for hardest, sign in ((True, -1), (False, 1)):
            by_gap = every[np.argsort(sign * (to_positive - to_negative))].tolist()
            expected, asked, shown = [], set(), set()
            for triplet in by_gap:  # each anchor's first, where no image of it is shown already
                if triplet[0] not in asked and shown.isdisjoint(triplet):
                    expected.append(triplet)
                    shown.update(triplet)
                asked.add(triplet[0])
            found = extreme_triplets(data, 3, hardest=hardest)
            assert found.tolist() == expected[:3]
            assert found[0].tolist() == by_gap[0]  # the most extreme of all
            assert len(found) > 1

    def test_the_strips(self, params):
        data = data_of(60, **params)
        drawn = draw("triplets", data)
        losses = []
        for axes, hardest in zip(drawn.figure.axes, (True, False), strict=True):
            assert len(axes.images) == 3 * 6
            found = extreme_triplets(data, 6, hardest=hardest)
            texts = [text.get_text() for text in axes.texts]
            d_ap, d_an = triplet_distances(data, found)
            losses.append(triplet_losses(d_ap, d_an, data.params))
            for row in range(6):
                assert f"{d_ap[row]:.3g}" in texts
                assert f"{d_an[row]:.3g}" in texts
                name = "loss" if data.params.margin_in_use else "difference"
                assert f"{name} {losses[-1][row]:.3g}" in texts
        assert len(drawn.figure.axes) == 2
        assert losses[0].min() > losses[1].max()


def test_triplet_losses_by_hand():
    d_ap, d_an = np.array([1.0, 0.25, 0.5]), np.array([0.5, 2.0, 0.5])
    assert triplet_losses(d_ap, d_an, Params(margin=0.5)).tolist() == [1.0, 0.0, 0.5]
    for strategy, temperature in (("batch_hard", 1), ("easy_positive", 0.1)):
        params = Params(margin="soft", triplet_strategy=strategy)
        expected = np.log(1 + np.exp(np.array([0.5, -1.75, 0]) / temperature))
        np.testing.assert_allclose(triplet_losses(d_ap, d_an, params), expected)
    params = Params(triplet_strategy="multi_similarity", distance="cosine")
    assert triplet_losses(d_ap, d_an, params).tolist() == [0.5, -1.75, 0.0]


def test_the_temperature_of_a_soft_margin_is_in_the_caption():
    drawn = draw("triplets", data_of(60, margin="soft", triplet_strategy="easy_positive"))
    assert "the loss is log(1 + exp((d(a,p) - d(a,n)) / 0.1))." in drawn.caption


def test_a_sample_is_called_one():
    data = data_of()
    of = " Among 60 of the 999 images of the split, a sample."
    assert of not in draw("triplets", data).caption
    assert of in draw("triplets", replace(data, num_examples=999)).caption
