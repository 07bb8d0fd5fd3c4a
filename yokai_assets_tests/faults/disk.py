"""A disk that gets full and is freed again: a small file system of its own, else a limit on the size of files."""

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yokai_assets.storage.files import TEMPORARY_MARK

_DISK_BYTES = 48 << 20


class Disk:
    """A folder and a way of leaving hardly any room in it; `how` says which way."""

    how = "a limit on the size of files (RLIMIT_FSIZE)"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def full(self, free_bytes: int) -> Iterator[None]:
        """Leave about so much room while the block runs: here, no file may be larger."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    def visible(self) -> dict[str, bytes]:
        """Every file that a reader may take up, with its content: what has its name."""
        files = {file.relative_to(self.folder): file for file in self.folder.rglob("*") if file.is_file()}
        shown = {name: file for name, file in files.items() if not any(part.startswith(".") for part in name.parts)}
        return {str(name): file.read_bytes() for name, file in shown.items()}

    def unfinished(self) -> list[str]:
        """What writers left behind."""
        return [str(file) for file in self.folder.rglob(f"*{TEMPORARY_MARK}*")]


class SmallFileSystem(Disk):
    """A tmpfs, filled by a file beside everything else."""

    how = f"a tmpfs of {_DISK_BYTES >> 20} MiB"

    @contextmanager
    def full(self, free_bytes: int) -> Iterator[None]:
        """Fill it up to so many bytes while the block runs."""
        filler = self.folder / ".filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                pass
        with filler.open("r+b") as file:
            file.truncate(max(0, filler.stat().st_size - free_bytes))
        try:
            yield
        finally:
            filler.unlink()


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """Yield a disk in an empty folder; mounting wants rights that not every machine gives."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "none", str(folder)]
    try:
        is_mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        is_mounted = False
    if not is_mounted:
        yield Disk(folder)
        return
    try:
        yield SmallFileSystem(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
