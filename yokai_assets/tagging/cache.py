"""What readers said, kept by content: no picture is read twice by the same reader.

The key is the reader's fingerprint and the cut-out's sha256, so an entry is never stale. One SQLite file holds all;
any number of processes may use it at once. How a picture is read belongs to `booru` and `captioner`.
"""

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import platformdirs
import polars as pl
from filelock import FileLock

from yokai_assets.frames.decoding import FrameError
from yokai_assets.progress import Progress, silent
from yokai_assets.segmentation.cutouts import cutout_batches
from yokai_assets.segmentation.restoring import Restore, nothing_to_restore
from yokai_assets.storage.files import is_disk_full, is_local, told_when_full
from yokai_assets.storage.layout import Layout
from yokai_assets.tagging.reading import ImageReader, ImageReading, TaggerError, on_white

_Result = TypeVar("_Result")

_LOG = logging.getLogger(__name__)
_BUSY_SECONDS = 60.0
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_TABLE = """
CREATE TABLE IF NOT EXISTS readings (
    reader TEXT NOT NULL,
    cutout_sha256 TEXT NOT NULL,
    reading TEXT NOT NULL,
    PRIMARY KEY (reader, cutout_sha256)
) WITHOUT ROWID
"""
_SELECT = """
SELECT cutout_sha256, reading FROM readings
WHERE reader = ? AND cutout_sha256 IN (SELECT value FROM json_each(?))
"""
_INSERT = "INSERT OR REPLACE INTO readings VALUES (?, ?, ?)"


class ReadingCache:
    """Readings by reader and cut-out, in one SQLite file.

    Every call opens the file, does one short transaction and closes it. A damaged file is renamed aside with a
    warning, and begun anew.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def get(self, fingerprint: str, sha256s: Iterable[str]) -> dict[str, ImageReading]:
        """Return the known readings of one reader: cutout_sha256 -> reading, for those of `sha256s` that are known.

        Raises:
            TaggerError: The file cannot be used, or stays locked for a minute.
        """
        keys = json.dumps(sorted(set(sha256s)))

        def select(connection: sqlite3.Connection) -> dict[str, ImageReading]:
            found = ((key.decode(), _parsed(text)) for key, text in connection.execute(_SELECT, (fingerprint, keys)))
            return {key: reading for key, reading in found if reading is not None}

        return self._transact(select)

    def put(self, fingerprint: str, readings: Mapping[str, ImageReading]) -> None:
        """Keep readings of one reader (cutout_sha256 -> reading): all of them, or none where the process is killed.

        Raises:
            TaggerError: The file cannot be used, or stays locked for a minute.
            DiskFullError: There is no room for them.
        """
        rows = [
            (fingerprint, key, json.dumps({"tags": reading.tags, "sentence": reading.sentence}, ensure_ascii=False))
            for key, reading in readings.items()
        ]
        self._transact(lambda connection: connection.executemany(_INSERT, rows))

    def _transact(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        with told_when_full(self._file):
            try:
                try:
                    return self._once(work)
                except sqlite3.DatabaseError as error:
                    if not _is_damage(error):
                        raise
                    self._set_aside(error)
                return self._once(work)
            except sqlite3.DatabaseError as error:
                if is_disk_full(error):
                    raise
                raise TaggerError(
                    f"{self._file}: the cache of readings cannot be used ({error}). Check the file's permissions, and "
                    "that no other program holds it; it may be deleted, then pictures are read again."
                ) from error

    def _once(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._file, timeout=_BUSY_SECONDS)) as connection, connection:
            # Text that is no UTF-8 is a damaged entry, not an error of the whole query.
            connection.text_factory = bytes
            connection.execute(_TABLE)
            return work(connection)

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        """Rename a damaged file; of several processes that find the damage, the first does it."""
        with FileLock(f"{self._file}.lock", timeout=_BUSY_SECONDS):
            if self._is_sound():
                return
            # SQLite has played back and removed the file's journal by now: nothing is left to spoil the new one.
            aside = self._file.with_name(f"{self._file.name}.damaged-{time.time_ns()}")
            self._file.rename(aside)
            _LOG.warning(
                "%s: the cache of readings is damaged (%s). It is renamed to %s; pictures are read again.",
                self._file, error, aside,
            )  # fmt: skip

    def _is_sound(self) -> bool:
        try:
            with closing(sqlite3.connect(self._file, timeout=_BUSY_SECONDS)) as connection:
                return connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
        except sqlite3.DatabaseError as error:
            if _is_damage(error):
                return False
            raise


def cache_file(layout: Layout) -> Path:
    """Return where readings are kept: in the data root, or, as SQLite needs a local disk, in the user's cache."""
    if is_local(layout.root):
        return Path(str(layout.cache)) / "readings.sqlite"
    return Path(platformdirs.user_cache_dir("yokai_assets")) / layout.series / "readings.sqlite"


def read_cutouts(
    rows: pl.DataFrame,
    layout: Layout,
    reader: ImageReader,
    cache: ReadingCache,
    batch_size: int,
    progress: Progress = silent,
    *,
    restore: Restore = nothing_to_restore,
) -> dict[str, ImageReading]:
    """Read the cut-outs of a table of instances, each on a white ground.

    Equal pixels are read once; what the cache holds of this reader is not read at all. Each batch is kept as soon as
    it is read, so that an interrupted run loses one batch at most. Cut-outs that cannot be read are left out, and
    told in one warning.

    Args:
        rows: Rows of `INSTANCES` (columns `instance_id`, `cutout`, `cutout_sha256`).
        layout: Where cut-outs lie.
        reader: A tagger or captioner.
        cache: What was read before.
        batch_size: Pictures per call of the reader.
        progress: Told about pictures that are not in the cache, after every batch.
        restore: Called with the cut-outs that will be read.

    Returns:
        instance_id -> reading, in the order of the rows.

    Raises:
        TaggerError: The cache cannot be used.
    """
    readings = cache.get(reader.fingerprint, rows["cutout_sha256"])
    wanted = rows.filter(~pl.col("cutout_sha256").is_in(list(readings))).unique(
        "cutout_sha256", keep="first", maintain_order=True
    )
    restore(wanted["cutout"])
    unreadable: dict[str, FrameError] = {}
    done = 0
    for batch in cutout_batches(wanted, layout, batch_size, on_white, unreadable):
        said = reader.read([image for _, image in batch])
        fresh = {sha256: reading for (sha256, _), reading in zip(batch, said, strict=True)}
        cache.put(reader.fingerprint, fresh)
        readings.update(fresh)
        done += len(batch)
        progress(done, wanted.height, f"{len(unreadable)} unreadable" if unreadable else "")
    if unreadable:
        _LOG.warning(
            "%d cut-out(s) cannot be read and are left out, e.g. %s", len(unreadable), next(iter(unreadable.values()))
        )
    return {
        instance_id: readings[sha256]
        for instance_id, sha256 in rows.select("instance_id", "cutout_sha256").iter_rows()
        if sha256 in readings
    }


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGE


def _parsed(text: bytes) -> ImageReading | None:
    """Return an entry's reading; None where it is damaged."""
    try:
        entry = json.loads(text)
        return ImageReading({str(tag): float(p) for tag, p in entry["tags"].items()}, entry["sentence"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
