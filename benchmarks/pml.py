"""The losses of pytorch-metric-learning that equal this project's strategies."""

from typing import Any

import numpy as np


def loss_and_miner(strategy: str, margin: float) -> tuple[Any, Any]:
    """Return a loss and the miner that goes with it; None for no miner.

    Args:
        strategy: a key of TRIPLET_STRATEGIES, with its default arguments.
        margin: > 0. Distances are Euclidean; or cosine, if the strategy takes no other.
    """
    from pytorch_metric_learning import distances, losses, miners, reducers

    if strategy == "supervised_contrastive":
        return losses.SupConLoss(temperature=0.1), None
    if strategy == "multi_similarity":
        loss = losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5)
        return loss, miners.MultiSimilarityMiner(epsilon=0.1)
    distance = distances.LpDistance(p=2, normalize_embeddings=False)
    reducer = reducers.AvgNonZeroReducer() if strategy == "batch_all" else reducers.MeanReducer()
    loss = losses.TripletMarginLoss(margin=margin, distance=distance, reducer=reducer)
    if strategy == "batch_all":
        return loss, None
    if strategy == "batch_hard":
        return loss, miners.BatchHardMiner(distance=distance)
    if strategy == "easy_positive":
        return loss, miners.BatchEasyHardMiner("easy", "semihard", distance=distance)
    if strategy == "distance_weighted":
        return loss, draw_as_ours
    raise ValueError(f"pytorch-metric-learning has no {strategy}")


def draw_as_ours(embeddings: Any, labels: Any) -> tuple[Any, Any, Any]:
    """Return triplets drawn by the weights of `DistanceWeightedMiner`, with our random numbers.

    Args:
        embeddings: float32 tensor [B, D].
        labels: int64 tensor [B].

    Returns:
        The anchors, positives and negatives, int64 tensors [T].
    """
    import torch
    from pytorch_metric_learning import miners
    from pytorch_metric_learning.utils import loss_and_miner_utils

    found = {}
    original = loss_and_miner_utils.get_random_triplet_indices

    def keep_weights(labels: Any, ref_labels: Any, weights: Any) -> tuple[Any, Any, Any]:
        found["weights"] = weights
        return original(labels, ref_labels=ref_labels, weights=torch.nan_to_num(weights))

    loss_and_miner_utils.get_random_triplet_indices = keep_weights
    try:
        miners.DistanceWeightedMiner()(embeddings.detach(), labels)
    finally:
        loss_and_miner_utils.get_random_triplet_indices = original
    sums = np.cumsum(found["weights"].cpu().numpy().astype(np.float64), axis=1)
    same = labels[:, None] == labels
    same.fill_diagonal_(False)
    anchors, positives = (column.cpu().numpy() for column in torch.where(same))
    has_negative = sums[anchors, -1] > 0  # where there is none, weights are NaN
    anchors, positives = anchors[has_negative], positives[has_negative]
    draws = _uniform(anchors, positives) * sums[anchors, -1]
    negatives = (sums[anchors] > draws[:, None]).argmax(axis=1)
    device = embeddings.device
    return tuple(torch.from_numpy(x).to(device) for x in (anchors, positives, negatives))  # type: ignore[return-value]


def _uniform(rows: Any, columns: Any) -> Any:
    """Return the numbers of `uniform_by_pair` for seed and step 0, float64 [T]."""
    of_step = _mixed(_mixed(np.zeros(1, np.int64)))
    of_pairs = _mixed(of_step ^ rows) ^ _mixed(columns ^ 0x6A09E667)
    return _mixed(of_pairs) * 2.0**-32


def _mixed(values: Any) -> Any:
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        values = values ^ (values >> shift)
        values = (values * factor) & 0xFFFFFFFF
    return values ^ (values >> 15)
