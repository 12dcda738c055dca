"""Views of splits by fake networks: who is compared with whom, by which checkpoint, drawn when."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

import visualize
from src.data.split import Split
from src.embeddings import layouts
from src.errors import UserError
from src.experiment.experiment import Best, Experiment
from src.params.reading import save_params
from src.params.schema import Params
from src.projector.view import Viewer
from src.system.cache import digest, load_arrays, save_arrays


def make_split(labels, places, names="abcdefgh", paths=None):
    """Examples whose embedding is told by their picture: a place on a line, 0 to 255."""
    images = np.array(places, np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2)
    return Split(images, np.array(labels, np.int32), tuple(names), paths)


def embed(split, checkpoint):
    """The place, a little off for each class, and the same number three times."""
    return split.images[:, 0, 0].astype(np.float32).repeat(3, axis=1)


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """Trained for 7 steps, and then the best one is kept; layouts take no time."""
    monkeypatch.setattr(layouts, "available_layouts", lambda: ("tsne", "pca"))
    monkeypatch.setattr(layouts, "tsne", lambda x, **_: x[:, :2])
    experiment = Experiment(tmp_path / "x")
    add_checkpoint(experiment.model_dir, 7)
    (experiment.model_dir / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"\n')
    save_params(experiment.trained_params_path, Params(embedding_size=3))
    return experiment


def add_checkpoint(folder, step):
    folder.mkdir(parents=True, exist_ok=True)
    for ending in ("index", "data-00000-of-00001"):
        (folder / f"model.ckpt-{step}.{ending}").write_text(f"{step} {ending}")


def viewer_of(experiment, embed=embed, **splits):
    return Viewer(experiment, Params(embedding_size=3), splits, embed)


TRAIN = make_split([0, 0, 0, 1, 1, 2], [10, 11, 12, 50, 51, 90])


class TestWhoIsComparedWithWhom:
    def test_seen_classes_with_the_training_images(self, experiment):
        test = make_split([0, 1, 1, 2], [13, 49, 11, 91])
        columns = viewer_of(experiment, train=TRAIN, test=test).views(["test"], 99)["test"].columns
        assert columns["compared_with"].tolist() == ["train"] * 4
        # The five nearest of six: of the third, which lies among the a, three are a; of the last
        # two are a and two b, of which one is the nearest.
        assert columns["predicted_label"].tolist() == ["a", "a", "a", "b"]
        assert columns["prediction"].tolist() == ["right", "wrong", "wrong", "wrong"]
        assert columns["own_class_distance"].tolist() == pytest.approx(
            np.sqrt(3) * np.array([1, 1, 39, 1])
        )

    def test_classes_that_were_not_trained_with_the_others_of_their_split(self, experiment):
        test = make_split([4, 4, 5, 5, 6], [100, 101, 200, 201, 150])
        columns = viewer_of(experiment, train=TRAIN, test=test).views(["test"], 99)["test"].columns
        assert columns["compared_with"].tolist() == ["test"] * 5
        assert columns["own_class_distance"][:4].tolist() == pytest.approx([np.sqrt(3)] * 4)
        assert np.isnan(columns["own_class_distance"][4])
        assert columns["prediction"].tolist()[:2] != [None, None]
        assert columns["prediction"][4] is None
        assert columns["predicted_label"][4] is None
        assert columns["outcome"][4] == "g: no other image of its class"

    def test_some_of_both(self, experiment):
        """`holdout_classes` or not: each class is asked for, not the name of the split."""
        test = make_split([0, 7, 7, 1, 3], [13, 14, 16, 52, 15])
        asked = viewer_of(experiment, train=TRAIN, test=test)
        columns = asked.views(["test"], 99)["test"].columns
        assert columns["compared_with"].tolist() == ["train", "test", "test", "train", "test"]
        assert columns["own_class_distance"][:3].tolist() == pytest.approx(
            np.sqrt(3) * np.array([1, 2, 2])
        )
        # of the 7s at 14 and 16: the nearest of another class is the 3 between them
        assert columns["other_class_distance"][1:3].tolist() == pytest.approx([np.sqrt(3)] * 2)
        assert columns["prediction"][4] is None
        # errors nearby are of the split, and the one without a prediction does not count
        others = (columns["prediction"] == "wrong")[[1, 2, 3]]
        judged = np.array([1, 1 / 3, 1 / 4])  # of the first, at 13: 14, (15), 16, 52
        assert columns["errors_nearby"][0] == pytest.approx(others @ judged / judged.sum())

    def test_training_images_with_each_other_and_themselves_left_out(self, experiment):
        columns = viewer_of(experiment, train=TRAIN).views(["train"], 99)["train"].columns
        assert columns["compared_with"].tolist() == ["train"] * 6
        assert columns["own_class_distance"][:5].tolist() == pytest.approx([np.sqrt(3)] * 5)
        assert columns["prediction"][5] is None

    def test_of_a_sample_neighbours_come_from_the_whole_split(self, experiment):
        rng = np.random.default_rng(0)
        labels = rng.permutation(np.repeat(np.arange(4, 8), 10))
        test = make_split(labels, rng.integers(100, 200, 40))
        asked = viewer_of(experiment, train=TRAIN, test=test)
        whole, some = (asked.views(["test"], number)["test"] for number in (40, 12))
        assert len(some.indices) == 12
        for name in ("prediction", "predicted_label", "own_class_distance"):
            np.testing.assert_array_equal(some.columns[name], whole.columns[name][some.indices])

    def test_images_that_were_trained_are_not_embedded_for_nothing(self, experiment):
        asked = []

        def noting(split, checkpoint):
            asked.append(len(split))
            return embed(split, checkpoint)

        unseen = make_split([4, 4, 5], [1, 2, 3])
        viewer_of(experiment, noting, train=TRAIN, unseen=unseen).views(["unseen"], 99)
        assert asked == [3]


class TestTheConsole:
    def said(self, experiment, capsys, names=("test",), max_points=99, **splits):
        for name, view in viewer_of(experiment, **splits).views(names, max_points).items():
            visualize.write_view(experiment, view, splits[name])
        return capsys.readouterr().out

    def test_who_judged_how_many(self, experiment, capsys):
        test = make_split([0, 7, 7, 1, 3], [13, 14, 16, 9, 15])
        first = self.said(experiment, capsys, train=TRAIN, test=test).splitlines()[0]
        assert first.split("; ")[1:] == [
            "1 of 2 (50.00%) predicted wrong by their nearest training images",
            # Their four others have four classes, of which the nearest counts.
            "2 of 2 (100.00%) predicted wrong by their nearest neighbours in the split (classes "
            "not trained on)",
            "1 without a prediction: no other image of the class",
        ]

    def test_nobody_is_wrong_where_nobody_could_be_right(self, experiment, capsys):
        test = make_split([3, 4, 5], [1, 2, 3])
        out = self.said(experiment, capsys, train=TRAIN, test=test)
        assert "predicted wrong" not in out
        assert "; 3 without a prediction: no other image of the class\n" in out

    def test_a_sample_says_what_it_is_of(self, experiment, capsys):
        labels = np.repeat(np.arange(120), 2)
        names = [f"c{label}" for label in range(120)]
        many = make_split(labels, labels, names)
        out = self.said(experiment, capsys, max_points=24, train=TRAIN, test=many)
        assert "24 points" in out
        assert "a sample of the 240 images: 12 of 120 classes" in out
        few = make_split(labels % 2, labels)
        out = self.said(experiment, capsys, max_points=24, train=TRAIN, test=few)
        assert "a stratified sample of the 240 images" in out

    def test_without_a_layout_the_projector_still_opens(self, experiment, capsys, monkeypatch):
        monkeypatch.setattr(layouts, "available_layouts", lambda: ())
        out = self.said(experiment, capsys, train=TRAIN, test=TRAIN)
        assert "without layouts" in out
        assert (experiment.projector_dir("test") / "metadata.tsv").exists()
        assert not (experiment.projector_dir("test") / "bookmarks.json").exists()


def test_files_stand_in_the_metadata(experiment, capsys):
    paths = np.array(["a/1.png", "a/\x1b[31m2.png", "b/<3>.png"], dtype=object)
    test = make_split([0, 0, 1], [1, 2, 3], paths=paths)
    view = viewer_of(experiment, train=TRAIN, test=test).views(["test"], 2)["test"]
    visualize.write_view(experiment, view, test)
    header, *rows = (experiment.projector_dir("test") / "metadata.tsv").read_text().splitlines()
    assert header.split("\t")[:4] == ["label", "index", "path", "outcome"]
    written = [row.split("\t")[2] for row in rows]
    assert written == [["a/1.png", "a/\\x1b[31m2.png", "b/<3>.png"][i] for i in view.indices]


class TestWhichCheckpoint:
    def replace_best(self, experiment, step):
        """As a training beside does: the files of the best before go."""
        for path in experiment.best_dir.glob("model.ckpt-*"):
            path.unlink()
        add_checkpoint(experiment.best_dir, step)
        experiment.save_best(Best("map_at_r_within", 0.5, step, step, 0))

    def test_one_that_is_replaced_meanwhile_is_read_again(self, experiment, caplog):
        self.replace_best(experiment, 3)
        asked = []

        def replaced(split, checkpoint):
            asked.append((len(split), checkpoint.name))
            if len(asked) == 2:
                self.replace_best(experiment, 5)
                raise UserError(f"{checkpoint}: damaged: its files are gone")
            return embed(split, checkpoint)

        test = make_split([0, 0], [1, 2])
        views = viewer_of(experiment, replaced, train=TRAIN, test=test).views(["test"], 99)
        three, five = "model.ckpt-3", "model.ckpt-5"
        assert asked == [(2, three), (6, three), (2, five), (6, five)]
        assert views["test"].step == 5
        assert f"{three}: a training replaced it; using {experiment.best_dir / five}" in caplog.text

    def test_one_that_is_kept_twice_and_removed_from_one_place(self, experiment):
        """The rotation of the latest ones removes what `best/` still has."""
        self.replace_best(experiment, 7)

        def removed(split, checkpoint):
            if checkpoint.parent == experiment.model_dir:
                for path in experiment.model_dir.glob("model.ckpt-7.*"):
                    path.unlink()
                raise UserError(f"{checkpoint}: missing")
            return embed(split, checkpoint)

        views = viewer_of(experiment, removed, train=TRAIN, test=TRAIN).views(["test"], 99)
        assert views["test"].step == 7

    def test_one_that_is_damaged_is_not_tried_twice(self, experiment):
        asked = []

        def damaged(split, checkpoint):
            asked.append(checkpoint.name)
            raise UserError(f"{checkpoint}: damaged")

        with pytest.raises(UserError, match=r"model.ckpt-7: damaged"):
            viewer_of(experiment, damaged, train=TRAIN, test=TRAIN).views(["test"], 99)
        assert asked == ["model.ckpt-7"]

    def test_all_views_and_pictures_are_of_one(self, experiment):
        self.replace_best(experiment, 3)
        viewer = viewer_of(experiment, train=TRAIN, test=make_split([0, 0], [1, 2]))
        views = viewer.views(["test", "train"], 99)
        self.replace_best(experiment, 5)
        assert {view.step for view in views.values()} == {3}
        page, *_ = viewer.figures(views["test"])
        assert "the checkpoint of step 3" in page.read_text()

    def test_an_evolution_goes_without_one_that_is_removed_meanwhile(self, experiment, caplog):
        add_checkpoint(experiment.model_dir, 5)

        def removed(split, checkpoint):
            if checkpoint.name == "model.ckpt-5":
                for path in experiment.model_dir.glob("model.ckpt-5.*"):
                    path.unlink()
                raise UserError(f"{checkpoint}: missing")
            return embed(split, checkpoint)

        viewer = viewer_of(experiment, removed, train=TRAIN, test=TRAIN)
        view, frames = viewer.evolution("test", 99)
        assert list(frames) == [7]
        assert view.step == 7
        assert "model.ckpt-5: skipped, because a training removed it" in caplog.text


class TestLayouts:
    @pytest.mark.parametrize(
        ("broken", "reason"),
        [
            (lambda x, **_: np.full((len(x), 2), np.nan), "not finite"),
            (lambda x, **_: np.zeros((len(x), 0)), "not finite"),
            (lambda x, **_: 1 / 0, "ZeroDivisionError: division by zero"),
            (lambda x, **_: np.linalg.cholesky(-np.eye(2)), "LinAlgError"),
        ],
    )
    def test_one_that_fails_is_left_out_with_a_line(
        self, experiment, monkeypatch, caplog, broken, reason
    ):
        monkeypatch.setattr(layouts, "tsne", broken)
        view = viewer_of(experiment, train=TRAIN, test=TRAIN).views(["test"], 99)["test"]
        assert list(view.layouts) == ["pca"]
        assert "t-SNE is skipped" in caplog.text
        assert reason in caplog.text
        assert len(caplog.records) == 1

    def test_real_ones_of_one_dimension(self, experiment, monkeypatch, capsys, recwarn):
        """UMAP of one dimension has a test of its own: compiling it takes longer than all else."""
        monkeypatch.undo()
        monkeypatch.setattr(layouts, "available_layouts", lambda: ("tsne", "pca"))
        monkeypatch.setattr(layouts, "EXAGGERATED_ITERATIONS", 20)
        monkeypatch.setattr(layouts, "ITERATIONS", 20)

        def one(split, checkpoint):
            return embed(split, checkpoint)[:, :1]

        viewer = viewer_of(experiment, one, train=TRAIN, test=TRAIN)
        view = viewer.views(["test"], 99)["test"]
        assert list(view.layouts) == ["tsne", "pca"]
        visualize.write_view(experiment, view, TRAIN)
        text = (experiment.projector_dir("test") / "bookmarks.json").read_text()
        json.loads(text, parse_constant=lambda constant: pytest.fail(constant))
        viewer.figures(view)
        assert [str(warning.message) for warning in recwarn] == []

    @pytest.mark.parametrize(
        ("places", "number", "scale"),
        [
            *(([9] * 6, 2, 1), ([9] * 6, 3, 1e36), ([9] * 6, 6, 1e30)),
            *(([1] * 3 + [200] * 3, 2, 1e36), ([1] * 3 + [200] * 3, 6, 1e36)),
        ],
    )
    def test_few_points_equal_ones_and_large_numbers(
        self, experiment, monkeypatch, recwarn, places, number, scale
    ):
        monkeypatch.undo()
        monkeypatch.setattr(layouts, "EXAGGERATED_ITERATIONS", 20)
        monkeypatch.setattr(layouts, "ITERATIONS", 20)
        monkeypatch.setattr(layouts, "available_layouts", lambda: ("tsne", "pca"))
        test = make_split([0, 1, 0, 1, 0, 1][:number], places[:number])

        def scaled(split, checkpoint):
            return embed(split, checkpoint)[:, :1] * np.float32(scale)

        viewer = viewer_of(experiment, scaled, train=TRAIN, test=test)
        view = viewer.views(["test"], 99)["test"]
        visualize.write_view(experiment, view, test)
        assert viewer.figures(view)[0].exists()
        assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("what", ["embeddings", "tsne", "pca", "neighbors"])
@pytest.mark.parametrize(
    "change",
    [
        lambda array: array[:-1],
        lambda array: array[:, :1],
        lambda array: array.astype(str),
        lambda array: array.ravel()[0],
        lambda array: np.full_like(array, 1e6, shape=(4, 2, 2)),
    ],
    ids=["fewer rows", "fewer columns", "text", "a number", "another rank"],
)
def test_a_cache_that_another_program_has_made_is_not_used(experiment, what, change):
    test = make_split([0, 1, 0, 1], [1, 2, 3, 4])

    def view():
        return viewer_of(experiment, train=TRAIN, test=test).views(["test"], 99)["test"]

    expected = view()
    path = experiment.cache_dir / f"test_step_7_{what}.npz"
    kept = load_arrays(path)
    save_arrays(path, {**kept, "array": change(kept["array"])})
    again = view()
    np.testing.assert_array_equal(again.embeddings, expected.embeddings)
    for layout, points in expected.layouts.items():
        np.testing.assert_array_equal(again.layouts[layout], points)
    assert {name: list(map(str, column)) for name, column in again.columns.items()} == {
        name: list(map(str, column)) for name, column in expected.columns.items()
    }


def test_a_class_that_there_is_not_is_not_taken_from_the_cache(experiment):
    def view():
        test = make_split([0, 1, 0, 1], [1, 2, 3, 4])
        return viewer_of(experiment, train=TRAIN, test=test).views(["test"], 99)["test"]

    expected = view()
    path = experiment.cache_dir / "test_step_7_neighbors.npz"
    for label in (8, -2, 0.5, np.nan):
        kept = load_arrays(path)
        kept["array"][0, 0] = label
        save_arrays(path, kept)
        assert view().columns["outcome"].tolist() == expected.columns["outcome"].tolist()


class TestFigures:
    @pytest.fixture
    def viewer(self, experiment, monkeypatch):
        viewer = viewer_of(experiment, train=TRAIN, test=make_split([0, 1, 0, 1], [1, 2, 3, 4]))
        viewer.drawn = []

        def write(directory, data):
            viewer.drawn.append(data)
            directory.mkdir(parents=True, exist_ok=True)
            for name in ("index.html", "pca.svg"):
                (directory / name).write_text(name)
            return [directory / "index.html", directory / "pca.svg"]

        monkeypatch.setattr("src.projector.figure_cache.write_figures", write)
        return viewer

    @pytest.fixture(autouse=True)
    def _may_note(self, monkeypatch):
        monkeypatch.setattr(Viewer, "__setattr__", object.__setattr__)

    def test_nothing_changed_nothing_is_drawn(self, viewer):
        view = viewer.views(["test"], 99)["test"]
        first = viewer.figures(view)
        assert viewer.figures(view) == first
        assert [path.name for path in first] == ["index.html", "pca.svg"]
        assert len(viewer.drawn) == 1

    @pytest.mark.parametrize("name", ["index.html", "pca.svg"])
    @pytest.mark.parametrize(
        "change",
        [
            lambda path: path.write_text(""),
            lambda path: path.write_text(path.read_text()[::-1]),
            lambda path: path.unlink(),
            lambda path: (path.unlink(), path.mkdir()),
            lambda path: (path.unlink(), os.mkfifo(path)),
        ],
        ids=["emptied", "changed", "removed", "a folder", "a pipe"],
    )
    def test_a_file_that_is_no_longer_what_was_drawn_is_drawn_anew(
        self, viewer, monkeypatch, name, change
    ):
        view = viewer.views(["test"], 99)["test"]
        [changed] = [path for path in viewer.figures(view) if path.name == name]
        change(changed)
        if not changed.is_file() and changed.exists():  # drawing replaces what it can
            changed.rmdir() if changed.is_dir() else changed.rename(changed.with_name("aside"))
        viewer.figures(view)
        assert len(viewer.drawn) == 2
        assert changed.read_text() == name
        viewer.figures(view)
        assert len(viewer.drawn) == 2

    def test_a_list_that_leads_out_of_the_folder_is_made_anew(self, viewer, experiment):
        view = viewer.views(["test"], 99)["test"]
        expected = viewer.figures(view)
        secret = experiment.model_dir.parent / "secret"
        secret.write_text("secret")
        [path] = experiment.cache_dir.glob("*_figures.npz")
        key = load_arrays(path)["key"]
        for name in (str(secret), "../../secret"):
            array = np.array([[name, digest([b"secret"])]])
            save_arrays(path, {"array": array, "key": key})
            assert viewer.figures(view) == expected

    def test_another_name_of_a_class_or_a_file_is_drawn(self, viewer, experiment):
        view = viewer.views(["test"], 99)["test"]
        viewer.figures(view)
        renamed = make_split([0, 1, 0, 1], [1, 2, 3, 4], names="zbcd")
        paths = np.array([*"wxyz"], dtype=object)
        named = make_split([0, 1, 0, 1], [1, 2, 3, 4], names="zbcd", paths=paths)
        for number, test in enumerate((renamed, named), start=2):
            other = viewer_of(experiment, train=TRAIN, test=test)
            other.figures(other.views(["test"], 99)["test"])
            assert len(viewer.drawn) == number

    def test_a_damaged_untrained_network_costs_one_picture(self, viewer, experiment, caplog):
        add_checkpoint(experiment.untrained_checkpoint.parent, 0)

        def damaged(split, checkpoint):
            if checkpoint.name == "model.ckpt-0":
                raise UserError(f"{checkpoint}: damaged")
            return embed(split, checkpoint)

        other = viewer_of(experiment, damaged, **viewer.splits)
        other.figures(other.views(["test"], 99)["test"])
        assert viewer.drawn[-1].untrained is None
        assert "the figure before_after is skipped: " in caplog.text


def test_a_warning_of_a_library_does_not_reach_the_console(
    experiment, monkeypatch, capsys, recwarn
):
    splits = {"train": TRAIN, "test": make_split([0, 1, 0], [1, 2, 3])}

    def warn(x, **_):
        np.float32(3e38) * np.ones(2, np.float32) * 10
        np.zeros(2) / np.zeros(2)
        return x[:, :2]

    monkeypatch.setattr(layouts, "tsne", warn)
    monkeypatch.setattr("visualize._load", lambda *_, **__: splits)
    monkeypatch.setattr("visualize._embed", lambda *_, **__: embed)
    monkeypatch.setattr(Viewer, "figures", lambda *_: [SimpleNamespace()])
    visualize.main(["--model_dir", str(experiment.model_dir)])
    assert capsys.readouterr().err == ""
    assert [str(warning.message) for warning in recwarn] == []
