"""Offline triplets against their definitions: which are drawn, which are mined, which are kept."""

from itertools import islice

import numpy as np
import pytest
from reference import DISTANCES, distance

from src.errors import UserError
from src.mining.triplets import (
    POOL_SIZES,
    TripletBatches,
    TripletsLost,
    load_triplets,
    mine_triplets,
    random_triplets,
    save_triplets,
)

# Neither sorted nor from 0; classes of 40, 30, 20 and 10
LABELS = np.random.default_rng(0).permutation(np.repeat([7, 2, 30, 4], [40, 30, 20, 10]))
LABELS = LABELS.astype(np.int32)


def draw(labels, seed=0):
    return random_triplets(np.asarray(labels, np.int32), np.random.default_rng(seed))


def taken(batches, step, count):
    return [batch.tolist() for batch in islice(batches.from_step(step), count)]


def thirds(batch):
    assert len(batch) % 3 == 0
    return np.reshape(batch, (3, -1))


class TestRandomTriplets:
    def test_each_example_is_an_anchor_with_a_positive_and_a_negative(self):
        triplets = draw(LABELS)
        assert triplets.dtype == np.int32
        anchors, positives, negatives = triplets.T
        np.testing.assert_array_equal(anchors, np.arange(100))
        assert (positives != anchors).all()
        np.testing.assert_array_equal(LABELS[positives], LABELS[anchors])
        assert (LABELS[negatives] != LABELS[anchors]).all()

    def test_all_positives_and_all_negatives_are_equally_likely(self):
        labels = np.array([1, 0, 1, 2, 0, 1, 1])
        rng = np.random.default_rng(0)
        counts = np.zeros((2, 7, 7))
        for _ in range(6000):
            for a, p, n in random_triplets(labels.astype(np.int32), rng):
                counts[0, a, p] += 1
                counts[1, a, n] += 1
        same = (labels[:, None] == labels) & ~np.eye(7, dtype=bool)
        other = labels[:, None] != labels
        same[3] = other[3]  # the only one of its class has its negative in the positive's place
        for count, allowed in zip(counts, (same, other), strict=True):
            expected = 6000 * allowed / allowed.sum(axis=1, keepdims=True)
            assert (count[~allowed] == 0).all()
            # 5 standard deviations of a binomial count
            assert (np.abs(count - expected) <= 5 * np.sqrt(expected)).all()

    def test_rows_that_can_be_no_triplet_are_none_by_their_labels(self):
        for labels in ([5], [5, 5, 5], [1, 2, 3], [1, 1, 2]):
            labels = np.array(labels)
            anchors, positives, negatives = labels[draw(labels).T]
            is_triplet = (anchors == positives) & (anchors != negatives)
            could_be = [(labels == a).sum() > 1 and (labels != a).any() for a in labels]
            np.testing.assert_array_equal(is_triplet, could_be)


class TestTripletBatches:
    def test_an_epoch_has_each_example_once_as_an_anchor(self):
        batches = TripletBatches(LABELS, 32, seed=0)
        assert batches.steps_per_epoch == 4
        for epoch in range(3):
            epoch = taken(batches, 4 * epoch, 4)
            assert [len(batch) for batch in epoch] == [96, 96, 96, 12]
            anchors, positives, negatives = np.hstack([thirds(batch) for batch in epoch])
            assert sorted(anchors) == list(range(100))
            assert (anchors != positives).all()
            assert (LABELS[anchors] == LABELS[positives]).all()
            assert (LABELS[anchors] != LABELS[negatives]).all()

    def test_triplets_and_order_differ_between_epochs_and_seeds(self):
        batches = [
            tuple(taken(TripletBatches(LABELS, 100, seed), epoch, 1)[0])
            for seed in range(3)
            for epoch in range(3)
        ]
        assert len({batch[:100] for batch in batches}) == 9
        by_anchor = set()
        for batch in batches:
            anchors, positives, negatives = thirds(batch)
            order = np.argsort(anchors)
            by_anchor.add((*positives[order], *negatives[order]))
        assert len(by_anchor) == 9

    @pytest.mark.parametrize("is_mined", [False, True])
    def test_going_on_from_a_step_gives_the_batches_that_would_have_come(self, is_mined):
        mined = draw(LABELS, seed=9) if is_mined else None
        whole = taken(TripletBatches(LABELS, 32, 3, mined), 0, 14)
        for step in range(14):
            assert taken(TripletBatches(LABELS, 32, 3, mined), step, 14 - step) == whole[step:]

    def test_mined_triplets_hold_in_every_epoch_in_a_new_order(self):
        mined = draw(LABELS, seed=9)
        batches = TripletBatches(LABELS, 32, 3, mined)
        orders = set()
        for epoch in range(3):
            rows = np.hstack([thirds(batch) for batch in taken(batches, 4 * epoch, 4)]).T
            orders.add(tuple(rows[:, 0]))
            np.testing.assert_array_equal(rows[np.argsort(rows[:, 0])], mined)
        assert len(orders) == 3

    def test_examples_before_counts_anchors(self):
        batches = TripletBatches(LABELS, 32, seed=0)
        lengths = [len(batch) // 3 for batch in taken(batches, 0, 10)]
        assert [batches.examples_before(step) for step in range(10)] == [
            sum(lengths[:step]) for step in range(10)
        ]

    def test_one_epoch_is_the_first_and_ends(self):
        batches = TripletBatches(LABELS, 32, seed=0)
        for _ in range(2):
            assert [batch.tolist() for batch in batches.one_epoch()] == taken(batches, 0, 4)


def embeddings_of(size, seed=0):
    return np.random.default_rng(seed).normal(size=(size, 5)).astype(np.float32)


@pytest.mark.parametrize("name", DISTANCES)
class TestMining:
    """In one pool, so that the definition can be written down as a loop."""

    @pytest.fixture(autouse=True)
    def one_pool(self, monkeypatch):
        monkeypatch.setitem(POOL_SIZES, "hard", 100)

    def mined(self, mining, name, labels=LABELS, x=None):
        x = embeddings_of(len(labels)) if x is None else x
        labels = np.asarray(labels, np.int32)
        triplets = mine_triplets(mining, labels, x, distance=name, seed=[0, 1])
        d = [[distance(u, v, name) for v in x.astype(float)] for u in x.astype(float)]
        assert triplets.dtype == np.int32
        np.testing.assert_array_equal(triplets[:, 0], np.arange(len(labels)))
        return triplets, np.array(d)

    def test_hard(self, name):
        triplets, d = self.mined("hard", name)
        for a, p, n in triplets:
            positives = [i for i in range(100) if LABELS[i] == LABELS[a] and i != a]
            negatives = [i for i in range(100) if LABELS[i] != LABELS[a]]
            assert p == max(positives, key=lambda i: d[a, i])
            assert n == min(negatives, key=lambda i: d[a, i])

    def test_semihard(self, name):
        # Two classes apart in one dimension, so that for some no negative is farther than p
        x = embeddings_of(100)
        x[LABELS == 4] *= 4
        triplets, d = self.mined("semihard", name, x=x)
        found = set()
        for a, p, n in triplets:
            assert p != a and LABELS[p] == LABELS[a]
            negatives = [i for i in range(100) if LABELS[i] != LABELS[a]]
            farther = [i for i in negatives if d[a, i] > d[a, p]]
            if farther:
                assert n == min(farther, key=lambda i: d[a, i])
            else:
                assert n == max(negatives, key=lambda i: d[a, i])
            found.add(bool(farther))
        assert found == {True, False} or name == "cosine"
        # The positive is drawn: not always the nearest, nor always the farthest.
        ranks = [(d[a, LABELS[a] == LABELS] < d[a, p]).mean() for a, p, _ in triplets]
        assert 0.35 < np.mean(ranks) < 0.65

    @pytest.mark.parametrize("mining", ["hard", "semihard"])
    def test_rows_that_can_be_no_triplet_are_none_by_their_labels(self, name, mining):
        for labels in ([5], [5, 5, 5], [1, 2, 3], [1, 1, 2]):
            triplets, _ = self.mined(mining, name, labels)
            labels = np.array(labels)
            anchors, positives, negatives = labels[triplets.T]
            is_triplet = (anchors == positives) & (anchors != negatives)
            could_be = [(labels == a).sum() > 1 and (labels != a).any() for a in labels]
            np.testing.assert_array_equal(is_triplet, could_be)

    def test_a_negative_as_far_as_the_positive_is_not_farther(self, name):
        """Each vector is there four times, twice in each of two classes."""
        x = np.repeat(embeddings_of(40), 4, axis=0)
        labels = np.tile(np.array([0, 0, 1, 1], np.int32), 40)
        triplets, d = self.mined("semihard", name, labels, x)
        vector = np.arange(160) // 4
        for a, p, n in triplets:
            farther = d[a, (labels != labels[a]) & (d[a] > d[a, p] + 1e-9)]
            if len(farther):
                assert vector[n] != vector[p] and d[a, n] == pytest.approx(farther.min())

    @pytest.mark.parametrize("mining", ["hard", "semihard"])
    def test_equal_embeddings(self, name, mining):
        triplets, _ = self.mined(mining, name, x=np.full((100, 5), 0.3, np.float32))
        anchors, positives, negatives = triplets.T
        assert (anchors != positives).all()
        assert (LABELS[anchors] == LABELS[positives]).all()
        assert (LABELS[anchors] != LABELS[negatives]).all()


@pytest.mark.parametrize("mining", ["hard", "semihard"])
class TestPools:
    """Of a split that is larger than a pool."""

    size = 5 * max(POOL_SIZES.values()) + 3
    labels = (np.arange(size) ** 2 % 7 % 4).astype(np.int32)

    def mined(self, mining, seed, x=None):
        x = embeddings_of(self.size) if x is None else x
        return mine_triplets(mining, self.labels, x, distance="euclidean", seed=[seed])

    def test_are_a_function_of_the_seed(self, mining):
        np.testing.assert_array_equal(self.mined(mining, 0), self.mined(mining, 0))
        assert (self.mined(mining, 0) != self.mined(mining, 1)).any(axis=1).mean() > 0.9

    def test_hold_other_images_than_the_anchors_neighbours(self, mining):
        """The pools are dealt at random: no part of the split is its own pool."""
        triplets = self.mined(mining, 0)
        for column in (1, 2):
            apart = np.abs(triplets[:, column] - triplets[:, 0])
            assert np.median(apart) > self.size / 5

    def test_triplets_are_harder_than_random_ones(self, mining):
        # Classes apart by about the spread within one
        x = embeddings_of(self.size) + self.labels[:, None]
        d = lambda i, j: np.linalg.norm(x[i] - x[j], axis=1)  # noqa: E731
        a, p, n = self.mined(mining, 0, x.astype(np.float32)).T
        mined_gap = d(a, n) - d(a, p)
        a, p, n = random_triplets(self.labels, np.random.default_rng(0)).T
        random_gap = d(a, n) - d(a, p)
        assert (self.labels[a] == self.labels[p]).all()
        if mining == "hard":
            assert (mined_gap < 0).mean() > 0.9 > (random_gap < 0).mean()
        else:  # semi-hard: just farther than the positive, where one is
            assert np.median(np.abs(mined_gap)) < np.median(np.abs(random_gap)) / 5
            assert (mined_gap > 0).mean() > 0.8


class TestFile:
    def test_round_trip(self, tmp_path):
        triplets = draw(LABELS)
        save_triplets(tmp_path / "triplets-7.npy", triplets)
        read = load_triplets(tmp_path / "triplets-7.npy", 100)
        assert read.dtype == np.int32
        np.testing.assert_array_equal(read, triplets)

    def test_is_a_npy_file(self, tmp_path):
        triplets = draw(LABELS)
        save_triplets(tmp_path / "triplets-7.npy", triplets)
        np.testing.assert_array_equal(np.load(tmp_path / "triplets-7.npy"), triplets)

    def message(self, path, error):
        with pytest.raises(UserError) as caught:
            load_triplets(path, 100)
        assert type(caught.value) is error
        text = str(caught.value)
        found, accepted = text.removeprefix(f"{path}: ").split("; accepted: ")
        assert accepted == (
            "the triplets that train.py mined there; put the file back, or start afresh with "
            "--overwrite"
        )
        return found

    def test_no_flipped_bit_and_no_cut_goes_unseen(self, tmp_path):
        """Other triplets would train."""
        path = tmp_path / "triplets-7.npy"
        save_triplets(path, draw(LABELS))
        whole = path.read_bytes()
        for position in range(len(whole)):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << position % 8
            path.write_bytes(flipped)
            assert self.message(path, TripletsLost) == "damaged"
        for size in (0, 1, 64, 128, len(whole) - 64, len(whole) - 1):
            path.write_bytes(whole[:size])
            assert self.message(path, TripletsLost) == "damaged"

    @pytest.mark.parametrize("content", [None, draw(LABELS), np.array([[None] * 3] * 100)])
    def test_without_a_checksum(self, tmp_path, content):
        path = tmp_path / "triplets-7.npy"
        if content is not None:
            np.save(path, content, allow_pickle=True)
        found = "missing" if content is None else "damaged"
        assert self.message(path, TripletsLost) == found

    @pytest.mark.parametrize(
        "triplets",
        [
            np.zeros((100, 2), np.int32),
            np.zeros((99, 3), np.int32),
            np.zeros((100, 3), np.float32),
            np.full((100, 3), 100, np.int32),
            np.full((100, 3), -1, np.int32),
        ],
    )
    def test_those_of_another_split_are_refused(self, tmp_path, triplets):
        path = tmp_path / "triplets-7.npy"
        save_triplets(path, triplets)
        assert self.message(path, UserError) == "not triplets of 100 images"

    def test_a_directory_is_refused(self, tmp_path):
        with pytest.raises(UserError, match="triplets-7.npy: a directory; accepted: a regular"):
            (tmp_path / "triplets-7.npy").mkdir()
            load_triplets(tmp_path / "triplets-7.npy", 100)
