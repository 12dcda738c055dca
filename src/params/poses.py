"""The poses that `extra_classes` may name; needs no NumPy, so params can be checked without it."""

# For each pose: whether it is mirrored left and right first, then the number of quarter turns,
# counter-clockwise.
POSES = {
    "rot90": (False, 1),
    "rot180": (False, 2),
    "rot270": (False, 3),
    "mirror": (True, 0),
    "mirror_rot90": (True, 1),
    "mirror_rot180": (True, 2),
    "mirror_rot270": (True, 3),
}


def changes_shape(pose: str) -> bool:
    """Return whether this pose swaps height and width."""
    return POSES[pose][1] % 2 == 1
