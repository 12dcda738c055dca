"""Writes one HTML page with all figures of an experiment: self-contained, no scripts, offline."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from src.drawing.escaping import escape
from src.drawing.headline import headline
from src.experiment.table import format_number
from src.params.reading import format_value
from src.params.schema import Params
from src.registry import FIGURES
from src.system.atomic import atomic_write

if TYPE_CHECKING:
    from src.figures import FigureData, Texts

_STYLE = """\
:root { color-scheme: light dark; --ink: #1c1c1c; --faint: #62666c; --ground: #fff; --line: #ddd;
  --card: #f5f6f7; --own: #1b62c9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --faint: #a0a5ac; --ground: #16181b; --line: #3a3d42; --card: #202327;
    --own: #6aa5ff; }
}
body { color: var(--ink); background: var(--ground); max-width: 76rem; margin: 1.5rem auto;
  padding: 0 1rem; font: 1rem/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0; }
h1 + p { margin: 0.3rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 0.6rem; }
.faint, figcaption { color: var(--faint); }
.verdict { font-size: 1.15rem; font-weight: 600; margin: 0.6rem 0; }
.metrics { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1rem; }
.metric { background: var(--card); border-radius: 8px; padding: 0.8rem 1rem; }
.metric p { margin: 0; }
.metric b { font-size: 1.9rem; line-height: 1.2; }
.bars { width: 100%; margin-top: 0.4rem; }
.bars th, .bars td { border: 0; padding: 0.15rem 0.6rem 0.15rem 0; font-weight: 400; }
.bars th { width: 10.5rem; }
.bars .number { width: 3rem; padding: 0; }
.bar { height: 0.7rem; border-radius: 3px; background: var(--faint); opacity: 0.55; }
.bar.own { background: var(--own); opacity: 1; }
a { color: inherit; }
figure { margin: 0; }
figure img { display: block; box-sizing: border-box; max-width: 100%; height: auto; margin: auto;
  padding: 0.4rem; background: #fff; border-radius: 6px; }
figcaption { max-width: 46rem; margin: 0.7rem auto 0; }
.grid { display: grid; gap: 0.8rem;
  grid-template-columns: repeat(auto-fill, minmax(13.5rem, 1fr)); }
.card { background: var(--card); border-radius: 8px; padding: 0.5rem; }
.card a { text-decoration: none; }
.card h3 { font-size: 0.95rem; font-weight: 600; margin: 0.1rem 0 0.4rem; }
.card img { width: 100%; height: 10.5rem; object-fit: contain; }
.card figcaption, .close { display: none; }
.card:target { position: fixed; inset: 0; z-index: 1; overflow: auto; border-radius: 0;
  padding: 1rem; background: var(--ground); }
.card:target img { width: auto; height: auto; max-width: 100%; max-height: calc(100vh - 9rem); }
.card:target figcaption { display: block; }
.card:target .close { display: block; position: fixed; top: 0.5rem; right: 0.5rem; padding: 0.5rem
  0.9rem; color: var(--ink); background: var(--card); border-radius: 8px; }
.card:target h3 { margin-right: 6rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.9rem 0.2rem 0; text-align: left; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; }
summary { cursor: pointer; margin: 0.7rem 0; font-weight: 600; }
@media (max-width: 34rem) {
  .grid { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0.5rem; }
  .card img { height: 8rem; }
  .bars th { width: 8rem; }
  .curves img { max-width: none; width: 46rem; }
}
"""

_LEADING = ("map_at_r_within", "recall_at_1_within", "recall_at_1", "loss", "fraction_positive")
"""These metrics come first in the table."""

_PICTURES = "pictures"

_FIRST = "curves"
"""This figure comes before the others, in full width."""


class _Section(NamedTuple):
    """A folded table of the page.

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


def page(directory: Path, data: "FigureData", figures: Mapping[str, "Texts"]) -> Path:
    """Write `index.html`, which embeds the figures' SVG files from the same directory.

    Args:
        directory: contains `NAME.svg` for each figure, and the animations, if any.
        data: the data of the figures.
        figures: their texts by name, in the order of the page.

    Returns:
        The path of the page.
    """
    cards = [
        line
        for name, figure in figures.items()
        if name != _FIRST
        for line in _card(name, figure.title, directory / f"{name}.svg", figure)
    ]
    cards += [line for path in animations(directory) for line in _animation(path)]
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        '<head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(f'{data.experiment}: {data.split_name} split')}</title>",
        f"<style>\n{_STYLE}</style></head>",
        "<body>",
        *headline(data),
        "<main>",
    ]
    if _FIRST in figures:
        parts += _first(directory / f"{_FIRST}.svg", figures[_FIRST])
    if cards:
        parts += [
            f'<section id="{_PICTURES}"><h2>Pictures</h2>',
            '<p class="faint">Click one to enlarge it.</p>',
            '<div class="grid">',
            *cards,
            "</div></section>",
        ]
    for section in (*([_metrics(data.metrics)] if data.metrics else []), *_tables(data)):
        parts += [f'<section id="{section.name}"><details>']
        parts += [f"<summary>{escape(section.title)}</summary>", *section.lines]
        parts += ["</details></section>"]
    parts += ["</main>", "</body>", "</html>", ""]
    target = directory / "index.html"
    with atomic_write(target) as file:
        file.write("\n".join(parts).encode())
    return target


def _first(path: Path, drawn: "Texts") -> list[str]:
    """Return the section of the figure in full width."""
    uri = _data_uri(path, "image/svg+xml")
    return [
        f'<section id="{_FIRST}" class="curves"><h2>{escape(drawn.title)}</h2>',
        *_image(uri, drawn.alt, drawn.caption, is_wide=True),
        "</section>",
    ]


def _tables(data: "FigureData") -> list[_Section]:
    return [_classes(data), _params(data.params)]


def _card(
    name: str, title: str, path: Path, texts: "Texts | None" = None, caption: str = ""
) -> list[str]:
    """Return a picture of the grid. A link to it shows it large, with its caption."""
    is_svg = path.suffix == ".svg"
    uri = _data_uri(path, "image/svg+xml" if is_svg else "image/gif")
    alt, caption = (texts.alt, texts.caption) if texts else (f"An animation. {caption}", caption)
    return [
        f'<article class="card" id="{name}"><a href="#{_PICTURES}" class="close">Close</a>',
        f'<a href="#{name}"><h3>{escape(title)}</h3>',
        *_image(uri, alt, caption),
        "</a></article>",
    ]


def _animation(path: Path) -> list[str]:
    """Return the card of an animation: of the running training, or of the checkpoints."""
    if path.parent.name == "live":
        title = f"Animation of the training: {path.stem}"
        caption = "One frame after each evaluation, always of the same test images."
    else:
        title = "Animation of the checkpoints"
        caption = (
            "The t-SNE layout of each checkpoint that was kept, all at the same scale. Each layout "
            "starts from the one before."
        )
    return _card(f"animation-{path.stem}", title, path, caption=caption)


def _image(uri: str, alt: str, caption: str, *, is_wide: bool = False) -> list[str]:
    """Return a figure; on a small screen, a wide one is scrolled instead of shrunk."""
    image = f'<img src="{uri}" alt="{escape(alt)}">'
    return [
        "<figure>" + (f'<div class="wide">{image}</div>' if is_wide else image),
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
        "come from the same split; in <code>_among_known</code>, also from known test images; in "
        "other metrics of retrieval, from the training split. Pairs and clusters are within a "
        "split.</p>",
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
    return _Section("metrics", "All metrics", lines)


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
        '<div class="wide"><table>',
        '<tr><th class="number">label</th><th>name</th><th class="number">images</th></tr>',
        *rows,
        "</table></div>",
    ]
    return _Section("classes", f"{len(names)} classes and their numbers of images shown", lines)


def _params(params: Params) -> _Section:
    """Return the table of params, those that differ from their defaults first."""
    values, defaults = params.model_dump(), Params().model_dump()
    chosen = [key for key in values if values[key] != defaults[key]]
    lines = [
        '<p class="faint">Those that differ from the defaults come first.</p>',
        *_values(values, [*chosen, *(key for key in values if key not in chosen)]),
    ]
    return _Section("params", "Params of the training", lines)


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
