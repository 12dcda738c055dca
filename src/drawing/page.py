"""Writes one HTML page with all pictures of an experiment: self-contained, no scripts, offline."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from src.experiment.table import format_number
from src.params.reading import format_value
from src.params.schema import Params
from src.printable import printable
from src.registry import FIGURES
from src.system.atomic import atomic_write

if TYPE_CHECKING:
    from src.figures import FigureData, Picture

_STYLE = """\
:root { color-scheme: light dark; --ink: #1c1c1c; --faint: #6b6b6b; --ground: #fff; --line: #ddd; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --faint: #a0a0a0; --ground: #16181b; --line: #3a3d42; }
}
body { color: var(--ink); background: var(--ground); max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin-bottom: 0; }
h2 { font-size: 1.2rem; margin: 3rem 0 0.5rem; }
.faint, figcaption { color: var(--faint); }
nav ul { display: flex; flex-wrap: wrap; gap: 0.3rem 1.2rem; padding: 0; list-style: none; }
a { color: inherit; }
figure { margin: 0; }
figure img { display: block; box-sizing: border-box; max-width: 100%; height: auto; margin: auto;
  padding: 0.6rem; background: #fff; border-radius: 6px; }
figcaption { max-width: 46rem; margin: 0.7rem auto 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.9rem 0.2rem 0; text-align: left; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; }
summary { cursor: pointer; margin: 0.7rem 0; }
"""

_LEADING = ("map_at_r_within", "recall_at_1_within", "recall_at_1", "loss", "fraction_positive")
"""These metrics come first in the table."""

_NOTHING_TO_CONFUSE = """No two of the images are of one class, so that there are no distances of
positives, confusions, mistakes or triplets to be shown."""

# Titles and captions of the two animations: of a running training, and of the checkpoints.
_LIVE = (
    "The training as a film",
    "A picture after each evaluation, always of the same test images, in one frame.",
)
_EVOLUTION = (
    "The checkpoints, one after the other",
    "t-SNE by each checkpoint that is kept, each begun from the one before, in one frame.",
)


def animations(directory: Path) -> list[Path]:
    """Return the animations that exist in `directory` and its `live` folder."""
    live = (directory / "live" / f"{name}.gif" for name in FIGURES)
    return [path for path in (directory / "evolution.gif", *live) if path.is_file()]


def page(directory: Path, data: "FigureData", pictures: Mapping[str, "Picture"]) -> Path:
    """Write `index.html`, which embeds the pictures' SVG files from the same directory.

    Args:
        directory: contains `NAME.svg` for each picture, and the animations, if any.
        data: the data of the pictures.
        pictures: by name, in the order of the page.

    Returns:
        The path of the page.
    """
    title = f"{data.experiment}: {data.split_name} split"
    of_all = "" if data.num_examples == len(data.split) else f" of {data.num_examples}"
    moving = [
        (path, *(_LIVE if path.parent.name == "live" else _EVOLUTION))
        for path in animations(directory)
    ]
    links = [(name, picture.title) for name, picture in pictures.items()]
    links += [(f"film-{path.stem}", title) for path, title, _ in moving]
    links += [("metrics", "Metrics")] if data.metrics else []
    links += [("classes", "Classes"), ("params", "Params")]
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        '<head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{_STYLE}</style></head>",
        "<body>",
        f"<header><h1>{escape(data.experiment)}</h1>",
        f'<p class="faint">{len(data.split)}{of_all} images of the {escape(data.split_name)} split '
        f"of {escape(data.params.dataset)}, embedded by the checkpoint of step {data.step}</p>"
        + ("" if data.is_answerable.any() else f"<p>{_NOTHING_TO_CONFUSE}</p>"),
        "</header>",
        "<nav><ul>",
        *(f'<li><a href="#{name}">{escape(text)}</a></li>' for name, text in links),
        "</ul></nav>",
        "<main>",
    ]
    for name, picture in pictures.items():
        image = _data_uri(directory / f"{name}.svg", "image/svg+xml")
        parts += _figure(name, picture.title, image, picture.alt, picture.caption)
    for path, title, caption in moving:
        image = _data_uri(path, "image/gif")
        parts += _figure(f"film-{path.stem}", title, image, f"An animation: {caption}", caption)
    parts += [*_metrics(data.metrics), *_classes(data), *_params(data.params)]
    parts += ["</main>", "</body>", "</html>", ""]
    target = directory / "index.html"
    with atomic_write(target) as file:
        file.write("\n".join(parts).encode())
    return target


def escape(text: str) -> str:
    """Return text for the page: unprintable characters are escaped, then HTML's special ones."""
    return html.escape(printable(text))


def _figure(name: str, title: str, image: str, alt: str, caption: str) -> list[str]:
    return [
        f'<section id="{name}"><h2>{escape(title)}</h2>',
        f'<figure><img src="{image}" alt="{escape(alt)}">',
        f"<figcaption>{escape(caption)}</figcaption></figure></section>",
    ]


def _data_uri(path: Path, media_type: str) -> str:
    """Return a file's bytes as a data URI."""
    return f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _metrics(metrics: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """Return the table of metrics, one column per split."""
    if not metrics:
        return []
    known = list(dict.fromkeys(name for of_split in metrics.values() for name in of_split))
    names = [name for name in _LEADING if name in known]
    names += [name for name in known if name not in names]
    return [
        '<section id="metrics"><h2>Metrics</h2>',
        '<p class="faint">Of metrics.json; with <code>_within</code> a split by itself, without it '
        "against the training split.</p>",
        '<div class="wide"><table>',
        "<tr><th>metric</th>"
        + "".join(f'<th class="number">{escape(split)}</th>' for split in metrics)
        + "</tr>",
        *(
            f"<tr><td>{escape(name)}</td>"
            + "".join(f'<td class="number">{_number(m.get(name))}</td>' for m in metrics.values())
            + "</tr>"
            for name in names
        ),
        "</table></div></section>",
    ]


def _number(value: object) -> str:
    """Return a metric; "-" if it is not defined."""
    return escape(format_number(value)) if isinstance(value, int | float) else "-"


def _classes(data: "FigureData") -> list[str]:
    """Return the table of classes with their full names; pictures may shorten names."""
    names = data.split.class_names
    numbers = np.bincount(data.split.labels, minlength=len(names))
    rows = [
        f'<tr><td class="number">{label}</td><td>{escape(name)}</td>'
        f'<td class="number">{numbers[label]}</td></tr>'
        for label, name in enumerate(names)
    ]
    return [
        '<section id="classes"><h2>Classes</h2>',
        f"<details><summary>All {len(names)}, and how many images of each are shown</summary>",
        '<div class="wide"><table>',
        '<tr><th class="number">label</th><th>name</th><th class="number">images</th></tr>',
        *rows,
        "</table></div></details></section>",
    ]


def _params(params: Params) -> list[str]:
    """Return two tables of params: changed from the defaults, and (folded) at their defaults."""
    values, defaults = params.model_dump(), Params().model_dump()
    chosen = [key for key in values if values[key] != defaults[key]]
    return [
        '<section id="params"><h2>Params</h2>',
        '<p class="faint">Those that trained, where they are not the defaults.</p>',
        *_values(values, chosen),
        "<details><summary>The others, at their defaults</summary>",
        *_values(values, [key for key in values if key not in chosen]),
        "</details></section>",
    ]


def _values(values: Mapping[str, object], keys: Sequence[str]) -> list[str]:
    return [
        '<div class="wide"><table>',
        "<tr><th>key</th><th>value</th></tr>",
        *(
            f"<tr><td>{escape(key)}</td><td>{escape(format_value(values[key]))}</td></tr>"
            for key in keys
        ),
        "</table></div>",
    ]
