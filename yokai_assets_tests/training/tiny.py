"""A Stable-Diffusion-shaped base with random weights and a small dataset on disk: real files, a second to make."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image
from upath import UPath

from yokai_assets.settings.training import TrainingSettings
from yokai_assets.storage.layout import Layout
from yokai_assets.tables.catalogue import DATASET
from yokai_assets.training import trainer
from yokai_assets.training.base_model import BaseModel
from yokai_assets.training.files import TrainingFiles
from yokai_assets.training.images import TrainingItem, items_of
from yokai_assets.training.record import TrainingResult

CHARACTER = "cluster_000"


def make_base(
    folder: Path,
    *,
    family: str = "sd15",
    prediction_type: str = "epsilon",
    has_zero_terminal_snr: bool = False,
    use_linear_projection: bool = False,
    unet_options: dict[str, Any] | None = None,
    vae_options: dict[str, Any] | None = None,
    text_options: dict[str, Any] | None = None,
) -> Path:
    """Write a diffusers folder: VAE f8, one or two text encoders, a two-level UNet; options replace the tiny ones."""
    import torch
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    from yokai_assets.demo.training.tokenizer import build_tokenizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer: Any = build_tokenizer([("r", "e"), ("re", "d</w>")], max_tokens=16)
        text: dict[str, Any] = {
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "projection_dim": 12,
        }
        text_config = CLIPTextConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=16,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **text | (text_options or {}),
        )
        is_sdxl = family == "sdxl"
        # SDXL reads both encoders' hidden states, and 6 sizes embedded in 4 numbers each beside the pooled text.
        sdxl_options: dict[str, Any] = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 4,
            "projection_class_embeddings_input_dim": 12 + 6 * 4,
        }
        tiny_unet: dict[str, Any] = {
            "sample_size": 4,
            "in_channels": 4,
            "out_channels": 4,
            "layers_per_block": 1,
            "block_out_channels": (16, 32),
            "norm_num_groups": 8,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "cross_attention_dim": 32 if is_sdxl else 16,
            "attention_head_dim": 8,
            "use_linear_projection": use_linear_projection,
        }
        tiny_vae: dict[str, Any] = {
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "block_out_channels": (8, 8, 8, 8),
            "norm_num_groups": 4,
            "latent_channels": 4,
        }
        unet = UNet2DConditionModel(**tiny_unet | (sdxl_options if is_sdxl else {}) | (unet_options or {}))
        vae = AutoencoderKL(**tiny_vae | (vae_options or {}))
        schedule: Any = {"prediction_type": prediction_type, "rescale_betas_zero_snr": has_zero_terminal_snr}
        scheduler: Any = DDIMScheduler(
            **schedule,
            timestep_spacing="trailing",
            clip_sample=False,
        )
        if is_sdxl:
            pipeline: Any = StableDiffusionXLPipeline(
                vae=vae,
                text_encoder=CLIPTextModel(text_config),
                text_encoder_2=CLIPTextModelWithProjection(text_config),
                tokenizer=tokenizer,
                tokenizer_2=tokenizer,
                unet=unet,
                scheduler=scheduler,
                add_watermarker=False,
            )
        else:
            pipeline = StableDiffusionPipeline(
                vae=vae,
                text_encoder=CLIPTextModel(text_config),
                tokenizer=tokenizer,
                unet=unet,
                scheduler=scheduler,
                safety_checker=None,  # pyright: ignore[reportArgumentType]
                feature_extractor=None,  # pyright: ignore[reportArgumentType]
                requires_safety_checker=False,
            )
        pipeline.save_pretrained(folder)
    return folder


def make_layout(root: Path) -> Layout:
    return Layout(UPath(root), "tiny")


def make_dataset(layout: Layout, *, train_count: int = 4, held_out_count: int = 2, seed: int = 0) -> pl.DataFrame:
    """Write PNGs and masks, two sizes among them, and return their rows."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(train_count + held_out_count):
        split = "train" if index < train_count else "held_out"
        width, height = (32, 32) if index % 3 else (16, 32)
        folder = layout.training_data(CHARACTER)
        image, mask = folder / f"{index:03d}.png", folder / "masks" / f"{index:03d}.png"
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        alpha = np.zeros((height, width), np.uint8)
        alpha[8:24, 4:-4] = 255
        save_png(image, pixels)
        save_png(mask, alpha)
        rows.append(
            {
                "character_id": CHARACTER,
                "instance_id": f"e1/{index:06d}/0",
                "split": split,
                "episode": "e1",
                "shot": index,
                "image": layout.relative(image),
                "mask": layout.relative(mask),
                "caption": f"zqkaro, red {'round' if index % 2 else 'tall'}",
                "background": "plain",
                "width_px": width,
                "height_px": height,
                "image_sha256": "",
                **{"outfit": 0, "view": None, "framing": "whole", "identity_margin": None, "cutout_sha256": ""},
            }
        )
    return DATASET.conform(pl.DataFrame(rows))


def save_png(path: UPath, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(str(path))


def make_settings(base: Path | UPath, **changes: Any) -> TrainingSettings:
    defaults: dict[str, Any] = {
        "base_model": str(base),
        "max_train_steps": 6,
        "learning_rate": 1e-2,
        "network_dim": 4,
        "network_alpha": 3.0,
        "train_batch_size": 2,
        "save_every_n_steps": 3,
        "resolution_px": 32,
        "bucket_step_px": 16,
        "lr_warmup_steps": 2,
        "caption_dropout": 0.3,
    }
    return TrainingSettings(**defaults | changes)


def tiny_training(layout: Layout, dataset: pl.DataFrame | None = None) -> tuple[list[TrainingItem], TrainingFiles]:
    """Return the first arguments of `train_lora`, for a small dataset if none is given."""
    rows = make_dataset(layout) if dataset is None else dataset
    return items_of(rows, CHARACTER, layout), TrainingFiles.of_character(layout, CHARACTER)


def read_curves(files: TrainingFiles) -> dict[str, list[tuple[int, float]]]:
    """Return tag -> (step, value) of the TensorBoard event files of a training, as a viewer reads them."""
    import struct

    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    curves: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(files.tensorboard.glob("events.out.tfevents.*")):
        content, place = file.read_bytes(), 0
        while place < len(content):
            # TFRecord: length u64, its CRC u32, the event, its CRC u32.
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            place += 12 + length + 4
            for value in event.summary.value:
                curves.setdefault(value.tag, []).append((event.step, value.simple_value))
    return curves


def train(base: BaseModel, layout: Layout, seed: int = 0, **changes: Any) -> TrainingResult:
    """Train the small dataset, with these settings changed."""
    settings = make_settings(layout.root, **changes)
    return trainer.train_lora(*tiny_training(layout), settings, "cpu", seed, header={"h": "1"}, base=base)
