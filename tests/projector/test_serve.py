"""`visualize.py --serve`: a real TensorBoard serves the files to this machine, until Ctrl-C."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image

from src.data.split import Split
from src.errors import UserError
from src.projector.files import EVENT_FILE, write_projector
from src.projector.tensorboard import tensorboard

PROGRAM = """
import signal, sys
from pathlib import Path
from src.projector.tensorboard import tensorboard, wait_for_interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
with tensorboard(Path(sys.argv[1]), 0) as address:
    print(address, flush=True)
    wait_for_interrupt()
print("ended")
"""


# What a request says it is for: DNS rebinding lets a foreign page's requests come here by its name
HOSTS = {
    **dict.fromkeys(["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST", "[::1]:{port}"], 200),
    **dict.fromkeys(["evil.example", "evil.example:{port}", "127.0.0.1.evil.example"], 403),
    **dict.fromkeys(["localhost.evil.example:{port}", "evil.example#localhost", ""], 403),
    **dict.fromkeys(["0.0.0.0:{port}", "127.0.0.1:{port}:80", "user@127.0.0.1", None], 403),
}


def status_for(address, host):
    """Return the status of the answer to a request with this header `Host`; None for without."""
    port = int(re.search(r":(\d+)/", address)[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.putrequest("GET", "/data/plugin/projector/runs", skip_host=True)
        if host is not None:
            connection.putheader("Host", host.format(port=port))
        connection.endheaders()
        response = connection.getresponse()
        content = response.read()
        assert (b"a/projector/test" in content) == (response.status == 200)
        return response.status
    finally:
        connection.close()


@pytest.fixture(scope="module")
def log_directory(tmp_path_factory):
    """experiments/{a,b=0.5}: a checkpoint and event files as training leaves them, and points."""
    rng = np.random.default_rng(0)
    experiments = tmp_path_factory.mktemp("log") / "experiments"
    for experiment, num_examples, embedding_size in [("a", 40, 16), ("b=0.5", 25, 2)]:
        directory = experiments / experiment / "projector" / "test"
        images = rng.integers(256, size=(num_examples, 28, 28, 1), dtype=np.uint8)
        labels = (np.arange(num_examples) % 3).astype(np.int32)
        write_projector(
            directory,
            name=experiment,
            embeddings=rng.standard_normal((num_examples, embedding_size), np.float32),
            split=Split(images, labels, ("é", "日本", "c")),
        )
        event_file = (directory / EVENT_FILE).read_bytes()
        for folder in (experiments / experiment, experiments / experiment / "eval"):
            folder.mkdir(exist_ok=True)
            (folder / "events.out.tfevents.1700000000.host").write_bytes(event_file)
        model_dir = experiments / experiment
        (model_dir / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-1"\n')
        (model_dir / "model.ckpt-1.index").write_bytes(b"")
        (model_dir / "model.ckpt-1.data-00000-of-00001").write_bytes(b"")
    return experiments


@pytest.fixture(scope="module")
def process(log_directory):
    """The program above on `log_directory`."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, log_directory], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def address(process):
    """The address that the program prints, once TensorBoard lists the runs."""
    address = process.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#projector", address)
    deadline = time.monotonic() + 120
    while len(json.loads(get(plugin(address) + "/runs"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    return address


def plugin(address):
    """The address of the projector's plugin."""
    return address.replace("#projector", "data/plugin/projector")


def get(address, **query):
    """The body of an answer, whose status must be 200."""
    # As the projector asks: what ends an address is not escaped.
    parameters = "&".join(f"{key}={value}" for key, value in query.items())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{address}?{parameters}", timeout=60) as answer:
        assert answer.status == 200
        return answer.read()


def test_tensorboard_lists_a_run_an_experiment_the_last_written_first(address):
    runs = json.loads(get(f"{plugin(address)}/runs"))
    assert runs == ["b=0.5/projector/test", "a/projector/test"]


@pytest.mark.parametrize(
    ("experiment", "num_points", "num_dimensions", "sheet_side"),
    [("a", 40, 16, 7 * 28), ("b=0.5", 25, 3, 5 * 28)],
)
def test_tensorboard_serves_what_was_written(
    address, log_directory, experiment, num_points, num_dimensions, sheet_side
):
    run = f"{experiment}/projector/test"
    config = json.loads(get(f"{plugin(address)}/info", run=run))
    # No checkpoint was found: the run has the embeddings and no weights beside them.
    assert "modelCheckpointPath" not in config
    (tensor,) = config["embeddings"]
    assert tensor["tensorName"] == experiment
    assert tensor["tensorShape"] == [num_points, num_dimensions]
    assert tensor["sprite"]["singleImageDim"] == [28, 28]

    query = {"run": run, "name": experiment}
    body = get(f"{plugin(address)}/tensor", **query, num_rows=100_000)
    assert body == (log_directory / run / f"{experiment}.bytes").read_bytes()
    assert len(body) == num_points * num_dimensions * 4
    lines = get(f"{plugin(address)}/metadata", **query, num_rows=100_000).decode().splitlines()
    assert lines[0] == "label\tindex\tlabel_number"
    assert len(lines) == 1 + num_points
    assert {line.split("\t")[0] for line in lines[1:]} == {"é", "日本", "c"}
    sprite = get(f"{plugin(address)}/sprite_image", **query)
    assert sprite == (log_directory / run / "sprite.png").read_bytes()
    with Image.open(log_directory / run / "sprite.png") as sheet:
        assert sheet.size == (sheet_side, sheet_side)


@pytest.mark.parametrize(("host", "status"), HOSTS.items())
def test_only_requests_to_this_machine_are_answered(address, host, status):
    assert status_for(address, host) == status


def test_ctrl_c_ends_it(process, address):
    """The last test of the one TensorBoard."""
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "ended\n")


@pytest.mark.filterwarnings("ignore:html5lib")  # TensorBoard's own, on import
def test_port_that_is_taken_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(
                UserError, match=f"--serve: found no free port {port} .*; accepted: a free port"
            ),
            tensorboard(tmp_path, port),
        ):
            pass
