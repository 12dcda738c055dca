"""Steps a second of 1 and 2 workers, one core each: `make bench-devices`; and a model for more.

Each worker has one core, so that two workers have twice the processors of one. A batch's size is
the same, because the number of workers changes speed, not what is learned.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.harness import (
    REPOSITORY,
    add_arguments,
    print_circumstances,
    print_table,
    warn_if_busy,
)
from src.params.schema import Params

CLASSES, EXAMPLES = 32, 16
PARAMS = Params(
    num_blocks=3,
    batch_size=CLASSES * EXAMPLES,
    classes_per_batch=CLASSES,
    examples_per_class=EXAMPLES,
)
IMAGE_SHAPE = (28, 28, 1)
STEPS, ROUNDS = 5, 5

# The network of the model: what is assumed, not measured.
MODEL_BYTES_PER_SECOND = 1.25e9  # 10 Gbit/s
MODEL_SECONDS_PER_MESSAGE = 50e-6
MODEL_WORKERS = (8, 64, 512)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure 1 and 2 workers, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", nargs=2, type=int, metavar=("RANK", "PORT"))
    parser.add_argument("--size", type=int, default=1)
    add_arguments(parser)
    args = parser.parse_args(argv)
    if args.worker:
        print(json.dumps(measure(*args.worker, args.size)))
        return
    warn_if_busy()
    if (os.cpu_count() or 1) < 2:
        sys.exit("error: benchmarks.devices: found 1 core; accepted: 2, one for each worker")
    measured = {size: run_workers(size) for size in (1, 2)}
    rows = []
    for size, seconds in measured.items():
        step = seconds["step"]
        rows.append(
            [
                str(size),
                f"{1e3 * step:.1f}",
                f"{PARAMS.batch_size / step:.0f}",
                f"{measured[1]['step'] / step:.2f}",
                *(f"{100 * seconds[part] / step:.1f} %" for part in ("mining", "exchange")),
            ]
        )
    print_table(
        ["workers", "ms a step", "images/s", "times as fast", "mining", "gathering, adding"],
        rows,
        markdown=args.markdown,
    )
    print(
        f"\nA model, not measured: a step of {PARAMS.batch_size} images divided among more "
        "workers of one such core. Embedding and mining are divided; a ring adds "
        f"{measured[2]['bytes'] / 1e6:.1f} MB a step at {MODEL_BYTES_PER_SECOND / 1.25e8:.0f} "
        f"Gbit/s, with {1e6 * MODEL_SECONDS_PER_MESSAGE:.0f} us a message.\n"
    )
    rows = []
    for per_worker in (None, 64):
        for size in MODEL_WORKERS if per_worker is None else MODEL_WORKERS[1:]:
            rows.append(modelled(measured[1], measured[2]["bytes"], size, per_worker))
    print_table(
        [
            "workers",
            "batch",
            "ms a step",
            "images/s",
            "times as fast",
            "mining",
            "gathering, adding",
        ],
        rows,
        markdown=args.markdown,
    )

    print_circumstances("benchmarks.devices", f"Medians of {ROUNDS} turns of {STEPS} steps.")


def modelled(one: dict[str, float], num_bytes: float, size: int, per_worker: int | None) -> list:
    """Return a row of the model.

    Args:
        one: the seconds of one worker's parts.
        num_bytes: what a worker adds up or gathers in a step of the measured batch.
        size: the number of workers.
        per_worker: images of each; None for the measured batch, divided.
    """
    batch = per_worker * size if per_worker else PARAMS.batch_size
    growth = batch / PARAMS.batch_size
    embedding = (one["step"] - one["mining"]) * growth / size
    mining = one["mining"] * growth**2 / size  # anchors times candidates
    embeddings = batch * PARAMS.embedding_size * 4
    weights = num_bytes - 2 * PARAMS.batch_size * PARAMS.embedding_size * 4
    # A ring adds up in 2 (W - 1) messages of 1 / W each, and gathers in half of that.
    exchange = (2 * weights + 3 * embeddings) * (size - 1) / size / MODEL_BYTES_PER_SECOND
    exchange += (3 * 2 + 1) * (size - 1) * MODEL_SECONDS_PER_MESSAGE
    step = embedding + mining + exchange
    faster = batch / step / (PARAMS.batch_size / one["step"])
    shares = (f"{100 * part / step:.1f} %" for part in (mining, exchange))
    return [
        str(size),
        str(batch),
        f"{1e3 * step:.1f}",
        f"{batch / step:.0f}",
        f"{faster:.1f}",
        *shares,
    ]


def run_workers(size: int) -> dict[str, float]:
    """Start workers, one on each core, and return what the chief measured."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.devices", "--size", str(size), "--worker"]
    workers = [
        subprocess.Popen(
            [*command, str(rank), str(port)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for rank in range(size)
    ]
    outputs = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        sys.exit(f"error: benchmarks.devices: a worker of {size} has failed")
    return json.loads(outputs[0].splitlines()[-1])


def measure(rank: int, port: int, size: int) -> dict[str, float]:
    """Return the seconds of a step, of its mining and of its exchanges, and the bytes exchanged."""
    # Long: one graph for each part.
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    from model.distribution import Distribution
    from model.estimator import estimator, tf
    from model.mining.by_params import loss_by_params
    from model.model_fn import model_fn
    from model.workers import Workers
    from src.system.cluster import Cluster

    v1 = tf.compat.v1
    batch, depth = PARAMS.batch_size, PARAMS.embedding_size
    distribution = Distribution(rank, size, max_size=batch)
    workers, target, config = None, "", None
    if size > 1:
        names = tuple(f"worker {i}" for i in range(size))
        addresses = tuple(f"127.0.0.1:{port + i}" for i in range(size))
        workers = Workers(Cluster(names, addresses, rank), v1.ConfigProto())
        target, config = workers.target, workers.config
    rng = np.random.default_rng(0)
    images = rng.random((batch, *IMAGE_SHAPE), np.float32)[distribution.own_columns(batch)]
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), EXAMPLES)
    embeddings = rng.normal(size=(batch, depth)).astype(np.float32)

    def seconds_of(build: Callable[[], object]) -> float:
        with tf.Graph().as_default():
            v1.train.get_or_create_global_step()
            fetches = build()
            with v1.Session(target, config=config) as session:
                session.run(v1.global_variables_initializer())
                times = []
                for _ in range(ROUNDS + 1):
                    started = time.perf_counter()
                    for _ in range(STEPS):
                        session.run(fetches)
                    times.append((time.perf_counter() - started) / STEPS)
        return float(np.median(times[1:]))

    def step() -> object:
        given = tf.constant(images), tf.constant(labels)
        return model_fn(
            *given, estimator.ModeKeys.TRAIN, PARAMS, distribution=distribution
        ).train_op

    def mining() -> object:
        candidates = tf.Variable(embeddings)  # not a constant, which would be computed once
        own = distribution.own(batch)
        anchors = tf.range(own.first, own.end) if size > 1 else None
        triplets = loss_by_params(
            tf.constant(labels), candidates, PARAMS, training=True, anchors=anchors
        )
        return tf.gradients(triplets.loss, candidates), triplets.num_valid_triplets

    weights: list[tuple[int, ...]] = []
    with tf.Graph().as_default():
        v1.train.get_or_create_global_step()
        model_fn(tf.constant(images), None, estimator.ModeKeys.PREDICT, PARAMS)
        weights = [tuple(v.shape.as_list()) for v in v1.trainable_variables()]

    def exchange() -> object:
        own = tf.Variable(embeddings[: len(images)])
        gathered = distribution.gather(own, tf.constant(batch))
        gradient = distribution.gradient_of_own(gathered, tf.constant(batch))
        with tf.control_dependencies([gradient]):
            return distribution.add_gradients(
                [tf.zeros(shape) + gradient[0, 0] for shape in weights]
            )

    found = {"step": seconds_of(step), "mining": seconds_of(mining), "exchange": 0.0}
    if workers:
        found["exchange"] = seconds_of(exchange)
        workers.tell(b"the end" if rank == 0 else None)
        workers.close()
    found["bytes"] = 4 * (sum(map(int, map(np.prod, weights))) + 2 * batch * depth)
    return found


if __name__ == "__main__":
    main()
