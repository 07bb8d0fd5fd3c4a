"""The images of a training set as pixels, whatever file they come from.

Here: rows of a `DATASET` table as items, and tolerant reading. Not here: choosing images (`datasets`), or latents.
"""

from dataclasses import dataclass
from typing import Literal

import polars as pl
from PIL import Image, ImageOps
from upath import UPath

from yokai_assets.frames.decoding import IMAGE_ERRORS
from yokai_assets.storage.layout import Layout

Split = Literal["train", "held_out"]


class TrainingImageError(RuntimeError):
    """An image cannot be trained on; the message names the file and the reason."""


@dataclass(frozen=True, slots=True)
class TrainingItem:
    """One image of a training set, not yet read.

    Attributes:
        item_id: Unique in the set; gives the order of images.
        image: Image file.
        mask: Grey image of the same size, white where the character is; None counts all pixels alike.
        caption: What the text encoder reads.
        split: `train` images are trained on, `held_out` ones measure the validation loss.
    """

    item_id: str
    image: UPath
    mask: UPath | None
    caption: str
    split: Split


def items_of(dataset: pl.DataFrame, layout: Layout) -> list[TrainingItem]:
    """Return the items of `DATASET` rows, in order of instance_id."""
    return [
        TrainingItem(
            item_id=row["instance_id"],
            image=layout.absolute(row["image"]),
            mask=layout.absolute(row["mask"]) if row["mask"] else None,
            caption=row["caption"],
            split=row["split"],
        )
        for row in dataset.sort("instance_id").iter_rows(named=True)
    ]


def read_item(item: TrainingItem) -> tuple[Image.Image, Image.Image | None]:
    """Read one item's image (RGB) and mask (L), upright as its EXIF orientation says.

    An alpha channel stands in for a missing mask, and its ground becomes grey.

    Raises:
        TrainingImageError: A file is missing or damaged, or the mask is of another size.
    """
    source = _open(item.image)
    alpha = source.convert("RGBA").getchannel("A") if source.has_transparency_data else None
    if alpha is not None and item.mask is None:
        ground = Image.new("RGBA", source.size, (128, 128, 128, 255))
        image = Image.alpha_composite(ground, source.convert("RGBA")).convert("RGB")
    else:
        image = _to_rgb(source)
    mask = alpha if item.mask is None else _open(item.mask).convert("L")
    if mask is not None and mask.size != image.size:
        raise TrainingImageError(
            f"{item.mask}: mask of {mask.size} px for an image of {image.size} px. Materialize the dataset again."
        )
    return image, mask


def _open(path: UPath) -> Image.Image:
    try:
        with path.open("rb") as file, Image.open(file) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except IMAGE_ERRORS as error:
        raise TrainingImageError(f"{path}: cannot be read as an image ({error}).") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow clips 16-bit grey at 255 when it converts; scale it first.
        return image.convert("I").point(lambda value: value * (1 / 257)).convert("L").convert("RGB")
    return image.convert("RGB")
