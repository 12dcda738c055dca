"""The beginning of an experiment's page: what was trained, metrics beside baselines, a verdict."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from src.drawing.escaping import escape
from src.experiment.table import format_number
from src.params.reading import format_value

if TYPE_CHECKING:
    from src.figures import FigureData

_SHOWN = {
    "map_at_r_within": ("MAP@R", "1 if the whole neighbourhood of each image is of its class."),
    "recall_at_1_within": (
        "recall@1",
        "The share of images whose nearest neighbour is of their class.",
    ),
}

_NAMES = {"untrained": "the untrained network", "raw_pixels": "raw pixels"}

# Less than this above the best baseline, MAP@R says that training did little.
_HARDLY = 0.02

NO_POSITIVES = """No two images share a class. Therefore there are no positive pairs, confusions,
mistakes or triplets to show."""


def headline(data: "FigureData") -> list[str]:
    """Return the HTML of the headline."""
    of_all = "" if data.num_examples == len(data.split) else f" of {data.num_examples}"
    return [
        f"<header><h1>{escape(data.experiment)}</h1>",
        f"<p>{escape(_trained(data))}</p>",
        f'<p class="verdict">{escape(verdict(data))}</p>',
        *([] if data.is_answerable.any() else [f"<p>{NO_POSITIVES}</p>"]),
        *_bars(data),
        f'<p class="faint">{len(data.split)}{of_all} images of the {escape(data.split_name)} split '
        f"of {escape(data.params.dataset)}, embedded by the checkpoint of step {data.step}</p>",
        "</header>",
    ]


def verdict(data: "FigureData") -> str:
    """Return one sentence that judges the training by MAP@R beside its best baseline."""
    name = "map_at_r_within"
    value = data.metrics.get(data.split_name, {}).get(name)
    if data.report.get("collapsed"):
        return "The training collapsed: all embeddings became one point."
    if value is None and name not in data.metrics.get(data.split_name, {}):
        return f"MAP@R was not measured on the {data.split_name} split, so there is no verdict."
    if value is None:
        return f"MAP@R is not defined for the {data.split_name} split, so there is no verdict."
    baselines = _baselines(data, name)
    if not baselines:
        return f"MAP@R is {value:.3f}; for this split no baseline was measured to compare with."
    best = max(baselines, key=lambda baseline: baselines[baseline])
    than, of_best = _NAMES.get(best, best), baselines[best]
    numbers = f"MAP@R is {value:.3f} against {of_best:.3f}"
    if value < of_best:
        return f"The training did harm: {than} would do better. {numbers}."
    if value - of_best < _HARDLY:
        return f"The training did little: the network is hardly better than {than}. {numbers}."
    if (value - of_best) / (1 - of_best) >= 0.5:
        return f"The training worked: the network is far better than {than}. {numbers}."
    return f"The training helped: the network is better than {than}. {numbers}."


def _trained(data: "FigureData") -> str:
    """Return a sentence that says what was trained on what."""
    params, report = data.params, data.report
    margin = params.margin_in_use
    said = "" if margin is None else f" with margin {_in_words(margin)}"
    parts = [f"{params.network}, trained by {params.triplet_strategy}{said}"]
    num_images = data.metrics.get("train", {}).get("num_examples")
    on = f" on {int(num_images)} images" if num_images else " on images"
    parts.append(f"{on} of {params.dataset}")
    if names := report.get("class_names"):
        parts.append(f" ({len(names)} classes in all)")
    if steps := report.get("global_step"):
        parts.append(f", in {steps} steps")
        if seconds := report.get("seconds"):
            parts.append(f" and {_duration(seconds)}")
    return "".join(parts) + "."


def _in_words(margin: float | str) -> str:
    return margin if isinstance(margin, str) else format_value(margin)


def _duration(seconds: float) -> str:
    """Return a time in words, in the unit that fits."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _baselines(data: "FigureData", metric: str) -> dict[str, float]:
    """Return the value of each baseline that was measured on the split shown."""
    found: Mapping[str, Any] = data.report.get("baselines") or {}
    values = {name: of.get(data.split_name, {}).get(metric) for name, of in found.items()}
    return {name: value for name, value in values.items() if value is not None}


def _bars(data: "FigureData") -> list[str]:
    """Return each metric as a large number, with bars for it and its baselines."""
    lines = ['<div class="metrics">']
    for name, (title, meaning) in _SHOWN.items():
        value = data.metrics.get(data.split_name, {}).get(name)
        if value is None:
            continue
        rows = {"this network": value, **_baselines(data, name)}
        lines += [
            f'<div class="metric"><p><b>{format_number(round(value, 4))}</b> {title}</p>',
            f'<p class="faint">{meaning}</p>',
            '<table class="bars">',
            *(
                f"<tr><th>{escape(_NAMES.get(row, row))}</th>"
                f'<td><div class="bar{" own" if row == "this network" else ""}" '
                f'style="width:{100 * min(max(of_row, 0), 1):.1f}%"></div></td>'
                f'<td class="number">{of_row:.3f}</td></tr>'
                for row, of_row in rows.items()
            ),
            "</table></div>",
        ]
    return [*lines, "</div>"] if len(lines) > 1 else []
