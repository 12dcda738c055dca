"""In the place of `train.py`: writes an experiment's files as it does, with metrics that are known.

MAP@R of validation rises to `peak(params)` in EVALUATIONS steps, each `--pause` seconds long;
that of test and unseen is a half and a quarter of it. SIGTERM saves and ends with 143, as there.

Started some hundred times, it imports neither pydantic nor TensorBoard, which take ten times as
long as all that it does. `tests/searching/test_fake_train.py` compares what it writes with theirs.
"""

import argparse
import json
import math
import os
import signal
import socket
import struct
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from src.system.atomic import atomic_write  # noqa: E402
from src.system.flock import try_flock  # noqa: E402
from src.system.machine import machine_id, process_namespace, process_started  # noqa: E402

EVALUATIONS = 5
TAG = "map_at_r_within"
DIVERGES = 666
"""With this seed."""


def peak(params):
    """The final metric: best at a margin of 0.3, with batch_hard; the seed changes it a little."""
    off = math.log(params.margin / 0.3)
    bonus = 0.1 if params.triplet_strategy == "batch_hard" else 0.0
    return 0.8 * math.exp(-(off**2)) + bonus + 0.001 * (params.seed % 7)


def at(params, evaluation):
    """The metric at an evaluation, counted from 1."""
    return peak(params) * (1 - 0.5**evaluation)


# A record of an event file: https://www.tensorflow.org/tutorials/load_data/tfrecord


def write_event(folder, step, value):
    """Append a scalar to the event files, as TensorFlow has it."""
    folder.mkdir(exist_ok=True)
    named = field(1, TAG.encode()) + b"\x15" + struct.pack("<f", value)
    content = bytes([0x10, step]) + field(5, field(1, named))
    length = struct.pack("<Q", len(content))
    with open(folder / f"events.out.tfevents.{int(time.time() * 1e6)}.x", "wb") as file:
        file.write(length + masked_crc(length) + content + masked_crc(content))


def field(number, content):
    """Bytes in a message of protocol buffers, fewer than 128."""
    return bytes([number << 3 | 2, len(content)]) + content


def masked_crc(content):
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


# An experiment's other files


@contextmanager
def one_writer(model_dir):
    """Hold the lock as `src.system.lock.one_writer` does, with its record, or end."""
    path = model_dir / "train.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    if not try_flock(descriptor):
        sys.exit(f"error: {model_dir}: in use")
    record = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "process_started": process_started(os.getpid()),
        "machine": machine_id(),
        "process_namespace": process_namespace(),
    }
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps(record).encode())
    try:
        yield
    finally:
        path.unlink()
        os.close(descriptor)


def load_params(model_dir):
    """What the metrics depend on."""
    declared = json.loads((ROOT / "experiments" / "params.schema.json").read_text())["properties"]
    given = json.loads((model_dir / "params.json").read_text())
    keys = ("margin", "triplet_strategy", "seed")
    return SimpleNamespace(**{key: given.get(key, declared[key].get("default")) for key in keys})


def read(path):
    return json.loads(path.read_text()) if path.exists() else {}


def write(path, values):
    with atomic_write(path) as file:
        file.write(json.dumps(values).encode())


def latest_step(model_dir):
    """The step of the checkpoint; 0 if there is none."""
    path = model_dir / "checkpoint"
    return int(path.read_text().split("-")[1].rstrip('"\n')) if path.exists() else 0


def save_checkpoint(model_dir, step):
    with atomic_write(model_dir / "checkpoint") as file:
        file.write(f'model_checkpoint_path: "model.ckpt-{step}"\n'.encode())
    (model_dir / f"model.ckpt-{step}.index").touch()


def start(model_dir):
    """Note that it runs; return the seconds so far."""
    metrics = read(model_dir / "metrics.json")
    seconds = metrics.get("seconds", 0.0)
    write(model_dir / "trained_params.json", read(model_dir / "params.json"))
    write(model_dir / "metrics.json", {**metrics, "status": "running", "seconds": seconds})
    return seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_dir", type=Path, required=True)
    parser.add_argument("--pause", type=float, default=0.0)
    args = parser.parse_args()
    model_dir = args.model_dir
    metrics_path = model_dir / "metrics.json"
    params = load_params(model_dir)
    stopped = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    with one_writer(model_dir), open(model_dir / "started", "a") as started:
        print(latest_step(model_dir), file=started, flush=True)
        seconds = start(model_dir)
        if params.margin > 100:  # what the tests ask for to fail
            print("error: no memory", file=sys.stderr)
            sys.exit(2)
        if params.margin > 10 or params.seed == DIVERGES:
            write(metrics_path, {"status": "diverged"})
            sys.exit(3)
        for step in range(latest_step(model_dir) + 1, EVALUATIONS + 1):
            end = time.monotonic() + args.pause
            while not stopped and time.monotonic() < end:
                time.sleep(0.01)
            if stopped:
                write(metrics_path, {"status": "stopped", "seconds": seconds})
                sys.exit(143)
            save_checkpoint(model_dir, step)
            write_event(model_dir / "eval_validation", step, at(params, step))
            write(
                model_dir / "progress.json",
                {"step": step, "max_steps": EVALUATIONS, "loss": None, "fraction_positive": None},
            )
        value = at(params, EVALUATIONS)
        write(
            metrics_path,
            {
                "status": "finished",
                "global_step": EVALUATIONS,
                "seconds": seconds,
                "splits": {
                    "validation": {TAG: value},
                    "test": {TAG: value / 2, "recall_at_1_within": 0.9},
                    "unseen": {TAG: value / 4},
                },
                "baselines": {"raw_pixels": {"test": {TAG: 0.01}}},
            },
        )


if __name__ == "__main__":
    main()
