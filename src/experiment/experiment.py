"""An experiment: a directory with `params.json`, and every file that a run adds to it.

Committed: `params.json`. Written by `train.py`: `trained_params.json`, `trained_data.npz`,
`network.txt`, `init_from.json`, checkpoints (also in `best/`, `untrained/`, `damaged/`), event
files, `triplets-STEP.npy`, `progress.json`, `metrics.json`, `tensorflow.log`, `figures/live/`,
`export/best/`. By `visualize.py`: `projector/`, `figures/`. By `export.py`: the rest of `export/`.
By `gallery.py`: `gallery.sqlite`. By a search: `pruned.json`. `src/experiment/run_files.py` lists
what a new training removes.
"""

# Long: one class knows every file of an experiment, and most of its methods have a few lines.

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from src.errors import START_OVER, UserError
from src.experiment import run_files, state_files
from src.experiment.checkpoint_files import (
    checkpoint_path,
    checkpoint_steps,
    has_files,
    read_state,
)
from src.experiment.damaged import set_aside
from src.experiment.state_files import Best
from src.experiment.status import Status
from src.params.messages import shown
from src.params.reading import load_params, save_params
from src.params.schema import Params
from src.system.atomic import atomic_write
from src.system.regular_file import read_regular

__all__ = ["Best", "Experiment"]

_Content = TypeVar("_Content")

# TensorFlow reads `[ ] * ? \` as patterns. Bytes that are not UTF-8 are lone surrogates in Python.
# Control characters and marks of the reading direction would garble lines with the path.
_NOT_IN_PATH = re.compile(
    r"[\[\]*?\\\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


@dataclass(frozen=True)
class Experiment:
    """The files of one experiment.

    Attributes:
        model_dir: its directory.
    """

    model_dir: Path

    def __post_init__(self) -> None:
        """Refuse a path that cannot be an experiment's.

        Raises:
            UserError: the path is a file, or has characters that TensorFlow cannot open.
        """
        path = str(self.model_dir)
        if _NOT_IN_PATH.search(path):
            raise UserError(
                f"{path!r}: found a character that TensorFlow or a terminal cannot handle; "
                "accepted: a path in UTF-8 without [ ] * ? \\ and control characters"
            )
        try:
            is_file = self.model_dir.is_file()
        except OSError as error:  # the name is too long
            raise UserError(
                f"{path}: {error.strerror}; accepted: a directory with a params.json"
            ) from None
        if is_file:
            raise UserError(f"{path}: found a file; accepted: a directory with a params.json")

    @property
    def params_path(self) -> Path:
        """The params that the user wrote."""
        return self.model_dir / "params.json"

    @property
    def trained_params_path(self) -> Path:
        """The params that trained the checkpoints, including defaults."""
        return self.model_dir / "trained_params.json"

    @property
    def data_record_path(self) -> Path:
        """The record of the training data: each example and its split."""
        return self.model_dir / "trained_data.npz"

    @property
    def metrics_path(self) -> Path:
        """The results of the finished training."""
        return self.model_dir / "metrics.json"

    @property
    def progress_path(self) -> Path:
        """The progress of a running training."""
        return self.model_dir / "progress.json"

    @property
    def log_path(self) -> Path:
        """TensorFlow's own messages, unless `--verbose` is given."""
        return self.model_dir / "tensorflow.log"

    @property
    def untrained_checkpoint(self) -> Path:
        """The checkpoint of step 0, the untrained network, in its own folder."""
        return checkpoint_path(self.model_dir / "untrained", 0)

    @property
    def network_path(self) -> Path:
        """The network's layers, as text."""
        return self.model_dir / "network.txt"

    @property
    def warm_start_path(self) -> Path:
        """The record of the weights that the training started from, if params have `init_from`."""
        return self.model_dir / "init_from.json"

    def triplets_path(self, step: int) -> Path:
        """The triplets mined with the embeddings of the checkpoint of `step`."""
        return self.model_dir / f"triplets-{step}.npy"

    @property
    def best_dir(self) -> Path:
        """The folder of `best.json` and the best checkpoint, which is not rotated."""
        return self.model_dir / "best"

    @property
    def best_checkpoint(self) -> Path | None:
        """The best checkpoint so far; None before the first evaluation."""
        best = self.best()
        return checkpoint_path(self.best_dir, best.step) if best else None

    def projector_dir(self, split: str) -> Path:
        """The folder for the projector's files of a split.

        It lies two levels below the checkpoints. TensorBoard searches a run's directory and its
        parent for checkpoints, and would list every weight matrix beside the embeddings.
        """
        return self.model_dir / "projector" / split

    def figures_dir(self, split: str) -> Path:
        """The folder for the figures of a split; those of `test` are in `figures` itself."""
        return self.model_dir / "figures" / ("" if split == "test" else split)

    @property
    def live_dir(self) -> Path:
        """The folder for the figures of a running training."""
        return self.model_dir / "figures" / "live"

    @property
    def parquet_path(self) -> Path:
        """The points for other viewers."""
        return self.model_dir / "projector" / "points.parquet"

    @property
    def gallery_path(self) -> Path:
        """The gallery of known classes, which `gallery.py` writes. A new training keeps it."""
        return self.model_dir / "gallery.sqlite"

    def own_gallery(self) -> Path:
        """Return `gallery_path`; refuse links and special files there, as `check_own` does."""
        endings = ("", "-wal", "-shm", "-journal")  # of SQLite
        self.check_own(f"{self.gallery_path.name}{ending}" for ending in endings)
        return self.gallery_path

    @property
    def cache_dir(self) -> Path:
        """The folder where `visualize.py` caches slow computations."""
        return self.model_dir / "projector" / "cache"

    @property
    def is_discarded(self) -> bool:
        """Whether the removal of an earlier run's files is in progress or was interrupted."""
        return run_files.is_being_discarded(self.model_dir)

    def checkpoints(self) -> dict[int, Path]:
        """Return the kept checkpoints by global step; the untrained network comes first."""
        if self.is_discarded:
            return {}
        paths = {
            step: checkpoint_path(folder, step)
            for folder in (self.untrained_checkpoint.parent, self.best_dir, self.model_dir)
            for step in checkpoint_steps(folder, "index")
        }
        return dict(sorted(paths.items()))

    def latest_step(self) -> int | None:
        """Return the global step of the latest checkpoint; None if there is none."""
        state = None if self.is_discarded else read_state(self.model_dir)
        return state.latest_step if state else None

    @property
    def latest_checkpoint(self) -> Path | None:
        """The latest checkpoint, without file endings; None if there is none."""
        step = self.latest_step()
        return None if step is None else checkpoint_path(self.model_dir, step)

    def has_checkpoints(self) -> bool:
        """Return whether there are checkpoint files, complete or not."""
        return not self.is_discarded and has_files(self.model_dir)

    def evaluated_step(self) -> int | None:
        """Return the step of the checkpoint that is evaluated and shown: the best, else the latest.

        The latest is used if no evaluation has chosen a best one. None if there is no checkpoint.
        """
        best = self.best()
        return best.step if best else self.latest_step()

    @property
    def evaluated_checkpoint(self) -> Path | None:
        """The checkpoint of `evaluated_step`, without file endings; None if there is none."""
        return self.best_checkpoint or self.latest_checkpoint

    def best(self) -> Best | None:
        """Return the content of `best.json`; None before the first evaluation."""
        return self._read(
            self.best_dir / "best.json",
            state_files.parse_best,
            "to continue, remove the folder; the best later checkpoint is kept in a new one",
        )

    def save_best(self, best: Best) -> None:
        """Write `best.json`."""
        with atomic_write(self.best_dir / "best.json") as file:
            file.write(state_files.format_best(best))

    def forget_best_value(self) -> None:
        """Note that the best checkpoint was chosen on other data, so its value is unknown."""
        if best := self.best():
            # A checkpoint after the latest one was lost; it will be trained and evaluated anew.
            latest = min(best.latest_step, self.latest_step() or 0)
            forgotten = replace(best, value=None, loss=None, num_evaluations_since=0)
            self.save_best(replace(forgotten, latest_step=latest))

    def stopped_early(self, params: Params) -> bool:
        """Return whether the patience of `params` has run out."""
        best, patience = self.best(), params.patience_evaluations
        return best is not None and patience is not None and best.num_evaluations_since >= patience

    def metrics(self) -> dict[str, Any] | None:
        """Return the content of `metrics.json`; None if the training has not finished."""
        return self._read(
            self.metrics_path,
            state_files.parse_metrics,
            "run it again: it moves this file to the folder damaged and writes a new one",
        )

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write `metrics.json`."""
        with atomic_write(self.metrics_path) as file:
            file.write(state_files.format_metrics(metrics))

    def progress(self) -> dict[str, Any] | None:
        """Return the content of `progress.json`; None if it is missing or cannot be read."""
        try:
            return self._read(self.progress_path, state_files.parse_progress, "nothing")
        except UserError:
            return None

    def save_progress(self, progress: dict[str, Any]) -> None:
        """Write `progress.json`."""
        with atomic_write(self.progress_path) as file:
            file.write(state_files.format_progress(progress))

    def _read(self, path: Path, parse: Callable[[bytes], _Content], remedy: str) -> _Content | None:
        """Return the content of a run's file; None if it is missing or discarded.

        Raises:
            UserError: it is damaged.
        """
        if self.is_discarded:
            return None
        try:
            return parse(read_regular(path, state_files.MAX_BYTES[path.name]))
        except FileNotFoundError:
            return None
        except UserError:
            raise
        except ValueError:
            raise UserError(
                f"{path}: damaged; accepted: the file that train.py wrote; {remedy}"
            ) from None

    def overwrite(self, keep: tuple[str, ...] = ()) -> list[str]:
        """Remove everything earlier runs wrote; `params.json` and foreign files stay.

        After its first step, nothing of those runs counts, even if it is interrupted: see
        `src.experiment.run_files.discard`.

        Args:
            keep: names of run files that also stay.

        Returns:
            What was moved away but cannot be removed, one line each.
        """
        return run_files.discard(self.model_dir, keep)

    def begin(self) -> list[str]:
        """Remove what an earlier training left, if it has no checkpoint to resume from.

        If there was no earlier training, nothing is removed, whatever its name.

        Returns:
            Messages about this, one line each.
        """
        best_path = self.best_dir / "best.json"
        notes = (best_path, self.metrics_path, self.trained_params_path, self.warm_start_path)
        if not self.is_discarded and not any(map(os.path.lexists, notes)):
            return run_files.remove_discarded(self.model_dir)
        lines = []
        if not self.is_discarded and best_path.exists():
            lines = [
                f"{self.model_dir}: the earlier training has no checkpoint left; its best "
                "checkpoint, metrics and figures are removed"
            ]
        return lines + self.overwrite(keep=("damaged",))

    def check_own(self, names: Iterable[str] = run_files.NAMES) -> None:
        """Refuse links and special files where a run writes; see `run_files.check_own`."""
        run_files.check_own(self.model_dir, names)

    def set_damaged_aside(self) -> list[str]:
        """Move files that are damaged, but not essential for training, to `damaged/`.

        Returns:
            What was found and done, one line each; empty if nothing is damaged.
        """
        found = []
        for read, path, consequence in (
            (self.metrics, self.metrics_path, "train.py writes a new one at the end"),
            (self.best, self.best_dir, "the best later checkpoint is kept"),
        ):
            try:
                read()
            except UserError as error:
                fault = str(error).partition("; accepted: ")[0]
                found.append(f"{fault}; set aside in {set_aside(path)}; {consequence}")
        return found

    def check_resumable(self, params: Params) -> None:
        """Refuse to resume with `params` if other params have trained here.

        Raises:
            UserError: the checkpoints have other params; the message names the keys and both
                values.
        """
        if not self.has_checkpoints():
            return
        if not self.trained_params_path.exists():
            raise UserError(
                f"{self.model_dir}: found checkpoints without trained_params.json, so they "
                "may be of another program; accepted: a directory without checkpoints; to remove "
                "these, use --overwrite"
            )
        try:
            trained = load_params(self.trained_params_path)
        except UserError as error:
            raise UserError(
                f"{error}; if params.json has not changed since training began, copy it to this "
                f"file{START_OVER}"
            ) from None
        if keys := params.differences(trained):
            changes = ", ".join(
                f"{key} (now {shown(getattr(params, key))}, trained with "
                f"{shown(getattr(trained, key))})"
                for key in keys[:5]
            )
            if len(keys) > 5:
                changes += f" and {len(keys) - 5} more keys"
            raise UserError(
                f"{self.params_path}: changed since training began: {changes}; accepted: the "
                f"params of that training, or another directory{START_OVER}"
            )

    def is_finished(self, params: Params) -> bool:
        """Return whether a training as long as `params` require is finished here.

        That is a training of at least `num_epochs`, or one that stopped early and would do so
        again. If its last checkpoint is missing, or the one that was evaluated, it is not finished.
        """
        metrics = self.metrics()
        return (
            metrics is not None
            and metrics["status"] == Status.FINISHED
            and "splits" in metrics
            and self.latest_step() is not None
            and self.latest_step() == metrics.get("global_step")
            and self.trained_params().num_epochs >= params.num_epochs
            and self._has_evaluated(metrics)
            and (not metrics.get("stopped_early") or self.stopped_early(params))
        )

    def _has_evaluated(self, metrics: Mapping[str, Any]) -> bool:
        """Return whether the checkpoint that `metrics` describe is the one that is shown."""
        try:
            step = self.evaluated_step()
        except UserError:
            return False  # `train.py` sets the damaged file aside
        return bool(metrics.get("evaluated_step", step) == step)

    def start(self, params: Params) -> float:
        """Note that a training with `params` is running.

        Returns:
            The seconds that finished trainings here have taken so far.
        """
        metrics = self.metrics() or {}
        seconds: float = metrics.get("seconds", 0.0)
        # In this order: metrics of a finished training beside the params of a longer one would say
        # that the longer one has finished.
        self.save_metrics({**metrics, "status": Status.RUNNING, "seconds": seconds})
        save_params(self.trained_params_path, params)
        return seconds

    def note_evaluation(self, metrics: dict[str, float | int | None]) -> None:
        """Note the latest `validation` metrics of a running training, including `global_step`.

        They are the results of a run that ends before all splits are evaluated.
        """
        self.save_metrics({**(self.metrics() or {}), "splits": {"validation": metrics}})

    def latest_evaluation(self) -> dict[str, dict[str, float | int | None]]:
        """Return what `note_evaluation` noted, under `validation`; otherwise empty."""
        splits = (self.metrics() or {}).get("splits", {})
        return {name: metrics for name, metrics in splits.items() if "global_step" in metrics}

    def evaluation_of(self, step: int) -> dict[str, Any]:
        """Return what `metrics.json` says of the checkpoint of a step.

        That is all of it if a training ended with this checkpoint; the `validation` metrics if the
        latest evaluation of a training that goes on, or was stopped, was of it; else nothing.
        """
        metrics = self.metrics() or {}
        has_ended = metrics.get("status") not in (Status.RUNNING, Status.STOPPED)
        if has_ended and metrics.get("evaluated_step", step) == step:
            return metrics
        latest = self.latest_evaluation()
        splits = {name: of for name, of in latest.items() if of["global_step"] == step}
        return {"splits": splits} if splits else {}

    def example_shape(self) -> tuple[int, ...]:
        """Return the shape of what the experiment was trained with: (H, W, C); (F,) of vectors.

        Raises:
            UserError: the training has not finished.
        """
        metrics = self.metrics() or {}
        if "image_shape" not in metrics:
            raise UserError(
                f"{self.metrics_path}: no image_shape; accepted: an experiment whose training has "
                f"finished with this version (python train.py --model_dir {self.model_dir})"
            )
        return tuple(metrics["image_shape"])

    def image_shape(self) -> tuple[int, int, int]:
        """Return the shape of the images that the experiment was trained with, (H, W, C).

        Raises:
            UserError: the training has not finished, or was on vectors.
        """
        self.check_pictures()
        height, width, num_channels = self.example_shape()
        return height, width, num_channels

    def check_pictures(self) -> None:
        """Raise UserError if the experiment was trained on vectors: these have no gallery."""
        shape = (self.metrics() or {}).get("image_shape", ())
        if len(shape) == 1:
            raise UserError(
                f"{self.metrics_path}: image_shape: found vectors of {shape[0]} numbers; accepted: "
                "images, because galleries and queries take pictures"
            )

    def trained_params(self) -> Params:
        """Return the params of the checkpoints.

        Raises:
            UserError: nothing is trained here yet.
        """
        if self.latest_step() is None or not self.trained_params_path.exists():
            raise UserError(
                f"{self.model_dir}: no checkpoint found; accepted: a trained experiment; to train "
                f"it: python train.py --model_dir {self.model_dir}"
            )
        return load_params(self.trained_params_path)
