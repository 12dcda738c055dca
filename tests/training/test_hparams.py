"""The tab HPARAMS, asked as its page asks: through the routes of a real TensorBoard server."""

import json
import os
import threading
import urllib.request

import pytest

from model.estimator import tf
from model.training import hparams
from src.comparing.comparison import flat_params
from src.experiment.tags import name_of, tag_of
from src.params.schema import Augment, Params

pytestmark = pytest.mark.filterwarnings("ignore:html5lib")  # TensorBoard's own, on import

SWEPT = {
    "margin_0.5": Params(margin=0.5, triplet_strategy="batch_hard"),
    "margin_soft": Params(margin="soft", triplet_strategy="batch_hard", num_epochs=7),
    "unseen": Params(holdout_classes=[8, 9], augment=Augment(shift=2), learning_rate=0.01),
}


def write_scalars(directory, step, **scalars):
    """As the Estimator's summaries are written."""
    with tf.Graph().as_default():
        writer = tf.compat.v1.summary.FileWriter(str(directory))
        summary = tf.compat.v1.Summary()
        for name, value in scalars.items():
            summary.value.add(tag=tag_of(name), simple_value=value)
        writer.add_summary(summary, step)
        writer.close()


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    """Three experiments below a folder that holds nothing else; the last one has failed."""
    root = tmp_path_factory.mktemp("experiments")
    for name, params in SWEPT.items():
        (root / "sweep" / name).mkdir(parents=True)
        given = params.model_dump_json(exclude_unset=True)
        (root / "sweep" / name / "params.json").write_text(given)
    for position, (name, params) in enumerate(SWEPT.items(), start=1):
        model_dir = root / "sweep" / name
        hparams.write_start(model_dir, params)
        write_scalars(model_dir, 10, loss=position / 4, fraction_positive=position / 8)
        write_scalars(model_dir / "eval_validation", 5, map_at_r_within=0.0, loss=9.0)
        write_scalars(model_dir / "eval_validation", 10, map_at_r_within=position / 16, loss=1.0)
        hparams.write_end(model_dir, succeeded=name != "unseen")
    return root


@pytest.fixture(scope="module")
def ask(experiments):
    """`ask(route, **request)`: the answer of the plugin of a TensorBoard over all experiments.

    It runs in a thread: a process of its own would import TensorFlow again.
    """
    from tensorboard import default, program

    servers = []

    def make_server(application, flags):
        servers.append(program.create_port_scanning_werkzeug_server(application, flags))
        return servers[0]

    board = program.TensorBoard(plugins=default.get_plugins(), server_class=make_server)
    arguments = ["--logdir", str(experiments), "--host", "127.0.0.1", "--port", "0"]
    arguments += ["--load_fast", "false", "--reload_interval", "0"]  # read everything, once
    board.configure(argv=["tensorboard", *arguments])
    address = board.launch().rstrip("/")
    for thread in threading.enumerate():
        if thread.name == "Reloader":
            thread.join(60)
            assert not thread.is_alive()

    def ask(route, **request):
        post = urllib.request.Request(
            f"{address}/data/plugin/hparams/{route}",
            json.dumps(request).encode(),
            {"Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(post, timeout=60) as response:
            return json.loads(response.read())

    yield ask
    servers[0].shutdown()


@pytest.fixture(scope="module")
def groups(ask):
    """The table of the page: a row for each experiment."""
    columns = [
        {"metric": {"group": group, "tag": tag_of(name)}, "includeInResult": True}
        for group, name in hparams.METRICS
    ]
    columns += [
        {"hparam": info["name"], "includeInResult": True}
        for info in ask("experiment")["hparamInfos"]
    ]
    answer = ask(
        "session_groups",
        startIndex=0,
        sliceSize=100,
        allowedStatuses=["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING", "STATUS_UNKNOWN"],
        colParams=columns,
    )
    return {group["name"].rsplit("/", 1)[1]: group for group in answer["sessionGroups"]}


def test_the_columns(ask):
    experiment = ask("experiment")
    infos = {info["name"]: info for info in experiment["hparamInfos"]}
    # What one of the three sets, and no `application` beside a network that has none.
    swept = {"margin", "triplet_strategy", "num_epochs", "holdout_classes", "learning_rate"}
    assert set(infos) == {*swept, "augment.shift", "distance"}
    for key, of_type in (
        ("margin", "FLOAT64"),
        ("learning_rate", "FLOAT64"),
        ("augment.shift", "FLOAT64"),
        ("triplet_strategy", "STRING"),
        ("holdout_classes", "STRING"),
    ):
        assert infos[key]["type"] == f"DATA_TYPE_{of_type}", key
    assert infos["margin"]["description"] == Params.model_fields["margin"].description
    metrics = [
        (info["name"].get("group", ""), info["name"]["tag"]) for info in experiment["metricInfos"]
    ]
    assert metrics == [(group, tag_of(name)) for group, name in hparams.METRICS]


@pytest.mark.parametrize(
    "params",
    [
        Params(save_checkpoints_steps=7, patience_evaluations=3, keep_checkpoint_max=2),
        Params(dataset="image_folder", image_size=32, holdout_classes=["größe", "b"]),
        Params(network="mlp", hidden_sizes=[], extra_classes=["rot90"]),
        Params(triplet_strategy="multi_similarity", distance="cosine", margin=0.5),
    ],
)
def test_what_compare_shows_is_shown(params):
    """Each of its columns that was set or is no default, by the same key, and nothing else."""
    shown = hparams.hparams(params)
    defaults = flat_params(Params())
    given = {
        key
        for key, value in flat_params(params).items()
        if value is not None and (key in params.model_fields_set or value != defaults.get(key))
    } - params.unread_keys
    assert set(shown) == given | {"distance"}
    assert {info.name for info in hparams.hparam_infos(set(shown))} == set(shown)
    assert all(isinstance(value, str | int | float | bool) for value in shown.values())
    assert shown.get("image_size") == (32 if params.dataset == "image_folder" else None)
    assert shown.get("patience_evaluations") == params.patience_evaluations


def test_a_default_that_was_set_is_shown_and_other_networks_are_not():
    assert hparams.hparams(Params()) == {"distance": "euclidean"}
    assert hparams.hparams(Params(margin=0.5)) == {"distance": "euclidean", "margin": 0.5}
    similar = {"triplet_strategy": "multi_similarity", "distance": "cosine"}
    assert hparams.hparams(Params(margin=0.5, **similar)) == similar  # it has no margin


def test_damaged_experiments_beside_it_do_not_matter(tmp_path):
    for name, text in (("a", b"{"), ("b", b"[]"), ("c", b"\xff"), ("d", b'{"margin": 1}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "params.json").write_bytes(text)
    for name in ("pipe", "huge"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe" / "params.json")
    with open(tmp_path / "huge" / "params.json", "wb") as huge:
        huge.truncate(2**40)  # without taking room on the disk
    assert hparams._set_here_or_beside(tmp_path / "e", Params()) == {"distance", "margin"}


def test_a_row_for_each_experiment_with_its_params(groups):
    assert set(groups) == set(SWEPT)
    rows = {name: group["hparams"] for name, group in groups.items()}
    assert rows["margin_0.5"]["margin"] == 0.5
    assert rows["margin_soft"]["margin"] == "soft"
    assert rows["margin_soft"]["num_epochs"] == 7
    assert rows["unseen"]["holdout_classes"] == "[8, 9]"
    assert rows["unseen"]["augment.shift"] == 2
    assert "squared" not in rows["margin_0.5"]
    assert rows["margin_0.5"]["distance"] == "euclidean"
    assert "classes_per_batch" not in rows["margin_0.5"]


def test_its_latest_metrics(groups):
    for position, name in enumerate(SWEPT, start=1):
        values = {
            (value["name"].get("group", ""), name_of(value["name"]["tag"])): value
            for value in groups[name]["metricValues"]
        }
        assert values["", "loss"]["value"] == position / 4
        assert values["", "fraction_positive"]["value"] == position / 8
        assert values["eval_validation", "map_at_r_within"]["value"] == position / 16
        assert values["eval_validation", "map_at_r_within"]["trainingStep"] == 10
        assert values["eval_validation", "loss"]["value"] == 1


def test_how_it_ended(groups):
    status = {name: group["sessions"][0]["status"] for name, group in groups.items()}
    assert status == {
        "margin_0.5": "STATUS_SUCCESS",
        "margin_soft": "STATUS_SUCCESS",
        "unseen": "STATUS_FAILURE",
    }


def test_a_second_run_takes_the_place_of_the_first(tmp_path):
    hparams.write_start(tmp_path, Params(num_epochs=1))
    hparams.write_end(tmp_path, succeeded=True)
    write_scalars(tmp_path, 1, loss=0.5)
    hparams.write_start(tmp_path, Params(num_epochs=2))
    (left,) = tmp_path.glob("*.hparams")
    starts = [
        value.metadata.plugin_data.content
        for event in tf.compat.v1.train.summary_iterator(str(left))
        for value in event.summary.value
        if value.tag == "_hparams_/session_start_info"
    ]
    assert len(starts) == 1
    assert len(os.listdir(tmp_path)) == 2  # the other summaries stay
