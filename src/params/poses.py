"""The poses that `extra_classes` may name; without NumPy, for programs that only check params."""

# Of each pose: mirrored left and right or not, and then how many quarter turns, counter-clockwise.
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
    """Return whether height and width change places in this pose."""
    return POSES[pose][1] % 2 == 1
