"""Loads Fashion-MNIST, articles of clothing in MNIST's format (arXiv:1708.07747)."""

from pathlib import Path
from typing import TYPE_CHECKING

from src.data.remote import RemoteFile
from src.data.split import Dataset
from src.datasets.mnist import dataset_folders, load_mnist_layout

if TYPE_CHECKING:
    from src.params.schema import Params

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")

# The authors' repository. Its README links to the same files over plain http.
BASE_URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"

REMOTE_FILES = (
    RemoteFile(
        url=f"{BASE_URL}/train-images-idx3-ubyte.gz",
        size=26_421_880,
        md5="8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        content_sha256="c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    RemoteFile(
        url=f"{BASE_URL}/train-labels-idx1-ubyte.gz",
        size=29_515,
        md5="25c81989df183df01b3e8a0aad5dffbe",
        content_sha256="bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    RemoteFile(
        url=f"{BASE_URL}/t10k-images-idx3-ubyte.gz",
        size=4_422_102,
        md5="bef4ecab320f06d8554ea6380940ec79",
        content_sha256="5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    RemoteFile(
        url=f"{BASE_URL}/t10k-labels-idx1-ubyte.gz",
        size=5_148,
        md5="bb300cfdad3c16e7a12a480ee83cd310",
        content_sha256="0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)


def load(data_dir: Path, params: "Params") -> Dataset:
    """Load Fashion-MNIST.

    Args:
        data_dir: the folder that holds `fashion_mnist/`, or `fashion_mnist/` itself. If neither
            has the files, those of the Debian package are used.
        params: not used.

    Returns:
        `train` and `test`: images uint8 [N, 28, 28, 1], labels int32 [N]; the class names are the
        articles.

    Raises:
        UserError: a file is missing or damaged.
    """
    megabytes = round(sum(remote.size for remote in REMOTE_FILES) / 1e6)
    return load_mnist_layout(
        [*dataset_folders("fashion_mnist", data_dir), DEBIAN_FOLDER],
        class_names=CLASS_NAMES,
        advice=f"`python -m src.download fashion_mnist --data_dir {data_dir}` downloads "
        f"them ({megabytes} MB); the Debian package dataset-fashion-mnist also has them",
    )
