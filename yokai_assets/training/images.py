"""The images of a training set as pixels, whatever file they come from.

Here: rows of a `DATASET` table as items, and tolerant reading. Not here: choosing images (`datasets`), or latents.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl
from PIL import Image
from upath import UPath

from yokai_assets.frames.decoding import FrameError, decode_image, read_bytes, rgb_of
from yokai_assets.storage.files import is_local, recover_folder
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
        repeats: How often a `train` image is shown while one with 1 is shown once.
    """

    item_id: str
    image: UPath
    mask: UPath | None
    caption: str
    split: Split
    repeats: int = 1


class Pixels(NamedTuple):
    """What an item's files hold."""

    image: Image.Image
    mask: Image.Image | None
    file_sha256: str


def items_of(dataset: pl.DataFrame, character_id: str, layout: Layout) -> list[TrainingItem]:
    """Return the items of a character's `DATASET` rows, in order of instance_id; its folder is mended before."""
    folder = layout.training_data(character_id)
    if is_local(folder):
        recover_folder(Path(str(folder)))
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


def read_item(item: TrainingItem) -> Pixels:
    """Read one item's image (RGB) and mask (L), upright as its EXIF orientation says, and hash the image file.

    An alpha channel stands in for a missing mask, and its ground becomes grey.

    Raises:
        TrainingImageError: A file is missing or damaged, or the mask is of another size.
    """
    source, file_sha256 = _open(item.image)
    alpha = source.convert("RGBA").getchannel("A") if source.has_transparency_data else None
    if alpha is not None and item.mask is None:
        ground = Image.new("RGBA", source.size, (128, 128, 128, 255))
        image = Image.alpha_composite(ground, source.convert("RGBA")).convert("RGB")
    else:
        image = source.convert("RGB") if alpha is not None else rgb_of(source)
    mask = alpha if item.mask is None else _open(item.mask)[0].convert("L")
    if mask is not None and mask.size != image.size:
        raise TrainingImageError(
            f"{item.mask}: mask of {mask.size} px for an image of {image.size} px. Make it as large as the image, or "
            "materialize the dataset again."
        )
    return Pixels(image, mask, file_sha256)


def _open(path: UPath) -> tuple[Image.Image, str]:
    try:
        content = read_bytes(path)
        return decode_image(content, str(path)), hashlib.sha256(content).hexdigest()
    except FrameError as error:
        raise TrainingImageError(f"{path}: cannot be read as an image: {error.reason}.") from error
