"""Folders on any file system: replaced as one where that is possible, and local copies of single files.

Local folders go through `storage.files.whole_folder`. Object stores have no rename, so there the files are
uploaded one by one, the one named last as the sign that the rest is there.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from upath import UPath

from yokai_assets.storage.files import is_local, whole_folder


@contextmanager
def replaced_folder(path: UPath | Path, last: str) -> Iterator[Path]:
    """Yield an empty local folder that replaces `path` when the block ends without an error.

    Args:
        path: The folder to replace, local or remote.
        last: File name (relative to the folder) that readers look for first: remotely it is removed before
            the upload and written after everything else, so that a torn upload is never taken for a whole
            one.
    """
    if is_local(path):
        with whole_folder(Path(str(path))) as folder:
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
    kept = set(names)
    if path.exists():
        prefix = path.path.rstrip("/") + "/" if isinstance(path, UPath) else f"{path}/"
        for file in list(path.rglob("*")):
            full = file.path if isinstance(file, UPath) else str(file)
            if full.removeprefix(prefix) not in kept and file.is_file():
                file.unlink()
    for name in sorted(names, key=lambda n: (n == last, n)):
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((folder / name).read_bytes())
