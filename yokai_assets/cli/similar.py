"""`yokai similar IMAGE`: who of the series looks like this picture."""

from pathlib import Path

import polars as pl
from rich.markup import escape
from rich.table import Table
from upath import UPath

from yokai_assets.cli.terminal import Terminal
from yokai_assets.devices import resolve_device
from yokai_assets.embedding.instances import neutral_ground
from yokai_assets.embedding.model import EmbeddingModelError, open_image_text_model
from yokai_assets.frames.decoding import FrameError, decode_image, read_bytes, rgb_of
from yokai_assets.previews.cutouts import cutouts_of
from yokai_assets.previews.stages import files_sheet
from yokai_assets.registry import RegistryStore
from yokai_assets.settings import Settings, load_settings
from yokai_assets.settings.loading import SettingsError
from yokai_assets.storage.database import open_read_only
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.sql import render_sql


def show_similar(config_file: Path | None, image: Path, count: int, sheet: Path | None) -> None:
    """Print the nearest instances of an image, and draw them if asked to."""
    settings = load_settings(config_file)
    layout = Layout.of(settings)
    found = nearest_instances(image, settings, layout, count)
    console, table = Terminal(), Table(box=None, header_style="bold")
    for column in ("cosine", "character", "instance", "cut-out"):
        table.add_column(column, justify="right" if column == "cosine" else "left", overflow="fold")
    for row in found.iter_rows(named=True):
        table.add_row(f"{row['cosine']:.3f}", row["character_id"] or "-", row["instance_id"], row["cutout"] or "gone")
    console.print(table)
    if sheet is not None:
        shown = found.filter(pl.col("cutout").is_not_null())
        labels = [f"{row['character_id'] or '-'} {row['cosine']:.2f}" for row in shown.iter_rows(named=True)]
        picture = files_sheet(layout, shown["cutout"].to_list(), labels)
        if picture is not None:
            sheet.parent.mkdir(parents=True, exist_ok=True)
            picture.convert("RGB").save(sheet)
            console.print(f"{escape(str(sheet))}: {shown.height} cut-outs", soft_wrap=True)


def nearest_instances(image: Path, settings: Settings, layout: Layout, count: int) -> pl.DataFrame:
    """Return `instance_id`, `episode`, `cosine`, `cutout`, `character_id` of the instances most like an image.

    An image with transparency is laid on the ground that cut-outs are; another one is taken as it is.

    Raises:
        FileNotFoundError: Nothing is published yet.
        SettingsError: The image cannot be read, or the model cannot be opened, or has other vectors.
    """
    if not layout.database.exists():
        raise FileNotFoundError(f"{layout.database}: nothing is published yet. Run `yokai run` first.")
    try:
        model = open_image_text_model(settings.embedding, resolve_device(settings.device))
        picture = decode_image(read_bytes(UPath(image)), str(image))
    except EmbeddingModelError as error:
        raise SettingsError(str(error)) from error
    except FrameError as error:
        raise SettingsError(f"{image}: {error.reason}. Name another image.") from error
    ground = (settings.embedding.neutral_grey, settings.embedding.context_share)
    shown = neutral_ground(picture.convert("RGBA"), *ground) if picture.has_transparency_data else rgb_of(picture)
    vector = model.embed_images([shown])[0]
    with open_read_only(layout.database) as connection:
        models = connection.sql("SELECT DISTINCT model_fingerprint FROM embeddings").fetchall()
        if models != [(model.fingerprint,)]:
            raise SettingsError(
                f"{layout.database}: its vectors are of another model than `{settings.embedding.model}`. "
                "Run `yokai run`, so that they are made anew."
            )
        statement = render_sql("queries/similar_instances", dimension=model.dimension)
        rows = connection.execute(statement, [vector.tolist(), count]).fetchall()
    schema = {"instance_id": pl.String, "episode": pl.String, "cosine": pl.Float64}
    return _with_characters(pl.DataFrame(rows, schema=schema, orient="row"), layout)


def _with_characters(found: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    files = cutouts_of(found, layout)
    cutouts = [files.get(name) for name in found["instance_id"]]
    joined = found.with_columns(pl.Series("cutout", cutouts, dtype=pl.String))
    registry = RegistryStore(layout.registry).load()
    if registry is None:
        return joined.with_columns(character_id=pl.lit(None, pl.String))
    members = registry.members.select("instance_id", "character_id")
    return joined.join(members, on="instance_id", how="left", maintain_order="left")
