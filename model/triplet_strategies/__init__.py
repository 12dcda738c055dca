"""The triplet strategies, one file each, which choose the triplets; see src/registry.py.

Each is a pure function `(labels, embeddings, *, margin, distance, anchors=None) -> TripletLoss`:

- labels: integer [C] or [C, 1]; embeddings: float32 [C, D], of any norm. They are the candidates
  for positives and negatives.
- anchors: integer [A], the positions of the anchors among the candidates; None for all. If the
  anchors are split into parts, the parts' sums, counts and gradients add up to those of the whole.
- Strategies of src.registry.OFFLINE_STRATEGIES take T triplets instead, and no `anchors`: labels
  [3T] and embeddings [3T, D], first anchors, then positives, then negatives.
- margin: > 0, in units of the distance, or "soft" (src.registry.SOFT_MARGIN_STRATEGIES); distance:
  a key of `src.distance.DISTANCES`. Strategies of src.registry.SIMILARITY_STRATEGIES take only the
  distance "cosine", and do not use the margin.
- Some have further arguments. Their defaults are those of the keys `<strategy>_<argument>` of
  params. Strategies of src.registry.RANDOM_STRATEGIES take `seed`, int64 [2]: the seed of the run,
  and the step.
- If there is no triplet (one class, all labels distinct, one example), loss and gradient are 0. The
  gradient is finite even if embeddings coincide.
"""
