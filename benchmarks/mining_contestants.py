"""The contestants of `benchmarks.mining`, each made in its own process, and their batches."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Step
from src.registry import SIMILARITY_STRATEGIES, TRIPLET_STRATEGIES, look_up

EMBEDDING_SIZE = 64
MARGIN = 0.5

# Shuffled batches hold 10 classes; P x K batches hold 4 examples of each class.
BATCHES = ("10 classes", "P x 4")


class Case(NamedTuple):
    """One case on which the contestants are compared.

    Attributes:
        strategy: a key of TRIPLET_STRATEGIES.
        batch: one of BATCHES.
        size: B.
    """

    strategy: str
    batch: str
    size: int

    @property
    def num_classes(self) -> int:
        """The number of classes in the batch; their sizes differ by at most 1."""
        return 10 if self.batch == "10 classes" else self.size // 4

    @property
    def num_triplets(self) -> int:
        """The approximate number of valid triplets in the batch."""
        class_size = self.size // self.num_classes
        return self.size * (class_size - 1) * (self.size - class_size)


def half_trained(case: Case) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return a shuffled batch with embeddings like those of a half-trained network.

    Only eight directions matter, because real embeddings do not fill their 64 dimensions. Along
    these, the spread of the class centres is twice the spread within a class, so classes overlap.
    At MARGIN, 10 to 20 % of the triplets are positive. The mean distance is 2.

    Returns:
        labels int32 [B], embeddings float32 [B, 64].
    """
    rng = np.random.default_rng(case.size)
    labels = rng.permutation(np.arange(case.size) % case.num_classes).astype(np.int32)
    centres = 2.0 * rng.standard_normal((case.num_classes, 8))
    latent = centres[labels] + rng.standard_normal((case.size, 8))
    directions = rng.standard_normal((8, EMBEDDING_SIZE)) / math.sqrt(EMBEDDING_SIZE)
    noise = 0.05 * rng.standard_normal((case.size, EMBEDDING_SIZE))
    return labels, (0.25 * (latent @ directions + noise)).astype(np.float32)


def fraction_positive(labels: NDArray[np.int32], embeddings: NDArray[np.float32]) -> float:
    """Return the share of valid triplets that batch_all finds positive, one anchor at a time."""
    num_positive = num_valid = 0
    for anchor, label in enumerate(labels):
        distances = np.linalg.norm(embeddings - embeddings[anchor], axis=1)
        is_positive = labels == label
        is_positive[anchor] = False
        negatives = np.sort(distances[labels != label])
        num_positive += np.searchsorted(negatives, distances[is_positive] + MARGIN).sum()
        num_valid += np.count_nonzero(is_positive) * len(negatives)
    return num_positive / num_valid


def make_ours(case: Case) -> Step:
    """Return a step of the project's strategy."""
    strategy = look_up(TRIPLET_STRATEGIES, case.strategy)
    distance = "cosine" if case.strategy in SIMILARITY_STRATEGIES else "euclidean"
    return _tensorflow_step(
        case,
        lambda labels, embeddings: (
            strategy(labels, embeddings, margin=MARGIN, distance=distance).loss
        ),
    )


def make_definition(case: Case) -> Step:
    """Return a step that follows the strategy's definition literally."""
    from model.estimator import tf

    # On a GPU, the TensorFloat-32 of its matrix product would leave 10 bits of the distances.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    return _tensorflow_step(case, DEFINITIONS[case.strategy])


def make_floor(case: Case) -> Step:
    """Return a step of the minimum that such a loss needs: distances, their gradient, a sort."""
    from model.estimator import tf

    rng = np.random.default_rng(0)
    slopes = tf.constant(rng.standard_normal((case.size, case.size), np.float32))

    @tf.custom_gradient
    def loss(distances: tf.Tensor) -> tf.Tensor:
        nearest = tf.sort(distances, axis=1)[:, 0]
        return tf.reduce_sum(nearest), lambda upstream: upstream * slopes

    return _tensorflow_step(case, lambda labels, embeddings: loss(_plain_distances(embeddings)))


def make_pml(case: Case) -> Step:
    """Return a step of pytorch-metric-learning."""
    import torch

    from benchmarks.pml import loss_and_miner

    loss_fn, miner = loss_and_miner(case.strategy, MARGIN)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    labels, embeddings = (torch.from_numpy(x).to(device) for x in half_trained(case))
    labels = labels.long()
    embeddings.requires_grad_()

    def step() -> tuple[float, float]:
        loss = loss_fn(embeddings, labels, miner(embeddings, labels) if miner else None)
        (gradient,) = torch.autograd.grad(loss, embeddings)
        return loss.item(), float(np.linalg.norm(gradient.cpu().numpy()))

    return step


def _tensorflow_step(case: Case, loss_fn: Callable[[Any, Any], Any]) -> Step:
    """Return a step of `loss_fn(labels, embeddings)`, a TensorFlow loss."""
    from model.estimator import tf
    from src.system.process import settle

    settle()  # as the programs do

    # As in the model, the batch size is unknown when the graph is built.
    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None, EMBEDDING_SIZE], tf.float32),
        ]
    )
    def loss_and_gradient(labels: tf.Tensor, embeddings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            loss = loss_fn(labels, embeddings)
        return loss, tape.gradient(loss, embeddings)

    labels, embeddings = map(tf.constant, half_trained(case))

    def step() -> tuple[float, float]:
        loss, gradient = loss_and_gradient(labels, embeddings)
        return float(loss.numpy()), float(np.linalg.norm(gradient.numpy()))

    return step


def _plain_distances(embeddings: Any) -> Any:
    """Return float32 Euclidean distances [B, B], computed as in public implementations."""
    from model.estimator import tf

    products = tf.matmul(embeddings, embeddings, transpose_b=True)
    squares = tf.linalg.diag_part(products)
    square_distances = tf.maximum(squares[:, None] - 2.0 * products + squares[None, :], 0.0)
    # The gradient of the square root is infinite at 0.
    is_zero = tf.cast(tf.equal(square_distances, 0.0), tf.float32)
    return tf.sqrt(square_distances + is_zero * 1e-16) * (1.0 - is_zero)


def _plain_masks(labels: Any) -> tuple[Any, Any]:
    """Return masks of the anchor-positive and the anchor-negative pairs, each float32 [B, B]."""
    from model.estimator import tf

    same = tf.cast(tf.equal(labels[:, None], labels[None, :]), tf.float32)
    return same - tf.eye(tf.shape(labels)[0]), 1.0 - same


def batch_all_definition(labels: Any, embeddings: Any) -> Any:
    """Return the mean loss over the positive triplets among all B^3.

    Source: github.com/omoindrot/tensorflow-triplet-loss, `batch_all_triplet_loss`.
    """
    from model.estimator import tf

    distances = _plain_distances(embeddings)
    is_positive, is_negative = _plain_masks(labels)
    losses = distances[:, :, None] - distances[:, None, :] + MARGIN  # [B, B, B], axes a p n
    losses = tf.maximum(is_positive[:, :, None] * is_negative[:, None, :] * losses, 0.0)
    num_positive = tf.reduce_sum(tf.cast(losses > 1e-16, tf.float32))
    return tf.reduce_sum(losses) / (num_positive + 1e-16)


def batch_hard_definition(labels: Any, embeddings: Any) -> Any:
    """Return the mean loss over the anchors, each with its hardest positive and negative.

    Source: github.com/omoindrot/tensorflow-triplet-loss, `batch_hard_triplet_loss`.
    """
    from model.estimator import tf

    distances = _plain_distances(embeddings)
    is_positive, is_negative = _plain_masks(labels)
    hardest_positive = tf.reduce_max(is_positive * distances, axis=1)  # [B]
    farthest = tf.reduce_max(distances, axis=1, keepdims=True)
    hardest_negative = tf.reduce_min(distances + farthest * (1.0 - is_negative), axis=1)  # [B]
    return tf.reduce_mean(tf.maximum(hardest_positive - hardest_negative + MARGIN, 0.0))


def batch_semihard_definition(labels: Any, embeddings: Any) -> Any:
    """Return the mean loss over anchor-positive pairs, each with its semi-hard negative.

    Source: github.com/tensorflow/addons, `triplet_semihard_loss`.
    """
    from model.estimator import tf

    distances = _plain_distances(embeddings)
    is_positive, is_negative = _plain_masks(labels)
    size = tf.shape(distances)[0]
    # Row p * B + a of the tiled matrix holds the distances of anchor a.
    tiled = tf.tile(distances, [size, 1])  # [B^2, B]
    is_farther = tiled > tf.reshape(tf.transpose(distances), [-1, 1])
    is_candidate = tf.logical_and(tf.tile(is_negative > 0.0, [size, 1]), is_farther)
    has_candidate = tf.transpose(tf.reshape(tf.reduce_any(is_candidate, axis=1), [size, size]))
    is_candidate = tf.cast(is_candidate, tf.float32)

    farthest = tf.reduce_max(tiled, axis=1, keepdims=True)
    nearest_outside = tf.reduce_min((tiled - farthest) * is_candidate, axis=1, keepdims=True)
    nearest_outside = tf.transpose(tf.reshape(nearest_outside + farthest, [size, size]))
    nearest = tf.reduce_min(distances, axis=1, keepdims=True)
    farthest_inside = tf.reduce_max((distances - nearest) * is_negative, axis=1, keepdims=True)
    farthest_inside = tf.tile(farthest_inside + nearest, [1, size])

    negatives = tf.where(has_candidate, nearest_outside, farthest_inside)  # [B, B], axes a p
    losses = tf.maximum((distances - negatives + MARGIN) * is_positive, 0.0)
    return tf.reduce_sum(losses) / tf.reduce_sum(is_positive)


def _cosines(embeddings: Any) -> Any:
    """Return cosine similarities, float32 [B, B]."""
    from model.estimator import tf

    directions = tf.math.l2_normalize(embeddings, axis=1)
    return tf.matmul(directions, directions, transpose_b=True)


def easy_positive_definition(labels: Any, embeddings: Any) -> Any:
    """Return the mean loss over the anchors, each with its nearest positive."""
    from model.estimator import tf

    distances = _plain_distances(embeddings)
    is_positive, is_negative = _plain_masks(labels)
    infinity = np.float32(np.inf)
    nearest = tf.reduce_min(tf.where(is_positive > 0.0, distances, infinity), axis=1)
    is_farther = tf.logical_and(is_negative > 0.0, distances > nearest[:, None])
    negative = tf.reduce_min(tf.where(is_farther, distances, infinity), axis=1)
    has_both = tf.logical_and(nearest < infinity, negative < infinity)
    losses = tf.maximum(tf.boolean_mask(nearest - negative, has_both) + MARGIN, 0.0)
    return tf.reduce_mean(losses)


def multi_similarity_definition(labels: Any, embeddings: Any) -> Any:
    """Return the mean loss over the anchors, with the default arguments."""
    from model.estimator import tf

    cosines = _cosines(embeddings)
    is_positive, is_negative = (mask > 0.0 for mask in _plain_masks(labels))
    infinity = np.float32(np.inf)
    largest = tf.reduce_max(tf.where(is_negative, cosines, -infinity), axis=1, keepdims=True)
    smallest = tf.reduce_min(tf.where(is_positive, cosines, infinity), axis=1, keepdims=True)
    is_positive = tf.logical_and(is_positive, cosines - 0.1 < largest)
    is_negative = tf.logical_and(is_negative, cosines + 0.1 > smallest)
    pulls = tf.where(is_positive, tf.exp(-2.0 * (cosines - 0.5)), 0.0)
    pushes = tf.where(is_negative, tf.exp(50.0 * (cosines - 0.5)), 0.0)
    to_positives = tf.math.log(1.0 + tf.reduce_sum(pulls, axis=1)) / 2.0
    to_negatives = tf.math.log(1.0 + tf.reduce_sum(pushes, axis=1)) / 50.0
    return tf.reduce_mean(to_positives + to_negatives)


def supervised_contrastive_definition(labels: Any, embeddings: Any) -> Any:
    """Return the mean loss over the anchors that have a positive, with the default temperature."""
    from model.estimator import tf

    logits = _cosines(embeddings) / 0.1
    is_positive, is_negative = _plain_masks(labels)
    others = tf.where(is_positive + is_negative > 0.0, logits, -np.float32(np.inf))
    log_shares = logits - tf.reduce_logsumexp(others, axis=1, keepdims=True)
    num_positives = tf.reduce_sum(is_positive, axis=1)
    losses = -tf.math.divide_no_nan(tf.reduce_sum(is_positive * log_shares, axis=1), num_positives)
    return tf.reduce_sum(losses) / tf.cast(tf.math.count_nonzero(num_positives), tf.float32)


def distance_weighted_definition(labels: Any, embeddings: Any) -> Any:
    """Return the mean loss over anchor-positive pairs, with the draws of seed 0 and step 0."""
    from model.estimator import tf
    from model.mining.draws import uniform_by_pair

    distances, size = _plain_distances(embeddings), tf.shape(embeddings, out_type=tf.int64)[0]
    is_positive, is_negative = _plain_masks(labels)
    lengths = tf.sqrt(tf.maximum(2.0 - 2.0 * tf.cast(_cosines(embeddings), tf.float64), 0.0))
    clipped = tf.maximum(lengths, 0.5)
    density = tf.pow(clipped, float(EMBEDDING_SIZE - 2))
    density *= tf.pow(1.0 - clipped**2 / 4.0, (EMBEDDING_SIZE - 3) / 2.0)
    is_drawable = tf.logical_and(is_negative > 0.0, lengths < 1.4)
    sums = tf.cumsum(tf.where(is_drawable, 1.0 / density, tf.zeros_like(density)), axis=1)
    draws = uniform_by_pair(tf.range(size), size, (0, 0)) * sums[:, -1:]
    # [B, B, B], axes a p n: the first negative whose sum exceeds the draw
    chosen = tf.argmax(tf.cast(sums[:, None, :] > draws[:, :, None], tf.uint8), axis=2)
    is_drawn = tf.logical_and(is_positive > 0.0, sums[:, -1:] > 0.0)
    losses = distances - tf.gather(distances, chosen, batch_dims=1) + MARGIN
    return tf.reduce_mean(tf.maximum(tf.boolean_mask(losses, is_drawn), 0.0))


DEFINITIONS = {
    "batch_all": batch_all_definition,
    "batch_hard": batch_hard_definition,
    "batch_semihard": batch_semihard_definition,
    "distance_weighted": distance_weighted_definition,
    "easy_positive": easy_positive_definition,
    "multi_similarity": multi_similarity_definition,
    "supervised_contrastive": supervised_contrastive_definition,
}

# Definitions that build no tensor of B^3 numbers.
WITHOUT_CUBE = {"batch_hard", "easy_positive", "multi_similarity", "supervised_contrastive"}

CONTESTANTS = {
    "ours": make_ours,
    "floor": make_floor,
    "definition": make_definition,
    "PML": make_pml,
}
