"""Batches beyond memory: `python -m benchmarks.batches`.

1. The peak memory of a training step, whole and in micro-batches, each in a process of its own.
2. The processor time of a step in micro-batches, relative to the whole batch; both take turns in
   one process. Processor time, because it depends less on other work on the same machine.
3. What a memory of embeddings brings: short trainings with a small batch, and the MAP@R that they
   reach on the validation split.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import (
    REPOSITORY,
    Contestant,
    Step,
    add_arguments,
    print_circumstances,
    print_table,
    progress,
    without_log,
)
from src.data.loading import load_data
from src.data.split import Split
from src.embeddings.retrieval import rank_gallery
from src.mining.batches import training_batches
from src.params.schema import Params

# Of the trainings with a memory, besides the demo's.
_SMALL_BATCH = 32


def params_of(batch_size: int, micro_batch_size: int | None) -> Params:
    """Return params of the three-block network."""
    return Params(
        num_blocks=3,
        l2_normalize=True,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        learning_rate=1e-9,  # a batch that is learned would have less work
    )


def make_step(batch_size: int, micro_batch_size: int | None) -> Step:
    """Return a training step on one batch of random 28 x 28 images in ten classes."""
    rng = np.random.default_rng(0)
    images = rng.random((batch_size, 28, 28, 1), np.float32)
    labels = (np.arange(batch_size) % 10).astype(np.int32)
    training = Training(params_of(batch_size, micro_batch_size), images.shape[1:])
    return lambda: training.step(images, labels)


class Training:
    """A new training, one step after the other, without an Estimator."""

    def __init__(self, params: Params, image_shape: tuple[int, ...]) -> None:
        """Draw the weights."""
        from model.estimator import tf

        self._params = params
        self._image_shape = image_shape
        with tf.Graph().as_default():
            images, labels, spec = self._graph("train")
            self._weights = tf.compat.v1.trainable_variables()
            self._session = tf.compat.v1.Session()
            self._session.run(tf.compat.v1.global_variables_initializer())
            self._step = self._session.make_callable([spec.loss, spec.train_op], [images, labels])

    def step(self, images: NDArray[np.float32], labels: NDArray[np.int32]) -> float:
        """Train on a batch and return its loss; float32 [B, H, W, C] in [0, 1], int32 [B]."""
        return float(self._step(images, labels)[0])

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed images, uint8 [N, H, W, C], with the weights so far: float32 [N, D]."""
        from model.estimator import tf

        weights = self._session.run({v.op.name: v for v in self._weights})
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            given, _, spec = self._graph("infer")
            for variable in tf.compat.v1.trainable_variables():
                variable.load(weights[variable.op.name], session)
            parts = np.array_split(images, -(-len(images) // 256))
            fetch = spec.predictions["embeddings"]
            found = [session.run(fetch, {given: part / np.float32(255)}) for part in parts]
        return np.concatenate(found)

    def _graph(self, mode: str) -> tuple[Any, Any, Any]:
        from model.estimator import tf
        from model.model_fn import model_fn

        images = tf.compat.v1.placeholder(tf.float32, [None, *self._image_shape])
        labels = tf.compat.v1.placeholder(tf.int32, [None]) if mode == "train" else None
        tf.compat.v1.set_random_seed(self._params.seed)
        tf.compat.v1.train.get_or_create_global_step()
        return images, labels, model_fn(images, labels, mode, self._params)


def measure_peaks(sizes: Sequence[int | None], batch_size: int) -> list[float]:
    """Return the peak memory in MB of two steps, for each size of a part; None for whole."""
    peaks = []
    for size in sizes:
        progress(f"peak memory, batch {batch_size}, micro_batch_size {size}")
        contestant = Contestant(make_step, batch_size, size)
        contestant.wait()
        contestant.seconds_a_step(0)
        peaks.append(contestant.close())
    return peaks


def measure_times(sizes: Sequence[int | None], batch_size: int, rounds: int) -> list[list[float]]:
    """Return the processor seconds of `rounds` steps for each size; the sizes take turns."""
    steps = [make_step(batch_size, size) for size in sizes]
    seconds: list[list[float]] = [[] for _ in sizes]
    for turn in range(rounds + 1):
        progress(f"processor time, batch {batch_size}, turn {turn} of {rounds}")
        for step, of_size in zip(steps, seconds, strict=True):
            start = time.process_time()
            step()
            of_size.append(time.process_time() - start)
    return [of_size[1:] for of_size in seconds]  # the first turn also plans the graph


def map_at_r(train: Split, validation: Split, params: Params, num_steps: int) -> float:
    """Train for some steps and return the MAP@R among the validation images."""
    training = Training(params, train.images.shape[1:])
    for batch in islice(training_batches(train, params).from_step(0), num_steps):
        training.step(train.images[batch] / np.float32(255), train.labels[batch])
    embeddings, labels = training.embed(validation.images[:]), validation.labels
    ranking = rank_gallery(embeddings, labels)
    found = ranking.mean_over_answerable(ranking.average_precision)
    assert found is not None
    return found


def main() -> None:
    """Measure, and print three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--batch_size", type=int, default=8192)
    parser.add_argument("--sizes", type=int, nargs="*", default=[64, 256, 1024])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memories", type=int, nargs="*", default=[0, 512, 2048])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    sizes = [None, *args.sizes]
    peaks = measure_peaks(sizes, args.batch_size)
    with without_log():
        times = measure_times(sizes, args.batch_size, args.rounds)
    medians = [statistics.median(of_size) for of_size in times]
    print_table(
        ["micro_batch_size", "peak MB", "CPU s / step", "/ whole"],
        [
            [str(size or "whole"), f"{peak:.0f}", f"{median:.2f}", f"{median / medians[0]:.2f}"]
            for size, peak, median in zip(sizes, peaks, medians, strict=True)
        ],
        markdown=args.markdown,
    )
    rows = []
    for size in args.memories:
        found = []
        for seed in range(args.seeds):
            progress(f"memory_size {size}, seed {seed}")
            params = Params(l2_normalize=True, batch_size=_SMALL_BATCH, memory_size=size, seed=seed)
            data = load_data(params, REPOSITORY / "data")
            with without_log():
                found.append(
                    map_at_r(data.splits["train"], data.splits["validation"], params, args.steps)
                )
        each = " ".join(f"{value:.4f}" for value in found)
        rows.append([str(size), each, f"{statistics.mean(found):.4f}"])
    print_table(["memory_size", "MAP@R, each seed", "mean"], rows, markdown=args.markdown)
    print_circumstances(
        "benchmarks.batches",
        f"Batch {args.batch_size} of 28 x 28, three blocks: peaks of a process, medians of "
        f"{args.rounds} interleaved turns. Memory: batch {_SMALL_BATCH}, {args.steps} steps.",
        ["numpy", "tensorflow"],
    )


if __name__ == "__main__":
    main()
