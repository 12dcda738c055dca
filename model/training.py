"""Training, evaluating and embedding an experiment: the Estimator's runs over its splits."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.estimator import estimator, tf
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
from src.atomic import atomic_write
from src.experiment import Experiment
from src.offline import load_triplets, mine_triplets, save_triplets
from src.params import Params
from src.registry import NETWORKS, look_up
from src.retrieval import recall_at_1
from src.split import Split


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
    )
    return estimator.Estimator(model_fn, config=config, params=params)


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
    """
    train, validation = splits["train"], splits["validation"]
    batches = training_batches(train, params)
    max_steps = params.num_epochs * batches.steps_per_epoch
    model_dir = str(experiment.model_dir)
    write_network(experiment, params, train.images.shape[1:])
    trained = build_estimator(experiment, params, batches.steps_per_epoch)
    guard = DivergenceGuard(model_dir)
    alarm = CollapseAlarm(
        margin=params.margin,
        distance=params.distance_name,
        every_steps=params.save_summary_steps,
        model_dir=model_dir,
        stop=params.stop_on_collapse,
    )
    eval_spec = estimator.EvalSpec(
        partial(eval_input_fn, validation, params),
        steps=None,  # the whole split; the Estimator's default is 100 batches
        name="validation",
        exporters=[EvaluationReport(batches.steps_per_epoch)],
        start_delay_secs=0,
        throttle_secs=0,  # after every checkpoint; the default is at most every 10 minutes
    )
    for segment in _segments(experiment, params, train, batches.steps_per_epoch):
        bar = ProgressBar(
            "train",
            batches.examples_before(max_steps),
            seen=batches.examples_before(segment.first_step),
            model_dir=model_dir,
            save_summary_steps=params.save_summary_steps,
        )
        train_spec = estimator.TrainSpec(
            partial(train_input_fn, train, params, segment.first_step, segment.mined),
            max_steps=segment.last_step,
            hooks=[guard, bar, alarm],
            saving_listeners=[
                FiniteCheckpoints(guard),
                KeepUntrained(experiment.model_dir, experiment.untrained_checkpoint),
            ],
        )
        try:
            estimator.train_and_evaluate(trained, train_spec, eval_spec)
        finally:
            bar.close()
    return "collapsed" if params.stop_on_collapse and alarm.collapsed else "finished"


class Segment(NamedTuple):
    """A part of a training, trained without a break.

    Attributes:
        first_step: the step of the checkpoint that it goes on from.
        last_step: the one of the checkpoint that it ends with, unless a hook stops it before.
        mined: the offline triplets of its epochs, int32 [N, 3]; None where batches need none.
    """

    first_step: int
    last_step: int
    mined: NDArray[np.int32] | None


def _segments(
    experiment: Experiment, params: Params, train: Split, steps_per_epoch: int
) -> Iterator[Segment]:
    """Yield what is left of a training; to be trained before the next one is asked for.

    That is one segment, unless offline triplets are mined: then one for each choice of triplets,
    made with the checkpoint that the segment before has left.
    """
    max_steps = params.num_epochs * steps_per_epoch
    first_step = experiment.latest_step() or 0
    if params.offline_mining == "random":
        yield Segment(first_step, max_steps, None)
        return
    steps_per_choice = params.remine_epochs * steps_per_epoch
    while first_step < max_steps:
        mined_step = first_step - first_step % steps_per_choice
        last_step = min(mined_step + steps_per_choice, max_steps)
        if mined_step == 0:
            mined = None  # nothing is learned yet that triplets could be chosen by
        elif first_step == mined_step:
            mined = _mine(experiment, params, train, mined_step)
        else:
            mined = load_triplets(experiment.triplets_path(mined_step), len(train))
        yield Segment(first_step, last_step, mined)
        first_step = experiment.latest_step() or 0
        if first_step < last_step:  # a hook has stopped it
            return


def _mine(experiment: Experiment, params: Params, train: Split, step: int) -> NDArray[np.int32]:
    """Mine triplets with the latest checkpoint, that of `step`: int32 [N, 3].

    They are kept in a file, by which a run that goes on later in the segment has the same ones.
    """
    mined = mine_triplets(
        params.offline_mining,
        train.labels,
        embed(experiment, params, train),
        distance=params.distance_name,
        seed=[params.seed, step, 2],  # 0 and 1 end the seeds of the order and of random triplets
    )
    path = experiment.triplets_path(step)
    save_triplets(path, mined)
    for other in path.parent.glob("triplets-*.npy"):
        if other != path:
            other.unlink()
    return mined


def write_network(
    experiment: Experiment, params: Params, image_shape: tuple[int, int, int]
) -> None:
    """Write the network's layers, their shapes and parameters to `network.txt`."""
    lines: list[str] = []
    with tf.Graph().as_default():  # and not in the Estimator's
        network = look_up(NETWORKS, params.network)(params, image_shape)
        network.summary(
            print_fn=lines.append, line_length=89, expand_nested=True, show_trainable=True
        )
    with atomic_write(experiment.network_path) as file:
        for line in lines:
            if line.strip():  # between two layers there are blank ones
                file.write(f"{line.rstrip()}\n".encode())


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
    """
    predictions = build_estimator(experiment, params).predict(
        partial(predict_input_fn, split),
        checkpoint_path=str(checkpoint) if checkpoint else None,
        yield_single_examples=False,
    )
    embeddings = []
    with progress_bar("embed", len(split)) as bar:
        for batch in predictions:
            embeddings.append(batch["embeddings"])
            bar.update(len(embeddings[-1]))
    return np.concatenate(embeddings)
