"""A call in another process: its result, its error, its sudden end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from src.embeddings import layouts
from src.system.aside import Aside


def test_a_layout_is_the_same_in_another_process():
    points = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)

    begun = Aside(layouts.pca, points)

    np.testing.assert_array_equal(begun.result(), layouts.pca(points))


def test_an_error_comes_back():
    begun = Aside(np.linalg.inv, np.zeros((2, 2)))

    with pytest.raises(np.linalg.LinAlgError, match="Singular") as raised:
        begun.result()

    assert "in inv" in str(raised.value.__cause__), "the traceback of the other process"


def test_an_end_without_a_result_is_an_error():
    begun = Aside(os.abort)

    with pytest.raises(ChildProcessError, match=f"code -{signal.SIGABRT.value}"):
        begun.result()


def test_an_end_before_large_arguments_are_read_is_an_error(tmp_path):
    """The other process runs the program's file first, which here ends it."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os\n"
        "if __name__ != '__main__':\n"
        "    os._exit(3)\n"
        "import numpy as np\n"
        "from src.system.aside import Aside\n"
        "Aside(np.linalg.inv, np.zeros((500, 500))).result()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}

    done = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, timeout=60
    )

    assert done.stderr.splitlines()[-1] == "ChildProcessError: its process ended with code 3"


def test_ctrl_c_is_for_the_process_that_waits():
    begun = Aside(_is_interrupted)

    assert not begun.result()


def _is_interrupted() -> bool:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)
    return signal.SIGINT not in signal.sigpending()


@pytest.mark.parametrize("end", ["os._exit(1)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_it_ends_with_the_process_that_began_it(tmp_path, end):
    program = tmp_path / "program.py"
    program.write_text(
        "import os, signal, time\n"
        "from src.system.aside import Aside\n"
        "if __name__ == '__main__':\n"
        "    begun = Aside(time.sleep, 60)\n"
        "    print(begun.pid, flush=True)\n"
        f"    {end}\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}

    done = subprocess.run([sys.executable, program], env=environment, capture_output=True)

    deadline = time.monotonic() + 20
    while Path(f"/proc/{int(done.stdout)}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
