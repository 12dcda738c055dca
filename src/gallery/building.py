"""Builds galleries: from a split, from the user's pictures, from a gallery's own pictures."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from src.data.split import Split
from src.errors import UserError
from src.experiment.experiment import Experiment
from src.gallery.gallery import Embed
from src.gallery.record import Enrolled, Identity, NewPicture, utc_now
from src.gallery.sources import BadPicture, Place, Preparation, read, thumbnail_of
from src.gallery.store import Store
from src.gallery.verdict import Calibration
from src.params.schema import Params
from src.printable import counted
from src.system.progress import progress_bar

# Pictures embedded at a time.
_BLOCK_SIZE = 256

_Item = TypeVar("_Item")


class Unembedded(NamedTuple):
    """A picture to enrol, before it is embedded; attributes as those of `NewPicture`."""

    class_name: str
    image: NDArray[np.uint8]
    thumbnail: bytes
    source: str
    time: str


def identity_of(
    experiment: Experiment, params: Params, image_shape: tuple[int, int, int], embed: Embed
) -> Identity:
    """Return whom a gallery belongs to whose pictures `embed` embeds."""
    return Identity(
        checkpoint=embed.checkpoint,
        step=embed.step,
        image_shape=image_shape,
        embedding_size=embed.embedding_size,
        distance=params.distance_name,
        experiment=str(experiment.model_dir),
    )


def calibration_of(experiment: Experiment, embed: Embed) -> Calibration:
    """Return what verdicts need, as measured with the weights of `embed`.

    Raises:
        UserError: it was not measured, or with other weights.
    """
    metrics = experiment.metrics() or {}
    calibration = Calibration.from_metrics(metrics, str(experiment.metrics_path))
    if (evaluated := metrics.get("evaluated_step", embed.step)) != embed.step:
        raise UserError(
            f"{experiment.metrics_path}: evaluated_step: found {evaluated}, but the checkpoint is "
            f"of step {embed.step}; accepted: an experiment whose training has finished (train.py "
            "resumes it, and measures the thresholds anew)"
        )
    return calibration


def of_one_build(
    store: Store, identity: Identity, calibration: dict[str, Any]
) -> Iterator[Enrolled]:
    """Yield the pictures of a gallery, for a copy.

    Raises:
        UserError: the gallery is not that of `identity` and `calibration` any more.
    """
    for number, picture in enumerate(store.iterate()):
        if number == 0 and (store.identity(), store.calibration() or {}) != (identity, calibration):
            raise UserError(
                f"{store.where}: built anew while it was copied, nothing was changed; accepted: "
                "another try"
            )
        yield picture


def from_split(split: Split, name: str, dataset: str) -> Iterator[Unembedded]:
    """Yield the pictures of a split, for `build`.

    Args:
        split: the images; their thumbnails are made of them.
        name: of the split.
        dataset: its name; with the split's name and a number it names what has no path.
    """
    for position, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
        source = f"{dataset} {name} {position}" if split.paths is None else split.paths[position]
        name_of_class, thumbnail = split.class_names[label], thumbnail_of(image)
        yield Unembedded(name_of_class, image, thumbnail, str(source), utc_now())


def from_places(places: Sequence[Place], prepare: Preparation) -> Iterator[Unembedded]:
    """Yield the pictures at some places, which name their classes, for `build`.

    Raises:
        UserError: a picture cannot be read; the message names all that cannot.
    """
    bad = []
    for given in read(places, prepare, with_thumbnails=True):
        if isinstance(given, BadPicture):
            bad.append(given.message)
        elif not bad:
            name = given.place.class_name
            assert name is not None
            yield Unembedded(name, given.image, given.thumbnail, given.place.name, utc_now())
    if bad:
        raise UserError(
            "\n".join([*bad, f"{counted(len(bad), 'bad picture')}; nothing was stored"])
        )


def from_gallery(store: Store) -> Iterator[Unembedded]:
    """Yield the pictures of a gallery, to embed them by another checkpoint."""
    for picture in store.iterate():
        yield Unembedded(
            picture.class_name, picture.image, picture.thumbnail, picture.source, picture.time
        )


def build(
    store: Store,
    identity: Identity,
    calibration: dict[str, Any],
    pictures: Iterable[Unembedded],
    embed: Embed,
    total: int,
) -> int:
    """Replace a gallery by pictures, all or nothing, and return how many it has.

    Args:
        store: takes them.
        identity: whom the gallery belongs to.
        calibration: what verdicts need; see `src.gallery.verdict`.
        pictures: read once, a block at a time.
        embed: the network.
        total: the number of pictures, for the progress bar.
    """

    def embedded() -> Iterator[NewPicture]:
        with progress_bar("enrol", total, "pictures") as bar:
            for block in _blocks(pictures, _BLOCK_SIZE):
                embeddings = embed(np.stack([picture.image for picture in block]))
                for picture, embedding in zip(block, embeddings, strict=True):
                    yield NewPicture(
                        picture.class_name,
                        embedding,
                        picture.image,
                        picture.thumbnail,
                        picture.source,
                        picture.time,
                    )
                bar.update(len(block))

    return store.replace(identity, calibration, embedded())


def _blocks(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while block := list(islice(iterator, size)):
        yield block
