"""From checkpoints to a diffusers folder, and sample grids to look at. Not here: training."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yokai_assets.demo.training.diffusion import build_scheduler, load_trained_diffusion
from yokai_assets.demo.training.latents import PATCH_PX
from yokai_assets.demo.training.measure import draw_prompts
from yokai_assets.demo.training.vae import load_trained_vae

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer


def build_pipeline(
    vae: AutoencoderKL, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, unet: UNet2DConditionModel
) -> StableDiffusionPipeline:
    """The parts as a Stable Diffusion pipeline without a safety checker."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),  # pyright: ignore[reportArgumentType]
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_pipeline(pipeline: StableDiffusionPipeline, folder: Path) -> int:
    """Saves in half precision; the folder appears whole, replacing an older one. Returns its bytes."""
    import torch

    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        pipeline.to(dtype=torch.float16).save_pretrained(temporary, safe_serialization=True)
        temporary.chmod(0o755)
        if folder.exists():
            old = folder.with_name(f".{folder.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
            temporary.rename(folder)
            shutil.rmtree(old)
        else:
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def open_trained(
    tokenizer: CLIPTokenizer, unet_checkpoint: Path, vae_checkpoint: Path, latent_channels: int, size_px: int
) -> tuple[StableDiffusionPipeline, int]:
    """The averaged weights of the newest checkpoints as a pipeline, and the UNet's step.

    Raises:
        FileNotFoundError: the UNet or the autoencoder has no checkpoint yet.
    """
    text_encoder, unet, step = load_trained_diffusion(unet_checkpoint, tokenizer, latent_channels, size_px // PATCH_PX)
    vae = load_trained_vae(vae_checkpoint, latent_channels)
    return build_pipeline(vae, text_encoder, tokenizer, unet), step


def save_sample_grid(
    path: Path,
    pipeline: StableDiffusionPipeline,
    pictures: NDArray[np.uint8],
    captions: Sequence[str],
    columns: int,
    guidances: Sequence[float],
    inference_steps: int,
    scale: int = 2,
) -> None:
    """Draws a sample for each caption, with the same noise at every guidance, and saves them below the pictures.

    Rows are truth and samples, one guidance under the other, in turn.
    """
    sheets = [pictures, *(draw_prompts(pipeline, captions, guidance, inference_steps) for guidance in guidances)]
    rows = [
        np.concatenate(list(images[start : start + columns]), axis=1)
        for start in range(0, len(pictures), columns)
        for images in sheets
    ]
    grid = Image.fromarray(np.concatenate(rows, axis=0))
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.resize((grid.width * scale, grid.height * scale), Image.Resampling.NEAREST).save(path, optimize=True)
