"""What `model/training.py` sets for the time of a training."""

from threadpoolctl import threadpool_info, threadpool_limits

import model.training
import train


def blas_threads():
    return {
        library["filepath"]: library["num_threads"]
        for library in threadpool_info()
        if library["user_api"] == "blas"
    }


def test_blas_has_one_thread_beside_tensorflow(make_experiment, data_dir, monkeypatch):
    while_training = []
    train_and_evaluate = model.training.estimator.train_and_evaluate

    def looks_and_trains(*arguments):
        while_training.append(blas_threads())
        return train_and_evaluate(*arguments)

    monkeypatch.setattr(model.training.estimator, "train_and_evaluate", looks_and_trains)
    with threadpool_limits(2, "blas"):
        before = blas_threads()
        assert set(before.values()) == {2}
        train.main(["--model_dir", str(make_experiment(num_epochs=1)), "--data_dir", str(data_dir)])
        after = blas_threads()
    assert [set(found.values()) for found in while_training] == [{1}]
    assert {path: after[path] for path in before} == before
