"""What people change in a training folder with their own hands, found out, kept, and done again in every later set.

Captions that they rewrite, images that they delete or retouch, and files that they put there. The folder's
`files.json` says what was written, so that the difference is theirs; what they changed is kept in
`overrides/<series>/<character>/`, where no run ever deletes anything. Choosing and rendering are `choice` and `build`.
"""

import hashlib
import io
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError
from upath import UPath

from yokai_assets.frames.decoding import IMAGE_ERRORS
from yokai_assets.storage.files import sha256_of_file, sha256_of_parts, write_bytes
from yokai_assets.storage.layout import Layout

MANIFEST_FILE = "files.json"
EDITS_FILE = "dataset.json"
RETOUCHED = "retouched"

_LOG = logging.getLogger(__name__)


class EditsError(ValueError):
    """Kept edits that cannot be read; the message names the file, the reason and the remedy."""


class HandEdits(BaseModel):
    """A person's changes to one training set; keys are `cutout_sha256` of pictures.

    Attributes:
        captions: Whole captions, as they wrote them.
        removed: Pictures that they do not want, with the name that these had.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    captions: dict[str, str] = {}
    removed: dict[str, str] = {}


class _Written(BaseModel):
    """A file as it was written."""

    sha256: str
    size_bytes: int


class _Manifest(BaseModel):
    """What a set wrote: its files, and of which cut-out each image is (image path -> cutout_sha256)."""

    files: dict[str, _Written] = {}
    images: dict[str, str] = {}


def edits_folder(layout: Layout, character_id: str) -> UPath:
    """Return where a person's changes are kept: `overrides/<series>/<character_id>`."""
    return layout.root / "overrides" / layout.series / character_id


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


def edits_fingerprint(layout: Layout, character_id: str) -> str:
    """Return a hash of what was edited so far: it changes as soon as somebody touches the folder, not otherwise."""
    folder, kept = layout.training_data(character_id), edits_folder(layout, character_id) / EDITS_FILE
    manifest = _read_manifest(folder)
    written_ns = _written_ns(folder)
    touched = [name for name, written in manifest.files.items() if _is_touched(folder / name, written, written_ns)]
    return sha256_of_parts(
        kept.read_bytes() if kept.exists() else b"",
        retouched_images(layout, character_id),
        [(name, _stamp(folder / name)) for name in touched],
    )[:32]


def collect_edits(layout: Layout, character_id: str) -> HandEdits:
    """Find out what was edited in the folder since it was written, keep it, and return all that is kept.

    A rewritten caption is kept; a deleted `.txt` gives the automatic caption back. A deleted image is not wanted any
    more, unless all of them are gone: then the folder was cleared. A retouched image is kept as it is now.
    """
    folder, edits = layout.training_data(character_id), read_edits(layout, character_id)
    manifest = _read_manifest(folder)
    captions, removed = dict(edits.captions), dict(edits.removed)
    is_cleared = not any((folder / name).exists() for name in manifest.images)
    for name, sha256 in manifest.images.items() if not is_cleared else ():
        if not (folder / name).exists():
            removed[sha256] = PurePosixPath(name).stem
            continue
        if _is_changed(folder, name, manifest):
            _keep_retouched(folder / name, edits_folder(layout, character_id), sha256)
        text = str(PurePosixPath(name).with_suffix(".txt"))
        if not (folder / text).exists():
            captions.pop(sha256, None)
        elif _is_changed(folder, text, manifest):
            caption = _one_line((folder / text).read_bytes().decode("utf-8-sig", errors="replace"))
            if caption:
                captions[sha256] = caption
            else:
                captions.pop(sha256, None)
    found = HandEdits(captions=captions, removed=removed)
    if found != edits:
        write_edits(found, layout, character_id)
    return found


def retouched_image(layout: Layout, character_id: str, cutout_sha256: str) -> Image.Image | None:
    """Return the picture that a person made of an image, RGB; None where there is none, or it cannot be read."""
    path = edits_folder(layout, character_id) / RETOUCHED / f"{cutout_sha256}.png"
    if not path.exists():
        return None
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as picture:
            return picture.convert("RGB")
    except IMAGE_ERRORS as error:
        _LOG.warning("%s: not readable (%s); the picture is made anew instead.", path, error)
        return None


def retouched_images(layout: Layout, character_id: str) -> list[str]:
    """Return the `cutout_sha256` of the images that people retouched."""
    folder = edits_folder(layout, character_id) / RETOUCHED
    return sorted(file.stem for file in folder.glob("*.png")) if folder.exists() else []


def forget_retouched(layout: Layout, character_id: str, keys: Iterable[str]) -> None:
    """Remove the retouched versions of some pictures."""
    for key in keys:
        (edits_folder(layout, character_id) / RETOUCHED / f"{key}.png").unlink(missing_ok=True)


def carry_over(folder: UPath, target: Path) -> int:
    """Copy a person's own files from a training folder into the one that replaces it; return their number.

    A file of theirs whose name is needed stays beside the new one, as `<name>.yours`.
    """
    if not folder.exists():
        return 0
    own = _read_manifest(folder).files
    count = 0
    for name, file in _files(folder):
        if name in own or name == MANIFEST_FILE or name.endswith(".tmp"):
            continue
        place = target / name
        place = place.with_name(f"{place.name}.yours") if place.exists() else place
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
        count += 1
    return count


def write_manifest(target: Path, images: Mapping[str, str]) -> None:
    """Write down what a set consists of.

    Args:
        target: Its folder, with nothing but its own files in it yet.
        images: Image path in the folder -> `cutout_sha256`.
    """
    files = {name: _written(Path(str(file))) for name, file in _files(UPath(target))}
    (target / MANIFEST_FILE).write_text(_Manifest(files=files, images=dict(images)).model_dump_json() + "\n", "utf-8")


def _read_manifest(folder: UPath) -> _Manifest:
    path = folder / MANIFEST_FILE
    if not path.exists():
        return _Manifest()
    try:
        return _Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        _LOG.warning("%s: damaged (%s); all files of the folder are taken for your own and kept.", path, error)
        return _Manifest()


def _written_ns(folder: UPath) -> int:
    """Return when the set was written: the manifest comes after all that it names."""
    stamp = _stamp(folder / MANIFEST_FILE)
    return stamp[1] if stamp else 0


def _is_touched(file: UPath, written: _Written, written_ns: int) -> bool:
    """Say whether a file is gone, of another size, or younger than the set."""
    stamp = _stamp(file)
    return stamp is None or stamp[0] != written.size_bytes or stamp[1] > written_ns


def _is_changed(folder: UPath, name: str, manifest: _Manifest) -> bool:
    written = manifest.files.get(name)
    if written is None or not _is_touched(folder / name, written, _written_ns(folder)):
        return False
    return sha256_of_file(folder / name) != written.sha256


def _stamp(file: UPath) -> tuple[int, int] | None:
    """Return size (bytes) and time (ns; 0 where a store knows none) of a file; None where it is gone."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_size, getattr(found, "st_mtime_ns", 0)


def _written(file: Path) -> _Written:
    data = file.read_bytes()
    return _Written(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def _keep_retouched(image: UPath, kept: UPath, sha256: str) -> None:
    try:
        data = image.read_bytes()
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
    except IMAGE_ERRORS as error:
        _LOG.warning("%s: changed, but not readable as an image (%s); it is made anew.", image, error)
        return
    write_bytes(kept / RETOUCHED / f"{sha256}.png", data)


def _files(folder: UPath) -> Iterator[tuple[str, UPath]]:
    prefix = folder.path.rstrip("/") + "/"
    for file in sorted(folder.rglob("*"), key=lambda f: f.path):
        if file.is_file():
            yield file.path.removeprefix(prefix), file


def _one_line(text: str) -> str:
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def forget(edits: HandEdits, keys: Iterable[str]) -> HandEdits:
    """Return the edits without those of some pictures."""
    gone = set(keys)
    return HandEdits(
        captions={key: text for key, text in edits.captions.items() if key not in gone},
        removed={key: name for key, name in edits.removed.items() if key not in gone},
    )
