"""LoRA files: names, alphas and headers as other programs read them, and the reload that must agree."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from upath import UPath

from yokai_assets.training.base_model import BaseModel
from yokai_assets.training.export import (
    ExportError,
    adapter_modules,
    export_lora,
    kohya_header,
    read_header,
    verify_export,
)
from yokai_assets.training.safetensors_header import LoraFileError


def trained_unet(base: BaseModel, rank: int = 4, alpha: float = 3.0) -> Any:
    """Return a UNet with a random, not a zero, adapter over linear and convolution modules."""
    from peft import LoraConfig

    unet = base.fresh_unet()
    targets = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
    # Strides, another number of channels, and a bias of the time embedding: every kind of convolution module.
    targets += ["conv1", "conv2", "conv_shortcut", "conv", "conv_in", "conv_out", "time_emb_proj"]
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets))  # pyright: ignore[reportArgumentType]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in unet.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return unet.eval()


def prediction(unet: Any, base: BaseModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    latents, tokens = torch.randn(1, 4, 4, 4, generator=generator), torch.randn(1, 16, 32, generator=generator)
    conditions = None
    if base.family == "sdxl":
        conditions = {"text_embeds": torch.ones(1, 12), "time_ids": torch.ones(1, 6)}
    tokens = tokens[..., : unet.config.cross_attention_dim]
    with torch.no_grad():
        return unet(latents, torch.tensor([500]), encoder_hidden_states=tokens, added_cond_kwargs=conditions).sample


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_fresh_pipeline_draws_as_the_trained_unet(
    family: str, base: BaseModel, sdxl_base: BaseModel, tmp_path: Path
) -> None:
    """Alpha other than rank, convolution and linear projections: all must survive the file (max 1e-5)."""
    chosen = base if family == "sd15" else sdxl_base
    unet = trained_unet(chosen)
    path = UPath(tmp_path / "a.safetensors")
    verified = export_lora(path, unet, chosen.family, {"yokai_series": "x"}, torch.float32)
    assert verified.max_difference <= 1e-5
    reloaded = chosen.build_pipeline(str(path)).unet.eval()
    assert (prediction(reloaded, chosen) - prediction(unet, chosen)).abs().max() <= 1e-5
    bare = chosen.build_pipeline(None).unet.eval()
    assert (prediction(bare, chosen) - prediction(unet, chosen)).abs().max() > 1e-3


def test_names_are_those_of_kohya_with_the_true_alpha(base: BaseModel, tmp_path: Path) -> None:
    """ComfyUI, A1111 and Forge look these names up, and take alpha from the file."""
    unet = trained_unet(base, alpha=3.0)
    path = tmp_path / "a.safetensors"
    export_lora(UPath(path), unet, "sd15", {}, torch.float32)
    tensors = load_file(path)
    modules = adapter_modules(unet)
    assert len(tensors) == 3 * len(modules)
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    assert tensors[f"{name}.lora_down.weight"].shape == (4, 16)
    assert tensors[f"{name}.alpha"].shape == ()
    assert all(tensor.item() == 3.0 for key, tensor in tensors.items() if key.endswith(".alpha"))
    # A 1 x 1 convolution must stay a convolution, or readers fail on its shape.
    projection = "lora_unet_down_blocks_0_attentions_0_proj_in"
    assert tensors[f"{projection}.lora_down.weight"].shape == (4, 16, 1, 1)
    assert tensors[f"{projection}.lora_up.weight"].shape == (16, 4, 1, 1)
    for place, shape in (
        ("down_blocks_1_resnets_0_conv1", (4, 16, 3, 3)),
        ("down_blocks_1_resnets_0_conv_shortcut", (4, 16, 1, 1)),
        ("down_blocks_0_downsamplers_0_conv", (4, 16, 3, 3)),
    ):
        assert tensors[f"lora_unet_{place}.lora_down.weight"].shape == shape
        assert tensors[f"lora_unet_{place}.lora_up.weight"].shape[1:] == (4, 1, 1)


def test_header_classifies_the_file_and_is_all_strings(base: BaseModel, tmp_path: Path) -> None:
    """Web UIs sort LoRAs by these fields; a value that is not a string makes safetensors refuse the file."""
    header = kohya_header("sdxl", 4, 3.0, "zqkaro", "v_prediction") | {"yokai_list": [1, 2]}
    path = UPath(tmp_path / "a.safetensors")
    export_lora(path, trained_unet(base), "sd15", header, torch.float32)
    found = read_header(path)
    assert found["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert found["modelspec.prediction_type"] == "v"
    assert found["ss_base_model_version"].startswith("sdxl")
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("4", "3.0")
    assert found["yokai_list"] == "[1, 2]"
    assert found["modelspec.hash_sha256"] == "0x" + found["sshs_model_hash"]


def test_half_precision_is_verified_at_its_own_precision(base: BaseModel, tmp_path: Path) -> None:
    """A LoRA trained in mixed precision is half the size and still exactly what was rounded."""
    path = tmp_path / "a.safetensors"
    assert export_lora(UPath(path), trained_unet(base), "sd15", {}, torch.float16).max_difference == 0
    dtypes = {tensor.dtype for name, tensor in load_file(path).items() if not name.endswith(".alpha")}
    assert dtypes == {torch.float16}


@pytest.mark.parametrize("damage", ["alpha", "weight", "missing", "renamed", "nan"])
def test_a_file_that_differs_from_the_adapter_fails(base: BaseModel, tmp_path: Path, damage: str) -> None:
    """Each of these loads elsewhere without an error, and draws something else."""
    unet = trained_unet(base)
    path = tmp_path / "a.safetensors"
    export_lora(UPath(path), unet, "sd15", {}, torch.float32)
    tensors = load_file(path)
    first = "lora_unet_down_blocks_0_attentions_0_proj_in"
    if damage == "alpha":
        tensors[f"{first}.alpha"] = torch.tensor(4.0)
    elif damage == "weight":
        tensors[f"{first}.lora_up.weight"][0, 0] += 1e-3
    elif damage == "nan":
        tensors[f"{first}.lora_up.weight"][0, 0] = torch.nan
    else:
        moved = {key: tensors.pop(key) for key in list(tensors) if key.startswith(f"{first}.")}
        if damage == "renamed":
            tensors |= {key.replace("attentions_0", "attentions_9"): value for key, value in moved.items()}
    save_file(tensors, path)
    with pytest.raises(ExportError):
        verify_export(path, "sd15", unet)


def test_modules_without_a_kohya_name_are_named(sdxl_base: BaseModel, tmp_path: Path) -> None:
    """No reader finds SDXL's embedding of sizes; a LoRA that loses it elsewhere must not be written."""
    from peft import LoraConfig

    unet = sdxl_base.fresh_unet()
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "add_embedding.linear_1"]))
    with pytest.raises(ExportError, match=r"add_embedding\.linear_1.*training\.target_modules"):
        export_lora(UPath(tmp_path / "a.safetensors"), unet, "sdxl", {}, torch.float32)


def test_a_failed_check_leaves_no_file(base: BaseModel, tmp_path: Path) -> None:
    """A LoRA that was not verified must not look like one that was."""
    unet = trained_unet(base)
    with torch.no_grad():
        next(parameter for parameter in unet.parameters() if parameter.requires_grad)[0] = torch.nan
    with pytest.raises(ExportError):
        export_lora(UPath(tmp_path / "a.safetensors"), unet, "sd15", {}, torch.float32)
    assert list(tmp_path.iterdir()) == []


def test_header_of_a_broken_file_is_an_error(tmp_path: Path) -> None:
    """Callers learn which file is broken."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"\x01\x00")
    with pytest.raises(LoraFileError, match=r"a\.safetensors"):
        read_header(path)
