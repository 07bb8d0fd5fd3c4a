"""Older versions of a published LoRA: `<name>-v001.safetensors` and what speaks of it.

When one is replaced is decided in `publish`.
"""

import re
import shutil

from upath import UPath

from yokai_assets.publishing.sidecar import read_written
from yokai_assets.storage.files import whole_file, write_json
from yokai_assets.storage.folders import local_copy
from yokai_assets.training.safetensors_header import LoraFileError, tensors_sha256

_PICTURES = (".preview.png", ".samples.webp")


def hash_if_readable(lora: UPath) -> str | None:
    """Return the hash of a LoRA's weights; None where there is no such file or it is damaged."""
    if not lora.exists():
        return None
    try:
        with local_copy(lora) as local:
            return tensors_sha256(local)
    except LoraFileError:
        return None


def keep_version(lora: UPath, old_hash: str | None) -> UPath:
    """Copy a published LoRA and what speaks of it to the next free `-vNNN` name; return the copy.

    The LoRA is copied last: without it there is no version. A sidecar and pictures that speak of other weights, as a
    kill may have left them, do not go along.

    Args:
        lora: The published LoRA.
        old_hash: Hash of its weights; None where it is damaged.
    """
    folder, stem = lora.parent, lora.name.removesuffix(".safetensors")
    pattern = re.compile(rf"{re.escape(stem)}-v(\d+)\.safetensors")
    taken = [int(match[1]) for file in folder.iterdir() if (match := pattern.fullmatch(file.name))]
    newest = folder / f"{stem}-v{max(taken, default=0):03d}.safetensors"
    if taken and old_hash is not None and hash_if_readable(newest) == old_hash:
        # A call before this one was killed between keeping the old version and writing the new one.
        return newest
    name = f"{stem}-v{max(taken, default=0) + 1:03d}"
    values, record = read_written(folder / f"{stem}.json")
    if record is None or record.tensors_sha256 == old_hash:
        for suffix in _PICTURES:
            _copy(folder / f"{stem}{suffix}", folder / f"{name}{suffix}")
        if record is not None and record.evaluation is not None:
            values["yokai"]["evaluation"]["comparison"] = f"{name}.samples.webp"
        if values:
            write_json(folder / f"{name}.json", values)
    version = folder / f"{name}.safetensors"
    _copy(lora, version)
    return version


def _copy(source: UPath, target: UPath) -> None:
    if not source.exists():
        return
    with whole_file(target) as temporary, source.open("rb") as reader, temporary.open("wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
