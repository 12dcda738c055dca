"""Images per second in training: `python -m benchmarks.training`.

Three contestants take turns, each in a process of its own, on one network, batch_all loss, Adam
and batch size, on two kinds of data:

- train.py: the program itself, on MNIST, with its batches, summaries and checkpoints. Pauses for
  evaluations are known from the event files and left out; a line below the table includes them.
- bare loop: a `tf.function` of the same network, loss and optimizer, called in a loop.
- PyTorch: the same network, with pytorch-metric-learning's loss and PyTorch's Adam.

The last two train on one batch that stays in memory, at a learning rate of nearly 0. At a real
rate, the batch would soon be learned, and a step would have less work. Both start from the same
weights, and their first losses are checked to be equal.

Further contestants are the batch source of train.py, iterated without a network; train.py in
bfloat16; and, in both dtypes, the network's convolutions alone: forward, and the gradients of their
kernels and inputs. The share of the convolutions' speed tells what all else costs.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
    warn_if_busy,
    without_log,
)
from src.data.loading import load_data
from src.data.sampling import ShuffledBatches
from src.data.split import Split
from src.params.schema import Params
from src.registry import TRIPLET_STRATEGIES, look_up

PARAMS: dict[str, Any] = {
    "batch_size": 64,
    "network": "naive_cnn",
    "triplet_strategy": "batch_all",
    "l2_normalize": True,
    "margin": 0.5,
}
TOLERANCE = 1e-4

# The first steps of train.py are not counted.
_WARM_UP_STEPS = 100
_RESTING_LEARNING_RATE = 1e-9


class Speed(NamedTuple):
    """The speed of a run of train.py, read from its event files.

    Attributes:
        images_a_second: images per second without the pauses for evaluation.
        images_a_second_overall: images per second with these pauses.
        pauses: the length of each pause in seconds.
        seconds: the total time measured.
    """

    images_a_second: float
    images_a_second_overall: float
    pauses: list[float]
    seconds: float


def load_training_split(params: Params) -> Split:
    """Return the training split of MNIST."""
    return load_data(params, REPOSITORY / "data").splits["train"]


def resident_batch(params: Params) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the first batch of a training: images float32 [B, H, W, C] in [0, 1], labels int32."""
    split = load_training_split(params)
    indices = next(ShuffledBatches(len(split), params.batch_size, params.seed).from_step(0))
    return split.images[indices] / np.float32(255), split.labels[indices]


def initial_weights(params: Params, image_shape: tuple[int, int, int]) -> list[NDArray[np.float32]]:
    """Return weights as Keras draws them: kernels, HWIO or [in, out], each with zero biases."""
    rng = np.random.default_rng(0)
    height, width, channels = image_shape
    shapes: list[tuple[int, ...]] = []
    for block in range(params.num_blocks):
        shapes.append((3, 3, channels, params.num_channels * 2**block))
        height, width, channels = height // 2, width // 2, shapes[-1][-1]
    shapes.append((height * width * channels, params.embedding_size))
    weights = []
    for shape in shapes:
        fans = np.prod(shape[:-2]) * (shape[-2] + shape[-1])
        limit = np.sqrt(6.0 / fans)
        weights += [rng.uniform(-limit, limit, shape).astype(np.float32)]
        weights += [np.zeros(shape[-1], np.float32)]
    return weights


# --- The contestants, each made in its own process ---


def make_bare_loop(params: Params) -> Step:
    """Return a training step in TensorFlow, without an Estimator."""
    from model.network import build_network

    images, labels = resident_batch(params)
    network = build_network(params, images.shape[1:])
    network.set_weights(initial_weights(params, images.shape[1:]))
    return bare_loop(network, params, images, labels)


def bare_loop(
    network: Any, params: Params, images: NDArray[np.float32], labels: NDArray[np.int32]
) -> Step:
    """Return a training step of a Keras model on one resident batch, in TensorFlow alone."""
    from model.estimator import keras, tf

    strategy = look_up(TRIPLET_STRATEGIES, params.triplet_strategy)
    optimizer = keras.optimizers.legacy.Adam(_RESTING_LEARNING_RATE)
    is_scaled = params.compute_dtype == "float16"
    if is_scaled:
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)

    @tf.function
    def train(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            embeddings = network(images, training=True)
            loss = strategy(
                labels,
                embeddings,
                margin=params.margin,
                distance=params.distance_name,
                **params.arguments_of(params.triplet_strategy),
            ).loss
            scaled = optimizer.get_scaled_loss(loss) if is_scaled else loss
        gradients = tape.gradient(scaled, network.trainable_variables)
        if is_scaled:
            gradients = optimizer.get_unscaled_gradients(gradients)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return loss

    batch = tf.constant(images), tf.constant(labels)
    return lambda: float(train(*batch).numpy())


def make_pytorch(params: Params) -> Step:
    """Return a training step in PyTorch with pytorch-metric-learning."""
    import torch
    from pytorch_metric_learning import distances, losses, reducers

    images, labels = resident_batch(params)
    weights = initial_weights(params, images.shape[1:])
    layers: list[torch.nn.Module] = []
    height, width, channels = images.shape[1:]
    for kernel in weights[:-2:2]:
        layers += [torch.nn.Conv2d(channels, kernel.shape[-1], 3, padding="same")]
        layers += [torch.nn.MaxPool2d(2), torch.nn.ReLU()]
        height, width, channels = height // 2, width // 2, kernel.shape[-1]
    layers += [torch.nn.Flatten(), torch.nn.Linear(height * width * channels, weights[-1].size)]
    network = torch.nn.Sequential(*layers)
    # Convert HWIO to OIHW, and the dense layer's inputs from order H W C to C H W.
    dense = weights[-2].reshape(height, width, channels, -1).transpose(3, 2, 0, 1)
    kernels = [kernel.transpose(3, 2, 0, 1) for kernel in weights[:-2:2]]
    kernels.append(dense.reshape(len(dense), -1))
    with torch.no_grad():
        for parameter, value in zip(
            network.parameters(),
            (array for pair in zip(kernels, weights[1::2], strict=True) for array in pair),
            strict=True,
        ):
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))

    loss_fn = losses.TripletMarginLoss(
        margin=params.margin,
        distance=distances.LpDistance(p=2, normalize_embeddings=False),
        reducer=reducers.AvgNonZeroReducer(),
    )
    optimizer = torch.optim.Adam(network.parameters(), _RESTING_LEARNING_RATE)
    batch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    classes = torch.from_numpy(labels).long()

    def step() -> float:
        optimizer.zero_grad()
        embeddings = torch.nn.functional.normalize(network(batch), dim=1)
        loss = loss_fn(embeddings, classes)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def make_batch_source(params: Params) -> Step:
    """Return a step that loads the next training batch of train.py."""
    from model.input_fn import train_input_fn

    batches = iter(train_input_fn(load_training_split(params), params, first_step=0))
    return lambda: len(next(batches)[1].numpy())


def convolutions(params: Params, image_shape: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """Return the shapes (H, W, inputs, outputs) of naive_cnn's convolutions."""
    height, width, channels = image_shape
    shapes = []
    for block in range(params.num_blocks):
        outputs = params.num_channels * 2**block
        shapes.append((height >> block, width >> block, channels, outputs))
        channels = outputs
    return shapes


def mflop_an_image(params: Params, image_shape: tuple[int, int, int]) -> float:
    """Return the MFLOP of the convolutions for an image, forward and backward.

    Each takes three products of the same size; the first has no gradient of its input.
    """
    products = [2 * 9 * h * w * i * o / 1e6 for h, w, i, o in convolutions(params, image_shape)]
    return 3 * sum(products) - products[0]


def make_convolutions(params: Params, dtype: str) -> Step:
    """Return a step of the network's convolutions alone, on one resident batch."""
    from model.estimator import tf

    rng = np.random.default_rng(0)
    inputs, kernels = [], []
    for h, w, i, o in convolutions(params, load_training_split(params).images.shape[1:]):
        shape = (params.batch_size, h, w, i)
        inputs.append(tf.cast(rng.standard_normal(shape, np.float32), dtype))
        kernels.append(tf.cast(rng.standard_normal((3, 3, i, o), np.float32), dtype))

    @tf.function
    def run(inputs: list[tf.Tensor], kernels: list[tf.Tensor]) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([inputs[1:], kernels])
            outputs = [
                tf.nn.conv2d(x, kernel, 1, "SAME")
                for x, kernel in zip(inputs, kernels, strict=True)
            ]
        # Any gradients of the outputs will do: the outputs themselves.
        return tape.gradient(outputs, [*inputs[1:], *kernels], output_gradients=outputs)

    return lambda: float(tf.cast(run(inputs, kernels)[-1][0, 0, 0, 0], tf.float32).numpy())


# --- train.py ---


def run_train(
    params: dict[str, Any], num_examples: int, data_dir: Path = REPOSITORY / "data"
) -> Speed:
    """Run train.py in a new experiment and read its speed from the event files.

    Args:
        params: the experiment's params.
        num_examples: the number of examples in the training split.
        data_dir: the folder of all datasets.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        model_dir = Path(folder)
        (model_dir / "params.json").write_text(json.dumps(params))
        command = [sys.executable, "train.py", "--model_dir", folder, "--data_dir", str(data_dir)]
        command += ["--replicas", "1"]  # as all that it is compared with
        finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        if finished.returncode:
            raise SystemExit(f"{' '.join(command)}:\n{finished.stderr}")
        return read_speed(model_dir, num_examples, Params(**params).batch_size)


def read_speed(model_dir: Path, num_examples: int, batch_size: int) -> Speed:
    """Read the speed of a training from its event files.

    A pause starts when a checkpoint is recorded as written, and ends when the metrics of the
    evaluation after it are written.
    """
    steps = [
        (event.wall_time, event.step)
        for event in read_events(model_dir)
        if event.HasField("summary") and event.step >= _WARM_UP_STEPS
    ]
    if not steps or steps[0][1] == steps[-1][1]:
        raise SystemExit(f"more than {_WARM_UP_STEPS} steps are needed: give more --epochs")
    (start, first_step), (end, last_step) = min(steps), max(steps)
    evaluated = sorted(
        event.wall_time
        for event in read_events(model_dir / "eval_validation")
        if event.HasField("summary")
    )
    pauses = []
    for event in read_events(model_dir):
        if event.HasField("session_log") and start < event.wall_time < end:
            done = next((moment for moment in evaluated if moment > event.wall_time), None)
            if done is not None and done < end:
                pauses.append(done - event.wall_time)
    num_images = (last_step - first_step) * num_examples / -(-num_examples // batch_size)
    return Speed(
        num_images / (end - start - sum(pauses)), num_images / (end - start), pauses, end - start
    )


def read_events(folder: Path) -> list[Any]:
    """Return the events of all event files in a folder."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    paths = sorted(folder.glob("events.out.tfevents.*"))
    return [event for path in paths for event in EventFileLoader(str(path)).Load()]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training",
        description=(__doc__ or "").split("\n", 2)[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="turns of each (default: 3)")
    add("--epochs", type=int, default=8, help="of train.py, each turn (default: 8)")
    add("--num_blocks", type=int, default=2, help="of the network (default: 2)")
    add("--seconds", type=float, default=30, help="of a turn of the others (default: 30)")
    add_arguments(parser)
    args = parser.parse_args(argv)
    warn_if_busy()

    keys = {**PARAMS, "num_blocks": args.num_blocks, "num_epochs": args.epochs}
    params = Params(**keys)
    num_examples = len(load_training_split(params))
    others = {
        "bare loop": Contestant(make_bare_loop, params),
        "PyTorch": Contestant(make_pytorch, params),
        "batch source": Contestant(make_batch_source, params),
        "convolutions": Contestant(make_convolutions, params, "float32"),
        "convolutions, bfloat16": Contestant(make_convolutions, params, "bfloat16"),
    }
    for contestant in others.values():
        contestant.wait()
    bare_loss, pytorch_loss = others["bare loop"].first, others["PyTorch"].first
    if abs(bare_loss - pytorch_loss) > TOLERANCE * abs(bare_loss):
        raise SystemExit(f"first loss: bare loop {bare_loss}, PyTorch {pytorch_loss}")

    images_a_step = {name: params.batch_size for name in others}
    images_a_step["batch source"] = num_examples / -(-num_examples // params.batch_size)
    speeds: dict[str, list[float]] = {
        name: [] for name in ("train.py", "train.py, bfloat16", *others)
    }
    runs = []
    for number in range(1, args.rounds + 1):
        for name, contestant in others.items():
            progress(f"round {number} of {args.rounds}: {name} ...")
            seconds = contestant.seconds_a_step(args.seconds)
            speeds[name].append(images_a_step[name] / seconds)
        progress(f"round {number} of {args.rounds}: train.py ...")
        start = time.perf_counter()
        with without_log():  # TensorBoard imports TensorFlow
            runs.append(run_train(keys, num_examples))
            half = run_train({**keys, "compute_dtype": "bfloat16"}, num_examples)
        speeds["train.py"].append(runs[-1].images_a_second)
        speeds["train.py, bfloat16"].append(half.images_a_second)
        progress(f"  {time.perf_counter() - start:.0f} s in all, {runs[-1].seconds:.0f} s counted")
    for contestant in others.values():
        contestant.close()

    medians = {name: statistics.median(values) for name, values in speeds.items()}
    rows = [
        [
            name,
            " ".join(f"{speed:.0f}" for speed in speeds[name]),
            f"{median:.0f}",
            *(f"{median / medians[other]:.2f}" for other in ("bare loop", "PyTorch", "train.py")),
        ]
        for name, median in medians.items()
    ]
    header = ["images a second", "each turn", "median", "/ bare loop", "/ PyTorch", "/ train.py"]
    print_table(header, rows, markdown=args.markdown)
    overall = statistics.median(run.images_a_second_overall for run in runs)
    pauses = [pause for run in runs for pause in run.pauses]
    each = f"{statistics.median(pauses):.2f} s" if pauses else "none"
    print(
        f"\ntrain.py with its pauses for evaluation ({each} each): {overall:.0f} images a second."
    )
    mflop = mflop_an_image(params, load_training_split(params).images.shape[1:])
    for name in ("convolutions", "convolutions, bfloat16"):
        of_it = medians[name.replace("convolutions", "train.py")] / medians[name]
        print(
            f"{name}: {mflop * medians[name] / 1000:.0f} GFLOP/s, {mflop:.1f} MFLOP an image; "
            f"train.py reaches {of_it:.2f} of their speed."
        )
    print_circumstances(
        "benchmarks.training",
        f"Medians over {args.rounds} interleaved turns; batch {params.batch_size}, "
        f"{params.network}, {params.triplet_strategy}, first loss {bare_loss:.4f} in both loops.",
    )


if __name__ == "__main__":
    main()
