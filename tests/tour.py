"""Runs docs/tour.ipynb. `make tour` keeps the outputs in the notebook; a test keeps none."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "docs" / "tour.ipynb"


def executed(seconds: int = 600) -> nbformat.NotebookNode:
    """Return the notebook with the outputs that its cells have now.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell has failed; its traceback is the message.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=seconds,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    )
    client.execute()
    return notebook


def main() -> None:
    """Run the notebook, and write it with its outputs."""
    notebook = executed()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            output.pop("transient", None)
    NOTEBOOK.write_text(
        nbformat.writes(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    sys.exit(main())
