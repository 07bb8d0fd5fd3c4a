"""The section `training`: every option of a LoRA training, bounded and described.

The launchpad, `yokai train` and the docs show these fields. Fields only: numbers for a base family and a size of
set are `presets`, what the options do is `yokai_assets.training`.
"""

from typing import Literal

from pydantic import Field

from yokai_assets.settings.section import Section, Share

PresetName = Literal["guide", "auto", "sd15-few", "sd15-some", "sd15-many", "sdxl-few", "sdxl-some", "sdxl-many"]


class TrainingSettings(Section):
    """LoRA training. The first names and numbers, down to `save_every_n_steps`, are those of the original guide."""

    base_model: str = Field(
        default="stable-diffusion-v1-5/stable-diffusion-v1-5",
        min_length=1,
        description="Hub id, local diffusers folder, single-file checkpoint, or `demo` for the bundled base.",
    )
    max_train_steps: int = Field(default=2000, ge=1, le=1_000_000, description="Optimizer steps.")
    learning_rate: float = Field(default=1e-4, gt=0, le=10, description="Peak learning rate (unset for prodigy: 1).")
    network_dim: int = Field(default=32, ge=1, le=512, description="LoRA rank.")
    network_alpha: float | None = Field(
        default=None, gt=0, le=1024, description="LoRA alpha; unset: equal to the rank."
    )
    train_batch_size: int = Field(default=2, ge=1, le=512, description="Images that are computed at once.")
    save_every_n_steps: int = Field(default=500, ge=1, le=1_000_000, description="Steps between saved checkpoints.")
    preset: PresetName = Field(
        default="guide",
        description="Numbers for whatever you do not set: the original guide's, or those for a base family and a size "
        "of set; `auto` looks which. `yokai train --presets` shows them with their reasons.",
    )
    resolution_px: int = Field(
        default=512,
        ge=32,
        le=4096,
        description="Side of the square to whose area images are scaled down, in the training set and in buckets (px).",
    )
    bucket_step_px: int = Field(default=64, ge=8, le=512, description="Bucket sides are multiples of this (px).")
    target_modules: tuple[str, ...] = Field(
        default=("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
        min_length=1,
        description="UNet modules that get an adapter (peft suffix match).",
    )
    train_text_encoder: bool = Field(
        default=False, description="Adapt the text encoder(s), too: closer to odd words, sooner overtrained."
    )
    text_encoder_lr: float | None = Field(
        default=None, gt=0, le=10, description="Peak learning rate of the text encoder(s); unset: half the UNet's."
    )
    optimizer: Literal["adamw", "adamw8bit", "prodigy"] = Field(
        default="adamw",
        description="AdamW (fused), its 8-bit states (bitsandbytes), or Prodigy, which finds the rate (prodigyopt).",
    )
    lr_scheduler: Literal["constant", "constant_with_warmup", "cosine", "linear"] = Field(
        default="cosine", description="Learning-rate schedule."
    )
    lr_warmup_steps: int = Field(default=50, ge=0, le=100_000, description="Steps of linear warm-up.")
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="Decoupled weight decay.")
    max_grad_norm: float = Field(default=1.0, gt=0, le=100, description="Gradient norm is clipped to this.")
    gradient_accumulation_steps: int = Field(
        default=1, ge=1, le=1024, description="Batches of an optimizer step: a larger batch without its memory."
    )
    min_snr_gamma: float = Field(
        default=5.0, ge=0, le=100, description="Min-SNR loss weight (Hang et al. 2023); 0: none."
    )
    noise_offset: float = Field(
        default=0.0, ge=0, le=1, description="Noise that a whole channel shares, for very dark and bright pictures."
    )
    caption_dropout: Share = Field(default=0.05, description="Share of images trained with an empty caption.")
    shuffle_tags: bool = Field(
        default=False, description="Put the tags behind the kept ones in another order now and then (tag captions)."
    )
    keep_tags: int = Field(default=1, ge=0, le=100, description="Tags at the front that stay there: the trigger word.")
    prior_preservation: Share = Field(
        default=0.1,
        description="Share of steps' images trained under a description of others, towards what the base model itself "
        "makes of them, so that a LoRA changes its character only (0: none).",
    )
    background_loss_weight: Share = Field(
        default=0.1, description="Weight of pixels outside the character in the loss (1: unmasked)."
    )
    flip: bool = Field(default=True, description="Train mirrored copies too; unset it for asymmetric characters.")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field(
        default="bf16", description="Precision on a GPU; a CPU trains in fp32."
    )
    gradient_checkpointing: bool = Field(default=False, description="Less memory for about a third more time.")
    torch_compile: bool = Field(
        default=False, description="Compile the UNet: minutes once for every size of image, then faster steps."
    )
    cuda_graphs: bool = Field(
        default=True,
        description="On a GPU record the steps of each size of image and replay them: small batches get faster, "
        "nothing else changes. Not with gradient checkpointing or a trained text encoder.",
    )
    channels_last: bool = Field(default=False, description="Memory layout that convolutions on recent GPUs prefer.")
    save_diffusers_format: bool = Field(
        default=False, description="Beside every LoRA write it in the layout of diffusers, too."
    )
    keep_training_state: bool = Field(default=False, description="Keep optimizer state after a finished training.")
