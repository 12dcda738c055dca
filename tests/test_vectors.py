"""The programs with vectors (`dataset: "npz"`): what each does with them, or how it refuses."""

import json
import re

import numpy as np
import pytest
from programs import free_ports
from tiny import write_params

import compare
import export
import gallery
import query
import serve
import sweep
import train
import visualize
from src.errors import UserError
from src.experiment.experiment import Experiment
from src.exporting.formats import FORMATS
from src.exporting.record import read_exports

PARAMS = {
    "dataset": "npz",
    "npz_file": "features.npz",
    "network": "mlp",
    "hidden_sizes": [],
    "embedding_size": 4,
    "num_epochs": 5,
    "learning_rate": 5e-2,
    "save_checkpoints_steps": 10,
    "batch_size": 32,
}
EXPORTS = [(name, None) for name in FORMATS]
EXPORTS += [(name, "int8") for name, format in FORMATS.items() if format.int8_file]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An experiment trained on four clusters of vectors, of which noise hides much."""
    root = tmp_path_factory.mktemp("vectors")
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 40)
    x = 2 * rng.normal(size=(4, 10))[y] + rng.normal(size=(160, 10))
    x[:, 6:] = 5 * rng.normal(size=(160, 4))
    (root / "data").mkdir()
    np.savez(root / "data" / "features.npz", x=x.astype(np.float32), y=y)
    model_dir = write_params(root / "x", PARAMS)
    train.main(["--model_dir", str(model_dir), "--data_dir", str(root / "data")])
    return model_dir, root / "data"


def test_training_learns_and_evaluates(trained):
    model_dir, _ = trained
    metrics = json.loads((model_dir / "metrics.json").read_text())
    assert metrics["status"] == "finished" and metrics["image_shape"] == [10]
    sizes = {name: split["num_examples"] for name, split in metrics["splits"].items()}
    assert sum(sizes.values()) == 160 and sizes["test"] == 32
    test, baselines = metrics["splits"]["test"], metrics["baselines"]
    for name in ("raw_pixels", "untrained"):
        assert test["map_at_r_within"] > baselines[name]["test"]["map_at_r_within"] + 0.1


def test_a_second_start_finds_it_finished_and_a_change_of_the_data(trained, tmp_path, capsys):
    model_dir, data_dir = trained
    train.main(["--model_dir", str(model_dir), "--data_dir", str(data_dir)])
    assert "already finished" in capsys.readouterr().out
    with np.load(data_dir / "features.npz") as file:
        x, y = file["x"].copy(), file["y"]
    x[3] += 1
    np.savez(tmp_path / "features.npz", x=x, y=y)
    with pytest.raises(UserError, match="the data have changed since training began: "):
        train.main(["--model_dir", str(model_dir), "--data_dir", str(tmp_path)])


def test_the_projector_shows_heat_maps(trained, no_umap):
    model_dir, data_dir = trained
    visualize.main(["--model_dir", str(model_dir), "--data_dir", str(data_dir)])
    folder = model_dir / "projector" / "test"
    assert (folder / "sprite.png").is_file()
    rows = (folder / "metadata.tsv").read_text().strip().split("\n")
    assert len(rows) == 32 + 1
    page = (model_dir / "figures" / "index.html").read_text()
    for name in ("tsne", "distances", "confusion", "triplets"):
        assert f"{name}.png" in page or f'id="{name}"' in page


@pytest.mark.parametrize(("name", "quantize"), EXPORTS)
def test_exports_take_vectors(name, quantize, trained, monkeypatch):
    from model.embedder import Embedder

    for package in FORMATS[name].packages:
        pytest.importorskip(package)
    model_dir, data_dir = trained
    options = ["--to", name, *(("--quantize", quantize) if quantize else ())]
    export.main(["--model_dir", str(model_dir), "--data_dir", str(data_dir), *options])
    (found,) = [
        each
        for each in read_exports(model_dir / "export" / "exports.json")
        if (each.format, each.num_calibration_images is not None) == (name, bool(quantize))
    ]
    assert found.num_images == 32
    tolerance = 0.3 if quantize else 1e-4  # int8: the coordinates are up to about 10
    assert found.largest_difference < tolerance

    card = (model_dir / "export" / "MODEL_CARD.md").read_text()
    assert "It embeds vectors of 10 numbers" in card and "gallery.py" not in card
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    (block,) = [block for block in blocks if f'"{found.file}"' in block]
    with np.load(data_dir / "features.npz") as file:
        two = file["x"][:2]
    np.save(model_dir / "export" / "two.npy", two)
    monkeypatch.chdir(model_dir / "export")
    variables = {}
    exec(block, variables)
    experiment = Experiment(model_dir)
    embed = Embedder(experiment, experiment.trained_params(), (1, 10, 1), holds_vectors=True)
    expected = embed(two.reshape(2, 1, 10, 1))
    embed.close()
    np.testing.assert_allclose(variables["embeddings"], expected, atol=tolerance)


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        (gallery, ["build"]),
        (gallery, ["list"]),
        (gallery, ["rebuild"]),
        (query, ["a.png"]),
        (serve, []),
    ],
    ids=["build", "list", "rebuild", "query", "serve"],
)
def test_what_takes_pictures_refuses_vectors_by_name(program, arguments, trained):
    if program is serve:
        pytest.importorskip("uvicorn")
        arguments = ["--port", str(free_ports(1)[0])]
    model_dir, _ = trained
    with pytest.raises(UserError) as caught:
        program.main([*arguments, "--model_dir", str(model_dir)])
    assert str(caught.value) == (
        f"{model_dir / 'metrics.json'}: image_shape: found vectors of 10 numbers; accepted: "
        "images, because galleries and queries take pictures"
    )


def test_comparing_and_sweeping(trained, capsys):
    model_dir, data_dir = trained
    compare.main([str(model_dir)])
    assert "recall_at_1" in capsys.readouterr().out
    sweep.main(
        ["--parent_dir", str(model_dir), "--data_dir", str(data_dir), "--seeds", "2", "--dry_run"]
    )
    assert "2 in the sweep" in capsys.readouterr().out
