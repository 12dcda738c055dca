"""The sampler that the params select, and a count of batches without a triplet."""

from itertools import islice

import numpy as np
from numpy.typing import NDArray

from src.data.sampling import BalancedBatches, MixedBatches, ShuffledBatches
from src.data.split import Split
from src.mining.triplets import TripletBatches
from src.params.schema import Params

Batches = ShuffledBatches | BalancedBatches | MixedBatches | TripletBatches


def training_batches(
    split: Split, params: Params, mined: NDArray[np.int32] | None = None
) -> Batches:
    """Return the sampler that `params` select: offline triplets, P x K, or shuffled batches.

    Args:
        split: the examples.
        params: `triplet_strategy`, `batch_size` or P x K, `extra_share`, `seed`.
        mined: offline triplets that every epoch uses; see `src.mining.triplets.TripletBatches`.
    """
    if params.is_offline:
        return TripletBatches(split.labels, params.batch_size, params.seed, mined)
    if params.classes_per_batch and params.examples_per_class:
        if split.num_extra and (extra_per_batch := params.extra_per_batch) is not None:
            return MixedBatches(
                split.labels,
                split.num_extra,
                params.classes_per_batch,
                extra_per_batch,
                params.examples_per_class,
                params.seed,
            )
        return BalancedBatches(
            split.labels, params.classes_per_batch, params.examples_per_class, params.seed
        )
    return ShuffledBatches(len(split), params.batch_size, params.seed)


def steps_without_triplet(batches: Batches, labels: NDArray[np.int32]) -> int:
    """Return the number of steps in the first epoch whose batch has no triplet.

    Args:
        batches: the sampler, of examples or of triplets.
        labels: int32 [N].
    """
    has_triplet = _has_valid_row if isinstance(batches, TripletBatches) else _has_pairs
    epoch = islice(batches.from_step(0), batches.steps_per_epoch)
    return sum(not has_triplet(labels[batch]) for batch in epoch)


def _has_pairs(labels: NDArray[np.int32]) -> bool:
    """Return whether a batch has two examples of one class and one example of another."""
    counts = np.unique(labels, return_counts=True)[1]
    return len(counts) > 1 and bool(counts.max() > 1)


def _has_valid_row(labels: NDArray[np.int32]) -> bool:
    """Return whether any of the batch's triplets, stacked in thirds, has valid labels."""
    anchors, positives, negatives = np.split(labels, 3)
    return bool(((anchors == positives) & (anchors != negatives)).any())
