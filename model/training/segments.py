"""The segments of a training, and the offline triplets that each is trained with."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.training.checkpoints import fault_of
from model.training.embedding import embed
from src.data.split import Split
from src.experiment.checkpoint_files import checkpoint_path
from src.experiment.experiment import Experiment
from src.mining.triplets import TripletsLost, load_triplets, mine_triplets, save_triplets
from src.params.schema import Params
from src.seeds import seed_of
from src.system.signals import Stopped

logger = logging.getLogger(__name__)

_STOPPED = b"stopped "


class Segment(NamedTuple):
    """A part of a training that runs without interruption.

    Attributes:
        first_step: the step of the checkpoint that it starts from.
        last_step: the step of its final checkpoint, unless a hook stops it earlier.
        mined: the offline triplets of its epochs, int32 [N, 3]; None if batches need none.
    """

    first_step: int
    last_step: int
    mined: NDArray[np.int32] | None

    def to_message(self) -> bytes:
        """Return the segment as the chief tells it to the other workers."""
        has_triplets = self.mined is not None
        head = json.dumps([self.first_step, self.last_step, has_triplets]).encode()
        return head + b"\n" + (self.mined.astype(np.int32).tobytes() if has_triplets else b"")

    @classmethod
    def from_message(cls, message: bytes) -> "Segment | None":
        """Undo `to_message`; None if the message is empty: the training has ended.

        Raises:
            Stopped: the message is that of `stopped_message`.
        """
        if not message:
            return None
        if message.startswith(_STOPPED):
            raise Stopped(int(message.removeprefix(_STOPPED)))
        head, _, content = message.partition(b"\n")
        first_step, last_step, has_triplets = json.loads(head)
        mined = np.frombuffer(content, np.int32).reshape(-1, 3) if has_triplets else None
        return cls(first_step, last_step, mined)


def stopped_message(stopped: Stopped) -> bytes:
    """Return what the chief tells instead of a segment if a signal has stopped it."""
    return _STOPPED + str(int(stopped.signal)).encode()


def remaining_segments(
    experiment: Experiment,
    params: Params,
    train: Split,
    steps_per_epoch: int,
    *,
    data_have_changed: bool,
) -> Iterator[Segment]:
    """Yield the remaining segments of a training; train each before requesting the next.

    There is one segment, unless offline triplets are mined. Then there is one for each choice of
    triplets, made with the checkpoint that the previous segment ended with.

    Args:
        experiment: holds the checkpoints and the files of triplets.
        params: `num_epochs`, `offline_mining`, `remine_epochs`.
        train: the split to mine triplets in.
        steps_per_epoch: the number of batches of an epoch.
        data_have_changed: whether the run so far used other data; the triplets of the first segment
            are then mined again.
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
            mined = None  # nothing is learned yet to mine triplets with
        elif first_step == mined_step or data_have_changed:
            checkpoint = checkpoint_path(experiment.model_dir, first_step)
            mined = _mine(
                experiment,
                params,
                train,
                mined_step,
                checkpoint,
                keeps_earlier=not data_have_changed,
            )
        else:
            mined = _mined(experiment, params, train, mined_step)
        data_have_changed = False
        yield Segment(first_step, last_step, mined)
        first_step = experiment.latest_step() or 0
        if first_step < last_step:  # a hook stopped it
            return


def _mined(experiment: Experiment, params: Params, train: Split, step: int) -> NDArray[np.int32]:
    """Return the triplets that a segment started with: int32 [N, 3].

    If their file is lost and the checkpoint still exists, they are mined again.

    Raises:
        UserError: file and checkpoint are lost, or the file belongs to another split.
    """
    try:
        return load_triplets(experiment.triplets_path(step), len(train))
    except TripletsLost as error:
        checkpoint = experiment.checkpoints().get(step)
        if checkpoint is None or fault_of(checkpoint):
            raise
        found = str(error).partition("; accepted: ")[0]
        logger.warning("warning: %s; mined again with %s", found, checkpoint)
        return _mine(experiment, params, train, step, checkpoint)


def _mine(
    experiment: Experiment,
    params: Params,
    train: Split,
    step: int,
    checkpoint: Path,
    *,
    keeps_earlier: bool = True,
) -> NDArray[np.int32]:
    """Mine triplets with the checkpoint of `step`: int32 [N, 3].

    They are saved to a file, so a run that resumes within the segment uses the same triplets. Files
    of earlier segments stay for runs that resume there, unless they are of other data.
    """
    mined = mine_triplets(
        params.offline_mining,
        train.labels,
        embed(experiment, params, train, checkpoint),
        distance=params.distance_name,
        seed=seed_of("mined triplets", params.seed, step),
    )
    path = experiment.triplets_path(step)
    save_triplets(path, mined)
    # Keep as many files as checkpoints: if some are damaged, the run may resume from any other.
    names = (file.stem.removeprefix("triplets-") for file in path.parent.glob("triplets-*.npy"))
    steps = sorted(int(name) for name in names if name.isdecimal())
    kept = [kept for kept in steps if kept <= step][-params.keep_checkpoint_max :]
    kept = kept if keeps_earlier else [step]
    for other in set(steps) - set(kept):
        experiment.triplets_path(other).unlink(missing_ok=True)  # triplets-07.npy is not ours
    return mined
