"""The two assets at the end of the road. Pages are made by `yokai_assets.gallery`, tables by `sql/`."""

from dataclasses import asdict

import dagster as dg
from upath import UPath

from yokai_assets.defs.policies import DUCKDB_POOL
from yokai_assets.defs.reports.closing import failures_over
from yokai_assets.defs.reports.timing import stage_times
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.defs.results import SOURCE_TAG, made, timed
from yokai_assets.defs.series.assets import indexed_files
from yokai_assets.gallery import build_gallery, load_gallery_data, write_pipeline_results
from yokai_assets.gallery.failures import failures_file
from yokai_assets.registry import RegistryStore
from yokai_assets.storage.database import publish
from yokai_assets.storage.files import folder_bytes, sha256_of_parts
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.leftovers import remove_leftovers
from yokai_assets.storage.parquet import files_fingerprint, table_files
from yokai_assets.storage.publishing import WHOLE_TABLE

PARTITIONED = {
    "backgrounds": "background_layers",
    "captions": "captions",
    "dataset": "training_dataset",
    "evaluations": "lora_evaluation",
}
"""Database table -> asset whose partitions fill it."""

_ALL = dg.AllPartitionMapping()


def reported_files(layout: Layout) -> dict[str, dict[str, UPath]]:
    """Return database table -> partition -> Parquet file of what the catalog holds."""
    assets = {
        "repeats": "repeated_frames",
        "clusters": "clusters",
        "groups": "group_quality",
        "lora_comparisons": "lora_comparison",
    }
    whole = {table: layout.table(asset) for table, asset in assets.items()}
    return {
        **{table: table_files(layout.tables / asset) for table, asset in PARTITIONED.items()},
        **{table: {WHOLE_TABLE: file} if file.exists() else {} for table, file in whole.items()},
        **RegistryStore(layout.registry).table_files(),
    }


def report_fingerprint(layout: Layout) -> str:
    """Return a hash of which tables and published LoRAs the report would be made of now."""
    published = layout.root / "models" / "lora" / layout.series
    cards = {card.parent.name: card for card in sorted(published.glob("*/README.md"))} if published.exists() else {}
    return files_fingerprint({**indexed_files(layout), **reported_files(layout), "published": cards})


def gallery_fingerprint(layout: Layout) -> str:
    """Return a hash of what the gallery would show now: a step that failed changes it, though it makes no file."""
    log = failures_file(layout)
    failures = files_fingerprint({"failures": {"": log}}) if log.exists() else ""
    return sha256_of_parts(report_fingerprint(layout), failures)[:32]


@dg.asset(
    deps=[
        dg.AssetDep("embedding_index"),
        dg.AssetDep("repeated_frames"),
        dg.AssetDep("clusters"),
        dg.AssetDep("group_quality"),
        dg.AssetDep("character_registry"),
        dg.AssetDep("lora_comparison"),
        *(dg.AssetDep(asset, partition_mapping=_ALL) for asset in PARTITIONED.values()),
    ],
    pool=DUCKDB_POOL,
)
def catalog(settings: SettingsResource) -> dg.MaterializeResult:
    """Everything known of the series as SQL: characters, members, events, captions, datasets, evaluations, and views.

    `yokai sql` opens it read-only.
    """
    chosen, layout = settings.load(), settings.layout
    fingerprint = report_fingerprint(layout)
    report = publish(layout.database, reported_files(layout))
    metadata = {
        "written": dg.MetadataValue.json(list(report.changed)),
        "views": dg.MetadataValue.json(list(report.views)),
        "problems": dg.MetadataValue.json([asdict(problem) for problem in report.problems]),
        "database": dg.MetadataValue.path(str(layout.database)),
        "database_bytes": report.size_bytes,
        "seconds": report.seconds,
    }
    return made(
        "catalog", chosen, version=fingerprint, metadata=metadata,
        tags={SOURCE_TAG: fingerprint}, is_partitioned=False,
    )  # fmt: skip


@dg.asset(deps=[dg.AssetDep("catalog"), dg.AssetDep("published_lora", partition_mapping=_ALL)])
def gallery(context: dg.AssetExecutionContext, settings: SettingsResource) -> dg.MaterializeResult:
    """The static report: every character with its pictures, LoRA and scores; and `pipeline_results.json`."""
    chosen, layout = settings.load(), settings.layout
    fingerprint = gallery_fingerprint(layout)
    if leftovers := remove_leftovers(layout.root):
        context.log.info(f"Removed {len(leftovers)} unfinished files and folders of killed processes.")
    with timed() as watch:
        is_over, times = failures_over(context.instance, chosen), stage_times(context.instance)
        data = load_gallery_data(layout, is_over=is_over, times=times)
        page = build_gallery(layout, data)
        results = write_pipeline_results(layout, data)
    metadata = {
        "page": dg.MetadataValue.path(str(page)),
        "results": dg.MetadataValue.path(str(results)),
        "page_bytes": folder_bytes(layout.gallery),
        "seconds": watch.seconds,
    }
    return made("gallery", chosen, metadata=metadata, tags={SOURCE_TAG: fingerprint}, is_partitioned=False)


ASSETS = [catalog, gallery]
