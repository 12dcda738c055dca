"""Graphs of tests, run as they were built."""

import functools
import sys
from typing import Any


def run_as_built() -> None:
    """Leave TensorFlow's optimizers of graphs out of the sessions of this process.

    They take a third of a tiny training's time, because each evaluation, export and prediction has
    a graph of its own, and save less than they take. Programs that tests start as processes have
    them, as users do. Nothing is done before TensorFlow is imported, and nothing twice.
    """
    module = sys.modules.get("tensorflow.python.client.session")
    if module is None or hasattr(module.BaseSession.__init__, "__wrapped__"):
        return
    from tensorflow.core.protobuf.config_pb2 import ConfigProto

    begin = module.BaseSession.__init__

    @functools.wraps(begin)
    def begin_plain(self: Any, target: str = "", graph: Any = None, config: Any = None) -> None:
        plain = ConfigProto()
        if config is not None:
            plain.CopyFrom(config)
        plain.graph_options.rewrite_options.disable_meta_optimizer = True
        begin(self, target, graph, plain)

    module.BaseSession.__init__ = begin_plain
    _write_in_binary()


def _write_in_binary() -> None:
    """Have the hook of checkpoints write graph.pbtxt in binary: as text it takes far longer.

    Nobody reads this file but people: trainings write it in full, once for each run.
    """
    from tensorflow.python.training import training_util

    training_util.write_graph = functools.partial(training_util.write_graph, as_text=False)
