"""Training, evaluating and embedding an experiment: the Estimator's runs over its splits."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.checkpoints import FitsNetwork, usable_checkpoint
from model.determinism import session_config
from model.disk import RoomForCheckpoints, names_disk_errors
from model.estimator import estimator
from model.hooks import (
    CollapseAlarm,
    DivergenceGuard,
    EvaluationReport,
    FiniteCheckpoints,
    KeepUntrained,
    ProgressBar,
    progress_bar,
)
from model.input_fn import eval_input_fn, predict_input_fn, train_input_fn, training_batches
from model.model_fn import model_fn
from model.stopping import StopAfterSaving, StopEvaluation, StopTraining, ends_in_order
from src.experiment import Experiment
from src.params import Params
from src.retrieval import recall_at_1
from src.split import Split
from src.stopping import StopRequest


def build_estimator(
    experiment: Experiment, params: Params, steps_per_epoch: int = 1
) -> "estimator.Estimator":
    """Return the Estimator of an experiment; it builds no graph yet.

    Args:
        experiment: where checkpoints and summaries go.
        params: of the network, loss and training.
        steps_per_epoch: the default of `save_checkpoints_steps`.
    """
    config = estimator.RunConfig(
        model_dir=str(experiment.model_dir),
        tf_random_seed=params.seed,
        save_summary_steps=params.save_summary_steps,
        save_checkpoints_steps=params.save_checkpoints_steps or steps_per_epoch,
        keep_checkpoint_max=params.keep_checkpoint_max,
        session_config=session_config(params),
    )
    return estimator.Estimator(model_fn, config=config, params=params)


@names_disk_errors
def train_and_evaluate(experiment: Experiment, params: Params, splits: Mapping[str, Split]) -> str:
    """Train for `num_epochs`, evaluating on the validation split after every checkpoint.

    Goes on from the latest checkpoint where there is one, with the batches that would have come.

    Args:
        experiment: where checkpoints and summaries go.
        params: of the experiment.
        splits: `train` and `validation`.

    Returns:
        The status: `finished`, or `collapsed` where that has stopped the run.

    Raises:
        TrainingDiverged: loss or weights are not finite; the latest checkpoint is from before.
        Stopped: by a signal; the latest checkpoint is of the step that the run had come to.
    """
    train, validation = splits["train"], splits["validation"]
    batches = training_batches(train, params)
    max_steps = params.num_epochs * batches.steps_per_epoch
    first_step = experiment.latest_step() or 0
    model_dir = str(experiment.model_dir)
    bar = ProgressBar(
        "train",
        batches.examples_before(max_steps),
        seen=batches.examples_before(first_step),
        model_dir=model_dir,
        save_summary_steps=params.save_summary_steps,
    )
    guard = DivergenceGuard(model_dir)
    alarm = CollapseAlarm(
        margin=params.margin,
        distance=params.distance_name,
        every_steps=params.save_summary_steps,
        model_dir=model_dir,
        stop=params.stop_on_collapse,
    )
    stop = StopRequest()
    train_spec = estimator.TrainSpec(
        partial(train_input_fn, train, params, first_step),
        max_steps=max_steps,
        hooks=[
            FitsNetwork(experiment.model_dir),
            RoomForCheckpoints(experiment.model_dir),
            guard,
            bar,
            alarm,
            StopTraining(stop),
        ],
        saving_listeners=[
            FiniteCheckpoints(guard),
            KeepUntrained(experiment.model_dir, experiment.untrained_checkpoint),
            StopAfterSaving(stop),
        ],
    )
    eval_spec = estimator.EvalSpec(
        partial(eval_input_fn, validation, params),
        steps=None,  # the whole split; the Estimator's default is 100 batches
        name="validation",
        hooks=[StopEvaluation(stop)],
        exporters=[EvaluationReport(batches.steps_per_epoch, experiment)],
        start_delay_secs=0,
        throttle_secs=0,  # after every checkpoint; the default is at most every 10 minutes
    )
    try:
        with ends_in_order(stop, model_dir):
            estimator.train_and_evaluate(
                build_estimator(experiment, params, batches.steps_per_epoch), train_spec, eval_spec
            )
    finally:
        bar.close()
    return "collapsed" if params.stop_on_collapse and alarm.collapsed else "finished"


@names_disk_errors
def evaluate(
    experiment: Experiment, params: Params, splits: Mapping[str, Split]
) -> dict[str, dict[str, float | int]]:
    """Evaluate the latest checkpoint on every split.

    Args:
        experiment: a trained one.
        params: those it was trained with.
        splits: `train`, which is also the gallery of every other split's recall, and others.

    Returns:
        The metrics of each split: `loss`, `fraction_positive`, ... (`model/split_metrics.py`), and
        `recall_at_1`, where each image looks for its nearest neighbour in the training split,
        itself left out.
    """
    trained = build_estimator(experiment, params)
    metrics: dict[str, dict[str, float | int]] = {}
    embeddings: dict[str, NDArray[np.float32]] = {}
    for name, split in splits.items():
        results = trained.evaluate(
            partial(eval_input_fn, split, params),
            name=name,
            hooks=[ProgressBar(f"evaluate {name}", len(split))],
        )
        embeddings[name] = embed(experiment, params, split)
        metrics[name] = {
            "num_examples": len(split),
            **{key: value.item() for key, value in sorted(results.items()) if key != "global_step"},
        }
    for name, split in splits.items():
        if name == "train":  # its gallery is itself, and that recall is there already
            recall = metrics[name]["recall_at_1_within"]
        else:
            gallery = embeddings["train"], splits["train"].labels
            recall = recall_at_1(embeddings[name], split.labels, *gallery)
        metrics[name]["recall_at_1"] = recall
    return metrics


def embed(
    experiment: Experiment, params: Params, split: Split, checkpoint: Path | None = None
) -> NDArray[np.float32]:
    """Embed a split with a checkpoint.

    Args:
        experiment: a trained one.
        params: those it was trained with.
        split: the images.
        checkpoint: `model.ckpt-STEP`, such as `experiment.untrained_checkpoint`; None for the
            latest.

    Returns:
        float32 [N, D], in the order of the split.

    Raises:
        UserError: the checkpoint is missing, damaged, or of another network.
    """
    checkpoint = usable_checkpoint(experiment.model_dir, checkpoint)
    predictions = build_estimator(experiment, params).predict(
        partial(predict_input_fn, split),
        hooks=[FitsNetwork(experiment.model_dir, checkpoint)],
        checkpoint_path=str(checkpoint),
        yield_single_examples=False,
    )
    embeddings = []
    with progress_bar("embed", len(split)) as bar:
        for batch in predictions:
            embeddings.append(batch["embeddings"])
            bar.update(len(embeddings[-1]))
    return np.concatenate(embeddings)
