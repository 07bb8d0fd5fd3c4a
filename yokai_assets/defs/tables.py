"""Which asset holds which table, and the Dagster metadata that follows from a table's spec.

Specs are in `yokai_assets.tables`; reading and writing is `io`.
"""

import dagster as dg
import polars as pl

from yokai_assets import tables
from yokai_assets.tables import TableSpec

ASSET_TABLES: dict[str, TableSpec] = {
    "frames": tables.FRAMES,
    "character_layers": tables.INSTANCES,
    "background_layers": tables.BACKGROUNDS,
    "embeddings": tables.EMBEDDINGS,
    "repeated_frames": tables.REPEATS,
    "clusters": tables.CLUSTERS,
    "group_quality": tables.GROUPS,
    "character_members": tables.MEMBERS,
    "captions": tables.CAPTIONS,
    "training_dataset": tables.DATASET,
    "lora_evaluation": tables.EVALUATIONS,
    "lora_comparison": tables.LORA_COMPARISONS,
}


def _type_name(dtype: pl.DataType | type[pl.DataType]) -> str:
    return str(dtype).lower()


def column_schema(spec: TableSpec) -> dg.TableSchema:
    """Return the columns as Dagster shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=_type_name(column.dtype),
                description=column.description,
                constraints=dg.TableColumnConstraints(nullable=column.is_nullable, unique=spec.key == (column.name,)),
            )
            for column in spec.columns
        ]
    )


def column_lineage(asset: str, upstream: list[str]) -> dg.TableColumnLineage:
    """Return which columns are carried over by name from upstream tables (ids, partitions, shots, ...)."""
    deps: dict[str, list[dg.TableColumnDep]] = {}
    for column in ASSET_TABLES[asset].columns:
        sources = [
            dg.TableColumnDep(asset_key=dg.AssetKey(name), column_name=column.name)
            for name in upstream
            if name in ASSET_TABLES and column.name in ASSET_TABLES[name].schema
        ]
        if sources:
            deps[column.name] = sources
    return dg.TableColumnLineage(deps_by_column=deps)


def definition_metadata(asset: str, upstream: list[str]) -> dict[str, dg.MetadataValue]:
    """Return the metadata that an asset of a table carries from its definition on."""
    if asset not in ASSET_TABLES:
        return {}
    spec = ASSET_TABLES[asset]
    return {
        "dagster/column_schema": dg.MetadataValue.table_schema(column_schema(spec)),
        "dagster/column_lineage": dg.MetadataValue.column_lineage(column_lineage(asset, upstream)),
        "dagster/table_name": dg.MetadataValue.text(spec.name),
        "grain": dg.MetadataValue.text(spec.description),
    }
