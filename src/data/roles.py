"""Who searches whom in an evaluation: a split's own queries and gallery, and groups to exclude."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.data.split import Split
from src.params.schema import Params


class Roles(NamedTuple):
    """The roles of a split's N examples.

    Attributes:
        groups: int32 [N]. A query does not search the images of its class in its own group. None if
            groups do not matter.
        is_query: bool [N]; None if every example is a query.
        is_gallery: bool [N], the examples that are searched; None if all are.

    Source of excluding groups: the evaluation of Market-1501, in which images of the same person by
    the same camera are neither right nor wrong (L. Zheng et al., Scalable Person Re-identification:
    A Benchmark, ICCV 2015).
    """

    groups: NDArray[np.int32] | None = None
    is_query: NDArray[np.bool_] | None = None
    is_gallery: NDArray[np.bool_] | None = None

    def take(self, rows: NDArray[np.intp]) -> "Roles":
        """Return the roles of the examples `rows`, int [M], in that order."""
        return Roles(
            None if self.groups is None else self.groups[rows],
            None if self.is_query is None else self.is_query[rows],
            None if self.is_gallery is None else self.is_gallery[rows],
        )


def roles_of(split: Split, params: Params) -> Roles:
    """Return the roles in an evaluation of a split.

    Args:
        split: with `groups` if `exclude_same_group` is true.
        params: uses `exclude_same_group`.
    """
    groups = split.groups if params.exclude_same_group else None
    if split.is_query is None or not split.is_query.any():
        return Roles(groups)
    return Roles(groups, split.is_query, split.is_gallery)


def rows_of(flags: NDArray[np.bool_] | None, size: int) -> NDArray[np.intp]:
    """Return the positions of the examples with a role, int [<= N]; all N if `flags` is None."""
    return np.arange(size) if flags is None else np.flatnonzero(flags)


def parts_of(
    labels: NDArray[np.int32], groups: NDArray[np.int32], *others: NDArray[np.int32]
) -> tuple[NDArray[np.intp], ...]:
    """Return a number for each pair of class and group, from 0 on.

    Args:
        labels: int32 [N].
        groups: int32 [N].
        others: further labels and groups, in turn, which get the same numbers.

    Returns:
        int [N], and one such array for each further pair.
    """
    of_labels, of_groups = (labels, *others[::2]), (groups, *others[1::2])
    pairs = np.stack([np.concatenate(of_labels), np.concatenate(of_groups)])
    numbers = np.unique(pairs, axis=1, return_inverse=True)[1].ravel()
    return tuple(np.split(numbers, np.cumsum([len(part) for part in of_labels])[:-1]))


def num_answers(labels: NDArray[np.int32], roles: Roles) -> NDArray[np.intp]:
    """Return for each query of a split how many right answers it can find there, int [Q].

    Args:
        labels: int32 [N].
        roles: of the N examples.
    """
    queries, gallery = (rows_of(flags, len(labels)) for flags in roles[1:])
    same_class = counts_of(labels[queries], labels[gallery])
    if roles.groups is None:
        return same_class - np.isin(queries, gallery)
    (parts,) = parts_of(labels, roles.groups)
    return same_class - counts_of(parts[queries], parts[gallery])


def counts_of(
    wanted: NDArray[np.integer[Any]], values: NDArray[np.integer[Any]]
) -> NDArray[np.intp]:
    """Return how often each of `wanted`, [Q], is among `values`, [G]: int [Q]."""
    found, sizes = np.unique(values, return_counts=True)
    if not len(found):
        return np.zeros(len(wanted), np.intp)
    at = np.minimum(np.searchsorted(found, wanted), len(found) - 1)
    return np.where(found[at] == wanted, sizes[at], 0)
