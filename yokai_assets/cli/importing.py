"""`yokai import-clusters`: characters that another pipeline found become a registry that can be trained from."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import Progress as ProgressBar
from rich.table import Table
from upath import UPath

from yokai_assets.cli.terminal import Terminal
from yokai_assets.datasets.importer import IMPORTED_EPISODE, ImportResult, ImportTreeError, import_cluster_tree
from yokai_assets.defs.series.assets import indexed_files
from yokai_assets.devices import resolve_device
from yokai_assets.embedding.instances import embed_instances
from yokai_assets.embedding.model import EmbeddingModelError, open_image_text_model
from yokai_assets.registry import Registry, keep_registry
from yokai_assets.settings import Settings, load_settings
from yokai_assets.settings.loading import SettingsError
from yokai_assets.storage.database import publish
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_earlier_table, table_files, write_table
from yokai_assets.tables import CLUSTERS, EMBEDDINGS, GROUPS, INSTANCES

if TYPE_CHECKING:
    import polars as pl


def import_characters(
    config_file: Path | None, folder: Path, output_dir: str | None, series: str | None, device: str | None
) -> None:
    """Import the tree, embed its images, and show which folder became which character."""
    settings = load_settings(config_file, overrides={"data_root": output_dir, "series": series, "device": device})
    layout, console = Layout.of(settings), Terminal()
    _refuse_other_episodes(layout)
    try:
        with ProgressBar(console=Terminal(stderr=True), transient=True) as bar:
            result, embeddings = _read_and_embed(UPath(folder), layout, settings, bar)
    except (ImportTreeError, EmbeddingModelError) as error:
        raise SettingsError(str(error)) from error
    write_table(CLUSTERS, result.clusters, layout.table("clusters"))
    write_table(GROUPS, GROUPS.empty(), layout.table("group_quality"))  # a person's groups are not judged
    registry, _, _ = keep_registry(result.clusters, embeddings, settings, layout)
    publish(layout.database, indexed_files(layout))
    console.print(_table(result, registry))
    for problem in result.problems:
        console.print(f"[yellow]left out[/] {escape(problem)}", soft_wrap=True)
    config = f" --config {config_file}" if config_file else ""
    console.print(f"Next: yokai run --skip-segmentation --skip-clustering{escape(config)}", soft_wrap=True)


def _refuse_other_episodes(layout: Layout) -> None:
    """An import is a whole registry: beside a clustering of our own, its characters would retire."""
    others = [key for key in table_files(layout.tables / "character_layers") if key != IMPORTED_EPISODE]
    if others:
        raise SettingsError(
            f"{layout.tables}: series `{layout.series}` has {len(others)} episodes of its own. Import under another "
            "name (`--series`)."
        )


def _read_and_embed(
    folder: UPath, layout: Layout, settings: Settings, bar: ProgressBar
) -> tuple[ImportResult, "pl.DataFrame"]:
    task = bar.add_task("reading images", total=None)

    def tell(done: int, total: int, note: str = "") -> None:  # noqa: ARG001 - file names are too quick to read
        bar.update(task, completed=done, total=total)

    result = import_cluster_tree(folder, layout, progress=tell)
    write_table(INSTANCES, result.instances, layout.table("character_layers", IMPORTED_EPISODE))
    bar.update(task, description="embedding", completed=0)
    model = open_image_text_model(settings.embedding, resolve_device(settings.device))
    place = layout.table("embeddings", IMPORTED_EPISODE)
    previous = read_earlier_table(EMBEDDINGS, place)
    found = embed_instances(result.instances, layout, model, settings.embedding, previous=previous, progress=tell)
    return result, write_table(EMBEDDINGS, found.table, place)


def _table(result: ImportResult, registry: Registry) -> Table:
    """Return folder -> character, with how many images and whether that is enough to train."""
    character_of = dict(registry.members.select("instance_id", "character_id").iter_rows())
    states = dict(registry.characters.select("character_id", "state").iter_rows())
    table = Table(box=None, header_style="bold")
    for column in ("folder", "images", "character", "state"):
        table.add_column(column, justify="right" if column == "images" else "left")
    for label, name in result.folders.items():
        own = result.clusters.filter(result.clusters["cluster_label"] == label)["instance_id"]
        character = character_of.get(own[0]) if len(own) else None
        table.add_row(escape(name), str(len(own)), character or "-", states.get(character or "", "-"))
    return table
