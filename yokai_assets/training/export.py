"""LoRA files that count: written whole, reloaded by diffusers, and held against the trained adapter before they do.

Here: writing and checking. Names and tensors are `kohya`, what stands in the header `header`; which checkpoint is
published, sidecars and model card are `publishing`.
"""

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from yokai_assets.devices import free_device_memory
from yokai_assets.storage.files import whole_file
from yokai_assets.training import safetensors_header
from yokai_assets.training.base_model import BaseModel, encode_captions
from yokai_assets.training.kohya import AdapterModule, adapter_modules, expected_names, kohya_tensors
from yokai_assets.training.quiet import quiet_about_precision, quiet_about_text_encoders

if TYPE_CHECKING:
    import torch

MAX_DIFFERENCE = 1e-5
"""Largest absolute difference allowed between a reloaded LoRA and the trained one: of factors, alphas and outputs."""
DIFFUSERS_SUFFIX = ".diffusers.safetensors"
_ADAPTER = "default"
_CHECKED_CAPTION = "a character, standing in a meadow"
_CHECKED_TIMESTEP = 500
_REMEDY = "Programs cannot find such modules by their kohya names: take them out of training.target_modules."


class ExportError(RuntimeError):
    """A written LoRA does not do what the trained adapter does; the file must not be used."""


@dataclass(frozen=True, slots=True)
class VerifiedExport:
    """What reloading a LoRA file showed.

    Attributes:
        module_count: Adapted modules, all of them loaded.
        max_difference: Largest absolute difference between reloaded and trained factors and alphas, at the file's
            dtype.
        max_output_difference: The same between the outputs of a fresh fp32 pipeline with the file and the base
            model with the trained adapter, for outputs beyond 1 in parts of the largest.
    """

    module_count: int
    max_difference: float
    max_output_difference: float


def export_lora(
    path: UPath,
    parts: Mapping[str, Any],
    base: BaseModel,
    header: Mapping[str, Any],
    dtype: "torch.dtype",
    *,
    with_diffusers_format: bool = False,
) -> VerifiedExport:
    """Write an adapter as a kohya LoRA file, whole or absent, and verify it before it gets its name.

    Args:
        path: The file to write.
        parts: Trained networks by component of the pipeline: `unet`, and adapted text encoders.
        base: What they were made from.
        header: Metadata; what is not a string becomes JSON. Hashes of the tensors are added.
        dtype: Of the stored factors; alphas are always fp32.
        with_diffusers_format: Write `<stem>.diffusers.safetensors` beside it, verified in the same way.

    Raises:
        ExportError: Reloaded through diffusers, a file differs from the adapter.
    """
    from safetensors.torch import save

    trained = {name: adapter_modules(part) for name, part in parts.items()}
    content = save(kohya_tensors(base.family, trained, dtype))
    with whole_file(path) as temporary:
        temporary.write_bytes(_with_header(content, header))
        verified = verify_export(temporary, parts, base)
    if with_diffusers_format:
        with tempfile.TemporaryDirectory(prefix="yokai-lora-") as scratch:
            file = _diffusers_file(Path(scratch), parts, base, header, dtype)
            verify_export(file, parts, base)
            with whole_file(diffusers_path(path)) as temporary:
                temporary.write_bytes(file.read_bytes())
    return verified


def diffusers_path(path: UPath) -> UPath:
    """Return where the file in the layout of diffusers lies that belongs to a kohya file."""
    return path.parent / (path.name.removesuffix(".safetensors") + DIFFUSERS_SUFFIX)


def read_header(path: UPath | Path) -> dict[str, str]:
    """Return the metadata of a LoRA file; `sshs_model_hash` in it is the sha256 of the tensors alone.

    Raises:
        LoraFileError: The file is not a whole safetensors file.
    """
    return safetensors_header.read_header(path).metadata


def verify_export(path: Path, parts: Mapping[str, Any], base: BaseModel) -> VerifiedExport:
    """Load a LoRA file into a fresh fp32 pipeline on the CPU and hold it against the trained adapter.

    Compared are the names in a kohya file with those of all modules that should have an adapter, every factor and
    alpha, and what UNet and adapted text encoders make of one input.

    Args:
        path: The LoRA file, of kohya's layout or diffusers'.
        parts: Trained networks by component.
        base: What they were made from.

    Raises:
        ExportError: A module is missing or left over, or something differs by more than `MAX_DIFFERENCE`.
    """
    tensors = _read(path)
    is_kohya = any(name.endswith(".alpha") for name in tensors)
    dtype = next(tensor.dtype for name, tensor in tensors.items() if not name.endswith(".alpha"))
    if is_kohya:
        _require_all_names(path, set(tensors), parts, base)
    wanted = {name: adapter_modules(part) for name, part in parts.items()}
    outputs = _outputs(base, _rebuilt(parts, base, dtype))
    # Pipelines hold themselves in reference cycles; two fp32 copies of SDXL's UNet are 20 GB.
    free_device_memory()
    # A temporary file has no suffix to tell its type by, so its tensors are passed in; diffusers' own layout carries
    # its alphas in the header, which only a file has.
    loaded = _loaded(path.name, dict(tensors) if is_kohya else str(path), tuple(parts), base)
    found = {name: adapter_modules(loaded[name]) for name in parts}
    worst = max(_module_difference(path.name, found[name], wanted[name], dtype) for name in parts)
    pairs = zip(_outputs(base, loaded), outputs, strict=True)
    differences = [((one - other).abs().max() / other.abs().max().clamp(min=1.0)).item() for one, other in pairs]
    worst_output = max(value if math.isfinite(value) else math.inf for value in differences)
    if not worst <= MAX_DIFFERENCE:
        raise ExportError(f"{path.name}: reloaded, the LoRA differs from the trained adapter by {worst:.3g}.")
    if not worst_output <= MAX_DIFFERENCE:
        raise ExportError(
            f"{path.name}: reloaded, the base model's outputs with it differ from those with the trained adapter by "
            f"{worst_output:.3g}."
        )
    return VerifiedExport(sum(map(len, wanted.values())), worst, worst_output)


def _with_header(content: bytes, header: Mapping[str, Any], more: Mapping[str, str] | None = None) -> bytes:
    digest = safetensors_header.data_sha256_of(content)
    words = {key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in header.items()}
    words |= {"modelspec.hash_sha256": f"0x{digest}", "sshs_model_hash": digest, **(more or {})}
    return safetensors_header.with_metadata(content, words)


def _diffusers_file(
    folder: Path, parts: Mapping[str, Any], base: BaseModel, header: Mapping[str, Any], dtype: "torch.dtype"
) -> Path:
    """Let diffusers write its own layout, with the adapter's rank and alpha in the header, and add ours."""
    from diffusers.training_utils import _collate_lora_metadata
    from peft import get_peft_model_state_dict

    layers = {}
    for part_name, part in parts.items():
        factors = get_peft_model_state_dict(part).items()
        layers[f"{part_name}_lora_layers"] = {key: one.detach().to("cpu", dtype).contiguous() for key, one in factors}
    name = f"lora{DIFFUSERS_SUFFIX}"
    type(base.pipeline).save_lora_weights(folder, weight_name=name, **layers, **_collate_lora_metadata(dict(parts)))
    file = folder / name
    own = read_header(file)
    file.write_bytes(_with_header(file.read_bytes(), header, own))
    return file


def _require_all_names(path: Path, names: set[str], parts: Mapping[str, Any], base: BaseModel) -> None:
    expected: set[str] = set()
    for name, part in parts.items():
        targets = part.peft_config[_ADAPTER].target_modules
        expected |= expected_names(base.family, name, getattr(base.pipeline, name), targets)
    if names != expected:
        missing, extra = sorted(expected - names), sorted(names - expected)
        raise ExportError(f"{path.name}: tensors are missing ({missing[:3]}) or left over ({extra[:3]}).")


def _rebuilt(parts: Mapping[str, Any], base: BaseModel, dtype: "torch.dtype") -> dict[str, Any]:
    """Return fp32 copies of the base's networks with the trained factors, rounded as the file rounds them."""
    import torch
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    copies = {}
    with torch.random.fork_rng(devices=[]):
        for name, part in parts.items():
            copies[name] = _fresh_fp32(base, name)
            copies[name].add_adapter(part.peft_config[_ADAPTER], adapter_name=_ADAPTER)
            factors = {key: value.to("cpu", dtype).float() for key, value in get_peft_model_state_dict(part).items()}
            set_peft_model_state_dict(copies[name], factors, adapter_name=_ADAPTER)
    return copies


def _fresh_fp32(base: BaseModel, part: str) -> Any:
    with quiet_about_precision():
        return base.fresh(part).float()


def _loaded(name: str, source: Any, parts: tuple[str, ...], base: BaseModel) -> dict[str, Any]:
    """Return the networks of a fresh fp32 pipeline that has loaded a LoRA file as anybody's would."""
    import torch

    pipeline = base.assembled(**{part: _fresh_fp32(base, part) for part in parts})
    try:
        with quiet_about_text_encoders(), torch.random.fork_rng(devices=[]):
            pipeline.load_lora_weights(source, adapter_name=_ADAPTER)
    except Exception as error:
        raise ExportError(f"{name}: the exported LoRA does not load in diffusers ({error}). {_REMEDY}") from error
    return {part: getattr(pipeline, part) for part in parts}


def _outputs(base: BaseModel, networks: Mapping[str, Any]) -> "list[torch.Tensor]":
    """Return what fp32 networks on the CPU make of one caption and one piece of noise; the caption's first."""
    import torch

    pipeline = base.assembled(**networks)
    unet, generator = networks["unet"].eval(), torch.Generator().manual_seed(0)
    # Two latent pixels a side where the UNet is narrowest: enough for every module to take part.
    side = 2 ** len(unet.config["block_out_channels"])
    with torch.no_grad():
        tokens, pooled = encode_captions(pipeline, [_CHECKED_CAPTION])
        tokens, pooled = tokens.float().cpu(), None if pooled is None else pooled.float().cpu()
        noisy = torch.randn((1, unet.config["in_channels"], side, side), generator=generator)
        conditions = None
        if pooled is not None:
            sizes = torch.tensor([[8.0 * side, 8.0 * side, 0.0, 0.0, 8.0 * side, 8.0 * side]])
            conditions = {"text_embeds": pooled, "time_ids": sizes}
        timestep = torch.tensor([_CHECKED_TIMESTEP])
        drawn = unet(noisy, timestep, encoder_hidden_states=tokens, added_cond_kwargs=conditions).sample
    return [tokens, *([] if pooled is None else [pooled]), drawn]


def _read(path: Path) -> "dict[str, torch.Tensor]":
    from safetensors.torch import load_file

    return load_file(path)


def _module_difference(
    name: str, found: Mapping[str, AdapterModule], wanted: Mapping[str, AdapterModule], dtype: "torch.dtype"
) -> float:
    if found.keys() != wanted.keys():
        missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
        raise ExportError(
            f"{name}: reloaded, modules are missing ({missing[:3]}) or left over ({extra[:3]}). {_REMEDY}"
        )
    return max((_difference(found[path], wanted[path], dtype) for path in wanted), default=math.inf)


def _difference(found: AdapterModule, wanted: AdapterModule, dtype: "torch.dtype") -> float:
    if found.down.shape != wanted.down.shape or found.up.shape != wanted.up.shape:
        return math.inf
    down = (found.down - wanted.down.to(dtype).float()).abs().max().item()
    up = (found.up - wanted.up.to(dtype).float()).abs().max().item()
    # A large alpha has fewer digits behind the point.
    alpha = abs(found.alpha - wanted.alpha) / max(1.0, abs(wanted.alpha))
    worst = max(down, up, alpha)
    return worst if math.isfinite(down + up) else math.inf
