"""`yokai sql`: the published DuckDB, read-only."""

from pathlib import Path

import click
import duckdb

from yokai_assets.settings import load_settings
from yokai_assets.storage.database import open_read_only
from yokai_assets.storage.layout import Layout


def query(config_file: Path | None, statement: str | None) -> None:
    """Print the rows of a statement, or what there is to query."""
    database = Layout.of(load_settings(config_file)).database
    if not database.exists():
        raise FileNotFoundError(
            f"{database}: nothing is published yet. Run `yokai run`, or materialize `embedding_index`."
        )
    with open_read_only(database) as connection:
        try:
            relation = connection.sql(statement or "SHOW TABLES")
        except duckdb.Error as error:
            raise click.ClickException(str(error)) from None
        if relation is not None:
            relation.show(max_rows=200)
