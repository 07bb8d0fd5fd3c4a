"""LoRA files: names, alphas and headers as other programs read them, and the reload that must agree."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from upath import UPath

from yokai_assets.training.base_model import BaseModel, encode_captions
from yokai_assets.training.export import ExportError, diffusers_path, export_lora, read_header, verify_export
from yokai_assets.training.header import kohya_header
from yokai_assets.training.kohya import adapter_modules, expected_names
from yokai_assets.training.safetensors_header import LoraFileError

UNET_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
# Strides, another number of channels, and a bias of the time embedding: every kind of convolution module.
CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut", "conv", "conv_in", "conv_out", "time_emb_proj")
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")


def trained_parts(base: BaseModel, *, alpha: float = 3.0, with_text: bool = False) -> dict[str, Any]:
    """Return networks with random, not zero, adapters over every kind of module."""
    parts = {"unet": adapted(base.fresh("unet"), UNET_TARGETS + CONVOLUTIONS, alpha)}
    if with_text:
        parts |= {name: adapted(base.fresh(name), TEXT_TARGETS, alpha) for name in base.text_encoders}
    return parts


def adapted(part: Any, targets: Sequence[str], alpha: float) -> Any:
    from peft import LoraConfig

    part.add_adapter(LoraConfig(r=4, lora_alpha=alpha, target_modules=list(targets)))  # pyright: ignore[reportArgumentType]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in part.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return part.eval()


def prediction(pipeline: Any) -> torch.Tensor:
    """Return what a pipeline's text encoders and UNet make of one prompt."""
    generator = torch.Generator().manual_seed(1)
    latents, conditions = torch.randn(1, 4, 4, 4, generator=generator), None
    with torch.no_grad():
        tokens, pooled = encode_captions(pipeline, ["red dog"])
        if pooled is not None:
            conditions = {"text_embeds": pooled, "time_ids": torch.ones(1, 6)}
        unet = pipeline.unet.eval()
        return unet(latents, torch.tensor([500]), encoder_hidden_states=tokens, added_cond_kwargs=conditions).sample


@pytest.mark.parametrize("with_text", [False, True])
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_fresh_pipeline_draws_as_the_trained_networks(
    family: str, with_text: bool, base: BaseModel, sdxl_base: BaseModel, tmp_path: Path
) -> None:
    """Alpha other than rank, convolutions, text encoders: all must survive both layouts (max 1e-5)."""
    chosen = base if family == "sd15" else sdxl_base
    parts = trained_parts(chosen, with_text=with_text)
    path = UPath(tmp_path / "a.safetensors")
    verified = export_lora(path, parts, chosen, {"yokai_series": "x"}, torch.float32, with_diffusers_format=True)
    assert verified.max_difference <= 1e-5
    assert verified.max_output_difference <= 1e-5
    trained = prediction(chosen.assembled(**parts))
    for file in (path, diffusers_path(path)):
        assert (prediction(chosen.build_pipeline(str(file))) - trained).abs().max() <= 1e-5, file.name
        assert read_header(file)["yokai_series"] == "x"
    assert (prediction(chosen.build_pipeline(None)) - trained).abs().max() > 1e-3


def test_names_are_those_of_kohya_with_the_true_alpha(base: BaseModel, tmp_path: Path) -> None:
    """ComfyUI, A1111 and Forge look these names up, and take alpha from the file."""
    parts = trained_parts(base, alpha=3.0)
    path = tmp_path / "a.safetensors"
    export_lora(UPath(path), parts, base, {}, torch.float32)
    tensors = load_file(path)
    assert len(tensors) == 3 * len(adapter_modules(parts["unet"]))
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


@pytest.mark.parametrize(("family", "prefixes"), [("sd15", {"lora_te_"}), ("sdxl", {"lora_te1_", "lora_te2_"})])
def test_text_encoders_have_the_names_that_programs_know(
    family: str, prefixes: set[str], base: BaseModel, sdxl_base: BaseModel, tmp_path: Path
) -> None:
    """Transformers 5 dropped `text_model` from its paths: files written from those load nowhere else."""
    chosen = base if family == "sd15" else sdxl_base
    path = tmp_path / "a.safetensors"
    export_lora(UPath(path), trained_parts(chosen, with_text=True), chosen, {}, torch.float32)
    names = {name.partition(".")[0] for name in load_file(path) if name.startswith("lora_te")}
    assert names == {
        f"{prefix}text_model_encoder_layers_{layer}_self_attn_{target}"
        for prefix in prefixes for layer in range(2) for target in TEXT_TARGETS
    }  # fmt: skip


def shape_of(family: str) -> Any:
    """Return a UNet of the real shape without memory for its weights."""
    from accelerate import init_empty_weights
    from diffusers import UNet2DConditionModel

    sd15: dict[str, Any] = {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768}
    sdxl: dict[str, Any] = {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20],
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
    with init_empty_weights():
        return UNet2DConditionModel(**(sd15 if family == "sd15" else sdxl))


def complete_list(family: str) -> set[str]:
    """Return the modules of attention and feed-forward as ComfyUI and kohya name them, written out by hand."""
    if family == "sd15":
        depths = {f"down_blocks_{block}": [1, 1] for block in range(3)}
        depths |= {"mid_block": [1]} | {f"up_blocks_{block}": [1, 1, 1] for block in range(1, 4)}
    else:
        depths = {"down_blocks_1": [2, 2], "down_blocks_2": [10, 10], "mid_block": [10]}
        depths |= {"up_blocks_0": [10, 10, 10], "up_blocks_1": [2, 2, 2]}
    in_a_block = [f"attn{number}_to_{kind}" for number in (1, 2) for kind in ("q", "k", "v", "out_0")]
    in_a_block += ["ff_net_0_proj", "ff_net_2"]
    names = set()
    for place, attentions in depths.items():
        for attention, depth in enumerate(attentions):
            stem = f"lora_unet_{place}_attentions_{attention}"
            names |= {f"{stem}_proj_in", f"{stem}_proj_out"}
            names |= {f"{stem}_transformer_blocks_{block}_{name}" for block in range(depth) for name in in_a_block}
    return names


@pytest.mark.parametrize(("family", "count"), [("sd15", 192), ("sdxl", 722)])
def test_the_complete_list_of_unet_modules_is_expected(family: Any, count: int) -> None:
    """The list that every export is held against is that of the real models, module by module."""
    found = expected_names(family, "unet", shape_of(family), UNET_TARGETS)
    wanted = complete_list(family)
    assert len(wanted) == count
    assert found == {name + end for name in wanted for end in (".lora_down.weight", ".lora_up.weight", ".alpha")}


def test_the_complete_list_of_text_modules_is_expected() -> None:
    """CLIP-L has 48 attention projections, and programs know them under `text_model`."""
    from accelerate import init_empty_weights
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    with init_empty_weights():
        encoder = CLIPTextModel(config)
    names = {name.rpartition(".lora")[0] for name in expected_names("sd15", "text_encoder", encoder, TEXT_TARGETS)}
    wanted = {
        f"lora_te_text_model_encoder_layers_{layer}_self_attn_{target}"
        for layer in range(12)
        for target in TEXT_TARGETS
    }
    assert len(wanted) == 48
    assert names - {""} == wanted


def test_header_classifies_the_file_and_is_all_strings(base: BaseModel, tmp_path: Path) -> None:
    """Web UIs sort LoRAs by these fields; a value that is not a string makes safetensors refuse the file."""
    header = kohya_header("sdxl", 4, 3.0, "zqkaro", "v_prediction") | {"yokai_list": [1, 2]}
    path = UPath(tmp_path / "a.safetensors")
    export_lora(path, trained_parts(base), base, header, torch.float32)
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
    verified = export_lora(UPath(path), trained_parts(base), base, {}, torch.float16)
    assert (verified.max_difference, verified.max_output_difference) == (0, 0)
    dtypes = {tensor.dtype for name, tensor in load_file(path).items() if not name.endswith(".alpha")}
    assert dtypes == {torch.float16}


@pytest.mark.parametrize("damage", ["alpha", "weight", "missing", "renamed", "nan", "no text level", "no alpha"])
def test_a_file_that_differs_from_the_adapter_fails(base: BaseModel, tmp_path: Path, damage: str) -> None:
    """Each of these loads elsewhere without an error, and draws something else."""
    parts = trained_parts(base, with_text=True)
    path = tmp_path / "a.safetensors"
    export_lora(UPath(path), parts, base, {}, torch.float32)
    tensors = load_file(path)
    first = "lora_unet_down_blocks_0_attentions_0_proj_in"
    if damage == "alpha":
        tensors[f"{first}.alpha"] = torch.tensor(4.0)
    elif damage == "weight":
        tensors[f"{first}.lora_up.weight"][0, 0] += 1e-3
    elif damage == "nan":
        tensors[f"{first}.lora_up.weight"][0, 0] = torch.nan
    elif damage == "no text level":
        tensors = {name.replace("lora_te_text_model_", "lora_te_"): value for name, value in tensors.items()}
    elif damage == "no alpha":
        tensors = {name: value for name, value in tensors.items() if not name.endswith(".alpha")}
    else:
        moved = {key: tensors.pop(key) for key in list(tensors) if key.startswith(f"{first}.")}
        if damage == "renamed":
            tensors |= {key.replace("attentions_0", "attentions_9"): value for key, value in moved.items()}
    save_file(tensors, path)
    with pytest.raises(ExportError):
        verify_export(path, parts, base)


def test_what_the_networks_make_of_a_file_counts_too(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal factors that a reader does not apply would pass a comparison of factors."""
    from diffusers import StableDiffusionPipeline

    parts = trained_parts(base)
    path = tmp_path / "a.safetensors"
    export_lora(UPath(path), parts, base, {}, torch.float32)
    load = StableDiffusionPipeline.load_lora_weights

    def load_inactive(self: Any, *args: Any, **kwargs: Any) -> None:
        load(self, *args, **kwargs)
        self.unet.disable_adapters()

    monkeypatch.setattr(StableDiffusionPipeline, "load_lora_weights", load_inactive)
    with pytest.raises(ExportError, match="outputs"):
        verify_export(path, parts, base)


def test_checking_draws_no_random_number(base: BaseModel, tmp_path: Path) -> None:
    """A training that exports would else go on with other numbers than one that was resumed after it."""
    parts = trained_parts(base, with_text=True)
    before = torch.get_rng_state()
    export_lora(UPath(tmp_path / "a.safetensors"), parts, base, {}, torch.float32, with_diffusers_format=True)
    assert torch.equal(torch.get_rng_state(), before)


def test_modules_without_a_kohya_name_are_named(sdxl_base: BaseModel, tmp_path: Path) -> None:
    """No reader finds SDXL's embedding of sizes; a LoRA that loses it elsewhere must not be written."""
    parts = {"unet": adapted(sdxl_base.fresh("unet"), ("to_q", "add_embedding.linear_1"), 3.0)}
    with pytest.raises(ExportError, match=r"add_embedding\.linear_1.*training\.target_modules"):
        export_lora(UPath(tmp_path / "a.safetensors"), parts, sdxl_base, {}, torch.float32)


def test_a_failed_check_leaves_no_file(base: BaseModel, tmp_path: Path) -> None:
    """A LoRA that was not verified must not look like one that was."""
    parts = trained_parts(base)
    with torch.no_grad():
        next(parameter for parameter in parts["unet"].parameters() if parameter.requires_grad)[0] = torch.nan
    with pytest.raises(ExportError):
        export_lora(UPath(tmp_path / "a.safetensors"), parts, base, {}, torch.float32)
    assert list(tmp_path.iterdir()) == []


def test_header_of_a_broken_file_is_an_error(tmp_path: Path) -> None:
    """Callers learn which file is broken."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"\x01\x00")
    with pytest.raises(LoraFileError, match=r"a\.safetensors"):
        read_header(path)
