"""The bundled demo models: where they lie, and proof that they are what was shipped.

Not here: how they were made (:mod:`yokai_assets.demo.training`, and MODEL_CARD.md beside this file), or how
they are run (the stages do that with the libraries that they use for real models).
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Literal

from yokai_assets.storage.files import sha256_of_file, write_json

ModelName = Literal["matte", "clip", "base"]
MODELS_FOLDER = Path(__file__).parent
_MANIFEST = "manifest.json"
_REMEDY = "Install the package again, or make the model anew with `python -m yokai_assets.demo.training.{name}`."


class BundledModelError(RuntimeError):
    """A bundled model is missing, incomplete or changed."""


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))


def write_manifest(name: ModelName, folder: Path = MODELS_FOLDER) -> None:
    """Records the sha256 of every file of a model in ``manifest.json``; other models' entries stay.

    Raises:
        BundledModelError: the model's folder has no files.
    """
    files = _files(folder / name)
    if not files:
        raise BundledModelError(f"{folder / name}: no files. {_REMEDY.format(name=name)}")
    manifest = _read_manifest(folder)
    manifest[name] = {file.relative_to(folder / name).as_posix(): sha256_of_file(file) for file in files}
    write_json(folder / _MANIFEST, dict(sorted(manifest.items())))
    _verified.cache_clear()


def manifest_of(name: ModelName, folder: Path = MODELS_FOLDER) -> dict[str, str]:
    """File -> sha256 of a bundled model, as the manifest tells it, without reading the files; empty for none."""
    return _read_manifest(folder).get(name, {})


def _read_manifest(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / _MANIFEST
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundledModelError(f"{path}: not readable as JSON ({error}). Install the package again.") from error


def bundled_model(name: ModelName, folder: Path = MODELS_FOLDER) -> Path:
    """The folder of a bundled model, after each of its files was checked against ``manifest.json``.

    A model whose files have neither changed size nor time since the last call is not read again.

    Raises:
        BundledModelError: unknown model, or one of its files is missing or not the shipped one; the message names the
            file and the remedy.
    """
    expected = _read_manifest(folder).get(name)
    if not expected:
        raise BundledModelError(f"{folder / _MANIFEST}: lists no model {name!r}. {_REMEDY.format(name=name)}")
    remedy = _REMEDY.format(name=name)
    for relative in expected:
        if not (folder / name / relative).is_file():
            raise BundledModelError(f"{folder / name / relative}: this file of the bundled model is missing. {remedy}")
    stamps = tuple((folder / name / relative).stat() for relative in expected)
    _verified(
        folder / name,
        tuple(expected.items()),
        tuple((stamp.st_size, stamp.st_mtime_ns) for stamp in stamps),
        remedy,
    )
    return folder / name


@lru_cache(maxsize=16)
def _verified(
    folder: Path, expected: tuple[tuple[str, str], ...], stamps: tuple[tuple[int, int], ...], remedy: str
) -> None:
    """Cached by the files' sizes and times (`stamps`); errors are not cached."""
    if len(stamps) != len(expected):
        raise ValueError("one stamp for each file is needed")
    for relative, sha256 in expected:
        found = sha256_of_file(folder / relative)
        if found != sha256:
            raise BundledModelError(
                f"{folder / relative}: not the file that was shipped (sha256 {found[:12]}…, expected {sha256[:12]}…). "
                f"{remedy}"
            )
