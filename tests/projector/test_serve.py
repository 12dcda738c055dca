"""`visualize.py --serve`: TensorBoard on this machine alone, ended by Ctrl-C."""

import http.client
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest

from src.data.split import Split
from src.errors import UserError
from src.projector.files import write_projector
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
        assert (b"projector/test" in content) == (response.status == 200)
        return response.status
    finally:
        connection.close()


def test_serves_the_projector_until_ctrl_c(tmp_path):
    split = Split(np.zeros((3, 8, 8, 1), np.uint8), np.zeros(3, np.int32), ("a",))
    embeddings = np.eye(3, dtype=np.float32)
    write_projector(tmp_path / "projector" / "test", name="e", embeddings=embeddings, split=split)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, tmp_path], stdout=subprocess.PIPE, text=True
    )
    try:
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#projector", address)
        runs = address.replace("#projector", "data/plugin/projector/runs")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + 60
        while opener.open(runs, timeout=60).read() != b'["projector/test"]':
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for host, status in HOSTS.items():
            assert status_for(address, host) == status, host
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        assert (process.returncode, rest) == (0, "ended\n")
    finally:
        process.kill()
        process.wait()


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
