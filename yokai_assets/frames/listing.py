"""What lies in a folder, on a local disk or on any fsspec store, in one cheap pass.

Names, kinds and sizes only; no file is opened. What a name means for the series is decided in `episodes`.
"""

import datetime
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from upath import UPath

from yokai_assets.storage.files import is_local

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".avif", ".bmp", ".dib", ".gif", ".tif", ".tiff",
    ".tga", ".ppm", ".pgm", ".pnm", ".jp2", ".j2k", ".qoi",
})
VIDEO_SUFFIXES = frozenset({
    ".mkv", ".mp4", ".m4v", ".webm", ".avi", ".mov", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv",
    ".vob", ".rmvb", ".3gp", ".divx",
})
# fmt: on

_DIGITS = re.compile(r"([0-9]+)")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder. Sizes and times are null where the store does not tell them or they were not asked for."""

    name: str
    is_folder: bool
    is_link: bool
    size_bytes: int | None = None
    modified_ns: int | None = None

    @property
    def suffix(self) -> str:
        """The file name's extension in lower case, with its dot."""
        return os.path.splitext(self.name)[1].lower()  # noqa: PTH122 - a million names: pathlib is ten times slower

    @property
    def is_image(self) -> bool:
        """Whether the name is that of an image file."""
        return not self.is_folder and self.suffix in IMAGE_SUFFIXES

    @property
    def is_video(self) -> bool:
        """Whether the name is that of a video file."""
        return not self.is_folder and self.suffix in VIDEO_SUFFIXES


def natural_key(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Return a sort key under which `frame2` comes before `frame10`; equal only for equal names."""
    parts = _DIGITS.split(name.casefold())
    return tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p), name


def is_storable_name(name: str) -> bool:
    """Say whether a name is valid Unicode; names of other encodings fit neither Parquet nor JSON."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def list_folder(folder: UPath, *, with_sizes: bool = False) -> list[Entry]:
    """List a folder's visible entries in natural order.

    Hidden names (a leading dot: `.DS_Store`, `._frame.jpg`, unfinished files) and anything that is neither file nor
    folder (pipes, sockets) are left out. A link that leads nowhere is kept as a file, so that it can be reported.

    Args:
        folder: A local folder or one on an fsspec store.
        with_sizes: Ask for sizes and times too; on a local disk that costs one `stat` a file.

    Raises:
        OSError: The folder cannot be listed.
    """
    entries = _list_local(str(folder), with_sizes) if is_local(folder) else _list_remote(folder)
    return sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: natural_key(entry.name))


def _list_local(folder: str, with_sizes: bool) -> Iterator[Entry]:
    with os.scandir(folder) as scan:
        for item in scan:
            is_link = item.is_symlink()
            if _is_folder(item):
                yield Entry(item.name, is_folder=True, is_link=is_link)
            elif is_link or item.is_file(follow_symlinks=False):
                if is_link and not _leads_to_file_or_nowhere(item):
                    continue
                size_bytes, modified_ns = _size_and_time(item) if with_sizes else (None, None)
                yield Entry(item.name, is_folder=False, is_link=is_link, size_bytes=size_bytes, modified_ns=modified_ns)


def _is_folder(item: "os.DirEntry[str]") -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link into itself
        return False


def _leads_to_file_or_nowhere(item: "os.DirEntry[str]") -> bool:
    try:
        return item.is_file() or not os.path.exists(item.path)  # noqa: PTH110
    except OSError:
        return True


def _size_and_time(item: "os.DirEntry[str]") -> tuple[int | None, int | None]:
    try:
        status = item.stat()
    except OSError:
        return None, None
    return status.st_size, status.st_mtime_ns


def _list_remote(folder: UPath) -> Iterator[Entry]:
    for info in folder.fs.ls(folder.path, detail=True):
        path = str(info["name"]).rstrip("/")
        if path == folder.path.rstrip("/"):  # some stores list the folder's own marker object
            continue
        yield Entry(
            path.rpartition("/")[2],
            is_folder=info.get("type") == "directory",
            is_link=False,
            size_bytes=info.get("size"),
            modified_ns=_modified_ns(info),
        )


def _modified_ns(info: Mapping[str, Any]) -> int | None:
    """Read a modification time from an fsspec listing; every store calls it by another name."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "modified", "created"):
        value = info.get(name)
        if isinstance(value, datetime.datetime):
            return int(value.timestamp() * 1_000_000) * 1000
        if isinstance(value, int | float):
            return int(value * 1_000_000_000)
        if isinstance(value, str):
            try:
                moment = datetime.datetime.fromisoformat(value)
            except ValueError:
                continue
            return int(moment.timestamp() * 1_000_000) * 1000
    return None
