"""Figures in TensorBoard's IMAGES tab."""

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.projector.figure_images import write_images


def test_tensorboard_reads_the_figures_and_the_file_is_replaced(tmp_path):
    paths = [tmp_path / f"{name}.png" for name in ("tsne", "pca")]
    for side, path in enumerate(paths, start=8):
        Image.new("RGB", (side, 2 * side), "red").save(path)
    for step in (3, 7):
        event_file = write_images(tmp_path, paths, step)
    assert [path.name for path in tmp_path.glob("events*")] == [event_file.name]
    found = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    assert sorted(found.Tags()["images"]) == ["pca", "tsne"]
    (image,) = found.Images("pca")
    assert (image.step, image.width, image.height) == (7, 9, 18)
    assert image.encoded_image_string == paths[1].read_bytes()
