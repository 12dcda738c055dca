"""`export.py`: every format runs by its own runtime, and the code of the model card works."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import bright_quadrants

import export
from src.data.decode import decode
from src.errors import UserError
from src.experiment.experiment import Experiment
from src.exporting.card import _reading, model_card
from src.exporting.formats import FORMATS
from src.exporting.record import Exported, read_exports
from src.params.schema import ExtraDataset, Params
from src.registry import EXPORT_FORMATS
from src.system.lock import one_writer

ROOT = Path(__file__).parent.parent.parent
EXPORTS = [(name, None) for name in FORMATS]
EXPORTS += [(name, "int8") for name, format in FORMATS.items() if format.int8_file]


@pytest.fixture(scope="module")
def exported(tmp_path_factory, finished, data_dir):
    """A trained experiment from which everything is exported; returns it and what was printed."""
    model_dir = shutil.copytree(finished, tmp_path_factory.mktemp("exported") / "tiny")
    return model_dir, data_dir


def run_export(model_dir, data_dir, *options):
    export.main(["--model_dir", str(model_dir), "--data_dir", str(data_dir), *options])


def test_every_format_has_its_files():
    assert set(FORMATS) == set(EXPORT_FORMATS)


@pytest.mark.parametrize(("name", "quantize"), EXPORTS)
def test_an_exported_model_embeds_as_the_checkpoint(name, quantize, exported, capsys):
    for package in FORMATS[name].packages:
        pytest.importorskip(package)
    model_dir, data_dir = exported
    run_export(model_dir, data_dir, "--to", name, *(("--quantize", quantize) if quantize else ()))
    out = capsys.readouterr().out
    (found,) = [
        each
        for each in read_exports(model_dir / "export" / "exports.json")
        if (each.format, each.num_calibration_images) == (name, 200 if quantize else None)
    ]
    assert found.num_images == 60
    metrics = json.loads((model_dir / "metrics.json").read_text())
    expected = metrics["splits"]["test"]["map_at_r_within"]
    assert found.map_at_r_before == pytest.approx(expected, abs=1e-4)
    if quantize:
        assert 1e-6 < found.largest_difference < 0.2
        assert abs(found.map_at_r_after - expected) < 0.1
        assert "int8, calibrated on 200 training examples" in out
    else:
        assert found.largest_difference < 1e-5
        assert found.map_at_r_after == pytest.approx(expected, abs=1e-4)
    difference = f"{found.largest_difference:.2g}"
    assert f"on 60 test examples: largest difference of embeddings {difference};" in out
    assert (model_dir / "export" / found.file).exists()
    assert not [*(model_dir / "export").glob(".*")]  # no temporary folder is left
    _run_the_code_of_the_card(model_dir, found)


def _run_the_code_of_the_card(model_dir, found):
    """The block that names the file, in the folder of the card, with two test images."""
    from model.embedder import Embedder

    folder = model_dir / "export"
    blocks = re.findall(r"```python\n(.*?)```", (folder / "MODEL_CARD.md").read_text(), re.DOTALL)
    (block,) = [block for block in blocks if f'"{found.file}"' in block]
    images, _ = bright_quadrants(2, seed=3)  # noise alone leaves the ranges of an int8 model
    names, before = {}, Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, image in zip("ab", images, strict=True):
            Image.fromarray(image).save(f"{name}.png")
        exec(block, names)
        for name in "ab":
            Path(f"{name}.png").unlink()
    assert Path.cwd() == before
    experiment = Experiment(model_dir)
    embed = Embedder(experiment, experiment.trained_params(), (8, 8, 1))
    expected = embed(images[..., None])
    embed.close()
    tolerance = 1e-5 if found.num_calibration_images is None else 0.2
    np.testing.assert_allclose(names["embeddings"], expected, atol=tolerance)
    assert names["distance"] == pytest.approx(np.linalg.norm(expected[0] - expected[1]), abs=0.2)


def test_a_saved_model_is_replaced_as_a_whole(exported):
    model_dir, data_dir = exported
    folder = model_dir / "export" / "saved_model"
    (folder / "3").mkdir(parents=True)  # of an earlier step
    (model_dir / "export" / ".export-killed").mkdir()
    run_export(model_dir, data_dir, "--to", "saved_model")
    step = Experiment(model_dir).evaluated_step()
    assert [path.name for path in folder.iterdir()] == [str(step)]
    assert not [*(model_dir / "export").glob(".*")]


def test_what_cannot_be_exported_is_refused(exported, make_experiment, data_dir, monkeypatch):
    model_dir, _ = exported
    with pytest.raises(UserError, match="no checkpoint found; accepted: a trained experiment"):
        run_export(make_experiment("untrained"), data_dir, "--to", "litert")
    with pytest.raises(UserError, match="--quantize: found int8 with --to saved_model; accepted"):
        run_export(model_dir, data_dir, "--to", "saved_model", "--quantize", "int8")
    with one_writer(model_dir), pytest.raises(UserError, match="in use|another"):
        run_export(model_dir, data_dir, "--to", "saved_model")
    broken = FORMATS["onnx"]._replace(packages=("no_such_package",))
    monkeypatch.setitem(FORMATS, "onnx", broken)
    with pytest.raises(UserError, match="no_such_package is not installed.*extra onnx"):
        run_export(model_dir, data_dir, "--to", "onnx")


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'[{"file": "x"}]'])
def test_a_damaged_record_is_named(content, exported, tmp_path):
    (tmp_path / "exports.json").write_bytes(content)
    with pytest.raises(UserError, match=r"exports.json: damaged; accepted"):
        read_exports(tmp_path / "exports.json")


def test_a_model_that_embeds_nothing_finite_is_not_written(exported, monkeypatch):
    model_dir, data_dir = exported

    def broken(saved_model, target, calibration):
        target.write_bytes(b"")
        return lambda images: np.full((len(images), 8), np.nan, np.float32)

    monkeypatch.setattr("model.exporter.look_up", lambda registry, name: broken)
    before = {p: p.read_bytes() for p in (model_dir / "export").rglob("*") if p.is_file()}
    with pytest.raises(UserError, match="not finite.*nothing was written"):
        run_export(model_dir, data_dir, "--to", "litert")
    after = {p: p.read_bytes() for p in (model_dir / "export").rglob("*") if p.is_file()}
    assert after == before


@pytest.mark.parametrize("resize", ["scale", "pad"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_card_prepares_pictures_as_training_does(tmp_path, monkeypatch, resize, mode):
    keys = {"image_size": 16, "image_mode": mode, "image_resize": resize}
    params = Params(dataset="image_folder", image_dir="x", **keys)
    monkeypatch.chdir(tmp_path)
    steps = np.linspace(0, 255, 64).astype(np.uint8)
    picture = Image.fromarray(
        np.stack([np.tile(steps, (32, 1))] * 2 + [np.full((32, 64), 90)], 2).astype(np.uint8)
    )
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    for name in "ab":
        picture.save(f"{name}.png", exif=exif)
    names = {"np": np}
    exec("\n".join(_reading(params, {"image_shape": [16, 16, len(mode)]})), names)
    expected = decode(tmp_path / "a.png", size=16, mode=mode, resize=resize).astype(int)
    assert names["images"].shape == (2, 16, 16, len(mode))
    assert np.abs(names["images"] - expected).max() <= 2
    assert (expected[:, 0].max() == 0) == (resize == "pad")


def test_the_card_shows_what_is_undefined_and_what_is_old(finished):
    experiment = Experiment(finished)
    metrics = experiment.metrics()
    metrics["splits"]["test"]["map_at_r_within"] = None
    metrics["thresholds"]["at"]["far_1e-4"] = {"threshold": None, "why": "too few"}
    metrics["class_names"] = ["a|b", "<i>", *map(str, range(30))]
    old = Exported(
        format="litert",
        file="model.tflite",
        size=9,
        step=3,
        checkpoint="0" * 64,
        num_calibration_images=None,
        num_images=0,
        largest_difference=0.0,
        map_at_r_before=None,
        map_at_r_after=None,
    )
    new = old.model_copy(update={"file": "model.onnx", "format": "onnx", "checkpoint": "1" * 64})
    extra = ExtraDataset(dataset="npz", npz_file="more*.npz")
    params = experiment.trained_params().model_copy(update={"extra_data": (extra,)})
    card = model_card("x", params, metrics, [old, new], "1" * 64)
    assert card.count(r" and classes of other data: npz more\*.npz.") == 2
    assert re.search(r"\n\| test \| - \|", card)
    assert "\n| far_1e-4 | - | - | - |" in card
    assert r"a\|b, \<i\>" in card and " and 12 more)" in card
    assert "LiteRT, **of an earlier checkpoint: export it again**" in card
    assert '"model.onnx"' in card and '"model.tflite"' not in card  # how to call it
    assert "| ONNX | 9 | 3 | 0 | - | - | 0 |" in card


@pytest.mark.parametrize(
    ("sizes", "most", "number", "classes"),
    [
        ([5, 5], 10, 10, 2),
        ([60, 40], 10, 10, 2),
        ([3] * 10, 12, 12, 4),
        ([30, *[2] * 9], 12, 12, 6),  # the large class leaves room for none
        ([50] * 8, 12, 12, 8),  # no class has room
    ],
)
def test_which_images_are_compared(sizes, most, number, classes):
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    found = export.checked_indices(labels, most)
    assert len(found) == len(set(found)) == number
    assert len(set(labels[found])) == classes


def test_the_page_on_serving_names_the_commands():
    page = (ROOT / "docs" / "serving.md").read_text()
    for name in FORMATS:
        assert f"--to {name}" in page
