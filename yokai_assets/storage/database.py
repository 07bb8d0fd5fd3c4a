"""The published DuckDB file: real tables and views of what the Parquet records hold.

DuckDB lets one process write and then none read. So a publisher works on a copy and renames it over the published
file: readers are never locked out, keep what they opened, and see the new file when they open it again. Only changed
partitions are read. How a file is opened, whoever else has it open, is `database_files`' matter; SQL text is in `sql/`;
what the rows mean belongs to the stages.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
from filelock import FileLock, Timeout
from upath import UPath

from yokai_assets.progress import Progress, silent
from yokai_assets.storage.database_files import (
    connection_to,
    copy_database,
    log_of,
    readable,
    remove_database,
    transaction,
)
from yokai_assets.storage.files import TEMPORARY_MARK, is_disk_full, is_local, told_when_full
from yokai_assets.storage.publishing import (
    WHOLE_TABLE,
    DatabaseError,
    PublishProblem,
    TablePlan,
    damaged_partition,
    ddl_sha256,
    local_copy,
    partition_name,
    plan_table,
)
from yokai_assets.storage.sql import load_sql, render_sql, required_tables, sql_names

_LOG = logging.getLogger(__name__)

PARTITION_COLUMNS: Mapping[str, str] = {
    "frames": "episode",
    "instances": "episode",
    "embeddings": "episode",
    "backgrounds": "episode",
    "members": "character_id",
    "captions": "character_id",
    "dataset": "character_id",
    "evaluations": "character_id",
}
"""Tables that may come in partitions, and the column that holds the partition's key."""

LOCK_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class PublishReport:
    """What a publishing did.

    Attributes:
        changed: `table/partition` read from their files (`table` for a table that is one file).
        removed: `table/partition` whose file is gone.
        unchanged: How many partitions were left alone.
        rebuilt: Tables made anew, because their columns, the width of their vectors or the model changed.
        views: Views that exist now.
        problems: Partitions that could not be read; their old rows stay.
        seconds: Wall time.
        size_bytes: Size of the published file.
    """

    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: int
    rebuilt: tuple[str, ...]
    views: tuple[str, ...]
    problems: tuple[PublishProblem, ...]
    seconds: float
    size_bytes: int


def publish(
    database: UPath | Path,
    tables: Mapping[str, Mapping[str, UPath | Path]],
    *,
    progress: Progress = silent,
) -> PublishReport:
    """Bring the published database up to date with Parquet files.

    Tables that are not named stay as they are, so several publishers may share one file. A partition that is
    published but not named any more is removed. Nothing is written where nothing changed. A kill at any instant
    leaves the old file.

    Args:
        database: The DuckDB file, on a local disk.
        tables: Table -> partition key -> Parquet file; `WHOLE_TABLE` is the key of a table that is one file. Names
            are those of `yokai_assets.tables`.
        progress: Told about partitions.

    Raises:
        DatabaseError: The place is not local, another publisher does not finish, or the file is not a database.
    """
    started = time.perf_counter()
    if not is_local(database):
        raise DatabaseError(f"{database}: DuckDB files must lie on a local disk. Set `data_root` to a local folder.")
    path = Path(str(database))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_TIMEOUT_SECONDS):
            return _publish_locked(path, tables, progress, started)
    except Timeout as error:
        raise DatabaseError(
            f"{path}: another process has been publishing for {LOCK_TIMEOUT_SECONDS:.0f} s. Wait for it, or end it."
        ) from error


@contextmanager
def open_read_only(database: UPath | Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the published database for reading; it may be published anew, or be written to by others, meanwhile.

    Raises:
        DatabaseError: There is none, or it is damaged.
    """
    path = Path(str(database))
    if not path.is_file():
        raise DatabaseError(f"{path}: no database is published yet. Materialize `embedding_index` or `catalog`.")
    with readable(path) as source, connection_to(source, is_read_only=True) as connection:
        yield connection


def _publish_locked(
    path: Path, tables: Mapping[str, Mapping[str, UPath | Path]], progress: Progress, started: float
) -> PublishReport:
    for leftover in path.parent.glob(f".{path.name}{TEMPORARY_MARK}*"):
        leftover.unlink(missing_ok=True)  # of a publisher that was killed: the lock says that none is running
    with readable(path) as source:
        return _publish_from(source, path, tables, progress, started)


def _publish_from(
    source: Path,
    path: Path,
    tables: Mapping[str, Mapping[str, UPath | Path]],
    progress: Progress,
    started: float,
) -> PublishReport:
    """Publish what is in `source` and has changed since."""
    partitions, known = _published_state(source)
    plans = [plan_table(table, files, partitions.get(table, {}), known.get(table)) for table, files in tables.items()]
    problems = [problem for plan in plans for problem in plan.problems]
    is_current = source.exists() and not any(plan.has_work for plan in plans) and _views_are_current(source)
    if is_current:
        views = tuple(_wanted(set(known), "views"))
    else:
        views, failed = _write_copy(source, path, plans, progress)
        problems += failed
    for problem in problems:
        _LOG.warning(
            "%s/%s: %s (%s) %s", problem.table, problem.partition, problem.reason, problem.path, problem.remedy
        )
    left = {(problem.table, problem.partition) for problem in problems}
    return PublishReport(
        changed=tuple(partition_name(p.table, key) for p in plans for key in p.changed if (p.table, key) not in left),
        removed=tuple(partition_name(p.table, key) for p in plans for key in p.removed),
        unchanged=sum(plan.unchanged for plan in plans),
        rebuilt=tuple(plan.table for plan in plans if plan.is_rebuilt),
        views=views,
        problems=tuple(problems),
        seconds=time.perf_counter() - started,
        size_bytes=path.stat().st_size,
    )


def _published_state(path: Path) -> tuple[dict[str, dict[str, str]], dict[str, tuple[str, str | None]]]:
    """Return table -> partition -> signature, and table -> (sha256 of DDL, model fingerprint)."""
    if not path.exists():
        return {}, {}
    with connection_to(path, is_read_only=True) as connection:
        existing = {row[0] for row in connection.execute(load_sql("publishing/select_relations")).fetchall()}
        if not {"published_partitions", "published_tables"} <= existing:
            raise DatabaseError(
                f"{path}: this DuckDB file was not made by this platform. Move it away, then publish again."
            )
        partitions: dict[str, dict[str, str]] = {}
        for table, partition, signature in connection.execute(load_sql("publishing/select_partitions")).fetchall():
            partitions.setdefault(table, {})[partition] = signature
        known = {
            row[0]: (row[1], row[2]) for row in connection.execute(load_sql("publishing/select_tables")).fetchall()
        }
    return partitions, known


def _write_copy(
    source: Path, path: Path, plans: list[TablePlan], progress: Progress
) -> tuple[tuple[str, ...], list[PublishProblem]]:
    temporary = path.with_name(f".{path.name}{TEMPORARY_MARK}publish")
    try:
        with told_when_full(path):
            return _write_and_rename(source, path, temporary, plans, progress)
    finally:
        remove_database(temporary)


def _write_and_rename(
    source: Path, path: Path, temporary: Path, plans: list[TablePlan], progress: Progress
) -> tuple[tuple[str, ...], list[PublishProblem]]:
    if source.exists():
        copy_database(source, temporary)
    with connection_to(temporary, is_read_only=False) as connection:
        connection.execute(load_sql("publishing/create_bookkeeping"))
        problems = _apply(connection, plans, progress)
        views = _make_views(connection)
        connection.execute(load_sql("publishing/checkpoint"))
    log_of(path).unlink(missing_ok=True)  # of the file that goes: with the new one nobody could open it
    temporary.replace(path)
    return views, problems


def _apply(connection: duckdb.DuckDBPyConnection, plans: list[TablePlan], progress: Progress) -> list[PublishProblem]:
    problems: list[PublishProblem] = []
    total = sum(len(plan.changed) + len(plan.removed) for plan in plans)
    done = 0
    for plan in plans:
        if plan.is_new or plan.is_rebuilt:
            _make_table(connection, plan)
        # Removals first: a table that was one file and now comes in partitions must be empty before they go in.
        for key in plan.removed:
            if not plan.is_rebuilt:
                _replace_partition(connection, plan.table, key, None, "")
            done += 1
            progress(done, total, plan.table)
        for key, (file, signature) in plan.changed.items():
            try:
                with local_copy(file) as local:
                    _replace_partition(connection, plan.table, key, local, signature)
            except (duckdb.Error, OSError, DatabaseError) as error:
                if is_disk_full(error):
                    raise
                problems.append(damaged_partition(plan.table, key, file, error))
            done += 1
            progress(done, total, plan.table)
    return problems


def _make_table(connection: duckdb.DuckDBPyConnection, plan: TablePlan) -> None:
    with transaction(connection):
        for view in sql_names("views"):
            if plan.table in required_tables(view):
                connection.execute(render_sql("publishing/drop_view", view=view.rpartition("/")[2]))
        connection.execute(render_sql("publishing/drop_table", table=plan.table))
        connection.execute(load_sql("publishing/forget_table"), [plan.table])
        connection.execute(load_sql("publishing/forget_partitions"), [plan.table])
        connection.execute(plan.ddl)
        connection.execute(
            load_sql("publishing/record_table"), [plan.table, ddl_sha256(plan.ddl), plan.model_fingerprint]
        )


def _replace_partition(
    connection: duckdb.DuckDBPyConnection, table: str, key: str, file: Path | None, signature: str
) -> None:
    """Take the rows of a partition out, and those of `file` in, as one transaction."""
    with transaction(connection):
        if key == WHOLE_TABLE:
            connection.execute(render_sql("publishing/delete_rows", table=table))
        else:
            column = _partition_column(table, key)
            connection.execute(render_sql("publishing/delete_partition", table=table, partition_column=column), [key])
            if file is not None:
                _check_partition(connection, column, key, file)
        connection.execute(load_sql("publishing/forget_partition"), [table, key])
        if file is not None:
            inserted = connection.execute(
                render_sql("publishing/insert_partition", table=table), [str(file)]
            ).fetchone()
            row_count = inserted[0] if inserted else 0
            connection.execute(load_sql("publishing/record_partition"), [table, key, signature, row_count])


def _check_partition(connection: duckdb.DuckDBPyConnection, column: str, key: str, file: Path) -> None:
    sql = render_sql("publishing/count_strangers", partition_column=column)
    found = connection.execute(sql, [str(file), key]).fetchone()
    if found and found[0]:
        raise DatabaseError(f"{found[0]} rows have another {column} than `{key}`")


def _partition_column(table: str, key: str) -> str:
    if table not in PARTITION_COLUMNS:
        raise DatabaseError(f"table `{table}` is one file; it has no partition `{key}`")
    return PARTITION_COLUMNS[table]


def _make_views(connection: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
    tables = {row[0] for row in connection.execute(load_sql("publishing/select_tables")).fetchall()}
    wanted = _wanted(tables, "views")
    for name in sql_names("views"):
        view = name.rpartition("/")[2]
        with transaction(connection):
            connection.execute(render_sql("publishing/drop_view", view=view))
            if view in wanted:
                connection.execute(load_sql(name))
    for macro in _wanted(tables, "macros"):
        connection.execute(load_sql(f"macros/{macro}"))
    return tuple(wanted)


def _wanted(tables: set[str], kind: str) -> list[str]:
    """Return the views or macros whose tables are all there."""
    names = (name for name in sql_names(kind) if set(required_tables(name)) <= tables)
    return [name.rpartition("/")[2] for name in names]


def _views_are_current(path: Path) -> bool:
    with connection_to(path, is_read_only=True) as connection:
        existing = {row[0] for row in connection.execute(load_sql("publishing/select_relations")).fetchall()}
        existing |= {row[0] for row in connection.execute(load_sql("publishing/select_macros")).fetchall()}
        tables = {row[0] for row in connection.execute(load_sql("publishing/select_tables")).fetchall()}
    return {*_wanted(tables, "views"), *_wanted(tables, "macros")} <= existing
