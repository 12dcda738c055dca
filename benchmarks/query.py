"""Speed of queries: the search beside faiss, a gallery of a million, the service, the shell.

Nothing is trained: `make bench-query` uses experiments/open_digits, which `make demo-open` trains.
"""

import argparse
import http.client
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.harness import (
    REPOSITORY,
    Contestant,
    Step,
    add_arguments,
    print_circumstances,
    print_table,
    progress,
    warn_if_busy,
)

_SIZE, _DIMENSIONS, _NEIGHBOURS = 1_000_000, 64, 5
_REPEATS = 15
_NUM_CLIENTS = 16
_SECONDS = 15.0
_RATE = 150
_SEED = 0

_IMPORT = (
    "from src.system.process import prepare_for_tensorflow; prepare_for_tensorflow(); "
    "import tensorflow"
)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure one part after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument(
        "--model_dir",
        type=Path,
        default=REPOSITORY / "experiments/open_digits",
        help="a trained experiment with a gallery",
    )
    parser.add_argument(
        "--requests",
        type=int,
        default=100_000,
        help="how many requests the service's memory is measured over",
    )
    args = parser.parse_args(argv)
    warn_if_busy()
    print_table(*_search(), markdown=args.markdown)
    print_table(*_opening(), markdown=args.markdown)
    print_table(*_service(args.model_dir, args.requests), markdown=args.markdown)
    print_table(*_shell(args.model_dir), markdown=args.markdown)
    print_circumstances("benchmarks.query", "Medians; repeats of contestants alternate.")


def _search() -> tuple[list[str], list[list[str]]]:
    """Compare the exact search with faiss's."""
    rows = []
    for num_queries in (1, 64):
        progress(f"search, {num_queries} at once")
        contestants = [Contestant(make_search, name, num_queries) for name in ("index", "faiss")]
        for contestant in contestants:
            contestant.wait()
        seconds = np.array([[c.seconds_a_step(0) for c in contestants] for _ in range(_REPEATS)])
        ours, theirs = np.median(seconds, axis=0)
        same = np.array_equal(contestants[0].first, contestants[1].first)
        memory = [f"{contestant.close():.0f}" for contestant in contestants]
        rows.append(
            [
                f"{_SIZE:,} x {_DIMENSIONS}, {num_queries} at once",
                f"{1e3 * ours:.1f}",
                f"{1e3 * theirs:.1f}",
                f"{ours / theirs:.2f}",
                "the same" if same else "DIFFERENT",
                " and ".join(memory),
            ]
        )
    header = ["exact search", "ms", "ms of faiss", "ratio", "neighbours", "peak MB of each"]
    return header, rows


def make_search(name: str, num_queries: int) -> Step:
    """Return the function that searches clustered vectors of length 1."""
    rng = np.random.default_rng(_SEED)
    centres = rng.normal(size=(1000, _DIMENSIONS)).astype(np.float32)

    def points(size: int) -> np.ndarray:
        x = centres[rng.integers(len(centres), size=size)]
        x += 0.3 * rng.normal(size=x.shape).astype(np.float32)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return x

    gallery, queries = points(_SIZE), points(num_queries)
    if name == "faiss":
        import faiss

        faiss.omp_set_num_threads(os.cpu_count())
        flat = faiss.IndexFlatL2(_DIMENSIONS)
        flat.add(gallery)
        return lambda: flat.search(queries, _NEIGHBOURS)[1]
    from src.embeddings.index import Index

    index = Index(gallery)
    return lambda: index.search(queries, _NEIGHBOURS)[0]


def _opening() -> tuple[list[str], list[list[str]]]:
    """Measure how long a gallery of a million takes to open, and its memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gallery.sqlite"
        progress(f"a gallery of {_SIZE:,}")
        started = time.perf_counter()
        fill_gallery(path, _SIZE)
        filled = time.perf_counter() - started
        contestant = Contestant(make_opening, path)
        contestant.wait()
        seconds, peak_mb = contestant.first, contestant.close()
        megabytes = path.stat().st_size / 1e6
    header = ["gallery", "filled, s", "file, MB", "opened, s", "peak MB"]
    row = [f"{_SIZE:,} pictures of 28 x 28, {_DIMENSIONS} dimensions", f"{filled:.0f}"]
    return header, [[*row, f"{megabytes:.0f}", f"{seconds:.1f}", f"{peak_mb:.0f}"]]


def fill_gallery(path: Path, size: int) -> None:
    """Write a gallery of random pictures."""
    from src.gallery.record import Identity, NewPicture
    from src.gallery.store import open_store

    rng = np.random.default_rng(_SEED)
    identity = Identity("0" * 64, 1, (28, 28, 1), _DIMENSIONS, "euclidean", "benchmark")

    def pictures() -> Iterator[NewPicture]:
        for start in range(0, size, 1000):
            images = rng.integers(256, size=(1000, 28, 28, 1), dtype=np.uint8)
            embeddings = rng.normal(size=(1000, _DIMENSIONS)).astype(np.float32)
            for row in range(1000):
                name = str((start + row) % 1000)
                yield NewPicture(name, embeddings[row], images[row], _THUMBNAIL, f"{start + row}")

    with open_store(path, create=True) as store:
        store.replace(identity, {}, pictures())


# A grey square of 28 x 28 pixels as PNG; how thumbnails look does not matter here.
_THUMBNAIL = bytes.fromhex(
    "89504e470d0a1a0a0000000d494844520000001c0000001c0800000000b4ccf4"
    "960000001349444154789c63685809 0d0c18a3a4a3a48e924f0000d3b31c01".replace(" ", "")
) + bytes.fromhex("0000000049454e44ae426082")


def make_opening(path: Path) -> Step:
    """Return the function that opens a gallery and answers one search, in seconds."""
    from src.gallery.snapshot import Snapshot
    from src.gallery.store import open_store

    def open_and_search() -> float:
        started = time.perf_counter()
        with open_store(path) as store:
            snapshot = Snapshot(store.embeddings(), "euclidean")
        snapshot.nearest(np.zeros((1, _DIMENSIONS), np.float32), _NEIGHBOURS)
        return time.perf_counter() - started

    return open_and_search


def _service(model_dir: Path, num_requests: int) -> tuple[list[str], list[list[str]]]:
    """Measure the service: rate, latency and memory."""
    progress("the service")
    pictures = _pictures()
    with _serving(model_dir) as (port, process):
        _load(port, pictures, 1, 2.0)
        alone = _load(port, pictures, 1, 5.0)
        together = _load(port, pictures, _NUM_CLIENTS, _SECONDS)
        paced = _load(port, pictures, _NUM_CLIENTS, _SECONDS, rate=_RATE)
        before = _memory_mb(process.pid)
        left = num_requests
        while left > 0:
            left -= len(_load(port, pictures, _NUM_CLIENTS, 10.0))
            progress(f"{max(left, 0)} requests left, {_memory_mb(process.pid):.0f} MB")
        after = _memory_mb(process.pid)
    rows = []
    for name, latencies, seconds in (
        ("1 client", alone, 5.0),
        (f"{_NUM_CLIENTS} clients", together, _SECONDS),
        (f"{_NUM_CLIENTS} clients, {_RATE} queries/s wanted", paced, _SECONDS),
    ):
        median = statistics.median(latencies)
        rows.append(
            [
                name,
                f"{len(latencies) / seconds:.0f}",
                f"{1e3 * median:.1f}",
                f"{median / statistics.median(alone):.1f}",
                f"{1e3 * float(np.quantile(latencies, 0.99)):.1f}",
                f"{before:.0f} to {after:.0f}" if latencies is together else "-",
            ]
        )
    header = ["service", "queries/s", "median ms", "of one's", "99 % ms"]
    return [*header, f"MB over {num_requests:,} requests"], rows


def _pictures() -> list[bytes]:
    """Return some of MNIST's test images as bodies of requests."""
    from src.data.idx import read_idx
    from src.gallery.sources import thumbnail_of

    images = read_idx(REPOSITORY / "data/mnist/t10k-images-idx3-ubyte.gz")[:500]
    head = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n'
    return [head + thumbnail_of(image[..., None]) + b"\r\n--x--\r\n" for image in images]


def _load(
    port: int, pictures: Sequence[bytes], num_clients: int, seconds: float, rate: float = math.inf
) -> list[float]:
    """Query from several clients for some seconds; return the time of each query.

    Each client waits for its answer before it asks again, and so that all together do not ask more
    often than `rate` times a second.
    """
    latencies: list[float] = []
    begin = time.perf_counter()
    end = begin + seconds

    def ask(client: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        number = client
        while time.perf_counter() < end:
            time.sleep(max(0.0, begin + number / rate - time.perf_counter()))
            started = time.perf_counter()
            connection.request("POST", "/query", pictures[number % len(pictures)], headers)
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                raise RuntimeError(content)
            latencies.append(time.perf_counter() - started)
            number += num_clients

    with ThreadPoolExecutor(num_clients) as clients:
        list(clients.map(ask, range(num_clients)))  # raises what a client has raised
    return latencies


@contextmanager
def _serving(model_dir: Path) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run serve.py during the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "serve.py", "--model_dir", str(model_dir), "--port", str(port)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        for line in process.stdout:
            if line.startswith("Ctrl-C"):
                break
        _wait_until_it_answers(port)
        yield port, process
    finally:
        process.terminate()
        process.wait()


def _wait_until_it_answers(port: int) -> None:
    for _ in range(100):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise TimeoutError("serve.py does not answer")


def _memory_mb(process: int) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6


def _shell(model_dir: Path) -> tuple[list[str], list[list[str]]]:
    """Measure one query from the shell, and one through a service that runs."""
    progress("the shell")
    with tempfile.TemporaryDirectory() as folder:
        from PIL import Image

        from src.data.idx import read_idx

        picture = Path(folder) / "a.png"
        Image.fromarray(read_idx(REPOSITORY / "data/mnist/t10k-images-idx3-ubyte.gz")[0]).save(
            picture
        )
        query = [sys.executable, "query.py", "--model_dir", str(model_dir), str(picture)]
        importing = [sys.executable, "-c", _IMPORT]
        timed = {
            "query.py, one picture": _seconds(query),
            "  of which importing TensorFlow": _seconds(importing),
        }
        with _serving(model_dir) as (port, _):
            url = f"http://127.0.0.1:{port}/query"
            curl = ["curl", "-sf", "-F", f"picture=@{picture}", url]
            answer = subprocess.run(curl, capture_output=True, check=True)
            assert "class" in json.loads(answer.stdout)
            timed["curl, with serve.py running"] = _seconds(curl)
    return ["from the shell", "s"], [[name, f"{value:.3f}"] for name, value in timed.items()]


def _seconds(command: Sequence[str]) -> float:
    """Return the median time of a command, run five times after a first time."""
    times = []
    for _ in range(6):
        started = time.perf_counter()
        subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()
