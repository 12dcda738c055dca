"""`export/MODEL_CARD.md`: what an exported model is, how good it is, and how it is called.

Everything in it comes from the experiment's files. What is undefined is "-".
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from src.experiment.table import format_number
from src.exporting.formats import FORMATS
from src.exporting.record import Exported
from src.params.schema import Params
from src.printable import printable

METRICS = (
    *("map_at_r_within", "recall_at_1_within", "map_at_r", "recall_at_1", "knn_accuracy"),
    *("roc_auc", "eer", "nmi"),
)
"""The metrics in the card's table; those that no split has are left out."""

_MAX_NAMES = 20  # class names in the card

_COMPARE = {
    "euclidean": "float(np.linalg.norm(a - b))",
    "squared_euclidean": "float(np.sum((a - b) ** 2))",
    "mean_squared": "float(np.mean((a - b) ** 2))",
    "cosine": "1 - float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))",
}


def model_card(
    name: str,
    params: Params,
    metrics: Mapping[str, Any],
    exports: Sequence[Exported],
    checkpoint: str,
) -> str:
    """Return the card, as Markdown.

    Args:
        name: the experiment's.
        params: those it was trained with.
        metrics: the content of metrics.json.
        exports: what was exported; at least one.
        checkpoint: the digest of the best checkpoint. What was exported from another one is named.
    """
    current = [each for each in exports if each.checkpoint == checkpoint]
    parts = [
        [f"# {_text(name)}", "", _what_it_is(params, metrics)],
        _files(exports, checkpoint, metrics),
        _how_to_call(current, params, metrics),
        _data(params, metrics),
        _params(params),
        _metrics(metrics),
        _thresholds(metrics),
        _limits(params, metrics, current),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _what_it_is(params: Params, metrics: Mapping[str, Any]) -> str:
    shape = metrics["image_shape"]
    if _holds_vectors(metrics):
        what = f"vectors of {shape[0]} numbers"
    else:
        what = f"images of {shape[0]} x {shape[1]} pixels and {_channels(shape[2])}"
    length = "of length 1" if params.l2_normalize else "of any length"
    margin = params.margin_in_use
    return (
        f"It embeds {what} as vectors of {params.embedding_size} numbers, {length}. "
        f"{_plural(metrics).capitalize()} of one class are near each other, by the distance "
        f"`{params.distance_name}`. Network `{params.network}`, trained by "
        f"`{params.triplet_strategy}`{'' if margin is None else f' with margin {margin}'} on "
        f"`{params.dataset}`{_also(params)}."
    )


def _also(params: Params) -> str:
    """Return which other datasets it was trained on."""
    names = [_text(entry.dataset_name) for entry in params.extra_data]
    return f" and classes of other data: {', '.join(names)}" if names else ""


def _holds_vectors(metrics: Mapping[str, Any]) -> bool:
    return len(metrics["image_shape"]) == 1


def _plural(metrics: Mapping[str, Any]) -> str:
    return "vectors" if _holds_vectors(metrics) else "images"


def _channels(number: int) -> str:
    return "1 channel (grey)" if number == 1 else f"{number} channels"


def _files(exports: Sequence[Exported], checkpoint: str, metrics: Mapping[str, Any]) -> list[str]:
    what = _plural(metrics)
    lines = [
        "## Files",
        "",
        f"| file | format | bytes | step | difference | MAP@R before | after | test {what} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in exports:
        title = FORMATS[each.format].title
        if each.num_calibration_images is not None:
            title += f", int8 (calibrated on {each.num_calibration_images} training {what})"
        if each.checkpoint != checkpoint:
            title += ", **of an earlier checkpoint: export it again**"
        numbers = (each.largest_difference, each.map_at_r_before, each.map_at_r_after)
        cells = [f"`{each.file}`", title, str(each.size), str(each.step)]
        cells += [*map(format_number, numbers), str(each.num_images)]
        lines.append(f"| {' | '.join(cells)} |")
    takes = "`images`: uint8 [N, H, W, C], pixels of 0 to 255; scaling is inside"
    if _holds_vectors(metrics):
        takes = "`vectors`: float32 [N, F]"
    return [
        *lines,
        "",
        f"Input {takes}. Output `embeddings`: float32 [N, D]. *Before* is the checkpoint, *after* "
        f"the file, on the same test {what}; the difference is a coordinate's largest.",
    ]


def _how_to_call(
    exports: Sequence[Exported], params: Params, metrics: Mapping[str, Any]
) -> list[str]:
    lines = ["## How to call it", "", "In the folder of this file:"]
    for each in exports:
        call = FORMATS[each.format].call.format(file=each.file, input=_plural(metrics))
        lines += [
            *("", "```python", "import numpy as np", *_reading(params, metrics), ""),
            *call.split("\n"),
            f"a, b = embeddings  # float32 [{params.embedding_size}] each",
            f"distance = {_COMPARE[params.distance_name]}",
            "```",
        ]
    if _holds_vectors(metrics):
        note = "Training has used vectors as they are. Those on another scale are embedded worse."
        return [*lines, "", note]
    resize = {"scale": "stretched to the size", "pad": "fitted into the size, the rest black"}
    return [
        *lines,
        "",
        f"Training has prepared pictures like this: turned upright by EXIF, transparent areas "
        f"white (the code above expects opaque pictures), {resize[params.image_resize]}. A picture "
        "that is prepared otherwise is embedded worse.",
    ]


def _reading(params: Params, metrics: Mapping[str, Any]) -> list[str]:
    """Return the lines of Python that read two examples."""
    if _holds_vectors(metrics):
        (length,) = metrics["image_shape"]
        return ["", f'vectors = np.load("two.npy").astype(np.float32)  # [2, {length}]']
    height, width, num_channels = metrics["image_shape"]
    mode = "L" if num_channels == 1 else "RGB"
    size = f"({width}, {height})"
    ways = {
        "scale": f"picture.resize({size}, Image.Resampling.LANCZOS, reducing_gap=3)",
        "pad": f"ImageOps.pad(picture, {size}, Image.Resampling.LANCZOS)",
    }
    return [
        *("from PIL import Image, ImageOps", ""),
        f'names = ["a.png", "b.png"]  # {mode}, {height} x {width} pixels',
        "pictures = [ImageOps.exif_transpose(Image.open(name)) for name in names]",
        f'pictures = [picture.convert("{mode}") for picture in pictures]',
        f"pictures = [{ways[params.image_resize]} for picture in pictures]",
        f"images = np.stack(pictures).reshape(-1, {height}, {width}, {num_channels})",
    ]


def _data(params: Params, metrics: Mapping[str, Any]) -> list[str]:
    names = metrics["class_names"]
    sizes = ", ".join(
        f"{split} {format_number(of_split.get('num_examples'))}"
        for split, of_split in metrics["splits"].items()
    )
    shown = ", ".join(_text(str(name)) for name in names[:_MAX_NAMES])
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return [
        "## Data",
        "",
        f"Dataset `{params.dataset}`; {_plural(metrics)}: {sizes}. Classes of the dataset: "
        f"{len(names)} ({shown}{more}){_also(params)}.",
    ]


def _params(params: Params) -> list[str]:
    changed = params.model_dump(mode="json", exclude_defaults=True)
    return [
        "## Params",
        "",
        "Those that are not the defaults (all: `trained_params.json` in the experiment):",
        "",
        *(f"- `{key}`: {_text(str(value))}" for key, value in changed.items()),
    ]


def _metrics(metrics: Mapping[str, Any]) -> list[str]:
    splits, baselines = metrics["splits"], metrics.get("baselines", {})
    names = [name for name in METRICS if any(name in of_split for of_split in splits.values())]
    lines = ["## Metrics", "", f"| split | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for split, of_split in splits.items():
        rows = [(split, of_split)]
        rows += [
            (f"{split}, {baseline}", of_splits[split])
            for baseline, of_splits in baselines.items()
            if split in of_splits
        ]
        lines += [
            f"| {label} | {' | '.join(format_number(row.get(name)) for name in names)} |"
            for label, row in rows
        ]
    return [
        *lines,
        "",
        "They are the checkpoint's, in the dtype of training. `_within`: neighbours come from the "
        "same split; otherwise from the training split. `untrained` and `raw_pixels` are "
        "baselines. Definitions: docs/metrics.md of the project.",
    ]


def _thresholds(metrics: Mapping[str, Any]) -> list[str]:
    thresholds, open_set = metrics.get("thresholds", {}), metrics.get("open_set", {})
    lines = ["## Thresholds", ""]
    if not thresholds.get("at"):
        return [*lines, "None were measured."]
    lines += [
        f"Two {_plural(metrics)} are of one class if their distance "
        f"(`{thresholds.get('distance')}`) is at most the threshold. Measured on "
        f"{thresholds.get('measured_on')}; the rates are those of the test split.",
        "",
        "| at | threshold | false accept rate | true accept rate |",
        "|---|---|---|---|",
    ]
    for name, found in thresholds["at"].items():
        test = found.get("test") or {}
        numbers = (found.get("threshold"), test.get("far"), test.get("tar"))
        lines.append(f"| {name} | {' | '.join(map(format_number, numbers))} |")
    if open_set.get("auroc") is None:
        return [*lines, "", "Strangers: not measured."]
    gallery = "" if _holds_vectors(metrics) else " Their thresholds need a gallery (gallery.py)."
    return [
        *lines,
        "",
        f"Strangers among queries of a gallery: AUROC {format_number(open_set['auroc'])}, measured "
        f"with {open_set.get('calibrated_on')}.{gallery}",
    ]


def _limits(params: Params, metrics: Mapping[str, Any], exports: Sequence[Exported]) -> list[str]:
    lines = [
        "It was measured on the data above and on nothing else. On other data, measure it again.",
    ]
    if not _holds_vectors(metrics):
        lines.append("It embeds whole images: it finds no object in a picture and turns none.")
    if metrics.get("open_set", {}).get("calibrated_on") == "known classes":
        lines.append(
            "Strangers were measured with classes that were trained on, which flatters "
            "(`holdout_classes` measures real ones)."
        )
    if any(each.num_calibration_images is not None for each in exports):
        lines.append(
            "The thresholds and metrics are those of the checkpoint. Embeddings of an int8 model "
            "differ (see Files): do not mix them with others in one gallery."
        )
    if params.compute_dtype != "float32":
        lines.append(
            f"It was trained in {params.compute_dtype}. LiteRT and ONNX files compute in float32."
        )
    if metrics.get("collapsed"):
        lines.append("**Its embeddings had collapsed when the training ended.**")
    return ["## Limits", "", *(f"- {line}" for line in lines)]


def _text(text: str) -> str:
    """Return text from outside, escaped so that Markdown shows it unchanged on one line."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", printable(text))
