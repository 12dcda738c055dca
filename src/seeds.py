"""The streams of random numbers: which exist, and how each comes from the seed of an experiment.

A stream is a function of its name, the seed and some numbers (an epoch, a step), so a run that
resumes draws what an uninterrupted one would. To add a stream, give it numbers that no other
stream of the same run has.
"""

from collections.abc import Callable, Mapping

import numpy as np

TEST_SPLIT_SEED = 0
"""Draws the test split of a dataset that has none: the same for every experiment."""

# What follows the seed. The numbers are fixed: others would change what an experiment learns.
_STREAMS: Mapping[str, Callable[..., tuple[int, ...]]] = {
    "sample": lambda: (),
    "ties between classes": lambda num_classes: (num_classes,),
    "order of classes held out": lambda num_classes: (num_classes,),
    "order of examples": lambda epoch: (epoch,),
    "random triplets": lambda epoch: (epoch, 1),
    "mined triplets": lambda step: (step, 2),
    # P x K batches, in place of the three above.
    "order of the classes": lambda shuffling: (0, shuffling),
    "order of a class": lambda position, shuffling: (1 + position, shuffling),
}

_AUGMENTATION = (
    *("crop side", "crop center", "mirrored", "angle", "shift"),
    *("erased share", "erased aspect", "erased top", "erased left", "is erased"),
    "displacements",
)


def seed_of(name: str, seed: int, *numbers: int) -> list[int]:
    """Return the seed of a stream, for `np.random.default_rng`.

    Args:
        name: of the stream.
        seed: of the experiment.
        numbers: those that the stream takes, such as the epoch.
    """
    return [seed, *_STREAMS[name](*numbers)]


def stream(name: str, seed: int, *numbers: int) -> np.random.Generator:
    """Return the generator of a stream; see `seed_of`."""
    return np.random.default_rng(seed_of(name, seed, *numbers))


def augmentation_draw(name: str) -> int:
    """Return the number that tells a draw of augmentation from the others of a step: 0, 1, ..."""
    return _AUGMENTATION.index(name)


def dropout_draw(layer: int) -> int:
    """Return the number that tells the draw of a dropout layer from the others of a step: < 0.

    Args:
        layer: a number >= 0 that no other dropout layer of the network has.
    """
    return -1 - layer
