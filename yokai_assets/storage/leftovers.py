"""What a killed process leaves behind: unfinished files and folders that nobody will finish.

Names of unfinished things say which process of which machine makes them (`files.temporary_beside`); what a living one
makes is never touched. What was finished and is stale is the stages' matter.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from upath import UPath

from yokai_assets.storage.files import RETIRED_SUFFIX, TEMPORARY_MARK, host_tag, is_local, recover_folder

FOREIGN_AGE_SECONDS = 24 * 3600.0
"""What a process of another machine makes is taken for left behind when nothing was written to it for so long."""

_UNFINISHED = re.compile(re.escape(TEMPORARY_MARK) + r"(?:([0-9a-f]{8})-([0-9]+)-)?[0-9a-f]{8,}$")


def remove_leftovers(root: UPath | Path) -> list[str]:
    """Remove what killed processes left unfinished under a data root, and bring back folders that they moved aside.

    Of this machine: what processes that are gone were making. Of other machines, which may share the root: what was
    not written to for a day. Object stores hold nothing unfinished.

    Returns:
        Paths of what was removed or brought back.
    """
    if not is_local(root) or not root.exists():
        return []
    unfinished, aside = [], []
    for path in _hidden(Path(str(root))):
        if _UNFINISHED.search(path.name):
            unfinished.append(path)
        elif path.name.endswith(RETIRED_SUFFIX):
            aside.append(path)
    removed = [path for path in unfinished if _is_left_behind(path)]
    for path in removed:
        _remove(path)
    mended = [path for path in aside if _mend(path)]
    return sorted(str(path) for path in (*removed, *mended))


def _hidden(folder: Path) -> Iterator[Path]:
    """Yield hidden entries under a folder, at any depth; without `stat`, for a series has a million files."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    yield Path(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    yield from _hidden(Path(entry.path))
    except OSError:
        return


def _is_left_behind(path: Path) -> bool:
    found = _UNFINISHED.search(path.name)
    try:
        written = _last_write(path)
    except OSError:
        return False
    if found and found[1] == host_tag():
        return not _is_maker(int(found[2]), path)
    return time.time() - written > FOREIGN_AGE_SECONDS


def _is_maker(process_id: int, path: Path) -> bool:
    """Say whether the process that makes `path` lives; one that began after it only bears the same number."""
    try:
        return psutil.Process(process_id).create_time() <= path.stat().st_ctime + 1
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, OSError):
        return True


def _last_write(path: Path) -> float:
    newest = path.stat().st_mtime
    if path.is_dir():
        newest = max([newest, *(file.stat().st_mtime for file in path.rglob("*"))])
    return newest


def _mend(aside: Path) -> bool:
    """Finish what a kill between the two renames of `whole_folder` left: the old folder aside, under another name."""
    target = aside.with_name(aside.name[1 : -len(RETIRED_SUFFIX)])
    if any(aside.parent.glob(f".{target.name}{TEMPORARY_MARK}*")):
        return False  # somebody is between the two renames right now
    recover_folder(target)
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
