import re

import polars as pl
import pytest

from yokai_assets.storage.sql import SqlError, load_sql, render_sql, required_tables, sql_names
from yokai_assets.tables import ALL_TABLES, VECTOR, Column, TableSpec

SQL_TYPES = {
    pl.String: "VARCHAR",
    pl.Int32: "INTEGER",
    pl.Int64: "BIGINT",
    pl.UInt64: "UBIGINT",
    pl.Float32: "FLOAT",
    pl.Boolean: "BOOLEAN",
    pl.Binary: "BLOB",
    pl.Datetime("us", "UTC"): "TIMESTAMPTZ",
    pl.List(pl.String): "VARCHAR[]",
    pl.List(pl.Float32): "FLOAT[]",
}


def expected_column(spec: TableSpec, column: Column) -> tuple[str, str, bool, str]:
    is_vector = spec.name == "embeddings" and column.dtype == VECTOR
    sql_type = "FLOAT[$dimension]" if is_vector else SQL_TYPES[column.dtype]  # pyright: ignore[reportArgumentType]
    return column.name, sql_type, column.is_nullable, column.description


def columns_in(ddl: str) -> list[tuple[str, str, bool, str]]:
    found = re.findall(r'^    -- (.*)\n    "(\w+)"\s+([^\n]+?),?$', ddl, flags=re.MULTILINE)
    return [(n, t.replace(" NOT NULL", ""), "NOT NULL" not in t, d) for d, n, t in found]


@pytest.mark.parametrize("spec", ALL_TABLES, ids=lambda spec: spec.name)
def test_ddl_agrees_with_the_table_spec(spec: TableSpec) -> None:
    """SQL users and Parquet users see the same columns, types, nullability and descriptions."""
    ddl = load_sql(f"schema/{spec.name}")
    assert columns_in(ddl) == [expected_column(spec, column) for column in spec.columns]
    assert spec.description in ddl


def test_every_schema_file_belongs_to_a_table() -> None:
    """A table that is gone takes its DDL with it."""
    assert sql_names("schema") == sorted(f"schema/{spec.name}" for spec in ALL_TABLES)


@pytest.mark.parametrize("name", [*sql_names("views"), *sql_names("macros")])
def test_views_name_the_tables_they_read(name: str) -> None:
    """A view is made only when its tables are there: `requires` must be complete and true."""
    tables = {spec.name for spec in ALL_TABLES}
    body = re.sub(r"--[^\n]*", "", load_sql(name))
    used = {word for word in re.findall(r"(?:FROM|JOIN)\s+(\w+)", body) if word in tables}
    assert used == set(required_tables(name))


@pytest.mark.parametrize("part", ['x"; DROP TABLE frames; --', "Frames", "", "a b", 0, -1, True, "x" * 64])
def test_only_identifiers_and_numbers_go_into_sql(part: str | int) -> None:
    """No value reaches SQL text unchecked."""
    with pytest.raises(SqlError):
        render_sql("publishing/drop_table", table=part)


def test_identifiers_are_quoted() -> None:
    """Reserved words such as `at` or `table` are usable names."""
    assert 'DROP TABLE IF EXISTS "table";' in render_sql("publishing/drop_table", table="table")


def test_a_missing_name_says_what_there_is() -> None:
    """A typing error is told with the names that exist."""
    with pytest.raises(SqlError, match="views/episode_cast"):
        load_sql("views/nothing")
    with pytest.raises(SqlError, match="dimension"):
        render_sql("schema/embeddings")
