"""Trainings as processes: small programs in their place, for it is the processes that count."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from src.experiment.experiment import Experiment
from src.sweeping.job import Job
from src.sweeping.launchers import TryLater, local
from src.sweeping.launchers.local import Local, threads_environment
from src.sweeping.run_jobs import run_jobs

ROOT = Path(__file__).parents[2]


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
    outcome = run_jobs(jobs, Local(1))
    assert outcome.finished == ["good", "last"]
    assert outcome.failed == {
        "bad": f"no data (exit code 2; {jobs[1].log_path})",
        "bug": f"ValueError: a bug (exit code 1; {jobs[2].log_path})",
        "killed": f"no message (SIGKILL; {jobs[3].log_path})",
    }
    assert outcome.stopped_by is None
    out = re.sub(r"\d+ s ", "N s ", capsys.readouterr().out).split("\n")
    assert out[:4] == [
        f"good: started ({jobs[0].log_path})",
        "good: finished in N s (1 of 5)",
        f"bad: started ({jobs[1].log_path})",
        "bad: failed after N s (2 of 5)",
    ]


def test_output_goes_to_the_log_behind_what_is_there(make_job):
    job = make_job("x", "import sys; print('out', flush=True); print('err', file=sys.stderr)")
    job.log_path.write_text("of an earlier run\n")
    run_jobs([job], Local(1))
    lines = job.log_path.read_text().split("\n")
    assert lines[0] == "of an earlier run"
    assert lines[1].startswith(f"$ {sys.executable} -c ")
    assert lines[2:] == ["out", "err", ""]


def test_an_earlier_runs_last_words_are_not_this_ones_reason(make_job):
    job = make_job("x", "raise SystemExit(1)")
    job.log_path.write_text("error: long ago\n")
    assert run_jobs([job], Local(1)).failed["x"].startswith("no message (exit code 1; ")


def test_of_a_long_log_the_end_is_read(make_job):
    """Half a gigabyte is no reason to hold that much, nor a line of it to print it."""
    job = make_job("x", "import sys; print('a' * 10**6); print('b\\x1b[2J' * 10**4); sys.exit(1)")
    with open(job.log_path, "wb") as log:
        log.truncate(2**29)
    tracemalloc.start()
    try:
        reason = run_jobs([job], Local(1)).failed["x"]
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert len(reason) < 2500 and reason.isprintable() and r"b\x1b[2Jb" in reason


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_log_that_is_no_file_of_the_directory(make_job, tmp_path, kind):
    """An experiment from elsewhere may bring one: nothing is written there, nothing waits."""
    job = make_job("x", "print('ran')")
    (tmp_path / "foreign").write_text("kept")
    if kind == "link":
        job.log_path.symlink_to(tmp_path / "foreign")
    else:
        os.mkfifo(job.log_path)
    assert "could not be started" in run_jobs([job], Local(1)).failed["x"]
    assert (tmp_path / "foreign").read_text() == "kept"


def test_more_places_than_jobs(make_job):
    assert run_jobs([make_job("x", "pass")], Local(10**12)).finished == ["x"]


def test_no_shell_takes_the_arguments_apart(make_job):
    job = make_job("x", "import sys; print(sys.argv[1:])")
    job = Job(job.experiment, [*job.command, "a b; exit 1", "$HOME"], job.log_path)
    run_jobs([job], Local(1))
    assert "['a b; exit 1', '$HOME']" in job.log_path.read_text()


def most_at_once(jobs):
    """The largest number of jobs between whose begin and end, as they wrote them, a moment lies."""
    events = []
    for job in jobs:
        begin, end = map(float, job.log_path.read_text().split("\n")[-3:-1])
        events += [(begin, 1), (end, -1)]
    running = most = 0
    for _, change in sorted(events):
        running += change
        most = max(most, running)
    return most


# Waits until as many have begun as may run at once, then a little longer: for one more, by mistake.
WAITS_FOR_OTHERS = """
import sys, time
from pathlib import Path
print(time.time())
directory = Path(sys.argv[2])
(directory / "begun").touch()
while len(list(directory.glob("../*/begun"))) < int(sys.argv[1]):
    time.sleep(0.02)
time.sleep(0.3)
print(time.time())
"""


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_so_many_at_once_and_no_more(make_job, at_once):
    jobs = []
    for name in ("a", "b", "c", "d"):
        job = make_job(name, WAITS_FOR_OTHERS)
        command = [*job.command, str(at_once), str(job.experiment.model_dir)]
        jobs.append(Job(job.experiment, command, job.log_path))
    run_jobs(jobs, Local(at_once))
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
import errno
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
progress = {"step": 30, "max_steps": 120, "loss": 0.125, "fraction_positive": 0.25}
pathlib.Path("progress.json").write_text(json.dumps(progress))
while len(list(pathlib.Path("..").glob("*/progress.json"))) < 2:
    time.sleep(0.02)
time.sleep(0.5)
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
from src.experiment.experiment import Experiment
from src.sweeping.job import Job
from src.sweeping.launchers.local import Local
from src.sweeping.run_jobs import run_jobs
jobs = []
for name in ("a", "b", "c"):
    directory = Path(sys.argv[1]) / name
    directory.mkdir()
    jobs.append(Job(Experiment(directory), [sys.executable, "-c", sys.argv[2]], directory / "log"))
outcome = run_jobs(jobs, Local(2))
print(outcome.finished, outcome.failed, outcome.stopped_by)
"""
# Says that it is ready, and what it got.
JOB = """
import signal, sys, time
def stop(number, frame):
    print("got", signal.Signals(number).name)
    time.sleep(0.2)
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
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err == "" and "not waiting any longer" not in out


def test_a_signal_that_is_ignored_stays_so(make_job):
    """As `nohup` has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        job = make_job("x", "import os, signal; os.kill(os.getppid(), signal.SIGHUP)")
        outcome = run_jobs([job], Local(1))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (outcome.finished, outcome.stopped_by) == (["x"], None)


def test_a_job_that_cannot_be_started_does_not_end_the_rest(make_job, capsys):
    jobs = [make_job("first", "pass"), make_job("second", "pass"), make_job("third", "pass")]
    jobs[1].log_path.mkdir()
    outcome = run_jobs(jobs, Local(2))
    assert sorted(outcome.finished) == ["first", "third"]
    assert "Is a directory" in outcome.failed["second"]
    assert "second: could not be started: " in capsys.readouterr().out


def test_handlers_are_restored(make_job):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run_jobs([make_job("x", "pass")], Local(1))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


# Experiments that another process trains: what a killed sweep leaves, or a second one beside it

HOLD = """
import os, signal, sys, time
from pathlib import Path
from src.system.lock import one_writer
directory = Path(sys.argv[1])
with one_writer(directory):
    (directory / "held").touch()
    while not (directory / "go").exists():
        time.sleep(0.02)
    if (directory / "go").read_text() == "die":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def hold():
    """`hold(directory)`: a process that holds the experiment's lock until a file `go` is there."""
    started = []

    def hold(directory):
        process = subprocess.Popen([sys.executable, "-c", HOLD, directory], cwd=ROOT)
        started.append(process)
        wait_for(directory / "held", "")
        return process

    yield hold
    for process in started:
        process.kill()
        process.wait()


LATER = 0.4  # seconds, in which `run_jobs` looks several times


def later(function, *args):
    """Call a function when the jobs have run for a while."""
    timer = threading.Timer(LATER, function, args)
    timer.start()
    return timer


@pytest.mark.parametrize(
    ("status", "finished", "failed", "runs"),
    [
        ("finished", ["x", "y"], {}, False),
        ("to run", ["y", "x"], {}, True),
        ("diverged, not run again", ["y"], {"x": "diverged, not run again"}, False),
    ],
)
def test_a_training_of_another_process_is_waited_for(
    make_job, hold, capsys, status, finished, failed, runs
):
    first = make_job("x", "print('ran')")
    job = Job(first.experiment, first.command, first.log_path, lambda: status)
    directory = first.experiment.model_dir
    process = hold(directory)
    go = later((directory / "go").write_text, "end")
    outcome = run_jobs([job, make_job("y", "pass")], Local(2))
    go.join()
    assert sorted(outcome.finished) == sorted(finished) and outcome.failed == failed
    assert job.log_path.exists() == runs
    out = capsys.readouterr().out
    assert out.startswith(f"x: in use by process {process.pid} on ")
    assert "; waiting for it\n" in out
    assert ("x: not finished by the other process" in out) == runs


def test_a_process_that_is_killed_meanwhile_is_taken_over_from(make_job, hold):
    """It stays in the list of processes until its parent asks for it."""
    job = make_job("x", "print('ran')")
    directory = job.experiment.model_dir
    hold(directory)
    go = later((directory / "go").write_text, "die")
    assert run_jobs([job], Local(1)).finished == ["x"]
    go.join()
    assert "ran" in job.log_path.read_text()


def test_one_that_is_waited_for_takes_a_place(make_job, hold):
    first, second = make_job("x", "pass"), make_job("y", "import time; print(time.time())")
    directory = first.experiment.model_dir
    hold(directory)
    began = time.time()
    go = later((directory / "go").write_text, "end")
    assert run_jobs([first, second], Local(1)).finished == ["x", "y"]
    go.join()
    assert float(second.log_path.read_text().split("\n")[1]) > began + LATER


def test_a_signal_does_not_reach_what_was_not_started_here(make_job, hold, capsys):
    job = make_job("x", "pass")
    process = hold(job.experiment.model_dir)
    stop = later(os.kill, os.getpid(), signal.SIGTERM)
    outcome = run_jobs([job, make_job("y", "pass")], Local(1))
    stop.join()
    assert (outcome.finished, outcome.failed, outcome.stopped_by) == ([], {}, signal.SIGTERM)
    assert "x: still in use by the other process" in capsys.readouterr().out
    assert process.poll() is None


def test_another_process_that_comes_first(make_job, monkeypatch):
    """Between the look at the lock and the training that is refused for it."""
    code = """
import subprocess, sys, time
from pathlib import Path
directory = Path(%r)
if (directory / "go").exists():
    print("ran")
    sys.exit()
subprocess.Popen([sys.executable, "-c", %r, str(directory)])
while not (directory / "held").exists():
    time.sleep(0.02)
sys.exit("error: in use")
"""
    job = make_job("x", "")
    directory = job.experiment.model_dir
    command = [sys.executable, "-c", code % (str(directory), HOLD)]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def let_go():
        wait_for(job.log_path, "error: in use\n")
        time.sleep(LATER)
        (directory / "go").write_text("end")

    go = threading.Thread(target=let_go)
    go.start()
    outcome = run_jobs([Job(job.experiment, command, job.log_path)], Local(1))
    go.join()
    assert (outcome.finished, outcome.failed) == (["x"], {})
    assert job.log_path.read_text().count("ran\n") == 1


# What several trainings share, and how long one may take

SHOW_GPU = "import os, time; print(os.environ.get('CUDA_VISIBLE_DEVICES')); time.sleep(0.5)"


def gpus_of(jobs):
    return [job.log_path.read_text().split("\n")[-2] for job in jobs]


@pytest.mark.parametrize(
    ("chosen", "at_once", "expected"),
    [
        ("4,7", 2, ["4", "7"]),
        ("4,7", 4, ["4", "4", "7", "7"]),  # shared evenly if there are more jobs than GPUs
        ("4,7", 1, ["4,7"]),  # one at a time may use all
        ("5,-1,6", 2, ["5", "5"]),  # CUDA stops reading at -1
        ("", 2, ["", ""]),
        ("-1", 2, ["-1", "-1"]),
    ],
)
def test_each_of_several_jobs_gets_one_gpu(make_job, monkeypatch, chosen, at_once, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    jobs = [make_job(f"job_{number}", SHOW_GPU) for number in range(len(expected))]
    run_jobs(jobs, Local(at_once))
    assert sorted(gpus_of(jobs)) == expected


def test_a_gpu_is_used_again_when_its_job_has_ended(make_job, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    jobs = [make_job(f"job_{number}", SHOW_GPU) for number in range(4)]
    run_jobs(jobs, Local(2))
    assert sorted(gpus_of(jobs)) == ["0", "0", "1", "1"]


def test_the_gpus_that_the_driver_lists(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for script, expected in (("echo 0; echo 1", ["0", "1"]), ("echo no driver; exit 9", [])):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        assert local.gpus() == expected


def test_at_its_time_limit_a_job_saves_and_the_others_run(make_job):
    jobs = [make_job("slow", JOB), make_job("next", "print('ran')")]
    outcome = run_jobs(jobs, Local(1, job_minutes=3 / 60))
    assert outcome.finished == ["next"]
    assert outcome.failed == {
        "slow": "stopped after --job_minutes 0.05; the same command resumes it "
        f"({jobs[0].log_path})"
    }
    assert jobs[0].log_path.read_text().endswith("got SIGTERM\nsaved\n")


def test_a_job_that_does_not_heed_its_limit_is_killed(make_job, monkeypatch):
    monkeypatch.setattr(local, "_SECONDS_TO_SAVE", 0.5)
    deaf = "import signal, time\nsignal.signal(signal.SIGTERM, lambda *_: print('got'))\n"
    job = make_job("deaf", deaf + "while True: time.sleep(1)")
    outcome = run_jobs([job], Local(1, job_minutes=3 / 60))
    assert "stopped after --job_minutes" in outcome.failed["deaf"]
    assert job.log_path.read_text().endswith("\ngot\n")


def test_left_jobs_run_on_and_the_next_sweep_finds_them(make_job, hold, capsys):
    job = make_job("x", "import time; print('begun'); time.sleep(1); print('done')")
    stop = later(os.kill, os.getpid(), signal.SIGINT)
    outcome = run_jobs([job], Local(1), cancels=False)
    stop.join()
    assert (outcome.finished, outcome.stopped_by) == ([], signal.SIGINT)
    assert "SIGINT: 1 still run" in capsys.readouterr().out
    wait_for(job.log_path, "\ndone\n")


# A launcher that cannot start a job now, such as one whose queue is full


class Full(Local):
    """Refuses until `free` jobs have been asked for."""

    def __init__(self, refusals):
        super().__init__(2)
        self.refusals = refusals

    def start(self, job):
        if self.refusals:
            self.refusals -= 1
            raise TryLater("the queue is full")
        return super().start(job)


@pytest.mark.parametrize(("refusals", "finished"), [(3, ["x"]), (4, [])])
def test_a_job_that_cannot_be_started_now_is_tried_again(
    make_job, monkeypatch, capsys, refusals, finished
):
    monkeypatch.setattr("src.sweeping.run_jobs._SECONDS_BETWEEN_TRIES", 0.1)
    outcome = run_jobs([make_job("x", "pass")], Full(refusals))
    assert outcome.finished == finished
    failed = {} if finished else {"x": "could not be started: the queue is full"}
    assert outcome.failed == failed
    assert capsys.readouterr().out.count("x: not started yet: the queue is full\n") == 1


# Jobs that are not known in advance


class Jobs:
    """A source of jobs; it stops those whose name begins with `stop` once they have begun."""

    total = None
    is_over = False

    def __init__(self, jobs):
        self.jobs = list(jobs)
        self.stopped = []
        self.ends = {}

    def next_job(self):
        return self.jobs.pop(0) if self.jobs else None

    def to_stop(self, running):
        found = [
            one
            for one in running
            if one.job.name.startswith("stop") and one.job.name not in self.stopped
            if (one.job.experiment.model_dir / "begun").exists()
        ]
        self.stopped += [one.job.name for one in found]
        return found

    def ended(self, job, status, *, is_interrupted):
        self.ends[job.name] = status
        return f"told {len(self.ends)}"

    def news(self):
        return []


def test_an_error_of_the_sweep_itself_leaves_no_training_behind(make_job):
    job = make_job("x", "import time; print('begun', flush=True); time.sleep(20); print('left')")

    running = []

    class Full(Jobs):
        def to_stop(self, started):
            if job.log_path.read_text().endswith("begun\n"):
                running.extend(started)
                raise OSError(errno.ENOSPC, "No space left on device")
            return []

    with pytest.raises(OSError, match="No space left"):
        run_jobs([], Local(1), source=Full([job]))
    (left,) = running
    while not left.has_ended():
        time.sleep(0.02)
    assert "SIGTERM" in left.status()


@pytest.mark.parametrize("at_once", [1, 3])
def test_jobs_of_a_source_one_stopped_and_one_that_does_not_end(
    make_job, monkeypatch, capsys, at_once
):
    monkeypatch.setattr("src.sweeping.run_jobs._SECONDS_TO_SAVE", 0.5)
    begun = "import signal, sys, time\nfrom pathlib import Path\n{}\n"
    begun += "Path(sys.argv[1], 'begun').touch()\ntime.sleep(60)"
    ignores = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    jobs = [make_job("a", "pass"), make_job("stop", begun.format("")), make_job("b", "exit(3)")]
    jobs.append(make_job("stop_never", begun.format(ignores)))
    jobs = [
        Job(job.experiment, [*job.command, str(job.experiment.model_dir)], job.log_path)
        for job in jobs
    ]
    source = Jobs(jobs)
    outcome = run_jobs([], Local(at_once), source=source)
    assert outcome.stopped_by is None and not outcome.failed
    assert source.ends["a"] == "finished"
    assert "exit code 3" in source.ends["b"]
    assert "SIGTERM" in source.ends["stop"] and "SIGKILL" in source.ends["stop_never"]
    assert "told 4, " in capsys.readouterr().out
