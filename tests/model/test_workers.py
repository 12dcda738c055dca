"""The processes of a training, as far as one process shows them; tests/training has real ones."""

import socket

import pytest
from programs import free_ports

from model import workers
from model.estimator import tf
from src.errors import WorkerLost
from src.system.cluster import Cluster


def test_another_program_at_the_address_of_a_worker_is_noticed(monkeypatch):
    monkeypatch.setattr(workers, "_MEET_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = (*free_ports(1), other.getsockname()[1])
        addresses = tuple(f"127.0.0.1:{port}" for port in ports)
        cluster = Cluster(("chief 0", "worker 0"), addresses, 0)
        with pytest.raises(WorkerLost) as error:
            workers.Workers(cluster, tf.compat.v1.ConfigProto())
    assert str(error.value) == (
        f"worker 0 ({addresses[1]}): found a program that has not joined after 1 s; accepted: a "
        "worker of this training, with the same workers in its TF_CONFIG"
    )
