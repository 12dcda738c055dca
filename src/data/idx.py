"""Reads IDX files, the format of MNIST and of datasets modelled on it."""

import gzip
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.errors import UserError
from src.system.regular_file import open_regular

GZIP_MAGIC = b"\x1f\x8b"
UINT8_CODE = 0x08
OTHER_TYPES = {0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
MAX_BYTES = 2**32  # when unpacked, because a small gzip file can unpack to any size
MAX_DIMENSIONS = 4  # a split has at most [N, H, W, C]


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes.

    Format: two zero bytes, the type code, the number of dimensions, the sizes (big-endian 32-bit
    integers), the values in row-major order. Gzip is detected by content, not by name.

    Args:
        path: the file, raw or gzip.

    Returns:
        uint8, read-only, of the shape in the header: 1 to 4 dimensions, each at least 1.

    Raises:
        UserError: the file is missing, damaged, or not an IDX file of unsigned bytes.

    Source: the section "the IDX file format" of http://yann.lecun.com/exdb/mnist/
    """
    chunks = read_chunks(path)
    first = next(chunks, b"")
    shape, header_size = _read_header(path, first)
    expected = math.prod(shape)
    sizes = " x ".join(map(str, shape))
    # Read little more than the header states, because a small gzip file can unpack to any size.
    content = bytearray(first)
    while len(content) <= header_size + expected and (chunk := next(chunks, b"")):
        content += chunk
        if len(content) > MAX_BYTES:
            raise UserError(
                f"{path}: found sizes {sizes} in the header; accepted: at most {MAX_BYTES} bytes"
            )
    found = len(content) - header_size
    if found < expected:
        raise UserError(
            f"{path}: byte {header_size}: truncated: found {found} bytes of values; accepted: "
            f"{expected}, because the header states sizes {sizes}"
        )
    if found > expected:
        raise UserError(
            f"{path}: byte {header_size + expected}: found trailing bytes; accepted: {expected} "
            f"bytes of values, because the header states sizes {sizes}"
        )
    array = np.frombuffer(content, np.uint8, offset=header_size).reshape(shape)
    array.flags.writeable = False
    return array


def read_chunks(path: Path, size: int = 1 << 20) -> Iterator[bytes]:
    """Yield the bytes of `path`, `size` at a time; a gzip file is unpacked.

    Raises:
        UserError: the file is missing or cannot be read, or its gzip stream is damaged.
    """
    try:
        with open_regular(path) as raw:
            packed = raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) if packed else raw as file:
                while chunk := file.read(size):
                    yield chunk
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; accepted: an IDX file, raw or gzip") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"{path}: damaged gzip ({error}); accepted: an intact gzip file or a raw IDX file"
        ) from error
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or error}; accepted: a readable IDX file, raw or gzip"
        ) from error


def _read_header(path: Path, content: bytes) -> tuple[tuple[int, ...], int]:
    """Return the shape and the header's size in bytes."""
    if len(content) < 4:
        raise UserError(
            f"{path}: byte {len(content)}: the file ends; accepted: an IDX file, which starts "
            "with 4 bytes: 00 00, the type code, the number of dimensions"
        )
    if content[:2] != b"\0\0":
        raise UserError(
            f"{path}: bytes 0-1: found {content[:2].hex(' ')}; accepted: 00 00 (IDX) or "
            f"{GZIP_MAGIC.hex(' ')} (gzip)"
        )
    type_code, num_dimensions = content[2], content[3]
    if type_code != UINT8_CODE:
        name = OTHER_TYPES.get(type_code, "not a type of IDX")
        raise UserError(
            f"{path}: byte 2: found type code 0x{type_code:02x} ({name}); accepted: "
            f"0x{UINT8_CODE:02x} (uint8)"
        )
    if not 1 <= num_dimensions <= MAX_DIMENSIONS:
        raise UserError(
            f"{path}: byte 3: found {num_dimensions} dimensions; accepted: 1 to {MAX_DIMENSIONS}"
        )
    header_size = 4 + 4 * num_dimensions
    if len(content) < header_size:
        raise UserError(
            f"{path}: byte {len(content)}: the file ends within its header; accepted: a header "
            f"of {header_size} bytes, for {num_dimensions} dimensions"
        )
    shape = tuple(np.frombuffer(content[4:header_size], ">u4").tolist())
    if 0 in shape:
        sizes = " x ".join(map(str, shape))
        raise UserError(f"{path}: byte 4: found sizes {sizes}; accepted: sizes of at least 1")
    return shape, header_size
