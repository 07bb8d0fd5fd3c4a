"""What publishing a table will take: which Parquet files changed, and which model its vectors are of.

Looking only: files and what is published are compared, nothing is written. Writing is `storage.database`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from upath import UPath

from yokai_assets.storage.files import is_local
from yokai_assets.storage.sql import render_sql

WHOLE_TABLE = ""
"""Partition key of a table that is one file."""

VECTOR_TABLE = "embeddings"
"""The table whose vectors have one width and one model."""


class DatabaseError(RuntimeError):
    """The published database cannot be read or made; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class PublishProblem:
    """A partition that was left as it was, and why."""

    table: str
    partition: str
    path: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class TablePlan:
    """What one table needs: its DDL, whether it starts empty, and which partitions to take in and out."""

    table: str
    ddl: str
    model_fingerprint: str | None
    is_rebuilt: bool
    is_new: bool
    changed: dict[str, tuple[Path | UPath, str]]
    removed: tuple[str, ...]
    unchanged: int
    problems: tuple[PublishProblem, ...]

    @property
    def has_work(self) -> bool:
        """Whether anything of this table has to be written."""
        return self.is_new or self.is_rebuilt or bool(self.changed) or bool(self.removed)


def plan_table(
    table: str, files: Mapping[str, UPath | Path], published: dict[str, str], known: tuple[str, str | None] | None
) -> TablePlan:
    """Compare a table's files with what is published of it.

    Args:
        table: Its name.
        files: Partition key -> Parquet file.
        published: Partition key -> signature, as published.
        known: sha256 of the DDL and model fingerprint, as published; None for a new table.
    """
    found = {key: (file, _signature(file)) for key, file in sorted(files.items()) if file.exists()}
    model, dimension, problems = None, None, ()
    if table == VECTOR_TABLE:
        model, dimension, problems = _vector_model(found)
    ddl = render_sql(f"schema/{table}", dimension=dimension or 1)
    is_rebuilt = known is not None and known != (ddl_sha256(ddl), model)
    if table == VECTOR_TABLE and model is None and known is not None:
        # No file holds a vector: there is no model to compare with, so the table keeps its width and loses its rows.
        is_rebuilt, model = False, known[1]
    before = {} if is_rebuilt else published
    left_out = {problem.partition for problem in problems}
    return TablePlan(
        table=table,
        ddl=ddl,
        model_fingerprint=model,
        is_rebuilt=is_rebuilt,
        is_new=known is None,
        changed={k: v for k, v in found.items() if k not in left_out and before.get(k) != v[1]},
        removed=tuple(key for key in published if key not in found and key not in left_out),
        unchanged=sum(before.get(key) == signature for key, (_, signature) in found.items()),
        problems=tuple(problems),
    )


def _signature(file: UPath | Path) -> str:
    """Return what changes whenever a file is written anew: a local file is always a new one with its own time."""
    if is_local(file):
        stat = file.stat()
        return f"{stat.st_size}:{stat.st_mtime_ns}"
    assert isinstance(file, UPath)
    return str(file.fs.ukey(file.path))


def _vector_model(
    found: Mapping[str, tuple[UPath | Path, str]],
) -> tuple[str | None, int | None, tuple[PublishProblem, ...]]:
    """Return the model and width that most vectors share, and the partitions that have others or are damaged."""
    models: dict[str, tuple[str, int]] = {}
    rows: dict[tuple[str, int], int] = {}
    problems: list[PublishProblem] = []
    for key, (file, _) in found.items():
        try:
            model, count = _model_of(file)
        except (pl.exceptions.PolarsError, OSError, DatabaseError) as error:
            problems.append(damaged_partition(VECTOR_TABLE, key, file, error))
            continue
        if model is not None:
            models[key] = model
            rows[model] = rows.get(model, 0) + count
    if not rows:
        return None, None, tuple(problems)
    chosen = max(sorted(rows), key=lambda model: rows[model])
    for key, model in models.items():
        if model != chosen:
            reason = f"vectors of another model ({model[0][:12]}, {model[1]} wide; the table has {chosen[0][:12]})"
            remedy = f"Materialize `embeddings` of partition `{key}` again."
            problems.append(PublishProblem(VECTOR_TABLE, key, str(found[key][0]), reason, remedy))
    return chosen[0], chosen[1], tuple(problems)


def _model_of(file: UPath | Path) -> tuple[tuple[str, int] | None, int]:
    """Return (fingerprint, width) of a file of vectors, None where it has no rows, and its number of rows."""
    with local_copy(file) as local:
        frame = pl.scan_parquet(local).select(
            pl.col("model_fingerprint").first(),
            pl.col("model_fingerprint").n_unique().alias("models"),
            pl.len().alias("rows"),
        )
        first, models, rows = frame.collect().row(0)
        if rows == 0:
            return None, 0
        if models > 1:
            raise DatabaseError("vectors of several models in one file")
        vector = pl.scan_parquet(local).select("vector").head(1).collect().to_series()[0]
    return (first, len(vector)), rows


@contextmanager
def local_copy(file: UPath | Path) -> Iterator[Path]:
    """Yield a local file with the bytes of `file`; DuckDB needs no extension for object stores then."""
    if is_local(file):
        yield Path(str(file))
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="yokai-") as folder:
        local = Path(folder) / "partition.parquet"
        local.write_bytes(file.read_bytes())
        yield local


def damaged_partition(table: str, key: str, file: UPath | Path, error: Exception) -> PublishProblem:
    """Return the problem of a file that cannot be read, with its remedy."""
    reason = str(error).splitlines()[0][:300]
    return PublishProblem(table, key, str(file), reason, f"Materialize `{partition_name(table, key)}` again.")


def ddl_sha256(ddl: str) -> str:
    """Return what changes when a table's columns do."""
    return hashlib.sha256(ddl.encode()).hexdigest()


def partition_name(table: str, key: str) -> str:
    """Return `table/partition`, or `table` for a table that is one file."""
    return table if key == WHOLE_TABLE else f"{table}/{key}"
