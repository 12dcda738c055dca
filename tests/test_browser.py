"""The projector in a real browser: headless Chromium on a real TensorBoard.

What the page holds is read from its own elements, what it shows from a screenshot. Where no
Chromium is installed these tests are skipped; REQUIRE_BROWSER=1, as .ci/run sets it, forbids that.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from src.data.split import Split
from src.projector.files import write_evolution, write_projector
from src.projector.legend import PALETTE
from src.projector.metadata import CHUNK_SIZE

pytestmark = pytest.mark.system

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser"])), None)
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
PATIENCE = 180  # seconds; on an idle machine each step takes a few

NUM_POINTS = 400
NAMES = ("tab\tbed", 'say "a, b"', "日本 語", "", "line\nend", "<b>naïve 🙂</b> & co")
SHOWN = ["tab bed", 'say "a, b"', "日本 語", "(empty)", "line end", "<b>naïve 🙂</b> & co"]
LONG_NAMES = tuple(letter * 42 for letter in "日é🙂")


def find(element):
    """JavaScript that finds an element of the projector's page, whose parts are nested shadows."""
    return f"""(() => {{
        const roots = [document];
        while (roots.length) {{
            const root = roots.pop(), found = root.querySelector('{element}');
            if (found) return found;
            for (const e of root.querySelectorAll('*')) if (e.shadowRoot) roots.push(e.shadowRoot);
        }}
    }})()"""


PROJECTOR = find("vz-projector")
DATA_PANEL = find("vz-projector-data-panel")


def make_split(size, class_names):
    """Pictures of a black square on white, and labels that come in no order."""
    rng = np.random.default_rng(0)
    images = np.full((size, 28, 28, 1), 255, np.uint8)
    images[:, 8:20, 8:20] = 0
    return Split(images, rng.integers(0, len(class_names), size).astype(np.int32), class_names)


SPLIT = make_split(NUM_POINTS, NAMES)
LAYOUTS = {
    name: np.random.default_rng(seed).normal(3 * SPLIT.labels[:, None], 1, (NUM_POINTS, 2))
    for seed, name in enumerate(["tsne", "pca", "umap"])
}
LAYOUTS = {name: layout.astype(np.float32) for name, layout in LAYOUTS.items()}
EVOLUTION = {"step_0": LAYOUTS["pca"], "step_9": LAYOUTS["tsne"]}
LONG_SPLIT = make_split(9000, LONG_NAMES)
CONFIDENCE = np.linspace(0, 1, NUM_POINTS, dtype=np.float32)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """An experiment with a training's checkpoint and three runs of the projector."""
    experiment = tmp_path_factory.mktemp("browser") / "lr=0.1"
    rng = np.random.default_rng(1)
    long_embeddings = rng.standard_normal((len(LONG_SPLIT), 3)).astype(np.float32)
    write_projector(
        experiment / "projector" / "long_names",
        name="e",
        embeddings=long_embeddings,
        split=LONG_SPLIT,
    )
    write_evolution(
        experiment / "projector" / "test_evolution",
        layouts=EVOLUTION,
        split=SPLIT,
        indices=np.arange(NUM_POINTS),
    )
    write_projector(
        experiment / "projector" / "test",
        name="step_9",
        embeddings=rng.standard_normal((NUM_POINTS, 64)).astype(np.float32),
        split=SPLIT,
        columns={"prediction": ["right", "wrong"] * (NUM_POINTS // 2), "confidence": CONFIDENCE},
        layouts=LAYOUTS,
    )
    shutil.copy(next((experiment / "projector" / "test").glob("events.*")), experiment)
    return experiment


@pytest.fixture(scope="module")
def address(experiment, tmp_path_factory):
    """Where a TensorBoard of the experiment listens."""
    output = tmp_path_factory.mktemp("tensorboard") / "output.txt"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(experiment)]
    with open(output, "wb") as file:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", "0"], stdout=file, stderr=file
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", output.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, output.read_text()
            time.sleep(0.1)
        yield found[0]
    finally:
        process.kill()
        process.wait()


class ProjectorPage:
    """The projector's tab, opened without a click.

    Attributes:
        errors: the messages of exceptions in the page.
        answers: the status and the address of each answer of the projector's plugin.
    """

    def __init__(self, page, address):
        self.page, self.errors, self.answers = page, [], []
        page.set_default_timeout(PATIENCE * 1000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("response", lambda answer: self.answers.append((answer.status, answer.url)))
        page.goto(f"{address}/#projector")
        self.wait("frame", lambda: any("projector_binary" in f.url for f in page.frames))
        self.frame = next(f for f in page.frames if "projector_binary" in f.url)
        self.wait_for_points(NUM_POINTS)

    def wait(self, what, condition):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"no {what}; errors: {self.errors}"
            self.page.wait_for_timeout(100)

    def wait_for_points(self, number):
        """Wait until so many points stand in the plane, and have been drawn."""
        self.wait(
            f"{number} points",
            lambda: self.read(
                f"""(p => p && p.dataSet && p.projection && p.dataSet.points.length === {number}
                    && p.dataSet.points[0].projections[p.projection.projectionComponents[0]] != null
                    )({PROJECTOR})"""
            ),
        )
        self.page.wait_for_timeout(500)

    def read(self, script):
        return self.frame.evaluate(f"() => {script}")

    def positions(self):
        """What is drawn: [N, 2 or 3]."""
        return np.array(
            self.read(
                f"""(p => p.dataSet.points.map(point => p.projection.projectionComponents
                    .filter(c => c).map(c => point.projections[c])))({PROJECTOR})"""
            )
        )

    def pixels(self):
        """A screenshot of the plane: uint8 [H, W, 3]."""
        picture = self.frame.locator("#scatter").screenshot()
        return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))

    def legend(self):
        """Value -> count, in the legend's order."""
        items = self.read(f"{DATA_PANEL}.colorLegendRenderInfo.items.map(i => [i.label, i.count])")
        return dict(items)

    def choose(self, run, tensor=None):
        self.read(f"{DATA_PANEL}.selectedRun = '{run}'")
        if tensor:
            self.wait(
                "tensor", lambda: tensor in self.read(f"{DATA_PANEL}.tensorNames.map(t => t.name)")
            )
            self.read(f"{DATA_PANEL}.selectedTensor = '{tensor}'")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        message = "no Chromium is installed (Debian: apt install chromium)"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def projector(browser, address):
    """One page for all tests, in the order of this file; the first finds it untouched."""
    return ProjectorPage(browser.new_page(viewport={"width": 1500, "height": 900}), address)


def test_opens_on_the_finished_layout_without_a_click(projector):
    assert projector.read(f"{DATA_PANEL}.selectedRun") == "projector/test"
    assert projector.read(f"{DATA_PANEL}.selectedTensor") == "1_t-SNE_step_9"
    text = projector.frame.locator("span.numDataPoints").first.inner_text()
    assert text == str(NUM_POINTS)
    assert projector.frame.locator("span.dim").first.inner_text() == "3"
    positions = projector.positions()
    assert positions.shape == (NUM_POINTS, 3)
    for axis in (0, 1):  # neither turned nor mirrored
        assert np.corrcoef(positions[:, axis], LAYOUTS["tsne"][:, axis])[0, 1] > 1 - 1e-6
    assert np.abs(positions[:, 2]).max() < 1e-6


def test_the_first_view_shows_pictures_in_the_colours_of_their_classes(projector):
    pixels = projector.pixels().astype(int)
    is_dark = (pixels < 60).all(axis=2)
    assert is_dark.mean() > 0.01  # ink of the pictures
    pale = (np.array(PALETTE[: len(NAMES)]) + 255) / 2
    shares = [(np.abs(pixels - color).max(axis=2) < 12).mean() for color in pale]
    assert min(shares) > 0.001, shares


def test_every_file_is_served_and_the_page_is_without_errors(projector):
    plugin = [(status, url) for status, url in projector.answers if "/plugin/projector/" in url]
    assert {status for status, _ in plugin} == {200}
    routes = {re.search(r"/plugin/projector/(\w+)", url)[1] for _, url in plugin}
    assert {"runs", "info", "tensor", "metadata", "sprite_image", "bookmarks"} <= routes
    assert projector.errors == []


def test_the_sprite_sheet_is_there(projector):
    sprite = f"{PROJECTOR}.dataSet.spriteAndMetadataInfo"
    assert projector.read(f"{sprite}.spriteImage.naturalWidth") == 20 * 28  # 20 x 20 tiles
    assert projector.read(f"{sprite}.spriteMetadata.singleImageDim") == [28, 28]


@pytest.mark.parametrize(("number", "name"), list(enumerate(LAYOUTS)))
def test_a_click_on_a_bookmark_shows_a_layout_coloured_by_label(projector, number, name):
    rows = projector.frame.locator("vz-projector-bookmark-panel .state-row")
    assert rows.count() == len(LAYOUTS)
    rows.nth(number).locator(".state-radio paper-icon-button").first.click()
    projector.wait(
        "layout", lambda: np.allclose(projector.positions(), LAYOUTS[name], rtol=1e-3, atol=1e-3)
    )
    assert projector.read(f"{DATA_PANEL}.selectedColorOptionName") == "label"
    counts = np.bincount(SPLIT.labels)
    assert projector.legend() == dict(zip(SHOWN, counts.tolist(), strict=True))
    projector.page.wait_for_timeout(500)
    still = np.allclose(projector.positions(), LAYOUTS[name], rtol=1e-3, atol=1e-3)
    assert still, "the browser computes on"


def test_the_legend_has_the_colours_of_the_tiles(projector):
    items = projector.read(f"{DATA_PANEL}.colorLegendRenderInfo.items.map(i => i.color)")
    order = list(dict.fromkeys(SPLIT.labels.tolist()))  # as they come
    assert items == ["#{:02x}{:02x}{:02x}".format(*PALETTE[i]) for i in range(len(order))]


def test_search_finds_the_points_of_a_class(projector):
    box = projector.frame.locator("vz-projector-inspector-panel vz-projector-input input").first
    box.fill("日本")
    number = int((SPLIT.labels == 2).sum())
    status = projector.frame.locator("#status-bar")
    projector.wait("selection", lambda: status.inner_text() == f"Selected {number} points")
    box.fill("")


def test_names_arrive_made_safe_and_numbers_as_a_gradient(projector):
    labels = projector.read(f"{PROJECTOR}.dataSet.points.map(p => p.metadata.label)")
    assert labels == [SHOWN[label] for label in SPLIT.labels]
    options = projector.read(f"{DATA_PANEL}.colorOptions.map(o => [o.name, o.desc])")
    assert ["prediction", "2  colors"] in options
    assert ["confidence", "gradient"] in options
    assert projector.errors == []


def test_the_embeddings_are_there_for_the_browsers_own_layouts(projector):
    projector.choose("projector/test", "2_embeddings_step_9")
    projector.wait(
        "tensor", lambda: projector.read(f"({PROJECTOR}.dataSet || {{dim: []}}).dim[1]") == 64
    )
    projector.wait_for_points(NUM_POINTS)
    assert projector.frame.locator("vz-projector-bookmark-panel .state-row").count() == 3
    assert projector.errors == []


def test_an_evolution_is_switched_by_tensor(projector):
    for step, layout in EVOLUTION.items():
        projector.choose("projector/test_evolution", step)

        def shows(layout=layout):
            positions = projector.positions()
            return len(positions) == NUM_POINTS and all(
                np.corrcoef(positions[:, axis], layout[:, axis])[0, 1] > 1 - 1e-6 for axis in (0, 1)
            )

        projector.wait_for_points(NUM_POINTS)
        projector.wait(step, shows)
    assert projector.errors == []


def test_long_names_of_several_bytes_arrive_whole(projector, experiment):
    """The browser decodes the metadata in chunks of a million bytes."""
    path = experiment / "projector" / "long_names" / "metadata.tsv"
    unpadded = re.sub(rb"\t +", b"\t", path.read_bytes())
    assert unpadded[CHUNK_SIZE] & 0xC0 == 0x80  # would be in the middle of a character
    projector.choose("projector/long_names")
    projector.wait_for_points(len(LONG_SPLIT))
    labels = projector.read(f"{PROJECTOR}.dataSet.points.map(p => p.metadata.label)")
    assert labels == [LONG_NAMES[label] for label in LONG_SPLIT.labels]
    indices = projector.read(f"{PROJECTOR}.dataSet.points.map(p => p.metadata.index)")
    assert indices == list(range(len(LONG_SPLIT)))
    assert projector.errors == []
