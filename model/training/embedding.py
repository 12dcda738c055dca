"""Embeds a split with a checkpoint."""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.hooks.checkpoints import FitsNetwork
from model.input_fn import (
    names_bad_images,
    predict_batch_size,
    predict_input_fn,
)
from model.training.build import build_estimator
from model.training.checkpoints import usable_checkpoint
from src.data.split import Split
from src.experiment.experiment import Experiment
from src.params.schema import Params
from src.system.progress import progress_bar


@names_bad_images()
def embed(
    experiment: Experiment, params: Params, split: Split, checkpoint: Path | None = None
) -> NDArray[np.float32]:
    """Embed a split with a checkpoint.

    Args:
        experiment: a trained experiment.
        params: the params it was trained with.
        split: the images.
        checkpoint: `model.ckpt-STEP`, such as `experiment.untrained_checkpoint`; None for the best,
            or for the latest if no evaluation has chosen a best.

    Returns:
        float32 [N, D], in the order of the split.

    Raises:
        UserError: the checkpoint is missing, damaged, or belongs to another network.
    """
    checkpoint = usable_checkpoint(experiment.model_dir, checkpoint or experiment.best_checkpoint)
    predictions = build_estimator(experiment, params).predict(
        partial(predict_input_fn, split, predict_batch_size(params)),
        hooks=[FitsNetwork(experiment.model_dir, checkpoint)],
        checkpoint_path=str(checkpoint),
        yield_single_examples=False,
    )
    embeddings = []
    with progress_bar("embed", len(split), "images") as bar:
        for batch in predictions:
            embeddings.append(batch["embeddings"])
            bar.update(len(embeddings[-1]))
    return np.concatenate(embeddings)
