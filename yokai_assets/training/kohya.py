"""The layout of kohya's trainer, which ComfyUI, A1111, Forge and diffusers all read: names and tensors.

`lora_unet_` (text encoders: `lora_te_`; SDXL's `lora_te1_` and `lora_te2_`) + the diffusers module path with
underscores, `.lora_down.weight`, `.lora_up.weight`, and `.alpha`: without it readers assume alpha = rank, or 1, and
the LoRA acts at another strength. Names and tensors only; writing and checking is `export`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yokai_assets.training.base_files import Family

if TYPE_CHECKING:
    import torch

_PREFIXES: dict[Family, dict[str, str]] = {
    "sd15": {"unet": "lora_unet_", "text_encoder": "lora_te_"},
    "sdxl": {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"},
}
_SUFFIXES = (".lora_down.weight", ".lora_up.weight", ".alpha")
_TEXT_MODEL = "text_model."


@dataclass(frozen=True, slots=True)
class AdapterModule:
    """One adapted module: `down` (lora_A), `up` (lora_B), f32 on the CPU, and the alpha that belongs to them."""

    down: "torch.Tensor"
    up: "torch.Tensor"
    alpha: float


def adapter_modules(part: Any, adapter: str = "default") -> dict[str, AdapterModule]:
    """Return the adapter of a UNet or text encoder, by module path."""
    from peft import get_peft_model_state_dict
    from peft.tuners.lora import LoraLayer

    weights = get_peft_model_state_dict(part, adapter_name=adapter)
    modules: dict[str, AdapterModule] = {}
    for path, layer in part.named_modules():
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


def kohya_name(family: Family, part: str, path: str) -> str:
    """Return a module's name in the file: of the pipeline's component `part`, by its module path."""
    if part != "unet" and not path.startswith(_TEXT_MODEL):
        # transformers 5 dropped this level; every reader of LoRA files knows it.
        path = _TEXT_MODEL + path
    return _PREFIXES[family][part] + path.replace(".", "_")


def kohya_tensors(
    family: Family, parts: Mapping[str, Mapping[str, AdapterModule]], dtype: "torch.dtype"
) -> "dict[str, torch.Tensor]":
    """Return the tensors of a kohya LoRA file.

    Args:
        family: Of the base model.
        parts: Component -> module path -> adapter.
        dtype: Of the stored factors; alphas are always fp32.
    """
    import torch

    tensors: dict[str, torch.Tensor] = {}
    for part, modules in parts.items():
        for path, module in modules.items():
            name = kohya_name(family, part, path)
            tensors[f"{name}.lora_down.weight"] = module.down.to(dtype).contiguous()
            tensors[f"{name}.lora_up.weight"] = module.up.to(dtype).contiguous()
            tensors[f"{name}.alpha"] = torch.tensor(module.alpha, dtype=torch.float32)
    return tensors


def expected_names(family: Family, part: str, bare: Any, target_modules: Iterable[str]) -> set[str]:
    """Return the tensor names that a file must hold for a component: found on its bare network, not on the adapter.

    Args:
        family: Of the base model.
        part: Name of the component.
        bare: The component without any adapter.
        target_modules: Suffixes of module paths, as peft matches them.
    """
    targets = tuple(target_modules)
    ends = tuple(f".{target}" for target in targets)
    paths = [path for path, _ in bare.named_modules() if path in targets or path.endswith(ends)]
    return {kohya_name(family, part, path) + suffix for path in paths for suffix in _SUFFIXES}
