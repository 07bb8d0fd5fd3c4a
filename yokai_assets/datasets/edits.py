"""What people change in a training folder with their own hands, found out, kept, and done again in every later set.

Captions that they rewrite, images that they delete or retouch, masks that they repaint, `dataset.toml`. It is kept in
`overrides/<series>/<character>/`, where no run ever deletes anything. What lies in the folder is told by `manifest`,
own files are `carrying`'s, choosing and rendering are `choice` and `build`.
"""

import codecs
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError
from upath import UPath

from yokai_assets.datasets import kohya
from yokai_assets.datasets.manifest import MANIFEST_FILE, Folder
from yokai_assets.frames.decoding import FrameError, decode_image, read_bytes
from yokai_assets.storage.files import sha256_of_file, sha256_of_parts, write_bytes
from yokai_assets.storage.layout import Layout

EDITS_FILE = "dataset.json"
RETOUCHED, REPAINTED = "retouched", "masks"

_LOG = logging.getLogger(__name__)


class EditsError(ValueError):
    """Kept edits that cannot be read; the message names the file, the reason and the remedy."""


class HandEdits(BaseModel):
    """A person's changes to one training set; keys are `cutout_sha256` of pictures.

    Attributes:
        captions: Whole captions, as they wrote them.
        removed: Pictures that they do not want, with the name that these had.
        retouched: Pictures that they retouched -> sha256 of their version.
        repainted: Pictures whose mask they repainted -> sha256 of their version.
        config_sha256: Of their version of `dataset.toml`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    captions: dict[str, str] = {}
    removed: dict[str, str] = {}
    retouched: dict[str, str] = {}
    repainted: dict[str, str] = {}
    config_sha256: str | None = None

    @property
    def counts(self) -> dict[str, int]:
        """What was changed, in numbers; what was not is left out."""
        found = {
            "captions": len(self.captions), "removed": len(self.removed), "retouched": len(self.retouched),
            "masks": len(self.repainted), "dataset.toml": int(self.config_sha256 is not None),
        }  # fmt: skip
        return {what: number for what, number in found.items() if number}

    @property
    def keys(self) -> set[str]:
        """Pictures of which anything was changed."""
        return {*self.captions, *self.removed, *self.retouched, *self.repainted}


@dataclass(frozen=True, slots=True)
class Collected:
    """All edits that are kept, and the changed files of the folder that these come from."""

    edits: HandEdits
    files: frozenset[str] = frozenset()


def edits_folder(layout: Layout, character_id: str) -> UPath:
    """Return where a person's changes are kept: `overrides/<series>/<character_id>`."""
    return layout.overrides(character_id)


def read_edits(layout: Layout, character_id: str) -> HandEdits:
    """Read the edits that are kept; none where there is no file.

    Raises:
        EditsError: The file is damaged: going on without it would undo somebody's work in silence.
    """
    path = edits_folder(layout, character_id) / EDITS_FILE
    if not path.exists():
        return HandEdits()
    try:
        return HandEdits.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
        raise EditsError(f"{path}: cannot be read ({reason}). Correct it, or remove it to forget the edits.") from error


def write_edits(edits: HandEdits, layout: Layout, character_id: str) -> None:
    """Keep edits, whole or not at all."""
    text = json.dumps(edits.model_dump(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_bytes(edits_folder(layout, character_id) / EDITS_FILE, text.encode())


def fingerprint_of(edits: HandEdits, touched: Iterable[object] = ()) -> str:
    """Return a hash of edits that are kept, and of files that were touched since."""
    return sha256_of_parts(edits.model_dump(), list(touched))[:32]


def edits_fingerprint(layout: Layout, character_id: str) -> str:
    """Return a hash of what was edited so far: it changes as soon as somebody touches the folder, not otherwise."""
    try:
        kept = read_edits(layout, character_id)
    except EditsError as error:  # the step itself says so
        return sha256_of_parts(str(error))[:32]
    folder = Folder(layout.training_data(character_id))
    return fingerprint_of(kept, [(name, folder.stamps.get(name)) for name in folder.touched()])


def collect_edits(layout: Layout, character_id: str, *, path: UPath | None = None) -> Collected:
    """Find out what was edited in the folder since it was written, keep it, and return all that is kept.

    A rewritten caption is kept; a deleted `.txt` gives the automatic caption back. A deleted image is not wanted any
    more, unless all of its split are gone: then the folder was cleared. Retouched images, repainted masks and
    `dataset.toml` are kept as they are now. What cannot be understood is not kept here, and stays beside the new files.

    Args:
        layout: Where things lie.
        character_id: Whose folder.
        path: The folder, where it is not in its usual place.
    """
    before = read_edits(layout, character_id)
    folder = Folder(path or layout.training_data(character_id))
    if folder.is_torn:
        return Collected(before)
    collector = _Collector(folder, edits_folder(layout, character_id), before)
    for name, sha256 in folder.manifest.images.items():
        if name in folder.stamps:
            collector.take_pictures(name, sha256)
            collector.take_caption(name, sha256)
        elif not collector.is_cleared(name):
            collector.found["removed"][sha256] = PurePosixPath(name).stem
    collector.take_config()
    edits = HandEdits.model_validate(collector.found)
    if edits != before:
        write_edits(edits, layout, character_id)
    return Collected(edits, frozenset(collector.files))


class _Collector:
    """Adds what was changed in a folder to what was kept before: `found` is `HandEdits`, taken from `files`."""

    def __init__(self, folder: Folder, kept: UPath, before: HandEdits) -> None:
        self.found: dict[str, Any] = before.model_dump()
        self.files: set[str] = set()
        self._folder, self._kept = folder, kept
        there = {_split_of(name) for name in folder.manifest.images if name in folder.stamps}
        self._cleared = {"train", kohya.HELD_OUT} - there

    def is_cleared(self, name: str) -> bool:
        """Say whether all images of this one's split are gone: somebody made room, and judged none of them."""
        return _split_of(name) in self._cleared

    def take_pictures(self, name: str, sha256: str) -> None:
        """Keep a retouched image and a repainted mask."""
        mask = kohya.mask_path(_split_of(name), PurePosixPath(name).stem)
        for file, where in ((name, RETOUCHED), (mask, REPAINTED)):
            path = self._folder.path / file
            if self._folder.is_changed(file) and _keep_picture(path, self._kept / where / f"{sha256}.png"):
                self.found["retouched" if where == RETOUCHED else "repainted"][sha256] = sha256_of_file(path)
                self.files.add(file)

    def take_caption(self, name: str, sha256: str) -> None:
        """Keep a rewritten caption; one that was deleted or emptied is the automatic one again."""
        text = str(PurePosixPath(name).with_suffix(".txt"))
        if text in self._folder.stamps and not self._folder.is_changed(text):
            return
        caption = _caption_in(self._folder.path / text) if text in self._folder.stamps else ""
        if caption is None:
            return
        self.files.add(text)
        if caption:
            self.found["captions"][sha256] = caption
        else:
            self.found["captions"].pop(sha256, None)

    def take_config(self) -> None:
        """Keep an edited `dataset.toml`."""
        if self._folder.is_changed(kohya.CONFIG_FILE):
            data = (self._folder.path / kohya.CONFIG_FILE).read_bytes()
            write_bytes(self._kept / kohya.CONFIG_FILE, data)
            self.found["config_sha256"] = sha256_of_parts(data)
            self.files.add(kohya.CONFIG_FILE)


def own_picture(layout: Layout, character_id: str, where: str, cutout_sha256: str) -> Image.Image | None:
    """Return a person's version of an image or a mask; None where there is none, or it cannot be read.

    Args:
        layout: Where things lie.
        character_id: Whose.
        where: `RETOUCHED` or `REPAINTED`.
        cutout_sha256: Of which picture.
    """
    path = edits_folder(layout, character_id) / where / f"{cutout_sha256}.png"
    if not path.exists():
        return None
    try:
        return decode_image(read_bytes(path), str(path))
    except FrameError as error:
        _LOG.warning("%s: %s; the automatic version is used instead.", path, error.reason)
        return None


def own_config(layout: Layout, character_id: str, edits: HandEdits) -> bytes | None:
    """Return a person's version of `dataset.toml`; None where there is none."""
    path = edits_folder(layout, character_id) / kohya.CONFIG_FILE
    return path.read_bytes() if edits.config_sha256 is not None and path.exists() else None


def forget(layout: Layout, character_id: str, keys: set[str], *, also_config: bool = False) -> HandEdits:
    """Forget what was changed of some pictures, also in the folder as it lies there, and return what is left."""
    edits = collect_edits(layout, character_id).edits
    left = HandEdits(
        **{
            part: {key: value for key, value in found.items() if key not in keys}
            for part, found in edits.model_dump(exclude={"config_sha256"}).items()
        },
        config_sha256=None if also_config else edits.config_sha256,
    )
    write_edits(left, layout, character_id)
    for key in keys:
        for where in (RETOUCHED, REPAINTED):
            (edits_folder(layout, character_id) / where / f"{key}.png").unlink(missing_ok=True)
    folder = Folder(layout.training_data(character_id))
    if folder.manifest.files:  # all that is changed there was collected just now: nothing of it is to be found again
        manifest = folder.manifest.without(keys)
        files = {n: w for n, w in manifest.files.items() if not (also_config and n == kohya.CONFIG_FILE)}
        text = manifest.model_copy(update={"files": files}).model_dump_json()
        write_bytes(folder.path / MANIFEST_FILE, text.encode())
    return left


def _split_of(name: str) -> str:
    return kohya.HELD_OUT if name.startswith(f"{kohya.HELD_OUT}/") else "train"


def _keep_picture(image: UPath, place: UPath) -> bool:
    try:
        data = read_bytes(image)
        decode_image(data, str(image))
    except FrameError as error:
        _LOG.warning("%s: changed, but not readable as an image: %s; it stays beside the new one.", image, error.reason)
        return False
    write_bytes(place, data)
    return True


def _caption_in(file: UPath) -> str | None:
    """Return the text of a file on one line; None where it is in no encoding that is known."""
    data = file.read_bytes()
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        _LOG.warning("%s: not UTF-8 (%s): save it as UTF-8. It stays beside the automatic caption.", file, error)
        return None
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())
