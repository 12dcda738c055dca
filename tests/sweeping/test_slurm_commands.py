"""What SLURM's programs are told and what they say, with small programs in their place."""

import os
import time

import pytest

from src.errors import UserError
from src.experiment.experiment import Experiment
from src.experiment.status import Status
from src.sweeping import slurm_commands
from src.sweeping.job import Job
from src.sweeping.launchers import Settings, TryLater
from src.sweeping.launchers.slurm import launcher
from src.sweeping.slurm_commands import Queue, SlurmError, as_arguments, call, parse_options
from src.sweeping.slurm_record import RECORD_FILE, read_record
from src.system.lock import one_writer


@pytest.mark.parametrize(
    ("texts", "arguments"),
    [
        (["partition=gpu,gres=gpu:1,time=4:00:00"], "--partition=gpu --gres=gpu:1 --time=4:00:00"),
        (["exclude=n1,n2,mem=4G"], "--exclude=n1,n2 --mem=4G"),
        (["exclusive", "cpus-per-task=4"], "--exclusive --cpus-per-task=4"),
        (["--partition=gpu"], "--partition=gpu"),
        (["signal=B:TERM@300"], "--signal=B:TERM@300"),
        (["time=1", "time=2"], "--time=2"),
        ([], ""),
    ],
)
def test_options(texts, arguments):
    assert " ".join(as_arguments(parse_options(texts))) == arguments


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--slurm: found ''; accepted: options of sbatch without dashes, such as"),
        ("-p gpu", "--slurm: found '-p gpu'; accepted: options of sbatch"),
        ("partition=", "--slurm partition: found ''; accepted: partition=VALUE, or partition"),
        ("time=\x1b", r"--slurm time: found '\x1b'; accepted"),
        ("array=1-4", "--slurm array: set by the sweep itself; accepted: other options"),
        ("wrap=x", "--slurm wrap: set by the sweep itself"),
        ("signal=USR1@60", "--slurm signal: found 'USR1@60'; accepted: B:TERM@SECONDS"),
    ],
)
def test_options_that_are_none(text, message):
    with pytest.raises(UserError) as error:
        parse_options([text])
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_a_time_limit_is_the_schedulers():
    with pytest.raises(
        UserError, match="--job_minutes: found with --launcher slurm; accepted: --sl"
    ):
        launcher(Settings(job_minutes=60))


@pytest.fixture
def program(tmp_path, monkeypatch):
    """`program(name, script)`: a shell script as one of SLURM's programs."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)

    def write(name, script):
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return write


def test_what_a_program_says_when_it_fails(program, monkeypatch):
    program("squeue", "echo 'squeue: error: not\x1b now' >&2; echo more >&2; exit 1")
    with pytest.raises(SlurmError) as error:
        call(["squeue"])
    assert str(error.value) == r"squeue: not\x1b now"
    monkeypatch.setattr(slurm_commands, "_SECONDS_TO_ANSWER", 0.2)
    program("squeue", "exec sleep 60")
    with pytest.raises(SlurmError, match="squeue: no answer in 0.2 s"):
        call(["squeue"])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SlurmError, match="squeue: No such file"):
        call(["squeue"])


def test_while_the_queue_does_not_answer_what_it_said_stays_valid(program, monkeypatch):
    monkeypatch.setattr(slurm_commands, "_SECONDS_BEFORE_A_WORD", 0)
    monkeypatch.setattr(slurm_commands, "_SHORTEST_LOOK", 0)
    program("squeue", "echo '7|a.b|RUNNING|n1'; echo nonsense; echo; echo '8|c|PENDING|(None)'")
    queue = Queue()
    jobs = queue.jobs()
    assert [(one.job_id, one.name, one.state, one.where) for one in jobs.values()] == [
        ("7", "a.b", "RUNNING", "n1"),
        ("8", "c", "PENDING", "(None)"),
    ]
    program("squeue", "exit 1")
    queue.look_soon()
    assert queue.jobs() == jobs and queue.number == 1
    time.sleep(0.01)
    queue.look_soon()
    assert queue.jobs() == jobs
    assert queue.news() == ["no answer for a minute (squeue: exit code 1); still trying"]
    program("squeue", "true")
    queue.look_soon()
    assert queue.jobs() == {} and queue.news() == ["the queue answers again"]


def test_the_users_own_choice_of_what_squeue_shows_is_passed_over(program, monkeypatch):
    monkeypatch.setenv("SQUEUE_PARTITION", "cpu")
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")
    program("squeue", 'echo "7|$SQUEUE_PARTITION$SBATCH_ACCOUNT $*|RUNNING|n1"')
    (job,) = Queue().look().values()
    assert job.name.startswith("mine --all --noheader --states=all --user=")


def test_all_jobs_share_a_look_that_took_long(program, tmp_path, monkeypatch):
    monkeypatch.setattr(slurm_commands, "_SHORTEST_LOOK", 0.2)
    program("squeue", f"echo >> {tmp_path}/looks; sleep 0.3; exit 1")
    queue = Queue()
    for _ in range(50):
        queue.jobs()
    assert len((tmp_path / "looks").read_text()) == 1


@pytest.fixture
def job(tmp_path):
    directory = tmp_path / "margin_1"
    directory.mkdir()
    return Job(Experiment(directory), ["true"], directory / "train.log")


@pytest.fixture
def slurm_of(program):
    """`slurm_of(cluster)`: a launcher whose cluster accepts jobs, and has none in its queue."""

    def make(cluster):
        program("scontrol", f"echo 'ClusterName = {cluster}'")
        program("sbatch", "echo 12")
        program("squeue", "true")
        slurm = launcher(Settings())
        slurm.check()
        return slurm

    return make


def test_without_an_answer_nothing_is_submitted_twice(slurm_of, program, job):
    """`sbatch` failed, but the job may be in the queue; whether it is, nobody can tell."""
    slurm = slurm_of("one")
    program("sbatch", "echo 'sbatch: error: Socket timed out' >&2; exit 1")
    with pytest.raises(TryLater, match="sbatch: Socket timed out"):
        slurm.start(job)
    program("sbatch", "echo must not run >&2; exit 1")
    program("squeue", "echo 'squeue: error: down' >&2; exit 1")
    with pytest.raises(TryLater, match="squeue: down"):
        slurm.start(job)
    name = job.experiment.model_dir.name
    program("squeue", f"echo '9|other|RUNNING|n1'; echo \"12|$({read_name(job)})|PENDING|(None)\"")
    started = slurm.start(job)
    assert (started.job_id, started.job.name) == ("12", name)
    assert not started.has_ended()


def read_name(job):
    path = job.experiment.model_dir / RECORD_FILE
    return f'sed -n \'s/.*"name": "\\(.*\\)".*/\\1/p\' {path}'


def test_a_job_of_another_cluster_is_not_submitted_here(slurm_of, job):
    slurm_of("one").start(job)
    other = slurm_of("two")
    for look in (other.find, other.start):
        with pytest.raises(
            UserError, match="submitted on the cluster 'one', found 'two'; accepted"
        ):
            look(job)


@pytest.mark.parametrize("private", ["none", "accounts,jobs,usage"])
def test_a_colleagues_job_that_is_not_shown_is_not_submitted_again(
    slurm_of, program, job, monkeypatch, private
):
    slurm = slurm_of("one")
    slurm.start(job)
    program("scontrol", f"echo 'ClusterName = one'; echo 'PrivateData             = {private}'")
    slurm.check()
    assert slurm.find(job) is None  # it is one's own
    own = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    if private == "none":
        assert slurm.find(job) is None
        return
    for look in (slurm.find, slurm.start):
        with pytest.raises(UserError, match="submitted by user .*, whose jobs this cluster does"):
            look(job)


def test_inode_numbers_of_64_bits(slurm_of, job, monkeypatch):
    """As GlusterFS and CIFS have them."""
    number = (1 << 64) - 2
    monkeypatch.setattr("src.sweeping.slurm_record.directory_number", lambda experiment: number)
    monkeypatch.setattr("src.sweeping.launchers.slurm.directory_number", lambda experiment: number)
    slurm_of("one").start(job)
    assert read_record(job.experiment).directory == number


def test_a_copy_of_an_experiment_has_no_job(slurm_of, program, job, tmp_path):
    slurm_of("one").start(job)
    slurm = slurm_of("one")
    program("squeue", f"echo '12|{read_record(job.experiment).name}|RUNNING|n1'")
    assert slurm.find(job).job_id == "12"
    copy = tmp_path / "copy"
    copy.mkdir()
    content = (job.experiment.model_dir / RECORD_FILE).read_bytes()
    (copy / RECORD_FILE).write_bytes(content)
    assert slurm.find(Job(Experiment(copy), ["true"], copy / "train.log")) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"job_id": 12}', "{" * 4000])
def test_a_damaged_record_is_named(slurm_of, job, content):
    slurm = slurm_of("one")
    (job.experiment.model_dir / RECORD_FILE).write_text(content)
    with pytest.raises(UserError, match=rf"{RECORD_FILE}: damaged .*; accepted: the file that"):
        slurm.find(job)


def test_what_left_the_queue_unfinished_is_a_failure_with_its_last_words(slurm_of, job):
    slurm = slurm_of("one")
    started = slurm.start(job)
    with open(job.log_path, "a") as log:
        log.write("error: no data\n")
    while not started.has_ended():
        time.sleep(0.05)
    assert started.status() == f"no data (job 12: not in the queue; {job.log_path})"


def test_a_job_refused_because_a_lost_node_still_trains_is_tried_again(slurm_of, job):
    slurm = slurm_of("one")
    started = slurm.start(job)
    while not started.has_ended():
        time.sleep(0.05)
    with one_writer(job.experiment.model_dir):
        assert started.status() == Status.TO_RUN
    assert started.status() != Status.TO_RUN


@pytest.mark.parametrize(
    ("state", "step", "status", "is_continued"),
    [
        ("FAILED", 8, "stopped", True),  # SIGTERM, before its time was over
        ("FAILED", 8, "running", False),  # killed, or a bug
        ("TIMEOUT", 8, "running", True),
        ("NODE_FAIL", 8, "running", True),
        ("TIMEOUT", 7, "stopped", False),  # no step further: it would not be the next time either
        ("OUT_OF_MEMORY", 8, "running", False),
        ("CANCELLED", 8, "stopped", False),
    ],
)
def test_what_the_cluster_ended_early_is_submitted_again(
    slurm_of, program, job, state, step, status, is_continued
):
    def checkpoint(number):
        path = job.experiment.model_dir / "checkpoint"
        path.write_text(f'model_checkpoint_path: "model.ckpt-{number}"')

    slurm = slurm_of("one")
    checkpoint(7)
    started = slurm.start(job)
    name = read_record(job.experiment).name
    program("squeue", f"echo '12|{name}|{state}|n1'")
    checkpoint(step)
    job.experiment.save_metrics({"status": status, "splits": {}})
    while not started.has_ended():
        time.sleep(0.05)
    assert (started.status() == Status.TO_RUN) == is_continued


def test_another_job_of_the_same_number_is_not_ours(slurm_of, program, job):
    """After a cluster was set up anew, its numbers begin again."""
    slurm = slurm_of("one")
    started = slurm.start(job)
    second = slurm_of("one")
    program("squeue", "echo '12|other|RUNNING|n1'")
    assert second.find(job) is None
    while not started.has_ended():
        time.sleep(0.05)
