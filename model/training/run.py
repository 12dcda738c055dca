"""One run of `train.py`: validates, trains, evaluates and writes `metrics.json`.

TensorFlow is imported late, so that a new training on one machine validates params and data first.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from src.data.holdout import hold_out
from src.data.pretrained_weights import find_weights
from src.data.split import Split
from src.errors import TrainingDiverged, UserError
from src.experiment.data_record import DataRecord, Loaded, load_recorded, save_record
from src.experiment.experiment import Experiment
from src.experiment.facts import check_facts, check_training, check_without_data, describe
from src.experiment.source_data import seen_by_source
from src.experiment.status import Status
from src.experiment.table import format_splits, queries_notes, threshold_notes
from src.experiment.warm_start import WarmStart, find_source, save_warm_start, source_warnings
from src.params.schema import Params
from src.system.atomic import atomic_write
from src.system.cli import print_warnings, quiet_console
from src.system.cluster import Cluster
from src.system.lock import one_writer
from src.system.process import settle
from src.system.progress import phase
from src.system.signals import Stopped

if TYPE_CHECKING:
    from model.distribution import Distribution
    from model.pretrained import LayerValues, NamedValues
    from model.training.evaluation import Evaluation
    from model.workers import Workers


def run(
    experiment: Experiment,
    params: Params,
    data_dir: Path,
    *,
    overwrite: bool = False,
    keeps_splits: bool = False,
    verbose: bool = False,
    replicas: int | None = None,
    cluster: Cluster | None = None,
) -> None:
    """Train or resume an experiment, evaluate every split, and write `metrics.json`.

    With several workers, the chief does all of this; the others only train with it.

    Args:
        experiment: everything is written to its directory.
        params: the experiment's params.
        data_dir: the folder of all datasets.
        overwrite: remove the files of earlier runs and start again.
        keeps_splits: accept data that have changed since the training began; see `load_recorded`.
        verbose: show TensorFlow's own log on the console.
        replicas: the number of this process's replicas; None for all GPUs, or one.
        cluster: the processes that train together, or None; see `src.system.cluster`.

    Raises:
        UserError: params, data, weights or files of earlier runs are invalid.
        TrainingDiverged: loss or weights are not finite, or the embeddings collapsed.
        Stopped: a signal stopped the run; the latest checkpoint is of the step it had reached.
        WorkerLost: another worker has ended.
    """
    if cluster and cluster.rank is None:
        print("evaluator: nothing to do, because the chief evaluates every checkpoint")
        return
    if cluster and cluster.rank:
        with TemporaryDirectory(prefix="worker-") as folder:
            own = Path(folder)
            with quiet_console(own / "train.log", verbose=verbose):
                from model.training.worker import run_worker

                run_worker(experiment, params, data_dir, own, keeps_splits, replicas, cluster)
        return
    one_run = _Run(experiment, params, data_dir, overwrite, keeps_splits, verbose, replicas)
    if cluster:
        one_run.connect(cluster)  # first: so that others notice if something else fails
    if not overwrite:
        experiment.check_own()
    with one_writer(experiment.model_dir):
        one_run.train()


@dataclass
class _Run:
    """A run; `train` needs the experiment's lock. The first attributes are arguments of `run`."""

    experiment: Experiment
    params: Params
    data_dir: Path
    overwrite: bool
    keeps_splits: bool
    verbose: bool
    replicas: int | None
    workers: "Workers | None" = None
    started: float = field(default_factory=time.perf_counter)
    seconds_before: float = 0.0
    warm_start: WarmStart | None = None

    def connect(self, cluster: Cluster) -> None:
        """Wait for the other workers."""
        self.experiment.model_dir.mkdir(parents=True, exist_ok=True)
        with self._quiet_console(), phase("starting TensorFlow"):
            from model.training.build import connect

            self.workers = connect(cluster, self.params, self.replicas)
        print(f"training on {cluster.size} workers: {', '.join(cluster.addresses)}", flush=True)

    def train(self) -> None:
        """Train and evaluate as `run` describes."""
        experiment, params, workers = self.experiment, self.params, self.workers
        if not self.overwrite:
            experiment.check_resumable(params)
            print_warnings(experiment.set_damaged_aside())
            self._repair_checkpoints()
        begins = self.overwrite or experiment.latest_step() is None  # after the repair
        if workers:
            workers.tell(b"begins" if begins else b"resumes")
        with phase(f"reading {params.dataset}"):
            loaded = load_recorded(
                params,
                self.data_dir,
                experiment,
                begins=begins,
                keeps_splits=self.keeps_splits,
                to_train=True,
            )
        is_finished = not begins and not loaded.changes and experiment.is_finished(params)
        if workers:
            workers.tell(b"finished" if is_finished else b"train")
        if is_finished:
            self._say_finished()
            return
        splits = self._check_data(loaded)
        if not begins:
            print(f"resuming at step {experiment.latest_step()}", flush=True)
        network, weights, distribution = self._prepare(splits["train"], begins=begins)
        if self.warm_start:
            self._warn_of_source(loaded.record)
        if workers:
            from model.training.worker import facts

            workers.compare(facts(params, loaded.record, distribution))
        self._prepare_directory(begins=begins)
        self.seconds_before = experiment.start(params)
        with self._noted_if_stopped():
            with atomic_write(experiment.network_path) as file:
                file.write(network.encode())
            if loaded.changes:
                experiment.forget_best_value()
            else:  # changed data are noted once triplets have been mined in them
                save_record(experiment.data_record_path, loaded.record)
            with self._quiet_console():
                collapsed, results = self._train_and_evaluate(splits, weights, loaded, distribution)
        self._report(splits, results, collapsed=collapsed)

    def _quiet_console(self) -> Any:
        return quiet_console(self.experiment.log_path, verbose=self.verbose)

    def _repair_checkpoints(self) -> None:
        """Make the latest intact checkpoint the latest, and print any damage found."""
        if self.experiment.has_checkpoints():
            with self._quiet_console():
                from model.training.checkpoints import repair

                print_warnings(repair(self.experiment.model_dir))

    def _say_finished(self) -> None:
        metrics = self.experiment.metrics() or {}
        print(f"{self.experiment.model_dir}: already finished at step {metrics['global_step']}")
        print(format_splits(metrics["splits"], metrics.get("baselines", {})))

    def _check_data(self, loaded: Loaded) -> dict[str, Split]:
        """Print a description of the data and warnings; return the splits to train on."""
        data, params, path = loaded.data, self.params, self.experiment.params_path
        print_warnings([*loaded.warnings, *data.warnings])  # before an error that they may explain
        check_without_data(params, path)
        splits = hold_out(data.splits, params, path)
        print_warnings(check_facts(params, splits, path))
        own = data.validation_by == "dataset"
        print_warnings(check_training(params, splits, path, data.extra_data, own_validation=own))
        sizes = ", ".join(f"{len(split)} {name}" for name, split in splits.items())
        print(f"{self.experiment.model_dir}: {params.dataset} ({sizes}), {params.triplet_strategy}")
        print("\n".join(f"  {line}" for line in describe(data, splits, params)), flush=True)
        return splits

    def _prepare(
        self, train: Split, *, begins: bool
    ) -> tuple[str, "LayerValues | NamedValues | None", "Distribution"]:
        """Return a summary of the network, initial weights if the training begins, and replicas.

        Call this before anything is removed, because network or weights may be invalid.
        """
        weights = find_weights(self.params.weights, self.data_dir) if begins else None
        source = None
        if begins and self.params.init_from is not None:
            source = find_source(self.params.init_from, self.experiment)
        with self._quiet_console(), phase("starting TensorFlow"):
            from model.pretrained import read_weights
            from model.training.build import describe_network, distribute, replica_devices
            from model.training.devices import check_devices
            from model.training.warm_start import read_warm_start

            warnings = check_devices(self.params, self.experiment.params_path)
            devices = replica_devices(self.replicas)
            cluster = self.workers.cluster if self.workers else None
            distribution = distribute(self.params, devices, cluster)
            try:
                network = describe_network(
                    self.params, train.images.shape[1:], distribution.num_replicas
                )
            except UserError as error:
                raise UserError(f"{self.experiment.params_path}: {error}") from None
            values: LayerValues | NamedValues | None = None
            if weights:
                values = read_weights(self.params, weights)
            if source:
                values, self.warm_start = read_warm_start(
                    source, self.params, train.images.shape[1:], self.experiment.params_path
                )
        print_warnings(warnings)
        return network, values, distribution

    def _warn_of_source(self, record: DataRecord) -> None:
        """Print whose weights the training begins with, and whether they make metrics flatter."""
        assert self.warm_start is not None
        source = Experiment(Path(self.warm_start.init_from))
        flatters = seen_by_source(source, self.params, record, self.experiment.params_path)
        self.warm_start = replace(self.warm_start, flatters=flatters)
        print(f"  {self.warm_start.describe()}", flush=True)
        print_warnings(flatters)

    def _prepare_directory(self, *, begins: bool) -> None:
        """Move the files of earlier runs away if the training begins; else warn of the source."""
        experiment = self.experiment
        if not begins:
            print_warnings(source_warnings(experiment))
            return
        print_warnings(experiment.overwrite() if self.overwrite else experiment.begin())
        if self.warm_start:
            save_warm_start(experiment.warm_start_path, self.warm_start)

    def _train_and_evaluate(
        self,
        splits: dict[str, Split],
        initial_weights: "LayerValues | NamedValues | None",
        loaded: Loaded,
        distribution: "Distribution",
    ) -> tuple[bool, "Evaluation"]:
        """Train, then evaluate every split; return whether embeddings collapsed, and results."""
        experiment, params = self.experiment, self.params
        with phase("starting TensorFlow"):
            from model.training import hparams
            from model.training.evaluation import evaluate
            from model.training.loop import train_and_evaluate

            settle()
            hparams.write_start(experiment.model_dir, params)
        try:
            collapsed = train_and_evaluate(
                experiment,
                params,
                splits,
                initial_weights,
                extra_data=loaded.data.extra_data,
                data_have_changed=bool(loaded.changes),
                note_data=partial(save_record, experiment.data_record_path, loaded.record),
                distribution=distribution,
                workers=self.workers,
            )
        except TrainingDiverged as error:
            self._save(Status.DIVERGED, splits={})
            hparams.write_end(experiment.model_dir, succeeded=False)
            kept = f"kept: the checkpoint of step {experiment.latest_step()}"
            raise TrainingDiverged(f"{experiment.model_dir}: {error}; {kept}") from None
        results = evaluate(experiment, params, splits)
        hparams.write_end(
            experiment.model_dir, succeeded=not (collapsed and params.stop_on_collapse)
        )
        return collapsed, results

    def _report(self, splits: dict[str, Split], results: "Evaluation", *, collapsed: bool) -> None:
        """Write `metrics.json` and print the table of metrics."""
        experiment, params = self.experiment, self.params
        status = Status.COLLAPSED if collapsed and params.stop_on_collapse else Status.FINISHED
        self._save(
            status,
            collapsed=collapsed,
            evaluated_step=experiment.evaluated_step(),
            class_names=splits["train"].class_names,
            image_shape=splits["train"].example_shape,
            splits=results.splits,
            baselines=results.baselines,
            confusions={
                name: {predictor: matrix.tolist() for predictor, matrix in of_split.items()}
                for name, of_split in results.confusions.items()
            },
            thresholds=results.thresholds,
            open_set=results.open_set,
        )
        best = experiment.best()
        chosen = f"the best by {params.best_metric} on validation"
        if best is None or best.value is None:
            chosen = f"the latest, because {params.best_metric} is undefined on validation"
        print(f"step {experiment.evaluated_step()}, {chosen}:")
        print(format_splits(results.splits, results.baselines))
        print("\n".join(queries_notes(results.splits)))
        print("\n".join(threshold_notes(results.thresholds, results.open_set)))
        print(f"wrote {experiment.metrics_path}")
        if status == Status.COLLAPSED:
            raise TrainingDiverged(
                f"{experiment.model_dir}: stopped, because the embeddings have collapsed"
            )

    def _save(self, status: Status, **results: Any) -> None:
        """Write `metrics.json`: how the run ended, and its results."""
        experiment, best = self.experiment, self.experiment.best()
        seconds = self.seconds_before + time.perf_counter() - self.started
        experiment.save_metrics(
            {
                "status": status,
                "stopped_early": experiment.stopped_early(self.params),
                "global_step": experiment.latest_step(),
                "seconds": round(seconds, 1),
                "images_per_second": (experiment.progress() or {}).get("images_per_second"),
                "best": best and {"metric": best.metric, "value": best.value, "step": best.step},
                **results,
            }
        )

    @contextmanager
    def _noted_if_stopped(self) -> Iterator[None]:
        """Write `metrics.json` with the status `stopped` if a signal ends the block."""
        try:
            yield
        except Stopped:
            self._save(Status.STOPPED, splits=self.experiment.latest_evaluation())
            step = self.experiment.latest_step() or 0
            print(f"stopped at step {step}; rerun the same command to resume")
            raise
