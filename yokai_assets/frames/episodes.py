"""Which episodes a source holds, and the partition key of each.

An episode is a folder that directly holds images, at any depth, or a video file. Looking at the frames themselves
is `scan`'s matter; sensors and partitions belong to `yokai_assets.defs`.
"""

import difflib
import hashlib
import os
import re
import unicodedata
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from upath import UPath

from yokai_assets.frames.listing import Entry, is_storable_name, list_folder
from yokai_assets.storage.files import is_local, path_below, sha256_of_parts

MAX_KEY_LENGTH = 100
"""Longer keys are cut and hashed: a key becomes a file name, and those end at 255 bytes."""

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)
"""Names that no file may have on Windows, whatever its extension: a data root may lie on such a share."""
_FORBIDDEN = re.compile(r"[^A-Za-z0-9._-]")


class EpisodeNotFoundError(LookupError):
    """No episode of that key in the source; the message names near ones."""


@dataclass(frozen=True, slots=True)
class EpisodeSource:
    """An episode: its partition key, where it lies, and whether that is a folder of images or a video file."""

    key: str
    path: UPath
    kind: Literal["folder", "video"]


@dataclass(frozen=True, slots=True)
class SourceProblem:
    """Something in the source that is no episode and should be looked at: where, why, what to do."""

    path: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}. {self.remedy}"


def episode_key(relative_path: str) -> str:
    """Turn a path relative to the source into an episode's partition key.

    `/` becomes `.`; other characters outside `[A-Za-z0-9._-]` become `_`. A name that had to be changed gets eight
    hex digits of its sha256 appended, so that two names never meet in one key (`第1話` and `第2話` stay two episodes).
    A name is brought to Unicode form NFC first: the same folder has the same key on every system. A key holds no run
    of dots (`...` separates partition ranges in Dagster), begins with a letter, digit or `_`, ends in no dot, is no
    device of Windows (`CON`), and is at most 100 characters long.

    Args:
        relative_path: Folder, or video file without its extension; `/` separates folders.

    Raises:
        ValueError: The path is empty, absolute or leads upwards.
    """
    path = unicodedata.normalize("NFC", relative_path)
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"`{relative_path}` is no path below the source of frames")
    joined = ".".join(parts)
    key = re.sub(r"\.{2,}", ".", _FORBIDDEN.sub("_", joined)).lstrip(".-").rstrip(".")
    if _RESERVED.match(key):
        key = f"_{key}"
    if key == joined and len(key) <= MAX_KEY_LENGTH:
        return key
    digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    stem = key[: MAX_KEY_LENGTH - 9].rstrip(".-")
    return f"{stem}-{digest}" if stem else f"episode-{digest}"


def discover_episodes(source: UPath) -> tuple[list[EpisodeSource], list[SourceProblem]]:
    """Find every episode below `source`.

    Links to folders are followed, each real folder once (so links in circles end). Where two paths give one key, the
    shallower path has it, then a folder before a video, then the first by name; the other is a problem.

    Returns:
        Episodes sorted by key, and what was left out and why. A source that is not there is a problem, not an error.
    """
    problem = _unusable_source(source)
    if problem:
        return [], [problem]
    walk = _Walk(source)
    walk.run()
    episodes: dict[str, EpisodeSource] = {}
    for found in sorted(walk.found, key=lambda f: (f.relative.count("/"), f.kind != "folder", f.relative)):
        known = episodes.get(found.key)
        if known is None:
            episodes[found.key] = EpisodeSource(found.key, path_below(source, found.relative), found.kind)
            continue
        walk.problems.append(
            SourceProblem(
                found.relative,
                f"its episode key `{found.key}` already belongs to `{known.path.relative_to(source).as_posix()}`",
                "Rename one of them, or remove it if both are the same episode.",
            )
        )
    return [episodes[key] for key in sorted(episodes)], walk.problems


def find_episode(source: UPath, key: str) -> EpisodeSource:
    """Return the episode of a key; a folder of that very name is found without walking the whole source.

    Raises:
        EpisodeNotFoundError: The source holds no such episode.
    """
    direct = source / key
    if _is_plain_key(key) and direct.is_dir() and any(entry.is_image for entry in list_folder(direct)):
        return EpisodeSource(key, direct, "folder")
    episodes, problems = discover_episodes(source)
    for episode in episodes:
        if episode.key == key:
            return episode
    near = difflib.get_close_matches(key, [episode.key for episode in episodes], n=3)
    hint = f" Near: {', '.join(near)}." if near else ""
    notes = f" Left out there: {problems[0]}" if problems else ""
    raise EpisodeNotFoundError(
        f"episode `{key}` is not in {source} ({len(episodes)} episodes there).{hint}{notes} "
        "Put its folder or video back, or remove its partition."
    )


def source_fingerprint(episode: EpisodeSource) -> str:
    """Return a hash of which files the episode consists of, by name, size and time, without opening any."""
    parent = episode.path if episode.kind == "folder" else episode.path.parent
    entries = list_folder(parent, with_sizes=True)
    own = (e for e in entries if (e.is_image if episode.kind == "folder" else e.name == episode.path.name))
    return sha256_of_parts([(e.name, e.size_bytes, e.modified_ns) for e in own])[:32]


def _is_plain_key(key: str) -> bool:
    try:
        return "/" not in key and episode_key(key) == key
    except ValueError:
        return False


def _unusable_source(source: UPath) -> SourceProblem | None:
    remedy = "Set `frames_source` to the folder that holds one folder or video file per episode."
    if not source.exists():
        return SourceProblem(str(source), "the source of frames does not exist", remedy)
    if not source.is_dir():
        return SourceProblem(str(source), "the source of frames is a file", remedy)
    return None


@dataclass(frozen=True, slots=True)
class _Found:
    relative: str
    key: str
    kind: Literal["folder", "video"]


@dataclass(slots=True)
class _Walk:
    """A walk over the source: real folders first, then links, so that a link never takes a real folder's place."""

    source: UPath
    found: list[_Found] = field(default_factory=list)
    problems: list[SourceProblem] = field(default_factory=list)
    _folders: deque[str] = field(default_factory=lambda: deque([""]))
    _links: deque[str] = field(default_factory=deque)
    _seen: dict[tuple[int, int], str] = field(default_factory=dict)

    def run(self) -> None:
        while self._folders or self._links:
            relative = self._folders.popleft() if self._folders else self._links.popleft()
            if self._is_new(relative):
                self._look_into(relative)

    def _path(self, relative: str) -> UPath:
        return path_below(self.source, relative) if relative else self.source

    def _is_new(self, relative: str) -> bool:
        if not is_local(self.source):
            return True
        try:
            status = os.stat(str(self._path(relative)))  # noqa: PTH116
        except OSError as error:
            self._report(relative, f"cannot be opened ({error.strerror or error})", "Check its permissions.")
            return False
        first = self._seen.setdefault((status.st_dev, status.st_ino), relative)
        if first != relative:
            self._report(relative, f"is a link to `{first or '.'}`, which is read already", "Remove the link.")
        return first == relative

    def _look_into(self, relative: str) -> None:
        try:
            entries = list_folder(self._path(relative))
        except OSError as error:
            self._report(relative, f"cannot be listed ({error.strerror or error})", "Check its permissions.")
            return
        has_image = any(entry.is_image for entry in entries)
        if has_image and relative:
            self._add(relative, relative, "folder")
        elif has_image:
            self._report(
                "", "images lie directly in the source and belong to no episode", "Move them into a folder per episode."
            )
        self._take_children(relative, entries)
        if relative and not has_image and not any(entry.is_folder or entry.is_video for entry in entries):
            self._report(relative, "holds no image and no video", "Remove the folder, or extract the frames into it.")

    def _take_children(self, relative: str, entries: Iterable[Entry]) -> None:
        for entry in entries:
            child = f"{relative}/{entry.name}" if relative else entry.name
            if entry.is_folder:
                (self._links if entry.is_link else self._folders).append(child)
            elif entry.is_video:
                self._add(child, child[: -len(entry.suffix)], "video")

    def _add(self, relative: str, name: str, kind: Literal["folder", "video"]) -> None:
        if is_storable_name(relative):
            self.found.append(_Found(relative, episode_key(name), kind))
        else:
            self._report(relative, "its name is not valid UTF-8", "Rename it, e.g. with `convmv -t utf-8`.")

    def _report(self, relative: str, reason: str, remedy: str) -> None:
        shown = (relative or str(self.source)).encode("utf-8", "backslashreplace").decode()
        self.problems.append(SourceProblem(shown, reason, remedy))
