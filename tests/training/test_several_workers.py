"""Trainings on several workers, as real processes: they end as a training of one process does."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from programs import ROOT, free_ports
from tiny import TINY, write_params

from model.distribution import ONE_REPLICA
from model.training import worker as training_worker
from model.training.run import run
from src.experiment.data_record import DataRecord
from src.experiment.experiment import Experiment
from src.params.schema import Params
from src.system.cluster import Cluster

# All that depends on the row or the step; and a memory. 35 rows are not divisible by 2.
PARAMS = {
    **TINY,
    "num_epochs": 2,
    "learning_rate": 1e-3,
    "save_checkpoints_steps": 5,
    "classes_per_batch": 3,
    "examples_per_class": 12,
    "batch_size": 35,
    "triplet_strategy": "batch_hard",
    "warmup_strategy": "batch_all",
    "warmup_steps": 5,
    "augment": {"shift": 1, "rotation": 10, "erasing": 0.3},
    "memory_size": 50,
    "memory_start_steps": 3,
    "clip_norm": 0.5,
    "ema_decay": 0.8,
    "embedding_whitening": 0.5,  # the chief fits, and the others get its layer
}


def tf_configs(addresses):
    """The TF_CONFIG of each: the first is the chief."""
    cluster = {"chief": addresses[:1], "worker": addresses[1:]}
    tasks = [("chief", 0), *(("worker", i) for i in range(len(addresses) - 1))]
    return [
        json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})
        for kind, index in tasks
    ]


@pytest.fixture
def start(programs, data_dir):
    """`start(model_dir, number, ...)`: that many workers on this machine."""
    running = []

    def start(model_dir, number, *arguments, temporary=None):
        addresses = [f"127.0.0.1:{port}" for port in free_ports(number)]
        variables = {"TMPDIR": str(temporary)} if temporary else {}
        arguments = ("--model_dir", model_dir, "--data_dir", data_dir, *arguments)
        started = [
            programs.start("train", *arguments, environment={"TF_CONFIG": config, **variables})
            for config in tf_configs(addresses)
        ]
        running.extend(started)
        return started

    yield start
    for program in running:
        if Path(f"/proc/{program.pid}").exists() and not program.has_ended():
            program.kill(signal.SIGKILL)


def tensors(model_dir):
    """Name -> array of every weight and slot, at the last step."""
    from model.estimator import tf

    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(model_dir)))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def assert_equal_weights(model_dir, other):
    found, expected = tensors(model_dir), tensors(other)
    assert found.keys() == expected.keys()
    assert found["global_step"] == expected["global_step"]
    for name, values in expected.items():
        if "Adam" not in name:
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-4, err_msg=name)


def wait_for_step(model_dir, step, programs):
    while True:
        try:
            if json.loads((model_dir / "progress.json").read_text())["step"] >= step:
                return
        except (OSError, ValueError):
            pass
        assert not any(program.has_ended() for program in programs), [p.wait() for p in programs]
        time.sleep(0.005)


def test_stopped_killed_and_resumed_workers_train_what_one_process_trains(
    programs, start, data_dir, tmp_path
):
    one = write_params(tmp_path / "one", PARAMS)
    assert programs.run("train", "--model_dir", one, "--data_dir", data_dir)[0] == 0
    several = write_params(tmp_path / "several", PARAMS)

    # A signal to any worker stops all, at one step.
    workers = start(several, 2)
    wait_for_step(several, 2, workers)
    workers[1].kill(signal.SIGTERM)
    ends = [worker.wait() for worker in workers]
    assert [code for code, _, _ in ends] == [143, 143], ends
    metrics = json.loads((several / "metrics.json").read_text())
    assert metrics["status"] == "stopped"
    assert f"stopped at step {metrics['global_step']};" in ends[0][1]
    assert tensors(several)["global_step"] == metrics["global_step"] >= 2

    # A worker that is killed ends the others, which name it.
    workers = start(several, 3)
    wait_for_step(several, metrics["global_step"] + 1, workers)
    killed = time.monotonic()
    workers[2].kill(signal.SIGKILL)
    ends = [worker.wait() for worker in workers]
    assert time.monotonic() - killed < 30
    assert [code for code, _, _ in ends] == [4, 4, -9], ends
    for _, _, error in ends[:2]:
        assert "worker 1 (127.0.0.1:" in error
        assert "no longer answers; all workers end, and the same command on all resumes" in error

    # The same command resumes, and the result is that of one process.
    (temporary := tmp_path / "temporary").mkdir()
    workers = start(several, 2, temporary=temporary)
    while not list(temporary.glob("worker-*")):  # of the one that is not the chief
        assert not workers[1].has_ended()
        time.sleep(0.01)
    ends = [worker.wait() for worker in workers]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert_equal_weights(several, one)
    assert "training on 2 workers" in ends[0][1]
    assert ends[1][1] == ""  # the console is the chief's
    assert not list(temporary.glob("worker-*"))


def test_mined_triplets_and_replicas_of_workers(programs, start, data_dir, tmp_path):
    params = {
        **TINY,
        "num_epochs": 2,
        "learning_rate": 1e-3,
        "triplet_strategy": "offline",
        "offline_mining": "hard",
        "deterministic": True,
    }
    one = write_params(tmp_path / "one", params)
    several = write_params(tmp_path / "several", params)
    assert programs.run("train", "--model_dir", one, "--data_dir", data_dir)[0] == 0

    # A signal to the chief stops all as well.
    workers = start(several, 2, "--replicas", "2")
    wait_for_step(several, 2, workers)
    workers[0].kill(signal.SIGINT)
    assert [worker.wait()[0] for worker in workers] == [130, 130]
    assert json.loads((several / "metrics.json").read_text())["status"] == "stopped"

    ends = [worker.wait() for worker in start(several, 2, "--replicas", "2")]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert_equal_weights(several, one)
    # The same number of workers and replicas, without the interruption: the same bits.
    whole = write_params(tmp_path / "whole", params)
    assert [worker.wait()[0] for worker in start(whole, 2, "--replicas", "2")] == [0, 0]
    found = tensors(several)
    for name, values in tensors(whole).items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    # Finished: the workers are told so.
    ends = [worker.wait() for worker in start(several, 2)]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert "already finished" in ends[0][1]


def test_what_differs_is_named_on_every_worker(start, programs, data_dir, tmp_path):
    several = write_params(tmp_path / "several", TINY)
    other = write_params(tmp_path / "other", {**TINY, "margin": 0.25})
    configs = tf_configs([f"127.0.0.1:{port}" for port in free_ports(2)])
    workers = [
        programs.start(
            "train",
            *("--model_dir", model_dir, "--data_dir", data_dir),
            environment={"TF_CONFIG": config},
        )
        for model_dir, config in zip((several, other), configs, strict=True)
    ]
    for code, _, error in [worker.wait() for worker in workers]:
        assert code == 2
        assert "params.json: found another on worker 0 (127.0.0.1:" in error
    assert not list(several.glob("model.ckpt*"))


def test_what_workers_compare(monkeypatch, tmp_path):
    """Also the names of classes, which `holdout_classes` reads, and the program itself."""
    record = DataRecord(
        paths=None,
        digests=np.arange(2, dtype=np.uint64),
        labels=np.arange(2, dtype=np.int32),
        class_names=("a", "b"),
        splits=np.zeros(2, np.int8),
        own=np.zeros(2, np.int8),
        validation_by="images",
    )

    def differ(record):
        found = training_worker.facts(Params(), record, ONE_REPLICA)
        return {name for name, fact in found.items() if fact != before[name]}

    before = training_worker.facts(Params(), record, ONE_REPLICA)
    assert before.keys() >= {"params.json", "the data", "the program", "TensorFlow", "NumPy"}
    assert differ(record) == set()
    for changes in (
        {"class_names": ("b", "a")},
        {"groups": ("g", "h")},
        {"labels": np.array([1, 0], np.int32)},
        {"splits": np.ones(2, np.int8)},
    ):
        assert differ(replace(record, **changes)) == {"the data"}
    program = tmp_path / "model" / "training" / "worker.py"
    program.parent.mkdir(parents=True)
    program.write_text("another version")
    monkeypatch.setattr(training_worker, "__file__", str(program))
    assert differ(record) == {"the program"}


def test_an_evaluator_has_nothing_to_do(tmp_path, capsys):
    cluster = Cluster(("chief 0", "worker 0"), ("a:1", "b:1"), None)
    run(Experiment(tmp_path / "none"), Params(), tmp_path, cluster=cluster)
    assert capsys.readouterr().out.startswith("evaluator: nothing to do")
    assert not (tmp_path / "none").exists()


@pytest.fixture
def two_hosts():
    """Two network namespaces with a cable between them: names and addresses."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and iproute2")
    names = [f"tb{os.getpid()}{letter}" for letter in "ab"]

    def ip(*words, check=True):
        return subprocess.run(["ip", *words], check=check, capture_output=True, text=True)

    if ip("netns", "add", names[0], check=False).returncode:
        pytest.skip("this system makes no network namespaces")
    try:
        ip("netns", "add", names[1])
        ip("link", "add", names[0], "type", "veth", "peer", "name", names[1])
        for name, number in zip(names, (1, 2), strict=True):
            ip("link", "set", name, "netns", name)
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", name)
            for device in (name, "lo"):
                ip("-n", name, "link", "set", device, "up")
        yield list(zip(names, ("10.77.0.1", "10.77.0.2"), strict=True))
    finally:
        for name in names:
            ip("netns", "delete", name, check=False)


def train_command(model_dir, data_dir):
    return [sys.executable, "train.py", "--model_dir", str(model_dir), "--data_dir", str(data_dir)]


@pytest.mark.system
def test_two_hosts_with_a_network_between_them(two_hosts, data_dir, tmp_path):
    model_dir = write_params(tmp_path / "hosts", {**TINY, "num_epochs": 1})
    configs = tf_configs([f"{address}:2222" for _, address in two_hosts])
    workers = [
        subprocess.Popen(
            ["ip", "netns", "exec", name, *train_command(model_dir, data_dir)],
            cwd=ROOT,
            env={**os.environ, "TF_CONFIG": config},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for (name, _), config in zip(two_hosts, configs, strict=True)
    ]
    ends = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], ends
    assert "training on 2 workers: 10.77.0.1:2222, 10.77.0.2:2222" in ends[0][0]
    assert json.loads((model_dir / "metrics.json").read_text())["status"] == "finished"


@pytest.mark.system
@pytest.mark.skipif(
    importlib.util.find_spec("slurm_cluster") is None, reason="tests/slurm_cluster.py is missing"
)
def test_two_tasks_of_slurm(request, data_dir, tmp_path):
    slurm = request.getfixturevalue("slurm")
    model_dir = write_params(tmp_path / "slurm", {**TINY, "num_epochs": 1})
    done = subprocess.run(
        ["srun", "--nodes=2", "--ntasks=2", *train_command(model_dir, data_dir)],
        cwd=ROOT,
        env={**os.environ, **slurm.variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"training on 2 workers: 127.0.0.1:2\d{4}, 127.0.0.1:2\d{4}", done.stdout)
    assert json.loads((model_dir / "metrics.json").read_text())["status"] == "finished"
