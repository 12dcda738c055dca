"""The schema of `params.json`: every key with its type, range, default and meaning.

`make schema` writes docs/params.md and the JSON schema from it (`src/params/reference.py`).
`src/params/rules.py` has the rules between keys.
"""

# Long: one flat list of keys.

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from src.distance import DISTANCES
from src.params.applications import APPLICATIONS
from src.params.kinds import (
    ClassesOrShare,
    Folders,
    Interval,
    Margin,
    NumberOrName,
    ReadBy,
    Role,
    choices,
    name_in,
)
from src.params.metric_names import BEST_METRICS
from src.params.poses import POSES
from src.params.rules import check_together, unread_keys
from src.registry import (
    DATASETS,
    LIVE_FIGURES,
    NETWORKS,
    OFFLINE_STRATEGIES,
    OPTIMIZERS,
    PICTURE_DATASETS,
    SIMILARITY_STRATEGIES,
    TRIPLET_STRATEGIES,
)

# Short names for the markers of keys, so that a declaration stays short.
_OF_IMAGE_FOLDER = ReadBy("dataset", ("image_folder",))
_OF_TFDS = ReadBy("dataset", ("tfds",))
_OF_HUGGING_FACE = ReadBy("dataset", ("hugging_face",))
_OF_TABLES = ReadBy("dataset", ("hugging_face", "tfds"))
_OF_NPZ = ReadBy("dataset", ("npz",))
_OF_ANY_SPLITS = ReadBy("dataset", ("hugging_face", "image_folder", "npz", "tfds"))
_OF_PICTURES = ReadBy("dataset", tuple(sorted(PICTURE_DATASETS)))
_OF_NAIVE_CNN = ReadBy("network", ("naive_cnn",))
_OF_MLP = ReadBy("network", ("mlp",))
_OF_KERAS_APPLICATION = ReadBy("network", ("keras_application",))
_OF_LITE0 = ReadBy("network", ("efficientnet_lite0",))
_OF_PRETRAINED = ReadBy("network", ("efficientnet_lite0", "keras_application"))
_OF_OWN_LAYERS = ReadBy("network", ("naive_cnn", "mlp"))
_OF_ADAMW = ReadBy("optimizer", ("adamw",))
_OF_SGD = ReadBy("optimizer", ("sgd",))
_OF_STEPS = ReadBy("learning_rate_schedule", ("steps",))
_OF_DISTANCE_WEIGHTED = ReadBy("triplet_strategy", ("distance_weighted",))
_OF_EASY_POSITIVE = ReadBy("triplet_strategy", ("easy_positive",))
_OF_MULTI_SIMILARITY = ReadBy("triplet_strategy", ("multi_similarity",))
_OF_SUPERVISED_CONTRASTIVE = ReadBy("triplet_strategy", ("supervised_contrastive",))
_MAY_CHANGE = Role.MAY_CHANGE
_WITHOUT_EFFECT = Role.WITHOUT_EFFECT
_FINDS_DATA = Role.FINDS_DATA
_CHECKS_DATA = Role.CHECKS_DATA


class Augment(BaseModel):
    """Random changes of the training images, applied to whole batches; each is off by default."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    shift: int = Field(
        0, ge=0, description="Shifts by up to this many pixels in each direction, along both axes."
    )
    rotation: float = Field(0.0, ge=0, le=180, description="Rotates by up to this many degrees.")
    flip: bool = Field(
        False, description="Flips left and right, with probability 1/2 for each image."
    )
    crop: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Enlarges a part of the image whose side is at least this share of the "
        "image's side, with the image's proportions.",
    )
    crop_area: Interval | None = Field(
        None,
        description="Instead of crop: enlarges a part whose area is a share of the image's area, "
        "between these two, and stretches it to the image's proportions. [0.08, 1] is usual for "
        "photographs.",
    )
    crop_ratio: Interval = Field(
        (3 / 4, 4 / 3),
        description="For crop_area: the smallest and largest width / height of the part.",
    )
    fill: Literal["black", "white", "edge", "reflect"] = Field(
        "black",
        description="What comes in from outside the image: black, white, the pixel at the edge, or "
        "the image mirrored at its edge. Erased pixels are white with white, otherwise black.",
    )
    brightness: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Multiplies the pixels by a factor from 1 - this to 1 + this; each image has "
        "its own.",
    )
    contrast: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Multiplies the pixels' differences from the image's mean grey by a factor "
        "from 1 - this to 1 + this.",
    )
    saturation: float = Field(
        0.0,
        ge=0,
        le=1,
        description="For colour: multiplies the pixels' differences from their grey by a factor "
        "from 1 - this to 1 + this.",
    )
    hue: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="For colour: turns the colour circle by up to this share of it, both ways.",
    )
    grayscale: float = Field(
        0.0, ge=0, le=1, description="For colour: share of the images that become grey."
    )
    blur: float = Field(
        0.0,
        ge=0,
        description="Blurs by a Gaussian whose standard deviation is from 0 to this many pixels.",
    )
    erasing: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the images in which a rectangle is erased (arXiv:1708.04896).",
    )
    elastic: float = Field(
        0.0,
        ge=0,
        description="Distorts the image: a coarse grid of random displacements with this "
        "standard deviation in pixels, interpolated smoothly (arXiv:1505.04597, section 3.1).",
    )


class DatasetKeys(BaseModel):
    """The keys that name a dataset: of an experiment, and of each entry of its `extra_data`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    dataset: Annotated[str, name_in(DATASETS), _FINDS_DATA] = Field(
        "mnist", json_schema_extra=choices(DATASETS), description="The dataset."
    )
    image_dir: Annotated[str, _OF_IMAGE_FOLDER] = Field(
        "image_folder",
        description="For image_folder: the folder of pictures in data_dir, with one folder per "
        "class.",
    )
    image_csv: Annotated[str | None, _OF_IMAGE_FOLDER] = Field(
        None,
        description="For image_folder: a CSV file in image_dir that replaces the class "
        "folders. Columns: path, label and optionally split, group, is_query and is_gallery.",
    )
    tfds_name: Annotated[str | None, _OF_TFDS] = Field(
        None,
        min_length=1,
        description="For tfds: the prepared dataset: name, name/config or name/config:1.0.0.",
    )
    tfds_data_dir: Annotated[str | None, _OF_TFDS, _MAY_CHANGE, _WITHOUT_EFFECT] = Field(
        None,
        min_length=1,
        description="For tfds: the folder in data_dir with the prepared datasets. Default: "
        "TensorFlow Datasets' own, ~/tensorflow_datasets or $TFDS_DATA_DIR.",
    )
    hf_name: Annotated[str | None, _OF_HUGGING_FACE] = Field(
        None,
        min_length=1,
        description="For hugging_face: a folder or a Parquet file in data_dir, or else a dataset "
        "of the hub: owner/name.",
    )
    hf_config: Annotated[str | None, _OF_HUGGING_FACE] = Field(
        None,
        min_length=1,
        description="For hugging_face: the configuration (subset), if the dataset has several.",
    )
    image_column: Annotated[str | None, _OF_TABLES] = Field(
        None,
        min_length=1,
        description="For tfds and hugging_face: the column of pictures. Default: the only one, or "
        "the one with the usual name.",
    )
    label_column: Annotated[str | None, _OF_TABLES] = Field(
        None,
        min_length=1,
        description="For tfds and hugging_face: the column of labels. Default: the only one, or "
        "the one with the usual name.",
    )
    group_column: Annotated[str | None, _OF_TABLES] = Field(
        None,
        min_length=1,
        description="For tfds and hugging_face: the column of groups (series), which splits keep "
        "together. Default: no groups.",
    )
    npz_file: Annotated[str, _OF_NPZ] = Field(
        "data.npz",
        min_length=1,
        description="For npz: the file in data_dir with arrays x and y (or x_train and y_train), "
        "and optionally group, class_names, x_validation, y_validation, x_test and y_test.",
    )
    image_resize: Annotated[Literal["scale", "pad"], _OF_PICTURES] = Field(
        "scale",
        description="For datasets of pictures: how pictures are resized to image_size: stretched "
        "(scale), or with their aspect ratio kept and black padding (pad).",
    )
    on_bad_image: Annotated[Literal["error", "skip"], _OF_PICTURES] = Field(
        "error",
        description="For datasets of pictures: what happens to files that cannot be read: they "
        "end the run (error), or are named and left out (skip).",
    )
    image_cache: Annotated[Folders | None, _OF_PICTURES, _MAY_CHANGE, _WITHOUT_EFFECT] = Field(
        None,
        description="For datasets of pictures: the folder in data_dir for the decoded pictures, or "
        "a list of folders, such as mounts of several disks, among which they are divided. "
        "Default: `.tripletboard` in the pictures' folder; for tfds and hugging_face, in "
        "data_dir/tfds and data_dir/hugging_face.",
    )

    @property
    def dataset_name(self) -> str:
        """The dataset with what tells it from others of its kind: `npz data/letters.npz`."""
        names = {
            "image_folder": (self.image_dir, self.image_csv),
            "tfds": (self.tfds_name,),
            "hugging_face": (self.hf_name, self.hf_config),
            "npz": (self.npz_file,),
        }
        return " ".join([self.dataset, *filter(None, names.get(self.dataset, ()))])


class ExtraDataset(DatasetKeys):
    """A dataset whose classes are only trained on; the experiment's gives its image size."""

    dataset: Annotated[str, name_in(DATASETS), _FINDS_DATA] = Field(
        json_schema_extra=choices(DATASETS), description="The dataset."
    )

    @property
    def prefix(self) -> str:
        """What the names of its classes begin with: `letters.npz/`."""
        return self.dataset_name.removeprefix(f"{self.dataset} ") + "/"


class Params(DatasetKeys):
    """The choices that define an experiment. Facts about the data come from the data."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={"$schema": "http://json-schema.org/draft-07/schema#"},
    )

    # Data
    validation_fraction: Annotated[float, _FINDS_DATA] = Field(
        1 / 6,
        gt=0,
        lt=1,
        description="Share of the training file held out for validation, stratified by class. "
        "1/6 leaves 50 000 of MNIST's 60 000.",
    )
    validation_by: Annotated[Literal["image", "class"] | None, _FINDS_DATA] = Field(
        None,
        description="What is held out for validation: images of every class, or all images of "
        "some classes. Default: images, unless most held-out images would be the only one of "
        "their class.",
    )
    holdout_classes: Annotated[ClassesOrShare | None, _FINDS_DATA] = Field(
        None,
        description="Classes, by name, that are removed from the train, validation and test "
        "splits. All their images form the split `unseen`, which is evaluated separately. Or a "
        "share of the classes, such as 0.5, drawn by `seed`.",
    )
    extra_data: Annotated[tuple[ExtraDataset, ...], Field(strict=False), _FINDS_DATA] = Field(
        (),
        description="Trains on more classes: those of other datasets, each named as params name "
        "theirs. The images get this dataset's size and channels; only the training split has "
        "them. For embeddings of unseen classes.",
    )
    exclude_same_group: Annotated[bool, _FINDS_DATA] = Field(
        False,
        description="Evaluate as re-identification does: images of the query's class in the "
        "query's own group (column group of image_csv, group_column, or array group of npz) are "
        "not searched.",
    )
    on_duplicates: Annotated[Literal["warn", "error", "drop"], _MAY_CHANGE, _FINDS_DATA] = Field(
        "warn",
        description="What happens if images with equal pixels are in two splits or two "
        "classes: a warning, or an error. drop keeps only one of any equal images: the one in "
        "the dataset's own test split, else in validation, else the first.",
    )
    near_duplicates: Annotated[int | None, _MAY_CHANGE, _WITHOUT_EFFECT] = Field(
        None,
        ge=0,
        le=16,
        description="Names images in two splits that look alike when training begins: their "
        "difference hashes of 64 bits differ in at most this many bits; 4 is usual. Default: only "
        "equal pixels are named.",
    )
    image_mode: Annotated[Literal["RGB", "L"], _OF_PICTURES] = Field(
        "RGB", description="For datasets of pictures: colour (RGB) or grey (L)."
    )
    test_fraction: Annotated[float, _OF_ANY_SPLITS] = Field(
        0.2,
        gt=0,
        lt=1,
        description="For image_folder, tfds, hugging_face and npz: share of the images held out as "
        "test split if there is none, stratified by class.",
    )
    seed: int = Field(
        0,
        ge=0,
        lt=2**31,
        description="Determines the validation split, the order of the batches and the initial "
        "weights.",
    )

    # Network
    network: Annotated[str, name_in(NETWORKS), _CHECKS_DATA] = Field(
        "naive_cnn",
        json_schema_extra=choices(NETWORKS),
        description="The network that embeds an image.",
    )
    num_blocks: Annotated[int, _OF_NAIVE_CNN] = Field(
        2,
        ge=1,
        le=6,
        description="For naive_cnn: convolution blocks; each halves the image's height and width.",
    )
    convolutions_per_block: Annotated[int, _OF_NAIVE_CNN] = Field(
        1,
        ge=1,
        le=8,
        description="For naive_cnn: 3x3 convolutions in a block, each followed by ReLU.",
    )
    num_channels: Annotated[int, _OF_NAIVE_CNN] = Field(
        32,
        ge=1,
        le=1024,
        description="For naive_cnn: channels of the first block; they double with each block.",
    )
    hidden_sizes: Annotated[
        tuple[Annotated[int, Field(ge=1, le=65536, strict=True)], ...], Field(strict=False), _OF_MLP
    ] = Field((128, 128), description="For mlp: the units of each hidden layer; [] for none.")
    dropout: Annotated[float, _OF_MLP] = Field(
        0.0,
        ge=0,
        lt=1,
        description="For mlp: share of each hidden layer's units that is dropped in a step.",
    )
    use_batch_norm: Annotated[bool, _OF_OWN_LAYERS] = Field(
        False,
        description="For naive_cnn and mlp: batch normalization after each convolution or "
        "hidden layer.",
    )
    bn_momentum: Annotated[float, _OF_OWN_LAYERS] = Field(
        0.9, ge=0, lt=1, description="For use_batch_norm: momentum of the moving statistics."
    )
    application: Annotated[
        str,
        name_in(APPLICATIONS, "the name of a network in keras.applications"),
        _OF_KERAS_APPLICATION,
    ] = Field(
        "ResNet50",
        json_schema_extra=choices(APPLICATIONS),
        description="For keras_application: the network of keras.applications, without its "
        "classifier.",
    )
    init_from: str | None = Field(
        None,
        description="Another experiment's directory: its best checkpoint gives the initial weights "
        "of every layer of the same name and shape. Default: random, or `weights`.",
    )
    weights: Annotated[str | None, _OF_PRETRAINED] = Field(
        None,
        description="For pretrained networks: the initial weights: a file of "
        'weights (.h5) in data_dir or, for keras_application, "imagenet". Default: random.',
    )
    last_layer: Annotated[str | None, _OF_LITE0] = Field(
        None,
        description="For efficientnet_lite0: the name of the last layer that is used, such as "
        "block_15_add. The last layers are those of ImageNet's classes. Default: all layers.",
    )
    pooling: Annotated[Literal["average", "none"], _OF_LITE0] = Field(
        "average",
        description="For efficientnet_lite0: whether the embedding layer gets the average of each "
        "channel, or every pixel of it, so that it knows where a feature was found (none).",
    )
    frozen_layers: Annotated[NumberOrName, _OF_PRETRAINED] = Field(
        0,
        description="For pretrained networks: how many of the first layers are frozen, or the "
        "name of the last frozen layer.",
    )
    input_size: Annotated[int | None, _OF_PRETRAINED] = Field(
        None,
        ge=1,
        description="For pretrained networks: height and width, in pixels, to which images are "
        "resized. Default: no resizing.",
    )
    resize: Annotated[Literal["scale", "pad"], _OF_PRETRAINED] = Field(
        "scale",
        description="For pretrained networks: how images are brought to input_size: scaled "
        "(scale), or unscaled with black padding (pad).",
    )
    compute_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description="The dtype in which the network computes: its weights, the embeddings and the "
        "loss are float32 in any case. bfloat16 is faster on processors and GPUs that have units "
        "for it; float16, with a scaled loss, on GPUs.",
    )
    embedding_size: int = Field(64, ge=1, le=8192, description="D, the length of an embedding.")
    embedding_activation: Annotated[Literal["linear", "relu", "sigmoid", "tanh"], _OF_MLP] = Field(
        "linear", description="For mlp: the activation of the last layer."
    )
    embedding_whitening: Annotated[float | None, _CHECKS_DATA] = Field(
        None,
        gt=0,
        le=1,
        description="Begins with an embedding layer that whitens the features within classes, then "
        "projects them at random. It is fitted to the training images; with augment.flip, also to "
        "their mirror images. The number is the shrinkage of the covariance: 0.5 is usual, 1 only "
        "centres. Default: a random layer.",
    )
    l2_normalize: bool = Field(
        False, description="Scale each embedding to length 1, so that distances are at most 2."
    )

    # Loss
    triplet_strategy: Annotated[str, name_in(TRIPLET_STRATEGIES)] = Field(
        "batch_all",
        json_schema_extra=choices(TRIPLET_STRATEGIES),
        description="Which triplets of a batch count in the loss. With offline, a batch "
        "consists of triplets chosen by `offline_mining`.",
    )
    offline_mining: Literal["random", "hard", "semihard"] = Field(
        "random",
        description="For offline: whether the positive and negative of each anchor are random "
        "or chosen by the distances of the embeddings.",
    )
    remine_epochs: int = Field(
        1,
        ge=1,
        description="For offline hard and semihard: epochs from one choice to the next. Random "
        "triplets are used before the first choice.",
    )
    margin: Margin = Field(
        0.5,
        description="How much farther than the positive the negative must be, in units of the "
        'distance. "soft" uses softplus instead, with batch_hard and easy_positive only. Not for '
        "multi_similarity and supervised_contrastive.",
    )
    distance_weighted_cutoff: Annotated[float, _OF_DISTANCE_WEIGHTED] = Field(
        0.5,
        gt=0,
        lt=2,
        description="For distance_weighted: nearer negatives are drawn as if they were this far "
        "away, between embeddings of length 1.",
    )
    distance_weighted_farthest: Annotated[float, _OF_DISTANCE_WEIGHTED] = Field(
        1.4,
        gt=0,
        le=2,
        description="For distance_weighted: negatives at this distance or farther, between "
        "embeddings of length 1, are not drawn.",
    )
    easy_positive_negative: Annotated[Literal["semihard", "hard"], _OF_EASY_POSITIVE] = Field(
        "semihard",
        description="For easy_positive: the negative is the nearest that is farther away than the "
        "positive (semihard), or the nearest (hard).",
    )
    easy_positive_temperature: Annotated[float, _OF_EASY_POSITIVE] = Field(
        0.1,
        gt=0,
        description='For easy_positive with margin "soft": differences of distances are divided '
        "by this.",
    )
    multi_similarity_alpha: Annotated[float, _OF_MULTI_SIMILARITY] = Field(
        2.0,
        gt=0,
        description="For multi_similarity: how much more an anchor's farther positives count.",
    )
    multi_similarity_beta: Annotated[float, _OF_MULTI_SIMILARITY] = Field(
        50.0,
        gt=0,
        description="For multi_similarity: how much more an anchor's nearer negatives count.",
    )
    multi_similarity_base: Annotated[float, _OF_MULTI_SIMILARITY] = Field(
        0.5,
        ge=-1,
        le=1,
        description="For multi_similarity: the cosine similarity that positives are pulled above, "
        "and negatives pushed below. The paper states 1; its authors' program uses 0.5.",
    )
    multi_similarity_epsilon: Annotated[float, _OF_MULTI_SIMILARITY] = Field(
        0.1,
        ge=0,
        description="For multi_similarity: pairs count if their similarity is less than this away "
        "from an error: from the anchor's hardest pair of the other kind.",
    )
    supervised_contrastive_temperature: Annotated[float, _OF_SUPERVISED_CONTRASTIVE] = Field(
        0.1,
        gt=0,
        description="For supervised_contrastive: cosine similarities are divided by this.",
    )
    distance: Literal[tuple(DISTANCES)] | None = Field(  # type: ignore[valid-type]
        None,
        description="Distance of two embeddings: euclidean, squared_euclidean, mean_squared "
        "(over the dimensions) or cosine (1 - cos). Default: by `squared`.",
    )
    squared: bool = Field(
        False,
        description="Short for distance squared_euclidean. Without both, the distance is "
        "euclidean.",
    )
    warmup_strategy: Annotated[str, name_in(TRIPLET_STRATEGIES)] | None = Field(
        None,
        json_schema_extra=choices(TRIPLET_STRATEGIES),
        description="The strategy of the first `warmup_steps` steps. batch_all prevents the "
        "early collapse of batch_hard.",
    )
    warmup_steps: int = Field(0, ge=0, description="Steps that use warmup_strategy.")
    embed_views: Annotated[int, _CHECKS_DATA] = Field(
        1,
        ge=1,
        le=9,
        description="Wherever images are embedded except in training, an embedding is the mean of "
        "those of this many views: the image, then shifted by 1/28 of its side right, left, down, "
        "up and diagonally. With augment.flip, each is followed by its mirror image. Takes this "
        "many times as long.",
    )
    reference_margin: float = Field(
        0.5,
        gt=0,
        description="Evaluations also report batch-all's fraction_positive at this margin, on "
        "Euclidean distances. It is comparable between experiments of any strategy and margin "
        "whose embeddings have length 1 (l2_normalize).",
    )
    stop_on_collapse: bool = Field(
        False, description="Stop training if the embeddings collapse to a point."
    )

    # Training
    optimizer: Annotated[str, name_in(OPTIMIZERS)] = Field(
        "adam",
        json_schema_extra=choices(OPTIMIZERS),
        description="What changes the weights: Adam (arXiv:1412.6980), Adam with decoupled weight "
        "decay (adamw, arXiv:1711.05101), or stochastic gradient descent (sgd).",
    )
    weight_decay: Annotated[float, _OF_ADAMW] = Field(
        0.01,
        ge=0,
        lt=1,
        description="For adamw: each step also subtracts this share of a weight, times the "
        "learning rate. Not of biases and of normalization's weights, which have one dimension.",
    )
    momentum: Annotated[float, _OF_SGD] = Field(
        0.9,
        ge=0,
        lt=1,
        description="For sgd: how much of a step's direction is kept in the next one; 0 for none.",
    )
    clip_norm: float | None = Field(
        None,
        gt=0,
        description="Scales the gradient of all weights together down to this length if it is "
        "longer. TensorBoard then shows its length before, `gradient_norm`.",
    )
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Evaluates, exports and embeds with a moving average of the weights instead of "
        "the latest: after each step, the average keeps this share of itself (0.999: about the "
        "last 1000 steps; less in the first steps). Default: the latest weights.",
    )
    learning_rate: float = Field(1e-3, gt=0, description="Learning rate of the optimizer.")
    learning_rate_schedule: Literal["constant", "cosine", "steps"] = Field(
        "constant",
        description='How the learning rate changes: "cosine" falls to 0 at the end of num_epochs, '
        '"steps" drops at learning_rate_drop_steps.',
    )
    learning_rate_drop_steps: Annotated[
        tuple[Annotated[int, Field(ge=1, strict=True)], ...], Field(strict=False), _OF_STEPS
    ] = Field(
        (),
        description="For learning_rate_schedule steps: after each of these numbers of steps, in "
        "increasing order, the learning rate is multiplied by learning_rate_drop_factor.",
    )
    learning_rate_drop_factor: Annotated[float, _OF_STEPS] = Field(
        0.1, gt=0, lt=1, description="For learning_rate_schedule steps: the factor of each drop."
    )
    learning_rate_warmup_steps: int = Field(
        0, ge=0, description="Steps over which the learning rate first rises linearly."
    )
    batch_size: int = Field(
        64,
        ge=2,
        le=65536,
        description="B, the images in a shuffled batch and in an evaluation batch. With "
        "offline: the triplets.",
    )
    micro_batch_size: int | None = Field(
        None,
        ge=1,
        description="Embeds a batch in parts of this many images, in the memory of one part. "
        "The loss and its gradient stay those of the whole batch; a step computes a third more.",
    )
    memory_size: int = Field(
        0,
        ge=0,
        le=1 << 20,
        description="M: the last M embeddings of earlier batches are further positives and "
        "negatives (arXiv:1912.06798).",
    )
    memory_start_steps: int = Field(
        0,
        ge=0,
        description="For memory_size: the memory is filled from the first step on, and used after "
        "this many steps.",
    )
    classes_per_batch: Annotated[int | None, _CHECKS_DATA] = Field(
        None, ge=2, description="P: train on batches of P classes with K images each."
    )
    examples_per_class: Annotated[int | None, _CHECKS_DATA] = Field(
        None,
        ge=2,
        description="K: the images of each class in such a batch; requires classes_per_batch.",
    )
    extra_share: Annotated[float | None, _CHECKS_DATA] = Field(
        None,
        gt=0,
        lt=1,
        description="For extra_data and classes_per_batch: the share of a batch's classes that are "
        "of extra_data. An epoch then has the other images once. Default: all classes alike.",
    )
    extra_classes: Annotated[
        tuple[Annotated[str, name_in(POSES), Field(strict=True)], ...],
        Field(strict=False),
        _CHECKS_DATA,
    ] = Field(
        (),
        json_schema_extra={"items": {"type": "string", **choices(POSES)}},
        description="Trains on more classes: the images of each class, turned "
        "(counter-clockwise) or mirrored, form one more class. For embeddings of unseen classes "
        "(arXiv:2003.00804).",
    )
    augment: Annotated[Augment, _CHECKS_DATA] = Field(
        Augment(), description="Random changes of the training images: shift, colours, blur, ..."
    )
    num_epochs: Annotated[int, _MAY_CHANGE] = Field(
        20,
        ge=1,
        description="Passes over the training split. With offline, each image is an anchor "
        "once per epoch.",
    )
    deterministic: bool = Field(
        False,
        description="Train bit-identically, even after an interruption: one thread, fixed orders. "
        "Refused for applications with their own dropout, as EfficientNetB0.",
    )

    # Output
    save_summary_steps: Annotated[int, _MAY_CHANGE, _WITHOUT_EFFECT] = Field(
        50, ge=1, description="Steps between two points of TensorBoard's training curves."
    )
    save_checkpoints_steps: Annotated[int | None, _MAY_CHANGE] = Field(
        None,
        ge=1,
        description="Steps between two checkpoints. After each, the whole validation split is "
        "evaluated. Default: one epoch.",
    )
    live_figures: Annotated[
        tuple[Annotated[str, name_in(LIVE_FIGURES), Field(strict=True)], ...],
        Field(strict=False),
        _MAY_CHANGE,
        _WITHOUT_EFFECT,
    ] = Field(
        (),
        json_schema_extra={"items": {"type": "string", **choices(LIVE_FIGURES)}},
        description="Figures drawn after each evaluation, always of the same 1000 test "
        'images. "progress" shows PCA and the loss so far. They are written to TensorBoard\'s '
        "images, to `figures/live` and, at the end, to an animated GIF.",
    )
    keep_checkpoint_max: Annotated[int, _MAY_CHANGE, _WITHOUT_EFFECT] = Field(
        5, ge=1, description="Maximum number of checkpoints kept."
    )
    best_metric: Annotated[str, name_in(BEST_METRICS)] = Field(
        "map_at_r_within",
        json_schema_extra=choices(BEST_METRICS),
        description="Metric on the validation split that chooses the best checkpoint. That "
        "checkpoint is kept, exported and used in the final evaluation.",
    )
    patience_evaluations: Annotated[int | None, _MAY_CHANGE] = Field(
        None,
        ge=1,
        description="Stop training after this many evaluations in a row without a better "
        "best_metric.",
    )

    # Facts about the data, as files of other implementations of this layout state them
    image_size: Annotated[int | None, _MAY_CHANGE, _WITHOUT_EFFECT, _FINDS_DATA] = Field(
        None,
        ge=1,
        description="Checked against the data: height and width of the images. For datasets of "
        "pictures (image_folder, tfds, hugging_face, cub200, cars196, sop): the height and width "
        "to which pictures are resized.",
    )
    num_labels: Annotated[int | None, _MAY_CHANGE, _WITHOUT_EFFECT, _CHECKS_DATA] = Field(
        None, ge=1, description="Checked against the data: the number of classes."
    )
    train_size: Annotated[int | None, _MAY_CHANGE, _WITHOUT_EFFECT, _CHECKS_DATA] = Field(
        None, ge=1, description="Checked against the data: the number of images in the train split."
    )
    eval_size: Annotated[int | None, _MAY_CHANGE, _WITHOUT_EFFECT, _CHECKS_DATA] = Field(
        None, ge=1, description="Checked against the data: the number of images in the test split."
    )
    num_parallel_calls: Annotated[int | None, _MAY_CHANGE, _WITHOUT_EFFECT] = Field(
        None, ge=1, description="Ignored; accepted for compatibility. Batches need no threads."
    )

    @property
    def distance_name(self) -> str:
        """The distance in use, whether `distance` or `squared` names it."""
        return self.distance or ("squared_euclidean" if self.squared else "euclidean")

    @property
    def strategies(self) -> set[str]:
        """The strategy and, if there is one, that of the warm-up."""
        return {self.triplet_strategy, self.warmup_strategy or self.triplet_strategy}

    @property
    def margin_in_use(self) -> float | str | None:
        """The margin; None if the strategy's loss has none."""
        return None if self.triplet_strategy in SIMILARITY_STRATEGIES else self.margin

    @property
    def has_loss_in_collapse(self) -> bool:
        """Whether all strategies choose triplets if all distances are 0."""
        return "easy_positive" not in self.strategies or self.easy_positive_negative != "semihard"

    @property
    def unread_keys(self) -> frozenset[str]:
        """The keys without effect, because the values of others do not read them."""
        return unread_keys(self)

    def arguments_of(self, strategy: str) -> dict[str, Any]:
        """Return the arguments that only this strategy has: the keys `<strategy>_<argument>`."""
        return {
            key.removeprefix(f"{strategy}_"): getattr(self, key)
            for key, field in type(self).model_fields.items()
            if ReadBy("triplet_strategy", (strategy,)) in field.metadata
        }

    @property
    def is_offline(self) -> bool:
        """Whether batches are triplets, stacked in thirds, instead of examples."""
        return self.triplet_strategy in OFFLINE_STRATEGIES

    @property
    def largest_batch(self) -> int:
        """The size of a whole training batch: of P x K or `batch_size` examples, or triplets."""
        if self.classes_per_batch and self.examples_per_class:
            return self.classes_per_batch * self.examples_per_class
        return self.batch_size

    @property
    def extra_per_batch(self) -> int | None:
        """How many classes of a P x K batch are of `extra_data`; None if all are drawn alike."""
        if self.extra_share is None or self.classes_per_batch is None:
            return None
        return min(
            max(1, round(self.extra_share * self.classes_per_batch)), self.classes_per_batch - 1
        )

    @property
    def images_at_once(self) -> int:
        """The largest number of images that the network embeds at once."""
        return self.micro_batch_size or self.batch_size

    @model_validator(mode="after")
    def _check_together(self) -> "Params":
        check_together(self)
        return self

    def differences(self, other: "Params") -> list[str]:
        """Return the keys that make `other` another experiment, sorted; some keys may change."""
        mine, theirs = self.model_dump(), other.model_dump()
        free = MAY_CHANGE_KEYS
        for values in (mine, theirs):
            values["extra_data"] = [
                {key: value for key, value in entry.items() if key not in free}
                for entry in values["extra_data"]
            ]
        if self.learning_rate_schedule == "cosine":  # each step's rate depends on the last
            free -= {"num_epochs"}
        if self.dataset in PICTURE_DATASETS:  # their image size is a choice, not a fact
            free -= {"image_size"}
        return sorted(key for key in set(mine) - free if mine[key] != theirs[key])


def keys_read_by(key: str) -> frozenset[str]:
    """Return the keys that only some choices of another key (`dataset` or `network`) read."""
    return frozenset(
        name
        for name, field in Params.model_fields.items()
        for reader in field.metadata
        if isinstance(reader, ReadBy) and reader.key == key
    )


def keys_with(role: Role) -> frozenset[str]:
    """Return the keys that are declared with a role."""
    return frozenset(name for name, key in Params.model_fields.items() if role in key.metadata)


MAY_CHANGE_KEYS = keys_with(Role.MAY_CHANGE)
