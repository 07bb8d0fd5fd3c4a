"""`yokai dataset ...`: the commands and their options. What they do is in `datasets`, imported when called."""

from pathlib import Path

import click

from yokai_assets.cli.character_commands import CHARACTER, with_config

_IMAGE = "IMAGE is the name of an image as `show` and the folder have it, with or without `.png`."


@click.group()
def dataset() -> None:
    """See what the LoRAs are trained on, and take images out or put them back.

    The folders are yours to edit, too: rewrite a `.txt`, delete an image, retouch one, add files. The next `yokai run`
    keeps what you changed and makes only that character's LoRA anew.
    """


@dataset.command("list")
@with_config
def list_(config_file: Path | None) -> None:
    """List the training sets: images, episodes, outfits, grounds, what people changed."""
    from yokai_assets.cli.datasets import list_datasets

    list_datasets(config_file)


@dataset.command(epilog=CHARACTER)
@with_config
@click.argument("character")
@click.option("--count", type=click.IntRange(1, 10_000), default=12, show_default=True, help="Images to list.")
@click.option("--sheet", type=click.Path(dir_okay=False, path_type=Path), help="Draw images and captions, into a file.")
@click.option("--rejected", type=click.Path(dir_okay=False, path_type=Path), help="Draw what was left out, by reason.")
@click.option("--open", "is_opened", is_flag=True, help="Open the folder in the file manager.")
def show(
    config_file: Path | None, character: str, count: int, sheet: Path | None, rejected: Path | None, is_opened: bool
) -> None:
    """Show a training set: images and captions, tags, what was left out and why."""
    from yokai_assets.cli.datasets import show_dataset

    show_dataset(config_file, character, count, sheet, rejected, is_opened)


@dataset.command(epilog=f"{CHARACTER} {_IMAGE}")
@with_config
@click.argument("character")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
def remove(config_file: Path | None, character: str, images: tuple[str, ...]) -> None:
    """Take images out of a training set; they stay out, though still the character's (`yokai characters exclude`)."""
    from yokai_assets.cli.datasets import remove_images

    remove_images(config_file, character, images)


@dataset.command(epilog=f"{CHARACTER} {_IMAGE}")
@with_config
@click.argument("character")
@click.option("--forget", multiple=True, metavar="IMAGE", help="Forget what was changed of this image. Repeatable.")
@click.option("--forget-all", is_flag=True, help="Forget all of it.")
def edits(config_file: Path | None, character: str, forget: tuple[str, ...], forget_all: bool) -> None:
    """Show what people changed by hand in a training set, or forget it: then the automatic version comes back."""
    from yokai_assets.cli.datasets import show_edits

    show_edits(config_file, character, forget, forget_all)
