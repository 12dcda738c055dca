"""Writes frames as an animated GIF."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from src.system.atomic import atomic_write
from src.system.progress import phase

# To choose the common palette, each frame is reduced to at most this many pixels a side.
_PREVIEW_SIDE = 256


def write_gif(
    path: Path, frames: Sequence[Image.Image], *, seconds: float = 0.5, last_seconds: float = 2.5
) -> None:
    """Write an animated GIF that repeats without end.

    All frames share one palette of 256 colours, chosen from all frames, without dithering. Separate
    palettes or dithering would make still areas flicker. Equal consecutive frames become one frame,
    shown for their total time.

    Args:
        path: the file to create or replace.
        frames: RGB, at least one, all of one size.
        seconds: display time of each frame, rounded to 0.01 s.
        last_seconds: display time of the last frame.
    """
    durations = [round(100 * seconds) * 10] * (len(frames) - 1) + [round(100 * last_seconds) * 10]
    with phase(f"writing {path.name}"):
        palette = _common_palette(frames)
        paletted = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
        with atomic_write(path) as file:
            paletted[0].save(
                file,
                format="GIF",
                save_all=True,
                append_images=paletted[1:],
                duration=durations,
                loop=0,
                optimize=False,
            )


def _common_palette(frames: Sequence[Image.Image]) -> Image.Image:
    """Return an image whose palette fits all frames."""
    previews = [frame.copy() for frame in frames]
    for preview in previews:
        preview.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE), Image.Resampling.NEAREST)
    width, height = previews[0].size
    sheet = Image.new("RGB", (width, height * len(previews)))
    for row, preview in enumerate(previews):
        sheet.paste(preview, (0, row * height))
    return sheet.quantize(256, method=Image.Quantize.MAXCOVERAGE)
