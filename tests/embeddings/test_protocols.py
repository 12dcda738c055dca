"""Who searches whom: groups, queries and galleries of a split's own, unseen among known classes."""

import itertools

import numpy as np
import pytest

from src.data.roles import Roles, num_answers, parts_of
from src.embeddings import metrics
from src.embeddings.metrics import (
    Embedded,
    known_queries,
    metrics_against_gallery,
    metrics_among_known,
    metrics_of_gallery,
    metrics_within,
    query_indices,
    search_within,
)
from src.embeddings.thresholds import counted_pairs
from src.params.metric_names import AGAINST_GALLERY, AMONG_KNOWN, AMONG_KNOWN_COUNTS, RETRIEVAL


def embedded(size, seed=0, *, ties=False, num_classes=5, first=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=size).astype(np.int32)
    points = np.random.default_rng(1).normal(size=(num_classes, 4))[labels]
    points += rng.normal(size=(size, 4))
    return Embedded((np.round(points) if ties else points).astype(np.float32), labels + first)


def roles_for(size, seed, kind):
    rng = np.random.default_rng(seed)
    groups = rng.integers(6, size=size).astype(np.int32) if "groups" in kind else None
    if "own" not in kind:
        return Roles(groups)
    is_query = rng.random(size) < 0.3
    is_gallery = ~is_query if "apart" in kind else rng.random(size) < 0.7
    is_gallery[~is_query] = True  # nothing has neither role
    return Roles(groups, is_query, is_gallery)


KINDS = ("all", "groups", "own apart", "own", "own groups")


def searched_by(split, roles, gallery, gallery_roles, *, is_same):
    """For each query, what it searches: the definition, example by example."""
    flags = roles.is_query if roles.is_query is not None else np.ones(len(split.labels), bool)
    found = {}
    for q in np.flatnonzero(flags).tolist():
        found[q] = []
        for g in range(len(gallery.labels)):
            is_junk = (
                roles.groups is not None
                and gallery.labels[g] == split.labels[q]
                and gallery_roles.groups[g] == roles.groups[q]
            )
            is_there = not is_same or roles.is_gallery is None or roles.is_gallery[g]
            if is_there and not is_junk and not (is_same and g == q):
                found[q].append(g)
    return found


def loops(split, gallery, searched):
    """The retrieval metrics from their definitions; a query without a right answer does not count.

    Its rank, too, is found among what it searches, the first of equally near ones first.
    """
    rows = []
    for q, others in searched.items():
        query = split.embeddings[q].astype(np.float64)
        distances = {g: np.sum((gallery.embeddings[g] - query) ** 2) for g in others}
        ranked = sorted(others, key=lambda g: (distances[g], g))
        labels = [gallery.labels[g] for g in ranked]
        matches = [label == split.labels[q] for label in labels]
        if not any(matches):
            continue
        r = sum(matches)
        precision = [sum(matches[: k + 1]) / (k + 1) for k in range(r)]
        of_class = {
            label: np.mean([gallery.embeddings[g] for g in others if gallery.labels[g] == label], 0)
            for label in sorted(set(labels))
        }
        by_mean = min(of_class, key=lambda c: np.sum((of_class[c] - query) ** 2))
        rows.append(
            {
                "map_at_r": sum(p * m for p, m in zip(precision, matches, strict=False)) / r,
                "r_precision": precision[-1],
                "precision_at_1": matches[0],
                **{f"recall_at_{k}": any(matches[:k]) for k in (1, 2, 4, 8)},
                "knn_accuracy": max(labels[:5], key=labels[:5].count) == split.labels[q],
                "class_mean_accuracy": by_mean == split.labels[q],
            }
        )
    found = {n: float(np.mean([row[n] for row in rows])) for n in AGAINST_GALLERY if rows}
    return {**found, "num_queries": len(rows)}


def check(found, expected, suffix="", without=()):
    for name, value in expected.items():
        if name not in without:
            assert found[name + suffix] == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("seed", "ties"), list(itertools.product(range(3), [False, True])))
def test_within(kind, seed, ties):
    split, roles = embedded(60, seed, ties=ties), roles_for(60, seed, kind)
    searched = searched_by(split, roles, split, roles, is_same=True)
    found = metrics_within(split, roles)[0]
    check(found, loops(split, split, searched), "_within", {"class_mean_accuracy"})
    pairs = [(split.labels[q] == split.labels[g]) for q, others in searched.items() for g in others]
    assert found["num_positive_pairs"] == sum(pairs)
    assert found["num_negative_pairs"] == len(pairs) - sum(pairs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_against_a_gallery(kind, seed):
    split, gallery = embedded(40, seed), embedded(70, seed + 9)
    roles, of_gallery = roles_for(40, seed, kind), roles_for(70, seed, kind.replace("own", ""))
    searched = searched_by(split, roles, gallery, of_gallery, is_same=False)
    found = metrics_against_gallery(split, gallery, roles, of_gallery)[0]
    check(found, loops(split, gallery, searched))


@pytest.mark.parametrize("kind", ["all", "groups"])
@pytest.mark.parametrize("seed", range(3))
def test_a_gallery_against_itself(kind, seed):
    split, roles = embedded(60, seed), roles_for(60, seed, kind)
    ranking = metrics_within(split, roles)[1]
    searched = searched_by(split, roles, split, roles, is_same=True)
    check(metrics_of_gallery(split, ranking, roles)[0], loops(split, split, searched))


@pytest.mark.parametrize("kind", ["all", "groups"])
def test_unseen_among_known(kind):
    unseen, known = embedded(40, 1, num_classes=3, first=5), embedded(50, 2)
    roles = roles_for(40, 1, kind)
    whole = Embedded(*(np.concatenate(both) for both in zip(unseen, known, strict=True)))
    groups = None if roles.groups is None else np.r_[roles.groups, np.full(50, 3, np.int32)]
    searched = searched_by(whole, Roles(groups), whole, Roles(groups), is_same=True)
    searched = {q: others for q, others in searched.items() if q < 40}
    found = metrics_among_known(unseen, known, roles)
    check(found, loops(whole, whole, searched), "_among_known", {"class_mean_accuracy"})
    assert set(found) == {*AMONG_KNOWN, *AMONG_KNOWN_COUNTS} and found["num_known_among"] == 50
    alone = metrics_within(unseen, roles)[0]
    for name in RETRIEVAL:  # distractors never help
        assert found[f"{name}_among_known"] <= alone[f"{name}_within"]
    assert found["num_queries_among_known"] == alone["num_queries_within"]


def test_by_hand():
    # On a line: the query 0 of class 0 at 0; of its own group at 1; another of its class at 4.
    points = np.array([[0], [1], [2], [4], [9]], np.float32)
    split = Embedded(points, np.int32([0, 0, 1, 0, 1]))
    roles = Roles(np.int32([5, 5, 5, 6, 7]), np.array([True, False, False, False, False]))
    found = metrics_within(split, roles)[0]
    # It searches class 1 at 2, class 0 at 4, class 1 at 9: R is 1, and its answer has rank 2.
    assert found["num_queries_within"] == 1
    assert (found["recall_at_1_within"], found["recall_at_2_within"]) == (0, 1)
    assert found["map_at_r_within"] == 0 and found["roc_auc"] == 0.5
    alone = metrics_within(split, Roles(None, roles.is_query))[0]
    assert alone["recall_at_1_within"] == 1 and alone["map_at_r_within"] == 1 / 2


def test_a_query_without_a_valid_answer_does_not_count():
    split = Embedded(np.float32([[0], [0], [5], [6]]), np.int32([0, 0, 1, 1]))
    found = metrics_within(split, Roles(np.int32([1, 1, 2, 3])))[0]
    assert found["num_queries_within"] == 2 and found["map_at_r_within"] == 1
    found = metrics_within(split, Roles(np.int32([1, 1, 2, 2])))[0]
    assert found["num_queries_within"] == 0 and found["map_at_r_within"] is None


def test_a_query_that_searches_nothing():
    split = Embedded(np.float32([[0], [0]]), np.int32([0, 0]))
    ranking = metrics_within(split, Roles(np.int32([1, 1])))[1]
    assert ranking.voted_label.tolist() == [-1, -1] and ranking.num_positives.tolist() == [0, 0]


def test_groups_of_one_image_change_nothing():
    split = embedded(80, 3)
    plain, grouped = (
        metrics_within(split, Roles(groups))[0] for groups in (None, np.arange(80, dtype=np.int32))
    )
    assert plain == grouped


@pytest.mark.parametrize("kind", KINDS)
def test_how_many_answers(kind):
    split, roles = embedded(60, 4), roles_for(60, 4, kind)
    searched = searched_by(split, roles, split, roles, is_same=True)
    expected = [
        sum(split.labels[g] == split.labels[q] for g in others) for q, others in searched.items()
    ]
    assert num_answers(split.labels, roles).tolist() == expected


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("kind", KINDS)
def test_pairs_of_thresholds(kind, distance):
    split, roles = embedded(60, 5), roles_for(60, 5, kind)
    search = search_within(split.labels, roles)
    found = counted_pairs(*split, search.asking, distance, search=search)
    searched = searched_by(split, roles, split, roles, is_same=True)
    pairs = [(split.labels[q] == split.labels[g]) for q, others in searched.items() for g in others]
    assert (found.counts.positive.sum(), found.counts.negative.sum()) == (
        sum(pairs),
        len(pairs) - sum(pairs),
    )


def test_own_queries_are_sampled(monkeypatch):
    monkeypatch.setattr(metrics, "MAX_QUERIES", 10)
    split, roles = embedded(60, 6), roles_for(60, 6, "own")
    asking = query_indices(split.labels, roles)
    assert len(asking) == 10 and roles.is_query[asking].all()


def test_queries_of_the_open_set():
    train, test = embedded(30, 7), embedded(20, 8)
    of_train, of_test = roles_for(30, 1, "groups"), roles_for(20, 2, "own groups")
    splits = {"train": train, "validation": train, "test": test}
    roles = {"train": of_train, "validation": Roles(of_train.groups), "test": of_test}
    found = known_queries(splits, roles)
    assert found["train"] is train and len(found["validation"].labels) == 0
    kept = [
        row
        for row in range(20)
        if of_test.is_query[row]
        and not any(
            train.labels[g] == test.labels[row] and of_train.groups[g] == of_test.groups[row]
            for g in range(30)
        )
    ]
    np.testing.assert_array_equal(found["test"].embeddings, test.embeddings[kept])
    roles = {name: Roles() for name in splits}
    assert known_queries(splits, roles) == splits


def test_parts_are_pairs_of_class_and_group():
    labels, groups = np.int32([0, 0, 1, 1]), np.int32([2, 3, 2, 2])
    one, other = parts_of(labels, groups, np.int32([1, 0, 0]), np.int32([2, 3, 9]))
    assert len(set(one.tolist())) == 3 and one[2] == one[3] == other[0] and other[1] == one[1]
    assert other[2] not in one
