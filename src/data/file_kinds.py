"""Names the type of a file that cannot be read as a picture, and says what to do about it."""

import re
import zlib
from typing import IO, Any

from PIL import TiffImagePlugin

from src.printable import printable

_CONVERT = "convert it to JPEG or PNG"
_FRAMES = "save its frames as JPEG or PNG"

# A pattern of the file's first bytes, the type, and what to do. The first match counts.
_KINDS = [
    (
        rb"....ftyp.{0,40}avi[fs]",
        "an AVIF picture that is damaged or of an unsupported kind",
        _CONVERT,
    ),
    (rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", "a HEIC picture", _CONVERT),
    (rb"....ftypcrx ", "a camera's raw file", _CONVERT),
    (rb"....ftyp|....(moov|mdat)", "a video", _FRAMES),
    (rb"\x1aE\xdf\xa3|RIFF....AVI |OggS|FLV\x01|\0\0\x01[\xb3\xba]", "a video", _FRAMES),
    (
        rb"II\*\0....CR\x02|FUJIFILMCCD-RAW|II(RO|RS|U\0)|MMOR|FOVb|\0MRM",
        "a camera's raw file",
        _CONVERT,
    ),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL picture", _CONVERT),
    (rb"II\xbc", "a JPEG XR picture", _CONVERT),
    (rb".{0,1000}%PDF-", "a PDF document", "save its pages as PNG"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript file", "save it as PNG"),
    (rb"8BPS", "a Photoshop picture of an unsupported kind", _CONVERT),
    (rb"\xff\xd8\xff", "a JPEG picture that is damaged or of an unsupported kind", _CONVERT),
    (rb"\x89PNG\r\n\x1a\n|GIF8|RIFF....WEBP", "a damaged picture", "download or copy it again"),
    (rb"gimp xcf", "a GIMP picture", _CONVERT),
    (rb".{128}DICM", "a DICOM picture", _CONVERT),
    (rb"\x93NUMPY", "a NumPy array", "save it as PNG"),
    (rb"PK\x03\x04|Rar!|7z\xbc\xaf|\x1f\x8b", "an archive", "unpack it"),
    (rb"version https://git-lfs", "a Git LFS pointer", "fetch the file with git lfs pull"),
    (rb"\s*<(!(?i:doctype) )?(?i:html)", "a web page", "download the picture itself"),
]


def name_kind(file: IO[bytes]) -> str | None:
    """Return the type of an unreadable file and what to do; None if the type is unknown."""
    file.seek(0)
    head = file.read(4096)
    if not head:
        return "an empty file"
    if _is_svg(head):
        return "an SVG drawing, which has no pixels; save it as PNG"
    for pattern, kind, way_out in _KINDS:
        if re.match(pattern, head, re.DOTALL):
            return f"{kind}; {way_out}"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return f"a TIFF picture of an unsupported kind{_tiff_facts(file, head)}; {_CONVERT}"
    return None


def _is_svg(head: bytes) -> bool:
    """Return whether a file with these first bytes is SVG, as text or gzipped (.svgz)."""
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(31).decompress(head, 4096)
        except zlib.error:
            return False
    is_utf_16 = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = head.decode("utf-16" if is_utf_16 else "latin-1", errors="replace")
    # A declaration, comments, a document type and its entities may precede the drawing.
    is_xml = re.match(r"(\xef\xbb\xbf)?\s*<(\?xml|!--|!DOCTYPE\s+(\w+:)?svg|(\w+:)?svg\b)", text)
    return bool(is_xml and re.search(r"<(!DOCTYPE\s+)?(\w+:)?svg\b", text))


def _tiff_facts(file: IO[bytes], head: bytes) -> str:
    """Return how a TIFF file stores its pixels, as names and values of TIFF tags."""
    names = {258: "BitsPerSample", 339: "SampleFormat", 262: "PhotometricInterpretation"}
    try:
        tags: Any = TiffImagePlugin.ImageFileDirectory_v2(head[: 16 if head[2:3] == b"+" else 8])
        file.seek(tags.next)
        tags.load(file)
        found = {name: str(tags[tag]).strip("(,)") for tag, name in names.items() if tag in tags}
    except Exception:  # a damaged file raises many types, see `src.data.decode.decode`
        return ""
    facts = ", ".join(f"{name} {value[:40]}" for name, value in found.items())
    return printable(f" ({facts})") if facts else ""
