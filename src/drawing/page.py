"""Writes one HTML page with all figures of an experiment: self-contained, no scripts, offline."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from src.experiment.table import format_number
from src.params.reading import format_value
from src.params.schema import Params
from src.printable import printable
from src.registry import FIGURES
from src.system.atomic import atomic_write

if TYPE_CHECKING:
    from src.figures import CaptionedFigure, FigureData

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

_NO_POSITIVES = """No two images share a class. Therefore there are no positive pairs, confusions,
mistakes or triplets to show."""


class _Section(NamedTuple):
    """A part of the page.

    Attributes:
        name: identifies it in links.
        title: plain text.
        lines: HTML.
    """

    name: str
    title: str
    lines: Sequence[str]


def animations(directory: Path) -> list[Path]:
    """Return the animations that exist in `directory` and its `live` folder."""
    live = (directory / "live" / f"{name}.gif" for name in FIGURES)
    return [path for path in (directory / "evolution.gif", *live) if path.is_file()]


def page(directory: Path, data: "FigureData", figures: Mapping[str, "CaptionedFigure"]) -> Path:
    """Write `index.html`, which embeds the figures' SVG files from the same directory.

    Args:
        directory: contains `NAME.svg` for each figure, and the animations, if any.
        data: the data of the figures.
        figures: by name, in the order of the page.

    Returns:
        The path of the page.
    """
    sections = [
        *(_figure(directory / f"{name}.svg", name, figure) for name, figure in figures.items()),
        *(_animation(path) for path in animations(directory)),
        *([_metrics(data.metrics)] if data.metrics else []),
        _classes(data),
        _params(data.params),
    ]
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        '<head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(f'{data.experiment}: {data.split_name} split')}</title>",
        f"<style>\n{_STYLE}</style></head>",
        "<body>",
        *_header(data),
        "<nav><ul>",
        *(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title, _ in sections),
        "</ul></nav>",
        "<main>",
    ]
    for name, title, lines in sections:
        parts += [f'<section id="{name}"><h2>{escape(title)}</h2>', *lines, "</section>"]
    parts += ["</main>", "</body>", "</html>", ""]
    target = directory / "index.html"
    with atomic_write(target) as file:
        file.write("\n".join(parts).encode())
    return target


def escape(text: str) -> str:
    """Return text for the page: unprintable characters are escaped, then HTML's special ones."""
    return html.escape(printable(text))


def _header(data: "FigureData") -> list[str]:
    of_all = "" if data.num_examples == len(data.split) else f" of {data.num_examples}"
    return [
        f"<header><h1>{escape(data.experiment)}</h1>",
        f'<p class="faint">{len(data.split)}{of_all} images of the {escape(data.split_name)} split '
        f"of {escape(data.params.dataset)}, embedded by the checkpoint of step {data.step}</p>",
        *([] if data.is_answerable.any() else [f"<p>{_NO_POSITIVES}</p>"]),
        "</header>",
    ]


def _figure(path: Path, name: str, drawn: "CaptionedFigure") -> _Section:
    uri = _data_uri(path, "image/svg+xml")
    return _Section(name, drawn.title, _image(uri, drawn.alt, drawn.caption))


def _animation(path: Path) -> _Section:
    """Return the section of an animation: of the running training, or of the checkpoints."""
    if path.parent.name == "live":
        title = f"Animation of the training: {path.stem}"
        caption = "One frame after each evaluation, always of the same test images."
    else:
        title = "Animation of the checkpoints"
        caption = (
            "The t-SNE layout of each checkpoint that was kept, all at the same scale. Each layout "
            "starts from the one before."
        )
    lines = _image(_data_uri(path, "image/gif"), f"An animation. {caption}", caption)
    return _Section(f"animation-{path.stem}", title, lines)


def _image(uri: str, alt: str, caption: str) -> list[str]:
    return [
        f'<figure><img src="{uri}" alt="{escape(alt)}">',
        f"<figcaption>{escape(caption)}</figcaption></figure>",
    ]


def _data_uri(path: Path, media_type: str) -> str:
    """Return a file's bytes as a data URI."""
    return f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _metrics(metrics: Mapping[str, Mapping[str, float | None]]) -> _Section:
    """Return the table of metrics, one column per split."""
    known = list(dict.fromkeys(name for of_split in metrics.values() for name in of_split))
    names = [name for name in _LEADING if name in known]
    names += [name for name in known if name not in names]
    lines = [
        '<p class="faint">From metrics.json. If a name ends in <code>_within</code>, neighbours '
        "come from the same split, otherwise from the training split.</p>",
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
        "</table></div>",
    ]
    return _Section("metrics", "Metrics", lines)


def _number(value: object) -> str:
    """Return a metric; "-" if it is not defined."""
    return escape(format_number(value)) if isinstance(value, int | float) else "-"


def _classes(data: "FigureData") -> _Section:
    """Return the table of classes with their full names; figures may shorten names."""
    names = data.split.class_names
    numbers = np.bincount(data.split.labels, minlength=len(names))
    rows = [
        f'<tr><td class="number">{label}</td><td>{escape(name)}</td>'
        f'<td class="number">{numbers[label]}</td></tr>'
        for label, name in enumerate(names)
    ]
    lines = [
        f"<details><summary>All {len(names)} classes and their numbers of images shown</summary>",
        '<div class="wide"><table>',
        '<tr><th class="number">label</th><th>name</th><th class="number">images</th></tr>',
        *rows,
        "</table></div></details>",
    ]
    return _Section("classes", "Classes", lines)


def _params(params: Params) -> _Section:
    """Return two tables of params: changed from the defaults, and (folded) at their defaults."""
    values, defaults = params.model_dump(), Params().model_dump()
    chosen = [key for key in values if values[key] != defaults[key]]
    lines = [
        '<p class="faint">The params of the training that differ from the defaults.</p>',
        *_values(values, chosen),
        "<details><summary>All other params, at their defaults</summary>",
        *_values(values, [key for key in values if key not in chosen]),
        "</details>",
    ]
    return _Section("params", "Params", lines)


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
