"""The triplet strategies, a file each: which triplets count; see src/registry.py.

Each is a pure function `(labels, embeddings, *, margin, distance, anchors=None) -> TripletLoss`:

- labels: integer [C] or [C, 1]; embeddings: float32 [C, D], not necessarily of length 1: the
  candidates for positives and negatives.
- anchors: integer [A], which of the candidates are anchors; None for all. The sums and counts of
  several parts of the anchors add up to those of the whole, and so do the gradients.
- Those of src.registry.OFFLINE_STRATEGIES take T triplets instead, and no `anchors`: labels [3T]
  and embeddings [3T, D], anchors first, then positives, then negatives.
- margin: > 0, in units of the distance, or "soft" (src.registry.SOFT_MARGIN_STRATEGIES); distance:
  a key of `src.distance.DISTANCES`.
- If there is no triplet (one class, all labels distinct, one example), loss and gradient are 0.
  The gradient is finite where embeddings coincide.
"""
