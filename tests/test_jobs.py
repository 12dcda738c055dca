"""Trainings as processes: small programs in their place, for it is the processes that count."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.experiment import Experiment
from src.jobs import Job, run_jobs, threads_environment

ROOT = Path(__file__).parent.parent


@pytest.fixture
def make_job(tmp_path):
    """`make_job(name, code)`: a job that runs Python code, in a directory of its own."""

    def make(name, code):
        directory = tmp_path / name
        directory.mkdir()
        command = [sys.executable, "-c", code]
        return Job(Experiment(directory), command, directory / "train.log")

    return make


def test_all_run_and_say_how_they_ended(make_job, capsys):
    jobs = [
        make_job("good", "print('fine')"),
        make_job("bad", "import sys; print('error: no data', file=sys.stderr); sys.exit(2)"),
        make_job("bug", "raise ValueError('a bug')"),
        make_job("killed", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
        make_job("last", "pass"),
    ]
    outcome = run_jobs(jobs, at_once=1)
    assert outcome.finished == ["good", "last"]
    assert outcome.failed == {
        "bad": f"no data (exit code 2; {jobs[1].log_path})",
        "bug": f"ValueError: a bug (exit code 1; {jobs[2].log_path})",
        "killed": f"no message (SIGKILL; {jobs[3].log_path})",
    }
    assert outcome.stopped_by is None
    out = capsys.readouterr().out.split("\n")
    assert out[:4] == [
        f"good: started ({jobs[0].log_path})",
        "good: finished in 0 s (1 of 5)",
        f"bad: started ({jobs[1].log_path})",
        "bad: failed after 0 s (2 of 5)",
    ]


def test_output_goes_to_the_log_behind_what_is_there(make_job):
    job = make_job("x", "import sys; print('out', flush=True); print('err', file=sys.stderr)")
    job.log_path.write_text("of an earlier run\n")
    run_jobs([job], at_once=1)
    lines = job.log_path.read_text().split("\n")
    assert lines[0] == "of an earlier run"
    assert lines[1].startswith(f"$ {sys.executable} -c ")
    assert lines[2:] == ["out", "err", ""]


def test_an_earlier_runs_last_words_are_not_this_ones_reason(make_job):
    job = make_job("x", "raise SystemExit(1)")
    job.log_path.write_text("error: long ago\n")
    assert run_jobs([job], at_once=1).failed["x"].startswith("no message (exit code 1; ")


def test_no_shell_takes_the_arguments_apart(make_job):
    job = make_job("x", "import sys; print(sys.argv[1:])")
    job = Job(job.experiment, [*job.command, "a b; exit 1", "$HOME"], job.log_path)
    run_jobs([job], at_once=1)
    assert "['a b; exit 1', '$HOME']" in job.log_path.read_text()


def most_at_once(jobs):
    """The largest number of jobs between whose begin and end, as they wrote them, a moment lies."""
    events = []
    for job in jobs:
        begin, end = map(float, job.log_path.read_text().split("\n")[1:3])
        events += [(begin, 1), (end, -1)]
    running = most = 0
    for _, change in sorted(events):
        running += change
        most = max(most, running)
    return most


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_so_many_at_once_and_no_more(make_job, at_once):
    code = "import time; print(time.time()); time.sleep(1); print(time.time())"
    jobs = [make_job(f"job_{i}", code) for i in range(4)]
    run_jobs(jobs, at_once=at_once)
    assert most_at_once(jobs) == at_once


def test_the_processor_is_divided(monkeypatch):
    keys = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "TF_FORCE_GPU_ALLOW_GROWTH")
    for key in keys:
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert threads_environment(1) == {}
    assert threads_environment(2) == dict(zip(keys, ("4", "4", "true"), strict=True))
    assert threads_environment(3)["OMP_NUM_THREADS"] == "2"
    assert threads_environment(20)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert "OMP_NUM_THREADS" not in threads_environment(2)


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_tensorflow_takes_the_number_of_threads_from_there():
    """It starts that many for the insides of operations, here more than it would by itself."""
    code = """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
from model.estimator import tf
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    session.run(tf.linalg.matmul(tf.ones([500, 500]), tf.ones([500, 500])))
print(len(os.listdir("/proc/self/task")))
"""
    number = 40 + 2 * os.cpu_count()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TF_NUM_INTRAOP_THREADS": str(number), "OMP_NUM_THREADS": "1"},
    )
    assert number <= int(done.stdout) < number + 20 + 2 * os.cpu_count()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_gets_a_bar_of_all_and_one_of_each(tmp_path):
    import fcntl
    import pty
    import struct
    import termios

    code = """
import json, pathlib, sys, time
time.sleep(0.5)
progress = {"step": 30, "max_steps": 120, "loss": 0.125, "fraction_positive": 0.25}
pathlib.Path("progress.json").write_text(json.dumps(progress))
time.sleep(1)
"""
    program = PROGRAM.replace("sys.argv[2]", "sys.argv[2] % directory.as_posix()")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    subprocess.run(
        [sys.executable, "-c", program, tmp_path, "import os; os.chdir('%s')\n" + code],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        check=True,
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(ours)
    text = shown.decode()
    assert "a: starting [00:00]" in text
    assert "30/120" in text and "loss 0.1250, fraction_positive 0.2500" in text
    assert "0.5/3" in text  # two at a quarter each
    assert "2.2/3" in text  # two at their end, one at a quarter


# Signals: to a process of its own, which runs two jobs at once of three

PROGRAM = """
import sys
from pathlib import Path
from src.experiment import Experiment
from src.jobs import Job, run_jobs
jobs = []
for name in ("a", "b", "c"):
    directory = Path(sys.argv[1]) / name
    directory.mkdir()
    jobs.append(Job(Experiment(directory), [sys.executable, "-c", sys.argv[2]], directory / "log"))
outcome = run_jobs(jobs, at_once=2)
print(outcome.finished, outcome.failed, outcome.stopped_by)
"""
# Says that it is ready, and what it got.
JOB = """
import signal, sys, time
def stop(number, frame):
    print("got", signal.Signals(number).name)
    time.sleep(0.5)
    print("saved")
    sys.exit(128 + number)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, stop)
print("ready")
time.sleep(60)
"""


def wait_for(path, text):
    deadline = time.monotonic() + 60
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < deadline, f"{text!r} not in {path}"
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path):
    """`start(code)`: the process, with both jobs ready."""
    started = []

    def start(code):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, tmp_path, code],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        for name in ("a", "b"):
            wait_for(tmp_path / name / "log", "\nready\n")
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_is_passed_on_and_waited_for(start, tmp_path, name):
    process = start(JOB)
    process.send_signal(signal.Signals[name])
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err == ""
    for job in ("a", "b"):
        said = (tmp_path / job / "log").read_text().split("\n")[-4:]
        assert said == ["ready", f"got {name}", "saved", ""]  # once, and to its end
    assert not (tmp_path / "c" / "log").exists()
    assert f"{name}: waiting for 2 to stop" in out
    assert out.split("\n")[-2] == f"[] {{}} {signal.Signals[name]!s}"  # neither finished nor failed


def test_ctrl_c_in_a_terminal_reaches_a_job_once(start, tmp_path):
    """A terminal sends it to the whole process group; jobs are in groups of their own."""
    process = start(JOB)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert (tmp_path / "a" / "log").read_text().count("got SIGINT") == 1


def test_a_second_signal_kills(start, tmp_path):
    deaf = "import signal, time\nsignal.signal(signal.SIGINT, lambda *_: print('got'))\n"
    process = start(deaf + "print('ready')\nwhile True: time.sleep(1)")
    process.send_signal(signal.SIGINT)
    wait_for(tmp_path / "a" / "log", "\ngot\n")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_signal_that_is_ignored_stays_so(make_job):
    """As `nohup` has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        job = make_job("x", "import os, signal; os.kill(os.getppid(), signal.SIGHUP)")
        outcome = run_jobs([job], at_once=1)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (outcome.finished, outcome.stopped_by) == (["x"], None)


def test_a_job_that_cannot_be_started_does_not_end_the_rest(make_job, capsys):
    jobs = [make_job("first", "pass"), make_job("second", "pass"), make_job("third", "pass")]
    jobs[1].log_path.mkdir()
    outcome = run_jobs(jobs, at_once=2)
    assert sorted(outcome.finished) == ["first", "third"]
    assert "Is a directory" in outcome.failed["second"]
    assert "second: could not be started: " in capsys.readouterr().out


def test_handlers_are_restored(make_job):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run_jobs([make_job("x", "pass")], at_once=1)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
