"""Tables as Parquet files: written whole or absent, checked against their spec on the way in.

Any number of processes may write at once, each its own partition's file. DuckDB is `storage.database`.
"""

import io
import logging
from collections.abc import Iterable, Mapping, Sequence

import polars as pl
from upath import UPath

from yokai_assets.storage.files import is_local, sha256_of_parts, write_bytes
from yokai_assets.tables import TableError, TableSpec

_LOG = logging.getLogger(__name__)


def write_table(spec: TableSpec, frame: pl.DataFrame, path: UPath) -> pl.DataFrame:
    """Check `frame` against `spec`, write it to `path`, and return it as written.

    Raises:
        TableError: The rows do not conform.
    """
    frame = spec.conform(frame)
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())  # polars itself calls a full disk a damaged file
    return frame


def read_table(spec: TableSpec, path: UPath, *, is_completed: bool = False) -> pl.DataFrame:
    """Read one table file.

    Args:
        spec: The table.
        path: Its file.
        is_completed: Nullable columns that an older version did not write are null.

    Raises:
        FileNotFoundError: There is none; the message says which asset makes it.
        TableError: The file is damaged or of another schema; the message says how to make it again.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no table `{spec.name}` here yet. Materialize the asset that writes it first.")
    try:
        frame = pl.read_parquet(str(path) if is_local(path) else path.read_bytes())
        return spec.conform(spec.completed(frame) if is_completed else frame)
    except (pl.exceptions.PolarsError, TableError, OSError) as error:
        raise TableError(
            f"{path}: cannot be read as table `{spec.name}` ({error}). Materialize its partition again."
        ) from error


def read_table_if_there(spec: TableSpec, path: UPath) -> pl.DataFrame:
    """Read one table file; an absent one is an empty table."""
    return read_table(spec, path) if path.exists() else spec.empty()


def read_earlier_table(spec: TableSpec, path: UPath) -> pl.DataFrame:
    """Read what an earlier run made, to spare work: what is absent, damaged or of an older schema is an empty table.

    Whoever is about to write the table anew must not be stopped by what it replaces.
    """
    try:
        return read_table_if_there(spec, path)
    except TableError as error:
        _LOG.warning("Made anew, because the earlier table is of no use: %s", error)
        return spec.empty()


def table_files(folder: UPath) -> dict[str, UPath]:
    """Return partition key -> file of a partitioned table, in order of keys; unfinished files are left out."""
    if not folder.exists():
        return {}
    files = (f for f in folder.iterdir() if f.name.endswith(".parquet") and not f.name.startswith("."))
    return {file.name.removesuffix(".parquet"): file for file in sorted(files, key=lambda f: f.name)}


def read_partitions(
    spec: TableSpec, folder: UPath, partitions: Iterable[str] | None = None, *, where: pl.Expr | None = None
) -> pl.DataFrame:
    """Read some partitions of a table into one frame; absent ones are left out.

    Args:
        spec: The table.
        folder: Folder of the partition files.
        partitions: Keys, unset: all there are.
        where: Rows to keep, applied partition by partition.
    """
    files = table_files(folder)
    wanted = files if partitions is None else {key: files[key] for key in sorted(set(partitions)) if key in files}
    frames = (read_table(spec, file) for file in wanted.values())
    kept = [frame.filter(where) if where is not None else frame for frame in frames]
    filled = [frame for frame in kept if frame.height]
    return pl.concat(filled) if filled else spec.empty()


def read_columns(
    spec: TableSpec,
    folder: UPath,
    columns: Sequence[str],
    partitions: Iterable[str] | None = None,
    *,
    where: pl.Expr | None = None,
    skip_damaged: bool = False,
) -> pl.DataFrame:
    """Read some columns of some partitions: what is not asked for is not decoded.

    Args:
        spec: The table.
        folder: Folder of the partition files.
        columns: Names of columns.
        partitions: Keys, unset: all there are.
        where: Rows to keep; it may look at `columns` only.
        skip_damaged: Leave files out that cannot be read.

    Raises:
        TableError: A file is damaged, or lacks a column; the message says how to make it again.
    """
    files = table_files(folder)
    wanted = files if partitions is None else {key: files[key] for key in sorted(set(partitions)) if key in files}
    schema = {name: spec.schema[name] for name in columns}
    frames = [pl.DataFrame(schema=schema)]
    for file in wanted.values():
        try:
            frame = pl.read_parquet(str(file) if is_local(file) else file.read_bytes(), columns=list(columns))
            frames.append((frame.filter(where) if where is not None else frame).cast(schema))  # pyright: ignore[reportArgumentType]
        except (pl.exceptions.PolarsError, OSError) as error:
            if not skip_damaged:
                raise TableError(
                    f"{file}: cannot be read as table `{spec.name}` ({error}). Materialize its partition again."
                ) from error
    return pl.concat(frames)


def files_fingerprint(tables: Mapping[str, Mapping[str, UPath]]) -> str:
    """Return a hash of which files there are, with their sizes and times: it changes when any is written anew.

    Args:
        tables: Table -> partition -> file.
    """
    states = []
    for table, partitions in sorted(tables.items()):
        for partition, file in sorted(partitions.items()):
            status = file.stat()
            states.append((table, partition, status.st_size, int(status.st_mtime * 1e6)))
    return sha256_of_parts(states)[:32]
