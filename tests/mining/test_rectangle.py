"""The distances of a batch: how exact they are, and in which way their slopes are found."""

import numpy as np
import pytest
import reference

from model.estimator import tf
from model.mining.rectangle import Rectangle

RNG = np.random.default_rng(0)


def distances_of(embeddings, distance="euclidean"):
    labels = np.zeros(len(embeddings), np.int32)
    return Rectangle(tf.constant(labels), tf.constant(embeddings), distance).distances.numpy()


@pytest.mark.parametrize("num_dimensions", [1, 2, 64, 500, 2048])
@pytest.mark.parametrize("offset", [0, 1, 1000])
@pytest.mark.parametrize("distance", reference.DISTANCES)
def test_equal_embeddings_are_exactly_0_apart(distance, offset, num_dimensions):
    some = (RNG.normal(size=(20, num_dimensions)) + offset).astype(np.float32)
    found = distances_of(np.concatenate([some, some, some]), distance)
    for first in range(3):
        for second in range(3):
            block = found[20 * first : 20 * first + 20, 20 * second : 20 * second + 20]
            assert (np.diag(block) == 0).all()
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("apart", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize("offset", [0, 30])
def test_near_embeddings_keep_their_digits(offset, apart):
    """Clusters whose examples lie 1e-5 apart: float32 products would leave nothing of that."""
    centres = RNG.normal(size=(8, 1, 64)) + offset
    embeddings = (centres + apart * RNG.normal(size=(8, 5, 64))).reshape(40, 64).astype(np.float32)
    x = embeddings.astype(np.float64)
    expected = np.linalg.norm(x[:, None] - x, axis=2)
    np.testing.assert_allclose(
        distances_of(embeddings), expected, rtol=2e-6 if apart > 1e-5 else 2e-3
    )


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.arange(64) % 10, True),
        (np.arange(256) % 10, False),
        (np.arange(256) // 4, True),
        (np.arange(1024) // 4, True),
        (np.arange(2460) // 12, True),  # 11 positives each; 66.6 million numbers
        (np.arange(2472) // 12, False),  # 67.2 million, more than 2^26
        (np.zeros(10), True),
        (np.zeros(20), False),
        (np.arange(20), True),
    ],
)
def test_pairs_are_enumerated_where_they_are_few(labels, expected):
    embeddings = np.zeros((len(labels), 1), np.float32)

    @tf.function  # a graph computes no distances for this: those of 2472 are 24 MB
    def has_few_pairs():
        return Rectangle(tf.constant(labels, tf.int32), embeddings, "euclidean").has_few_pairs

    assert bool(has_few_pairs()) is expected


def test_pairs_and_triplets_are_counted_by_class_sizes():
    labels = [5, 5, 5, 7, 7, 2**40, 9]
    rectangle = Rectangle(tf.constant(labels, tf.int64), tf.zeros([7, 2]), "euclidean")
    assert int(rectangle.num_pairs) == 3 * 2 + 2 * 1
    assert int(rectangle.num_triplets) == 6 * 4 + 2 * 5
    assert rectangle.positive_pairs().numpy().tolist() == [
        *([0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]),
        *([3, 4], [4, 3]),
    ]


def test_slopes_of_triplets():
    rectangle = Rectangle(tf.constant([0, 0, 1]), tf.zeros([3, 2]), "euclidean")
    anchors, positives, negatives = (
        tf.constant(x, tf.int64) for x in ([0, 0, 1], [1, 1, 0], [2, 2, 2])
    )
    slopes = rectangle.slopes_of(anchors, positives, negatives, tf.constant([1.0, 0.5, 2.0]))
    assert slopes.numpy().tolist() == [[0, 1.5, -1.5], [2, 0, -2], [0, 0, 0]]


class TestSomeAnchors:
    """Anchors 4, 0 and 5 of seven candidates."""

    labels = (5, 7, 5, 7, 7, 5, 9)
    embeddings = RNG.normal(size=(7, 3)).astype(np.float32)
    anchors = (4, 0, 5)

    def rectangle(self, distance="euclidean"):
        labels, anchors = tf.constant(self.labels), tf.constant(self.anchors)
        return Rectangle(labels, tf.constant(self.embeddings), distance, anchors)

    @pytest.mark.parametrize("distance", reference.DISTANCES)
    def test_have_their_rows_of_the_matrix(self, distance):
        whole = distances_of(self.embeddings, distance)
        found = self.rectangle(distance).distances.numpy()
        np.testing.assert_allclose(found, whole[list(self.anchors)], rtol=1e-6, atol=1e-12)
        assert [found[row, column] for row, column in enumerate(self.anchors)] == [0, 0, 0]

    def test_have_positives_and_negatives_among_all_candidates(self):
        rectangle = self.rectangle()
        assert rectangle.same.numpy().tolist() == [
            [label == self.labels[anchor] for label in self.labels] for anchor in self.anchors
        ]
        assert rectangle.positive_pairs().numpy().tolist() == [
            *([0, 1], [0, 3]),  # by row: anchor 4
            *([1, 2], [1, 5]),
            *([2, 0], [2, 2]),
        ]
        assert int(rectangle.num_pairs) == 6
        assert int(rectangle.num_triplets) == 6 * 4
        assert bool(rectangle.has_negatives)

    def test_are_left_out_of_their_own_rows(self):
        found = self.rectangle().with_own(tf.zeros([3, 7]), -1.0).numpy()
        assert np.argwhere(found == -1).tolist() == [[0, 4], [1, 0], [2, 5]]
