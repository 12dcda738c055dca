"""The tags of curves in event files: they group TensorBoard's SCALARS tab.

TensorBoard shows a group for each text before a tag's first slash, in alphabetical order, and opens
the first two. So the five curves that matter are together and first; all others are below.
"""

AT_A_GLANCE = (
    "loss",
    "fraction_positive",
    "map_at_r_within",
    "recall_at_1_within",
    "embedding_mean_norm",
)
"""The loss, how much is left to learn, whether it is learnt, and whether embeddings shrink."""

_FIRST, _OTHERS = "at_a_glance/", "more/"


def tag_of(name: str) -> str:
    """Return the tag of a curve. The Estimator's own curve `global_step/sec` keeps its name."""
    if "/" in name:
        return name
    return f"{_FIRST if name in AT_A_GLANCE else _OTHERS}{name}"


def name_of(tag: str) -> str:
    """Return a curve's name by its tag; earlier versions wrote names without a group."""
    for group in (_FIRST, _OTHERS):
        if tag.startswith(group):
            return tag.removeprefix(group)
    return tag
