"""The streams of random numbers: their names, and how each is derived from the experiment's seed.

A stream is a function of its name, the seed and some numbers (an epoch, a step). So a resumed run
draws what an uninterrupted one would draw. To add a stream, give it numbers that no other stream of
the same run has, the last above 0: NumPy pads seeds with zeros, so [seed, 3] and [seed, 3, 0] are
one stream. Some streams coincide for that reason; others would change what experiments learn.
"""

from collections.abc import Callable, Mapping

import numpy as np

TEST_SPLIT_SEED = 0
"""Draws the test split of a dataset that has none. It is the same for every experiment."""

# They are fixed, because others would change what an experiment learns.
STREAMS: Mapping[str, Callable[..., tuple[int, ...]]] = {
    "sample": lambda: (),
    "ties between classes": lambda num_classes: (num_classes,),
    "order of classes held out": lambda num_classes: (num_classes,),
    "order of examples": lambda epoch: (epoch,),
    "random triplets": lambda epoch: (epoch, 1),
    "mined triplets": lambda step: (step, 2),
    # For P x K batches, instead of the three above.
    "order of the classes": lambda shuffling: (0, shuffling),
    "order of a class": lambda position, shuffling: (1 + position, shuffling),
    # For groups of images, and a share of the classes.
    "ties between groups": lambda num_groups: (1, 0, num_groups),
    "classes held out": lambda num_classes: (2, 0, num_classes),
    "projection of the embedding layer": lambda: (3, 0, 0),
    # For the open set, with a fixed seed.
    "halves of the unseen classes": lambda num_classes: (0, 0, num_classes),
    "pictures of a class": lambda size: (0, 1, size),
}
"""For each stream, the numbers that follow the seed."""

_AUGMENTATION = (
    *("crop side", "crop center", "mirrored", "angle", "shift"),
    *("erased share", "erased aspect", "erased top", "erased left", "is erased"),
    "displacements",
    *("crop area", "crop ratio", "brightness", "contrast", "saturation", "hue", "is grey", "blur"),
)


def seed_of(name: str, seed: int, *numbers: int) -> list[int]:
    """Return the seed of a stream, for `np.random.default_rng`.

    Args:
        name: the name of the stream.
        seed: the seed of the experiment.
        numbers: the numbers that the stream takes, such as the epoch.
    """
    return [seed, *STREAMS[name](*numbers)]


def stream(name: str, seed: int, *numbers: int) -> np.random.Generator:
    """Return the generator of a stream; see `seed_of`."""
    return np.random.default_rng(seed_of(name, seed, *numbers))


def augmentation_draw(name: str) -> int:
    """Return the number that identifies a draw of augmentation within a step: 0, 1, ..."""
    return _AUGMENTATION.index(name)


def dropout_draw(layer: int) -> int:
    """Return the number that identifies the draw of a dropout layer within a step: < 0.

    Args:
        layer: a number >= 0 that no other dropout layer of the network has.
    """
    return -1 - layer
