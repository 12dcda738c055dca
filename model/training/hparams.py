"""Writes what TensorBoard's HPARAMS tab shows of an experiment: params, metrics, final status.

Every run writes all of this in its own directory, including the list of columns. The tab uses the
first list it finds, so nothing is written to the directory that holds the experiments.
"""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import model.estimator  # noqa: F401  (before what follows imports TensorFlow)

# isort: split
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.summary import experiment_pb, session_end_pb, session_start_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from src.comparing.comparison import WITHOUT_EFFECT, flat_params
from src.errors import UserError
from src.experiment.tags import tag_of
from src.params.reading import format_value, read_json_object
from src.params.schema import Augment, Params

_SUFFIX = ".hparams"

# Folder and name of each metric column, in order. An empty folder means the training's summaries.
METRICS = (
    ("eval_validation", "map_at_r_within"),
    ("eval_validation", "recall_at_1_within"),
    ("eval_validation", "fraction_positive"),
    ("eval_validation", "fraction_positive_at_reference"),
    ("eval_validation", "loss"),
    ("eval_validation", "embedding_mean_norm"),
    ("", "images_per_second"),
    ("", "fraction_positive"),
    ("", "loss"),
    ("eval_test", "map_at_r_within"),
    ("eval_test", "recall_at_1"),
    ("eval_unseen", "map_at_r_within"),
)

_MAX_BESIDE = 1_000
"""So many neighbours are read for the list of columns."""

_TYPES = {
    "integer": api_pb2.DATA_TYPE_FLOAT64,
    "number": api_pb2.DATA_TYPE_FLOAT64,
    "boolean": api_pb2.DATA_TYPE_BOOL,
}


def write_start(model_dir: Path, params: Params) -> None:
    """Write the params and the list of columns, and remove those of earlier runs.

    The tab uses the first file of a directory. If a training resumed with more epochs, the tab
    would otherwise show the earlier, smaller number.
    """
    for path in model_dir.glob(f"events.out.tfevents.*{_SUFFIX}"):
        path.unlink()
    metrics = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(group=group, tag=tag_of(name)))
        for group, name in METRICS
    ]
    # The tab shows runs of one group as one, so each run has its own group.
    group_name = os.path.relpath(model_dir)
    _write(
        model_dir,
        experiment_pb(hparam_infos(_set_here_or_beside(model_dir, params)), metrics),
        session_start_pb(hparams(params), group_name=group_name),
    )


def write_end(model_dir: Path, *, succeeded: bool) -> None:
    """Write how the training ended."""
    status = api_pb2.STATUS_SUCCESS if succeeded else api_pb2.STATUS_FAILURE
    _write(model_dir, session_end_pb(status))


def hparams(params: Params) -> dict[str, Any]:
    """Return what was set or differs from the defaults, by the keys of `compare.py`.

    Nulls, which the tab cannot show, and keys that the others' values do not read are left out. Of
    augment, what differs from the defaults.
    """
    defaults = flat_params(Params())
    values = {
        key: value
        for key, value in flat_params(params).items()
        if (key in params.model_fields_set and key not in params.unread_keys)
        or value != defaults.get(key)
    }
    values["distance"] = params.distance_name
    return {
        key: format_value(value) if isinstance(value, list | tuple) else value
        for key, value in values.items()
        if value is not None
    }


def hparam_infos(keys: Collection[str]) -> list[Any]:
    """Return name, type and description of some params; if one has two types, the numeric one.

    Args:
        keys: of the params, those of augment dotted. Keys without effect are left out.
    """
    properties = Params.model_json_schema()["properties"]
    without = WITHOUT_EFFECT - {"image_size"} | {"augment"}
    found = {key: properties[key] for key in Params.model_fields if key not in without}
    for key, of_augment in Augment.model_json_schema()["properties"].items():
        found[f"augment.{key}"] = of_augment
    infos = []
    for key, of_key in found.items():
        if key not in keys:
            continue
        choices = [of_key, *of_key.get("anyOf", []), *of_key.get("oneOf", [])]
        names = [choice.get("type") for choice in choices]
        types = [_TYPES[name] for name in names if name in _TYPES]
        infos.append(
            api_pb2.HParamInfo(
                name=key,
                description=of_key["description"],
                type=types[0] if types else api_pb2.DATA_TYPE_STRING,
            )
        )
    return infos


def _set_here_or_beside(model_dir: Path, params: Params) -> set[str]:
    """Return the keys that this experiment or one beside it has set.

    The tab uses one experiment's list of columns for all. The others of a sweep may have set more.
    """
    keys = set(hparams(params))
    for path in sorted(model_dir.absolute().parent.glob("*/params.json"))[:_MAX_BESIDE]:
        try:
            given = read_json_object(path)
        except (OSError, UserError):
            continue  # not this experiment's business
        keys.update(given)
        if isinstance(given.get("augment"), dict):
            keys.update(f"augment.{key}" for key in given["augment"])
    return keys


def _write(model_dir: Path, *summaries: Any) -> None:
    """Write an event file with these summaries."""
    writer = EventFileWriter(str(model_dir), filename_suffix=_SUFFIX)
    for summary in summaries:
        event = Event()
        event.summary.ParseFromString(summary.SerializeToString())
        writer.add_event(event)
    writer.close()
