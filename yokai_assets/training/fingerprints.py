"""Fingerprints of model files: sha256 of their bytes, remembered by path, size and modification time.

Only files. What a fingerprint is compared with is the caller's matter.
"""

import json
import logging
from pathlib import Path
from typing import Any

from upath import UPath

from yokai_assets.storage.files import sha256_of_file, sha256_of_parts, write_json

_LOG = logging.getLogger(__name__)
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5", ".onnx", ".onnx_data")
_MEMORY: dict[tuple[str, int, int], str] = {}


def file_fingerprint(path: Path, memory: UPath | Path | None = None) -> str:
    """Return the sha256 of a file, hashed again only when its size or modification time changed.

    Args:
        path: Local file.
        memory: Folder that remembers digests between processes; None remembers for this process only.
    """
    stat = path.stat()
    key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    if key in _MEMORY:
        return _MEMORY[key]
    note = None if memory is None else memory / f"{sha256_of_parts(key[0])}.json"
    digest = None if note is None else _remembered(note, key)
    if digest is None:
        digest = sha256_of_file(path)
        if note is not None:
            write_json(note, {"path": key[0], "size_bytes": key[1], "modified_ns": key[2], "sha256": digest})
    _MEMORY[key] = digest
    return digest


def _remembered(note: UPath | Path, key: tuple[str, int, int]) -> str | None:
    if not note.exists():
        return None
    try:
        value: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
        same = (value["path"], value["size_bytes"], value["modified_ns"]) == key
        return str(value["sha256"]) if same else None
    except (ValueError, KeyError, TypeError) as error:
        _LOG.warning("%s is damaged (%s): the model file is hashed again.", note, error)
        return None


def folder_fingerprint(folder: Path, memory: UPath | Path | None = None) -> str | None:
    """Return the fingerprint of one component's folder; None where there is no such folder.

    Weights in other formats are left out where safetensors exist, as diffusers leaves them out.
    """
    if not folder.is_dir():
        return None
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    has_safetensors = any(path.suffix == ".safetensors" for path in files)
    kept = [
        path
        for path in files
        if not has_safetensors or path.suffix == ".safetensors" or path.suffix not in _WEIGHT_SUFFIXES
    ]
    return sha256_of_parts(*((path.relative_to(folder).as_posix(), file_fingerprint(path, memory)) for path in kept))
