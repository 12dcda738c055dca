"""The program compare.py: its options, its errors, and what it does not import."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

import compare
from src.comparing.results import Result, read_results
from src.errors import UserError
from src.experiment.experiment import Experiment
from src.experiment.status import Status
from src.params.schema import Params

ROOT = Path(__file__).parents[2]


@pytest.fixture
def margins(tmp_path):
    """Three margins: finished, finished, not trained."""
    for margin, loss in ((0.5, 0.3), (1.0, 0.2), (3.0, None)):
        directory = tmp_path / "margins" / f"margin_{margin:g}"
        directory.mkdir(parents=True)
        (directory / "params.json").write_text(json.dumps({"margin": margin}))
        if loss is not None:
            experiment = Experiment(directory)
            experiment.start(Params(margin=margin))
            metrics = {"loss": loss, "recall_at_1": 1 - loss}
            splits = {split: metrics for split in ("train", "validation", "test")}
            experiment.save_metrics(
                {"status": "finished", "global_step": 5, "seconds": 1.0, "splits": splits}
            )
    return tmp_path / "margins"


def run(*args):
    return subprocess.run(
        [sys.executable, "compare.py", *map(str, args)], cwd=ROOT, capture_output=True, text=True
    )


def test_it_starts_without_anything_slow(margins):
    """TensorFlow takes seconds, matplotlib and NumPy tenths of one; the program itself 0.2 s."""
    slow = ("tensorflow", "keras", "tf_keras", "matplotlib", "numpy", "sklearn", "tensorboard")
    code = (
        "import sys, compare\n"
        f"compare.main([{str(margins)!r}])\n"
        f"print([name for name in {slow} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[-2] == "[]"


@pytest.mark.parametrize("option", ["--csv", "--json"])
def test_what_has_no_row_is_named_beside_the_table(margins, monkeypatch, capsys, option):
    folder = margins / "shut\x1b"
    unreadable = Result(folder, Status.UNREADABLE, None, {}, (f"{folder}: Permission denied",))
    monkeypatch.setattr(
        compare, "read_results", lambda directories: [*read_results(directories), unreadable]
    )
    compare.main([str(margins), option])
    printed = capsys.readouterr()
    assert "Permission" not in printed.out
    assert printed.err == f"note: {margins}/shut\\x1b: Permission denied\n"


def test_baselines_are_rows_if_asked_for(margins, capsys):
    path = margins / "margin_1" / "metrics.json"
    raw = {"raw_pixels": {"validation": {"recall_at_1": 0.25}}}
    path.write_text(json.dumps({**json.loads(path.read_text()), "baselines": raw}))
    for options in ([], ["--baselines"]):
        compare.main([str(margins), "--columns", "recall_at_1", *options])
        assert ("0.2500" in capsys.readouterr().out) == bool(options)


def test_the_table(margins, capsys):
    compare.main([str(margins), "--columns", "loss,test.recall_at_1"])
    assert capsys.readouterr().out == (
        f"{margins}: 3 experiments\n"
        "\n"
        "                                       loss  recall_at_1\n"
        "experiment  margin  status       validation         test\n"
        "margin_0.5     0.5  finished         0.3000       0.7000\n"
        "margin_1         1  finished         0.2000       0.8000\n"
        "margin_3         3  not trained           -            -\n"
    )


def test_sorted(margins, capsys):
    def order(*options):
        compare.main([str(margins), "--csv", *options])
        rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
        return [row["experiment"].removeprefix("margin_") for row in rows]

    assert order() == ["0.5", "1", "3"]
    assert order("--sort", "loss") == ["1", "0.5", "3"]
    assert order("--sort", "recall_at_1", "--split", "test") == ["1", "0.5", "3"]
    assert order("--sort", "recall_at_1", "--reverse") == ["0.5", "1", "3"]
    assert order("--sort", "margin", "--reverse") == ["3", "1", "0.5"]


def test_every_format_has_every_experiment(margins, capsys):
    for option in ("--csv", "--json", "--markdown"):
        compare.main([str(margins), option])
        out = capsys.readouterr().out
        assert all(out.count(f"margin_{margin}") >= 1 for margin in ("0.5", "1", "3")), option
        assert "not trained" in out and out.endswith("\n") and not out.endswith("\n\n")
    compare.main([str(margins), "--json"])
    assert len(json.loads(capsys.readouterr().out)) == 3


def test_only_one_format(margins, capsys):
    with pytest.raises(SystemExit):
        compare.main([str(margins), "--csv", "--json"])
    assert "not allowed with" in capsys.readouterr().err


def test_a_damaged_experiment_does_not_hide_the_others(margins, capsys):
    (margins / "margin_1" / "metrics.json").write_text('{"status": "fin')
    compare.main([str(margins)])
    out = capsys.readouterr().out
    assert "margin_0.5" in out and "margin_3" in out
    assert f"note: {margins}/margin_1/metrics.json: damaged" in out


def test_bad_arguments(margins):
    with pytest.raises(UserError, match="found no directory"):
        compare.main([str(margins / "nowhere")])
    done = run(margins, "--sort", "los")
    assert done.returncode == 2
    assert done.stderr.startswith("error: column 'los': found no such column; did you mean 'loss'?")
    assert done.stderr.count("\n") == 1 and done.stdout == ""


@pytest.mark.parametrize(
    ("name", "start"), [("x.png", b"\x89PNG"), ("x.svg", b"<?xml"), ("x.pdf", b"%PDF")]
)
def test_a_picture(margins, tmp_path, capsys, name, start):
    compare.main([str(margins), "--csv", "--plot", str(tmp_path / name)])
    assert (tmp_path / name).read_bytes().startswith(start)
    printed = capsys.readouterr()
    assert len(list(csv.DictReader(io.StringIO(printed.out)))) == 3  # the table, and that alone
    path = tmp_path / name
    note = "recall@1, validation: the best margin is the largest tried, 1: try 2"
    assert printed.err == f"{path}: {note}\nwrote {path}\n"


def test_a_picture_of_no_known_kind(margins, capsys):
    with pytest.raises(SystemExit):
        compare.main([str(margins), "--plot", "x.jpg"])
    assert "found 'x.jpg'; accepted: a file name in .png, .svg or .pdf" in capsys.readouterr().err


def test_a_reader_that_goes_early(margins):
    with subprocess.Popen(
        [sys.executable, "compare.py", str(margins)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_console_without_plus_minus(margins):
    metrics = json.loads((margins / "margin_1" / "metrics.json").read_text())
    other = Experiment(margins / "other_seed")
    other.start(Params(margin=1.0, seed=1))
    other.save_metrics(metrics)
    (margins / "other_seed" / "params.json").write_text('{"margin": 1.0, "seed": 1}')
    code = f"import sys, compare; compare.main([{str(margins)!r}])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        check=True,
        env={"PYTHONIOENCODING": "ascii"},
    )
    assert b"0.2000 +- 0.0000" in done.stdout


@pytest.mark.parametrize("option", [[], ["--csv"], ["--markdown"], ["--json"]])
def test_a_console_without_a_names_letters(margins, option):
    (margins / "margin_3").rename(margins / "größe-猫")
    done = subprocess.run(
        [sys.executable, "compare.py", str(margins), *option],
        cwd=ROOT,
        capture_output=True,
        check=True,
        env={"PYTHONIOENCODING": "ascii"},
    )
    assert b"gr\\" in done.stdout and b"\\u732b" in done.stdout
