"""The tab HPARAMS, asked as its page asks: through the routes of a real TensorBoard server."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request

import pytest

from model.estimator import tf
from model.training import hparams
from src.comparing.comparison import WITHOUT_EFFECT, flat_params
from src.params.schema import Augment, Params

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
        for tag, value in scalars.items():
            summary.value.add(tag=tag, simple_value=value)
        writer.add_summary(summary, step)
        writer.close()


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    """Three experiments below a folder that holds nothing else; the last one has failed."""
    root = tmp_path_factory.mktemp("experiments")
    for position, (name, params) in enumerate(SWEPT.items(), start=1):
        model_dir = root / "sweep" / name
        model_dir.mkdir(parents=True)
        hparams.write_start(model_dir, params)
        write_scalars(model_dir, 10, loss=position / 4, fraction_positive=position / 8)
        write_scalars(model_dir / "eval_validation", 5, map_at_r_within=0.0, loss=9.0)
        write_scalars(model_dir / "eval_validation", 10, map_at_r_within=position / 16, loss=1.0)
        hparams.write_end(model_dir, succeeded=name != "unseen")
    return root


@pytest.fixture(scope="module")
def ask(experiments, tmp_path_factory):
    """`ask(route, **request)`: the answer of the plugin of a TensorBoard over all experiments."""
    output = tmp_path_factory.mktemp("tensorboard") / "output.txt"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(experiments)]
    command += ["--host", "127.0.0.1", "--port", "0", "--load_fast", "false"]
    with open(output, "w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            for _ in range(600):
                if found := re.search(r"(http://127\.0\.0\.1:\d+)", output.read_text()):
                    break
                assert server.poll() is None, output.read_text()
                time.sleep(0.1)

            def ask(route, **request):
                post = urllib.request.Request(
                    f"{found[1]}/data/plugin/hparams/{route}",
                    json.dumps(request).encode(),
                    {"Content-Type": "application/json"},
                )
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with opener.open(post, timeout=60) as response:
                    return json.loads(response.read())

            for _ in range(300):  # until the files are read
                if len(ask("experiment").get("hparamInfos", [])) > 0:
                    break
                time.sleep(0.1)
            time.sleep(1)
            yield ask
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def groups(ask):
    """The table of the page: a row for each experiment."""
    columns = [
        {"metric": {"group": group, "tag": tag}, "includeInResult": True}
        for group, tag in hparams.METRICS
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
    assert set(infos) == {
        *(set(Params.model_fields) - WITHOUT_EFFECT - {"augment"}),
        "image_size",  # which image_folder chooses
        *(f"augment.{key}" for key in Augment.model_fields),
    }
    for key, of_type in (
        ("margin", "FLOAT64"),
        ("batch_size", "FLOAT64"),
        ("classes_per_batch", "FLOAT64"),
        ("augment.shift", "FLOAT64"),
        ("squared", "BOOL"),
        ("triplet_strategy", "STRING"),
        ("holdout_classes", "STRING"),
    ):
        assert infos[key]["type"] == f"DATA_TYPE_{of_type}", key
    assert infos["margin"]["description"] == Params.model_fields["margin"].description
    metrics = [
        (info["name"].get("group", ""), info["name"]["tag"]) for info in experiment["metricInfos"]
    ]
    assert tuple(metrics) == hparams.METRICS


@pytest.mark.parametrize(
    "params",
    [
        Params(save_checkpoints_steps=7, patience_evaluations=3, keep_checkpoint_max=2),
        Params(dataset="image_folder", image_size=32, holdout_classes=["größe", "b"]),
        Params(network="mlp", hidden_sizes=[], extra_classes=["rot90"]),
    ],
)
def test_what_compare_shows_is_shown(params):
    """Each of its columns with a value, by the same key, and nothing else."""
    shown = hparams.hparams(params)
    given = {key for key, value in flat_params(params).items() if value is not None}
    assert set(shown) == given | {"distance"}
    assert set(shown) <= {info.name for info in hparams.hparam_infos()}
    assert all(isinstance(value, str | int | float | bool) for value in shown.values())
    assert shown.get("image_size") == (32 if params.dataset == "image_folder" else None)
    assert shown.get("patience_evaluations") == params.patience_evaluations


def test_a_row_for_each_experiment_with_its_params(groups):
    assert set(groups) == set(SWEPT)
    rows = {name: group["hparams"] for name, group in groups.items()}
    assert rows["margin_0.5"]["margin"] == 0.5
    assert rows["margin_soft"]["margin"] == "soft"
    assert rows["margin_soft"]["num_epochs"] == 7
    assert rows["unseen"]["holdout_classes"] == "[8, 9]"
    assert rows["unseen"]["augment.shift"] == 2
    assert rows["margin_0.5"]["squared"] is False
    assert rows["margin_0.5"]["distance"] == "euclidean"
    assert "classes_per_batch" not in rows["margin_0.5"]


def test_its_latest_metrics(groups):
    for position, name in enumerate(SWEPT, start=1):
        values = {
            (value["name"].get("group", ""), value["name"]["tag"]): value
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
