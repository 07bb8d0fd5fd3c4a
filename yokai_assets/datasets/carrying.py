"""A person's own files in a training folder, carried over into the folder that replaces it.

Never deleted, whatever they are: notes, pictures, links, caches of other trainers, and versions of our files that no
edit could be made of. What an edit is, is `edits`.
"""

import filecmp
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from upath import UPath

from yokai_assets.datasets.manifest import Folder
from yokai_assets.storage.files import TEMPORARY_MARK, is_local

YOURS = ".yours"


def carry_over(folder: Folder, target: Path, kept: Collection[str]) -> int:
    """Copy a person's own files from a training folder to another place; return their number.

    A file whose name is needed there stays beside the new one, as `<name>.yours`; so does a changed file of the set
    that is not among `kept`.

    Args:
        folder: The folder as it is.
        target: Where the new set lies, on this machine.
        kept: Changed files of the set that are kept as edits.
    """
    names = _own_entries(folder) if is_local(folder.path) else [n for n in folder.stamps if not folder.is_own(n)]
    changed = [] if folder.is_torn else [n for n in folder.manifest.files if n not in kept and folder.is_changed(n)]
    return sum([_copied(folder.path, name, target, is_set_file=False) for name in names]) + sum(
        [_copied(folder.path, name, target, is_set_file=True) for name in changed]
    )


def _own_entries(folder: Folder) -> list[str]:
    """Return files, links and empty folders that are not the set's, relative to the folder."""
    root, found = Path(str(folder.path)), []
    for place, folders, files in os.walk(root):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in (*files, *links):
            relative = (Path(place) / name).relative_to(root).as_posix()
            if TEMPORARY_MARK not in name and not folder.is_own(relative):
                found.append(relative)
        if not folders and not files and Path(place) != root:
            found.append(Path(place).relative_to(root).as_posix())
    return sorted(found)


def _copied(source: UPath, name: str, target: Path, *, is_set_file: bool) -> bool:
    place = target / name
    if not is_local(source):
        data = (source / name).read_bytes()
        place = _free(place, is_set_file=is_set_file)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        return True
    file = Path(str(source)) / name
    if file.is_dir() and not file.is_symlink():
        place.mkdir(parents=True, exist_ok=True)
        return False
    if not is_set_file and _is_same(file, place):
        return False  # carried over a moment ago
    place = _free(place, is_set_file=is_set_file)
    if _is_same(file, place):
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    shutil.copy2(file, place, follow_symlinks=False)
    return True


def _free(place: Path, *, is_set_file: bool) -> Path:
    is_taken = is_set_file or place.exists() or place.is_symlink()
    return place.with_name(place.name + YOURS) if is_taken else place


def _is_same(file: Path, place: Path) -> bool:
    if file.is_symlink() or place.is_symlink():
        return file.is_symlink() and place.is_symlink() and file.readlink() == place.readlink()
    return place.is_file() and filecmp.cmp(file, place, shallow=False)
