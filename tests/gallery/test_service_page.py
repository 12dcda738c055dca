"""The service's page in a real browser: headless Chromium on a real server."""

import os
import re
import shutil
import socket
import threading
import time

import numpy as np
import pytest
import uvicorn
from gallery_experiment import (
    CALIBRATION,
    THRESHOLD,
    calibration_of,
    png,
    quadrant,
    write_experiment,
)

from src.gallery import Gallery
from src.gallery.building import build, identity_of
from src.gallery.gallery import load_embedder
from src.gallery.service import create_app
from src.gallery.store import open_store

pytestmark = pytest.mark.system

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser"])), None)
TOKEN = "a token of many characters"
HOSTILE = "<img src=x onerror=\"document.title='hacked'\">"


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        assert not os.environ.get("REQUIRE_BROWSER"), "no Chromium is installed"
        pytest.skip("no Chromium is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def gallery(tmp_path, monkeypatch, request):
    """An empty gallery; its parameter, if any, are the factors of class sizes."""
    if hasattr(request, "param"):
        monkeypatch.setitem(CALIBRATION["open_set"], "size_factors", request.param)
    made = write_experiment(tmp_path / "x", monkeypatch)
    embed = load_embedder(made, made.trained_params(), made.image_shape())
    identity = identity_of(made, made.trained_params(), made.image_shape(), embed)
    with open_store(made.gallery_path, create=True) as store:
        build(store, identity, calibration_of(made), [], embed, 0)
    with Gallery(made.model_dir) as opened:
        yield opened


@pytest.fixture
def serve(gallery):
    """`serve(token)`: the address of a service of the gallery."""
    running = []

    def serve(token=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        app = create_app(gallery, hosts=("127.0.0.1",), token=token)
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
        thread = threading.Thread(target=server.run)
        thread.start()
        running.append((server, thread))
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        return f"http://127.0.0.1:{port}/"

    yield serve
    for server, thread in running:
        server.should_exit = True
        thread.join()


class Page:
    """The page, with what went wrong in it."""

    def __init__(self, browser, address, **context):
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.errors, self.elsewhere = [], []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.elsewhere.append(request.url))
        self.page.set_default_timeout(20_000)
        self.page.goto(address)
        self.page.wait_for_selector("#gallery-of:not(:empty)")
        self.address = address

    def draw(self, *quadrants):
        """Fill quadrants of the canvas with strokes."""
        box = self.page.locator("#canvas").bounding_box()
        half = box["width"] / 2
        for number in quadrants:
            x, y = box["x"] + half * (number % 2), box["y"] + half * (number // 2)
            self.page.mouse.move(x + 0.2 * half, y + 0.2 * half)
            self.page.mouse.down()
            for row in np.linspace(0.2, 0.8, 6):
                for column in (0.2, 0.8):
                    self.page.mouse.move(x + column * half, y + row * half)
            self.page.mouse.up()

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def shows(self, selector, text):
        """Wait until an element has this text."""
        pattern = re.compile(text)
        self.page.locator(selector).filter(has_text=pattern).first.wait_for(state="visible")

    def add_as(self, name):
        self.page.fill("#name", name)
        self.page.click("#add-button")

    def close(self):
        self.context.close()
        assert self.errors == []
        assert all(url.startswith((self.address, "data:", "blob:")) for url in self.elsewhere)


@pytest.fixture
def open_page(browser, serve):
    opened = []

    def open_page(token=None, **context):
        opened.append(Page(browser, serve(token), **context))
        return opened[-1]

    yield open_page
    for page in opened:
        page.close()


def test_an_unknown_drawing_becomes_a_class_and_is_undone(open_page, gallery):
    page = open_page()
    page.shows("#empty", "This gallery is empty")
    page.draw(0)
    page.shows("#verdict", "^unknown$")
    page.add_as("corner")
    page.shows("#verdict", "^corner$")
    page.shows("#classes", "1 picture")
    assert not page.page.locator("#empty").is_visible()
    assert "within the threshold" in page.text("#reason")
    page.page.click("#message button")
    page.shows("#verdict", "^unknown$")
    assert gallery.store.classes() == []
    page.page.click("#clear")
    page.shows("#verdict", "^…$")


def test_what_is_known_is_told_from_what_is_not(open_page, gallery):
    for position, name in enumerate(("one", "two")):
        gallery.add(name, np.stack([quadrant(position, seed=i) for i in range(3)]))
    page = open_page()
    page.page.set_input_files("#file", files=[upload(1)])
    page.shows("#verdict", "^two$")
    assert page.page.locator("#neighbours li").count() == 5
    assert page.page.locator("#neighbours li.near").count() == 3
    page.page.set_input_files("#file", files=[upload(3)])
    page.shows("#verdict", "^unknown$")
    page.page.set_input_files("#file", files=[{**upload(0), "buffer": b"no picture"}])
    page.shows("#reason", "accepted: a picture")


def upload(position):
    return {"name": "a.png", "mimeType": "image/png", "buffer": png(position, seed=77)}


def test_the_slider_moves_the_threshold_and_both_rates(open_page, gallery):
    gallery.add("one", quadrant(0)[None])
    page = open_page()
    page.page.set_input_files("#file", files=[upload(0)])
    page.shows("#verdict", "^one$")
    page.shows("#rates", "2.0 % of strangers are let in and 3.0 % of known")
    assert f"threshold {THRESHOLD:.3f}" in page.page.locator("#ruler").text_content()
    page.page.locator("#threshold").focus()
    page.page.keyboard.press("Home")
    page.shows("#verdict", "^unknown$")
    page.shows("#rates", "0.0 % of strangers are let in and 100.0 % of known")
    page.page.click("#reset")
    page.shows("#verdict", "^one$")


@pytest.mark.parametrize("gallery", [{"1": 2.5, "50": 1.0}], indirect=True)
def test_rates_are_those_of_the_score(open_page, gallery):
    """A class of one picture is found at larger distances, by the same share of strangers."""
    gallery.add("one", quadrant(0)[None])
    page = open_page()
    page.page.set_input_files("#file", files=[upload(0)])
    page.shows("#verdict", "^one$")
    page.shows("#rates", "2.0 % of strangers are let in and 3.0 % of known")
    at = page.page.locator("#ruler line[stroke-dasharray]").get_attribute("x1")
    assert float(at) == pytest.approx(10 + 580 * 0.5 / 1.05, abs=0.1)  # the edges end at 1
    assert f"threshold {2.5 * THRESHOLD:.2f}" in page.page.locator("#ruler").text_content()
    page.page.click("#clear")  # the threshold stays
    page.shows("#verdict", "^…$")
    assert "2.0 % of strangers are let in and 3.0 % of known" in page.text("#rates")


@pytest.mark.parametrize("gallery", [{"1": 1.5, "50": 1.0}], indirect=True)
def test_the_slider_decides_as_the_service_does(open_page, gallery):
    """By the nearest class, whose pictures need not be the most among the nearest."""
    gallery.add("many", np.stack([quadrant(0, brightness=120, seed=i) for i in range(4)]))
    gallery.add("one", quadrant(0, seed=5)[None])
    page = open_page()
    page.page.set_input_files("#file", files=[upload(0)])
    page.shows("#verdict", "^one$")
    page.page.locator("#threshold").focus()
    page.page.keyboard.press("ArrowRight")
    page.page.locator("#reset").wait_for(state="visible")
    page.shows("#verdict", "^one$")
    page.page.keyboard.press("Home")
    page.shows("#verdict", "^unknown$")
    assert "The nearest class is at" in page.text("#reason")
    assert "beyond the threshold of 0.00" in page.text("#reason")


def test_what_is_added_while_a_removal_waits_stays(open_page, gallery):
    gallery.add("one", np.stack([quadrant(0), quadrant(0, seed=1)]))
    page = open_page()
    page.page.set_input_files("#file", files=[upload(2)])
    page.shows("#verdict", "^unknown$")
    page.page.click("[aria-label='Remove one']")
    page.shows("#message", "Removed one.")
    page.add_as("one")
    page.shows("#message", "Added to one.")
    page.shows("#classes", "1 picture")
    assert gallery.store.classes() == [("one", 1)]
    assert gallery.store.pictures([1, 2]) == []


def test_names_are_text(open_page, gallery):
    page = open_page()
    page.draw(0)
    page.shows("#verdict", "^unknown$")
    page.add_as(HOSTILE)
    page.shows("#verdict", "^<img src=x")
    page.page.locator("#classes .open").click()
    page.page.locator("#classes .sheet img").wait_for()
    assert page.page.title() == "Tripletboard"
    assert page.page.locator("img[src=x]").count() == 0
    assert gallery.store.classes() == [(HOSTILE, 1)]


def test_removing_waits_for_undo(open_page, gallery):
    gallery.add("one", np.stack([quadrant(0), quadrant(0, seed=1)]))
    page = open_page()
    page.page.click("[aria-label='Remove one']")
    page.shows("#message", "Removed one.")
    page.page.locator("#classes li").wait_for(state="detached")
    page.page.click("#message button")
    page.shows("#classes", "2 pictures")
    assert gallery.store.classes() == [("one", 2)]
    page.page.click("[aria-label='Remove one']")
    deadline = time.monotonic() + 20
    while gallery.store.classes():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_picture_is_corrected_and_removed(open_page, gallery):
    gallery.add("one", np.stack([quadrant(0), quadrant(0, seed=1)]))
    page = open_page()
    page.page.on("dialog", lambda dialog: dialog.accept("two"))
    page.page.locator("#classes .open").click()
    page.page.click("[aria-label='Move picture 1']")
    page.shows("#message", "Moved to two.")
    assert gallery.store.classes() == [("one", 1), ("two", 1)]
    page.page.click("#message button")
    page.shows("#classes", "2 pictures")


def test_a_change_asks_for_the_token(open_page, gallery):
    page = open_page(TOKEN)
    page.draw(0)
    page.shows("#verdict", "^unknown$")
    page.add_as("corner")
    page.page.fill("#token", TOKEN)
    page.page.click("#token-dialog button[value=ok]")
    page.shows("#verdict", "^corner$")


def test_a_wrong_token_can_be_given_up(open_page, gallery):
    page = open_page(TOKEN)
    page.draw(0)
    page.shows("#verdict", "^unknown$")
    page.add_as("corner")
    page.page.fill("#token", "a wrong token of many characters")
    page.page.click("#token-dialog button[value=ok]")
    page.page.wait_for_function("() => document.getElementById('token').value === ''")
    page.page.locator("#token-dialog[open]").wait_for()
    page.page.keyboard.press("Escape")
    page.shows("#message", "found no valid token")
    assert page.page.locator("#token-dialog[open]").count() == 0
    assert gallery.store.classes() == []
    page.errors.clear()  # 401, twice


def test_a_move_that_met_the_same_picture_is_not_undone_silently(open_page, gallery):
    gallery.add("one", quadrant(0)[None])
    gallery.add("two", quadrant(0)[None])
    page = open_page()
    page.page.on("dialog", lambda dialog: dialog.accept("two"))
    page.page.click("#classes .open >> text=one")
    page.page.click("[aria-label='Move picture 1']")
    page.shows("#message", "Moved to two.")
    page.page.click("#message button")
    page.shows("#message", "two had this picture already, as #2; it stays there.")
    assert gallery.store.classes() == [("two", 1)]


def test_the_description_of_the_routes_is_shown(open_page):
    page = open_page()
    page.page.goto(f"{page.address}docs")
    page.page.locator(".opblock", has_text="/query").first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_cut(open_page, gallery, scheme):
    gallery.add("w" * 200, quadrant(0)[None])
    page = open_page(viewport={"width": 360, "height": 700}, color_scheme=scheme)
    page.page.set_input_files("#file", files=[upload(0)])
    page.shows("#verdict", "^w+$")
    width = page.page.evaluate("() => document.documentElement.scrollWidth")
    assert width <= 360
    ground = page.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (min(map(int, re.findall(r"\d+", ground))) > 128) == (scheme == "light")


def test_by_keyboard(open_page, gallery):
    gallery.add("one", quadrant(0)[None])
    page = open_page()
    reached = set()
    for _ in range(12):
        page.page.keyboard.press("Tab")
        reached.add(page.page.evaluate("() => document.activeElement.id"))
    assert {"clear", "file", "name"} <= reached
