"""README and docs: every block is run or says why not; every link leads somewhere; two screens."""

import csv
import json
import re
import urllib.parse

import pytest
from documents import DOCUMENTS, LANGUAGES, ROOT, Block, all_blocks, blocks, commands, run_blocks

from src.params.reading import load_params

CSV_COLUMNS = {"path", "label", "split", "group", "is_query", "is_gallery"}
COMMAND = re.compile(
    r"^ *(\$ |!|%)?(\.venv\S*/|sudo )?"
    r"(python3?|pip|make|tensorboard|srun|sbatch|git|sh|uv|cp|docker) +[\w./-]",
)


def complaint(block):
    """Return what is wrong with a block's marks; None if nothing is."""
    if block.language not in LANGUAGES:
        return f"{block.place}: found {block.language!r}; accepted: {', '.join(LANGUAGES)}"
    if block.language in ("text", "csv"):
        for line in block.lines:
            if COMMAND.match(line):
                return f"{block.place}: a command in a block of {block.language}: {line.strip()}"
    return None


def test_every_block_is_run_or_says_why_not():
    found = all_blocks()
    assert len(found) > 40
    assert [c for c in map(complaint, found) if c] == []


def test_every_document_is_covered():
    folders = ("docs", "data", "src", "model", "benchmarks", "tests", "experiments")
    found = [*ROOT.glob("*.md"), *(path for f in folders for path in (ROOT / f).rglob("*.md"))]
    exported = {path for path in found if "export" in path.relative_to(ROOT).parts}  # model cards
    assert set(found) - exported == set(DOCUMENTS)


def unfenced(text):
    """Return the lines that Markdown shows as code without a fence, which no test would run."""
    inside, found, before = None, [], ""
    for number, line in enumerate(text.split("\n"), start=1):
        fence = re.match(r" *(```+|~~~+)", line)
        if fence and (inside is None or line.strip() == inside):
            inside = fence[1] if inside is None else None
        elif inside is None:
            is_indented = not before.strip() and re.match(r"(    |\t)\s*[^\s*+\d-]", line)
            if is_indented or re.search(r"^ *> *(```|~~~)|<pre\b", line):
                found.append(number)
        before = line
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_code_is_without_a_fence(path):
    assert unfenced(path.read_text(encoding="utf-8")) == []


def test_code_without_a_fence_is_found():
    assert unfenced("a\n\n    make demo\n\n```sh\n\n    b\n```\n> ```sh\n<pre>x</pre>") == [
        3,
        9,
        10,
    ]
    assert unfenced("- a\n  b\n\n    - c\n") == []


def test_a_block_that_is_not_marked_is_found():
    def found(text):
        return [complaint(block) for block in blocks(text, "x.md")]

    accepted = "accepted: sh, python, json, csv, text"
    assert found("```\nmake demo\n```\n") == [f"x.md:1: found ''; {accepted}"]
    assert found("a\n\n  ```bash\nmake demo\n  ```") == [f"x.md:3: found 'bash'; {accepted}"]
    assert found("```text\n$ make demo\n```") == [
        "x.md:1: a command in a block of text: $ make demo"
    ]
    assert found("```text\n  .venv/bin/python train.py\n```")[0].endswith("python train.py")
    assert found("```sh\nmake demo\n```\n```text\nmake: done\n```") == [None, None]
    (block,) = blocks("<!-- not run: so -->\n\n```sh\nx\n```", "x.md")
    assert block == Block("x.md:3", "sh", ("x",), "so")
    for text in ("```sh\nx", "<!-- not run: so -->\n\nwords", "<!-- not run: so -->"):
        with pytest.raises(ValueError, match=r"^x.md:1: "):
            blocks(text, "x.md")
    # A comment of another form is no mark.
    assert blocks("<!-- not run -->\n```sh\nx\n```", "x.md")[0].why_not_run is None


def test_commands_are_read_as_a_shell_reads_them():
    (block,) = blocks("```sh\na 'b c' \\\n    d   # e\n# f\n\ng\n```", "x.md")
    assert commands(block) == [["a", "b c", "d"], ["g"]]
    (block,) = blocks("```sh\n$ a \\\n   b\nprinted\n$ c\n```", "x.md")
    assert commands(block) == [["a", "b"], ["c"]]


@pytest.mark.parametrize("block", run_blocks("json"), ids=lambda block: block.place)
def test_params_are_accepted(block, tmp_path):
    text = block.text.strip().rstrip(",")
    text = text if text.startswith("{") else f"{{{text}}}"
    assert json.loads(text)
    path = tmp_path / "params.json"
    path.write_text(text)
    load_params(path)


@pytest.mark.parametrize("block", run_blocks("csv"), ids=lambda block: block.place)
def test_lists_of_pictures_are_accepted(block):
    header, *rows = csv.reader(block.lines)
    assert {"path", "label"} <= set(header) <= CSV_COLUMNS
    assert rows and {len(row) for row in rows} == {len(header)}


def anchors(text):
    """Return the anchors of a document's headings, as GitHub and the site make them."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    found = set()
    for heading in re.findall(r"^#+ (.*)$", prose, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        plain = re.sub(r"[^\w\- ]", "", plain.lower()).strip()
        found.add(re.sub(r"[ ]", "-", plain))
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    text = re.sub(
        r"^ *```.*?^ *```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"[a-z]+:", link):
            assert link.startswith("https://"), link
            continue
        target, _, anchor = urllib.parse.unquote(link).partition("#")
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), link
        assert there.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(there.read_text(encoding="utf-8")), link


def test_pages_that_code_and_messages_name_are_there():
    named = set()
    for folder in ("src", "model", "benchmarks", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            named |= set(re.findall(r"docs/[\w/.-]+\.md", path.read_text(encoding="utf-8")))
    for path in [*ROOT.glob("*.py"), ROOT / "Makefile"]:
        named |= set(re.findall(r"docs/[\w/.-]+\.md", path.read_text(encoding="utf-8")))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_every_page_has_a_place_on_the_site():
    """Or is a decision: mkdocs.yml names their folder. `make docs` checks the rest."""
    sections = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = [path.name for path in (ROOT / "docs").glob("*.md")]
    assert [page for page in pages if not re.search(rf" {page}$", sections, re.MULTILINE)] == []
    assert re.search(r" decisions/ ", sections)


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version, license_name = (
        re.search(rf'^{key} = "(.*)"$', pyproject, re.MULTILINE)[1]
        for key in ("version", "license")
    )
    found = dict(re.findall(r"^([a-z-]+): (\S.*)$", citation, re.MULTILINE))
    assert (found["cff-version"], found["version"], found["license"]) == (
        "1.2.0",
        version,
        license_name,
    )


def test_readme_fits_two_screens():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120


def test_readme_names_the_test_command_that_ci_runs():
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert "make test" in ci
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = (b for b in blocks(readme, "README.md") if ["make", "test"] in commands(b))
    assert block.why_not_run is None
