"""Folders on any file system: replaced as one where that is possible, and local copies of single files.

Local folders go through `storage.files.whole_folder`. Object stores have no rename, so there the files are
uploaded one by one, the one named last as the sign that the rest is there.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from upath import UPath

from yokai_assets.storage.files import is_local, whole_folder


@contextmanager
def replaced_folder(
    path: UPath | Path, last: str, *, before_removal: Callable[[Path], None] | None = None
) -> Iterator[Path]:
    """Yield an empty local folder that replaces `path` when the block ends without an error.

    Args:
        path: The folder to replace, local or remote.
        last: File name (relative to the folder) that readers look for first: remotely it is removed before
            the upload and written after everything else, so that a torn upload is never taken for a whole
            one.
        before_removal: Called with the old folder when the new one is in place; not on object stores.
    """
    if is_local(path):
        with whole_folder(Path(str(path)), before_removal=before_removal) as folder:
            yield folder
        return
    with tempfile.TemporaryDirectory(prefix="yokai-") as scratch:
        folder = Path(scratch)
        yield folder
        _upload(folder, path, last)


@contextmanager
def local_copy(path: UPath | Path) -> Iterator[Path]:
    """Yield a local path with the file's content: the file itself where it is local."""
    if is_local(path):
        yield Path(str(path))
        return
    with tempfile.TemporaryDirectory(prefix="yokai-") as scratch:
        copy = Path(scratch) / path.name
        copy.write_bytes(path.read_bytes())
        yield copy


def _upload(folder: Path, path: UPath | Path, last: str) -> None:
    names = sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file())
    (path / last).unlink(missing_ok=True)
    for name in names:
        if name != last:
            _put(folder / name, path / name)
    kept = set(names)
    prefix = path.path.rstrip("/") + "/" if isinstance(path, UPath) else f"{path}/"
    for file in list(path.rglob("*")) if path.exists() else ():
        full = file.path if isinstance(file, UPath) else str(file)
        if full.removeprefix(prefix) not in kept and file.is_file():
            file.unlink()
    _put(folder / last, path / last)


def _put(file: Path, target: UPath | Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(file.read_bytes())
