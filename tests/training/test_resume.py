"""A training killed again and again ends as one that was never interrupted: bit by bit."""

import json
import random
import re
import signal
import time
from pathlib import Path

import numpy as np
from tiny import TINY, write_params

NUM_KILLS = 4

# All that depends on the step: order, P x K, warm-up, augmentation, moving statistics, memory,
# slots of the optimizer, averages of the weights.
PARAMS = {
    **TINY,
    "deterministic": True,
    "num_epochs": 2,
    "save_checkpoints_steps": 2,
    "keep_checkpoint_max": 2,
    "use_batch_norm": True,
    "classes_per_batch": 3,
    "examples_per_class": 12,
    "triplet_strategy": "batch_hard",
    "warmup_strategy": "batch_all",
    "warmup_steps": 5,
    "augment": {"shift": 1, "rotation": 10, "erasing": 0.3},
    "memory_size": 50,
    "memory_start_steps": 3,
    "optimizer": "adamw",
    "clip_norm": 0.5,
    "ema_decay": 0.8,
}


def tensors(model_dir, step):
    """Name -> array of every weight, statistic and slot of the optimizer."""
    from model.estimator import tf

    reader = tf.train.load_checkpoint(str(model_dir / f"model.ckpt-{step}"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def metrics(model_dir):
    """The content of metrics.json less what is time."""
    content = json.loads((model_dir / "metrics.json").read_text())
    for times in (content, *content["splits"].values()):
        for key in [key for key in times if "second" in key]:
            del times[key]
    return content


def unfinished(model_dir: Path) -> set[str]:
    """The names of what is being written, or was when the run was killed."""
    return {path.name for path in model_dir.iterdir() if re.search(r"_temp|\.tmp", path.name)}


def state(model_dir: Path) -> str:
    """The file that names the latest checkpoint, as long as there is one."""
    path = model_dir / "checkpoint"
    return path.read_text() if path.exists() else ""


class Killer:
    """Kills runs in turn: the next time a checkpoint is written, and at random after a save."""

    def __init__(self, model_dir: Path, seed: int) -> None:
        self._model_dir = model_dir
        self._rng = random.Random(seed)
        self.num_kills = self.num_in_a_write = 0
        self.steps = set()

    def kill(self, run) -> None:
        """Wait for the moment, and kill."""
        left, saved = unfinished(self._model_dir), state(self._model_dir)
        if self.num_kills % 2 == 0:
            while not run.has_ended() and (found := unfinished(self._model_dir)) <= left:
                left &= found
                time.sleep(0.0003)
        else:
            while not run.has_ended() and state(self._model_dir) == saved:
                time.sleep(0.001)
            time.sleep(self._rng.uniform(0, 0.5))
        run.kill(signal.SIGKILL)
        code, _, error = run.wait()
        assert (code, error) == (-signal.SIGKILL, "")
        self.num_kills += 1
        self.num_in_a_write += bool(unfinished(self._model_dir))
        self.steps.add(state(self._model_dir).partition("\n")[0])


def test_killed_and_resumed_again_and_again(programs, data_dir, tmp_path):
    whole, killed = (write_params(tmp_path / name, PARAMS) for name in ("whole", "killed"))
    code, out, error = programs.run("train", "--model_dir", whole, "--data_dir", data_dir)
    assert (code, error) == (0, "")

    killer = Killer(killed, seed=0)
    while killer.num_kills < NUM_KILLS:
        killer.kill(programs.start("train", "--model_dir", killed, "--data_dir", data_dir))
    code, out, error = programs.run("train", "--model_dir", killed, "--data_dir", data_dir)
    assert (code, error) == (0, "")
    assert killer.num_in_a_write >= 1 and len(killer.steps) >= 3

    expected, found = tensors(whole, 12), tensors(killed, 12)
    assert any("Adam" in name for name in expected) and found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], strict=True, err_msg=name)
    assert metrics(killed) == metrics(whole)
    assert metrics(whole)["global_step"] == 12
    assert not unfinished(killed)
