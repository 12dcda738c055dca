"""Finds the nearest of many embeddings, again and again: an exact index that stays in memory.

Squared distances are estimated in float32, by products of matrices. The error of an estimate has a
bound. Every embedding that this bound cannot rule out is a candidate, and the distances of all
candidates are computed in float64. So the result is exact.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

# Embeddings in a block: with 64 queries, the block's estimates take 1 MiB and stay in the cache.
_BLOCK_SIZE = 1 << 12

# Queries that are searched together.
_MAX_QUERIES = 64

_MAX_THREADS = 8

# With more candidates than this in a block, times K, only the nearest K of each query are kept. So
# equal embeddings do not fill the memory.
_MAX_CANDIDATES = 256

# The sample that gives the first bound: one embedding in this many, but not fewer than a block.
_SAMPLE_STEP = 16


class Index:
    """An exact index of embeddings by Euclidean distance. Searches may run in several threads."""

    def __init__(self, embeddings: NDArray[np.float32]) -> None:
        """Take the embeddings; they are copied only if they lie far from the origin.

        Args:
            embeddings: float32 [N, D], finite. They must not change afterwards.
        """
        self._embeddings = self._centred = np.ascontiguousarray(embeddings)
        self._origin = np.zeros(embeddings.shape[1], np.float32)
        self._squares = _squares(self._centred)
        if len(embeddings):
            mean = embeddings.mean(axis=0, dtype=np.float64)
            # Far from the origin, |q|^2 - 2 q.x + |x|^2 cancels, and little would be ruled out.
            if mean @ mean > 0.9 * self._squares.mean(dtype=np.float64):
                self._origin = mean.astype(np.float32)
                self._centred = self._embeddings - self._origin
                self._squares = _squares(self._centred)
        self._longest = float(np.sqrt(self._squares.max(initial=0)))
        self._sample_step = step = max(1, min(_SAMPLE_STEP, len(embeddings) // _BLOCK_SIZE))
        self._sample, self._sample_squares = self._centred[::step].copy(), self._squares[::step]
        self._blas = ThreadpoolController()

    def __len__(self) -> int:
        """Return the number of embeddings, N."""
        return len(self._embeddings)

    def search(
        self,
        queries: NDArray[np.float32],
        count: int,
        divisors: NDArray[np.float64] | None = None,
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Find each query's K nearest embeddings and their distances, nearest first.

        Args:
            queries: float32 [Q, D], finite.
            count: the desired K. If there are fewer embeddings, K is their number.
            divisors: float64 [N], >= 1: the distance to each embedding is divided by its own
                divisor, before distances are compared. None: by 1.

        Returns:
            Rows, int [Q, K], and Euclidean distances, float64 [Q, K], divided. In a tie, the first
            row comes first.
        """
        weights = None if divisors is None else _Weights(divisors, self._sample_step)
        count = min(count, len(self))
        rows = np.empty((len(queries), count), np.intp)
        distances = np.empty((len(queries), count))
        if count:
            # One BLAS thread per product: BLAS threads wait in busy loops and slow down ours.
            with self._blas.limit(limits=1, user_api="blas"):
                for start in range(0, len(queries), _MAX_QUERIES):
                    part = slice(start, start + _MAX_QUERIES)
                    self._search(queries[part], rows[part], distances[part], weights)
        return rows, distances

    def _search(
        self,
        queries: NDArray[np.float32],
        rows: NDArray[np.intp],
        distances: NDArray[np.float64],
        weights: "_Weights | None",
    ) -> None:
        """Write the nearest rows of some queries, and their distances."""
        count = rows.shape[1]
        centred = queries - self._origin
        left = -2 * centred
        squares = _squares(centred)
        norms = np.sqrt(squares.astype(np.float64))
        # A product of D terms in float32 errs by at most D u |q| |x| (Higham, Accuracy and
        # Stability of Numerical Algorithms, section 3.1); centring, the norm and the sum err too.
        unit = 2.0**-24
        slack = 2 * (len(self._origin) + 8) * unit * (norms + self._longest) ** 2
        # Dividing by at least 1 makes no error larger.
        limits = (self._upper_bounds(left, squares, count, weights) + 2 * slack).astype(np.float32)
        limits = np.nextafter(limits, np.float32(np.inf))

        def within(start: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
            block = slice(start, start + _BLOCK_SIZE)
            estimates = _estimates(left, self._centred[block], self._squares[block])
            if weights is not None:
                _weigh(estimates, squares, weights.all[block])
            query, row = np.nonzero(~(estimates > limits[:, None]))  # NaN: it overflowed, keep it
            row += start
            if len(row) <= _MAX_CANDIDATES * count:
                return query, row
            kept = [
                self._nearest(x, row[query == i], count, weights)[0] for i, x in enumerate(queries)
            ]
            return np.repeat(np.arange(len(queries)), [len(x) for x in kept]), np.concatenate(kept)

        blocks = range(0, len(self), _BLOCK_SIZE)
        found = _threads().map(within, blocks) if len(blocks) > 1 else map(within, blocks)
        of_query, candidates = (np.concatenate(parts) for parts in zip(*found, strict=True))
        for i, query in enumerate(queries):
            rows[i], distances[i] = self._nearest(query, candidates[of_query == i], count, weights)

    def _nearest(
        self,
        query: NDArray[np.float32],
        rows: NDArray[np.intp],
        count: int,
        weights: "_Weights | None",
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the nearest of some rows, ascending int [C], and their distances, as `search`."""
        difference = self._embeddings[rows].astype(np.float64) - query
        squared = np.einsum("cd,cd->c", difference, difference)
        if weights is not None:
            squared /= weights.divisors[rows] ** 2
        order = np.argsort(squared, kind="stable")[:count]
        return rows[order], np.sqrt(squared[order])

    def _upper_bounds(
        self,
        left: NDArray[np.float32],
        squares: NDArray[np.float32],
        count: int,
        weights: "_Weights | None",
    ) -> NDArray[np.float32]:
        """Return for each query an estimate that those of at least K embeddings do not exceed.

        It is the largest of the minima of K parts of a sample.
        """
        if count > len(self._sample):
            return np.full(len(left), np.inf, np.float32)
        estimates = _estimates(left, self._sample, self._sample_squares)
        if weights is not None:
            _weigh(estimates, squares, weights.of_sample)
        minima = [estimates[:, part::count].min(axis=1) for part in range(count)]
        largest: NDArray[np.float32] = np.max(minima, axis=0)
        return largest


class _Weights:
    """What estimates of squared distances are multiplied by.

    Attributes:
        divisors: float64 [N], of the distances.
        all: float32 [N], of the squared distances, inverted.
        of_sample: those of the sample.
    """

    def __init__(self, divisors: NDArray[np.float64], sample_step: int) -> None:
        """Invert the divisors."""
        self.divisors = divisors
        self.all = (divisors**-2.0).astype(np.float32)
        self.of_sample = self.all[::sample_step]


@cache
def _threads() -> ThreadPoolExecutor:
    """Return the threads of all searches."""
    return ThreadPoolExecutor(min(os.cpu_count() or 1, _MAX_THREADS), "search")


def _estimates(
    left: NDArray[np.float32], x: NDArray[np.float32], squares: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return |x|^2 - 2 q.x for the rows x and all queries q, float32 [Q, number of rows].

    Args:
        left: -2 q, float32 [Q, D].
        x: float32 [r, D].
        squares: |x|^2, float32 [r].
    """
    with np.errstate(over="ignore", invalid="ignore"):
        estimates: NDArray[np.float32] = left @ x.T
        estimates += squares
    return estimates


def _weigh(
    estimates: NDArray[np.float32], squares: NDArray[np.float32], weights: NDArray[np.float32]
) -> None:
    """Add |q|^2 to the estimates of each query, float32 [Q, r], and multiply by weights [r]."""
    with np.errstate(over="ignore", invalid="ignore"):
        estimates += squares[:, None]
        estimates *= weights


def _squares(x: NDArray[np.float32]) -> NDArray[np.float32]:
    squares: NDArray[np.float32] = np.einsum("nd,nd->n", x, x)
    return squares
