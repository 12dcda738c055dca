"""The tags of curves: five come first in TensorBoard, and files of earlier versions are read."""

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from src.experiment.curves import read_curves
from src.experiment.tags import AT_A_GLANCE, name_of, tag_of
from src.params.metric_names import AGAINST_GALLERY, WITHIN


def test_five_are_in_the_group_that_tensorboard_opens_first():
    names = {*AT_A_GLANCE, *WITHIN, *AGAINST_GALLERY, "learning_rate", "global_step/sec"}
    groups = {}
    for name in names:
        groups.setdefault(tag_of(name).split("/")[0], set()).add(name)
    first = min(groups)  # TensorBoard sorts groups by name, and opens the first ones
    assert groups[first] == {
        *("loss", "fraction_positive", "embedding_mean_norm"),
        *("map_at_r_within", "recall_at_1_within"),
    }
    assert set(groups) == {first, "more", "global_step"}


def test_a_name_comes_back():
    for name in ("loss", "eer", "global_step/sec", "more_or_less"):
        assert name_of(tag_of(name)) == name


def test_curves_of_earlier_versions_go_on(tmp_path):
    for number, tag in enumerate(("loss", tag_of("loss"), "more/eer")):
        with open(tmp_path / f"events.out.tfevents.{number}", "wb") as file:
            event = Event(step=number)
            event.summary.value.add(tag=tag, simple_value=number / 2)
            RecordWriter(file).write(event.SerializeToString())
    assert read_curves(tmp_path) == {"loss": ([0, 1], [0.0, 0.5]), "eer": ([2], [1.0])}
