"""Hooks of mkdocs.yml: what lies outside docs/ becomes part of the site, and links are made to fit.

README.md and its like are pages too, files that pages link to are copied, and docs/tour.ipynb
becomes a page with its pictures. The links in the sources stay those that work in a checkout.
"""

import base64
import json
import logging
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent

OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "data/README.md": "data.md",
}
"""Pages outside docs/, by the place that they have on the site."""

TOUR = "docs/tour.ipynb"

log = logging.getLogger("mkdocs.hooks.site")

# What a browser fetches by itself when it shows a page.
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'\s>]*"""
    r"""|<link\b(?![^>]*rel=["']?canonical)[^>]*\bhref=["']?(?:https?:)?//[^"'\s>]*""",
    re.IGNORECASE,
)
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
_FENCE = re.compile(r"^(```.*?^```)", re.DOTALL | re.MULTILINE)


def on_config(config: MkDocsConfig) -> None:
    """Put the pages of a folder, each by its title, where the sections name the folder."""
    config.nav = [_unfolded(entry) for entry in config.nav]


def _unfolded(entry: dict | str) -> dict | str:
    if isinstance(entry, str):
        return entry
    ((title, content),) = entry.items()
    if isinstance(content, list):
        return {title: [_unfolded(inner) for inner in content]}
    if not content.endswith("/"):
        return entry
    pages = sorted((ROOT / "docs" / content).glob("*.md"))
    return {title: [{_title(page): f"{content}{page.name}"} for page in pages]}


def _title(page: Path) -> str:
    """Return the heading of a decision, with its number as the file's name has it."""
    heading = page.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
    return re.sub(r"^0*(\d+)[.:] ", r"\1. ", heading)


def on_files(files: Files, *, config: MkDocsConfig) -> None:
    """Add the pages outside docs/, the tour, and the files that pages link to."""
    for source, place in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, place, content=text))
    text, pictures = tour_page(json.loads((ROOT / TOUR).read_text(encoding="utf-8")))
    files.append(File.generated(config, "tour.md", content=text))
    files.append(File.generated(config, "files/docs/tour.ipynb", abs_src_path=str(ROOT / TOUR)))
    for name, content in pictures.items():
        files.append(File.generated(config, name, content=content))
    for page in [*files.documentation_pages()]:
        source = source_of(page.src_uri)
        for target in linked(page.content_string, source):
            place = place_of(target)
            if files.get_file_from_path(place) is None and (ROOT / target).is_file():
                path = str(ROOT / target)
                files.append(File.generated(config, place, abs_src_path=path))


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make the links of a source those of the site."""
    source = source_of(page.file.src_uri)
    start = posixpath.dirname(page.file.src_uri)

    def to_site(match: re.Match[str]) -> str:
        target = target_of(match[1], source)
        place = posixpath.relpath(place_of(target), start or ".")
        return place + (match[2] or "")

    # Links in code are none.
    parts = _FENCE.split(markdown)
    return "".join(p if p.startswith("```") else _LINK.sub(to_site, p) for p in parts)


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> None:
    """Warn, which ends a strict build, if a page would load anything from elsewhere."""
    for match in _FETCHED.finditer(output):
        log.warning("%s: loads from elsewhere: %s", page.file.src_uri, match[0])


def source_of(place: str) -> str:
    """Return the path in the checkout of a page of the site."""
    by_place = {place: source for source, place in OUTSIDE.items()}
    return by_place.get(place, f"docs/{place}")


def target_of(link: str, source: str) -> str:
    """Return the path in the checkout that a relative link leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def place_of(target: str) -> str:
    """Return where the site has a file of the checkout."""
    if target in OUTSIDE:
        return OUTSIDE[target]
    if target == TOUR:
        return "tour.md"
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return f"files/{target}"


def linked(markdown: str, source: str) -> list[str]:
    """Return the paths in the checkout that the relative links of a source lead to."""
    prose = _FENCE.sub("", markdown)
    return [target_of(match[1], source) for match in _LINK.finditer(prose)]


def tour_page(notebook: dict) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its pictures by their places on the site."""
    parts, pictures = [], {}
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text.rstrip()}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"tour/{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![What the cell draws]({name})")
            elif printed := "".join(output.get("text", data.get("text/plain", []))):
                parts.append(f"````text\n{printed.rstrip()}\n````")
    return "\n\n".join(parts) + "\n", pictures
