"""The header of a safetensors file: read, hashed, completed, without touching a tensor.

Bytes only (8 bytes little-endian length, JSON, tensor data), so a file of any dtype and size is copied as it is and
torch is not needed. Which keys a LoRA carries is decided in `export` and `publishing`.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from upath import UPath

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
_CHUNK_BYTES = 1 << 20


class LoraFileError(RuntimeError):
    """A LoRA file cannot be read; the message names it, the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """A parsed header.

    Attributes:
        metadata: `__metadata__`, strings by string.
        tensors: The other entries: dtype, shape, data_offsets by tensor name.
        data_start: Offset of the tensor data in the file (bytes).
    """

    metadata: dict[str, str]
    tensors: dict[str, Any]
    data_start: int


def read_header(path: UPath | Path) -> SafetensorsHeader:
    """Read the header of a safetensors file.

    Raises:
        LoraFileError: The file is missing, truncated or no safetensors file.
    """
    try:
        with path.open("rb") as file:
            return _parse(file, path.stat().st_size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise LoraFileError(
            f"{path}: not a whole safetensors file ({error}). Train the LoRA again, or delete the file."
        ) from error


def tensors_sha256(path: Path) -> str:
    """Return the sha256 (hex) of all tensor data with names, dtypes and shapes: equal weights, equal hash.

    Raises:
        LoraFileError: The file cannot be read.
    """
    header = read_header(path)
    digest = hashlib.sha256(json.dumps(header.tensors, sort_keys=True).encode())
    _feed_data(path, header, digest)
    return digest.hexdigest()


def data_sha256(path: Path) -> str:
    """Return the sha256 (hex) of the bytes behind the header, as `modelspec.hash_sha256` wants it.

    Raises:
        LoraFileError: The file cannot be read.
    """
    digest = hashlib.sha256()
    _feed_data(path, read_header(path), digest)
    return digest.hexdigest()


def data_sha256_of(content: bytes) -> str:
    """Return what `data_sha256` returns, of a file's bytes."""
    return hashlib.sha256(content[_parse(io.BytesIO(content), len(content)).data_start :]).hexdigest()


def with_metadata(content: bytes, metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a safetensors file with its metadata replaced.

    The library writes metadata in another order every time; here it is sorted, so equal content gives equal files.
    """
    header = _parse(io.BytesIO(content), len(content))
    return _header_bytes(metadata, header.tensors) + content[header.data_start :]


def copy_with_metadata(source: Path, target: Path, metadata: Mapping[str, str]) -> None:
    """Copy a safetensors file, its metadata replaced and its tensor data as it is.

    Raises:
        LoraFileError: The source cannot be read.
    """
    header = read_header(source)
    with source.open("rb") as reader, target.open("wb") as writer:
        writer.write(_header_bytes(metadata, header.tensors))
        reader.seek(header.data_start)
        while chunk := reader.read(_CHUNK_BYTES):
            writer.write(chunk)


def _parse(file: BinaryIO, size_bytes: int) -> SafetensorsHeader:
    """Read the header at the beginning of a stream; any error means that it is no whole safetensors file."""
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if not 2 <= length <= min(_MAX_HEADER_BYTES, size_bytes - _LENGTH_BYTES):
        raise ValueError("it has no safetensors header")
    entries = json.loads(file.read(length))
    metadata = {str(k): str(v) for k, v in entries.pop("__metadata__", {}).items()}
    end = _LENGTH_BYTES + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    if end != size_bytes:
        raise ValueError(f"it should have {end} bytes and has {size_bytes}")
    return SafetensorsHeader(metadata, entries, _LENGTH_BYTES + length)


def _header_bytes(metadata: Mapping[str, str], tensors: Mapping[str, Any]) -> bytes:
    entries = {"__metadata__": dict(sorted(metadata.items())), **tensors}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    # Readers map the tensors: the format wants the data to begin at a multiple of 8.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _feed_data(path: Path, header: SafetensorsHeader, digest: Any) -> None:
    with path.open("rb") as file:
        file.seek(header.data_start)
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
