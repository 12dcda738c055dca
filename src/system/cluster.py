"""Which processes train together: read from `TF_CONFIG`, or from the variables of a SLURM step."""

import contextlib
import json
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from src.errors import UserError
from src.printable import printable

_PORT = r"(?:[1-9][0-9]{0,4})"
_HOST = r"(?:[A-Za-z0-9_.\-]+|\[[0-9A-Fa-f:.]+\])"  # an address of IPv6 stands in brackets
_Address = Annotated[str, Field(max_length=255, pattern=rf"^{_HOST}:{_PORT}$")]

_LAST_PORT = 65535

# SLURM's jobs use these ports: below those that systems give to clients, from 32768 on.
_FIRST_PORT, _NUM_PORTS = 20000, 12000
_PORTS_PER_JOB = 64
_NODES = r"(?:[^,\[\]]|\[[^\[\]]*\])+"  # a name, or a pattern such as n[1-2,5]
_MAX_NODES = 100_000
_MAX_BRACKETS = 8  # in a name; SLURM has at most 5


@dataclass(frozen=True)
class Cluster:
    """The processes that train together, and which of them this one is.

    Attributes:
        names: for messages, such as `chief 0` and `worker 1`; the first is the chief.
        addresses: HOST:PORT of each.
        rank: this process's position in both; None for an evaluator.
    """

    names: tuple[str, ...]
    addresses: tuple[str, ...]
    rank: int | None

    @property
    def size(self) -> int:
        """The number of processes that train."""
        return len(self.addresses)

    def place(self, rank: int) -> str:
        """Return a process's name and address, for messages."""
        return f"{self.names[rank]} ({self.addresses[rank]})"


class _Task(BaseModel):
    model_config = ConfigDict(strict=True)

    type: str
    index: Annotated[int, Field(ge=0)]


class _Jobs(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    chief: Annotated[list[_Address], Field(max_length=1)] = []
    worker: list[_Address] = []
    evaluator: list[_Address] = []


class _TfConfig(BaseModel):
    """`TF_CONFIG`, as TensorFlow documents it; other keys, such as `environment`, are ignored."""

    model_config = ConfigDict(strict=True)

    cluster: _Jobs
    task: _Task


def read_cluster(environment: Mapping[str, str]) -> Cluster | None:
    """Return the cluster that this process belongs to; None if it trains alone.

    `TF_CONFIG` counts if it is set. Otherwise, inside a step of a SLURM job with several tasks
    (`srun python train.py`), the cluster is made from SLURM's variables.

    Args:
        environment: `os.environ`.

    Raises:
        UserError: the variables are invalid, or describe what is not supported.
    """
    text = environment.get("TF_CONFIG", "").strip()
    if text:
        return _from_tf_config(text)
    if int_of(environment, "SLURM_STEP_NUM_TASKS", 1) > 1:
        return _from_slurm(environment)
    return None


def _from_tf_config(text: str) -> Cluster | None:
    # Long: each mistake has its own line.
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"TF_CONFIG: found no JSON ({error}); accepted: {_EXAMPLE}") from None
    cluster = content.get("cluster") if isinstance(content, dict) else None
    if isinstance(content, dict) and not cluster:
        return None  # as in TensorFlow: {} means one machine
    if isinstance(cluster, dict) and (
        refused := [job for job in ("ps", "master") if job in cluster]
    ):
        reason = "parameter servers train asynchronously, so no step sees a whole batch"
        accepted = f"chief, worker; {reason}" if refused[0] == "ps" else "chief in its place"
        raise UserError(f'TF_CONFIG: cluster: found "{refused[0]}"; accepted: {accepted}')
    try:
        config = _TfConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the whole"
        is_missing = first["type"] == "missing"  # the input is then what lacks it
        found = "nothing" if is_missing else printable(repr(first["input"]))[:80]
        if first["type"] in ("model_type", "model_attributes_type"):
            raise UserError(
                f"TF_CONFIG: {key}: found {found}; accepted: a JSON object: {_EXAMPLE}"
            ) from None
        if first["type"] == "string_pattern_mismatch":
            accepted = "HOST:PORT, with an IPv6 HOST in brackets"
            raise UserError(f"TF_CONFIG: {key}: found {found}; accepted: {accepted}") from None
        raise UserError(
            f"TF_CONFIG: {key}: found {found} ({first['msg']}); accepted: {_EXAMPLE}"
        ) from None
    jobs = config.cluster
    names = [f"{job} {i}" for job in ("chief", "worker") for i in range(len(getattr(jobs, job)))]
    addresses = [*jobs.chief, *jobs.worker]
    for address in addresses:
        if int(address.rpartition(":")[2]) > _LAST_PORT:
            raise UserError(
                f"TF_CONFIG: cluster: found {address}; accepted: a port from 1 to {_LAST_PORT}"
            )
    task = f"{config.task.type} {config.task.index}"
    if repeated := {address for address in addresses if addresses.count(address) > 1}:
        raise UserError(f"TF_CONFIG: cluster: found {min(repeated)} twice; accepted: once each")
    if not names:
        raise UserError(f"TF_CONFIG: cluster: found no worker; accepted: {_EXAMPLE}")
    if config.task.type == "evaluator":
        return Cluster(tuple(names), tuple(addresses), None)
    if task not in names:
        raise UserError(
            f"TF_CONFIG: task: found {printable(task)}; accepted: {', '.join(names)}, evaluator 0"
        )
    return Cluster(tuple(names), tuple(addresses), names.index(task)) if len(names) > 1 else None


_EXAMPLE = (
    '{"cluster": {"chief": ["host1:2222"], "worker": ["host2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


def _from_slurm(environment: Mapping[str, str]) -> Cluster:
    size, rank = int_of(environment, "SLURM_STEP_NUM_TASKS"), int_of(environment, "SLURM_PROCID")
    key = next((k for k in ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST") if k in environment), None)
    if key is None:
        raise UserError("SLURM_STEP_NODELIST: found nothing; accepted: a list of nodes, from srun")
    nodes = expand_nodes(environment[key], key)
    per_node = tasks_per_node(environment.get("SLURM_STEP_TASKS_PER_NODE", str(size)))
    hosts = _hosts_of_tasks(nodes, per_node, environment.get("SLURM_DISTRIBUTION", "block"))
    if len(hosts) != size or rank >= size or len(nodes) != len(per_node):
        raise UserError(
            f"SLURM_STEP_TASKS_PER_NODE: found {len(hosts)} tasks on {len(per_node)} nodes; "
            f"accepted: {size} on {len(nodes)} (SLURM_STEP_NUM_TASKS, {key}), with task {rank}"
        )
    job, step = int_of(environment, "SLURM_JOB_ID"), int_of(environment, "SLURM_STEP_ID", 0)
    # Tasks of a node have different ports, and so have jobs that share one.
    if size > _NUM_PORTS:
        raise UserError(f"SLURM_STEP_NUM_TASKS: found {size}; accepted: at most {_NUM_PORTS}")
    first = _FIRST_PORT + (job * _PORTS_PER_JOB + step) % (_NUM_PORTS - size + 1)
    address = {node: node_address(node) for node in nodes}
    addresses = [f"{address[host]}:{first + task}" for task, host in enumerate(hosts)]
    return Cluster(tuple(f"task {task}" for task in range(size)), tuple(addresses), rank)


def node_address(node: str) -> str:
    """Return where a node of SLURM is reached: its name or, if that is unknown, its NodeAddr."""
    try:
        socket.getaddrinfo(node, None)
        return node
    except OSError:
        pass
    command = ["scontrol", "show", "node", node]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        if match := re.search(r"\bNodeAddr=([A-Za-z0-9_.\-:]+)", done.stdout):
            return match[1]
    return node


def _hosts_of_tasks(nodes: list[str], per_node: list[int], distribution: str) -> list[str]:
    """Return the node of each task.

    Raises:
        UserError: tasks are distributed among nodes in another way than `block` or `cyclic`.
    """
    way = distribution.split(",")[0].split(":")[0].lower()
    counts = list(zip(nodes, per_node, strict=False))
    if way == "cyclic":
        turns = range(max(per_node, default=0))
        return [node for turn in turns for node, number in counts if number > turn]
    if way not in ("block", "unknown", ""):
        raise UserError(
            f"SLURM_DISTRIBUTION: found {printable(distribution)[:80]}; accepted: block, cyclic "
            "(srun --distribution); or set TF_CONFIG"
        )
    return [node for node, number in counts for _ in range(number)]


def expand_nodes(text: str, key: str = "SLURM_STEP_NODELIST") -> list[str]:
    """Return the nodes of a list of SLURM: `a,n[1-2,05]-x[0-1]` -> a, n1-x0, n1-x1, n2-x0, ...

    Raises:
        UserError: the list is malformed, or too long.
    """
    if not re.fullmatch(f"{_NODES}(?:,{_NODES})*", text):
        raise _bad_nodes(text, key)
    nodes: list[str] = []
    for part in re.findall(_NODES, text):
        for node in _expand(part, key):
            nodes.append(node)
            if len(nodes) > _MAX_NODES:
                raise _bad_nodes(text, key)
    return nodes


def _expand(pattern: str, key: str) -> Iterator[str]:
    """Yield the names of a pattern such as `n[1-2,05]`."""
    if pattern.count("[") > _MAX_BRACKETS:
        raise _bad_nodes(pattern, key)
    match = re.fullmatch(r"([^\[\]]*)\[([^\[\]]+)\](.*)", pattern)
    if match is None:
        if not re.fullmatch(r"[A-Za-z0-9_.\-]+", pattern):
            raise _bad_nodes(pattern, key)
        yield pattern
        return
    before, ranges, after = match.groups()
    for numbers in ranges.split(","):
        ends = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", numbers)
        if ends is None:
            raise _bad_nodes(pattern, key)
        first, last = ends[1], ends[2] or ends[1]
        for number in range(int(first), int(last) + 1):
            for rest in _expand(after, key) if after else [""]:
                yield f"{before}{number:0{len(first)}}{rest}"


def _bad_nodes(text: str, key: str) -> UserError:
    return UserError(
        f"{key}: found {printable(text)[:80]}; accepted: names of nodes, such as n[1-2,5],m7"
    )


def tasks_per_node(text: str) -> list[int]:
    """Return the numbers of a list such as `2(x3),1`: 2, 2, 2, 1.

    Raises:
        UserError: the list is malformed, or too long.
    """
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,6})(?:\(x([0-9]{1,6})\))?", part.strip())
        repeats = int(match[2] or 1) if match else 0
        if match is None or len(counts) + repeats > _MAX_NODES:
            raise UserError(
                f"SLURM_STEP_TASKS_PER_NODE: found {printable(text)[:80]}; accepted: numbers such "
                "as 2(x3),1"
            )
        counts += [int(match[1])] * repeats
    return counts


def int_of(environment: Mapping[str, str], key: str, default: Any = None) -> int:
    """Return the value of a variable as a number >= 0.

    Raises:
        UserError: it is no such number, or is missing and has no default.
    """
    text = environment.get(key, default)
    if isinstance(text, str) and re.fullmatch("[0-9]{1,10}", text):
        return int(text)
    if isinstance(text, int):
        return text
    found = printable(text)[:80] if text else "nothing"
    raise UserError(f"{key}: found {found}; accepted: a number, as srun sets it")
