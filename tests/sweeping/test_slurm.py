"""Sweeps whose trainings are jobs of a real SLURM of two nodes."""

import os
import time


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# The cluster itself


def test_the_cluster_runs_two_tasks_on_two_nodes(slurm):
    said = slurm.run("srun", "--ntasks=2", "sh", "-c", "echo $SLURM_PROCID $SLURMD_NODENAME")
    assert sorted(said.splitlines()) == ["0 n1", "1 n2"]
    assert os.environ["SLURM_CONF"] == slurm.variables["SLURM_CONF"]


def test_a_node_that_is_down_stays_down_until_the_end_of_a_test(slurm):
    slurm.run("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    said = slurm.run("srun", "sh", "-c", "echo $SLURMD_NODENAME")
    assert said == "n1\n" and slurm.ready_nodes() == 1
    slurm.clear()
    assert slurm.ready_nodes() == 2
