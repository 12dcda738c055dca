"""How far a query is from a class of any size.

The distance to a class is the mean distance to its nearest pictures: a quarter of them, at most 5.
A class of few pictures is sparse: another picture of it lies farther from these than in a class of
thousands. How much farther, is measured: `measure_factors` leaves out pictures of known classes.
The distance to a class is divided by the factor of its size.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from src.seeds import stream

_MAX_COMPARED = 5
_SHARE_COMPARED = 4  # one picture in this many

_MAX_MEASURED = 2_000  # queries from which the factors are measured
_MIN_CLASSES = 2  # one class says nothing about others

Factors = Mapping[str, float]
"""The factor of a class by its number of pictures, a decimal number; None: all factors are 1."""


def num_compared(size: int) -> int:
    """Return to how many of its nearest pictures the distance to a class of `size` >= 1 is."""
    return min(_MAX_COMPARED, -(-size // _SHARE_COMPARED))


def mean_of_nearest(distances: NDArray[np.floating]) -> float:
    """Return the distance to a class, given those to all its pictures, [n], n >= 1."""
    count = num_compared(len(distances))
    return float(np.partition(distances, count - 1)[:count].mean(dtype=np.float64))


def factors_of(sizes: NDArray[np.intp], factors: Factors | None) -> NDArray[np.float64]:
    """Return the factors of classes, float64 [C], >= 1.

    Between two sizes that were measured, the logarithm of the factor is linear in that of the size.

    Args:
        sizes: int [C], numbers of pictures, >= 1.
        factors: of `measure_factors`.
    """
    if factors is None:
        return np.ones(len(sizes))
    known = sorted((int(size), factor) for size, factor in factors.items())
    at, values = np.log(np.array(known, np.float64)).T
    found: NDArray[np.float64] = np.exp(np.interp(np.log(sizes), at, values))
    return found


def measured_rows(labels: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return the queries to measure factors with, spread evenly over at most 2 000."""
    count = min(len(labels), _MAX_MEASURED)
    return np.linspace(0, len(labels) - 1, count).astype(np.intp) if count else np.arange(0)


def measure_factors(
    labels: NDArray[np.int32], to_classes: Iterable[NDArray[np.float64]]
) -> tuple[dict[str, float] | None, str | None]:
    """Measure how much farther a query is from few pictures of its class than from all of them.

    The factor of n pictures is the median, over queries, of the distance to n random pictures of
    their class, relative to the distance to all of it. It does not grow with n, and it is 1 from
    the usual size of a class on.

    Args:
        labels: int32 [Q], the classes of the queries.
        to_classes: for each query the distances to all pictures of its class, float64 [n], always
            in the same order; in the unit of the experiment. Not read if labels are too few.

    Returns:
        Factors by number of pictures, or None; and then the reason why there are none.
    """
    num_classes = len(np.unique(labels))
    if num_classes < _MIN_CLASSES:
        return None, (
            f"found {num_classes} of the validation split's classes in the gallery; accepted: at "
            f"least {_MIN_CLASSES}"
        )
    ratios: dict[int, list[float]] = {}
    sizes = []
    for position, distances in enumerate(to_classes):
        size, to_all = len(distances), mean_of_nearest(distances)
        if not 0 < to_all < np.inf:
            continue
        sizes.append(size)
        # A random order of the class; each query begins elsewhere in it.
        order = stream("pictures of a class", 0, size).permutation(size)
        shuffled = distances[np.roll(order, -position * 7919 % size)]
        for few in _sizes_below(size):
            ratios.setdefault(few, []).append(mean_of_nearest(shuffled[:few]) / to_all)
    if not sizes:
        return None, "no validation image has a distance to its class that is not 0"
    usual = int(np.median(sizes))
    factors = {usual: 1.0}
    for few in reversed(_sizes_below(usual)):
        factors[few] = max(float(np.median(ratios[few])), *factors.values())
    return {str(size): factors[size] for size in sorted(factors)}, None


def _sizes_below(size: int) -> list[int]:
    """Return 1, 2, 5, 10, 20, 50, ... below a size."""
    powers = range(len(str(size)))
    return [few * 10**power for power in powers for few in (1, 2, 5) if few * 10**power < size]
