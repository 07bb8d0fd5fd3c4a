"""Pictures beside the pages: thumbnails as WebP, encoded in threads, each once.

Which pictures a page shows is decided in `build`. A picture that cannot be read is left out of the page.
"""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from upath import UPath

from yokai_assets.frames.decoding import IMAGE_ERRORS

_QUALITY = 84


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a page.

    Attributes:
        file: Relative to the gallery's folder.
        alt: What is on it.
        width_px: Width, so that pages do not jump while loading.
        height_px: Height.
    """

    file: str
    alt: str
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class PendingPicture:
    """A picture that is being encoded."""

    future: "Future[tuple[int, int] | None]"
    file: str
    alt: str

    def ready(self) -> Picture | None:
        """Return the picture, or None where its source cannot be read."""
        size = self.future.result()
        return Picture(self.file, self.alt, *size) if size else None


class PictureFolder:
    """Encodes pictures into `<gallery>/images`."""

    def __init__(self, folder: Path, pool: ThreadPoolExecutor) -> None:
        self._folder = folder
        self._pool = pool
        self._pending: dict[str, PendingPicture] = {}

    def thumbnail(self, source: UPath, name: str, side_px: int, alt: str) -> PendingPicture:
        """Encode `source` as `images/<name>.webp`, at most `side_px` wide and high, never enlarged."""
        file = f"images/{name}.webp"
        if file not in self._pending:
            future = self._pool.submit(_encode, source, self._folder / file, side_px)
            self._pending[file] = PendingPicture(future, file, alt)
        return self._pending[file]


@contextmanager
def picture_folder(folder: Path) -> Iterator[PictureFolder]:
    """Yield a folder of pictures; all of them are written when the block ends."""
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers, thread_name_prefix="gallery") as pool:
        yield PictureFolder(folder, pool)


def _encode(source: UPath, target: Path, side_px: int) -> tuple[int, int] | None:
    try:
        with source.open("rb") as file, Image.open(file) as opened:
            has_alpha = opened.mode in ("RGBA", "LA", "PA") or "transparency" in opened.info
            image = opened.convert("RGBA" if has_alpha else "RGB")
    except IMAGE_ERRORS:
        return None
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    image.save(target, "WEBP", quality=_QUALITY, method=4)
    return image.size
