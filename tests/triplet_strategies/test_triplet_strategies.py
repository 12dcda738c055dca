"""Every strategy against its definition as a NumPy loop, eagerly and in a v1 graph."""

import doctest
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import reference

from model import triplet_loss
from model.estimator import tf
from model.mining import rectangle
from model.mining.loss import TripletLoss
from model.triplet_loss import batch_all_triplet_loss, batch_hard_triplet_loss
from src.registry import (
    OFFLINE_STRATEGIES,
    SOFT_MARGIN_STRATEGIES,
    TRIPLET_STRATEGIES,
    look_up,
)

RNG = np.random.default_rng(0)


def normal(size: int, dimension: int = 6) -> np.ndarray:
    return RNG.normal(size=(size, dimension)).astype(np.float32)


def with_duplicates() -> np.ndarray:
    embeddings = normal(12)
    embeddings[5] = embeddings[1]  # labels differ: distance 0 to a negative
    embeddings[8] = embeddings[0]  # labels agree: distance 0 to a positive
    return embeddings


BATCHES = {
    "shuffled": (RNG.integers(0, 4, 24), normal(24)),
    "p_times_k": (np.repeat(np.arange(5), 4), normal(20)),
    "partial": (RNG.integers(0, 4, 7), normal(7)),
    "far from the origin": (np.arange(16) % 3, normal(16) + 20),
    "duplicates": (np.arange(12) % 4, with_duplicates()),
    "one class": (np.zeros(6, int), normal(6)),
    "all labels distinct": (np.arange(6), normal(6)),
    "one example": (np.array([3]), normal(1)),
    "all embeddings equal": (np.arange(8) % 2, np.full((8, 3), 0.7, np.float32)),
    "all embeddings zero": (np.arange(8) % 2, np.zeros((8, 3), np.float32)),
    "one positive pair": (np.array([0, 0, 1, 2, 3]), normal(5)),
    # Integers: losses of exactly 0, distances that tie, at margin 1
    "on a line": (np.array([0, 0, 1, 1, 0, 1]), np.array([[0], [1], [2], [4], [2], [3]], "f")),
}
WITHOUT_TRIPLETS = ["one class", "all labels distinct", "one example"]
# Where several examples are equally hard, the gradient may be any mixture of theirs.
WITH_TIES = {
    "batch_all": [],
    "batch_hard": ["duplicates", "on a line"],
    "batch_semihard": ["duplicates", "on a line", "all embeddings equal", "all embeddings zero"],
    "offline": [],
}


def margins(name):
    return [0.2, 1.0, 5.0, *(["soft"] if name in SOFT_MARGIN_STRATEGIES else [])]


IN_TWO_WAYS = ["batch_all", "batch_semihard"]
WAYS = ["sorting", "enumerating"]
STRATEGIES_AND_MARGINS = [(name, margin) for name in TRIPLET_STRATEGIES for margin in margins(name)]


def batch_of(name, batch):
    labels, embeddings = BATCHES[batch]
    examples = reference.as_batch_of(name, labels)
    return labels[examples], embeddings[examples]


class Found(NamedTuple):
    """What a strategy makes of a batch, the means that follow, and the gradient of the loss."""

    triplets: TripletLoss
    loss: np.ndarray
    fraction: np.ndarray
    gradient: np.ndarray

    @property
    def counts(self):
        return tuple(self.triplets[1:])


@cache
def loss_and_gradient_of(name, margin, distance, way):
    """The same function for the same arguments, so that a graph is built once."""

    def loss_and_gradient(labels, embeddings):
        with found_by(way), tf.GradientTape() as tape:
            tape.watch(embeddings)
            triplets = look_up(TRIPLET_STRATEGIES, name)(
                labels, embeddings, margin=margin, distance=distance
            )
            loss = triplets.loss
        return Found(triplets, loss, triplets.fraction_positive, tape.gradient(loss, embeddings))

    return loss_and_gradient


@contextmanager
def found_by(way):
    """Have the slopes of batches of any shape found in one way."""
    limit = {"sorting": -1, "enumerating": 10**6, None: rectangle._MAX_POSITIVES_TO_ENUMERATE}[way]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rectangle, "_MAX_POSITIVES_TO_ENUMERATE", limit)
        yield


def evaluate(run, name, labels, embeddings, margin, distance="euclidean", way=None):
    return run(loss_and_gradient_of(name, margin, distance, way), labels, embeddings)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("distance", reference.DISTANCES)
@pytest.mark.parametrize(
    ("name", "margin", "way"),
    [
        (name, margin, way)
        for name, margin in STRATEGIES_AND_MARGINS
        for way in (WAYS if name in IN_TWO_WAYS else [None])
    ],
)
def test_agrees_with_the_loop(run, name, margin, way, distance, batch):
    labels, embeddings = batch_of(name, batch)
    expected = getattr(reference, name)(labels, embeddings, margin=margin, distance=distance)
    found = evaluate(run, name, labels, embeddings, margin, distance, way)
    triplets, loss, fraction, gradient = found

    farthest = np.max(reference.Batch(embeddings, distance).d)  # distances are float32
    assert loss == pytest.approx(expected.loss, rel=1e-5, abs=2e-7 * farthest)
    if not (distance == "cosine" and batch in ("on a line", "all embeddings zero")):
        # There cosines tie within rounding, so that which triplets count is anyone's guess.
        assert triplets.num_averaged_triplets == expected.num_averaged_triplets
        assert triplets.num_positive_triplets == expected.num_positive_triplets
        assert triplets.num_valid_triplets == expected.num_valid_triplets
        valid = expected.num_valid_triplets
        assert fraction == pytest.approx(expected.num_positive_triplets / valid if valid else 0)
    assert np.isfinite(gradient).all()
    if batch in WITH_TIES[name] or (distance == "cosine" and batch == "on a line"):
        return
    scale = np.abs(expected.gradient).max()
    np.testing.assert_allclose(gradient, expected.gradient, rtol=1e-5, atol=1e-5 * scale + 1e-9)


@pytest.mark.parametrize("batch", WITHOUT_TRIPLETS)
@pytest.mark.parametrize(("name", "margin"), STRATEGIES_AND_MARGINS)
def test_no_triplet_means_loss_0_and_gradient_0(run, name, margin, batch):
    triplets, loss, fraction, gradient = evaluate(run, name, *batch_of(name, batch), margin)
    assert (*triplets, loss, fraction) == (0, 0, 0, 0, 0, 0)
    assert (gradient == 0).all()


@pytest.mark.parametrize("name", TRIPLET_STRATEGIES)
def test_labels_of_shape_b_1_are_flattened(run, name):
    labels, embeddings = batch_of(name, "shuffled")
    flat = evaluate(run, name, labels, embeddings, 1.0)
    column = evaluate(run, name, labels[:, None], embeddings, 1.0)
    assert tuple(column[0]) == tuple(flat[0])


@pytest.mark.parametrize("name", TRIPLET_STRATEGIES)
def test_other_numbers_of_labels_are_refused(run, name):
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        evaluate(run, name, np.arange(5), normal(6), 1.0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("name", TRIPLET_STRATEGIES)
def test_embeddings_that_are_not_finite_give_a_loss_that_is_not(run, name, value, way):
    """And not 0, by which a diverged training would look like a perfect one."""
    labels, embeddings = batch_of(name, "shuffled")
    embeddings = embeddings.copy()
    embeddings[3] = value
    found = evaluate(run, name, labels, embeddings, 1.0, "squared_euclidean", way)
    assert not np.isfinite(found.loss)
    assert name == "offline" or not np.isfinite(found.gradient).any()


@pytest.mark.parametrize("distance", reference.DISTANCES)
def test_offline_embeddings_that_are_nan_give_a_loss_that_is(run, distance):
    labels, embeddings = batch_of("offline", "shuffled")
    embeddings = np.where(labels[:, None] == labels[0], np.float32(np.nan), embeddings)
    assert np.isnan(evaluate(run, "offline", labels, embeddings, 1.0, distance).loss)


@pytest.mark.parametrize("num_classes", [2, 10, 40])
@pytest.mark.parametrize("distance", reference.DISTANCES)
@pytest.mark.parametrize("name", IN_TWO_WAYS)
def test_both_ways_agree(run, name, distance, num_classes):
    labels, embeddings = RNG.integers(0, num_classes, 160), normal(160, 16)
    one, other = (evaluate(run, name, labels, embeddings, 0.5, distance, way) for way in WAYS)
    assert one.loss == pytest.approx(other.loss, rel=1e-6)
    assert one.counts == other.counts
    scale = np.abs(one.gradient).max()
    np.testing.assert_allclose(one.gradient, other.gradient, rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize("name", TRIPLET_STRATEGIES)
def test_a_step_against_the_gradient_lowers_the_loss(run, name):
    labels, embeddings = batch_of(name, "shuffled")
    before, _, _, gradient = evaluate(run, name, labels, embeddings, 1.0)
    step = (embeddings - 0.05 * gradient / np.linalg.norm(gradient)).astype(np.float32)
    after = evaluate(run, name, labels, step, 1.0).triplets
    # Batch-all's mean is over a set that changes: compare the sums.
    assert after.loss_sum < before.loss_sum


IN_BATCH = [name for name in TRIPLET_STRATEGIES if name not in OFFLINE_STRATEGIES]
IN_EVERY_WAY = [
    (name, margin, way)
    for name in IN_BATCH
    for margin in (0.5, *(["soft"] if name in SOFT_MARGIN_STRATEGIES else []))
    for way in (WAYS if name in IN_TWO_WAYS else [None])
]
# Of 30 candidates; each is an anchor once.
PARTS = np.split(RNG.permutation(30), [3, 4, 17])


@cache
def sum_and_gradient_of(name, margin, distance, way):
    """A strategy's loss_sum, counts, and the gradient of the sum, of some anchors or of all."""

    def sum_and_gradient(labels, embeddings, *anchors):
        some = {"anchors": anchors[0]} if anchors else {}
        with found_by(way), tf.GradientTape() as tape:
            tape.watch(embeddings)
            triplets = look_up(TRIPLET_STRATEGIES, name)(
                labels, embeddings, margin=margin, distance=distance, **some
            )
        return triplets, tape.gradient(triplets.loss_sum, embeddings)

    return sum_and_gradient


def assert_parts_are_the_whole(parts, gradients, whole, gradient):
    total = TripletLoss(*map(sum, zip(*parts, strict=True)))
    assert total.loss_sum == pytest.approx(whole.loss_sum, rel=1e-6)
    assert total[1:] == whole[1:]
    assert whole.num_positive_triplets > 0
    error = np.linalg.norm(np.sum(gradients, axis=0, dtype=np.float64) - gradient)
    assert error <= 1e-6 * np.linalg.norm(gradient)


@pytest.mark.parametrize("distance", reference.DISTANCES)
@pytest.mark.parametrize(("name", "margin", "way"), IN_EVERY_WAY)
def test_parts_of_the_anchors_add_up_to_the_whole(run, name, margin, way, distance):
    labels, embeddings = RNG.integers(0, 6, 30), normal(30)
    function = sum_and_gradient_of(name, margin, distance, way)
    whole, gradient = run(function, labels, embeddings)
    found = [run(function, labels, embeddings, anchors) for anchors in PARTS]
    parts, gradients = zip(*found, strict=True)
    assert_parts_are_the_whole(parts, gradients, whole, gradient)


@pytest.mark.parametrize("distance", reference.DISTANCES)
def test_parts_of_offline_triplets_add_up_to_the_whole(run, distance):
    examples = reference.as_batch_of("offline", RNG.integers(0, 6, 30))
    labels, embeddings = RNG.integers(0, 2, 30)[examples], normal(30)[examples]
    function = sum_and_gradient_of("offline", 0.5, distance, None)
    whole, gradient = run(function, labels, embeddings)
    parts, gradients = [], []
    for some in PARTS:
        rows = np.concatenate([some, 30 + some, 60 + some])
        part, of_part = run(function, labels[rows], embeddings[rows])
        parts.append(part)
        gradients.append(np.zeros_like(embeddings))
        gradients[-1][rows] = of_part
    assert_parts_are_the_whole(parts, gradients, whole, gradient)


@pytest.mark.parametrize("distance", reference.DISTANCES)
@pytest.mark.parametrize(("name", "margin", "way"), IN_EVERY_WAY)
def test_some_anchors_agree_with_the_loop(run, name, margin, way, distance):
    """Candidates that are no anchors are positives and negatives, and get a gradient."""
    labels, embeddings = BATCHES["shuffled"]
    anchors = [5, 0, 11, 7]
    expected = getattr(reference, name)(
        labels, embeddings, margin=margin, distance=distance, anchors=anchors
    )
    function = sum_and_gradient_of(name, margin, distance, way)
    triplets, gradient = run(function, labels, embeddings, np.array(anchors, np.int32))
    assert triplets.loss_sum == pytest.approx(
        expected.loss * expected.num_averaged_triplets, rel=1e-5
    )
    assert tuple(triplets[1:]) == tuple(expected[1:4])
    gradient = gradient / max(expected.num_averaged_triplets, 1)
    scale = np.abs(expected.gradient).max()
    np.testing.assert_allclose(gradient, expected.gradient, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize(("name", "margin", "way"), IN_EVERY_WAY)
def test_no_anchor_has_no_loss(run, name, margin, way):
    function = sum_and_gradient_of(name, margin, "euclidean", way)
    triplets, gradient = run(function, *BATCHES["shuffled"], np.zeros(0, np.int64))
    assert tuple(triplets) == (0, 0, 0, 0)
    assert (gradient == 0).all()


# Four points on a line, worked by hand. Label 0 at 0 and 1, label 1 at 3 and 5; margin 3.
#   a  p  n   d(a,p) - d(a,n) + 3
#   0  1  3   1 - 3 + 3 = 1        hardest of anchor 0
#   0  1  5   1 - 5 + 3 = -1
#   1  0  3   1 - 2 + 3 = 2        hardest of anchor 1
#   1  0  5   1 - 4 + 3 = 0        not positive
#   3  5  0   2 - 3 + 3 = 2
#   3  5  1   2 - 2 + 3 = 3        hardest of anchor 3
#   5  3  0   2 - 5 + 3 = 0        not positive
#   5  3  1   2 - 4 + 3 = 1        hardest of anchor 5
LABELS = np.array([0, 0, 1, 1])
POINTS = np.array([[0], [1], [3], [5]], np.float32)


def test_batch_all_by_hand(run):
    triplets, loss, fraction, gradient = evaluate(run, "batch_all", LABELS, POINTS, 3.0)
    assert triplets.loss_sum == pytest.approx(1 + 2 + 2 + 3 + 1)
    assert loss == pytest.approx((1 + 2 + 2 + 3 + 1) / 5)
    assert fraction == pytest.approx(5 / 8)
    # In the five positive triplets, d(0,1) stands +1 +1, d(3,5) +1 +1 +1, d(0,3) -1 -1,
    # d(1,3) -1 -1, d(1,5) -1; a point's gradient is the sum of the signs of its distances.
    by_point = [-2 + 2, +2 + 2 + 1, -3 - 2 - 2, +3 - 1]
    np.testing.assert_allclose(gradient[:, 0], np.array(by_point) / 5, atol=1e-6)


def test_batch_hard_by_hand(run):
    _, loss, fraction, gradient = evaluate(run, "batch_hard", LABELS, POINTS, 3.0)
    assert loss == pytest.approx((1 + 2 + 3 + 1) / 4)
    assert fraction == 1
    # d(0,1) +1 +1, d(3,5) +1 +1, d(0,3) -1, d(1,3) -1 -1, d(1,5) -1
    by_point = [-2 + 1, +2 + 2 + 1, -2 - 1 - 2, +2 - 1]
    np.testing.assert_allclose(gradient[:, 0], np.array(by_point) / 4, atol=1e-6)


def test_batch_semihard_by_hand(run):
    _, loss, fraction, gradient = evaluate(run, "batch_semihard", LABELS, POINTS, 3.0)
    # a  p   nearest negative farther than p   loss
    # 0  1   3                                 1 - 3 + 3 = 1
    # 1  0   3                                 1 - 2 + 3 = 2
    # 3  5   0, for 1 is as far as p           2 - 3 + 3 = 2
    # 5  3   1                                 2 - 4 + 3 = 1
    assert loss == pytest.approx((1 + 2 + 2 + 1) / 4)
    assert fraction == 1
    # d(0,1) +1 +1, d(3,5) +1 +1, d(0,3) -1 -1, d(1,3) -1, d(1,5) -1
    by_point = [-2 + 2, +2 + 1 + 1, -2 - 2 - 1, +2 - 1]
    np.testing.assert_allclose(gradient[:, 0], np.array(by_point) / 4, atol=1e-6)


def test_batch_semihard_takes_the_farthest_negative_where_none_is_farther(run):
    labels, points = np.array([0, 0, 1, 1]), np.array([[0], [9], [1], [2]], np.float32)
    triplets, loss, _, _ = evaluate(run, "batch_semihard", labels, points, 1.0)
    # (0, 9): farthest negative 2, 9 - 2 + 1; (9, 0): farthest 1, 9 - 8 + 1;
    # (1, 2): 9 at distance 8, for 0 is as far as p: 0; (2, 1): 0 at distance 2: 1 - 2 + 1 = 0
    assert loss == pytest.approx((8 + 2 + 0 + 0) / 4)
    assert triplets.num_positive_triplets == 2


def test_offline_by_hand(run):
    """The triplets (0, 1, 3), (1, 0, 5), (3, 5, 1), and two rows that are none by their labels."""
    labels = np.array([0, 0, 1, 0, 0] + [0, 0, 1, 1, 0] + [1, 1, 0, 1, 0])
    points = np.array([0, 1, 3, 0, 0] + [1, 0, 5, 3, 1] + [3, 5, 1, 3, 1], np.float32)[:, None]
    triplets, loss, fraction, gradient = evaluate(run, "offline", labels, points, 2.5)
    # 1 - 3 + 2.5, 1 - 4 + 2.5 which is not positive but counts, 2 - 2 + 2.5
    assert loss == pytest.approx((0.5 + 0 + 2.5) / 3)
    assert fraction == pytest.approx(2 / 3)
    assert triplets.num_averaged_triplets == triplets.num_valid_triplets == 3
    # Of (0, 1, 3): the anchor -1 + 1, the positive +1, the negative -1
    # Of (3, 5, 1): the anchor -1 - 1, the positive +1, the negative +1
    by_row = [0, 0, -2, 0, 0] + [1, 0, 1, 0, 0] + [-1, 0, 1, 0, 0]
    np.testing.assert_allclose(gradient[:, 0], np.array(by_row) / 3, atol=1e-6)


def test_offline_refuses_a_batch_that_is_not_of_thirds(run):
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        evaluate(run, "offline", np.arange(7), normal(7), 1.0)


def test_soft_margin_by_hand(run):
    _, loss, fraction, _ = evaluate(run, "batch_hard", LABELS, POINTS, "soft")
    # d(a,p) - d(a,n) of the hardest: 1 - 3, 1 - 2, 2 - 2, 2 - 4
    expected = [np.log(1 + np.exp(x)) for x in (-2, -1, 0, -2)]
    assert loss == pytest.approx(np.mean(expected), rel=1e-6)
    assert fraction == 1 / 4


def test_batch_hard_leaves_out_anchors_without_a_positive(run):
    labels, points = np.array([0, 0, 1]), np.array([[0], [1], [1.5]], np.float32)
    # Anchor 0: 1 - 1.5 + 1; anchor 1: 1 - 0.5 + 1; anchor 2 has no positive.
    triplets, loss, _, gradient = evaluate(run, "batch_hard", labels, points, 1.0)
    assert loss == pytest.approx((0.5 + 1.5) / 2)
    assert triplets.num_valid_triplets == 2
    np.testing.assert_allclose(gradient[:, 0], [(-2 + 1) / 2, (2 + 1) / 2, (-1 - 1) / 2], rtol=1e-6)


def test_batch_hard_gradient_with_ties_lies_between_the_tied_examples(run):
    """Negatives at -1 and +1 are equally near: moving the anchor either way gains nothing."""
    labels, points = np.array([0, 0, 1, 1]), np.array([[0], [0.5], [1], [-1]], np.float32)
    gradient = evaluate(run, "batch_hard", labels, points, 1.0).gradient
    assert np.isfinite(gradient).all()
    assert abs(gradient.sum()) < 1e-6  # distances do not change when all points move alike


@pytest.mark.parametrize("squared", [False, True])
def test_the_well_known_names_are_faces_of_the_strategies(run, squared):
    labels, embeddings = BATCHES["shuffled"]
    distance = "squared_euclidean" if squared else "euclidean"
    expected = reference.batch_all(labels, embeddings, margin=0.5, distance=distance)
    loss, fraction = run(
        lambda labels, x: batch_all_triplet_loss(labels, x, 0.5, squared=squared),
        labels,
        embeddings,
    )
    assert loss == pytest.approx(expected.loss, rel=1e-5)
    valid = expected.num_valid_triplets
    assert fraction == pytest.approx(expected.num_positive_triplets / valid)

    expected = reference.batch_hard(labels, embeddings, margin=0.5, distance=distance)
    loss = run(
        lambda labels, x: batch_hard_triplet_loss(labels, x, 0.5, squared=squared),
        labels,
        embeddings,
    )
    assert loss == pytest.approx(expected.loss, rel=1e-5)


def test_the_examples_of_the_public_losses_run():
    for name, function in vars(triplet_loss).items():
        if name.endswith("_triplet_loss"):
            finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
            (example,) = finder.find(function, name, globs={})
            found = runner.run(example)
            assert found.attempted > 2 and found.failed == 0, name


def test_batch_all_holds_at_a_size_whose_cube_would_not_fit_a_test():
    """B = 700 against sums over the pairs: 343 million triplets, counted per anchor in NumPy."""
    labels = RNG.integers(0, 10, 700)
    embeddings = normal(700, 16)
    x = embeddings.astype(np.float64)
    distances = np.sqrt(((x[:, None] - x[None, :]) ** 2).sum(-1))
    total, num_positive, num_valid = 0.0, 0, 0
    for a in range(700):
        positive = (labels == labels[a]) & (np.arange(700) != a)
        losses = distances[a, positive][:, None] - distances[a, labels != labels[a]] + 0.5
        total += losses[losses > 0].sum()
        num_positive += (losses > 0).sum()
        num_valid += losses.size
    triplets = look_up(TRIPLET_STRATEGIES, "batch_all")(
        tf.constant(labels), tf.constant(embeddings), margin=0.5, distance="euclidean"
    )
    assert int(triplets.num_valid_triplets) == num_valid
    # float32 distances may put a handful of the triplets on the other side of 0.
    assert int(triplets.num_positive_triplets) == pytest.approx(num_positive, rel=1e-6)
    assert float(triplets.loss) == pytest.approx(total / num_positive, rel=1e-5)
