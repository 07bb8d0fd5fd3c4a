"""What a table is: typed columns with descriptions, a key, and the check that a frame conforms.

The mechanism only; the project's tables are in `yokai_assets.tables.catalogue`. One spec feeds the Parquet
schema, the DuckDB DDL, Dagster's column schema and the documentation.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl


class TableError(ValueError):
    """Rows that do not conform to their table's spec; the message names table, column and reason."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: name, polars dtype, meaning (with its unit), and whether it may be null."""

    name: str
    dtype: pl.DataType | type[pl.DataType]
    description: str
    is_nullable: bool = False


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table: name, grain, columns and the columns that identify a row."""

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def schema(self) -> pl.Schema:
        """Column names and dtypes in order."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    def empty(self) -> pl.DataFrame:
        """Return a frame of no rows with this schema."""
        return pl.DataFrame(schema=self.schema)

    def from_rows(self, rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
        """Build a conforming frame from dictionaries."""
        return self.conform(pl.DataFrame(list(rows), schema=self.schema, orient="row"))

    def conform(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return `frame` with this spec's column order and dtypes.

        An `Array` or `List` of floats may stand for a vector column whose width the spec leaves open.

        Raises:
            TableError: A column is missing, unexpected, of another dtype, null where it must not be, or the key
                is not unique.
        """
        missing = [c.name for c in self.columns if c.name not in frame.columns]
        unexpected = [name for name in frame.columns if name not in self.schema]
        if missing or unexpected:
            raise TableError(f"table {self.name}: missing columns {missing}, unexpected columns {unexpected}")
        try:
            frame = frame.select(self._cast(column, frame.schema[column.name]) for column in self.columns)
        except pl.exceptions.PolarsError as error:
            raise TableError(f"table {self.name}: {error}") from error
        nulls = [c.name for c in self.columns if not c.is_nullable and frame[c.name].null_count()]
        if nulls:
            raise TableError(f"table {self.name}: null values in {nulls}")
        if self.key and frame.height and frame.select(self.key).is_duplicated().any():
            raise TableError(f"table {self.name}: rows repeat the key {self.key}")
        return frame

    def completed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return rows of an older schema with the nullable columns that have come since, all null."""
        absent = [c for c in self.columns if c.is_nullable and c.name not in frame.columns]
        return frame.with_columns(pl.lit(None, c.dtype).alias(c.name) for c in absent)

    @staticmethod
    def _cast(column: Column, found: pl.DataType) -> pl.Expr:
        if column.dtype == VECTOR and isinstance(found, pl.Array):
            return pl.col(column.name)
        return pl.col(column.name).cast(column.dtype)


VECTOR = pl.List(pl.Float32)
"""Vectors whose width depends on the model: any `Array(Float32, D)` conforms; only an empty table holds lists."""
