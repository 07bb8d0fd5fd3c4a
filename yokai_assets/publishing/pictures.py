"""Pictures of a published LoRA: thumbnail, preview, samples.

Which ones stand for it; drawing and judging them is `evaluation`.
"""

import base64
import io
from pathlib import Path

from PIL import Image

from yokai_assets.evaluation.record import EvaluationRecord, PictureRecord
from yokai_assets.frames.decoding import IMAGE_ERRORS, open_image
from yokai_assets.previews import contact_sheet
from yokai_assets.storage.layout import Layout

_THUMBNAIL_PX = 256


def data_url(image: Image.Image) -> str:
    """Return a thumbnail as ModelSpec wants it: a JPEG in a data URL."""
    buffer = io.BytesIO()
    small = image.convert("RGB").resize((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.LANCZOS)
    small.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def best_picture(evaluation: EvaluationRecord, layout: Layout) -> Image.Image:
    """Return the most typical sound picture of the chosen step that is not suspected of copying a training image.

    Where every picture is broken or gone, a sheet that says so stands in.
    """
    folder = layout.lora_tests(evaluation.character_id)

    def rank(picture: PictureRecord) -> tuple[bool, bool, float]:
        is_copy = (picture.nearest_training_cosine or 0.0) > evaluation.memorising_yardstick
        return picture.recognised_as == evaluation.character_id, not is_copy, picture.resemblance or 0.0

    candidates = [
        picture
        for picture in evaluation.pictures
        if picture.step == evaluation.chosen_step and picture.resemblance is not None and not picture.defect
    ]
    for picture in sorted(candidates, key=rank, reverse=True):
        try:
            with (folder / picture.file).open("rb") as file:
                image = open_image(file)
                image.load()
                return image
        except IMAGE_ERRORS:
            continue
    return contact_sheet([], columns=1, tile_px=_THUMBNAIL_PX)


def write_pictures(
    thumbnail: Image.Image, evaluation: EvaluationRecord, layout: Layout, preview: Path, samples: Path
) -> None:
    """Write to local files: the thumbnail, and the comparison of base model, LoRA and real images, if there is one."""
    thumbnail.convert("RGB").save(preview, "PNG", optimize=True)
    comparison = layout.lora_tests(evaluation.character_id) / evaluation.comparison
    if comparison.exists():
        samples.write_bytes(comparison.read_bytes())
