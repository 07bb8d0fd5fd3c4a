"""The header of a safetensors file: read, hashed, completed, without touching a tensor.

Bytes only (8 bytes little-endian length, JSON, tensor data), so a file of any dtype and size is copied as it is and
torch is not needed. Which keys a LoRA carries is decided in `publish`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def read_header(path: Path) -> SafetensorsHeader:
    """Read the header of a safetensors file.

    Raises:
        LoraFileError: The file is missing, truncated or no safetensors file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if not 2 <= length <= min(_MAX_HEADER_BYTES, size - _LENGTH_BYTES):
                raise ValueError("it has no safetensors header")
            entries = json.loads(file.read(length))
        metadata = {str(k): str(v) for k, v in entries.pop("__metadata__", {}).items()}
        data_bytes = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        if _LENGTH_BYTES + length + data_bytes != size:
            raise ValueError(f"it should have {_LENGTH_BYTES + length + data_bytes} bytes and has {size}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise LoraFileError(
            f"{path}: not a whole safetensors file ({error}). Train the LoRA again, or delete the file."
        ) from error
    return SafetensorsHeader(metadata, entries, _LENGTH_BYTES + length)


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


def copy_with_metadata(source: Path, target: Path, metadata: Mapping[str, str]) -> None:
    """Copy a safetensors file, its metadata replaced and its tensor data as it is.

    Raises:
        LoraFileError: The source cannot be read.
    """
    header = read_header(source)
    text = json.dumps({"__metadata__": dict(metadata), **header.tensors}, separators=(",", ":"), ensure_ascii=False)
    data = text.encode("utf-8")
    # Readers map the tensors: the format wants the data to begin at a multiple of 8.
    data += b" " * (-len(data) % 8)
    with source.open("rb") as reader, target.open("wb") as writer:
        writer.write(len(data).to_bytes(_LENGTH_BYTES, "little"))
        writer.write(data)
        reader.seek(header.data_start)
        while chunk := reader.read(_CHUNK_BYTES):
            writer.write(chunk)


def _feed_data(path: Path, header: SafetensorsHeader, digest: Any) -> None:
    with path.open("rb") as file:
        file.seek(header.data_start)
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
