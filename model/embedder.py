"""Embeds images with a trained experiment's best checkpoint, outside of the Estimator.

`Estimator.predict` builds the graph anew in every call. A query or a server needs one graph that
stays.
"""

import numpy as np
from numpy.typing import NDArray

from model.estimator import estimator, tf
from model.hooks.checkpoints import FitsNetwork
from model.input_fn import predict_batch_size, scale_pixels
from model.model_fn import model_fn
from model.training.build import session_config
from model.training.checkpoints import usable_checkpoint
from src.experiment.checkpoint_files import digest_of, step_of
from src.experiment.experiment import Experiment
from src.params.schema import Params

Examples = NDArray[np.uint8] | NDArray[np.float32]


class Embedder:
    """The network of an experiment with the weights of its best checkpoint.

    Attributes:
        image_shape: (H, W, C); (1, F, 1) of vectors.
        embedding_size: D.
        checkpoint: the SHA-256 of the checkpoint's files, in hexadecimal.
        step: the checkpoint's global step.
    """

    def __init__(
        self,
        experiment: Experiment,
        params: Params,
        image_shape: tuple[int, int, int],
        *,
        holds_vectors: bool = False,
    ) -> None:
        """Build the network and restore its weights.

        Args:
            experiment: a trained experiment.
            params: the params it was trained with.
            image_shape: (H, W, C) of the images it was trained with; (1, F, 1) of vectors.
            holds_vectors: whether it was trained with vectors; see `src.data.split.Split`.

        Raises:
            UserError: the checkpoint is missing, damaged, or belongs to another network.
        """
        path = usable_checkpoint(experiment.model_dir, experiment.best_checkpoint)
        self.image_shape = image_shape
        self.checkpoint, self.step = digest_of(path), step_of(path)
        self._batch_size = predict_batch_size(params)
        with tf.Graph().as_default():
            dtype = tf.float32 if holds_vectors else tf.uint8
            self._images = tf.compat.v1.placeholder(dtype, [None, *image_shape])
            inputs = self._images if holds_vectors else scale_pixels(self._images)
            spec = model_fn(inputs, None, estimator.ModeKeys.PREDICT, params)
            self._embeddings = spec.predictions["embeddings"]
            self.embedding_size = int(self._embeddings.shape[1])
            tf.compat.v1.train.get_or_create_global_step()  # as in the checkpoint
            FitsNetwork(experiment.model_dir, path).begin()
            self._session = tf.compat.v1.Session(config=session_config(params))
            saver = spec.scaffold.saver or tf.compat.v1.train.Saver()
            saver.restore(self._session, str(path))

    def __call__(self, images: Examples) -> NDArray[np.float32]:
        """Embed images. Thread-safe.

        Args:
            images: uint8 [N, H, W, C]; vectors: float32 [N, 1, F, 1].

        Returns:
            float32 [N, D].
        """
        found = np.empty((len(images), self.embedding_size), np.float32)
        for start in range(0, len(images), self._batch_size):
            batch = slice(start, start + self._batch_size)
            found[batch] = self._session.run(self._embeddings, {self._images: images[batch]})
        return found

    def close(self) -> None:
        """Free the session's memory."""
        self._session.close()
