"""Copies a picture file without its metadata, because damaged metadata can make it unreadable."""

import io
import os
import struct
from typing import IO

_MAX_BYTES = 1 << 28
"""The largest file that is copied, because the copy is held in memory."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"sBIT", b"IDAT", b"eXIf", b"IEND")

# The TIFF tags that say how pixels are stored and shown. Omitted: dates, resolution, maker notes,
# colour profiles, and the EXIF and GPS directories.
_TIFF_TAGS = {
    *(254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 281, 284, 292, 293, 317, 320),
    *(322, 323, 324, 325, 330, 332, 338, 339, 347, 512, 513, 514, 515, 519, 520, 521),
    *(529, 530, 531, 532, 0xC612),
}


def bare_copy(file: IO[bytes]) -> IO[bytes] | None:
    """Return a copy of a PNG, JPEG or TIFF file without metadata, except the orientation.

    Pillow refuses files with faulty metadata, such as a comment that is too long or a resolution
    that is not a number.

    Returns:
        The copy. None if the file has another format, is too large, or is cut off or malformed.
    """
    if file.seek(0, os.SEEK_END) > _MAX_BYTES:
        return None
    file.seek(0)
    content = file.read()
    try:
        if content.startswith(_PNG):
            return io.BytesIO(_bare_png(content))
        if content.startswith(b"\xff\xd8\xff"):
            return io.BytesIO(_bare_jpeg(content))
        if content[:4] in (b"II*\0", b"MM\0*"):
            return io.BytesIO(_bare_tiff(content))
    except (struct.error, IndexError):  # cut off
        pass
    return None


def _bare_png(content: bytes) -> bytes:
    parts, position = [_PNG], len(_PNG)
    while position < len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        if kind in _PNG_CHUNKS:
            parts.append(content[position : position + length + 12])
        position += length + 12
        if kind == b"IEND":
            break
    return b"".join(parts)


def _bare_jpeg(content: bytes) -> bytes:
    parts, position = [content[:2]], 2
    while True:
        marker, length = struct.unpack_from(">HH", content, position)
        end = position + 2 + length
        if marker < 0xFFC0 or length < 2:
            raise IndexError("no segment")
        # APP14 (Adobe) says how colours are stored. APP1 may be EXIF. 0xFFFE is a comment.
        is_metadata = 0xFFE0 <= marker <= 0xFFEF and marker != 0xFFEE or marker == 0xFFFE
        is_exif = content[position + 4 : position + 10] == b"Exif\0\0"
        if marker == 0xFFDA:  # the pixels
            return b"".join([*parts, content[position:]])
        if not is_metadata or is_exif:
            parts.append(content[position:end])
        position = end


def _bare_tiff(content: bytes) -> bytes:
    """Return the file with only the needed tags in its first directory."""
    order = "<" if content[:1] == b"I" else ">"
    (start,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, start)
    entries_end = start + 2 + 12 * count
    entries = [content[i : i + 12] for i in range(start + 2, entries_end, 12)]
    kept = [e for e in entries if struct.unpack_from(f"{order}H", e)[0] in _TIFF_TAGS]
    directory = (
        struct.pack(f"{order}H", len(kept))
        + b"".join(kept)
        + content[entries_end : entries_end + 4]
    )
    return content[:start] + directory + content[start + len(directory) :]
