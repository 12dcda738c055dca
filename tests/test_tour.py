"""docs/tour.ipynb runs as it stands, and is kept with its pictures."""

import re
import resource

import nbformat
import pytest
from tour import NOTEBOOK, executed

MAX_BYTES = 900_000
MAX_CPU_SECONDS = 100  # 45 on two cores of a server


def pictures(cell):
    return [o for o in cell.get("outputs", ()) if "image/png" in o.get("data", {})]


def printed(cell):
    return "".join(output.get("text", "") for output in cell.get("outputs", ()))


@pytest.fixture(scope="module")
def kept():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_kept_with_its_pictures(kept):
    nbformat.validate(kept)
    assert NOTEBOOK.stat().st_size < MAX_BYTES
    assert len(kept.cells) <= 20
    drawing = [cell for cell in kept.cells if re.search(r"plt.show|display\(|ask\(", cell.source)]
    assert len(drawing) == 9
    assert [cell.id for cell in drawing if not pictures(cell)] == []
    assert not re.search(r"/tmp/|/home/|Traceback", "".join(map(printed, kept.cells)))


@pytest.mark.system
def test_it_runs_and_the_heart_is_learned(kept):
    started = resource.getrusage(resource.RUSAGE_CHILDREN)
    cells = executed().cells
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.ru_utime - started.ru_utime < MAX_CPU_SECONDS
    assert [len(pictures(cell)) for cell in cells] == [len(pictures(cell)) for cell in kept.cells]
    training, asked, enrolled = (printed(cells[number]) for number in (13, 17, 19))
    assert re.search(r"step \d+, the best by map_at_r_within on validation", training)
    (before,) = re.findall(r"^before: (.*)$", asked, re.MULTILINE)
    assert before.split()[:7].count("unknown") >= 6
    (after,) = re.findall(r"^after five others were enrolled: (.*)$", enrolled, re.MULTILINE)
    assert after.split()[:7].count("heart") >= 6
    assert before.split()[7] == after.split()[7] == "3"
