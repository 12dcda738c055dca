"""The service against requests made from its own description, and against hostile pictures."""

import io
import re
import struct
import tracemalloc
import zipfile
import zlib
from urllib.parse import quote

import numpy as np
import pytest
import raw_pictures
import requests
import schemathesis
from fastapi.testclient import TestClient
from gallery_experiment import png, write_gallery
from hypothesis import HealthCheck, given, seed, settings
from PIL import Image
from schemathesis.specs.openapi import checks

from src.gallery import Gallery
from src.gallery.service import create_app

DESCRIBED = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]

BASE_URL = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield write_gallery(tmp_path_factory.mktemp("served") / "x", patch).model_dir


@pytest.fixture(scope="module")
def make_client(model_dir):
    """`make_client(...)`: a client of a service with these settings, over one gallery."""
    with Gallery(model_dir) as gallery:
        opened = []

        def make(**given):
            client = TestClient(
                create_app(gallery, **{"hosts": ("127.0.0.1",), **given}),
                BASE_URL,
                raise_server_exceptions=False,  # the answer is then 500, as over the network
            )
            opened.append(client.__enter__())
            return client

        yield make
        for client in opened:
            client.__exit__(None, None, None)


@pytest.fixture(scope="module")
def client(make_client):
    return make_client()


NAMES = ("a", "<img src=x onerror=alert(1)>", "7", "ä/..", "\u202ex")

OPERATIONS = (
    *(("POST", path) for path in ("/query", "/classes/{name}/pictures")),
    *(("GET", path) for path in ("/classes", "/classes/{name}/pictures", "/calibration")),
    *(("GET", path) for path in ("/pictures/{picture}/thumbnail", "/healthz")),
    *(("DELETE", path) for path in ("/classes/{name}", "/pictures/{picture}")),
    ("PUT", "/pictures/{picture}/class"),
)


def test_no_operation_is_left_out(client):
    paths = client.get("/openapi.json").json()["paths"]
    described = {(method.upper(), path) for path, found in paths.items() for method in found}
    assert described == set(OPERATIONS)


# A request without parameters cannot be wrong, and every text is a class name.
ALWAYS_RIGHT = (("GET", "/classes"), ("GET", "/calibration"), ("GET", "/healthz"))
ALWAYS_RIGHT += (("DELETE", "/classes/{name}"),)


@pytest.mark.parametrize(
    "kind, method, path",
    [
        *((schemathesis.GenerationMode.POSITIVE, *operation) for operation in OPERATIONS),
        *(
            (schemathesis.GenerationMode.NEGATIVE, *operation)
            for operation in OPERATIONS
            if operation not in ALWAYS_RIGHT
        ),
    ],
    ids=str,
)
def test_answers_are_those_of_the_description(client, kind, method, path):
    """Whether a request is right or wrong: no error of the service, and a described answer."""
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    operation = schema[path][method]
    for name in NAMES:
        client.post(f"/classes/{quote(name, safe='')}/pictures", files={"picture": png(1)})

    @seed(20)
    @settings(
        max_examples=25, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=kind))
    def ask(case):
        asked = requests.Request(**case.as_transport_kwargs(base_url=BASE_URL)).prepare()
        response = client.request(
            asked.method, asked.url, content=asked.body, headers=dict(asked.headers)
        )
        assert response.status_code < 500, response.text
        case.validate_response(response, checks=DESCRIBED)

    ask()


@pytest.mark.parametrize("method, path", OPERATIONS)
@pytest.mark.parametrize(
    "service, headers, code",
    [
        ({"max_bytes": 10}, {"content-length": "11"}, 413),
        ({}, {"host": "evil.example"}, 421),
        ({}, {"origin": "http://evil.example"}, 403),
        ({"token": "a token of many characters"}, {}, 401),
        ({"max_seconds": 0.0}, {}, 503),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_refusals_are_described(make_client, method, path, service, headers, code):
    client = make_client(**service)
    described = make_client().get("/openapi.json").json()["paths"][path][method.lower()]
    url = path.format(name="a", picture=1)
    body = {"files": {"picture": png(1)}, "data": {"name": "a"}} if method != "GET" else {}
    response = client.request(method, url, headers=headers, **body)
    is_refused = str(code) in described["responses"]
    assert (response.status_code == code) == is_refused
    if is_refused:
        assert isinstance(response.json()["detail"], str)


def huge_png(width, height):
    """A PNG that says how large it is, and has a few kilobytes of pixels, all black."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(8 << 20), 9)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(raw_pictures.chunk(*part) for part in chunks)


def zipped(*contents):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"{number}.png", content)
    return file.getvalue()


def text_bomb():
    """A PNG whose comment is 64 MB of text, compressed."""
    comment = b"k\0\0" + zlib.compress(bytes(64 << 20), 9)
    return raw_pictures.png(np.zeros((8, 8)), 8, (b"zTXt", comment))


SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"

HOSTILE = {
    "a bomb of pixels": (lambda: huge_png(60_000, 60_000), "pixels"),
    "a long side": (lambda: huge_png(2**31 - 1, 1), "per side|pixels"),
    "no pixels": (lambda: huge_png(0, 8), "."),
    "cut off": (lambda: png(1)[:70], "."),
    "SVG": (lambda: SVG, "SVG drawing"),
    "an archive": (lambda: zipped(png(1)), "an archive; unpack it"),
    "an archive of zeros": (lambda: zipped(bytes(64 << 20)), "an archive"),
    "a web page": (lambda: b"<!doctype html><img src=x onerror=alert(1)>", "a web page"),
    "a PDF": (lambda: b"%PDF-1.7\n", "a PDF document"),
    "PostScript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    "nothing": (lambda: b"", "an empty file"),
    "zeros": (lambda: bytes(1 << 20), "not a picture"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("path", ["/query", "/classes/hostile/pictures"])
def test_hostile_pictures_get_the_reason(client, name, path):
    make, text = HOSTILE[name]
    content = make()
    tracemalloc.start()
    try:
        response = client.post(path, files={"picture": ("a.png", content, "image/png")})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert response.status_code == 422
    detail = response.json()["detail"]
    assert detail.startswith("a.png: ") and "\n" not in detail
    assert re.search(text, detail)
    assert peak < 32 << 20


def animated():
    file = io.BytesIO()
    frames = [Image.new("L", (8, 8), value) for value in range(0, 250, 5)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [animated(), png(1) + zipped(b"x" * 1000), png(1) + SVG, text_bomb()],
    ids=["an animation", "with an archive", "with a script", "with a bomb of text"],
)
def test_pictures_with_more_in_them_are_pictures(client, content):
    """What follows the picture is never read: its thumbnail is new."""
    response = client.post("/classes/odd/pictures", files={"picture": ("a.png", content)})
    assert response.status_code == 200
    shown = client.get(f"/pictures/{response.json()[0]['id']}/thumbnail")
    assert shown.headers["content-type"] == "image/png"
    assert b"script" not in shown.content and b"PK" not in shown.content
    assert len(shown.content) < 1000
