"""Pictures for galleries, and the contents of a gallery in one digest."""

import functools
import hashlib
import io

import numpy as np
from PIL import Image

from src.gallery.record import Identity, NewPicture

IDENTITY = Identity(
    checkpoint="c0ffee" + 58 * "0",
    step=1200,
    image_shape=(4, 5, 1),
    embedding_size=8,
    distance="euclidean",
    experiment="tiny",
)


def picture(number, class_name="a", identity=IDENTITY, **other):
    """Return picture `number`: the same number is the same image."""
    rng = np.random.default_rng(number)
    image = rng.integers(0, 256, identity.image_shape, dtype=np.uint8)
    fields = {
        "class_name": class_name,
        "embedding": rng.standard_normal(identity.embedding_size).astype(np.float32),
        "image": image,
        "thumbnail": thumbnail(),
        "source": f"pictures/{number}.png",
        "time": f"2026-11-26T12:00:{number % 60:02}Z",
    }
    return NewPicture(**{**fields, **other})


@functools.cache
def thumbnail():
    file = io.BytesIO()
    Image.new("L", (5, 4), 77).save(file, "png")
    return file.getvalue()


def row(kept):
    """Return all that a picture holds but its id, to compare."""
    return (
        kept.class_name,
        kept.embedding.tobytes(),
        kept.image.tobytes(),
        kept.thumbnail,
        kept.source,
        kept.time,
    )


def digest(pictures):
    """Return a digest of pictures in any order."""
    rows = sorted(map(row, pictures))
    return hashlib.sha256(repr(rows).encode()).hexdigest()
