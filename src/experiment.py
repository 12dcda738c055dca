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
from src.params_messages import shown

# What `--overwrite` removes: all that a run writes, and nothing else that may lie there.
GENERATED = [
    "trained_params.json",
    "network.txt",
    "metrics.json",
    "progress.json",
    "checkpoint",
    "checkpoint.tmp*",
    "graph.pbtxt",
    "graph.pbtxt.tmp*",
    "tensorflow.log",
    "model.ckpt-*",
    "damaged",
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

# TensorFlow takes the first for patterns. Bytes that are not UTF-8 are lone surrogates in Python.
_NOT_IN_PATH = re.compile(r"[\[\]*?\\\x00-\x1f\x7f\ud800-\udfff]")


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

    def __post_init__(self) -> None:
        """Refuse a path that cannot be that of an experiment.

        Raises:
            UserError: the path is a file's, or has characters that TensorFlow cannot open.
        """
        path = str(self.model_dir)
        if _NOT_IN_PATH.search(path):
            raise UserError(
                f"{path!r}: has a character that TensorFlow cannot open; accepted: a path in UTF-8 "
                "without [ ] * ? \\ and control characters"
            )
        try:
            is_file = self.model_dir.is_file()
        except OSError as error:  # a name that is too long
            raise UserError(
                f"{path}: {error.strerror}; accepted: a directory with a params.json"
            ) from None
        if is_file:
            raise UserError(f"{path}: a file; accepted: a directory with a params.json")

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
            state = (self.model_dir / "checkpoint").read_text(errors="replace")
        except FileNotFoundError:
            return None
        match = re.search(r'^model_checkpoint_path: ".*?-(\d+)"$', state, re.MULTILINE)
        return int(match[1]) if match else None

    def has_checkpoints(self) -> bool:
        """Return whether there are files of checkpoints, whole or not."""
        return any(self.model_dir.glob("checkpoint*")) or any(self.model_dir.glob("model.ckpt-*"))

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
        except (ValueError, RecursionError):
            metrics = None
        if not _are_metrics(metrics):
            raise UserError(
                f"{self.metrics_path}: damaged; accepted: the file that train.py writes "
                "(remove it and run train.py to have it written again)"
            )
        return metrics  # type: ignore[no-any-return]

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
                f"{key} (now {shown(getattr(params, key))}, trained with "
                f"{shown(getattr(trained, key))})"
                for key in keys[:5]
            )
            if len(keys) > 5:
                changes += f" and {len(keys) - 5} more keys"
            raise UserError(
                f"{self.params_path}: changed since the training began: {changes}; accepted: "
                "the params that trained, another directory, or --overwrite to start afresh"
            )

    def is_finished(self, params: Params) -> bool:
        """Return whether a training as long as `params` ask for has been finished here.

        One of at least `num_epochs`; or one that stopped early, if it would do so again. Not if
        its last checkpoint is gone.
        """
        metrics = self.metrics()
        return (
            metrics is not None
            and metrics["status"] == "finished"
            and self.latest_step() is not None
            and self.latest_step() == metrics.get("global_step")
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

    def note_evaluation(self, metrics: dict[str, float | int]) -> None:
        """Note a running training's latest metrics of `validation`, their `global_step` included.

        They are what is known of a run that ends before all splits are evaluated.
        """
        self.save_metrics({**(self.metrics() or {}), "splits": {"validation": metrics}})

    def latest_evaluation(self) -> dict[str, dict[str, float | int]]:
        """Return what `note_evaluation` has noted, under `validation`; else nothing."""
        splits = (self.metrics() or {}).get("splits", {})
        return {name: metrics for name, metrics in splits.items() if "global_step" in metrics}

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


def _are_metrics(content: Any) -> bool:
    """Return whether the content of `metrics.json` has the form that `train.py` gives it."""
    if not isinstance(content, dict) or not isinstance(content.get("status"), str):
        return False
    splits = content.get("splits", {})
    return (
        isinstance(content.get("seconds", 0), (int, float))
        and isinstance(splits, dict)
        and all(isinstance(metrics, dict) for metrics in splits.values())
    )


def _rows_on_one_line(text: str) -> str:
    """Return indented JSON with each list of numbers on one line, as the rows of a matrix are."""
    return re.sub(r"\[[\d\s,.e+-]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text)
