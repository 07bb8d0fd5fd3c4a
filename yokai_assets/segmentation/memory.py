"""What an episode's frames were cut into before: by the frame's content and the matte, so that no frame is cut twice.

The rows come from the stored table and from a journal beside the cut-outs. The journal also knows the frames in which
nothing was found, and what a killed run had finished. How frames are cut is decided in `layers`.
"""

import json
import logging
import time
from typing import Any

import polars as pl
from upath import UPath

from yokai_assets.storage.files import write_bytes
from yokai_assets.tables import INSTANCES

JOURNAL_NAME = "processed.json"
JOURNAL_VERSION = 1
_SAVE_SECONDS = 30.0

_LOG = logging.getLogger(__name__)
_OF_THE_FRAME = (
    "instance_id",
    "frame_id",
    "episode",
    "frame_index",
    "shot",
    "weight",
    "frame_sha256",
    "matte_fingerprint",
)
CARRIED = tuple(column.name for column in INSTANCES.columns if column.name not in _OF_THE_FRAME)
"""Columns that hold wherever the frame stands in its episode; the rest is told by the table of frames."""


class InstanceMemory:
    """Instances by frame content, for one episode and one matte."""

    def __init__(self, folder: UPath, matte_fingerprint: str, previous: pl.DataFrame | None) -> None:
        """Load what is known; rows whose cut-out files are gone are forgotten."""
        self._path = folder / JOURNAL_NAME
        self._fingerprint = matte_fingerprint
        self._saved_at = time.monotonic()
        self._is_changed = False
        files = {file.name for file in folder.iterdir()} if folder.exists() else set()
        known = {**_from_table(previous, matte_fingerprint), **self._from_journal()}
        self._known = {
            sha256: rows
            for sha256, rows in known.items()
            if all(str(row["cutout"]).rpartition("/")[2] in files for row in rows)
        }

    def __contains__(self, frame_sha256: str) -> bool:
        return frame_sha256 in self._known

    def instances(self, frame_sha256: str) -> list[dict[str, Any]]:
        """Return the instances of a known frame: the columns of `CARRIED`; an empty list where there were none."""
        return self._known[frame_sha256]

    def remember(self, frame_sha256: str, instances: list[dict[str, Any]]) -> None:
        """Add a frame whose cut-outs are on disk; the journal is written every half minute."""
        self._known[frame_sha256] = instances
        self._is_changed = True
        if time.monotonic() - self._saved_at >= _SAVE_SECONDS:
            self._write()

    def save(self, keep: set[str]) -> None:
        """Write the journal with the frames of `keep` alone."""
        gone = self._known.keys() - keep
        for sha256 in gone:
            del self._known[sha256]
        if self._is_changed or gone or not self._path.exists():
            self._write()

    def _write(self) -> None:
        content = {"version": JOURNAL_VERSION, "matte_fingerprint": self._fingerprint, "frames": self._known}
        write_bytes(self._path, json.dumps(content, separators=(",", ":")).encode())
        self._saved_at = time.monotonic()
        self._is_changed = False

    def _from_journal(self) -> dict[str, list[dict[str, Any]]]:
        if not self._path.exists():
            return {}
        try:
            content = json.loads(self._path.read_bytes())
            is_ours = (content["version"], content["matte_fingerprint"]) == (JOURNAL_VERSION, self._fingerprint)
            frames = content["frames"] if is_ours else {}
            if any(set(row) != set(CARRIED) for rows in frames.values() for row in rows):
                return {}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _LOG.warning("%s is damaged (%s) and is made anew: its frames are cut out again.", self._path, error)
            return {}
        return frames


def _from_table(previous: pl.DataFrame | None, matte_fingerprint: str) -> dict[str, list[dict[str, Any]]]:
    if previous is None or previous.is_empty():
        return {}
    rows = previous.filter(pl.col("matte_fingerprint") == matte_fingerprint).sort("frame_id", "instance_index")
    known: dict[str, list[dict[str, Any]]] = {}
    first_frame: dict[str, str] = {}
    for row in rows.select("frame_sha256", "frame_id", *CARRIED).iter_rows(named=True):
        sha256, frame_id = row.pop("frame_sha256"), row.pop("frame_id")
        if first_frame.setdefault(sha256, frame_id) == frame_id:  # the same picture may stand in two shots
            known.setdefault(sha256, []).append(row)
    return known
