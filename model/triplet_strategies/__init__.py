"""The triplet strategies, a file each: which triplets of a batch count; see src/registry.py.

Each is a pure function `(labels, embeddings, *, margin, distance) -> TripletLoss`:

- labels: integer [B] or [B, 1]; embeddings: float32 [B, D], not necessarily of length 1. Those of
  src.registry.OFFLINE_STRATEGIES take T triplets for a batch: B is 3T, anchors first, then
  positives, then negatives.
- margin: > 0, in units of the distance, or "soft" (src.registry.SOFT_MARGIN_STRATEGIES); distance:
  see `src.embeddings.pairs.paired_distances`.
- A batch without a triplet (one class, all labels distinct, one example) has loss 0 and a
  gradient of 0; the gradient is finite where embeddings coincide.
"""
