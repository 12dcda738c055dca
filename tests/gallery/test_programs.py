"""gallery.py and query.py as a user calls them, with a network that is a function."""

import io
import json
import sys

import numpy as np
import pytest
from gallery_experiment import THRESHOLD, quadrant, write_experiment
from PIL import Image

import gallery
import query
import serve
from src.errors import UserError
from src.gallery import Gallery
from src.gallery.sqlite import SQLite
from src.gallery.store import open_store


@pytest.fixture
def model_dir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_experiment(tmp_path / "x", monkeypatch).model_dir


@pytest.fixture
def call(model_dir, capsys):
    """`call(program, *arguments)`: what it prints."""

    def call(program, *arguments):
        given = [str(argument) for argument in arguments]
        if given[:1] != ["copy"]:
            given += ["--model_dir", str(model_dir)]
        program.main(given)
        return capsys.readouterr().out

    return call


def picture(path, position, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(quadrant(position, seed=seed)[:, :, 0]).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Pictures of two classes."""
    for position, name in enumerate(("left", "right")):
        for seed in range(3):
            picture(tmp_path / "known" / name / f"{seed}.png", position, seed)
    return tmp_path / "known"


@pytest.fixture
def built(call, folder):
    call(gallery, "build", "--pictures", folder)


def test_built_from_a_folder(call, folder):
    printed = call(gallery, "build", "--pictures", folder)
    assert "6 pictures of 2 classes, by step 7" in printed
    assert "unknown beyond 0.5" in printed and "unseen classes" in printed
    assert "2.00% of strangers are let in, and 97.00% of known pictures" in printed
    assert "  3  left\n  3  right\n" in call(gallery, "list")


def test_a_gallery_that_is_a_link_out_of_the_experiment_is_refused(
    call, folder, model_dir, tmp_path
):
    elsewhere = tmp_path / "elsewhere.sqlite"
    (model_dir / "gallery.sqlite").symlink_to(elsewhere)
    for program, arguments in (
        (gallery, ["build", "--pictures", folder]),
        (gallery, ["list"]),
        (query, [folder]),
    ):
        with pytest.raises(UserError, match="gallery.sqlite: a symbolic link; accepted: a regular"):
            call(program, *arguments)
    assert not elsewhere.exists()
    (model_dir / "gallery.sqlite.latest").symlink_to(elsewhere)  # of the user
    (model_dir / "gallery.sqlite.backups").mkdir()
    call(gallery, "build", "--pictures", folder, "--gallery", model_dir / "gallery.sqlite")


def test_built_from_a_csv_file(call, folder):
    (folder / "list.csv").write_text("path,label\nleft/0.png,one\nright/1.png,two\n")
    assert "2 pictures of 2 classes" in call(gallery, "build", "--csv", folder / "list.csv")


@pytest.mark.parametrize("split, size", [([], 200), (["--split", "test"], 60)])
def test_built_from_a_split_whose_images_are_found_again(call, data_dir, model_dir, split, size):
    call(gallery, "build", "--data_dir", data_dir, *split)
    with Gallery(model_dir) as opened:
        pictures = list(opened.store.iterate())
        assert len(pictures) == size
        (answer,) = opened.query(pictures[3].image[None])
    assert (answer.neighbours[0].id, answer.neighbours[0].distance) == (pictures[3].id, 0.0)
    assert pictures[3].source == f"mnist {'test' if split else 'train'} 3"


def test_a_bad_picture_and_nothing_is_built(call, built, folder):
    (folder / "left" / "bad.png").write_text("no picture")
    with pytest.raises(UserError, match="bad.png: .*\n1 bad picture; nothing was stored"):
        call(gallery, "build", "--pictures", folder)
    assert "  3  left\n" in call(gallery, "list")


def test_added_listed_shown_and_removed(call, built, tmp_path):
    new = [picture(tmp_path / f"{i}.png", 3, i) for i in range(3)]
    assert "heart: 3 pictures added: #7 to 9" in call(gallery, "add", "heart", *new)
    again = call(gallery, "add", "heart", new[0])
    assert "0 pictures added" in again and f"{new[0]}: already there, #7" in again
    assert f"{new[1]}: the same picture is also in heart" in call(gallery, "add", "star", new[1])
    lines = [json.loads(line) for line in call(gallery, "list", "--json").splitlines()]
    assert lines == [
        {"class": "heart", "pictures": 3},
        {"class": "left", "pictures": 3},
        {"class": "right", "pictures": 3},
        {"class": "star", "pictures": 1},
    ]
    assert "wrote heart.png" in call(gallery, "show", "heart")
    assert Image.open(tmp_path / "heart.png").size[0] > 300
    assert "removed picture 10 of star" in call(gallery, "remove", "--picture", 10)
    assert "removed heart: 3 pictures" in call(gallery, "remove", "heart")
    assert "heart" not in call(gallery, "list")


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["remove", "lft"], "no class 'lft'; accepted: left, right; did you mean 'left'?"),
        (["remove", "--picture", 99], "no picture 99; accepted: an id"),
        (["show", "none"], "no class 'none'"),
        (["add", "left", "missing.png"], "missing.png: .*\n1 of 1 picture; none was added"),
        (["add", "", "known/left/0.png"], "class name: found no visible character"),
        (["build", "--pictures", "none"], "none: no folder; accepted: a folder that has a folder"),
        (["build", "--pictures", "known/left"], "left: no picture; accepted: a folder that has"),
        (["build", "--csv", "none.csv"], "none.csv: no file; accepted: a CSV file"),
    ],
)
def test_refused(call, built, arguments, text):
    with pytest.raises(UserError, match=text):
        call(gallery, *arguments)
    assert "  3  left\n  3  right\n" in call(gallery, "list")


def test_names_are_printed_as_they_are_kept(call, built):
    given = "  he\nart\x1b[31m "
    kept = "he art\\x1b[31m"
    assert call(gallery, "add", given, "known/left/0.png").startswith(f"{kept}: 1 picture added")
    assert "wrote he_art_x1b_31m.png" in call(gallery, "show", given)
    assert call(gallery, "remove", given) == f"removed {kept}: 1 picture\n"


def test_shown_in_a_new_folder_under_a_long_name(call, built, tmp_path):
    call(gallery, "show", "left", "--save", "new/left.png")
    assert Image.open(tmp_path / "new" / "left.png").format == "PNG"
    name = 200 * "\u732b"
    call(gallery, "add", name, "known/left/0.png")
    assert (tmp_path / call(gallery, "show", name).split()[1]).is_file()


def test_checked(call, built, tmp_path, model_dir):
    assert "every picture is whole" in call(gallery, "check")
    call(gallery, "add", "other", tmp_path / "known" / "left" / "0.png")
    with pytest.raises(UserError, match=r"nearly the same: #\d of left .* and #\d of other"):
        call(gallery, "check")


def test_what_another_process_removes_meanwhile_is_left_out(call, built, tmp_path, monkeypatch):
    call(gallery, "add", "other", tmp_path / "known" / "left" / "0.png")
    pictures = SQLite.pictures

    def without_others(self, ids):
        return [one for one in pictures(self, ids) if one.class_name != "other"]

    monkeypatch.setattr(SQLite, "pictures", without_others)
    call(gallery, "check")
    call(query, "known/left/0.png", "--save", "nearest.png")
    assert (tmp_path / "nearest.png").is_file()


def test_rebuilt_after_training_again(call, built, model_dir, monkeypatch):
    write_experiment(model_dir, monkeypatch, b"trained again")
    with pytest.raises(UserError, match="whose weights are not those of"):
        call(query, "known/left/0.png")
    with open_store(model_dir / "gallery.sqlite") as store:
        times = [picture.time for picture in store.iterate()]
        monkeypatch.setattr("src.gallery.building.utc_now", lambda: "2030-01-01T00:00:00Z")
        assert "6 pictures of 2 classes" in call(gallery, "rebuild")
        assert [picture.time for picture in store.iterate()] == times
    assert call(query, "known/left/0.png").startswith("known/left/0.png: left (distance 0")


def test_copied(call, built, model_dir, tmp_path):
    copy = tmp_path / "copy.sqlite"
    assert "6 pictures" in call(gallery, "copy", model_dir / "gallery.sqlite", copy)
    with pytest.raises(UserError, match="there is a gallery; accepted: none, or --overwrite"):
        call(gallery, "copy", model_dir / "gallery.sqlite", copy)
    call(gallery, "copy", model_dir / "gallery.sqlite", copy, "--overwrite")
    call(gallery, "remove", "left")
    assert "  3  left\n" in call(gallery, "list", "--gallery", copy)


def test_queries(call, built, tmp_path):
    known, unknown = picture(tmp_path / "a.png", 0, 9), picture(tmp_path / "b.png", 3, 9)
    printed = call(query, known, unknown, "--neighbours", 2).splitlines()
    assert printed[0].startswith(f"{known}: left (distance 0.")
    assert printed[0].endswith("within the threshold 0.5, which lets in 1 of 100 strangers)")
    assert printed[3].startswith(f"{unknown}: unknown (distance 1.")
    assert "beyond the threshold 0.5" in printed[3]
    assert len(printed) == 6 and " left  #" in printed[1]


def test_answers_as_json(call, built, tmp_path):
    paths = [picture(tmp_path / "q" / f"{i}.png", 3 * (i % 2), i) for i in range(4)]
    found = [json.loads(line) for line in call(query, tmp_path / "q", "--json").splitlines()]
    assert [answer["picture"] for answer in found] == [str(path) for path in paths]
    assert [answer["class"] for answer in found] == ["left", None, "left", None]
    for answer in found:
        assert list(answer) == [
            *("picture", "class", "nearest", "distance", "threshold", "far", "neighbours")
        ]
        assert (answer["threshold"], answer["far"]) == (THRESHOLD, 0.01)
        assert answer["distance"] == answer["neighbours"][0]["distance"]
        assert list(answer["neighbours"][0]) == ["id", "class", "source", "distance"]


def test_a_bad_picture_does_not_hide_the_other_answers(call, built, tmp_path, capsys):
    (tmp_path / "bad.png").write_text("no picture")
    with pytest.raises(UserError, match="1 of 3 pictures could not be read"):
        call(query, "known/left/0.png", "bad.png", "known/right/0.png", "--json")
    out, err = capsys.readouterr()
    assert [json.loads(line)["class"] for line in out.splitlines()] == ["left", "right"]
    assert err.startswith("error: bad.png: ") and err.count("\n") == 1


def test_unknown_as_an_exit_code(call, built, tmp_path):
    picture(tmp_path / "b.png", 3)
    call(query, "known/left/0.png", "--fail_on_unknown")
    with pytest.raises(SystemExit) as caught:
        call(query, "known/left/0.png", "b.png", "--fail_on_unknown")
    assert caught.value.code == 4


def test_a_picture_from_standard_input(call, built, monkeypatch, tmp_path):
    content = (tmp_path / "known" / "right" / "0.png").read_bytes()
    monkeypatch.setattr("src.gallery.sources._standard_input", lambda: io.BytesIO(content))
    assert call(query, "-").startswith("standard input: right (distance 0")


def test_nothing_on_standard_input(call, built, monkeypatch, capsys):
    monkeypatch.setattr("src.gallery.sources._standard_input", io.BytesIO)
    with pytest.raises(UserError, match="1 of 1 picture could not be read"):
        call(query, "-")
    assert "standard input: an empty file; accepted: a picture" in capsys.readouterr().err


def test_drawn(call, built, tmp_path, capsys):
    call(query, "known", "--save", "strip.png")
    drawn = np.asarray(Image.open(tmp_path / "strip.png").convert("RGB"))
    assert drawn.shape[0] > 6 * 100
    assert (drawn == (0x3F, 0x90, 0xDA)).all(axis=2).any()  # frames of near pictures


def test_verified(call, built):
    same = call(query, "--verify", "known/left/0.png", "known/left/1.png")
    assert ": the same class (distance 0." in same and "1 of 100 pairs" in same
    different = call(query, "--verify", "known/left/0.png", "known/right/1.png", "--json")
    assert json.loads(different)["same"] is False
    with pytest.raises(
        UserError, match=r"found 0.0001 \(too few negative pairs\); accepted: 0.1, 0.01"
    ):
        call(query, "--verify", "known/left/0.png", "known/left/1.png", "--far", "1e-4")
    # The first two pictures of a folder would be compared, and the other argument not.
    for pair in (("known/left", "known/right/1.png"), ("known/left/0.png", "list.CSV")):
        with pytest.raises(UserError, match=r"--verify: found (known/left|list.CSV), which may be"):
            call(query, "--verify", *pair)


@pytest.mark.parametrize(
    "arguments, text",
    [
        ([], "found no picture"),
        (["a.png", "--verify", "b.png", "c.png"], "found pictures and --verify"),
        (["a.png", "--far", "2"], "found 2; accepted: a rate"),
        (["a.png", "--save", "a.jpg"], "found a.jpg; accepted: a name that ends in .png"),
        (["--verify", "b.png", "c.png", "--save", "a.png"], "--verify: found --save"),
        (["a.png", "--neighbours", "0"], "found 0; accepted: a whole number from 1"),
    ],
)
def test_wrong_command_lines(call, built, capsys, arguments, text):
    with pytest.raises(SystemExit) as caught:
        call(query, *arguments)
    assert caught.value.code == 2
    assert text in capsys.readouterr().err


def test_a_rate_that_was_not_measured_is_refused_before_the_work(call, built):
    with pytest.raises(UserError, match="needs 1000 strangers.*accepted: 0.1, 0.01"):
        call(query, "missing.png", "--far", "1e-3")


@pytest.mark.parametrize("program", [gallery, query])
def test_help_has_examples(program, capsys):
    with pytest.raises(SystemExit):
        program.main(["--help"])
    assert f"python {program.__name__}.py" in capsys.readouterr().out
    assert sys.modules[program.__name__].EXAMPLES


def test_a_copy_is_of_one_build(call, built, model_dir, tmp_path, monkeypatch):
    copy, replace = tmp_path / "copy.sqlite", SQLite.replace

    def replace_later(self, *arguments):
        monkeypatch.setattr(SQLite, "replace", replace)
        write_experiment(model_dir, monkeypatch, b"trained again")
        call(gallery, "rebuild")
        return replace(self, *arguments)

    monkeypatch.setattr(SQLite, "replace", replace_later)
    with pytest.raises(UserError, match="gallery.sqlite: built anew while it was copied"):
        call(gallery, "copy", model_dir / "gallery.sqlite", copy)
    with open_store(copy) as store:
        assert store.identity() is None and store.classes() == []


def test_thresholds_of_other_weights_are_refused(call, built, model_dir):
    """As a training that goes on leaves them: it keeps the metrics of the earlier one."""
    path = model_dir / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "evaluated_step": 3}))
    with pytest.raises(UserError, match=r"evaluated_step: found 3, but the checkpoint is of"):
        call(gallery, "rebuild")


def test_nothing_is_drawn_if_no_picture_can_be_read(call, built, tmp_path):
    (tmp_path / "bad.txt").write_text("no picture")
    with pytest.raises(UserError, match="1 of 1 picture could not be read"):
        call(query, "bad.txt", "--save", "nearest.png")
    assert not (tmp_path / "nearest.png").exists()


@pytest.mark.parametrize("name", ["token", "folder/token"])
def test_a_token_behind_a_link_to_nothing(model_dir, tmp_path, name):
    for link in ("token", "folder"):
        (tmp_path / link).symlink_to("/nowhere/at/all")
    arguments = ["--model_dir", str(model_dir), "--host", "0.0.0.0", "--token_file", name]
    with pytest.raises(UserError, match=f"{name}: a link to nothing"):
        serve.main(arguments)


def test_which_hosts_are_served():
    assert serve.served_hosts("127.0.0.1", []) == ("127.0.0.1", "localhost", "[::1]", "127.0.0.1")
    assert serve.served_hosts("127.0.0.2", ["photos.example"])[-2:] == (
        "127.0.0.2",
        "photos.example",
    )
    assert serve.served_hosts("192.168.1.5", []) == ()
    assert serve.served_hosts("192.168.1.5", ["a", "b"]) == ("a", "b")


def test_many_pictures_are_drawn_in_part_and_it_says_so(model_dir, built, tmp_path, capsys):
    for number in range(21):
        picture(tmp_path / "asked" / f"{number}.png", 0, number)
    query.main(["asked", "--save", "nearest.png", "--model_dir", str(model_dir)])
    assert "wrote nearest.png (the first 20 of 21 pictures)" in capsys.readouterr().err


def test_only_an_index_is_approximate(call, built):
    with pytest.raises(UserError, match="--approximate: .*has no index"):
        call(query, "known/left/0.png", "--approximate")
