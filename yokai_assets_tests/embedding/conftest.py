"""A tiny open_clip model of random weights, saved as open_clip saves models, and instances with real cut-outs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from upath import UPath

from yokai_assets.settings.model import EmbeddingSettings
from yokai_assets.storage.layout import Layout
from yokai_assets.tables import INSTANCES

MODEL_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def save_model(folder: Path, seed: int, *, mean: float = 0.5) -> Path:
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    preprocess = {"mean": [mean] * 3, "std": [0.5] * 3}
    config = {"model_cfg": MODEL_CONFIG, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    network = open_clip.CLIP(**MODEL_CONFIG)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "tiny", seed=0)


@pytest.fixture
def settings(model_folder: Path) -> EmbeddingSettings:
    return EmbeddingSettings(model=f"local-dir:{model_folder}", batch_size=3)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(UPath(tmp_path / "data"), "series")


def write_instances(layout: Layout, colours: list[tuple[int, int, int]], episode: str = "e01") -> pl.DataFrame:
    """Write one cut-out per colour (a disc of it) and return its rows of `INSTANCES`."""
    rows: list[dict[str, Any]] = []
    for index, colour in enumerate(colours):
        path = layout.character_layers(episode) / f"{index:06d}_0.webp"
        path.parent.mkdir(parents=True, exist_ok=True)
        y, x = np.mgrid[0:40, 0:24]
        alpha = ((x - 12) ** 2 + (y - 20) ** 2 < 100).astype(np.uint8) * 255
        pixels = np.dstack([np.full_like(alpha, value) for value in colour] + [alpha])
        Image.fromarray(pixels, "RGBA").save(str(path), lossless=True, exact=True)
        values: dict[str, Any] = {
            name: "x" if dtype == pl.String else 1 if dtype == pl.Int32 else 0.5
            for name, dtype in INSTANCES.schema.items()
        }
        frame_id = f"{episode}/{index:06d}"
        rows.append(
            values
            | {
                "instance_id": f"{frame_id}/0",
                "frame_id": frame_id,
                "episode": episode,
                "cutout": layout.relative(path),
                "cutout_sha256": f"{colour}",
            }
        )
    return INSTANCES.from_rows(rows)
