"""Pictures and folders of training images, as tests of reading them need them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from yokai_assets.datasets import kohya
from yokai_assets.datasets.folder import TrainingFolder
from yokai_assets.datasets.manifest import write_manifest


def picture(seed: int, width_px: int = 96, height_px: int = 80) -> Image.Image:
    """Return a picture like no other seed's: soft blotches."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width_px, height_px), Image.Resampling.BICUBIC)


def save(file: Path, seed: int, caption: str | None = None, **size_px: int) -> Path:
    """Write a picture, and its caption beside it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    picture(seed, **size_px).save(file)
    if caption is not None:
        file.with_suffix(".txt").write_text(caption, "utf-8")
    return file


def save_mask(file: Path, width_px: int = 96, height_px: int = 80) -> None:
    """Write a mask of a picture: white all over."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width_px, height_px), 255).save(file)


def write_lines(file: Path, *rows: dict[str, Any] | str) -> None:
    """Write a JSON-lines file; texts are lines as they are."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    file.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def write_own(folder: Path, train_count: int = 6, held_out_count: int = 2) -> None:
    """Write a training set as `yokai run` does."""
    rows = []
    for number in range(train_count + held_out_count):
        split = "train" if number < train_count else kohya.HELD_OUT
        stem, caption = f"episode_001_{number:06d}_0", f"zqkaro, tag {number}"
        kohya.write_example(folder, split, stem, picture(number), Image.new("L", (96, 80), 200), caption)
        rows.append({"split": split, "stem": stem, "caption": caption, "episode": "episode_001"})
    kohya.write_metadata(folder, rows)
    kohya.write_rejected(folder, {"episode_001/000099/0": "blurred"})
    (folder / kohya.CONFIG_FILE).write_text(kohya.dataset_toml(str(folder), f"{folder}/masks", 512, 1), "utf-8")
    write_manifest(folder, {})


def captions(found: TrainingFolder) -> dict[str, str]:
    """Return item_id -> caption."""
    return {item.item_id: item.caption for item in found.items}


def held_out(found: TrainingFolder) -> set[str]:
    """Return the item_ids that are held out."""
    return {item.item_id for item in found.items if item.split == "held_out"}


def reasons(found: TrainingFolder) -> dict[str, str]:
    """Return file -> what is the matter with it."""
    return dict(found.problems)
