"""Opening DuckDB files, whoever else has them open. What is in them is `database`'s matter.

DuckDB lets one process write and then none read: where somebody has the file open for writing, a copy is read, with
what is committed.
"""

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from yokai_assets.storage.files import temporary_beside
from yokai_assets.storage.publishing import DatabaseError

_LOG = logging.getLogger(__name__)
_COPY_TRIES, _COPY_PAUSE_SECONDS = 5, 1.0
_FOREIGN_LOGS = 4
"""So often a log of a file that was replaced is removed before its coming back is an error."""


class DatabaseBusyError(DatabaseError):
    """Another process has the file open for writing: DuckDB lets nobody else open it."""


@contextmanager
def readable(path: Path) -> Iterator[Path]:
    """Yield the file itself, or a copy where another process has it open for writing: of what is committed.

    Raises:
        DatabaseError: It is damaged, or written to at such a rate that no copy of it is whole.
    """
    try:
        if path.exists():
            with connection_to(path, is_read_only=True):
                pass
    except DatabaseBusyError as error:
        _LOG.warning("%s A copy is read.", error)
        with _snapshot(path) as snapshot:
            yield snapshot
    else:
        yield path


@contextmanager
def _snapshot(path: Path) -> Iterator[Path]:
    snapshot = temporary_beside(path.with_name(f"{path.name}-snapshot"))
    try:
        for left in reversed(range(_COPY_TRIES)):
            copy_database(path, snapshot)
            try:
                with connection_to(snapshot, is_read_only=False):
                    break  # opened for writing once, which merges the log
            except DatabaseError:  # copied while the other one was writing
                if not left:
                    raise
                time.sleep(_COPY_PAUSE_SECONDS)
        yield snapshot
    finally:
        remove_database(snapshot)


def copy_database(source: Path, target: Path) -> None:
    """Copy a database with its log, which holds what is committed and not merged yet."""
    remove_database(target)
    shutil.copyfile(source, target)
    try:
        shutil.copyfile(log_of(source), log_of(target))
    except FileNotFoundError:
        log_of(target).unlink(missing_ok=True)


def remove_database(path: Path) -> None:
    """Remove a database and its log."""
    path.unlink(missing_ok=True)
    log_of(path).unlink(missing_ok=True)


def log_of(path: Path) -> Path:
    """Return where DuckDB writes what is committed and not merged into the file yet."""
    return path.with_name(f"{path.name}.wal")


@contextmanager
def connection_to(path: Path, *, is_read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection to a DuckDB file.

    Raises:
        DatabaseBusyError: Another process has it open for writing.
        DatabaseError: It is no DuckDB file, or damaged.
    """
    try:
        connection = _connect(path, is_read_only)
    except duckdb.Error as error:
        if "Conflicting lock" in str(error):
            raise DatabaseBusyError(f"{path}: another process has it open for writing ({error}).") from error
        raise DatabaseError(
            f"{path}: cannot be opened as a DuckDB file ({error}). Delete it and materialize `embedding_index` and "
            "`catalog` again: it holds nothing that the Parquet tables do not."
        ) from error
    try:
        yield connection
    finally:
        connection.close()


def _connect(path: Path, is_read_only: bool) -> duckdb.DuckDBPyConnection:
    for _ in range(_FOREIGN_LOGS):
        try:
            return duckdb.connect(str(path), read_only=is_read_only)
        except duckdb.Error as error:
            if "WAL" not in str(error):
                raise
            # Written by somebody who had the file open that was here before this one was published, and may again.
            _LOG.warning("%s is of a file that was replaced: removed (%s)", log_of(path), error)
            log_of(path).unlink(missing_ok=True)
    return duckdb.connect(str(path), read_only=is_read_only)


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit what the block does, or nothing of it."""
    connection.begin()
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()
