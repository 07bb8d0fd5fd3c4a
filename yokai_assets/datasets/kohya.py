"""How a training set lies on disk: the layout of kohya's sd-scripts, with HF `imagefolder` metadata beside it.

    <character>/<image>.png, <image>.txt     training images and captions
    <character>/masks/<image>.png            alpha, grey, of the same size
    <character>/held_out/...                 the same again (`records.jsonl` for `metadata.jsonl`), never trained on
    <character>/metadata.jsonl               one line per training image: file_name, text, mask_file_name, ...
    <character>/dataset.toml                 for sd-scripts' `--dataset_config`
    <character>/rejected.jsonl               members that are not in the set, and why
    <character>/files.json                   what was written, so that changes by hand are known (`edits`)

Files only. sd-scripts reads an `image_dir` without its sub-folders, so masks and held-out images stay out.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from upath import UPath

HELD_OUT = "held_out"
MASKS = "masks"
METADATA_FILE, RECORDS_FILE = "metadata.jsonl", "records.jsonl"
CONFIG_FILE = "dataset.toml"
REJECTED_FILE = "rejected.jsonl"

_MAX_REPEATS = 10
_REGULARISATION = """
  [[datasets.subsets]]
  image_dir = {}
  num_repeats = 1
  is_reg = true
"""


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
    """Write `metadata.jsonl` for the training images, and `records.jsonl` for the held-out ones.

    Not the same name: HF's `imagefolder` reads every `metadata.jsonl` below the folder that it is given, and would
    train on what is held out (tried with `datasets` 5.2).

    Args:
        folder: The character's folder.
        rows: `split`, `stem`, `caption` and whatever else shall stand in the line.
    """
    for split, file in (("train", folder / METADATA_FILE), (HELD_OUT, folder / HELD_OUT / RECORDS_FILE)):
        lines = [json.dumps(_metadata_line(row), ensure_ascii=False) + "\n" for row in rows if row["split"] == split]
        if lines:
            file.parent.mkdir(exist_ok=True)
            file.write_text("".join(lines), "utf-8")


def write_rejected(folder: Path, dropped: Mapping[str, str]) -> None:
    """Write `rejected.jsonl`: which members are not in the set, and why."""
    lines = (json.dumps({"instance_id": name, "reason": reason}) + "\n" for name, reason in sorted(dropped.items()))
    (folder / REJECTED_FILE).write_text("".join(lines), "utf-8")


def read_rejected(folder: UPath) -> dict[str, str]:
    """Return instance_id -> reason, of members that are not in a set; empty where there is none."""
    path = folder / REJECTED_FILE
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return {row["instance_id"]: row["reason"] for row in map(json.loads, lines)}


def repeats_for(image_count: int, epoch_images: int) -> int:
    """Return how often an image is shown in an epoch, so that an epoch of a small set has about `epoch_images`."""
    return min(_MAX_REPEATS, max(1, round(epoch_images / max(1, image_count))))


def dataset_toml(
    image_dir: str, mask_dir: str, resolution_px: int, repeats: int, regularisation_dirs: Sequence[str] = ()
) -> str:
    """Return the dataset configuration for sd-scripts.

    Args:
        image_dir: The character's folder, absolute: sd-scripts resolves relative ones from where it is started.
        mask_dir: Folder of the masks, absolute.
        resolution_px: Side of the square whose area buckets share.
        repeats: How often each image is shown in an epoch.
        regularisation_dirs: Folders of the series' regularisation set that are not of this character, absolute.
    """
    regularisation = "".join(_REGULARISATION.format(_toml_string(place)) for place in regularisation_dirs)
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
  num_repeats = {repeats}
{_masks_hint(mask_dir, has_regularisation=bool(regularisation_dirs))}{regularisation}"""


def _masks_hint(mask_dir: str, *, has_regularisation: bool) -> str:
    if has_regularisation:
        return "  # No masks beside regularisation images: sd-scripts takes either, not both.\n"
    return (
        "  # With --masked_loss, to train on the character rather than on what is behind it:\n"
        f"  # conditioning_data_dir = {_toml_string(mask_dir)}\n"
    )


def _metadata_line(row: dict[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in row.items() if key not in ("split", "stem", "caption")}
    stem = row["stem"]
    return {"file_name": f"{stem}.png", "mask_file_name": f"{MASKS}/{stem}.png", "text": row["caption"], **rest}


def _toml_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
