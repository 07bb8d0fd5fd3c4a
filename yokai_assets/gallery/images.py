"""Pictures beside the pages: thumbnails and montages as WebP, encoded in threads, each once.

A picture whose source has not changed since the last report is taken over from it: 20,000 thumbnails cost minutes to
encode and seconds to link. So is one whose source was removed to save space, where the source's name stands for its
content. Which pictures a page shows is decided in `pages`. A picture that cannot be read is left out of the page.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from upath import UPath

from yokai_assets.frames.decoding import IMAGE_ERRORS, open_image
from yokai_assets.storage.files import sha256_of_parts

MANIFEST_FILE = "images/manifest.json"
_RECIPE = "webp 84/4, 2"
"""How pictures are encoded: changed whenever equal sources would give other pictures."""
_QUALITY, _METHOD = 84, 4
_MONTAGE_COLUMNS = 2


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
class Encoded:
    """A picture on disk: what it was made of, its file relative to the gallery, its size; the names of its sources."""

    key: str
    file: str
    width_px: int
    height_px: int
    size_bytes: int
    names: str


@dataclass(frozen=True, slots=True)
class PendingPicture:
    """A picture that is being encoded."""

    future: "Future[Encoded | None]"
    file: str
    alt: str

    def ready(self) -> Picture | None:
        """Return the picture, or None where its source cannot be read."""
        made = self.future.result()
        return Picture(self.file, self.alt, made.width_px, made.height_px) if made else None


class PictureFolder:
    """Encodes pictures into `<gallery>/images`, or takes them over from the previous gallery."""

    def __init__(self, folder: Path, pool: ThreadPoolExecutor, previous: Path | None = None) -> None:
        self._folder, self._pool, self._previous = folder, pool, previous
        self._known = _read_manifest(previous) if previous else {}
        self._named = {encoded.names: encoded for encoded in self._known.values()}
        self._pending: dict[str, PendingPicture] = {}

    def thumbnail(
        self, source: UPath, name: str, side_px: int, alt: str, *, is_named_by_content: bool = False
    ) -> PendingPicture:
        """Encode `source` as `images/<name>.webp`, at most `side_px` wide and high, never enlarged.

        With `is_named_by_content`, the previous report's picture of a source that is gone is as good.
        """
        return self._submit((source,), name, side_px, alt, is_named_by_content)

    def montage(
        self, sources: Sequence[UPath], name: str, side_px: int, alt: str, *, is_named_by_content: bool = False
    ) -> PendingPicture:
        """Encode up to four pictures as one of `side_px`, two by two; a single one as its thumbnail."""
        return self._submit(tuple(sources[: _MONTAGE_COLUMNS**2]), name, side_px, alt, is_named_by_content)

    def write_manifest(self) -> None:
        """Note what each picture was made of, for the next report."""
        made = [encoded for pending in self._pending.values() if (encoded := pending.future.result())]
        rows = {e.key: [e.file, e.width_px, e.height_px, e.size_bytes, e.names] for e in made}
        target = self._folder / MANIFEST_FILE
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(rows, separators=(",", ":")), encoding="utf-8")

    def _submit(
        self, sources: tuple[UPath, ...], name: str, side_px: int, alt: str, is_named_by_content: bool
    ) -> PendingPicture:
        file = f"images/{name}.webp"
        if file not in self._pending:
            future = self._pool.submit(self._make, sources, file, side_px, is_named_by_content)
            self._pending[file] = PendingPicture(future, file, alt)
        return self._pending[file]

    def _make(self, sources: tuple[UPath, ...], file: str, side_px: int, is_named_by_content: bool) -> Encoded | None:
        states, names = _states(sources), sha256_of_parts([str(source) for source in sources], side_px, _RECIPE)[:32]
        key = sha256_of_parts(states, side_px, _RECIPE)[:32]
        known = self._known.get(key) if states else None
        if is_named_by_content and len(states) < len(sources):
            known = self._named.get(names) or known
        if not states and known is None:
            return None
        target = self._folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if known and self._previous and _take_over(self._previous / known.file, target, known.size_bytes):
            return Encoded(known.key, file, known.width_px, known.height_px, known.size_bytes, names)
        images = [image for source in sources if (image := _read(source, side_px)) is not None]
        if not images:
            return None
        image = images[0] if len(images) == 1 else _montage(images, side_px)
        image.save(target, "WEBP", quality=_QUALITY, method=_METHOD)
        return Encoded(key, file, *image.size, target.stat().st_size, names)


@contextmanager
def picture_folder(folder: Path, previous: Path | None = None) -> Iterator[PictureFolder]:
    """Yield a folder of pictures; all of them are written when the block ends.

    Args:
        folder: The new gallery.
        previous: The gallery before it, whose pictures are taken over where their sources have not changed.
    """
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers, thread_name_prefix="gallery") as pool:
        pictures = PictureFolder(folder, pool, previous)
        yield pictures
        pictures.write_manifest()


def _states(sources: Sequence[UPath]) -> list[object]:
    """Return what a picture is made of: the files that are there, their sizes and times."""
    states: list[object] = []
    for source in sources:
        try:
            status = source.stat()
        except OSError:
            continue
        states.append([str(source), status.st_size, int(status.st_mtime * 1e6)])
    return states


def _read_manifest(gallery: Path) -> Mapping[str, Encoded]:
    """Return what the previous report noted, by key; nothing where there is none or it is damaged."""
    try:
        rows = json.loads((gallery / MANIFEST_FILE).read_text(encoding="utf-8"))
        return {
            key: Encoded(key, str(file), int(width_px), int(height_px), int(size_bytes), str(names))
            for key, (file, width_px, height_px, size_bytes, names) in rows.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _take_over(source: Path, target: Path, size_bytes: int) -> bool:
    """Link or copy a picture of the previous report; say whether it was there, whole."""
    try:
        if source.stat().st_size != size_bytes:
            return False
        try:
            os.link(source, target)
        except OSError:  # no links on this file system
            shutil.copyfile(source, target)
    except OSError:
        return False
    return True


def _read(source: UPath, side_px: int) -> Image.Image | None:
    try:
        with source.open("rb") as file, open_image(file) as opened:
            # JPEG sources are decoded at a fraction of their size; others ignore it.
            opened.draft("RGB", (side_px, side_px))
            has_alpha = opened.mode in ("RGBA", "LA", "PA") or "transparency" in opened.info
            image = opened.convert("RGBA" if has_alpha else "RGB")
    except IMAGE_ERRORS:
        return None
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return image


def _montage(images: Sequence[Image.Image], side_px: int) -> Image.Image:
    """Lay two to four pictures out two by two on a transparent square."""
    cell = side_px // _MONTAGE_COLUMNS
    rows = -(-len(images) // _MONTAGE_COLUMNS)
    sheet = Image.new("RGBA", (side_px, cell * rows))
    for index, image in enumerate(images):
        small = image.copy()
        small.thumbnail((cell - 6, cell - 6), Image.Resampling.LANCZOS)
        left = index % _MONTAGE_COLUMNS * cell + (cell - small.width) // 2
        top = index // _MONTAGE_COLUMNS * cell + (cell - small.height) // 2
        sheet.paste(small, (left, top))
    return sheet
