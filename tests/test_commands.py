"""The commands and the Python of README and docs, run as they stand, beside a small experiment.

The programs run in this process, in a folder that has what the documents name: data, trained
experiments, pictures. Of servers the arguments are parsed, sweeps plan but do not train, and make
and pip are asked whether there is what they are told to make or to install.
"""

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from documents import ROOT, commands, run_blocks
from PIL import Image
from tiny import TINY, write_idx, write_params

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NUM_IMAGES = {"train": 400, "t10k": 200}
# Half of the images judge: a rate of 0.01 needs a hundred strangers.
PARAMS = {**TINY, "num_epochs": 2, "validation_fraction": 0.5}


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A folder with MNIST's first images, `experiments/demo` trained on them, and its gallery."""
    import gallery
    import train
    from src.data.idx import read_idx

    stage = tmp_path_factory.mktemp("stage")
    (stage / "data" / "mnist").mkdir(parents=True)
    for prefix, size in NUM_IMAGES.items():
        for name in (f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"):
            write_idx(
                stage / "data" / "mnist" / name, read_idx(ROOT / "data" / "mnist" / name)[:size]
            )
    (stage / "experiments").mkdir()
    demo = write_params(stage / "experiments" / "demo", PARAMS)
    where = ["--model_dir", str(demo), "--data_dir", str(stage / "data")]
    train.main(where)
    gallery.main(["build", *where])
    return stage


@pytest.fixture(autouse=True)
def _there(stage, monkeypatch, no_umap, one_figure):
    monkeypatch.chdir(stage)
    for name in ("photo.png", *(f"{letter}.png" for letter in "abc")):
        Image.fromarray(np.full((28, 28), ord(name[0]), np.uint8)).save(name)
        (stage / "data" / "my_pictures" / "a class").mkdir(parents=True, exist_ok=True)
        shutil.copy(name, stage / "data" / "my_pictures" / "a class" / name)


def provide(option, name):
    """Make an experiment, or a folder of some, that a command names."""
    folder, demo = Path(name), Path("experiments/demo")
    if folder == Path("experiments") or (folder / "params.json").exists():
        return
    if option == "--model_dir":
        shutil.copytree(demo, folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_params(folder, TINY)
    for margin in (0.5, 1):
        child = shutil.copytree(demo, folder / f"margin_{margin}")
        for file in ("params.json", "trained_params.json"):
            params = json.loads((child / file).read_text())
            (child / file).write_text(json.dumps({**params, "margin": margin}))


def run_program(program, arguments):
    """Run one of the programs with the arguments of a command."""
    for option, value in zip(arguments, arguments[1:], strict=False):
        if option in ("--model_dir", "--parent_dir"):
            provide(option, value)
        if option in ("--plot", "--save"):
            Path(value).parent.mkdir(parents=True, exist_ok=True)
    if program == "compare":
        provide("--parent_dir", arguments[0])
    module = importlib.import_module(program)
    if program in ("serve", "visualize"):
        module._parser().parse_args(arguments)
    if program == "serve":
        return
    if program == "sweep":
        arguments = [*arguments, "--dry_run"]
    module.main([argument for argument in arguments if argument != "--serve"])


def run_make(arguments):
    """Check a target; if it runs programs, run these."""
    done = subprocess.run(
        ["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        if match := re.fullmatch(r"\.venv/bin/python (\w+)\.py (.*)", line):
            run_program(match[1], match[2].split())


def run_pip(arguments):
    """Check that the extras of `pip install ".[a,b]"` are there."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    assert arguments[0] == "install"
    (asked,) = (a for a in arguments[1:] if not a.startswith("-"))
    assert set(re.fullmatch(r"\.\[(.*)\]", asked)[1].split(",")) <= set(extras)


def run_command(words):
    """Run a command, or check what it names."""
    first, *arguments = words
    if first in ("python", ".venv/bin/python") and arguments[0] == "-m":
        module, *rest = arguments[1:]
        if module != "pytest":
            assert importlib.util.find_spec(module), module
        assert all((ROOT / path).exists() for path in rest if path.startswith("tests/")), rest
    elif first in ("python", ".venv/bin/python"):
        run_program(arguments[0].removesuffix(".py"), arguments[1:])
    elif first == "make":
        run_make(arguments)
    elif first in ("pip", ".venv/bin/pip"):
        run_pip(arguments)
    elif first in ("tensorboard", ".venv/bin/tensorboard"):
        assert arguments[0] == "--logdir" and Path(arguments[1]).is_dir()
    elif first == "sh":
        assert (ROOT / arguments[0]).is_file() and (ROOT / arguments[2]).is_file()
    else:
        assert words == ["source", ".venv/bin/activate"], (
            f"{' '.join(words)}: a command that no test can run; accepted: the project's programs, "
            "make, pip, tensorboard, or a line before the block: <!-- not run: reason -->"
        )


@pytest.mark.parametrize("block", run_blocks("sh"), ids=lambda block: block.place)
def test_commands_run(block):
    found = commands(block)
    assert found
    for words in found:
        run_command(words)


def test_a_command_that_is_unknown_is_refused():
    with pytest.raises(AssertionError, match=r"docker run x: a command that no test can run"):
        run_command(["docker", "run", "x"])
    with pytest.raises(AssertionError, match="No rule to make target"):
        run_command(["make", "nothing-of-this-name"])
    with pytest.raises(SystemExit):
        run_command(["python", "train.py", "--modeldir", "x"])


@pytest.mark.parametrize("block", run_blocks("python"), ids=lambda block: block.place)
def test_python_runs(block, tmp_path, monkeypatch):
    """Beside all of MNIST: docs/your-own-images.md makes pictures of 3000 images."""
    shutil.copytree("experiments/demo", tmp_path / "experiments" / "demo")
    shutil.copytree(ROOT / "data" / "mnist", tmp_path / "data" / "mnist")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    batch = {"labels": np.arange(8) % 3, "embeddings": rng.normal(size=(8, 4)).astype(np.float32)}
    exec(compile(block.text, block.place, "exec"), batch)
