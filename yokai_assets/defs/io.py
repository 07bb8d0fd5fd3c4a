"""The I/O manager of tables: one Parquet file per partition, whole or absent, checked against its spec.

Pictures, models and the DuckDB file are not passed through I/O managers: stages write them under the `Layout`.
"""

import dagster as dg
import polars as pl
from upath import UPath

from yokai_assets.defs.tables import ASSET_TABLES
from yokai_assets.storage.layout import plain_name
from yokai_assets.storage.parquet import read_table, write_table
from yokai_assets.tables import TableSpec


class ParquetTables(dg.UPathIOManager):
    """Stores a table asset under `tables/<series>/<asset>[/<partition>].parquet`."""

    extension = ".parquet"

    def get_path_for_partition(self, context: dg.InputContext | dg.OutputContext, path: UPath, partition: str) -> UPath:
        """Return the folder-less path of a partition; raises `ValueError` for a key that would lead out of `path`."""
        return super().get_path_for_partition(context, path, plain_name(partition))

    def dump_to_path(self, context: dg.OutputContext, obj: pl.DataFrame, path: UPath) -> None:
        """Write the rows; raises `TableError` where they do not conform to the asset's table."""
        write_table(_spec(context), obj, path)

    def load_from_path(self, context: dg.InputContext, path: UPath) -> pl.DataFrame:
        """Read the rows; raises `FileNotFoundError` or `TableError`, each with its remedy."""
        return read_table(_spec(context), path)


@dg.io_manager(required_resource_keys={"settings"})
def parquet_tables(context: dg.InitResourceContext) -> ParquetTables:
    """Return a manager on the data root of the run's settings.

    It asks for the resource `settings` by name: a nested resource would keep the settings that the code location was
    loaded with, whatever the run's configuration says.
    """
    return ParquetTables(base_path=context.resources.settings.layout.tables)


def _spec(context: dg.InputContext | dg.OutputContext) -> TableSpec:
    return ASSET_TABLES[context.asset_key.to_user_string()]
