"""Pictures of anyone's cameras and tools: found below a folder, read as RGB.

PNG, JPEG, WebP, TIFF and BMP of any mode: grey, palette, transparent (on white), 16 bits (scaled),
floating point, CMYK; turned as their EXIF says. Of TIFFs with several pages and of phones' JPEGs
with several frames the first counts; animations are refused. Pillow's limits on the size of a
picture stay on. `akorn_jax.segment` reads pictures in the same way, as its tests check.
"""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from datasets.errors import DatasetError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
ANIMATIONS = ("PNG", "WEBP", "GIF")  # formats whose further frames are an animation
# What Pillow raises of damaged files.
_BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, MemoryError, TypeError, LookupError),
    *(AttributeError, ArithmeticError, struct.error, Image.DecompressionBombError),
)


def find(folder: Path, without: str = "") -> list[Path]:
    """All pictures below a folder, sorted by path, but for those below `folder/without`.

    Raises:
      DatasetError: there is none.
    """
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in ENDINGS
        and path.relative_to(folder).parts[0] != without
        and path.is_file()
    )
    if not found:
        raise DatasetError(f"{folder}: holds no picture ({', '.join(ENDINGS)})")
    return found


def read(path: Path) -> Image.Image:
    """A picture as RGB.

    Raises:
      DatasetError: it cannot be read; the line names it.
    """
    with naming(path, "a picture"), Image.open(path) as picture:
        refuse_animation(picture)
        picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I") or picture.mode == "F":
            picture = _in_bytes(picture)
        if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        return picture.convert("RGB")


def refuse_animation(picture: Image.Image) -> None:
    """Raises ValueError where there is more than one frame to look at."""
    if picture.format in ANIMATIONS and getattr(picture, "n_frames", 1) > 1:
        raise ValueError("it is animated")


@contextlib.contextmanager
def naming(path: Path, what: str) -> Iterator[None]:
    """Turns what is raised of a bad file into one line with its name."""
    try:
        yield
    except _BROKEN as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DatasetError(
            f"{path}: cannot be read as {what} ({reason}); mend or remove it, or use --skip_bad"
        ) from error


def _in_bytes(picture: Image.Image) -> Image.Image:
    """Grey levels of 16 bits, or floating point up to 1, 255 or 65535, as 8 bits."""
    levels = np.asarray(picture).astype(np.float64)
    if not np.isfinite(levels).all():
        raise ValueError("it holds numbers that are not finite")
    top = 65535.0
    if picture.mode == "F":
        top = next((top for top in (1.0, 255.0) if levels.max() <= top), top)
    return Image.fromarray(np.rint(255 * np.clip(levels / top, 0, 1)).astype(np.uint8))
