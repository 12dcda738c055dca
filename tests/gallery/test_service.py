"""The service over HTTP: what it answers, and what it refuses."""

import io
import re
import threading
import time
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient
from gallery_experiment import (
    THRESHOLD,
    png,
    quadrant,
    write_gallery,
)
from PIL import Image

from src.gallery import Gallery
from src.gallery.service import create_app

TOKEN = "a token of many characters"


def upload(*contents, name="a.png"):
    return [("picture", (name, content, "image/png")) for content in contents]


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    return write_gallery(tmp_path / "x", monkeypatch)


@pytest.fixture
def make_client(experiment):
    opened = []

    def make(base_url="http://127.0.0.1:8000", **settings):
        gallery = Gallery(experiment.model_dir)
        settings = {"hosts": ("127.0.0.1", "localhost"), **settings}
        client = TestClient(create_app(gallery, **settings), base_url)
        client.__enter__()
        opened.append((client, gallery))
        return client

    yield make
    for client, gallery in opened:
        client.__exit__(None, None, None)
        gallery.close()


@pytest.fixture
def client(make_client):
    return make_client()


def test_enrol_query_and_forget(client):
    unknown = client.post("/query", files=upload(png(1))).json()
    assert (unknown["class"], unknown["distance"], unknown["neighbours"]) == (None, None, [])
    assert unknown["nearest"] is None
    added = client.post("/classes/heart/pictures", files=upload(png(1), png(1, 1))).json()
    assert added == [
        {"id": 1, "is_new": True, "also_in": []},
        {"id": 2, "is_new": True, "also_in": []},
    ]
    answer = client.post("/query", files=upload(png(1, 7)), data={"neighbours": 1}).json()
    assert set(answer) == {
        *("picture", "class", "nearest", "distance", "threshold", "far", "neighbours")
    }
    assert (answer["picture"], answer["class"], answer["far"]) == ("a.png", "heart", 0.01)
    assert answer["distance"] < answer["threshold"] == THRESHOLD
    (near,) = answer["neighbours"]
    assert set(near) == {"id", "class", "source", "distance"}
    assert client.get("/classes").json() == [{"class": "heart", "pictures": 2}]
    assert client.delete("/pictures/1").json() == {"removed": 1}
    assert client.delete("/classes/heart").json() == {"removed": 1}
    assert client.get("/classes").json() == []
    for method, path in (("DELETE", "/pictures/1"), ("DELETE", "/classes/heart")):
        assert client.request(method, path).status_code == 404


def test_a_change_that_has_begun_is_finished_after_the_answer(make_client, monkeypatch):
    begun, may_go_on, enrol = threading.Event(), threading.Event(), Gallery.enrol

    def slowly(self, *given):
        begun.set()
        assert may_go_on.wait(30)
        return enrol(self, *given)

    monkeypatch.setattr(Gallery, "enrol", slowly)
    client = make_client(max_seconds=4.0)
    assert client.post("/classes/heart/pictures", files=upload(png(1))).status_code == 503
    assert begun.is_set()
    may_go_on.set()
    deadline = time.monotonic() + 20
    while client.get("/classes").json() != [{"class": "heart", "pictures": 1}]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_pictures_of_a_class_can_be_seen_and_moved(client):
    client.post("/classes/heart/pictures", files=upload(*(png(1, i) for i in range(5))))
    listed = client.get("/classes/heart/pictures").json()
    assert listed == [{"id": i, "source": "a.png"} for i in range(1, 6)]
    page = client.get("/classes/heart/pictures", params={"after": 2, "limit": 2}).json()
    assert [picture["id"] for picture in page] == [3, 4]
    shown = client.get("/pictures/3/thumbnail")
    assert (
        shown.headers["cache-control"] == "private, no-store"
    )  # the ids are another gallery's too
    assert shown.headers["content-type"] == "image/png"
    pixels = np.asarray(Image.open(io.BytesIO(shown.content)).convert("L"))
    np.testing.assert_array_equal(pixels, quadrant(1, seed=2)[:, :, 0])
    moved = client.put("/pictures/3/class", data={"name": "star"}).json()
    assert moved == {"id": 3, "class": "star"}
    assert client.get("/classes").json() == [
        {"class": "heart", "pictures": 4},
        {"class": "star", "pictures": 1},
    ]
    for path in ("/classes/none/pictures", "/pictures/99/thumbnail"):
        assert client.get(path).status_code == 404
    assert client.put("/pictures/99/class", data={"name": "x"}).status_code == 404


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>", "a/b", "猫", "a?b#c", "'"])
def test_names_are_text(client, name):
    path = f"/classes/{quote(name, safe='')}"
    assert client.post(f"{path}/pictures", files=upload(png(1))).status_code == 200
    assert client.get("/classes").json() == [{"class": name, "pictures": 1}]
    assert client.post("/query", files=upload(png(1, 3))).json()["class"] == name
    assert len(client.get(f"{path}/pictures").json()) == 1
    assert client.delete(path).json() == {"removed": 1}


@pytest.mark.parametrize(
    "files, data, text",
    [
        (upload(b"no picture"), {}, "a.png: .*accepted: a picture"),
        (upload(b""), {}, "a.png: .*accepted: a picture"),
        (upload(png(0)[:60]), {}, "a.png: "),
        (upload(png(0)), {"neighbours": "0"}, "greater than or equal to 1"),
        (upload(png(0)), {"neighbours": "x"}, "valid integer"),
        (upload(png(0)), {"far": "2"}, "less than 1"),
        (upload(png(0)), {"far": "0.001"}, "needs 1000 strangers.*accepted: 0.1, 0.01"),
        ([("other", ("a.png", png(0), "image/png"))], {}, "required"),
    ],
)
def test_bad_queries_get_the_reason(client, files, data, text):
    response = client.post("/query", files=files, data=data)
    assert response.status_code == 422
    assert re.search(text, response.text)


def test_one_bad_picture_and_none_is_enrolled(client):
    response = client.post("/classes/heart/pictures", files=upload(png(1), b"bad"))
    assert response.status_code == 422
    assert client.get("/classes").json() == []
    long = "x" * 201
    assert client.post(f"/classes/{long}/pictures", files=upload(png(1))).status_code == 422


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil"])
def test_other_hosts_are_refused(client, host):
    response = client.get("/classes", headers={"host": host})
    assert response.status_code == 421
    assert "accepted: 127.0.0.1, localhost" in response.json()["detail"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9", "LOCALHOST:8000"])
def test_own_hosts_are_served(client, host):
    assert client.get("/classes", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/query", "/classes/heart/pictures"])
def test_pages_of_other_sites_are_refused(client, path, headers):
    assert client.post(path, files=upload(png(1)), headers=headers).status_code == 403
    assert client.get("/classes").json() == []


def test_its_own_page_is_served(client):
    own = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}
    assert client.post("/query", files=upload(png(1)), headers=own).status_code == 200


def test_with_a_token_everyone_reads_and_its_holders_write(make_client):
    client = make_client("http://server.example", hosts=(), token=TOKEN)
    assert client.get("/classes").status_code == 200
    assert client.post("/query", files=upload(png(1))).status_code == 200
    for given in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN[:-1]}):
        response = client.post("/classes/a/pictures", files=upload(png(1)), headers=given)
        assert response.status_code == 401
        assert client.delete("/classes/a", headers=given).status_code == 401
    assert client.get("/classes").json() == []
    right = {"authorization": f"Bearer {TOKEN}"}
    response = client.post("/classes/a/pictures", files=upload(png(1)), headers=right)
    assert response.status_code == 200


def test_too_many_bytes_are_refused_whether_announced_or_not(make_client):
    client = make_client(max_bytes=2000)
    assert client.post("/query", files=upload(bytes(3000))).status_code == 413

    def chunks():
        yield b"--x\r\nContent-Disposition: form-data; name=picture; filename=a\r\n\r\n"
        for _ in range(300):
            yield bytes(100)

    headers = {"content-type": "multipart/form-data; boundary=x"}
    response = client.post("/query", content=chunks(), headers=headers)
    assert response.status_code == 413
    assert "at most 2,000" in response.json()["detail"]
    assert client.post("/query", files=upload(png(1))).status_code == 200


def test_a_request_that_takes_too_long_is_given_up(make_client):
    client = make_client(max_seconds=0.0)
    assert client.post("/query", files=upload(png(1))).status_code == 503


def test_queries_that_come_together_all_get_their_own_answer(client):
    for position in range(4):
        client.post(f"/classes/{position}/pictures", files=upload(png(position)))
    found = {}

    def ask(number):
        response = client.post("/query", files=upload(png(number % 4, seed=number)))
        found[number] = response.json()["class"]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: str(number % 4) for number in range(40)}


def test_what_another_process_enrols_is_known(client, experiment):
    client.post("/query", files=upload(png(1)))
    with Gallery(experiment.model_dir) as other:
        other.add("two", quadrant(1, seed=9)[None])
    assert client.post("/query", files=upload(png(1))).json()["class"] == "two"


def test_health_metrics_and_documentation(client):
    client.post("/classes/heart/pictures", files=upload(png(1)))
    client.post("/query", files=upload(png(1, 3)))
    client.post("/query", files=upload(png(2)))
    assert client.get("/healthz").json()["status"] == "ok"
    lines = client.get("/metrics").text.splitlines()
    assert 'tripletboard_verdicts_total{verdict="known"} 1.0' in lines
    assert 'tripletboard_verdicts_total{verdict="unknown"} 1.0' in lines
    assert "tripletboard_pictures 1.0" in lines
    assert 'tripletboard_requests_total{method="POST",route="/query",status="200"} 2.0' in lines
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/query", "/classes", "/healthz"} <= set(paths)
    assert "http" not in client.get("/docs").text.replace("http://127.0.0.1", "")


def test_invented_methods_and_paths_are_counted_as_one(client):
    for number in range(3):
        assert client.request(f"INVENTED{number}", "/query").status_code == 405
        assert client.get(f"/invented/{number}").status_code == 404
    lines = client.get("/metrics").text.splitlines()
    assert 'tripletboard_requests_total{method="GET",route="other",status="404"} 3.0' in lines
    assert "INVENTED" not in "".join(lines)


def test_refusals_are_counted_and_have_the_headers_of_other_answers(make_client):
    client = make_client(token=TOKEN)
    assert client.delete("/classes/heart").status_code == 401
    refused = client.get("/classes", headers={"host": "evil.example"})
    assert refused.status_code == 421 and refused.headers["x-content-type-options"] == "nosniff"
    lines = client.get("/metrics").text.splitlines()
    for method, status in (("DELETE", 401), ("GET", 421)):
        labels = f'method="{method}",route="other",status="{status}"'
        assert f"tripletboard_requests_total{{{labels}}} 1.0" in lines


def test_scripts_within_a_page_are_for_the_documentation_alone(client):
    inline = "script-src 'self' 'unsafe-inline'"
    assert inline in client.get("/docs").headers["content-security-policy"]
    for path in ("/", "/classes", "/page/app.js"):
        assert inline not in client.get(path).headers["content-security-policy"]


def test_the_page_loads_nothing_from_elsewhere(client):
    page = client.get("/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name in ("page/style.css", "page/app.js", "page/api.js", "page/ruler.js"):
        response = client.get(name)
        assert response.status_code == 200
        assert "https://" not in response.text
    calibration = client.get("/calibration").json()
    assert calibration["histograms"]["known"] == [97, 3]
    assert calibration["is_dark"] is True
