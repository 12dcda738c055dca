"""Clusters, read from TF_CONFIG and from SLURM's variables."""

import json

import pytest

from src.errors import UserError
from src.system.cluster import expand_nodes, read_cluster, tasks_per_node

CHIEF, WORKERS = ["a:1"], ["b:1", "[::1]:2"]


def tf_config(cluster, task_type="worker", index=0):
    content = {"cluster": cluster, "task": {"type": task_type, "index": index}}
    return {"TF_CONFIG": json.dumps(content)}


def test_the_chief_is_first():
    found = read_cluster(tf_config({"chief": CHIEF, "worker": WORKERS}, index=1))
    assert found.names == ("chief 0", "worker 0", "worker 1")
    assert found.addresses == ("a:1", "b:1", "[::1]:2")
    assert (found.rank, found.size) == (2, 3)
    assert found.place(1) == "worker 0 (b:1)"


def test_without_a_chief_worker_0_is_the_chief():
    assert read_cluster(tf_config({"worker": WORKERS})).rank == 0


def test_an_evaluator_is_not_listed():
    assert read_cluster(tf_config({"chief": CHIEF, "worker": WORKERS}, "evaluator")).rank is None


@pytest.mark.parametrize(
    "environment",
    [{}, {"TF_CONFIG": " "}, {"TF_CONFIG": "{}"}, tf_config({"worker": ["a:1"]})],
)
def test_one_process_is_no_cluster(environment):
    assert read_cluster(environment) is None


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TF_CONFIG": "{"}, "found no JSON"),
        ({"TF_CONFIG": "[]"}, r"the whole: found \[\]; accepted: a JSON object: "),
        (tf_config([1]), r"cluster: found \[1\]; accepted: a JSON object: "),
        ({"TF_CONFIG": "[" * 100_000}, "found no JSON"),
        (tf_config({"chief": CHIEF, "worker": WORKERS, "ps": ["c:1"]}), 'found "ps".*whole batch'),
        (tf_config({"master": ["a:1"], "worker": WORKERS}), 'found "master".*chief'),
        (tf_config({"chief": ["a:1", "c:1"]}), "cluster.chief: found"),
        (tf_config({"worker": ["a"]}), "cluster.worker.0: found 'a'"),
        (tf_config({"worker": ["a:b:1"]}), "found 'a:b:1'; accepted: HOST:PORT"),
        (tf_config({"worker": ["::1:2"]}), "found '::1:2'; accepted: HOST:PORT.*IPv6.*brackets"),
        (tf_config({"worker": ["[::1:2"]}), r"found '\[::1:2'; accepted: HOST:PORT"),
        (tf_config({"worker": ["a:1", "a:1"]}), "a:1 twice"),
        ({"TF_CONFIG": json.dumps({"cluster": {"worker": CHIEF}})}, "task: found nothing"),
        (tf_config({"worker": ["a:1", "b:65536"]}), "found b:65536; accepted: a port from 1 to 65"),
        (tf_config({"worker": WORKERS}, "chief"), "task: found chief 0; accepted: worker 0, wor"),
        (tf_config({"worker": WORKERS}, index=2), "found worker 2"),
        (tf_config({"worker": WORKERS}, index="0"), "task.index: found '0'"),
        (tf_config({"boss": WORKERS}), "cluster.boss"),
        (tf_config({"evaluator": ["a:1"]}), "no worker"),
    ],
)
def test_what_is_not_accepted(environment, message):
    with pytest.raises(UserError, match=message) as error:
        read_cluster(environment)
    assert "TF_CONFIG" in str(error.value) and "_" not in str(error.value).replace("TF_CONFIG", "")
    assert "accepted: " in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture(autouse=True)
def no_names(monkeypatch, tmp_path):
    """These nodes have no addresses, and there is no SLURM to ask."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: (_ for _ in ()).throw(OSError()))


def test_slurm_knows_addresses_that_the_system_does_not(tmp_path):
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho NodeName=$3 NodeAddr=10.0.0.7 State=UP\n")
    (tmp_path / "scontrol").chmod(0o755)
    assert read_cluster(slurm()).addresses[0].startswith("10.0.0.7:")


def slurm(**changes):
    return {
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_PROCID": "2",
        "SLURM_STEP_NODELIST": "n[1-2],m7",
        "SLURM_STEP_TASKS_PER_NODE": "1,2,1",
        "SLURM_JOB_ID": "5",
        "SLURM_STEP_ID": "3",
        **changes,
    }


def test_a_step_of_slurm():
    found = read_cluster(slurm())
    port = 20000 + 5 * 64 + 3
    assert found.addresses == tuple(
        f"{n}:{port + i}" for i, n in enumerate(["n1", "n2", "n2", "m7"])
    )
    assert found.place(found.rank) == f"task 2 (n2:{port + 2})"


def test_tasks_dealt_out_in_turn():
    for way in ("cyclic", "Cyclic:block,NoPack"):
        found = read_cluster(slurm(SLURM_DISTRIBUTION=way))
        assert [address.split(":")[0] for address in found.addresses] == ["n1", "n2", "m7", "n2"]


def test_neighbouring_jobs_have_other_ports():
    def ports(job):
        return set(read_cluster(slurm(SLURM_JOB_ID=job)).addresses)

    assert not ports("5") & ports("6")
    # Jobs of federated clusters have numbers up to 2^32.
    for job in ("999999999", "4227858433"):
        assert all(20000 <= int(a.split(":")[1]) < 32000 for a in ports(job))


def test_tf_config_counts_before_slurm_and_one_task_is_no_cluster():
    both = slurm() | tf_config({"chief": CHIEF, "worker": WORKERS})
    assert read_cluster(both).names[0] == "chief 0"
    assert read_cluster(slurm(SLURM_STEP_NUM_TASKS="1")) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"SLURM_PROCID": "x"},
        {"SLURM_PROCID": ""},
        {"SLURM_PROCID": "4"},
        {"SLURM_STEP_TASKS_PER_NODE": "2(x3)"},
        {"SLURM_STEP_TASKS_PER_NODE": "1,2,"},
        {"SLURM_STEP_TASKS_PER_NODE": "1(x999999)"},
        {"SLURM_STEP_NODELIST": "n[1-"},
        {"SLURM_STEP_NODELIST": "n[1-999999999]"},
        {"SLURM_STEP_NODELIST": "n" + "[0]" * 2000},
        {"SLURM_DISTRIBUTION": "plane=2"},
    ],
)
def test_steps_that_are_not_understood(changes):
    with pytest.raises(UserError, match=r"SLURM_\w+: found .*; accepted: "):
        read_cluster(slurm(**changes))


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("n1", ["n1"]),
        ("n[1-2,5]", ["n1", "n2", "n5"]),
        ("n[08-11]", ["n08", "n09", "n10", "n11"]),
        ("a,n[1-2]-x[0,3],b.c", ["a", "n1-x0", "n1-x3", "n2-x0", "n2-x3", "b.c"]),
    ],
)
def test_lists_of_nodes(text, nodes):
    assert expand_nodes(text) == nodes


@pytest.mark.parametrize("text", ["", "n[1", "n]1", "n[]", "n[a]", "a,,b", "a b", "n[1-2", "n;x"])
def test_malformed_lists_of_nodes(text):
    with pytest.raises(UserError, match="accepted: names of nodes"):
        expand_nodes(text)


def test_numbers_of_tasks():
    assert tasks_per_node("2(x3),1") == [2, 2, 2, 1]
