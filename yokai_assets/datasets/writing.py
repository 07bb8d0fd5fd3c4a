"""One image of a training set after the other: rendered on its ground, with a person's retouching, and written.

Which images, and on what ground, is `build`; pixel operations are `render`, file names are `kohya`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from yokai_assets.datasets import kohya
from yokai_assets.datasets.edits import REPAINTED, RETOUCHED, HandEdits, own_picture
from yokai_assets.datasets.grounds import ORIGINAL, Ground, plain_ground
from yokai_assets.datasets.render import Box, before, part_of_plate, placed_mask, plain, scaled_down
from yokai_assets.frames.decoding import FrameError
from yokai_assets.frames.reader import read_frame
from yokai_assets.storage.files import sha256_of_parts
from yokai_assets.storage.layout import Layout


@dataclass(frozen=True, slots=True)
class Example:
    """An image to be written: a row of INSTANCES with traits, its split, boxes in the frame (px), and its ground."""

    row: dict[str, Any]
    split: str
    box: Box
    crop: Box
    ground: Ground


class ExampleWriter:
    """Renders and writes one image after the other."""

    def __init__(
        self, folder: Path, layout: Layout, character_id: str, edits: HandEdits, resolution_px: int, seed: int
    ) -> None:
        self._folder, self._layout, self._character_id = folder, layout, character_id
        self._edits, self._resolution_px, self._seed = edits, resolution_px, seed
        self._plates: dict[str, Image.Image | None] = {}

    def write(
        self, example: Example, cutout: Image.Image, frame: Image.Image | None, captioned: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write an image, its mask and its caption, and return its record."""
        row, ground = example.row, example.ground
        image, mask, ground = self._rendered(example, cutout, frame, ground)
        if mask.getextrema() == (255, 255):  # an imported picture may be opaque: its own ground is all there is
            ground = ORIGINAL
        image, mask = self._by_hand(row["cutout_sha256"], image, mask, ground)
        caption = self._edits.captions.get(row["cutout_sha256"]) or _with_ground(captioned, ground)
        stem = kohya.file_stem(row["instance_id"])
        kohya.write_example(self._folder, example.split, stem, image, mask, caption)
        return {
            **{name: row[name] for name in ("instance_id", "episode", "shot", "cutout", "cutout_sha256")},
            **{name: row[name] for name in ("outfit", "view", "framing", "identity_margin")},
            "split": example.split,
            "stem": stem,
            "caption": caption,
            "background": ground.kind,
            "width_px": image.width,
            "height_px": image.height,
            "image_sha256": sha256_of_parts(image.size, image.tobytes(), mask.tobytes()),
        }

    def _by_hand(
        self, sha256: str, image: Image.Image, mask: Image.Image, ground: Ground
    ) -> tuple[Image.Image, Image.Image]:
        """Return image and mask as a person left them; the transparency of a retouched image is its mask."""
        layout, character = self._layout, self._character_id
        retouched = own_picture(layout, character, RETOUCHED, sha256) if sha256 in self._edits.retouched else None
        if retouched is not None:
            picture = retouched.convert("RGBA")
            is_transparent = retouched.has_transparency_data
            mask = picture.getchannel("A") if is_transparent else mask.resize(picture.size, Image.Resampling.BOX)
            image = Image.new("RGB", picture.size, ground.color)
            image.paste(picture, mask=picture.getchannel("A"))
        repainted = own_picture(layout, character, REPAINTED, sha256) if sha256 in self._edits.repainted else None
        if repainted is not None:
            mask = repainted.convert("L").resize(image.size, Image.Resampling.BOX)
        if ground.kind == "transparent" and (retouched or repainted):
            image = image.convert("RGB")
            image.putalpha(mask)
        return image, mask

    def _rendered(
        self, example: Example, cutout: Image.Image, frame: Image.Image | None, ground: Ground
    ) -> tuple[Image.Image, Image.Image, Ground]:
        mask = placed_mask(cutout, example.box, example.crop)
        if ground == ORIGINAL and frame is not None:
            return *scaled_down(frame.crop(example.crop).convert("RGB"), mask, self._resolution_px), ground
        plate = self._plate(ground.plate) if ground.plate else None
        if plate is not None:
            size = (example.row["frame_width_px"], example.row["frame_height_px"])
            behind = part_of_plate(plate, size, example.crop, ground.place)
        else:
            # A frame or plate that cannot be read.
            if ground.kind in ("original", "plate"):
                ground = plain_ground(example.row["instance_id"], self._seed)
            behind = plain(example.crop, ground)
        picture = before(behind, cutout, example.box, example.crop)
        image, mask = scaled_down(picture, mask, self._resolution_px)
        if ground.kind == "transparent":
            image.putalpha(mask)
        return image, mask, ground

    def _plate(self, relative: str) -> Image.Image | None:
        if relative not in self._plates:
            try:
                self._plates[relative] = read_frame(self._layout.absolute(relative))
            except FrameError:  # retention may have removed it
                self._plates[relative] = None
        return self._plates[relative]


def _with_ground(captioned: Mapping[str, Any], ground: Ground) -> str:
    says_it = not ground.tag or any("background" in tag for tag in captioned["tags"])
    return captioned["caption"] if says_it else f"{captioned['caption']}, {ground.tag}"
