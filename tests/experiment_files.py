"""Files of an experiment, written without training."""

GENERATED = [
    "checkpoint",
    "graph.pbtxt",
    "metrics.json",
    "pruned.json",
    "model.ckpt-0.data-00000-of-00001",
    "model.ckpt-0.index",
    "model.ckpt-0.meta",
    "model.ckpt-782.data-00000-of-00001",
    "model.ckpt-782.index",
    "model.ckpt-782.meta",
    "events.out.tfevents.1795351884.vm",
    "eval_train/events.out.tfevents.1795351909.vm",
    "eval_validation/events.out.tfevents.1795351899.vm",
    "eval_test/events.out.tfevents.1795351918.vm",
    "eval_unseen/events.out.tfevents.1795351919.vm",
    "events.out.tfevents.1795351884.vm.1.0.hparams",
    "best/best.json",
    "best/model.ckpt-782.index",
    "export/best/1795351884/saved_model.pb",
    "untrained/model.ckpt-0.index",
    "projector/test/metadata.tsv",
    "projector/test/deep/er",
    "figures/index.html",
    "figures/live/progress/step_00000782.png",
    "trained_params.json",
    "trained_data.npz",
    "network.txt",
    "init_from.json",
    "triplets-7.npy",
    "progress.json",
    "tensorflow.log",
]

FOREIGN = [
    "params.json",
    "params.json.bak",
    "README.md",
    "gallery.sqlite",
    "gallery.sqlite-wal",
    ".gitignore",
    "my_metrics.json",
    "metrics.json.bak",
    "model.ckpt",
    "checkpoint.bak",
    "eval_notes.txt",
    "eval_protocol/notes.txt",
    "notes/metrics.json",
    "margin_1/params.json",
    "margin_1/metrics.json",
    "margin_1/model.ckpt-9.index",
    "margin_1/projector/metadata.tsv",
]


def files(folder):
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()
    )


def write_checkpoint(experiment, step, prefix=""):
    """Write the file `checkpoint` as TensorFlow does, the latest first, then all that are kept."""
    steps = sorted({0, step // 2, step})
    lines = [f'model_checkpoint_path: "{prefix}model.ckpt-{step}"']
    lines += [f'all_model_checkpoint_paths: "{prefix}model.ckpt-{kept}"' for kept in steps]
    (experiment.model_dir / "checkpoint").write_text("\n".join(lines) + "\n")
