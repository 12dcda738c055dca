"""`fake_train.py` writes by itself what the programs read: here beside their own writers."""

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_train
import pytest
from fake_train import EVALUATIONS, TAG, at
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from src.experiment.curves import read_curves
from src.experiment.experiment import Experiment
from src.params.reading import load_params
from src.system.lock import LOCK_FILE, has_writer, one_writer, writer

PROGRAM = [sys.executable, str(Path(__file__).parents[1] / "fake_train.py"), "--model_dir"]


@pytest.fixture
def experiment(tmp_path):
    (tmp_path / "params.json").write_text(json.dumps({"dataset": "mnist", "margin": 0.4}))
    return Experiment(tmp_path)


def test_its_lock_and_its_files_are_those_of_train(experiment):
    directory = experiment.model_dir
    with one_writer(directory):
        record = json.loads((directory / LOCK_FILE).read_text())
        refused = subprocess.run([*PROGRAM, directory], capture_output=True, text=True)
    assert refused.returncode == 1 and "in use" in refused.stderr
    assert not (directory / "started").exists()
    with subprocess.Popen([*PROGRAM, directory, "--pause", "5"]) as process:
        while not experiment.metrics():
            assert process.poll() is None
            time.sleep(0.01)
        assert has_writer(directory)
        assert writer(directory).startswith(f"process {process.pid} on {record['host']} since ")
        assert set(json.loads((directory / LOCK_FILE).read_text())) == set(record)
        assert experiment.metrics() == {"status": "running", "seconds": 0.0}
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 143
    assert experiment.metrics() == {"status": "stopped", "seconds": 0.0}
    subprocess.run([*PROGRAM, directory], check=True)
    params = load_params(experiment.params_path)
    assert experiment.is_finished(params) and experiment.trained_params() == params
    assert experiment.progress()["step"] == experiment.latest_step() == EVALUATIONS
    steps, values = read_curves(directory / "eval_validation")[TAG]
    assert steps == [*range(1, EVALUATIONS + 1)]
    assert values == pytest.approx([at(params, step) for step in steps])
    assert has_writer(directory) is False and not (directory / LOCK_FILE).exists()


def test_its_events_are_those_of_tensorboard(tmp_path):
    fake_train.write_event(tmp_path / "events", 3, 0.7)
    event = Event(step=3, summary=Summary(value=[Summary.Value(tag=TAG, simple_value=0.7)]))
    expected = io.BytesIO()
    RecordWriter(expected).write(event.SerializeToString())
    (path,) = (tmp_path / "events").iterdir()
    assert path.read_bytes() == expected.getvalue()


@pytest.mark.parametrize("content", [{}, {"margin": 2, "seed": 5, "triplet_strategy": "offline"}])
def test_its_params_are_those_of_the_schema(tmp_path, content):
    path = tmp_path / "params.json"
    path.write_text(json.dumps({"dataset": "mnist", **content}))
    params = load_params(path)
    found = vars(fake_train.load_params(tmp_path))
    assert found == {key: getattr(params, key) for key in found} and len(found) == 3
