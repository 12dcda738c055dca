"""Every strategy against its definition as a NumPy loop, eagerly and in a v1 graph."""

import doctest
import inspect
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
from model.triplet_strategies import batch_all
from src.errors import UserError
from src.mining.rows import Rows
from src.params.schema import Params
from src.registry import (
    OFFLINE_STRATEGIES,
    RANDOM_STRATEGIES,
    SIMILARITY_STRATEGIES,
    SOFT_MARGIN_STRATEGIES,
    TRIPLET_STRATEGIES,
    look_up,
)

RNG = np.random.default_rng(0)
NUM_DIMENSIONS = 6  # of all batches, so that one graph takes them all


def normal(size: int, dimension: int = NUM_DIMENSIONS) -> np.ndarray:
    return RNG.normal(size=(size, dimension)).astype(np.float32)


def on_a_line(*positions: float) -> np.ndarray:
    embeddings = np.zeros((len(positions), NUM_DIMENSIONS), np.float32)
    embeddings[:, 0] = positions
    return embeddings


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
    "all embeddings equal": (np.arange(8) % 2, np.full((8, NUM_DIMENSIONS), 0.7, np.float32)),
    "all embeddings zero": (np.arange(8) % 2, np.zeros((8, NUM_DIMENSIONS), np.float32)),
    "one positive pair": (np.array([0, 0, 1, 2, 3]), normal(5)),
    # Integers: losses of exactly 0, distances that tie, at margin 1
    "on a line": (np.array([0, 0, 1, 1, 0, 1]), on_a_line(0, 1, 2, 4, 2, 3)),
}
WITHOUT_TRIPLETS = ["one class", "all labels distinct", "one example"]
# If several examples are equally hard, the gradient may be any mixture of theirs.
WITH_TIES = {
    "batch_all": [],
    "batch_hard": ["duplicates", "on a line"],
    "batch_semihard": ["duplicates", "on a line", "all embeddings equal", "all embeddings zero"],
    "distance_weighted": [],
    "easy_positive": ["duplicates", "on a line"],
    "multi_similarity": [],
    "offline": [],
    "supervised_contrastive": [],
}

# Each distance, each margin, and a soft margin with both kinds of gradient: the distance's own, and
# the one that goes back through the scaling to length 1.
MARGINS_AND_DISTANCES = [
    (1.0, "euclidean"),
    (5.0, "squared_euclidean"),
    (1.0, "mean_squared"),
    (0.2, "cosine"),
]
SOFT = [("soft", "euclidean"), ("soft", "cosine")]
CASES = [
    (name, *case)
    for name in TRIPLET_STRATEGIES
    for case in MARGINS_AND_DISTANCES + (SOFT if name in SOFT_MARGIN_STRATEGIES else [])
    if case[1] in reference.distances_of(name)
]

SEARCHING = ["batch_all", "batch_semihard"]
ON_DEVICE = "on a device"
WAYS = ["sorting", "enumerating", ON_DEVICE]


def in_every_way(cases):
    """Give each case the ways in which its strategy finds slopes; None for the usual one."""

    def ways(name):
        if name in OFFLINE_STRATEGIES:
            return [None]
        return WAYS if name in SEARCHING else [None, ON_DEVICE]

    return [(*case, way) for case in cases for way in ways(case[0])]


@cache
def batch_of(name, batch):
    labels, embeddings = BATCHES[batch]
    examples = reference.as_batch_of(name, labels)
    return labels[examples], embeddings[examples]


@cache
def expected_of(name, batch, margin, distance, anchors=None):
    some = {} if anchors is None else {"anchors": anchors}
    return getattr(reference, name)(
        *batch_of(name, batch), margin=margin, distance=distance, **some
    )


@cache
def farthest_of(name, batch, distance):
    _, embeddings = batch_of(name, batch)
    return max(reference.distance(x, y, distance) for x in embeddings for y in embeddings)


class Found(NamedTuple):
    """What a strategy makes of a batch, the means that follow, and the gradient of the loss."""

    triplets: TripletLoss
    loss: np.ndarray
    fraction: np.ndarray
    gradient: np.ndarray

    @property
    def counts(self):
        return tuple(self.triplets[1:])

    @property
    def gradient_of_sum(self):
        return self.gradient.astype(np.float64) * max(self.triplets.num_averaged_triplets, 1)


@cache
def loss_and_gradient_of(name, margin, distance, on_device):
    """The same function for the same arguments, so that a graph is built once."""

    def loss_and_gradient(labels, embeddings, enumerates, *anchors):
        some = {"anchors": anchors[0]} if anchors else {}
        with pytest.MonkeyPatch.context() as patch, tf.GradientTape() as tape:
            tape.watch(embeddings)
            patch.setattr(rectangle, "stays_on_device", lambda tensor: on_device)
            if name in SEARCHING:
                patch.setattr(rectangle.Rectangle, "has_few_pairs", enumerates)
            triplets = look_up(TRIPLET_STRATEGIES, name)(
                labels, embeddings, margin=margin, distance=distance, **some
            )
            loss = triplets.loss
        return Found(triplets, loss, triplets.fraction_positive, tape.gradient(loss, embeddings))

    return loss_and_gradient


def evaluate(
    run, name, labels, embeddings, margin=1.0, distance="euclidean", way="enumerating", anchors=None
):
    """Evaluate a strategy in one of its ways, whatever the batch's shape would select."""
    function = loss_and_gradient_of(name, margin, distance, way == ON_DEVICE)
    some = [] if anchors is None else [np.asarray(anchors)]
    return run(function, labels, embeddings, np.array(way == "enumerating"), *some)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(("name", "margin", "distance", "way"), in_every_way(CASES))
def test_agrees_with_the_loop(run, name, margin, distance, way, batch):
    labels, embeddings = batch_of(name, batch)
    expected = expected_of(name, batch, margin, distance)
    found = evaluate(run, name, labels, embeddings, margin, distance, way)
    triplets, loss, fraction, gradient = found

    rounding = 2e-7 * farthest_of(name, batch, distance)  # distances are float32
    assert loss == pytest.approx(expected.loss, rel=1e-5, abs=rounding)
    if not (distance == "cosine" and batch in ("on a line", "all embeddings zero")):
        # There cosines tie within rounding, so that which triplets count is anyone's guess.
        assert triplets.num_averaged_triplets == expected.num_averaged_triplets
        assert triplets.num_positive_triplets == expected.num_positive_triplets
        assert triplets.num_valid_triplets == expected.num_valid_triplets
        valid = expected.num_valid_triplets
        assert fraction == pytest.approx(expected.num_positive_triplets / valid if valid else 0)
    if batch in WITHOUT_TRIPLETS:
        assert (triplets.loss_sum, *triplets[2:], loss, fraction) == (0, 0, 0, 0, 0)
        assert (gradient == 0).all()
    assert np.isfinite(gradient).all()
    if batch in WITH_TIES[name] or (distance == "cosine" and batch == "on a line"):
        return
    scale = np.abs(expected.gradient).max()
    np.testing.assert_allclose(gradient, expected.gradient, rtol=1e-5, atol=1e-5 * scale + 1e-9)


@pytest.mark.parametrize("name", TRIPLET_STRATEGIES)
def test_labels_of_shape_b_1_are_flattened(run, name):
    labels, embeddings = batch_of(name, "shuffled")
    distance = reference.distances_of(name)[0]
    flat = evaluate(run, name, labels, embeddings, distance=distance)
    column = evaluate(run, name, labels[:, None], embeddings, distance=distance)
    assert tuple(column[0]) == tuple(flat[0])


@pytest.mark.parametrize("name", TRIPLET_STRATEGIES)
def test_other_numbers_of_labels_are_refused(run, name):
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        evaluate(run, name, np.arange(5), normal(6), distance=reference.distances_of(name)[0])


# Centred, 7.7e18 in each of 6 dimensions has a square that float32 holds; its distances have none.
@pytest.mark.parametrize("value", [np.nan, np.inf, 7.7e18])
@pytest.mark.parametrize(("name", "way"), in_every_way([(name,) for name in TRIPLET_STRATEGIES]))
def test_embeddings_that_are_not_finite_give_a_loss_that_is_not(run, name, way, value):
    """And not 0, by which a diverged training would look like a perfect one."""
    labels, embeddings = batch_of(name, "shuffled")
    embeddings = embeddings.copy()
    embeddings[3] = value
    distance = "squared_euclidean"
    if name in SIMILARITY_STRATEGIES:
        distance = "cosine"
        if np.isfinite(value):  # it has a direction
            return
    found = evaluate(run, name, labels, embeddings, 5.0, distance, way)
    assert not np.isfinite(found.loss)
    assert name == "offline" or not np.isfinite(found.gradient).any()


@pytest.mark.parametrize(
    ("margin", "distance"), MARGINS_AND_DISTANCES, ids=[d for _, d in MARGINS_AND_DISTANCES]
)
def test_offline_embeddings_that_are_nan_give_a_loss_that_is(run, margin, distance):
    labels, embeddings = batch_of("offline", "shuffled")
    embeddings = np.where(labels[:, None] == labels[0], np.float32(np.nan), embeddings)
    assert np.isnan(evaluate(run, "offline", labels, embeddings, margin, distance).loss)


@pytest.mark.parametrize("num_classes", [2, 10, 40])
@pytest.mark.parametrize(
    ("name", "margin", "distance"), [case for case in CASES if case[0] in SEARCHING]
)
def test_all_ways_agree(run, name, margin, distance, num_classes):
    labels, embeddings = RNG.integers(0, num_classes, 160), normal(160)
    one, *others = (evaluate(run, name, labels, embeddings, margin, distance, way) for way in WAYS)
    for other in others:
        assert one.loss == pytest.approx(other.loss, rel=1e-6)
        assert one.counts == other.counts
        scale = np.abs(one.gradient).max()
        np.testing.assert_allclose(one.gradient, other.gradient, rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize("name", TRIPLET_STRATEGIES)
def test_a_step_against_the_gradient_lowers_the_loss(run, name):
    labels, embeddings = batch_of(name, "shuffled")
    distance = reference.distances_of(name)[0]
    before, _, _, gradient = evaluate(run, name, labels, embeddings, distance=distance)
    step = (embeddings - 0.05 * gradient / np.linalg.norm(gradient)).astype(np.float32)
    after = evaluate(run, name, labels, step, distance=distance).triplets
    # Batch-all's mean is over a set that changes: compare the sums.
    assert after.loss_sum < before.loss_sum


def two_of_each_strategy(cases):
    """Two margins and distances for each strategy, in turn: of all strategies together, all."""
    names = list(dict.fromkeys(name for name, *_ in cases))
    for number, name in enumerate(names):
        own = [case for case in cases if case[0] == name]
        yield from {own[(number + 3 * i) % len(own)]: None for i in range(2)}


# With anchors, a strategy is another graph, and takes the distances of the same rectangle.
IN_BATCH = in_every_way(
    list(two_of_each_strategy([case for case in CASES if case[0] not in OFFLINE_STRATEGIES]))
)
# Of 30 candidates; each is an anchor once.
PARTS = np.split(RNG.permutation(30), [3, 4, 17])


STATE = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def _the_same_draws_whatever_ran_before():
    RNG.bit_generator.state = STATE


def assert_parts_are_the_whole(parts, gradients_of_sums, whole):
    total = TripletLoss(*map(sum, zip(*(part.triplets for part in parts), strict=True)))
    assert total.loss_sum == pytest.approx(whole.triplets.loss_sum, rel=1e-6)
    assert total[1:] == whole.counts
    assert whole.triplets.num_positive_triplets > 0
    error = np.linalg.norm(np.sum(gradients_of_sums, axis=0) - whole.gradient_of_sum)
    assert error <= 1e-6 * np.linalg.norm(whole.gradient_of_sum)


@pytest.mark.parametrize(("name", "margin", "distance", "way"), IN_BATCH)
def test_parts_of_the_anchors_add_up_to_the_whole(run, name, margin, distance, way):
    labels, embeddings = RNG.integers(0, 6, 30), normal(30)
    case = (run, name, labels, embeddings, margin, distance, way)
    parts = [evaluate(*case, anchors) for anchors in PARTS]
    assert_parts_are_the_whole(parts, [part.gradient_of_sum for part in parts], evaluate(*case))


@pytest.mark.parametrize(
    ("margin", "distance"), MARGINS_AND_DISTANCES, ids=[d for _, d in MARGINS_AND_DISTANCES]
)
def test_parts_of_offline_triplets_add_up_to_the_whole(run, margin, distance):
    examples = reference.as_batch_of("offline", RNG.integers(0, 6, 30))
    labels, embeddings = RNG.integers(0, 2, 30)[examples], normal(30)[examples]
    whole = evaluate(run, "offline", labels, embeddings, margin, distance)
    parts, gradients = [], []
    for some in PARTS:
        rows = np.concatenate([some, 30 + some, 60 + some])
        parts.append(evaluate(run, "offline", labels[rows], embeddings[rows], margin, distance))
        gradients.append(np.zeros_like(embeddings, np.float64))
        gradients[-1][rows] = parts[-1].gradient_of_sum
    assert_parts_are_the_whole(parts, gradients, whole)


@pytest.mark.parametrize(("name", "margin", "distance", "way"), IN_BATCH)
def test_some_anchors_agree_with_the_loop(run, name, margin, distance, way):
    """Candidates that are no anchors are positives and negatives, and get a gradient."""
    anchors = (5, 0, 11, 7)
    expected = expected_of(name, "shuffled", margin, distance, anchors)
    found = evaluate(run, name, *BATCHES["shuffled"], margin, distance, way, anchors)
    assert found.triplets.loss_sum == pytest.approx(
        expected.loss * expected.num_averaged_triplets, rel=1e-5
    )
    assert found.counts == tuple(expected[1:4])
    scale = np.abs(expected.gradient).max()
    np.testing.assert_allclose(found.gradient, expected.gradient, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize(("name", "margin", "distance", "way"), IN_BATCH)
def test_no_anchor_has_no_loss(run, name, margin, distance, way):
    no_anchors = np.zeros(0, np.int64)
    found = evaluate(run, name, *BATCHES["shuffled"], margin, distance, way, no_anchors)
    assert tuple(found.triplets) == (0, 0, 0, 0)
    assert (found.gradient == 0).all()


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
POINTS = on_a_line(0, 1, 3, 5)


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
    labels, points = np.array([0, 0, 1, 1]), on_a_line(0, 9, 1, 2)
    triplets, loss, _, _ = evaluate(run, "batch_semihard", labels, points, 1.0)
    # (0, 9): farthest negative 2, 9 - 2 + 1; (9, 0): farthest 1, 9 - 8 + 1;
    # (1, 2): 9 at distance 8, for 0 is as far as p: 0; (2, 1): 0 at distance 2: 1 - 2 + 1 = 0
    assert loss == pytest.approx((8 + 2 + 0 + 0) / 4)
    assert triplets.num_positive_triplets == 2


def test_offline_by_hand(run):
    """The triplets (0, 1, 3), (1, 0, 5), (3, 5, 1), and two rows that are none by their labels."""
    labels = np.array([0, 0, 1, 0, 0] + [0, 0, 1, 1, 0] + [1, 1, 0, 1, 0])
    points = on_a_line(*[0, 1, 3, 0, 0], *[1, 0, 5, 3, 1], *[3, 5, 1, 3, 1])
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
    labels, points = np.array([0, 0, 1]), on_a_line(0, 1, 1.5)
    # Anchor 0: 1 - 1.5 + 1; anchor 1: 1 - 0.5 + 1; anchor 2 has no positive.
    triplets, loss, _, gradient = evaluate(run, "batch_hard", labels, points, 1.0)
    assert loss == pytest.approx((0.5 + 1.5) / 2)
    assert triplets.num_valid_triplets == 2
    np.testing.assert_allclose(gradient[:, 0], [(-2 + 1) / 2, (2 + 1) / 2, (-1 - 1) / 2], rtol=1e-6)


def test_batch_hard_gradient_with_ties_lies_between_the_tied_examples(run):
    """Negatives at -1 and +1 are equally near: moving the anchor either way gains nothing."""
    labels, points = np.array([0, 0, 1, 1]), on_a_line(0, 0.5, 1, -1)
    gradient = evaluate(run, "batch_hard", labels, points, 1.0).gradient
    assert np.isfinite(gradient).all()
    assert abs(gradient.sum()) < 1e-6  # distances do not change when all points move alike


@pytest.mark.parametrize("squared", [False, True])
def test_the_well_known_names_are_faces_of_the_strategies(run, squared):
    labels, embeddings = BATCHES["shuffled"]
    (loss, fraction), hard_loss = run(
        lambda labels, x: (
            batch_all_triplet_loss(labels, x, 0.5, squared=squared),
            batch_hard_triplet_loss(labels, x, 0.5, squared=squared),
        ),
        labels,
        embeddings,
    )
    distance = "squared_euclidean" if squared else "euclidean"
    expected = expected_of("batch_all", "shuffled", 0.5, distance)
    assert loss == pytest.approx(expected.loss, rel=1e-5)
    valid = expected.num_valid_triplets
    assert fraction == pytest.approx(expected.num_positive_triplets / valid)
    assert hard_loss == pytest.approx(
        expected_of("batch_hard", "shuffled", 0.5, distance).loss, rel=1e-5
    )


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


@pytest.mark.parametrize("name", TRIPLET_STRATEGIES)
def test_defaults_are_those_of_the_keys_of_params(name):
    found = inspect.signature(look_up(TRIPLET_STRATEGIES, name)).parameters
    own = {key: found[key].default for key in found if key not in SHARED_ARGUMENTS}
    assert own == Params().arguments_of(name)
    assert ("seed" in found) == (name in RANDOM_STRATEGIES)


@pytest.mark.parametrize("margin", [-0.5, 0, np.nan, np.inf, "Soft", "soft"])
def test_margins_that_no_params_could_have_are_refused(margin):
    labels, embeddings = BATCHES["shuffled"]
    losses = [batch_all_triplet_loss, *([batch_hard_triplet_loss] if margin != "soft" else [])]
    for loss in losses:
        with pytest.raises(UserError, match=r"^margin: found .*; accepted: a number > 0"):
            loss(labels, embeddings, margin)


SHARED_ARGUMENTS = {"labels", "embeddings", "margin", "distance", "anchors", "seed"}

# Arguments other than the defaults, against the loop.
OTHERS = [
    ("easy_positive", "soft", {"negative": "hard", "temperature": 0.5}),
    ("easy_positive", 0.3, {"negative": "hard"}),
    ("multi_similarity", 1.0, {"alpha": 1.0, "beta": 10.0, "base": 1.0, "epsilon": 0.3}),
    ("multi_similarity", 1.0, {"epsilon": 0.0}),
    ("supervised_contrastive", 1.0, {"temperature": 1.0}),
    ("distance_weighted", 0.2, {"seed": (3, 2**40 + 1), "cutoff": 1.2, "farthest": 2.0}),
]


@pytest.mark.parametrize(("name", "margin", "arguments"), OTHERS)
def test_other_arguments_agree_with_the_loop(name, margin, arguments):
    labels, embeddings = BATCHES["shuffled"]
    given = {"margin": margin, "distance": "cosine", **arguments}
    expected = getattr(reference, name)(labels, embeddings, **given)
    x = tf.constant(embeddings)
    with tf.GradientTape() as tape:
        tape.watch(x)
        triplets = look_up(TRIPLET_STRATEGIES, name)(tf.constant(labels), x, **given)
        loss = triplets.loss
    assert float(loss) == pytest.approx(expected.loss, rel=1e-5)
    assert tuple(map(int, triplets[1:])) == expected[1:4]
    assert expected.num_positive_triplets > 0
    np.testing.assert_allclose(tape.gradient(loss, x), expected.gradient, rtol=1e-4, atol=1e-6)


EXTREMES = [
    ("easy_positive", "soft", {"temperature": 1e-3}),
    ("multi_similarity", 1.0, {"alpha": 1e3, "beta": 1e3}),
    ("multi_similarity", 1.0, {"alpha": 1e-3, "beta": 1e-3}),
    ("supervised_contrastive", 1.0, {"temperature": 1e-3}),
    ("distance_weighted", 0.2, {"cutoff": 1e-6, "farthest": 2.0}),
]


@pytest.mark.parametrize("batch", ["shuffled", "one example", "one class", "all embeddings zero"])
@pytest.mark.parametrize(("name", "margin", "arguments"), EXTREMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_nothing_overflows(dtype, name, margin, arguments, batch):
    """Also if a length does not fit into the dtype's square, or embeddings have one number."""
    labels, embeddings = BATCHES[batch]
    for x in (embeddings, embeddings[:, :1], embeddings * dtype(2e4)):
        x = tf.constant(x.astype(dtype))
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = look_up(TRIPLET_STRATEGIES, name)(
                tf.constant(labels), x, margin=margin, distance="cosine", **arguments
            ).loss
        assert np.isfinite(loss)
        assert np.isfinite(tape.gradient(loss, x)).all()


@pytest.mark.parametrize("count", [65_536, 65_600])
def test_batch_all_counts_more_triplets_of_an_anchor_than_int32_holds_twice(count):
    """Beside a memory. Two classes take turns, and each triplet is positive."""
    rng = np.random.default_rng(0)
    distances = rng.uniform(1, 1.3, (1, count)).astype(np.float32)
    same = np.arange(count)[None] % 2 == 0
    found = batch_all.sort(Rows(distances, same, np.array([0])), margin=0.5)
    num_positives, num_negatives = count // 2 - 1, count // 2
    assert found.num_positive_triplets == num_positives * num_negatives
    sums = distances[0].astype(float)
    expected = num_negatives * sums[2::2].sum() - num_positives * sums[1::2].sum()
    expected += 0.5 * num_positives * num_negatives
    assert found.loss_sum == pytest.approx(expected, rel=1e-9)


# At angles of 0, 60, 180 and 240 degrees: similarities 1/2 within a class, -1 of opposite points
# (of another class), and -1/2 of the others.
ANGLES = np.radians([0, 60, 180, 240])
ON_A_CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)


def by_hand(name, **arguments):
    return look_up(TRIPLET_STRATEGIES, name)(
        tf.constant(LABELS), tf.constant(ON_A_CIRCLE), distance="cosine", **arguments
    )


def test_supervised_contrastive_by_hand():
    exponentials = np.exp([0.5, -1, -0.5])
    found = by_hand("supervised_contrastive", margin=1.0, temperature=1.0)
    assert float(found.loss) == pytest.approx(-np.log(exponentials[0] / exponentials.sum()))
    assert list(map(int, found[1:])) == [4, 0, 4]


def test_multi_similarity_by_hand():
    # The hardest negative is at -1/2, the positive at 1/2: they are within 1.1 of each other, and
    # the other negative, at -1, is not.
    arguments = {"alpha": 2.0, "beta": 4.0, "base": 0.0}
    found = by_hand("multi_similarity", margin=1.0, epsilon=1.1, **arguments)
    expected = np.log(1 + np.exp(-2 * 0.5)) / 2 + np.log(1 + np.exp(4 * -0.5)) / 4
    assert float(found.loss) == pytest.approx(expected)
    assert list(map(int, found[1:])) == [4, 4, 4]
    assert tuple(map(float, by_hand("multi_similarity", margin=1.0, epsilon=0.9))) == (0, 4, 0, 4)


def test_where_all_is_equal_and_epsilon_is_0_multi_similarity_has_no_pair():
    """Its comparison is strict; that of supervised contrastive is not."""
    equal = tf.ones([4, 2])
    found = look_up(TRIPLET_STRATEGIES, "multi_similarity")(
        tf.constant(LABELS), equal, margin=1.0, distance="cosine", epsilon=0.0
    )
    assert tuple(map(float, found)) == (0, 4, 0, 4)
    found = look_up(TRIPLET_STRATEGIES, "supervised_contrastive")(
        tf.constant(LABELS), equal, margin=1.0, distance="cosine"
    )
    assert tuple(map(float, found)) == (pytest.approx(4 * np.log(3)), 4, 4, 4)


def test_easy_positive_by_hand(run):
    labels, points = np.array([0, 0, 0, 1, 1]), on_a_line(0, 2, 5, 1, 5.5)
    # a    p    semi-hard n   loss             nearest n   loss
    # 0    2    5.5           2 - 5.5 + 4      1           2 - 1 + 4
    # 2    0    5.5           2 - 3.5 + 4      1           2 - 1 + 4
    # 5    2    1             3 - 4 + 4        5.5         3 - 0.5 + 4
    # 1    5.5  none                           0           4.5 - 1 + 4; 2 is as near: a tie
    # 5.5  1    0             4.5 - 5.5 + 4    5           4.5 - 0.5 + 4
    found = evaluate(run, "easy_positive", labels, points, 4.0)
    assert found.loss == pytest.approx((0.5 + 2.5 + 3 + 3) / 4)
    assert found.counts == (4, 4, 4)
    with_hard = look_up(TRIPLET_STRATEGIES, "easy_positive")(
        tf.constant(labels), points, margin=4.0, distance="euclidean", negative="hard"
    )
    assert float(with_hard.loss) == pytest.approx((5 + 5 + 6.5 + 7.5 + 8) / 5)


def test_a_distance_weighted_draw_is_even_by_distance():
    """Negatives at two distances, one frequent and one rare on the sphere, are drawn by 1 / q."""
    angles = np.radians([0, 5, 50, 75])
    embeddings = np.zeros((4, 4), np.float32)
    embeddings[:, 0], embeddings[:, 1] = np.cos(angles), np.sin(angles)
    labels, r = np.array([0, 0, 1, 2]), 2 * np.sin(angles / 2)

    @tf.function
    def gradient(step):
        x = tf.constant(embeddings)
        loss = look_up(TRIPLET_STRATEGIES, "distance_weighted")(
            tf.constant(labels),
            x,
            margin=9.0,
            distance="euclidean",
            anchors=[0],
            seed=tf.stack([5, step]),
        ).loss
        return tf.gradients(loss, x)[0]

    drawn = [np.abs(gradient(tf.constant(step))[2:]).max(axis=1) > 0 for step in range(400)]
    assert (np.sum(drawn, axis=1) == 1).all()
    # q(r) = r^2 (1 - r^2 / 4)^(1/2) in 4 dimensions
    weights = 1 / (r[2:] ** 2 * np.sqrt(1 - r[2:] ** 2 / 4))
    np.testing.assert_allclose(np.mean(drawn, axis=0), weights / weights.sum(), atol=0.06)
