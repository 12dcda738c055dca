"""Where a training computes: what to warn of, and what is refused."""

from pathlib import Path

from model.estimator import tf
from src.errors import UserError
from src.params.schema import Params
from src.system.accelerators import has_bfloat16_units, why_no_gpu


def check_devices(params: Params, path: Path) -> list[str]:
    """Return one line for each thing that makes a training slower than a user may think.

    Args:
        params: `compute_dtype`.
        path: the file of the params, for the messages.

    Raises:
        UserError: `compute_dtype` is float16, but there is no GPU: TensorFlow's float16
            convolutions take up to 67 times as long on a processor.
    """
    num_gpus = len(tf.config.get_visible_devices("GPU"))
    if num_gpus:
        return []
    reason = why_no_gpu()
    if params.compute_dtype == "float16":
        raise UserError(
            f'{path}: compute_dtype: found "float16", but TensorFlow sees no GPU'
            f"{f' ({reason})' if reason else ''}; accepted: 'bfloat16' or 'float32', because "
            "float16 convolutions take up to 67 times as long on a processor"
        )
    lines = [reason] if reason else []
    if params.compute_dtype == "bfloat16" and not has_bfloat16_units():
        lines.append(
            f"{path}: compute_dtype: bfloat16 is slower than float32 on this processor, which has "
            "no units for it"
        )
    return lines
