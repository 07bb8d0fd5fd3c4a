"""Seeing training sets and what people changed in them. Options are in `dataset_commands`, rules in `datasets`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
import polars as pl
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from yokai_assets.cli.characters import Desk
from yokai_assets.cli.terminal import Terminal
from yokai_assets.datasets import EditsError, HandEdits, read_edits
from yokai_assets.datasets.edits import collect_edits, forget, write_edits
from yokai_assets.datasets.kohya import read_rejected
from yokai_assets.datasets.selection import REASONS
from yokai_assets.previews.datasets import rejected_sheet, training_sheet
from yokai_assets.registry.deciding import DecisionError
from yokai_assets.settings import load_settings
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_partitions, read_table_if_there, table_files
from yokai_assets.tables import CAPTIONS, DATASET, INSTANCES

_TAGS_SHOWN = 12


def list_datasets(config_file: Path | None) -> None:
    """Print a line for each training set."""
    settings = load_settings(config_file)
    layout, console = Layout.of(settings), Terminal()
    table = Table(box=None, header_style="bold")
    for column in ("character", "train", "held out", "episodes", "outfits", "grounds", "by hand", ""):
        table.add_column(column, justify="right" if column in ("train", "held out", "episodes", "outfits") else "left")
    for character in table_files(layout.tables / "training_dataset"):
        rows = _rows(layout, character)
        train = rows.filter(split="train").height
        grounds = ", ".join(f"{kind} {n}" for kind, n in rows["background"].value_counts(sort=True).iter_rows())
        table.add_row(
            character, str(train), str(rows.height - train), str(rows["episode"].n_unique()),
            str(rows["outfit"].n_unique()), grounds, _edits_in_short(_edits(layout, character)),
            f"too small: fewer than {settings.dataset.min_images}" if train < settings.dataset.min_images else "",
        )  # fmt: skip
    if not table.row_count:
        raise click.ClickException(f"{layout.tables / 'training_dataset'}: no training set yet. Run `yokai run` first.")
    console.print(table)


def show_dataset(
    config_file: Path | None, text: str, count: int, sheet: Path | None, rejected: Path | None, is_opened: bool
) -> None:
    """Print a training set, draw it if asked to, and open its folder if asked to."""
    layout, character = _find(config_file, text)
    rows, console = _rows(layout, character), Terminal()
    folder = layout.training_data(character)
    if rows.is_empty():
        raise click.ClickException(f"{folder}: {character} has no training set yet. Run `yokai run` first.")
    console.print(f"[bold]{character}[/] {escape(str(folder))}", soft_wrap=True)
    console.print(_in_short(rows))
    table = Table(box=None, header_style="bold")
    for column in ("image", "split", "ground", "outfit", "caption"):
        table.add_column(column, overflow="fold")
    for row in rows.head(count).iter_rows(named=True):
        name = row["image"].rpartition("/")[2]
        table.add_row(name, row["split"], row["background"], str(row["outfit"]), escape(row["caption"]))
    console.print(table)
    if rows.height > count:
        console.print(f"[dim]... and {rows.height - count} more (--count)[/]")
    _print_tags(console, layout, character, rows)
    dropped = read_rejected(folder)
    for reason, number in Counter(dropped.values()).most_common():
        console.print(f"  left out {number:,}: {reason.replace('_', ' ')} [dim]({REASONS.get(reason, '')})[/]")
    console.print(f"by hand: {_edits_in_short(_edits(layout, character))}")
    if sheet is not None:
        _save(training_sheet(rows, layout, count=200), sheet, console)
    if rejected is not None:
        episodes = {name.split("/")[0] for name in dropped}
        instances = read_partitions(INSTANCES, layout.tables / "character_layers", sorted(episodes))
        _save(rejected_sheet(dropped, instances, layout), rejected, console)
    if is_opened:
        click.launch(str(folder))


def remove_images(config_file: Path | None, text: str, images: Sequence[str]) -> None:
    """Keep in mind that these images are not wanted."""
    layout, character = _find(config_file, text)
    rows, edits = _rows(layout, character), _collected(layout, character)
    named = _by_name(rows)
    unknown = [image for image in images if _stem(image) not in named]
    if unknown:
        raise click.ClickException(f"{', '.join(unknown)}: no image of {character}'s training set. None was removed.")
    gone = {named[_stem(image)]: _stem(image) for image in images}
    write_edits(edits.model_copy(update={"removed": {**edits.removed, **gone}}), layout, character)
    click.echo(f"{len(gone)} image(s) removed. The next `yokai run` makes the set, and its LoRA, without them.")


def show_edits(config_file: Path | None, text: str, names: Sequence[str], is_all: bool) -> None:
    """Print what people changed, or forget some of it."""
    layout, character = _find(config_file, text)
    edits = _collected(layout, character)
    stems = {sha256: stem for stem, sha256 in _by_name(_rows(layout, character)).items()} | edits.removed
    if names or is_all:
        named = {stems.get(key, key[:16]): key for key in edits.keys}
        unknown = [name for name in names if _stem(name) not in named]
        if unknown or not edits.counts:
            raise click.ClickException(f"nothing was changed by hand of {', '.join(unknown) or character}")
        keys = edits.keys if is_all else {named[_stem(name)] for name in names}
        forget(layout, character, keys, also_config=is_all)
        click.echo(f"Forgotten of {len(keys)} image(s). The next `yokai run` makes the automatic version again.")
        return
    console = Terminal()
    for sha256, caption in edits.captions.items():
        console.print(f"caption    {stems.get(sha256, sha256[:16])}: {escape(caption)}", soft_wrap=True)
    for what, keys in (("removed", edits.removed), ("retouched", edits.retouched), ("mask", edits.repainted)):
        for sha256 in keys:
            console.print(f"{what:<10} {stems.get(sha256, sha256[:16])}")
    if edits.config_sha256:
        console.print("dataset.toml")
    if not edits.counts:
        console.print(f"Nothing was changed by hand in {escape(str(layout.training_data(character)))}.", soft_wrap=True)


def _find(config_file: Path | None, text: str) -> tuple[Layout, str]:
    desk = Desk.open(config_file)
    try:
        return desk.layout, desk.find(text)
    except DecisionError as error:
        raise click.ClickException(str(error)) from error


def _rows(layout: Layout, character: str) -> pl.DataFrame:
    return read_table_if_there(DATASET, layout.table("training_dataset", character)).sort(
        "split", "image", descending=[True, False]
    )


def _edits(layout: Layout, character: str) -> HandEdits:
    try:
        return read_edits(layout, character)
    except EditsError as error:
        raise click.ClickException(str(error)) from error


def _collected(layout: Layout, character: str) -> HandEdits:
    """Return all edits, with those in the folder that no run has seen yet."""
    try:
        return collect_edits(layout, character).edits
    except EditsError as error:
        raise click.ClickException(str(error)) from error


def _edits_in_short(edits: HandEdits) -> str:
    return ", ".join(f"{number} {what}" for what, number in edits.counts.items()) or "nothing"


def _in_short(rows: pl.DataFrame) -> str:
    counts = dict(rows.group_by("split").len().iter_rows())
    parts = [f"{counts.get('train', 0)} training images, {counts.get('held_out', 0)} held out"]
    parts.append(f"{rows['episode'].n_unique()} episodes, {rows.select('episode', 'shot').n_unique()} shots")
    for column, what in (("outfit", "outfit"), ("view", "view"), ("framing", "framing"), ("background", "ground")):
        known = rows.drop_nulls(column)[column].cast(pl.String).value_counts(sort=True)
        if known.height:
            parts.append(f"{what}: " + ", ".join(f"{value} {number}" for value, number in known.iter_rows()))
    return "\n".join(parts)


def _print_tags(console: Console, layout: Layout, character: str, rows: pl.DataFrame) -> None:
    captions = read_table_if_there(CAPTIONS, layout.table("captions", character))
    said = captions.join(rows.filter(split="train"), on="instance_id", how="semi")
    counts = Counter(tag for tags in said["tags"] for tag in tags)
    most = ", ".join(f"{tag} {number}" for tag, number in counts.most_common(_TAGS_SHOWN))
    console.print(f"tags: {escape(most)}" if most else "tags: none")


def _by_name(rows: pl.DataFrame) -> dict[str, str]:
    """Return image name without `.png` -> cutout_sha256."""
    return {_stem(image): sha256 for image, sha256 in rows.select("image", "cutout_sha256").iter_rows()}


def _stem(image: str) -> str:
    return Path(image).name.removesuffix(".png").removesuffix(".txt")


def _save(picture: Image.Image | None, file: Path, console: Console) -> None:
    if picture is None:
        console.print("nothing to draw")
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.convert("RGB").save(file)
    console.print(escape(str(file)), soft_wrap=True)
