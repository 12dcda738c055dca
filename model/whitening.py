"""Fits the embedding layer to the training images before the first step (`embedding_whitening`)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.estimator import keras, tf
from model.input_fn import predict_batch_size, scale_pixels
from model.network import plain
from src.data.split import Split
from src.embeddings.whitening import whitened_projection
from src.errors import UserError
from src.params.schema import Params
from src.seeds import stream
from src.system.progress import phase

EMBEDDING_LAYER = "embedding"
"""The name of a network's last dense layer."""

# If there are more images, about so many are drawn: the matrices of the fit grow by the square.
_MAX_IMAGES = 4096
_MIN_PER_CLASS = 8


def check_embedding_layer(network: keras.Model, params: Params) -> None:
    """Refuse `embedding_whitening` for a network that has no layer to be fitted.

    Raises:
        UserError: no dense layer is named "embedding", or it has no bias, or an activation.
    """
    if params.embedding_whitening is None:
        return
    layers = {layer.name: layer for layer in network.layers}
    layer = layers.get(EMBEDDING_LAYER)
    is_dense = isinstance(layer, keras.layers.Dense)
    if not (is_dense and layer.use_bias and layer.activation is keras.activations.linear):
        raise UserError(
            f"embedding_whitening: found {params.embedding_whitening}; accepted: null, because "
            f"network '{params.network}' has no dense layer '{EMBEDDING_LAYER}' with a bias "
            "and no activation"
        )


class WhitenEmbedding:
    """Sets the embedding layer of a new run, when all other weights have their initial values."""

    def __init__(self, network: keras.Model, split: Split, params: Params) -> None:
        """Build what computes the features, in the graph of `network`.

        Args:
            network: see `check_embedding_layer`.
            split: the training images.
            params: `embedding_whitening`, `augment.flip`, `seed`, `batch_size`.
        """
        self._split, self._params = split, params
        layer = network.get_layer(EMBEDDING_LAYER)
        self._variables = [plain(layer.kernel), plain(layer.bias)]
        self._images = tf.compat.v1.placeholder(
            split.images.dtype, [None, *split.images.shape[1:]], "whitening/images"
        )
        features = keras.Model(network.input, layer.input)(
            scale_pixels(self._images), training=False
        )
        self._features = tf.cast(features, tf.float32)  # [B, F]

    def __call__(self, session: Any) -> None:
        """Fit the layer and set its weights.

        Raises:
            UserError: the features of a class do not differ, or are not finite.
        """
        generator = stream("projection of the embedding layer", self._params.seed)
        rows = _rows(self._split.labels, generator)
        with phase("whitening the embedding layer"):
            features, labels = self._embed(session, rows)
            values = None
            if np.isfinite(features).all():
                num_units = int(self._variables[1].shape[0])
                projection = _orthonormal(features.shape[1], num_units, generator)
                shrinkage = self._params.embedding_whitening
                values = whitened_projection(features, labels, projection, shrinkage)
        if values is None:
            raise UserError(
                f"embedding_whitening: found {self._params.embedding_whitening}; accepted: null, "
                "because the features of no class scatter, or they are not finite"
            )
        # As `InitialWeights` does: neither ops nor values are added to the graph.
        initializers = [variable.initializer for variable in self._variables]
        feed = dict(zip((i.inputs[1] for i in initializers), values, strict=True))
        session.run(initializers, feed)

    def _embed(
        self, session: Any, rows: NDArray[np.intp]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return the features of some images, float32 [N, F], and their labels.

        With `augment.flip`, those of the mirror images follow.
        """
        size = predict_batch_size(self._params)
        steps = (
            (slice(None), slice(None, None, -1)) if self._params.augment.flip else (slice(None),)
        )
        found: list[list[NDArray[np.float32]]] = [[] for _ in steps]
        for start in range(0, len(rows), size):
            images = self._split.images[rows[start : start + size]]
            for of_step, step in zip(found, steps, strict=True):
                feed = {self._images: images[:, :, step]}
                of_step.append(session.run(self._features, feed))
        features = np.concatenate([batch for of_step in found for batch in of_step])
        return features, np.tile(self._split.labels[rows], len(steps))


def _rows(labels: NDArray[np.int32], generator: np.random.Generator) -> NDArray[np.intp]:
    """Return the images to fit to, sorted: all, or about `_MAX_IMAGES` that are drawn.

    The same number of each class is drawn, but at least `_MIN_PER_CLASS` if it has them, because
    the scatter within classes is sought. Then some classes may have none, as have those of a single
    image, which does not scatter.
    """
    if len(labels) <= _MAX_IMAGES:
        return np.arange(len(labels))
    present, counts = np.unique(labels, return_counts=True)
    classes = generator.permutation(present[counts > 1])
    per_class = max(_MIN_PER_CLASS, _MAX_IMAGES // len(classes))
    drawn: list[NDArray[np.intp]] = []
    num_drawn = 0
    for label in classes:
        drawn.append(generator.permutation(np.flatnonzero(labels == label))[:per_class])
        num_drawn += len(drawn[-1])
        if num_drawn >= _MAX_IMAGES:
            break
    return np.sort(np.concatenate(drawn))


def _orthonormal(
    num_rows: int, num_columns: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return a random matrix whose rows are orthonormal, or its columns if they are fewer."""
    shape = max(num_rows, num_columns), min(num_rows, num_columns)
    matrix: NDArray[np.float64] = np.linalg.qr(generator.standard_normal(shape))[0]
    return matrix if num_rows >= num_columns else matrix.T
