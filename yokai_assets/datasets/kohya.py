"""How a training set lies on disk: the layout of kohya's sd-scripts, with HF `imagefolder` metadata beside it.

    <character>/<image>.png, <image>.txt     training images and captions
    <character>/masks/<image>.png            alpha, grey, of the same size
    <character>/held_out/...                 the same again, never trained on
    <character>/metadata.jsonl               one line per training image: file_name, text, mask_file_name, ...
    <character>/dataset.toml                 for sd-scripts' `--dataset_config`

Files only. sd-scripts reads an `image_dir` without its sub-folders, so masks and held-out images stay out.
"""

import json
from pathlib import Path
from typing import Any

from PIL import Image

HELD_OUT = "held_out"
MASKS = "masks"
CONFIG_FILE = "dataset.toml"


def file_stem(instance_id: str) -> str:
    """Return the file name (without extension) of an instance: its id with `_` for `/`."""
    return instance_id.replace("/", "_")


def image_path(split: str, stem: str) -> str:
    """Return where an image lies, relative to the character's folder."""
    return f"{HELD_OUT}/{stem}.png" if split == HELD_OUT else f"{stem}.png"


def mask_path(split: str, stem: str) -> str:
    """Return where an image's mask lies, relative to the character's folder."""
    return f"{HELD_OUT}/{MASKS}/{stem}.png" if split == HELD_OUT else f"{MASKS}/{stem}.png"


def write_example(folder: Path, split: str, stem: str, image: Image.Image, mask: Image.Image, caption: str) -> None:
    """Write one image, its mask and its caption."""
    picture, alpha = folder / image_path(split, stem), folder / mask_path(split, stem)
    alpha.parent.mkdir(parents=True, exist_ok=True)
    image.save(picture, "PNG")
    mask.save(alpha, "PNG")
    picture.with_suffix(".txt").write_text(caption + "\n", "utf-8")


def write_metadata(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write `metadata.jsonl` for the training images and one for the held-out ones.

    Args:
        folder: The character's folder.
        rows: `split`, `stem`, `caption` and whatever else shall stand in the line.
    """
    for split, place in (("train", folder), (HELD_OUT, folder / HELD_OUT)):
        lines = [json.dumps(_metadata_line(row), ensure_ascii=False) + "\n" for row in rows if row["split"] == split]
        if lines:
            place.mkdir(exist_ok=True)
            (place / "metadata.jsonl").write_text("".join(lines), "utf-8")


def dataset_toml(image_dir: str, mask_dir: str, resolution_px: int) -> str:
    """Return the dataset configuration for sd-scripts.

    Args:
        image_dir: The character's folder, absolute: sd-scripts resolves relative ones from where it is started.
        mask_dir: Folder of the masks, absolute.
        resolution_px: Side of the square whose area buckets share.
    """
    smallest = min(64 * max(1, resolution_px // 128), resolution_px)
    return f"""\
# For kohya's sd-scripts: --dataset_config. Paths are absolute, because sd-scripts takes relative ones from the
# folder it is started in; correct them after moving this folder. Repeats and batch size are to be edited at will.

[general]
caption_extension = ".txt"
shuffle_caption = false
keep_tokens = 1  # the trigger word stays in front, should captions be shuffled

[[datasets]]
resolution = {resolution_px}
batch_size = 2
enable_bucket = true
bucket_no_upscale = true
min_bucket_reso = {smallest}
max_bucket_reso = {2 * resolution_px}

  [[datasets.subsets]]
  image_dir = {_toml_string(image_dir)}
  num_repeats = 1
  # With --masked_loss, to train on the character rather than on what is behind it:
  # conditioning_data_dir = {_toml_string(mask_dir)}
"""


def _metadata_line(row: dict[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in row.items() if key not in ("split", "stem", "caption")}
    stem = row["stem"]
    return {"file_name": f"{stem}.png", "mask_file_name": f"{MASKS}/{stem}.png", "text": row["caption"], **rest}


def _toml_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
