"""What a training folder was written with, so that a person's changes to it, and files of their own, are known.

Facts about files only; what follows from them is `edits` (changes) and `carrying` (own files).
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from upath import UPath

from yokai_assets.datasets import kohya
from yokai_assets.storage.files import is_local, sha256_of_file

MANIFEST_FILE = "files.json"

_LOG = logging.getLogger(__name__)
_FIXED = {
    kohya.CONFIG_FILE, kohya.METADATA_FILE, kohya.REJECTED_FILE, MANIFEST_FILE,
    f"{kohya.HELD_OUT}/{kohya.METADATA_FILE}", f"{kohya.HELD_OUT}/{kohya.RECORDS_FILE}",
}  # fmt: skip
_OF_AN_INSTANCE = re.compile(rf"(?:{kohya.HELD_OUT}/)?(?:{kohya.MASKS}/)?[^/]+_\d{{6}}_\d+\.(?:png|txt)")

Stamp = tuple[int, int]
"""Size (bytes) and time of change (ns since 1970; 0 where a store is not asked for it)."""


class Written(BaseModel):
    """A file as it was written."""

    sha256: str
    size_bytes: int


class Manifest(BaseModel):
    """What a set wrote: its files, and of which cut-out each image is (image path -> cutout_sha256)."""

    files: dict[str, Written] = {}
    images: dict[str, str] = {}

    def without(self, sha256s: set[str]) -> "Manifest":
        """Return it without the images of some cut-outs: whatever is done to them is no edit."""
        return Manifest(files=self.files, images={n: s for n, s in self.images.items() if s not in sha256s})


class Folder:
    """A training folder as it lies there now, listed once; `last` is the file that is uploaded after all others.

    Attributes:
        path: The folder.
        manifest: What it was written with; empty where that is not known.
        is_torn: An upload broke off: what differs from the manifest is nobody's edit.
    """

    def __init__(self, path: UPath, last: str = kohya.CONFIG_FILE) -> None:
        self.path = path
        self.stamps = _listing(path)
        self.manifest = self._read_manifest()
        self.is_torn = not is_local(path) and last not in self.stamps
        self._written_ns = self.stamps.get(MANIFEST_FILE, (0, 0))[1]

    def touched(self) -> list[str]:
        """Return the files of the set that are gone, of another size, or younger than the set."""
        return [name for name in self.manifest.files if self._is_touched(name)]

    def is_changed(self, name: str) -> bool:
        """Say whether a file of the set is there with another content than was written."""
        written = self.manifest.files.get(name)
        if written is None or name not in self.stamps or not self._is_touched(name):
            return False
        return sha256_of_file(self.path / name) != written.sha256

    def is_own(self, name: str) -> bool:
        """Say whether a file is the set's, not the person's.

        Where no manifest tells (a set of an older version, an upload that broke off), names do.
        """
        if name in self.manifest.files or name == MANIFEST_FILE:
            return True
        is_set = self.is_torn or (not self.manifest.files and kohya.CONFIG_FILE in self.stamps)
        return is_set and (name in _FIXED or bool(_OF_AN_INSTANCE.fullmatch(name)))

    def _is_touched(self, name: str) -> bool:
        stamp = self.stamps.get(name)
        return stamp is None or stamp[0] != self.manifest.files[name].size_bytes or stamp[1] > self._written_ns

    def _read_manifest(self) -> Manifest:
        if MANIFEST_FILE not in self.stamps:
            return Manifest()
        path = self.path / MANIFEST_FILE
        try:
            return Manifest.model_validate_json(path.read_bytes())
        except ValidationError as error:
            _LOG.warning("%s: damaged (%s); changes made by hand since the last run are not seen.", path, error)
            return Manifest()


def write_manifest(target: Path, images: Mapping[str, str]) -> Manifest:
    """Write down what a set consists of.

    Args:
        target: Its folder, with nothing but its own files in it yet.
        images: Image path in the folder -> `cutout_sha256`.
    """
    files = {}
    for name in sorted(_listing(UPath(target))):
        data = (target / name).read_bytes()
        files[name] = Written(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    manifest = Manifest(files=files, images=dict(images))
    (target / MANIFEST_FILE).write_text(manifest.model_dump_json() + "\n", "utf-8")
    return manifest


def _listing(folder: UPath) -> dict[str, Stamp]:
    """Return file -> stamp of all files below a folder: one request on an object store."""
    if not is_local(folder):
        found: dict[str, Any] = dict(folder.fs.find(folder.path, detail=True)) if folder.exists() else {}
        prefix = folder.path.rstrip("/") + "/"
        return {name.removeprefix(prefix): (info.get("size") or 0, 0) for name, info in found.items()}
    root = Path(str(folder))
    stamps = {}
    for file in sorted(root.rglob("*")):
        if file.is_file():
            stat = file.stat()
            stamps[file.relative_to(root).as_posix()] = (stat.st_size, stat.st_mtime_ns)
    return stamps
