"""Files that are whole or absent, and folders that are swapped as one.

Local targets are written under a temporary name in the same folder and renamed; object stores commit a PUT as a
whole. What is in the files is the caller's matter.
"""

import errno
import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from upath import UPath

TEMPORARY_MARK = ".partial-"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SAYS_FULL = ("no space left", "disk is full", "quota exceeded", "file too large")
RETIRED_SUFFIX = ".retired"


class DiskFullError(OSError):
    """A file could not be written for want of space; the message names it, the reason and the remedy."""


def is_disk_full(error: BaseException) -> bool:
    """Say whether an error came of a full disk, a quota or a limit on file sizes, whichever library tells it."""
    if isinstance(error, DiskFullError) or getattr(error, "errno", None) in _FULL:
        return True
    return any(words in str(error).lower() for words in _SAYS_FULL)


@contextmanager
def told_when_full(path: UPath | Path) -> Iterator[None]:
    """Turn what libraries raise on a full disk, often without a file's name, into a `DiskFullError`.

    Args:
        path: What the block writes, or the folder that it writes into.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFullError) or not is_disk_full(error):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        free = f"; {_free_bytes(path) / 1e6:,.0f} MB are free there" if is_local(path) else ""
        raise DiskFullError(
            f"{path}: cannot be written ({reason}{free}). Free space, or move `data_root` to a larger disk, then run "
            "again: what was finished stays, and nothing half-written is read."
        ) from error


def _free_bytes(path: UPath | Path) -> int:
    place = Path(str(path))
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def is_local(path: UPath | Path) -> bool:
    """Say whether `path` lies on a local file system."""
    return isinstance(path, Path) or getattr(path, "protocol", "") in ("", "file", "local")


@cache
def host_tag() -> str:
    """Return eight hex digits that stand for this machine in names of unfinished files."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def path_below(folder: UPath, relative: str) -> UPath:
    """Return `folder / relative` for a name that people gave: `UPath` itself takes `Re::Zero` for a protocol."""
    return UPath(Path(str(folder), relative)) if is_local(folder) else folder / relative


def temporary_beside(path: Path) -> Path:
    """Return a hidden name beside `path` that says who makes it, so that `leftovers` knows what nobody will finish."""
    owner = f"{host_tag()}-{os.getpid()}"
    return path.with_name(f".{path.name}{TEMPORARY_MARK}{owner}-{uuid.uuid4().hex[:8]}")


def write_bytes(path: UPath | Path, data: bytes) -> None:
    """Write `data` to `path`: whole or absent, also when the process is killed."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: UPath | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path`, whole or absent."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: UPath | Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or absent."""
    write_text(path, as_json(value))


def as_json(value: Any) -> str:
    """Return `value` as the indented JSON that people may read and edit."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"


@contextmanager
def whole_file(path: UPath | Path) -> Iterator[Path]:
    """Yield a local temporary file that becomes `path` when the block ends without an error."""
    if is_local(path):
        target = Path(str(path))
        temporary = temporary_beside(target)
        try:
            with told_when_full(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                yield temporary
                with temporary.open("rb") as written:
                    os.fsync(written.fileno())
                temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return
    with _local_scratch() as scratch:
        temporary = scratch / path.name
        yield temporary
        path.write_bytes(temporary.read_bytes())


@contextmanager
def whole_files(paths: Sequence[UPath]) -> Iterator[list[Path]]:
    """Yield local temporary files that become `paths`, one right after the other, when the block ends without an error.

    Files that belong together and have no folder of their own: a kill while they are made changes none of them, and
    what is left for one between them is the instants between renames, in the order given; on an object store, between
    PUTs. A temporary file that the block does not write leaves its path as it is.
    """
    with told_when_full(paths[0] if paths else Path()), ExitStack() as stack:
        temporaries = [stack.enter_context(_unfinished(path)) for path in paths]
        yield temporaries
        written = [(made, path) for made, path in zip(temporaries, paths, strict=True) if made.exists()]
        for made, _ in written:
            with made.open("rb") as file:
                os.fsync(file.fileno())
        for made, path in written:
            if is_local(path):
                made.replace(Path(str(path)))
            else:
                path.write_bytes(made.read_bytes())


@contextmanager
def _unfinished(path: UPath) -> Iterator[Path]:
    """Yield a name for the unfinished content of `path`; nothing is left under it afterwards."""
    if not is_local(path):
        with _local_scratch() as scratch:
            yield scratch / path.name
        return
    target = Path(str(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(target)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, *, before_removal: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Yield a temporary local folder that replaces `path` when the block ends without an error.

    A reader sees the old folder or the new one. Between the two renames `path` is absent for an instant;
    `recover_folder` mends a kill at that instant.

    Args:
        path: The folder to replace.
        before_removal: Called with the old folder, in its place aside, when the new one is in place.
    """
    with told_when_full(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        recover_folder(path)
        temporary = temporary_beside(path)
        temporary.mkdir()
    retired = path.with_name(f".{path.name}{RETIRED_SUFFIX}")
    try:
        with told_when_full(path):
            yield temporary
            if path.exists():
                path.replace(retired)
            temporary.replace(path)
        if before_removal and retired.exists():
            before_removal(retired)
        shutil.rmtree(retired, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def recover_folder(path: Path) -> None:
    """Bring back the old folder if a kill hit `whole_folder` between its two renames."""
    retired = path.with_name(f".{path.name}{RETIRED_SUFFIX}")
    if not retired.exists():
        return
    if path.exists():
        shutil.rmtree(retired)
    else:
        retired.replace(path)


@contextmanager
def _local_scratch() -> Iterator[Path]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="yokai-") as folder:
        yield Path(folder)


def sha256_of_file(path: UPath | Path, chunk_bytes: int = 1 << 20) -> str:
    """Return the sha256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(chunk_bytes):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_parts(*parts: Any) -> str:
    """Return the sha256 (hex) of values: bytes as they are, anything else as sorted JSON. Order matters."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, default=str).encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def folder_bytes(path: UPath | Path) -> int:
    """Return the bytes of all files under `path`; 0 where there is none."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.exists() else 0
