"""Base models of real shapes with random weights, made where they are needed: for benchmarks of training. Making only.

Speed and memory do not depend on what the weights are. Nothing is written to disk: SDXL would be 7 GB.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from yokai_assets.training.base_model import BaseModel, Precision, open_base_model

if TYPE_CHECKING:
    import torch

DEMO = "demo"
_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_OPENCLIP_G = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
_FULL_VAE = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4}


@dataclass(frozen=True, slots=True)
class Shape:
    """What the networks' configs are made of."""

    family: Literal["sd15", "sdxl"]
    unet: dict[str, Any]
    vae: dict[str, Any]
    texts: tuple[dict[str, Any], ...]
    text_length: int = 77
    vocabulary_size: int = 49408


SHAPES = {
    "tiny": Shape(
        family="sd15",
        unet={
            "sample_size": 8,
            "layers_per_block": 1,
            "block_out_channels": (16, 32),
            "norm_num_groups": 8,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "cross_attention_dim": 16,
        },
        vae={"block_out_channels": (8,) * 4, "norm_num_groups": 4, "latent_channels": 4},
        texts=({"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},),
        text_length=32,
        vocabulary_size=600,
    ),
    "sd15": Shape(
        family="sd15",
        unet={
            "sample_size": 64,
            "block_out_channels": (320, 640, 1280, 1280),
            "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            "cross_attention_dim": 768,
        },
        vae={**_FULL_VAE, "sample_size": 512},
        texts=(_CLIP_L,),
    ),
    "sdxl": Shape(
        family="sdxl",
        unet={
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 1280 + 6 * 256,
        },
        vae={**_FULL_VAE, "sample_size": 1024, "scaling_factor": 0.13025},
        texts=(_CLIP_L, _OPENCLIP_G),
    ),
}
"""By name; the bundled `demo` base is not random."""


def make_networks(shape: Shape, dtype: "torch.dtype") -> dict[str, Any]:
    """Return UNet, VAE (fp32) and text encoders on torch's default device, named as a pipeline's components."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    levels = len(shape.vae["block_out_channels"])
    vae_types = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
    }
    with _making(torch.float32):
        vae = AutoencoderKL(**vae_types, **shape.vae)
    networks: dict[str, Any] = {"vae": vae}
    with _making(dtype):
        networks["unet"] = UNet2DConditionModel(in_channels=4, out_channels=4, **shape.unet)
        for index, options in enumerate(shape.texts):
            config = CLIPTextConfig(
                vocab_size=shape.vocabulary_size,
                max_position_embeddings=shape.text_length,
                bos_token_id=512,
                eos_token_id=513,
                pad_token_id=513,
                **options,
            )
            kind: Any = CLIPTextModelWithProjection if index else CLIPTextModel
            networks["text_encoder_2" if index else "text_encoder"] = kind(config).to(dtype)
    return networks


def make_base(name: str, device: str, precision: Precision) -> BaseModel:
    """Return a base of a shape as `open_base_model` returns one: on the CPU, in the dtype of its precision."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

    from yokai_assets.demo.training.tokenizer import build_tokenizer

    if name == DEMO:
        return open_base_model(DEMO, device, precision=precision)
    shape = SHAPES[name]
    precision = "no" if device == "cpu" else precision
    dtype = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    # A GPU draws random weights in no time.
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        networks: dict[str, Any] = {part: network.to("cpu") for part, network in make_networks(shape, dtype).items()}
    # 512 bytes and two marks; a real vocabulary makes the embedding larger, not the step slower.
    tokenizer: Any = build_tokenizer([], max_tokens=shape.text_length)
    scheduler: Any = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
    others = {"scheduler": scheduler, "tokenizer": tokenizer}
    if shape.family == "sdxl":
        pipeline: Any = StableDiffusionXLPipeline(**networks, **others, tokenizer_2=tokenizer, add_watermarker=False)
    else:
        extra: Any = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        pipeline = StableDiffusionPipeline(**networks, **others, **extra)
    mark = f"random {name}"
    return BaseModel(name, shape.family, device, precision, mark, mark, mark, pipeline)


@contextmanager
def _making(dtype: "torch.dtype") -> Iterator[None]:
    """Let new weights be of a dtype from the start: twice the memory for a moment would be too much."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
