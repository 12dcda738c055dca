"""SIGTERM and Ctrl-C: a checkpoint of the very step, what is known, and the exit code."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
from tiny import TINY, write_params

from src.system.signals import Stopped, StopRequest, stops_at_once

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def handlers():
    """Put pytest's own handlers back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "code", "name"),
    [
        (signal.SIGTERM, 143, "SIGTERM"),
        (signal.SIGINT, 130, "Ctrl-C"),
        (signal.SIGHUP, 129, "SIGHUP"),
    ],
)
def test_at_once(number, code, name):
    with pytest.raises(Stopped) as caught, stops_at_once():
        os.kill(os.getpid(), number)
        time.sleep(10)
    assert caught.value.exit_code == code and str(caught.value) == name


def test_at_once_within_a_library_that_makes_another_error_of_it(capsys):
    def library():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except BaseException as error:
            traceback.print_exc()
            raise RuntimeError("in user code") from error

    with pytest.raises(Stopped) as caught, stops_at_once():
        library()
    assert isinstance(caught.value.__cause__, RuntimeError)
    print("seen", file=sys.stderr)
    assert capsys.readouterr().err == "seen\n"
    with pytest.raises(RuntimeError), stops_at_once():  # without a signal it is what it is
        raise RuntimeError


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_at_once_where_a_library_swallows_it(capsys):
    """As Python does with what is raised in `__del__` and callbacks, and tries of imports do."""
    cleaned_up = []

    class Swallows:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    def import_something():
        try:
            time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except BaseException:
            pass

    for swallow in (Swallows, import_something):
        started = time.monotonic()
        with pytest.raises(Stopped), stops_at_once():
            try:
                swallow()
                time.sleep(20)
            finally:
                time.sleep(0.7)  # not once more while it is on its way
                cleaned_up.append(swallow)
        assert time.monotonic() - started < 10
    time.sleep(0.6)  # nor afterwards
    assert cleaned_up == [Swallows, import_something]
    assert capsys.readouterr().err == ""


def test_at_once_puts_the_handlers_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stops_at_once():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_request_is_noted_and_raised_in_the_end():
    request, passed = StopRequest(), []
    assert not request
    request.raise_if_made()
    with pytest.raises(Stopped), request.by_signal():
        os.kill(os.getpid(), signal.SIGTERM)
        assert request
        passed.append(True)
    assert passed
    with pytest.raises(Stopped):
        request.raise_if_made()


def test_a_request_within_a_program(capsys):
    with pytest.raises(Stopped), stops_at_once(), StopRequest().by_signal():
        os.kill(os.getpid(), signal.SIGINT)
        print("to the end")
    assert capsys.readouterr().out == "to the end\n"


def test_without_a_signal_the_outer_handling_goes_on():
    with pytest.raises(Stopped), stops_at_once():
        with StopRequest().by_signal():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)


def test_an_error_is_not_hidden_by_a_request():
    with pytest.raises(KeyError), StopRequest().by_signal():
        os.kill(os.getpid(), signal.SIGTERM)
        raise KeyError


WAIT = """
import signal, sys, time
from src.system.signals import StopRequest, stops_at_once
if sys.argv[1] == "ignored":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with stops_at_once(), StopRequest().by_signal():
    print("ready", flush=True)
    for _ in range(600):
        time.sleep(0.1)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(number):
    with subprocess.Popen(
        [sys.executable, "-c", WAIT, ""], cwd=ROOT, stdout=subprocess.PIPE, preexec_fn=_sigint
    ) as process:
        process.stdout.readline()
        process.send_signal(number)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(timeout=10) == -number  # 128 + number, to a shell


def test_what_a_process_was_started_to_ignore_stays_ignored():
    with subprocess.Popen(
        [sys.executable, "-c", WAIT, "ignored"], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None
        process.kill()


def _sigint():
    """A background job inherits "ignore"."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Programs, stopped in their first seconds


# Runs a program, and stops it at its nth import, or at that of a module
STOP_AT_IMPORT = """
import os, runpy, sys
program, number, moment, *sys.argv[1:] = sys.argv[1:]
class Stop:
    num_imports = 0
    def find_spec(self, name, path=None, target=None):
        if "src.system.first_moments" in sys.modules and name != "_signal":
            self.num_imports += 1
            if moment in (name, str(self.num_imports)):
                os.kill(os.getpid(), int(number))
sys.meta_path.insert(0, Stop())
runpy.run_module(program, run_name="__main__", alter_sys=True)
"""


def stop_at_import(program, number, moment, *arguments):
    """Return the exit code and what was printed."""
    done = subprocess.run(
        [sys.executable, "-c", STOP_AT_IMPORT, program, str(int(number)), moment, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_sigint,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("program", ["train", "visualize", "compare", "sweep", "src.download"])
def test_stopped_while_a_program_is_imported(program):
    """From its first line on, before `main` begins. Python itself leaves SIGTERM to the system."""
    moments = ("1", "3", "20", "70", "src.system.cli", "src.system.atomic")
    for number, moment in [*((signal.SIGINT, moment) for moment in moments), (signal.SIGTERM, "3")]:
        code, error = stop_at_import(program, number, moment, "--help")
        assert (code, error) == (-number, ""), moment


@pytest.mark.system
@pytest.mark.parametrize("moment", ["tensorflow.python.framework.ops", "tf_keras.src"])
def test_stopped_while_tensorflow_is_imported(make_experiment, data_dir, moment):
    arguments = ["--model_dir", str(make_experiment()), "--data_dir", str(data_dir)]
    code, error = stop_at_import("train", signal.SIGINT, moment, *arguments)
    assert (code, error) == (130, "stopped by Ctrl-C\n")


# Programs, stopped at moments that are seen from what they have written


def wait_for(condition, run):
    deadline = time.monotonic() + 120
    while not condition() and not run.has_ended() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not run.has_ended() and condition()


def metrics(model_dir):
    path = model_dir / "metrics.json"
    return json.loads(path.read_text()) if path.exists() else {}


def evaluated_step(model_dir):
    return metrics(model_dir).get("splits", {}).get("validation", {}).get("global_step", 0)


def leftovers(model_dir):
    return [p.name for p in model_dir.rglob("*") if re.search(r"tmp|_temp", p.name)]


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_training_ends_at_its_step_and_goes_on_from_there(
    programs, make_experiment, data_dir, deterministic
):
    params = {"num_epochs": 10**6, "save_checkpoints_steps": 20, "deterministic": deterministic}
    model_dir = make_experiment(**params)
    step = evaluated = 0
    for number, code, name in ((signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")):
        before = step
        run = programs.start("train", "--model_dir", model_dir, "--data_dir", data_dir)
        wait_for(lambda seen=evaluated: evaluated_step(model_dir) > seen, run)
        started = time.monotonic()
        run.kill(number)
        found_code, out, error = run.wait()
        assert time.monotonic() - started < 30  # 5 on a machine that does nothing else
        assert (found_code, error) == (code, f"stopped by {name}\n")
        content = metrics(model_dir)
        step, evaluated = content["global_step"], evaluated_step(model_dir)
        assert content["status"] == "stopped" and step >= before + 20
        assert (model_dir / f"model.ckpt-{step}.index").exists()
        assert out.endswith(f"stopped at step {step}; rerun the same command to resume\n")
        # What is known: the latest evaluation. None was made on the way out.
        assert evaluated % 20 == 0 and step - 20 <= evaluated <= step
        assert out.count("  validation: ") == evaluated // 20 - before // 20
        assert leftovers(model_dir) == []


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.6, 1.2])
def test_stopped_at_any_moment(programs, make_experiment, data_dir, delay):
    """Loading data, building the graph, its first step, an evaluation: never a traceback."""
    model_dir = make_experiment(num_epochs=10**6, save_checkpoints_steps=2)
    run = programs.start("train", "--model_dir", model_dir, "--data_dir", data_dir)
    wait_for((model_dir / "train.lock").exists, run)
    time.sleep(delay)
    run.kill(signal.SIGINT)
    code, out, error = run.wait()
    assert (code, error) == (130, "stopped by Ctrl-C\n"), out
    assert leftovers(model_dir) == []
    if (model_dir / "metrics.json").exists():
        assert metrics(model_dir)["status"] == "stopped"


@pytest.fixture(scope="module")
def stopped_and_finished(programs, data_dir, tmp_path_factory):
    """A training stopped in its last evaluation, and run again: directory, then both outcomes."""
    model_dir = write_params(tmp_path_factory.mktemp("stopped") / "tiny", {**TINY, "num_epochs": 1})
    run = programs.start("train", "--model_dir", model_dir, "--data_dir", data_dir)
    wait_for((model_dir / "eval_train").exists, run)
    run.kill(signal.SIGTERM)
    stopped = run.wait(), metrics(model_dir)
    finished = programs.run("train", "--model_dir", model_dir, "--data_dir", data_dir)
    return model_dir, stopped, (finished, metrics(model_dir))


def test_stopped_in_the_last_evaluation(stopped_and_finished):
    _, ((code, _, error), content), _ = stopped_and_finished
    assert (code, error) == (143, "stopped by SIGTERM\n")
    assert (content["status"], content["global_step"]) == ("stopped", 7)
    assert content["splits"].keys() == {"validation"}


def test_run_again_after_the_last_evaluation_was_stopped(stopped_and_finished):
    _, _, ((code, _, error), content) = stopped_and_finished
    assert (code, error) == (0, "") and content["status"] == "finished"
    assert content["splits"].keys() == {"train", "validation", "test"}


def test_visualize_leaves_nothing_half_written(programs, stopped_and_finished, data_dir):
    model_dir = stopped_and_finished[0]
    for delay in (0.05, 0.3, 0.6):
        run = programs.start("visualize", "--model_dir", model_dir, "--data_dir", data_dir)
        time.sleep(delay)
        run.kill(signal.SIGTERM)
        code, _, error = run.wait()
        assert (code, error) in [(143, "stopped by SIGTERM\n"), (0, "")]
        assert leftovers(model_dir) == []
        folder = model_dir / "projector" / "test"
        if (folder / "projector_config.pbtxt").exists():  # written last
            assert (folder / "sprite.png").exists() and (folder / "tensor.bytes").exists()
