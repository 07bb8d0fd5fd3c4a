"""LoRA files as every program reads them: kohya layout, true alpha, headers; each one reloaded before it counts.

The layout is that of kohya's trainer, which ComfyUI, A1111, Forge and diffusers all read: `lora_unet_` + the
diffusers module path with underscores, `.lora_down.weight`, `.lora_up.weight`, and `.alpha` (without it readers
assume alpha = rank or 1 and the LoRA acts at another strength). Headers follow ModelSpec 1.0.1 and kohya's `ss_`
names. Not here: which checkpoint is published, sidecars and model card (`publishing`).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from yokai_assets.storage.files import whole_file
from yokai_assets.training import safetensors_header
from yokai_assets.training.base_files import Family

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel

_UNET_PREFIX = "lora_unet_"
_ADAPTER = "default"
_MAX_DIFFERENCE = 1e-5
_REMEDY = "Programs cannot find such modules by their kohya names: take them out of training.target_modules."
ARCHITECTURES: dict[Family, str] = {
    "sd15": "stable-diffusion-v1/lora",
    "sdxl": "stable-diffusion-xl-v1-base/lora",
}
BASE_VERSIONS: dict[Family, str] = {"sd15": "sd_v1", "sdxl": "sdxl_base_v1-0"}


class ExportError(RuntimeError):
    """A written LoRA does not do what the trained adapter does; the file must not be used."""


@dataclass(frozen=True, slots=True)
class AdapterModule:
    """One adapted module: `down` (lora_A), `up` (lora_B), f32 on the CPU, and the alpha that belongs to them."""

    down: "torch.Tensor"
    up: "torch.Tensor"
    alpha: float


@dataclass(frozen=True, slots=True)
class VerifiedExport:
    """What reloading a LoRA file showed.

    Attributes:
        module_count: Adapted modules, all of them loaded.
        max_difference: Largest absolute difference between a reloaded and a trained factor, at the file's dtype.
    """

    module_count: int
    max_difference: float


def adapter_modules(unet: "UNet2DConditionModel", adapter: str = _ADAPTER) -> dict[str, AdapterModule]:
    """Return the adapter of a UNet, by diffusers module path."""
    from peft import get_peft_model_state_dict
    from peft.tuners.lora import LoraLayer

    weights = get_peft_model_state_dict(unet, adapter_name=adapter)
    modules: dict[str, AdapterModule] = {}
    for path, layer in unet.named_modules():
        if not isinstance(layer, LoraLayer) or adapter not in layer.scaling:
            continue
        # scaling * rank, not lora_alpha: it stays true with rank-stabilised scaling too.
        alpha = float(layer.scaling[adapter]) * int(layer.r[adapter])  # pyright: ignore[reportArgumentType]
        modules[path] = AdapterModule(
            down=weights[f"{path}.lora_A.weight"].detach().float().cpu(),
            up=weights[f"{path}.lora_B.weight"].detach().float().cpu(),
            alpha=alpha,
        )
    return modules


def kohya_tensors(modules: Mapping[str, AdapterModule], dtype: "torch.dtype") -> "dict[str, torch.Tensor]":
    """Return the tensors of a kohya LoRA file."""
    import torch

    tensors: dict[str, torch.Tensor] = {}
    for path, module in modules.items():
        name = _UNET_PREFIX + path.replace(".", "_")
        tensors[f"{name}.lora_down.weight"] = module.down.to(dtype).contiguous()
        tensors[f"{name}.lora_up.weight"] = module.up.to(dtype).contiguous()
        tensors[f"{name}.alpha"] = torch.tensor(module.alpha, dtype=torch.float32)
    return tensors


def kohya_header(family: Family, rank: int, alpha: float, title: str, prediction_type: str) -> dict[str, str]:
    """Return the header fields that readers need to classify a LoRA; all values are strings."""
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": ARCHITECTURES[family],
        "modelspec.implementation": "diffusers",
        "modelspec.title": title,
        "modelspec.prediction_type": "v" if prediction_type == "v_prediction" else prediction_type,
        "ss_output_name": title,
        "ss_v2": "False",
        "ss_base_model_version": BASE_VERSIONS[family],
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(alpha),
        "ss_network_args": "{}",
    }


def export_lora(
    path: UPath, unet: "UNet2DConditionModel", family: Family, header: Mapping[str, Any], dtype: "torch.dtype"
) -> VerifiedExport:
    """Write the UNet's adapter as a kohya LoRA file, whole or absent, and verify it before it gets its name.

    Args:
        path: The file to write.
        unet: The trained UNet.
        family: Of the base model.
        header: Metadata; what is not a string becomes JSON. Hashes of the tensors are added.
        dtype: Of the stored factors; alphas are always fp32.

    Raises:
        ExportError: Reloaded through diffusers, the file differs from the adapter.
    """
    from safetensors.torch import save

    content = save(kohya_tensors(adapter_modules(unet), dtype))
    digest = safetensors_header.data_sha256_of(content)
    words = {key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in header.items()}
    words |= {"modelspec.hash_sha256": f"0x{digest}", "sshs_model_hash": digest}
    with whole_file(path) as temporary:
        temporary.write_bytes(safetensors_header.with_metadata(content, words))
        return verify_export(temporary, family, unet)


def read_header(path: UPath | Path) -> dict[str, str]:
    """Return the metadata of a LoRA file; `sshs_model_hash` in it is the sha256 of the tensors alone.

    Raises:
        LoraFileError: The file is not a whole safetensors file.
    """
    return safetensors_header.read_header(path).metadata


def verify_export(path: Path, family: Family, unet: "UNet2DConditionModel") -> VerifiedExport:
    """Load a LoRA file as diffusers does and compare every factor and scale with the UNet's adapter.

    Equal factors and scales mean equal changes of every weight. The UNet it is loaded into has the same modules but
    no weights of its own, so this takes no memory beside the adapter.

    Args:
        path: The LoRA file.
        family: Of the base model.
        unet: The UNet with the adapter that the file should hold.

    Raises:
        ExportError: A module is missing or left over, or differs by more than 1e-5 at the file's dtype.
    """
    import diffusers

    pipeline_class = diffusers.StableDiffusionXLPipeline if family == "sdxl" else diffusers.StableDiffusionPipeline
    shell = _weightless_unet(unet)
    try:
        # Some versions look for the file type by suffix; a temporary file has none, so tensors are passed in.
        tensors = _read(path)
        loaded = pipeline_class.lora_state_dict(dict(tensors), unet_config=unet.config)
        state, alphas = loaded[0], loaded[1]
        pipeline_class.load_lora_into_unet(state, network_alphas=alphas, unet=shell, adapter_name=_ADAPTER)  # pyright: ignore[reportArgumentType]
    except Exception as error:
        raise ExportError(f"{path.name}: the exported LoRA does not load in diffusers ({error}). {_REMEDY}") from error
    found, wanted = adapter_modules(shell), adapter_modules(unet)
    if found.keys() != wanted.keys():
        missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
        raise ExportError(
            f"{path.name}: reloaded, modules are missing ({missing[:3]}) or left over ({extra[:3]}). {_REMEDY}"
        )
    dtype = next(tensor.dtype for name, tensor in tensors.items() if name.endswith(".lora_down.weight"))
    worst = max(_difference(found[name], wanted[name], dtype) for name in wanted)
    if not worst <= _MAX_DIFFERENCE:
        raise ExportError(f"{path.name}: reloaded, the LoRA differs from the trained adapter by {worst:.3g}.")
    return VerifiedExport(len(wanted), worst)


def _read(path: Path) -> "dict[str, torch.Tensor]":
    from safetensors.torch import load_file

    return load_file(path)


def _difference(found: AdapterModule, wanted: AdapterModule, dtype: "torch.dtype") -> float:
    if found.down.shape != wanted.down.shape or found.up.shape != wanted.up.shape:
        return math.inf
    down = (found.down - wanted.down.to(dtype).float()).abs().max().item()
    up = (found.up - wanted.up.to(dtype).float()).abs().max().item()
    worst = max(down, up, abs(found.alpha - wanted.alpha))
    return worst if math.isfinite(down + up) else math.inf


def _weightless_unet(unet: "UNet2DConditionModel") -> "UNet2DConditionModel":
    """Return a UNet of the same modules whose fp32 weights are single zeros, expanded: a shape without memory."""
    import torch
    from accelerate import init_empty_weights

    with init_empty_weights():
        shell: Any = type(unet).from_config(unet.config)
    for module in shell.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            zeros = torch.zeros(()).expand(parameter.shape)
            setattr(module, name, torch.nn.Parameter(zeros, requires_grad=False))
    return shell
