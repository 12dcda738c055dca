"""What a run leaves: moved away so that nothing of it counts, wherever that breaks off."""

import errno
import itertools
import os
import shutil
import subprocess
from fnmatch import fnmatchcase

import pytest
from experiment_files import FOREIGN, GENERATED, files, write_checkpoint

from src.comparing.results import read_result
from src.errors import UserError
from src.experiment.damaged import set_aside
from src.experiment.experiment import Best, Experiment
from src.experiment.run_files import FILES, FOLDERS, NAMES, check_own, discard
from src.experiment.status import Status
from src.params.reading import save_params
from src.params.schema import Params

MUTATIONS = ("mkdir", "rename", "replace", "unlink", "remove", "rmdir", "link", "symlink", "open")


@pytest.fixture
def experiment(tmp_path):
    """A finished training, beside files that are not its own."""
    experiment = Experiment(tmp_path / "experiment")
    for name in GENERATED + FOREIGN:
        path = experiment.model_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    save_params(experiment.params_path, Params())
    save_params(experiment.trained_params_path, Params())
    write_checkpoint(experiment, 782)
    experiment.save_best(Best("loss", 0.1, 782, 782, 0))
    experiment.save_metrics(
        {"status": "finished", "global_step": 782, "seconds": 99.0, "splits": {"test": {}}}
    )
    experiment.save_progress({"step": 9, "max_steps": 9, "loss": 1.0, "fraction_positive": 0.5})
    assert experiment.is_finished(Params()) and experiment.progress() is not None
    return experiment


def assert_nothing_counts(experiment):
    """Neither for a training nor for those who look, before and after the next training begins."""
    assert experiment.latest_step() is None and experiment.latest_checkpoint is None
    assert experiment.best() is None and experiment.evaluated_step() is None
    assert experiment.metrics() is None and experiment.progress() is None
    assert experiment.checkpoints() == {} and not experiment.has_checkpoints()
    assert not experiment.is_finished(Params()) and not experiment.stopped_early(Params())
    assert read_result(experiment.model_dir).status == Status.NOT_TRAINED
    experiment.check_resumable(Params(margin=9.0))
    with pytest.raises(UserError, match="no checkpoint found"):
        experiment.trained_params()


def begin_next(experiment):
    """What `train.py` does before it asks TensorFlow."""
    experiment.check_own()
    assert experiment.set_damaged_aside() == []
    experiment.begin()
    assert files(experiment.model_dir) == sorted(FOREIGN)
    assert not [
        name
        for name in os.listdir(experiment.model_dir)
        if name.startswith(".") and (name != ".gitignore")
    ]
    assert experiment.start(Params()) == 0.0


def killed_at(number, function):
    """Run `function` in a process that is killed before its change no. `number` of the disk.

    Returns:
        Whether it came so far.
    """
    pid = os.fork()
    if pid:
        return os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == 9
    count = 0

    def counted(change):
        def changed(*args, **kwargs):
            nonlocal count
            reads = change is os.open and not args[1] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)
            count += not reads
            if count > number:
                os._exit(9)
            return original[change](*args, **kwargs)

        return changed

    original = {getattr(os, name): getattr(os, name) for name in MUTATIONS}
    try:
        for name in MUTATIONS:
            setattr(os, name, counted(getattr(os, name)))
        function()
    except BaseException:
        os._exit(1)
    os._exit(0)


@pytest.mark.system
def test_killed_at_every_change_of_the_disk(experiment, tmp_path):
    """At each change until all is moved, at each fifth while files are removed: these are alike.

    What comes next is in turn a training, and `overwrite`, which is killed again before it ends.
    """
    whole, number, kills = tmp_path / "whole", 0, []
    shutil.copytree(experiment.model_dir, whole)
    before = files(whole)
    later = itertools.cycle((0, 2, 5, 11))
    while killed_at(number, experiment.overwrite):
        kills.append(number)
        is_moved = any(experiment.model_dir.glob(".removed-*"))
        if number == 0:
            assert files(experiment.model_dir) == before and experiment.is_finished(Params())
        else:
            assert_nothing_counts(experiment)
            if len(kills) % 2:
                killed_at(next(later), experiment.overwrite)
                assert_nothing_counts(experiment)
                experiment.overwrite()
            begin_next(experiment)
        shutil.rmtree(experiment.model_dir)
        shutil.copytree(whole, experiment.model_dir)
        number += 5 if is_moved else 1
    assert len(kills) > 25 and number > 2 * len(GENERATED)
    assert_nothing_counts(experiment)
    begin_next(experiment)


def test_every_name_of_a_run_is_among_those_of_the_tests():
    names = {name.split("/")[0] for name in GENERATED} | {"damaged"}
    own = [pattern for pattern in NAMES if ".tmp" not in pattern and "_temp" not in pattern]
    assert [one for one in own if not any(fnmatchcase(name, one) for name in names)] == []


TOP_LEVEL = sorted({name.split("/")[0] for name in GENERATED} - {"trained_params.json"})


@pytest.mark.parametrize(
    ("name", "number"),
    [
        *((name, errno.EPERM) for name in TOP_LEVEL),
        *(("best", number) for number in (errno.EBUSY, errno.EACCES, errno.EXDEV)),
    ],
)
def test_what_cannot_be_moved(experiment, monkeypatch, name, number):
    rename = os.rename

    def refuse(source, target):
        if os.path.basename(source) == name:
            raise OSError(number, os.strerror(number), str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    for start in (experiment.overwrite, experiment.begin):  # the next training says it, too
        with pytest.raises(UserError) as caught:
            start()
        assert str(caught.value) == (
            f"{experiment.model_dir}/{name}: cannot be moved ({os.strerror(number)}); "
            "accepted: nothing of this name; to continue, remove it; until then, files of earlier "
            "trainings are ignored"
        )
        assert (experiment.model_dir / name).exists()
        assert_nothing_counts(experiment)
    monkeypatch.undo()
    begin_next(experiment)


def test_what_cannot_be_removed_is_out_of_the_way(experiment, monkeypatch):
    unlink = os.unlink

    def refuse(path, **kwargs):
        if os.path.basename(path) == "best.json":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
        unlink(path, **kwargs)

    monkeypatch.setattr(os, "unlink", refuse)
    (line,) = experiment.overwrite()
    assert line.startswith(f"{experiment.model_dir}/.removed-")
    assert line.endswith(": cannot be removed; it was part of an earlier training")
    assert_nothing_counts(experiment)
    assert len(experiment.overwrite()) == 1  # said again, as long as it takes room
    monkeypatch.undo()
    begin_next(experiment)


def test_an_immutable_file(experiment):
    path = experiment.model_dir / "checkpoint"
    if shutil.which("chattr") is None or subprocess.run(["chattr", "+i", path]).returncode:
        pytest.skip("files cannot be made immutable here")
    try:
        for start in (experiment.overwrite, experiment.begin):
            with pytest.raises(UserError, match="/checkpoint: cannot be moved"):
                start()
            assert_nothing_counts(experiment)
    finally:
        subprocess.run(["chattr", "-i", path], check=True)
    begin_next(experiment)


@pytest.mark.usefixtures("obeys_permissions")
def test_a_folder_without_permissions(experiment):
    experiment.best_dir.chmod(0)
    with pytest.raises(UserError, match="/best: cannot be moved .Permission denied"):
        experiment.overwrite()
    experiment.best_dir.chmod(0o700)
    assert_nothing_counts(experiment)
    begin_next(experiment)


def test_checkpoints_deleted_by_hand(experiment):
    """`best/` and the metrics are of a training that the next one has nothing to do with."""
    for path in experiment.model_dir.glob("model.ckpt*-*"):
        path.unlink()
    (experiment.model_dir / "checkpoint").unlink()
    assert experiment.best() is not None and experiment.latest_step() is None
    (line,) = experiment.begin()
    assert "the earlier training has no checkpoint left" in line
    assert experiment.best() is None and files(experiment.model_dir) == sorted(FOREIGN)
    assert experiment.begin() == []


def test_before_the_first_training_nothing_is_removed(tmp_path):
    for name in ("params.json", "figures/mine.png", "best/notes.txt", "export/table.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    before = files(tmp_path)
    assert Experiment(tmp_path).begin() == [] and files(tmp_path) == before


def test_what_was_set_aside_stays_where_a_training_begins(experiment):
    set_aside(experiment.model_dir / "model.ckpt-782.index")
    experiment.begin()
    kept = "damaged/model.ckpt-782.index"
    assert files(experiment.model_dir) == sorted([*FOREIGN, kept])
    experiment.overwrite()
    assert files(experiment.model_dir) == sorted(FOREIGN)


def test_nothing_is_made_where_there_is_nothing_to_discard(tmp_path):
    assert discard(tmp_path) == [] and os.listdir(tmp_path) == []
    assert discard(tmp_path / "absent") == [] and not (tmp_path / "absent").exists()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_something_else_in_place_of_the_folder(experiment, tmp_path, kind):
    folder = experiment.model_dir / ".discarding"
    outside = tmp_path / "outside"
    outside.mkdir()
    folder.symlink_to(outside) if kind == "link" else folder.write_text("")
    with pytest.raises(
        UserError, match=r"\.discarding: not a folder; accepted: nothing of this name"
    ):
        experiment.overwrite()
    assert os.listdir(outside) == [] and experiment.best_dir.exists()


def test_links_in_place_of_what_is_removed(experiment, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    (experiment.model_dir / ".removed-1").symlink_to(outside)
    shutil.rmtree(experiment.best_dir)
    experiment.best_dir.symlink_to(outside)
    experiment.overwrite()
    assert os.listdir(outside) == ["precious"] and not os.path.lexists(experiment.best_dir)


def test_a_read_only_directory(experiment, monkeypatch):
    def refuse(path, mode=0o777):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(UserError, match="experiment: Read-only file system; accepted: a path"):
        experiment.overwrite()
    assert experiment.is_finished(Params())


WRONG = {
    "a named pipe": lambda path, before: os.mkfifo(path),
    "a symbolic link": lambda path, before: path.symlink_to(before),
    "a device": lambda path, before: os.mknod(path, 0o20666, os.makedev(1, 5)),
}
OTHERS = {
    "a file": lambda path, before: path.touch(),
    "a directory": lambda path, before: path.mkdir(),
}
FOLDERS_OF_A_RUN = {name.split("/")[0] for name in GENERATED if "/" in name}
PLACES = [
    *((name, kind) for name in [*GENERATED, *sorted(FOLDERS_OF_A_RUN)] for kind in WRONG),
    *((name, "a file") for name in sorted(FOLDERS_OF_A_RUN)),
    *((name, "a directory") for name in GENERATED if "/" not in name),
]


@pytest.mark.parametrize(("name", "kind"), PLACES)
def test_what_a_run_would_not_have_made_is_refused(tmp_path, name, kind):
    experiment = Experiment(tmp_path / "experiment")
    place, before = experiment.model_dir / name, tmp_path / "before"
    place.parent.mkdir(parents=True)
    if name in FOLDERS_OF_A_RUN:
        before.mkdir()
    before.touch()
    try:
        {**WRONG, **OTHERS}[kind](place, before)
    except PermissionError:
        pytest.skip("only root makes devices")
    accepted = "a folder" if name in FOLDERS_OF_A_RUN else "a regular file"
    with pytest.raises(UserError) as caught:
        experiment.check_own()
    assert str(caught.value) == (
        f"{place}: {kind}; accepted: {accepted}, or nothing; to continue, remove it"
    )
    experiment.overwrite()
    assert os.listdir(experiment.model_dir) == [] and before.exists()


def test_a_name_is_escaped(tmp_path):
    (tmp_path / "best").mkdir()
    os.mkfifo(tmp_path / "best" / "\x1b[2J\u202e")
    with pytest.raises(UserError) as caught:
        check_own(tmp_path)
    assert str(caught.value).isprintable() and "\\x1b[2J\\u202e: a named pipe" in str(caught.value)


def test_an_experiment_may_be_a_link_itself(experiment, tmp_path):
    (tmp_path / "link").symlink_to(experiment.model_dir)
    link = Experiment(tmp_path / "link")
    link.check_own()
    assert link.is_finished(Params())
    link.overwrite()
    assert files(experiment.model_dir) == sorted(FOREIGN)


def test_other_names_are_not_looked_at(experiment, tmp_path):
    (experiment.model_dir / "notes.txt").symlink_to(tmp_path)
    os.mkfifo(experiment.model_dir / "notes" / "pipe")
    experiment.check_own()


def test_a_directory_that_cannot_be_read(experiment, monkeypatch):
    def refuse(path):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "listdir", refuse)
    for use in (experiment.check_own, experiment.overwrite):
        with pytest.raises(UserError, match="experiment: Permission denied; accepted: a directory"):
            use()


def test_a_folder_that_was_set_aside_before_gives_way(tmp_path):
    for content in ("first", "second"):
        (tmp_path / "best").mkdir()
        (tmp_path / "best" / content).write_text(content)
        assert set_aside(tmp_path / "best") == tmp_path / "damaged"
    assert os.listdir(tmp_path / "damaged" / "best") == ["second"]


def test_names_are_of_a_file_or_a_folder():
    assert not set(FILES) & set(FOLDERS)
