"""An experiment: a directory with `params.json`, and every file that a run adds to it.

Committed: `params.json`. Written by `train.py`: `trained_params.json`, `network.txt`, checkpoints,
event files, `triplets-STEP.npy`, `progress.json`, `metrics.json`, `figures/live/`. Written by
`visualize.py`: `projector/`, `figures/`.
"""

import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from src.atomic import atomic_write
from src.errors import UserError
from src.params import Params, load_params, save_params

# What `--overwrite` removes: all that a run writes, and nothing else that may lie there.
GENERATED = [
    "trained_params.json",
    "network.txt",
    "metrics.json",
    "progress.json",
    "checkpoint",
    "graph.pbtxt",
    "tensorflow.log",
    "model.ckpt-*",
    "untrained",
    "triplets-*.npy",
    "best",
    "export",
    "events.out.tfevents.*",
    "eval_train",
    "eval_validation",
    "eval_test",
    "eval_unseen",
    "projector",
    "figures",
]


@dataclass(frozen=True)
class Best:
    """What is known of the best checkpoint of a training, between its evaluations.

    Attributes:
        metric: by which it is the best, on the validation split.
        value: of that metric.
        step: of the checkpoint.
        latest_step: of the latest evaluation.
        num_evaluations_since: how many evaluations have come after it.
    """

    metric: str
    value: float
    step: int
    latest_step: int
    num_evaluations_since: int


@dataclass(frozen=True)
class Experiment:
    """The files of one experiment.

    Attributes:
        model_dir: its directory.
    """

    model_dir: Path

    @property
    def params_path(self) -> Path:
        """The params that the user wrote."""
        return self.model_dir / "params.json"

    @property
    def trained_params_path(self) -> Path:
        """The params that the checkpoints were trained with, every default spelt out."""
        return self.model_dir / "trained_params.json"

    @property
    def metrics_path(self) -> Path:
        """What the finished training reached."""
        return self.model_dir / "metrics.json"

    @property
    def progress_path(self) -> Path:
        """How far a running training is."""
        return self.model_dir / "progress.json"

    @property
    def log_path(self) -> Path:
        """Where TensorFlow's own messages go, unless `--verbose`."""
        return self.model_dir / "tensorflow.log"

    @property
    def untrained_checkpoint(self) -> Path:
        """The checkpoint of step 0, kept in a folder of its own: the network before training."""
        return self.model_dir / "untrained" / "model.ckpt-0"

    @property
    def network_path(self) -> Path:
        """The network's layers, as text."""
        return self.model_dir / "network.txt"

    def triplets_path(self, step: int) -> Path:
        """The triplets mined by the embeddings of the checkpoint of `step`."""
        return self.model_dir / f"triplets-{step}.npy"

    @property
    def best_dir(self) -> Path:
        """The best checkpoint, apart from the rotation of the others, and `best.json`."""
        return self.model_dir / "best"

    @property
    def best_checkpoint(self) -> Path | None:
        """The best checkpoint so far; None before the first evaluation."""
        best = self.best()
        return self.best_dir / f"model.ckpt-{best.step}" if best else None

    def projector_dir(self, split: str) -> Path:
        """Where the projector's files of a split go.

        Two levels below the checkpoints: TensorBoard looks for checkpoints in a run's directory
        and the one above, and would list every weight matrix beside the embeddings.
        """
        return self.model_dir / "projector" / split

    def figures_dir(self, split: str) -> Path:
        """Where the pictures of a split go: those of `test`, which most look for, first of all."""
        return self.model_dir / "figures" / ("" if split == "test" else split)

    @property
    def live_dir(self) -> Path:
        """Where the pictures of a running training go."""
        return self.model_dir / "figures" / "live"

    @property
    def parquet_path(self) -> Path:
        """The points for other viewers."""
        return self.model_dir / "projector" / "points.parquet"

    @property
    def cache_dir(self) -> Path:
        """Where `visualize.py` keeps what takes long to compute."""
        return self.model_dir / "projector" / "cache"

    def checkpoints(self) -> dict[int, Path]:
        """Return the checkpoints that are kept, by global step, the untrained network's first."""
        folders = (self.untrained_checkpoint.parent, self.best_dir, self.model_dir)
        kept = [path for folder in folders for path in folder.glob("model.ckpt-*.index")]
        paths = {int(path.stem.rpartition("-")[2]): path.with_suffix("") for path in kept}
        return dict(sorted(paths.items()))

    def latest_step(self) -> int | None:
        """Return the global step of the latest checkpoint; None where there is none."""
        try:
            state = (self.model_dir / "checkpoint").read_text()
        except FileNotFoundError:
            return None
        match = re.search(r'^model_checkpoint_path: ".*?-(\d+)"$', state, re.MULTILINE)
        return int(match[1]) if match else None

    def evaluated_step(self) -> int | None:
        """Return the step of the checkpoint that is evaluated and shown: the best, or the latest.

        The latest where no evaluation has chosen one; None where there is no checkpoint at all.
        """
        best = self.best()
        return best.step if best else self.latest_step()

    def best(self) -> Best | None:
        """Return what `best.json` says; None before the first evaluation."""
        path = self.best_dir / "best.json"
        try:
            return Best(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            raise UserError(
                f"{path}: damaged; accepted: the file that train.py writes (remove the folder, "
                "and the best of the checkpoints to come is kept)"
            ) from None

    def save_best(self, best: Best) -> None:
        """Write `best.json`."""
        with atomic_write(self.best_dir / "best.json") as file:
            file.write(json.dumps(asdict(best), indent=2).encode() + b"\n")

    def stopped_early(self, params: Params) -> bool:
        """Return whether the patience of `params` has run out in the training so far."""
        best, patience = self.best(), params.patience_evaluations
        return best is not None and patience is not None and best.num_evaluations_since >= patience

    def metrics(self) -> dict[str, Any] | None:
        """Return the content of `metrics.json`; None where the training has not finished."""
        try:
            metrics = json.loads(self.metrics_path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            metrics = None
        if not isinstance(metrics, dict) or "status" not in metrics:
            raise UserError(
                f"{self.metrics_path}: damaged; accepted: the file that train.py writes "
                "(remove it and run train.py to have it written again)"
            )
        return metrics

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write `metrics.json`."""
        with atomic_write(self.metrics_path) as file:
            file.write(_rows_on_one_line(json.dumps(metrics, indent=2)).encode() + b"\n")

    def progress(self) -> dict[str, Any] | None:
        """Return the content of `progress.json`; None where there is none that can be read."""
        try:
            progress = json.loads(self.progress_path.read_bytes())
        except (OSError, ValueError):
            return None
        return progress if isinstance(progress, dict) else None

    def save_progress(self, progress: dict[str, Any]) -> None:
        """Write `progress.json`."""
        with atomic_write(self.progress_path) as file:
            file.write(json.dumps(progress).encode() + b"\n")

    def overwrite(self) -> None:
        """Remove all that earlier runs wrote; `params.json` and foreign files stay."""
        for pattern in GENERATED:
            for path in self.model_dir.glob(pattern):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def check_resumable(self, params: Params) -> None:
        """Refuse to go on with `params` where others have trained.

        Raises:
            UserError: the directory holds checkpoints of other params; the message names the keys
                that differ and both values.
        """
        if self.latest_step() is None:
            return
        if not self.trained_params_path.exists():
            raise UserError(
                f"{self.model_dir}: found checkpoints without trained_params.json, so not of "
                "this program; accepted: a directory without checkpoints, or --overwrite"
            )
        trained = load_params(self.trained_params_path)
        if keys := params.differences(trained):
            changes = ", ".join(
                f"{key} (now {getattr(params, key)!r}, trained with {getattr(trained, key)!r})"
                for key in keys
            )
            raise UserError(
                f"{self.params_path}: changed since the training began: {changes}; accepted: "
                "the params that trained, another directory, or --overwrite to start afresh"
            )

    def is_finished(self, params: Params) -> bool:
        """Return whether a training as long as `params` ask for has been finished here.

        One of at least `num_epochs`; or one that stopped early, if it would do so again.
        """
        metrics = self.metrics()
        return (
            metrics is not None
            and metrics["status"] == "finished"
            and self.latest_step() is not None
            and self.trained_params().num_epochs >= params.num_epochs
            and (not metrics.get("stopped_early") or self.stopped_early(params))
        )

    def start(self, params: Params) -> float:
        """Note that a training with `params` is running.

        Returns:
            The seconds that finished trainings here have taken before.
        """
        metrics = self.metrics() or {}
        seconds: float = metrics.get("seconds", 0.0)
        save_params(self.trained_params_path, params)
        self.save_metrics({**metrics, "status": "running", "seconds": seconds})
        return seconds

    def trained_params(self) -> Params:
        """Return the params of the checkpoints.

        Raises:
            UserError: nothing is trained here yet.
        """
        if self.latest_step() is None or not self.trained_params_path.exists():
            raise UserError(
                f"{self.model_dir}: no checkpoint found; accepted: an experiment that is trained "
                f"(python train.py --model_dir {self.model_dir})"
            )
        return load_params(self.trained_params_path)


def _rows_on_one_line(text: str) -> str:
    """Return indented JSON with each list of numbers on one line, as the rows of a matrix are."""
    return re.sub(r"\[[\d\s,.e+-]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text)
