"""Picture files written by hand: what Pillow does not write, by the formats' specifications."""

import struct
import zlib

import numpy as np


def packed(samples, bits, order=">"):
    """Rows of samples [H, W] or [H, W, C], each filled up to whole bytes, the first bit on top."""
    rows = np.asarray(samples).reshape(len(samples), -1)
    if bits in (8, 16, 32):
        return [row.astype(f"{order}u{bits // 8}").tobytes() for row in rows]
    shifts = np.arange(bits - 1, -1, -1)
    return [np.packbits((row[:, None] >> shifts & 1).astype(np.uint8)).tobytes() for row in rows]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples, bits, *chunks, colour_type=None):
    """A PNG file; its colour type follows from the number of channels, but for a palette, 3."""
    height, width, *channels = np.shape(samples)
    if colour_type is None:
        colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels[0] if channels else 1]
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row for row in packed(samples, bits)))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "I", 11: "f"}


def directory(entries, order, offset=8):
    """A TIFF file of these entries, tag: (type, values); the same within EXIF. No pixels."""
    start = struct.pack(f"{order}H", len(entries))
    data = b""
    data_offset = offset + 2 + 12 * len(entries) + 4
    for tag, (kind, values) in sorted(entries.items()):
        content = (
            values if kind == 2 else struct.pack(f"{order}{len(values)}{TYPES[kind]}", *values)
        )
        count = len(values) // 2 if kind == 5 else len(values)
        if len(content) > 4:
            place = struct.pack(f"{order}I", data_offset + len(data))
            data += content + b"\0" * (len(content) % 2)
        else:
            place = content.ljust(4, b"\0")
        start += struct.pack(f"{order}HHI", tag, kind, count) + place
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(f"{order}I", offset) + start + b"\0\0\0\0" + data


def tiff(samples, bits, photometric, order="<", tags=None, is_zipped=False):
    """A TIFF file of one strip, or as tags 273 and 279 say; samples are [H, W] or [H, W, C]."""
    height, width, *channels = np.shape(samples)
    num_channels = channels[0] if channels else 1
    pixels = b"".join(packed(samples, bits, order))
    if is_zipped:
        pixels = zlib.compress(pixels)
    entries = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * num_channels),
        259: (3, [8 if is_zipped else 1]),
        262: (3, [photometric]),
        273: (4, [0]),
        277: (3, [num_channels]),
        278: (4, [height]),
        279: (4, [len(pixels)]),
        **(tags or {}),
    }
    starts = np.cumsum([len(directory(entries, order)), *entries[279][1][:-1]])
    entries[273] = (4, starts.tolist())
    return directory(entries, order) + pixels


def exif(entries):
    return b"Exif\0\0" + directory(entries, "<")


def jpeg_segment(marker, data):
    return struct.pack(">HH", marker, len(data) + 2) + data
