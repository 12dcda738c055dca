"""Exports an experiment's best checkpoint, and compares the exported model with it at once."""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.embedder import Embedder, Examples
from model.input_fn import names_bad_images
from model.model_fn import serving_input_fn
from model.training.build import build_estimator
from model.training.disk import names_disk_errors
from src.data.roles import roles_of
from src.data.split import Split
from src.embeddings.metrics import search_within
from src.embeddings.retrieval import rank_gallery
from src.errors import UserError
from src.experiment.experiment import Experiment
from src.exporting.formats import FORMATS
from src.exporting.record import Exported
from src.params.schema import Params
from src.registry import EXPORT_FORMATS, look_up
from src.system.atomic import atomic_write
from src.system.progress import progress_bar

_BLOCK = 64  # images embedded at a time

Embed = Callable[[Examples], NDArray[np.float32]]


@dataclass(frozen=True)
class Request:
    """What to export.

    Attributes:
        format: a key of `src.registry.EXPORT_FORMATS`.
        calibration: training images, uint8 [M, H, W, C], or vectors, float32 [M, 1, F, 1], for an
            int8 model; None without.
        checked: the images, or vectors, on which both models are compared.
    """

    format: str
    calibration: Examples | None
    checked: Split


@names_disk_errors
@names_bad_images()
def export(
    experiment: Experiment, params: Params, example_shape: tuple[int, ...], request: Request
) -> Exported:
    """Write the best checkpoint in another format to `export/`, if it embeds as the checkpoint.

    The model is made and compared in a folder of its own, and replaces an earlier one as a whole.
    The caller holds the experiment's lock.

    Args:
        experiment: a trained experiment.
        params: the params it was trained with.
        example_shape: (H, W, C); (F,) of vectors.
        request: the format, and the images to calibrate and compare with.

    Returns:
        What was written, and how it compares.

    Raises:
        UserError: the checkpoint is missing or damaged, the exported embeddings are not finite, or
            nothing can be written there.
    """
    # Long: what it takes and returns is much.
    folder = experiment.model_dir / "export"
    folder.mkdir(exist_ok=True)
    for leftover in folder.glob(".export-*"):  # of an export that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    holds_vectors = len(example_shape) == 1
    shape = (1, example_shape[0], 1) if holds_vectors else example_shape
    embed = Embedder(experiment, params, shape, holds_vectors=holds_vectors)
    work = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
    try:
        made = work / "made"
        run = look_up(EXPORT_FORMATS, request.format)(
            _saved_model(
                experiment,
                params,
                serving_input_fn(shape, holds_vectors=holds_vectors),
                request.format,
                work,
            ),
            made,
            None if request.calibration is None else _as_input(request.calibration),
        )
        before = _embed(embed, request.checked, "embed by the checkpoint")
        after = _embed(
            lambda examples: run(_as_input(examples)),
            request.checked,
            f"embed by {FORMATS[request.format].title}",
        )
        if not np.isfinite(after).all():
            raise UserError(
                f"--to {request.format}: the exported model's embeddings are not finite; accepted: "
                "a model that embeds as the checkpoint; nothing was written"
            )
        exported = Exported(
            format=request.format,
            file=_file(request, embed.step),
            size=sum(path.stat().st_size for path in [made, *made.rglob("*")] if path.is_file()),
            step=embed.step,
            checkpoint=embed.checkpoint,
            num_calibration_images=None
            if request.calibration is None
            else len(request.calibration),
            num_images=len(before),
            largest_difference=float(np.abs(after - before).max()),
            map_at_r_before=map_at_r(before, request.checked, params),
            map_at_r_after=map_at_r(after, request.checked, params),
        )
        _put(made, folder / exported.file, work)
        return exported
    finally:
        embed.close()
        shutil.rmtree(work, ignore_errors=True)


def map_at_r(embeddings: NDArray[np.float32], split: Split, params: Params) -> float | None:
    """Return MAP@R of a split that searches itself, as an evaluation does; None if undefined."""
    roles = roles_of(split, params)
    search = search_within(split.labels, roles)
    ranking = rank_gallery(
        embeddings[search.asking],
        split.labels[search.asking],
        embeddings[search.gallery],
        split.labels[search.gallery],
        own=search.own,
        groups=search.groups,
    )
    return ranking.mean_over_answerable(ranking.average_precision)


def _file(request: Request, step: int) -> str:
    format = FORMATS[request.format]
    name = format.file if request.calibration is None else format.int8_file
    assert name is not None
    return name.format(step=step)


def _as_input(examples: Examples) -> Examples:
    """Return images as they are, and vectors as exported models take them, float32 [N, F]."""
    return examples.reshape(len(examples), -1) if examples.dtype == np.float32 else examples


def _saved_model(
    experiment: Experiment,
    params: Params,
    inputs: Callable[[], Any],
    format: str,
    work: Path,
) -> Path:
    """Write the best checkpoint as a SavedModel, and return its folder.

    LiteRT and ONNX runtimes lack many kernels for 16 bits, so these models compute in float32.
    """
    if format != "saved_model":
        params = params.model_copy(update={"compute_dtype": "float32"})
    written = build_estimator(experiment, params).export_saved_model(
        str(work / "source"),
        inputs,
        checkpoint_path=str(experiment.evaluated_checkpoint),
    )
    return Path(os.fsdecode(written))


def _embed(embed: Embed, split: Split, description: str) -> NDArray[np.float32]:
    found = []
    with progress_bar(description, len(split), "examples") as bar:
        for start in range(0, len(split), _BLOCK):
            images = np.asarray(split.images[np.arange(start, min(start + _BLOCK, len(split)))])
            found.append(embed(images))
            bar.update(len(images))
    return np.concatenate(found)


def _put(made: Path, target: Path, work: Path) -> None:
    """Move what was made to its place. A folder that is replaced is missing for a moment."""
    if made.is_file():
        with made.open("rb") as source, atomic_write(target) as file:
            shutil.copyfileobj(source, file)
        return
    target.parent.mkdir(exist_ok=True)
    if target.exists():  # the same step, exported again
        os.rename(target, work / "old")
    try:
        os.rename(made, target)
    except OSError:
        if (work / "old").exists():
            os.rename(work / "old", target)
        raise
    for path in target.parent.iterdir():  # SavedModels of earlier steps
        if path != target and path.name.isdecimal():
            shutil.rmtree(path, ignore_errors=True)
