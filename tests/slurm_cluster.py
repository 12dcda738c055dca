"""A real SLURM of two nodes, `n1` and `n2`, on this machine, for tests.

All its files, sockets and ports are its own, so it disturbs no other cluster. Its daemons end with
the block, also if a test fails, and with the process that started them, also if that is killed.

By hand, for one command with everything it starts:

    python tests/slurm_cluster.py sh -c 'sinfo; srun --ntasks=2 hostname'
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NODES = ("n1", "n2")

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "setpriv")
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
_START_SECONDS = 60
_STOP_SECONDS = 10

# A requeued job waits for the lifetime of a credential, 120 s by default; a requeued training is
# what is tested. Jobs are scheduled at once; jobs that have ended are forgotten soon, so that tests
# meet the case of a job that has left the queue. KillWait: the time from SIGTERM to SIGKILL.
_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool-%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd-%n.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
ReturnToService=1
KillWait=20
MinJobAge=2
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=100000
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=100
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=100
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
"""


def missing_for_slurm() -> str | None:
    """Return why no cluster can be started here; None if one can."""
    if sys.platform != "linux":
        return "SLURM needs Linux"
    missing = [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: slurm-wlm, munge)"
    if os.geteuid() != 0:
        return "SLURM's daemons need root"
    return None


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        directory: its configuration, state and logs.
    """

    directory: Path

    @property
    def variables(self) -> Mapping[str, str]:
        """What SLURM's programs need in their environment to find it."""
        return {"SLURM_CONF": str(self.directory / "slurm.conf"), "PATH": _PATH}

    def run(self, *command: object) -> str:
        """Run a command, such as `squeue`, to its end; return what it prints."""
        done = subprocess.run(
            [str(word) for word in command],
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode:
            raise RuntimeError(f"{command}: exit code {done.returncode}: {done.stderr}")
        return done.stdout

    def jobs(self) -> dict[str, tuple[str, str, str]]:
        """Return name, state and node of each job that waits or runs, by its number."""
        lines = self.run("squeue", "--noheader", "--format=%i|%j|%T|%N").splitlines()
        return {number: (name, state, node) for number, name, state, node in _fields(lines)}

    def ready_nodes(self) -> int:
        """Return how many nodes can take jobs."""
        return sum(one in ("idle", "mixed", "allocated") for one in self.node_states().values())

    def node_states(self) -> dict[str, str]:
        """Return the state of each node: `idle`, `completing` after a job, `down`, ..."""
        words = self.run("sinfo", "--noheader", "--Node", "--format=%N %T").split()
        return dict(zip(words[::2], words[1::2], strict=True))

    def clear(self) -> None:
        """Cancel all jobs, wait for their end, and have both nodes up: for the next test."""
        self.run("scancel", "--user=root")
        for node in NODES:
            with contextlib.suppress(RuntimeError):  # it is up
                self.run("scontrol", "update", f"nodename={node}", "state=resume")
        _wait(lambda: not self.jobs() and self.ready_nodes() == len(NODES), "jobs that end", self)


def _fields(lines: Sequence[str]) -> Iterator[tuple[str, str, str, str]]:
    for line in lines:
        number, name, state, node = line.split("|")
        yield number, name, state, node


@contextmanager
def slurm_cluster() -> Iterator[Cluster]:
    """Run a cluster during the block.

    Yields:
        The cluster; its `variables` are needed in the environment of what uses it.

    Raises:
        RuntimeError: it did not start; the message has the ends of its logs.
    """
    # Short, because the path of a socket has at most 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="slurm-"))
    cluster = Cluster(directory)
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        _write_files(directory)
        daemons.append(_start(cluster, "munged", *_munge_options(directory)))
        _wait(lambda: (directory / "munge.socket").exists(), "munged", cluster)
        daemons.append(_start(cluster, "slurmctld", "-D", "-c"))
        daemons += [_start(cluster, "slurmd", "-D", "-c", "-N", node) for node in NODES]
        _wait(lambda: _has_started(cluster), "the nodes", cluster)
        yield cluster
    finally:
        _stop(cluster, daemons)
        shutil.rmtree(directory, ignore_errors=True)


def _write_files(directory: Path) -> None:
    (directory / "state").mkdir()
    for node in NODES:
        (directory / f"spool-{node}").mkdir()
    key = directory / "munge.key"
    key.touch(mode=0o400)
    key.write_bytes(secrets.token_bytes(1024))
    host = socket.gethostname().partition(".")[0]
    text = _CONFIGURATION.format(host=host, directory=directory, ports=_free_ports(3))
    (directory / "slurm.conf").write_text(text)


def _free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _munge_options(directory: Path) -> list[str]:
    """Return options for a munged of this cluster alone.

    `--force`: it refuses to run as root and below a directory of this user alone otherwise.
    """
    places = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
    options = [f"--{option}={directory}/munge.{end}" for option, end in places.items()]
    return [*options, f"--seed-file={directory}/munge.seed", "--foreground", "--force"]


def _start(cluster: Cluster, program: str, *options: str) -> "subprocess.Popen[bytes]":
    """Start a daemon. It ends when this process does; a terminal's Ctrl-C does not reach it."""
    with open(cluster.directory / f"{program}.out", "ab") as output:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", program, *options],
            env={**os.environ, **cluster.variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _has_started(cluster: Cluster) -> bool:
    try:
        return cluster.ready_nodes() == len(NODES)
    except RuntimeError:  # slurmctld does not answer yet
        return False


def _wait(is_done, what: str, cluster: Cluster) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + _START_SECONDS
    while not is_done():
        if time.monotonic() > deadline:
            logs = sorted([*cluster.directory.glob("*.log"), *cluster.directory.glob("*.out")])
            ends = (f"{log.name}:\n{log.read_text(errors='replace')[-2000:]}" for log in logs)
            raise RuntimeError(f"waited {_START_SECONDS} s for {what}\n" + "\n".join(ends))
        time.sleep(0.1)


def _stop(cluster: Cluster, daemons: "Sequence[subprocess.Popen[bytes]]") -> None:
    """End the jobs, then the daemons, then whatever of the cluster is still there."""
    with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
        cluster.run("scancel", "--user=root", "--signal=KILL", "--full")
        cluster.run("scancel", "--user=root")
        deadline = time.monotonic() + _STOP_SECONDS
        while cluster.jobs() and time.monotonic() < deadline:
            time.sleep(0.1)
    for daemon in reversed(daemons):
        daemon.terminate()
    for daemon in reversed(daemons):
        try:
            daemon.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
    for pid in _processes_of(cluster):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _processes_of(cluster: Cluster) -> list[int]:
    """Return the other processes that have the cluster's configuration in their environment."""
    wanted = f"SLURM_CONF={cluster.variables['SLURM_CONF']}".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        pid = int(environment.parent.name)
        with contextlib.suppress(OSError):
            if pid != os.getpid() and wanted in environment.read_bytes().split(b"\0"):
                found.append(pid)
    return found


if __name__ == "__main__":
    if reason := missing_for_slurm():
        sys.exit(reason)
    with slurm_cluster() as started:
        sys.exit(subprocess.run(sys.argv[1:], env={**os.environ, **started.variables}).returncode)
