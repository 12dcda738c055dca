"""The documents: their code blocks, and which of them are not run.

A block is named by its language. What stands before it may say why it is not run:

    <!-- not run: it needs a cluster -->
"""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    ROOT / "data" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]

LANGUAGES = {
    "sh": "commands, each run in a small copy of what they name",
    "python": "run there, with `labels` and `embeddings` of a batch",
    "json": "params, or some of them",
    "csv": "a list of pictures",
    "text": "anything else, such as what a program prints: no commands",
}

_FENCE = re.compile(r"^ *(```+|~~~+) *(\S*).*$")
_NOT_RUN = re.compile(r"^ *<!-- not run: (\S.*\S) -->$")


class Block(NamedTuple):
    """A code block.

    Attributes:
        place: file and line, for messages.
        language: what stands after the fence; "" without.
        lines: the content.
        why_not_run: the reason that stands before it; None if it is run.
    """

    place: str
    language: str
    lines: tuple[str, ...]
    why_not_run: str | None

    @property
    def text(self) -> str:
        """The content as one text."""
        return "".join(f"{line}\n" for line in self.lines)


def blocks(text: str, name: str) -> list[Block]:
    """Return the code blocks of a document.

    Raises:
        ValueError: a block has no end, or a reason stands before no block.
    """
    found: list[Block] = []
    fence, why, last_reason = None, None, None
    lines: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        match = _FENCE.match(line)
        if fence is None and match:
            fence, language, first, lines = match[1], match[2], number, []
        elif fence is not None and line.strip() == fence:
            found.append(Block(f"{name}:{first}", language, tuple(lines), why))
            fence = why = None
        elif fence is not None:
            lines.append(line)
        elif reason := _NOT_RUN.match(line):
            why, last_reason = reason[1], number
        elif line.strip() and why is not None:
            raise ValueError(f"{name}:{last_reason}: a reason before no block")
    if fence is not None:
        raise ValueError(f"{name}:{first}: a block without an end")
    if why is not None:
        raise ValueError(f"{name}:{last_reason}: a reason before no block")
    return found


def all_blocks() -> list[Block]:
    """Return the code blocks of all documents."""
    return [
        block
        for path in DOCUMENTS
        for block in blocks(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    ]


def run_blocks(language: str) -> list[Block]:
    """Return the blocks of a language that are run."""
    return [b for b in all_blocks() if b.language == language and b.why_not_run is None]


def commands(block: Block) -> list[list[str]]:
    """Return the commands of a block, each as its words.

    Where a line begins with `$`, only such lines are commands; the others are what was printed.
    """
    logical = re.sub(r" *\\\n *", " ", block.text).splitlines()
    if any(line.lstrip().startswith("$ ") for line in logical):
        logical = [line.lstrip()[2:] for line in logical if line.lstrip().startswith("$ ")]
    words = [shlex.split(line, comments=True) for line in logical]
    return [command for command in words if command]
