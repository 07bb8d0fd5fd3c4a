"""The base model: loaded, fingerprinted, and handed out as fresh UNets and sampling pipelines.

Here: Stable Diffusion 1.x and SDXL through diffusers. Not here: finding files and telling what they hold
(`base_files`), adapters and their training (`loop`), or what is drawn (`evaluation`).
"""

import copy
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from upath import UPath

from yokai_assets.devices import has_native_bf16
from yokai_assets.storage.files import sha256_of_parts
from yokai_assets.training.base_files import (
    PIPELINE_OF_FAMILY,
    BaseModelError,
    Family,
    family_of,
    locate,
    velocity_of_file,
)
from yokai_assets.training.fingerprints import file_fingerprint, folder_fingerprint
from yokai_assets.training.prediction import predicting_velocity
from yokai_assets.training.quiet import (
    quiet_about_long_captions,
    quiet_about_precision,
    quiet_about_text_encoders,
    quiet_loading,
)
from yokai_assets.training.safetensors_header import LoraFileError, read_header

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler

_LOG = logging.getLogger(__name__)

Precision = Literal["no", "bf16", "fp16"]

_UNET_PARTS = ("unet", "scheduler")
_VAE_PARTS = ("vae",)
_TEXT_PARTS = ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2")


@dataclass(frozen=True, slots=True)
class TextEmbedding:
    """What the UNet is told of one caption, on the CPU.

    Attributes:
        tokens: [tokens, width] float16, the text encoder(s)' hidden states.
        pooled: [width] float16, SDXL's pooled embedding; None for Stable Diffusion 1.x.
    """

    tokens: "torch.Tensor"
    pooled: "torch.Tensor | None"


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A loaded base model. Its weights stay as they are: whatever changes a UNet gets a copy of its own.

    Attributes:
        name: As asked for in the settings.
        family: `sd15` (Stable Diffusion 1.x and what has its shape) or `sdxl`.
        device: Torch device of training and sampling.
        precision: Precision of the frozen weights on a GPU; always `no` (fp32) on a CPU.
        fingerprint: sha256 over all components' files.
        vae_fingerprint: sha256 over the VAE's files: the key of cached latents.
        text_fingerprint: sha256 over tokenizers and text encoders: the key of cached text embeddings.
        file_sha256: Of a single-file checkpoint, as UIs look it up; None for a folder.
        pipeline: The diffusers pipeline, held on the CPU between uses.
        notes: What is not as the settings asked, in words.
    """

    name: str
    family: Family
    device: str
    precision: Precision
    fingerprint: str
    vae_fingerprint: str
    text_fingerprint: str
    pipeline: Any
    file_sha256: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def dtype(self) -> "torch.dtype":
        """Dtype of the frozen weights."""
        return _torch_dtype(self.precision)

    @property
    def vae(self) -> "AutoencoderKL":
        """The VAE in fp32: SDXL's overflows in fp16, and latents are encoded once only."""
        return self.pipeline.vae

    @property
    def vae_scale_factor(self) -> int:
        """Image pixels per latent pixel, along a side."""
        return int(self.pipeline.vae_scale_factor)

    @property
    def public_name(self) -> str:
        """Hub id, or the last part of a local path: LoRA files go around, the rest of the path is nobody's business."""
        path = Path(self.name).expanduser()
        return path.resolve().name if path.exists() else self.name

    @property
    def native_px(self) -> int:
        """Side of the pictures that the base model was made for."""
        side = self.pipeline.unet.config["sample_size"]
        return int(side if isinstance(side, int) else max(side)) * self.vae_scale_factor

    @property
    def prediction_type(self) -> str:
        """`epsilon`, `v_prediction` or `sample`, as the scheduler's config says."""
        return str(self.pipeline.scheduler.config.get("prediction_type", "epsilon"))

    @property
    def has_zero_terminal_snr(self) -> bool:
        """Whether the noise schedule ends in pure noise, as the scheduler's config says."""
        return bool(self.pipeline.scheduler.config.get("rescale_betas_zero_snr", False))

    def noise_scheduler(self) -> "DDPMScheduler":
        """Return the training noise schedule: the base's own betas, prediction type and terminal SNR."""
        from diffusers import DDPMScheduler

        scheduler = DDPMScheduler.from_config(self.pipeline.scheduler.config)
        assert isinstance(scheduler, DDPMScheduler)
        return scheduler

    @property
    def text_encoders(self) -> tuple[str, ...]:
        """Names of the text encoders among the pipeline's components."""
        names = ("text_encoder", "text_encoder_2")
        return tuple(name for name in names if getattr(self.pipeline, name, None) is not None)

    def fresh(self, part: str) -> Any:
        """Return a copy of an untouched component (`unet`, `text_encoder`, ...), on the CPU, frozen."""
        with quiet_about_precision():
            return copy.deepcopy(getattr(self.pipeline, part)).to("cpu").requires_grad_(False)

    def assembled(self, **parts: Any) -> Any:
        """Return a pipeline with some components replaced; the others are the base's own."""
        extra: dict[str, Any] = {"requires_safety_checker": False}
        if self.family == "sdxl":
            zeros = bool(self.pipeline.config.get("force_zeros_for_empty_prompt", True))
            extra = {"force_zeros_for_empty_prompt": zeros, "add_watermarker": False}
        scheduler = type(self.pipeline.scheduler).from_config(self.pipeline.scheduler.config)
        pipeline = type(self.pipeline)(**{**self.pipeline.components, "scheduler": scheduler, **parts}, **extra)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def build_pipeline(self, lora_path: Path | str | None = None, weight: float = 1.0) -> Any:
        """Return a diffusers pipeline for sampling on `device`, with a UNet of its own.

        Args:
            lora_path: kohya- or diffusers-format LoRA file; None draws with the bare base model.
            weight: Strength of the LoRA.

        Raises:
            BaseModelError: The LoRA cannot be read or does not fit this base.
        """
        import torch

        parts: dict[str, Any] = {"unet": self.fresh("unet")}
        if self.dtype != torch.float32:
            with quiet_about_precision():
                parts["vae"] = self.fresh("vae").to(dtype=self.dtype)
        if lora_path is not None and _adapts_text(lora_path):
            parts |= {name: self.fresh(name) for name in self.text_encoders}
        pipeline = self.assembled(**parts)
        if lora_path is not None:
            try:
                with quiet_about_text_encoders():
                    pipeline.load_lora_weights(str(lora_path))
                    if weight != 1.0:
                        pipeline.set_adapters(pipeline.get_active_adapters(), weight)
            except Exception as error:
                raise BaseModelError(
                    f"{lora_path}: this LoRA does not load into base model `{self.name}` ({error}). "
                    "Was it trained on a base of another family? Train it again on this one."
                ) from error
        return pipeline.to(self.device)

    def encode_text(self, caption: str) -> TextEmbedding:
        """Encode one caption with the text encoder(s), where they are; see `move_encoders`."""
        import torch

        with torch.no_grad():
            tokens, pooled = encode_captions(self.pipeline, [caption])
        as_cached = (tokens[0].to("cpu", torch.float16), None if pooled is None else pooled[0].to("cpu", torch.float16))
        return TextEmbedding(*as_cached)

    def unread_text(self, caption: str) -> str:
        """Return the end of a caption that does not fit into what the text encoder reads; empty if all fits."""
        tokenizer = self.pipeline.tokenizer
        with quiet_about_long_captions(self.pipeline):
            offsets = tokenizer(caption, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
        limit = int(tokenizer.model_max_length) - 2
        return caption[offsets[limit][0] :] if len(offsets) > limit else ""

    def move_encoders(self, device: str) -> None:
        """Move VAE and text encoders: to the GPU for encoding, back to the CPU to leave its memory to training."""
        for name in ("vae", "text_encoder", "text_encoder_2"):
            part = getattr(self.pipeline, name, None)
            if part is not None:
                part.to(device)


def encode_captions(pipeline: Any, captions: list[str]) -> "tuple[torch.Tensor, torch.Tensor | None]":
    """Encode captions as the pipeline samples with them: [B, tokens, width], and [B, width] for SDXL.

    Gradients flow to text encoders that are trained.
    """
    device = pipeline.text_encoder.device
    with quiet_about_long_captions(pipeline):
        encoded = pipeline.encode_prompt(
            captions, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
    return encoded[0], encoded[2] if len(encoded) > 2 else None


def open_base_model(
    base_model: str, device: str, *, precision: Precision = "bf16", cache: UPath | Path | None = None
) -> BaseModel:
    """Load a base model.

    Args:
        base_model: Hub id (`owner/name`), diffusers folder, single `.safetensors` checkpoint, or `demo`.
        device: Resolved torch device, e.g. `cpu` or `cuda:0`.
        precision: Precision of the frozen weights on a GPU; a CPU always computes in fp32, and a GPU that has no bf16
            of its own in fp16 instead.
        cache: Folder that remembers file hashes between processes.

    Raises:
        BaseModelError: Missing, unreadable, or of an unsupported family.
    """
    precision, notes = _usable_precision(precision, device)
    source = locate(base_model)
    memory = None if cache is None else cache / "fingerprints"
    family = family_of(source)
    velocity = velocity_of_file(source) if source.is_file() else None
    pipeline = _load_pipeline(source, family, precision)
    if velocity is not None:
        pipeline.scheduler = predicting_velocity(pipeline.scheduler, velocity)
    _require_trainable(base_model, pipeline)
    if family == "sd15" and getattr(pipeline.text_encoder.config, "hidden_size", 0) == 1024:
        raise BaseModelError(f"{base_model}: Stable Diffusion 2.x is not supported. Choose a 1.x or an SDXL base.")
    fingerprints = _fingerprints(source, memory)
    opened = BaseModel(
        name=base_model,
        family=family,
        device=device,
        precision=precision,
        fingerprint=sha256_of_parts(*fingerprints),
        vae_fingerprint=fingerprints[0],
        text_fingerprint=fingerprints[1],
        pipeline=pipeline,
        file_sha256=file_fingerprint(source, memory) if source.is_file() else None,
        notes=notes,
    )
    snr = " with zero terminal SNR" if opened.has_zero_terminal_snr else ""
    _LOG.info("base model %s: %s, prediction type %s%s", base_model, family, opened.prediction_type, snr)
    return opened


def _require_trainable(name: str, pipeline: Any) -> None:
    """Raise where a base has the shape of a family and is made for something else."""
    schedule, channels = pipeline.scheduler.config, int(pipeline.unet.config["in_channels"])
    has_betas = schedule.get("beta_start") is not None or schedule.get("trained_betas") is not None
    if not has_betas or schedule.get("prediction_type", "epsilon") not in ("epsilon", "v_prediction", "sample"):
        raise BaseModelError(
            f"{name}: its scheduler ({type(pipeline.scheduler).__name__}, prediction type "
            f"{schedule.get('prediction_type')}) is made for another noise process than Stable Diffusion's, which is "
            "not supported. Choose another Stable Diffusion 1.x or SDXL base."
        )
    if channels != int(pipeline.vae.config["latent_channels"]):
        raise BaseModelError(
            f"{name}: its UNet takes {channels} channels, so it is made for inpainting or the like. Choose the plain "
            "base model of the same family."
        )


def _usable_precision(wanted: Precision, device: str) -> tuple[Precision, tuple[str, ...]]:
    """Return the precision to compute in, and a note where a person should know that it is another one."""
    if device == "cpu":
        return "no", ()
    if wanted != "bf16" or has_native_bf16(device):
        return wanted, ()
    note = (
        f"training.mixed_precision is bf16, which {device} has not (GPUs before Ampere): fp16 is used instead. "
        "Set it to fp16, or to no if the loss becomes not a number."
    )
    _LOG.warning(note)
    return "fp16", (note,)


def _adapts_text(lora_path: Path | str) -> bool:
    """Say whether a LoRA may change the text encoders; where it cannot be read, loading it will say why."""
    try:
        names = read_header(Path(lora_path)).tensors
    except LoraFileError:
        return False
    return any(name.startswith(("lora_te", "text_encoder")) for name in names)


def _torch_dtype(precision: Precision) -> "torch.dtype":
    import torch

    return {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _load_pipeline(source: Path, family: Family, precision: Precision) -> Any:
    import diffusers
    import torch

    pipeline_class = getattr(diffusers, PIPELINE_OF_FAMILY[family])
    dtypes = {"default": _torch_dtype(precision), "vae": torch.float32}
    options: dict[str, Any] = {"torch_dtype": dtypes}
    if family == "sd15":
        options |= {"safety_checker": None, "requires_safety_checker": False}
    try:
        if source.is_dir():
            with quiet_loading():
                variant = _variant_of(source)
                return pipeline_class.from_pretrained(
                    source, local_files_only=True, use_safetensors=True, variant=variant, **options
                )
        config = source.with_suffix("")
        options |= {"config": str(config)} if config.is_dir() else {}
        part = {"config": str(config), "subfolder": "vae"} if config.is_dir() else {}
        with quiet_loading():
            # By itself: the pipeline's own would be rounded first.
            vae = diffusers.AutoencoderKL.from_single_file(str(source), torch_dtype=torch.float32, **part)
            pipeline = pipeline_class.from_single_file(
                str(source), vae=vae, **options | {"torch_dtype": dtypes["default"]}
            )
    except Exception as error:
        hint = "Download or convert it again."
        if source.is_file() and not source.with_suffix("").is_dir():
            hint += (
                f" A single file also needs its configs and tokenizers: with network diffusers fetches them; without, "
                f"put a diffusers folder of the same family (weights may be left out) at {source.with_suffix('')}."
            )
        raise BaseModelError(f"{source}: the base model cannot be loaded ({error}). {hint}") from error
    return pipeline


def _variant_of(folder: Path) -> str | None:
    """Return `fp16` for a download that holds only the half-precision variant."""
    weights = [path.name for path in (folder / "unet").glob("*.safetensors")]
    return "fp16" if weights and all(".fp16." in name for name in weights) else None


def _fingerprints(source: Path, memory: UPath | Path | None) -> tuple[str, str, str]:
    """Return the fingerprints of VAE, text side and UNet."""
    if source.is_file():
        whole = file_fingerprint(source, memory)
        configs = source.with_suffix("")
        beside = [folder_fingerprint(configs / part, memory) for part in (*_VAE_PARTS, *_TEXT_PARTS, *_UNET_PARTS)]
        vae, text, unet = (sha256_of_parts(name, whole, *beside) for name in ("vae", "text", "unet"))
        return vae, text, unet

    def of_parts(parts: tuple[str, ...]) -> str:
        return sha256_of_parts(*((part, folder_fingerprint(source / part, memory)) for part in parts))

    return of_parts(_VAE_PARTS), of_parts(_TEXT_PARTS), of_parts(_UNET_PARTS)
