"""The known classes of a trained experiment: query them, and enrol new ones without retraining."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from src.errors import UserError
from src.experiment.checkpoint_files import digest_of
from src.experiment.experiment import Experiment
from src.gallery.answer import Answer, Neighbour, Pair
from src.gallery.judge import Judge
from src.gallery.record import Added, Embeddings, Identity, NewPicture, enrolled_name
from src.gallery.snapshot import Snapshot, changed
from src.gallery.sources import thumbnail_of
from src.gallery.store import SearchesItself, Store, open_store
from src.gallery.verdict import Calibration
from src.mining.distances import paired_distances
from src.params.schema import Params
from src.registry import EMBEDDERS, look_up
from src.system.cli import quiet_console
from src.system.closing import Closing
from src.system.progress import phase

DEFAULT_NEIGHBOURS = 5

# Pictures that an index finds for each query. Among these the search is exact.
_NUM_CANDIDATES = 200


class Embed(Protocol):
    """A network with weights; `model.embedder.Embedder` is one, and says what these are."""

    embedding_size: int
    checkpoint: str
    step: int

    def __call__(self, images: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Embed images uint8 [N, H, W, C] to float32 [N, D]."""


class Gallery(Closing):
    """A gallery and the network that its embeddings are of.

    Threads may share a gallery. What another process enrols is seen by the next query.

    Attributes:
        experiment: the trained experiment.
        params: the params it was trained with.
        store: where the pictures are kept.
        identity: the network and the checkpoint that the embeddings in the store are of.
        judge: decides between the classes and unknown.
    """

    def __init__(
        self,
        model_dir: str | Path,
        where: str | Path | None = None,
        *,
        approximate: bool = False,
    ) -> None:
        """Open a gallery that `gallery.py build` has made.

        TensorFlow is imported when an image is first embedded.

        Args:
            model_dir: the directory of a trained experiment.
            where: a SQLite file or an address `postgresql://...`; None for `gallery.sqlite` in
                the experiment.
            approximate: search by the index of PostgreSQL, in the database. Then this process does
                not read all embeddings. The index may miss near pictures.

        Raises:
            UserError: the gallery is missing, damaged, or of another checkpoint; or it has no index
                and `approximate`.
        """
        self.experiment = Experiment(Path(model_dir))
        self.params: Params = self.experiment.trained_params()
        self.experiment.check_pictures()
        self.store: Store = open_store(where or self.experiment.own_gallery())
        self.identity = check_checkpoint(self.store, self.experiment)
        self._calibration = self.store.calibration() or {}
        self.judge = Judge(Calibration.from_json(self._calibration, self.store.where))
        self._indexed = self._require_index() if approximate else None
        self._embed: Embed | None = None
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None

    def query(
        self,
        images: NDArray[np.uint8],
        *,
        neighbours: int = DEFAULT_NEIGHBOURS,
        far: float | None = None,
    ) -> list[Answer]:
        """Name the class of images, or find them unknown.

        Args:
            images: uint8 [N, H, W, C], of the shape `identity.image_shape`; see
                `src.gallery.sources.read` for how pictures become such images.
            neighbours: how many of the nearest pictures an answer lists.
            far: the share of strangers that may be let in; None for 0.01.

        Returns:
            N answers.

        Raises:
            UserError: no threshold was measured for `far`.
        """
        return self.answer(self.embed(images), neighbours=neighbours, far=far)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed images uint8 [N, H, W, C] to float32 [N, D]."""
        if images.shape[1:] != self.identity.image_shape or images.dtype != np.uint8:
            raise ValueError(
                f"images: found {images.dtype} {list(images.shape)}; accepted: uint8 "
                f"[N, {', '.join(map(str, self.identity.image_shape))}]"
            )
        with self._lock:
            if self._embed is None:
                embed = load_embedder(self.experiment, self.params, self.identity.image_shape)
                # A training may have saved a better checkpoint since the gallery was opened.
                _require_checkpoint(self.store, self.experiment, self.identity, embed.checkpoint)
                self._embed = embed
        return self._embed(images)

    def add(
        self, class_name: str, images: NDArray[np.uint8], sources: Sequence[str] | None = None
    ) -> list[Added]:
        """Enrol images of a class, which may be new; no training is needed.

        Args:
            class_name: 1 to 200 characters.
            images: uint8 [N, H, W, C].
            sources: where each came from, for people.

        Returns:
            For each image its id, and whether it is new.
        """
        sources = sources or ["given as an array"] * len(images)
        thumbnails = [thumbnail_of(image) for image in images]
        return self.enrol(class_name, images, thumbnails, sources)

    def enrol(
        self,
        class_name: str,
        images: NDArray[np.uint8],
        thumbnails: Sequence[bytes],
        sources: Sequence[str],
    ) -> list[Added]:
        """Enrol images with their thumbnails, all or none; see `add`."""
        name = enrolled_name(class_name)
        given = zip(self.embed(images), images, thumbnails, sources, strict=True)
        return self.store.add(self.identity, [NewPicture(name, *picture) for picture in given])

    def answer(
        self,
        embeddings: NDArray[np.float32],
        *,
        neighbours: int = DEFAULT_NEIGHBOURS,
        far: float | None = None,
    ) -> list[Answer]:
        """Answer queries by their embeddings, float32 [N, D]; see `query`."""
        if self._indexed is None:
            return self._answers(self.snapshot(), embeddings, neighbours, far)
        # Each query by the pictures near it alone: its answer does not depend on the others.
        near = self._near(embeddings, neighbours)
        return [
            answer
            for snapshot, query in zip(near, embeddings, strict=True)
            for answer in self._answers(snapshot, query[None], neighbours, far)
        ]

    def _answers(
        self,
        snapshot: Snapshot,
        embeddings: NDArray[np.float32],
        neighbours: int,
        far: float | None,
    ) -> list[Answer]:
        verdicts = self.judge.decide(snapshot, embeddings, far)
        rows, distances = snapshot.nearest(embeddings, neighbours)
        ids = snapshot.pictures.ids[rows]
        sources = self.store.sources(np.unique(ids).tolist())
        return [
            Answer(
                verdict.class_name,
                verdict.nearest,
                verdict.distance,
                verdict.threshold,
                verdict.far,
                tuple(
                    Neighbour(picture, *sources[picture], distance)
                    for picture, distance in zip(of_query, to_query, strict=True)
                    if picture in sources  # not removed meanwhile
                ),
            )
            for verdict, of_query, to_query in zip(
                verdicts, ids.tolist(), distances.tolist(), strict=True
            )
        ]

    def verify(
        self, first: NDArray[np.uint8], second: NDArray[np.uint8], *, far: float | None = None
    ) -> Pair:
        """Decide whether two images, uint8 [H, W, C], are of one class. No gallery is searched.

        Args:
            first: an image.
            second: another one.
            far: the share of pairs of different classes that may be accepted; None for 0.01.
        """
        rate, threshold = self.judge.pair_threshold(far)
        x = self.embed(np.stack([first, second]))
        distance = float(paired_distances(x[:1], x[1:], self.identity.distance)[0])
        return Pair(distance <= threshold, distance, threshold, rate)

    def snapshot(self) -> Snapshot:
        """Return the gallery in memory; it is brought up to date if it has changed.

        Raises:
            UserError: meanwhile it was built anew, or cannot be read.
        """
        with self._lock:
            old = self._snapshot
            if old is not None and old.pictures.version == self.store.version():
                return old
            changes = None if old is None else self.store.changes_since(old.pictures.version)
            if old is None or changes is None:
                pictures = self.store.embeddings()
            else:
                pictures = changed(old.pictures, changes)
            self._require_same_build()
            self._snapshot = new = self._snapshot_of(pictures)
            return new

    def _snapshot_of(
        self, pictures: Embeddings, class_sizes: NDArray[np.int64] | None = None
    ) -> Snapshot:
        calibration = self.judge.calibration
        return Snapshot(
            pictures,
            self.identity.distance,
            calibration.size_factors,
            calibration.whitening,
            class_sizes,
        )

    def _near(self, embeddings: NDArray[np.float32], neighbours: int) -> list[Snapshot]:
        """Return the pictures that the index finds near each query, as a gallery of their own."""
        assert self._indexed is not None
        self._require_same_build()
        found = self._indexed.near(embeddings, max(neighbours, _NUM_CANDIDATES))
        self._require_same_build()
        return [self._snapshot_of(*near) for near in found]

    def _require_same_build(self) -> None:
        """Raise `UserError` if the gallery was built anew since it was opened."""
        if self.store.identity() != self.identity:
            changed = "with another checkpoint"
        elif (self.store.calibration() or {}) != self._calibration:
            changed = "with other thresholds"
        else:
            return
        raise UserError(
            f"{self.store.where}: built anew {changed} since this program started; accepted: the "
            "same ones, or a new start"
        )

    def _require_index(self) -> SearchesItself:
        """Return the store, if it has an index that can be used."""
        if not isinstance(self.store, SearchesItself) or not self.store.has_index():
            raise UserError(
                f"--approximate: {self.store.where} has no index; accepted: a gallery in "
                "PostgreSQL with the index that gallery.py index creates"
            )
        if self.judge.calibration.class_by == "class_mean":
            raise UserError(
                f"--approximate: {self.store.where} names classes by their means; accepted: a "
                "gallery whose class_by is nearest, because means take all pictures"
            )
        return self.store

    def close(self) -> None:
        """Close the store."""
        self.store.close()


def check_checkpoint(store: Store, experiment: Experiment) -> Identity:
    """Return whom a gallery belongs to.

    Raises:
        UserError: it was not built, or belongs to another checkpoint than the experiment's best.
    """
    identity = store.identity()
    build = f"python gallery.py build --model_dir {experiment.model_dir}"
    if identity is None:
        raise UserError(f"{store.where}: an empty gallery; accepted: one that was built ({build})")
    checkpoint = experiment.evaluated_checkpoint
    if checkpoint is None or not (found := digest_of(checkpoint)):
        raise UserError(
            f"{experiment.model_dir}: no checkpoint found; accepted: a trained experiment"
        )
    _require_checkpoint(store, experiment, identity, found)
    return identity


def _require_checkpoint(
    store: Store, experiment: Experiment, identity: Identity, checkpoint: str
) -> None:
    """Raise `UserError` unless a gallery belongs to the checkpoint with this digest."""
    if checkpoint != identity.checkpoint:
        raise UserError(
            f"{store.where}: of the checkpoint of step {identity.step} of {identity.experiment}, "
            f"whose weights are not those of the best checkpoint of {experiment.model_dir}; "
            f"accepted: the same weights (python gallery.py rebuild --model_dir "
            f"{experiment.model_dir} embeds the stored pictures anew)"
        )


def load_embedder(experiment: Experiment, params: Params, image_shape: tuple[int, ...]) -> Embed:
    """Start TensorFlow, and return the network with the best checkpoint's weights."""
    with quiet_console(experiment.log_path, verbose=False), phase("starting TensorFlow"):
        embedder: Embed = look_up(EMBEDDERS, "checkpoint")(experiment, params, image_shape)
    return embedder
