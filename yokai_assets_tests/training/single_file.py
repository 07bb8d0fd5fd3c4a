"""A diffusers folder of the tiny Stable Diffusion shape as one checkpoint with the original repository's names."""

import re
from pathlib import Path
from typing import Any

_UNET_PLACES = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "down_blocks.0.resnets.0": "input_blocks.1.0",
    "down_blocks.0.attentions.0": "input_blocks.1.1",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
    "down_blocks.1.resnets.0": "input_blocks.3.0",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "up_blocks.0.resnets.0": "output_blocks.0.0",
    "up_blocks.0.resnets.1": "output_blocks.1.0",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.1.1.conv",
    "up_blocks.1.resnets.0": "output_blocks.2.0",
    "up_blocks.1.attentions.0": "output_blocks.2.1",
    "up_blocks.1.resnets.1": "output_blocks.3.0",
    "up_blocks.1.attentions.1": "output_blocks.3.1",
}
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_VAE_PATTERNS = (
    (r"encoder\.down_blocks\.(\d)\.resnets\.(\d)", r"encoder.down.\1.block.\2"),
    (r"encoder\.down_blocks\.(\d)\.downsamplers\.0\.conv", r"encoder.down.\1.downsample.conv"),
    (r"decoder\.up_blocks\.(\d)\.resnets\.(\d)", r"decoder.up.\1.block.\2"),
    (r"decoder\.up_blocks\.(\d)\.upsamplers\.0\.conv", r"decoder.up.\1.upsample.conv"),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0", "mid.attn_1"),
    (r"attn_1\.group_norm", "attn_1.norm"),
    (r"attn_1\.to_([qkv])\.", r"attn_1.\1."),
    (r"attn_1\.to_out\.0", "attn_1.proj_out"),
    (r"conv_norm_out", "norm_out"),
    (r"conv_shortcut", "nin_shortcut"),
)


def write_single_file(
    pipeline: Any, path: Path, marks: tuple[str, ...] = (), metadata: dict[str, str] | None = None
) -> None:
    """Write UNet, VAE and text encoder of a tiny `sd15` pipeline as one safetensors file.

    `marks` are empty tensors, by which such files say what they are; `metadata` goes to the header.
    """
    import torch
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {mark: torch.zeros(0) for mark in marks}
    for name, tensor in pipeline.unet.state_dict().items():
        tensors["model.diffusion_model." + _unet_name(name)] = tensor
    for name, tensor in pipeline.vae.state_dict().items():
        new_name = _vae_name(name)
        is_projection = ".attn_1." in new_name and tensor.ndim == 2
        tensors[f"first_stage_model.{new_name}"] = tensor[..., None, None] if is_projection else tensor
    for name, tensor in pipeline.text_encoder.state_dict().items():
        tensors["cond_stage_model.transformer.text_model." + name.removeprefix("text_model.")] = tensor
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)


def _unet_name(name: str) -> str:
    place = max((place for place in _UNET_PLACES if name.startswith(f"{place}.")), key=len)
    rest = name[len(place) + 1 :]
    if ".resnets." in f".{place}.":
        part, _, kind = rest.partition(".")
        rest = f"{_UNET_RESNET[part]}.{kind}"
    return f"{_UNET_PLACES[place]}.{rest}"


def _vae_name(name: str) -> str:
    for pattern, replacement in _VAE_PATTERNS:
        name = re.sub(pattern, replacement, name)
    # The original counts the decoder's levels from the other end.
    return re.sub(r"decoder\.up\.(\d)", lambda match: f"decoder.up.{3 - int(match[1])}", name)
