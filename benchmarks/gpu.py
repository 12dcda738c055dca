"""What a GPU makes of this project, in at most ten minutes: `python -m benchmarks.gpu`.

It runs the tests of mining on the GPU. Then it measures mining at B = 1024, 4096 and 8192 beside
the definition's cube, where that fits, and pytorch-metric-learning. Then train.py, on the demo's
network and on one for 224 x 224 pixels, in float32 and in half precision, beside a bare loop of the
same network, loss and optimizer over one resident batch. It writes docs/gpu.md.

Without a GPU it says so and exits with code 2. `--cpu` rehearses everything with tiny sizes on the
processor and prints the page; its numbers mean nothing.
"""

# Long: one script, from the tests to the page.

import argparse
import datetime
import importlib.util
import json
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import (
    REPOSITORY,
    Contestant,
    Step,
    progress,
    version_of,
    without_log,
)
from benchmarks.mining import TOLERANCE
from benchmarks.mining_contestants import CONTESTANTS, Case
from benchmarks.training import PARAMS, bare_loop, run_train
from src.params.schema import Params
from src.system.accelerators import why_no_gpu
from src.system.process import prepare_for_tensorflow

PAGE = REPOSITORY / "docs" / "gpu.md"

_SECONDS = 600  # for everything
_MINING_GOAL_MS = 10.0  # batch_all at B = 4096
_TRAINING_GOAL = 0.9  # of a bare loop


class Plan(NamedTuple):
    """What is run, and how large.

    Attributes:
        tests: the arguments of pytest.
        strategies: of mining.
        sizes: the batch sizes of mining.
        cube_max: the largest batch of the definition.
        turn: seconds of a turn.
        epochs: of train.py on MNIST.
        num_pictures: random pictures of the larger network.
        picture_size: their height and width.
        picture_epochs: of train.py on these.
        network: the keys of the larger network, and its batch size.
        dtypes: of each training.
    """

    tests: tuple[str, ...]
    strategies: tuple[str, ...]
    sizes: tuple[int, ...]
    cube_max: int
    turn: float
    epochs: int
    num_pictures: int
    picture_size: int
    picture_epochs: int
    network: dict[str, Any]
    dtypes: tuple[str, ...]


_TESTS = ("tests/mining/test_sorting.py", "tests/mining/test_rectangle.py")
# `sorting` is the way on the processor; it is also part of a file's name, which -k looks at too.
_ON_DEVICE = ("-k", "test_sorting or not sorting")
ON_GPU = Plan(
    tests=(*_TESTS, "tests/triplet_strategies/test_triplet_strategies.py", *_ON_DEVICE),
    strategies=("batch_all", "batch_hard", "batch_semihard"),
    sizes=(1024, 4096, 8192),
    cube_max=1024,
    turn=0.5,
    epochs=2,
    num_pictures=3200,
    picture_size=224,
    picture_epochs=6,
    network={"network": "keras_application", "application": "ResNet50", "batch_size": 64},
    dtypes=("float32", "bfloat16", "float16"),
)
REHEARSAL = Plan(
    tests=("tests/system/test_accelerators.py",),  # of those without TensorFlow
    strategies=("batch_all",),
    sizes=(32,),
    cube_max=32,
    turn=0.01,
    epochs=0,  # of MNIST, an epoch takes a minute
    num_pictures=160,
    picture_size=16,
    picture_epochs=20,
    network={"num_channels": 4, "batch_size": 16},
    dtypes=("bfloat16",),
)


def run_tests(plan: Plan, seconds: float) -> str:
    """Run the tests of mining where TensorFlow places them, and return pytest's last line."""
    progress("tests ...")
    command = [sys.executable, "-m", "pytest", "-q", *plan.tests]
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds:.0f} s"
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
    failed = [line for line in lines if line.startswith("FAILED")]
    return "; ".join([lines[-1], *failed[:5]])


def measure_mining(plan: Plan, deadline: float) -> list[list[str]]:
    """Return the table's rows: milliseconds of each contestant, in turns, and the goal."""
    rows = []
    for size in plan.sizes:
        for strategy in plan.strategies:
            case = Case(strategy, "10 classes", size)
            progress(f"{strategy}, B = {size} ...")
            found = _times(case, plan) if time.monotonic() < deadline else {}
            goal = f"{_MINING_GOAL_MS:g}" if (strategy, size) == ("batch_all", 4096) else ""
            cells = (found.get(name, "no time left") for name in ("ours", "definition", "PML"))
            rows.append([strategy, str(size), *cells, goal])
    return rows


def _times(case: Case, plan: Plan) -> dict[str, str]:
    """Return the milliseconds of each contestant, or why there are none."""
    found: dict[str, str] = {}
    running = {}
    for name in ("ours", "definition", "PML"):
        if name == "PML" and case.strategy == "batch_semihard":
            found[name] = "has none"
        elif name == "PML" and importlib.util.find_spec("pytorch_metric_learning") is None:
            found[name] = "not installed"
        elif name != "ours" and case.strategy != "batch_hard" and case.size > plan.cube_max:
            found[name] = "too large"
        else:
            running[name] = Contestant(CONTESTANTS[name], case)
            try:
                running[name].wait()
            except ChildProcessError as error:  # the card's memory ran out
                found[name] = str(error)
                del running[name]
    results = [contestant.first for contestant in running.values()]
    if not all(np.allclose(result, results[0], rtol=TOLERANCE, atol=0.0) for result in results):
        raise SystemExit(f"{case}: loss and gradient norm differ: {results}")
    turns: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(3):
        for name, contestant in running.items():
            turns[name].append(contestant.seconds_a_step(plan.turn))
    for name, contestant in running.items():
        contestant.close()
        found[name] = f"{1000 * statistics.median(turns[name]):.3g}"
    return found


def make_loop(params: Params, image_shape: tuple[int, int, int]) -> Step:
    """Return a training step over one resident batch of random images, without an Estimator."""
    from model.network import build_network

    rng = np.random.default_rng(0)
    images = rng.random((params.batch_size, *image_shape), np.float32)
    labels = np.arange(params.batch_size, dtype=np.int32) % 10
    return bare_loop(build_network(params, image_shape), params, images, labels)


@contextmanager
def random_pictures(plan: Plan) -> Iterator[Path]:
    """Make a data folder with random pictures of ten classes; it is removed at the end."""
    from PIL import Image

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="benchmark-pictures-") as folder:
        for number in range(plan.num_pictures):
            path = Path(folder) / "image_folder" / f"class_{number % 10}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = rng.integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(coarse).resize((plan.picture_size,) * 2).save(path, compress_level=1)
        yield Path(folder)


def measure_training(plan: Plan, deadline: float) -> list[list[str]]:
    """Return the table's rows: images a second of train.py and of a bare loop."""
    rows = []
    demo = {**PARAMS, "num_epochs": plan.epochs}
    size = plan.picture_size
    large = {
        **{"dataset": "image_folder", "image_size": size, "test_fraction": 0.1},
        **{**plan.network, "l2_normalize": True},
        **{"num_epochs": plan.picture_epochs, "save_checkpoints_steps": 100_000},
    }
    # Of these pictures, a tenth is for tests and a sixth of the rest for validation.
    num_pictures = round(round(plan.num_pictures * 0.9) * 5 / 6)
    with random_pictures(plan) as pictures:
        name = f"{plan.network.get('application', 'naive_cnn')}, {size} px"
        networks = [(name, large, num_pictures, (size, size, 3), pictures)]
        if plan.epochs:
            demo_data = REPOSITORY / "data"
            networks.insert(0, ("naive_cnn, MNIST", demo, 50_000, (28, 28, 1), demo_data))
        for name, keys, num_examples, image_shape, data_dir in networks:
            for dtype in plan.dtypes:
                progress(f"{name}, {dtype} ...")
                if time.monotonic() > deadline:
                    rows.append([name, dtype, "no time left", "", "", ""])
                    continue
                params = {**keys, "compute_dtype": dtype}
                rows.append([name, dtype, *_speeds(params, num_examples, image_shape, data_dir)])
    return rows


def _speeds(
    params: dict[str, Any], num_examples: int, image_shape: tuple[int, int, int], data_dir: Path
) -> list[str]:
    """Return images a second of train.py and the bare loop, their ratio, and the goal."""
    checked = Params(**params)
    loop = Contestant(make_loop, checked, image_shape)
    loop.wait()
    seconds = [loop.seconds_a_step(2.0)]
    with without_log():
        speed = run_train(params, num_examples, data_dir).images_a_second
    seconds.append(loop.seconds_a_step(2.0))
    loop.close()
    bare = checked.batch_size / statistics.mean(seconds)
    return [f"{speed:.0f}", f"{bare:.0f}", f"{speed / bare:.2f}", f"{_TRAINING_GOAL}"]


def page(card: str, tests: str, mining: list[list[str]], training: list[list[str]]) -> str:
    """Return docs/gpu.md."""

    def table(header: list[str], rows: list[list[str]]) -> str:
        lines = [header, ["---"] * 2 + ["---:"] * (len(header) - 2), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    versions = ", ".join(f"{name} {version_of(name) or 'is not installed'}" for name in _PACKAGES)
    command = shlex.join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]])
    return f"""# On a GPU

Written by `make bench-gpu`, on **{card}**. Tests of mining there: {tests}

{table(["loss and gradient, ms", "B", "ours", "definition", "PML", "goal: at most"], mining)}

Ours is the way in TensorFlow ops alone ([decision 16](decisions/0016-mining-in-two-ways.md));
only the loss and its gradient cross to the host.

{table(["images a second", "dtype", "train.py", "bare loop", "ratio", "goal: at least"], training)}

{versions}; `{command}`, {datetime.date.today()}.
"""


_PACKAGES = ("tensorflow", "numpy", "torch", "pytorch-metric-learning")


def find_card() -> str | None:
    """Return the name of the first GPU that TensorFlow sees; None if it sees none.

    In a process of its own, so that this one holds no memory of the card.
    """
    code = (
        "import json, tensorflow as tf; gpus = tf.config.list_physical_devices('GPU'); "
        "print('CARD', json.dumps([tf.config.experimental.get_device_details(gpu)"
        ".get('device_name', 'a GPU') for gpu in gpus]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = json.loads(re.findall(r"^CARD (.*)$", done.stdout, re.MULTILINE)[-1])
    return names[0] if names else None


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=(__doc__ or "").split("\n", 2)[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cpu", action="store_true", help="rehearse with tiny sizes; no page")
    args = parser.parse_args(argv)
    prepare_for_tensorflow()
    card = "no card: a rehearsal on the processor" if args.cpu else find_card()
    if card is None:
        reason = why_no_gpu() or "TensorFlow sees no GPU"
        print(f"benchmarks.gpu: {reason}; nothing was run", file=sys.stderr)
        sys.exit(2)
    plan, end = (REHEARSAL if args.cpu else ON_GPU), time.monotonic() + _SECONDS
    tests = run_tests(plan, 0.3 * _SECONDS)
    mining = measure_mining(plan, deadline=end - 0.45 * _SECONDS)
    training = measure_training(plan, deadline=end - 90)
    text = page(card, tests, mining, training)
    if args.cpu:
        print(text)
        return
    PAGE.write_text(text)
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
