"""The base model: loaded, fingerprinted, and handed out as fresh UNets and sampling pipelines.

Here: Stable Diffusion 1.x and SDXL through diffusers. Not here: finding files and telling what they hold
(`base_files`), adapters and their training (`loop`), or what is drawn (`evaluation`).
"""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel

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

    def fresh_unet(self) -> "UNet2DConditionModel":
        """Return a copy of the untouched UNet, on the CPU, frozen."""
        unet = copy.deepcopy(self.pipeline.unet)
        unet.requires_grad_(False)
        return unet

    def build_pipeline(self, lora_path: Path | str | None = None) -> Any:
        """Return a diffusers pipeline for sampling on `device`, with a UNet of its own.

        Args:
            lora_path: kohya- or diffusers-format LoRA file; None draws with the bare base model.

        Raises:
            BaseModelError: The LoRA cannot be read or does not fit this base.
        """
        import torch

        parts = {name: part for name, part in self.pipeline.components.items() if name != "unet"}
        parts["scheduler"] = type(self.pipeline.scheduler).from_config(self.pipeline.scheduler.config)
        if self.dtype != torch.float32:
            parts["vae"] = copy.deepcopy(self.pipeline.vae).to(dtype=self.dtype)
        extra: dict[str, Any] = {"requires_safety_checker": False}
        if self.family == "sdxl":
            zeros = bool(self.pipeline.config.get("force_zeros_for_empty_prompt", True))
            extra = {"force_zeros_for_empty_prompt": zeros, "add_watermarker": False}
        pipeline = type(self.pipeline)(unet=self.fresh_unet(), **parts, **extra)
        if lora_path is not None:
            try:
                with _quiet_about_text_encoders():
                    pipeline.load_lora_weights(str(lora_path))
            except Exception as error:
                raise BaseModelError(
                    f"{lora_path}: this LoRA does not load into base model `{self.name}` ({error}). "
                    "Was it trained on a base of another family? Train it again on this one."
                ) from error
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(self.device)

    def encode_text(self, caption: str) -> TextEmbedding:
        """Encode one caption with the text encoder(s), where they are; see `text_encoders_on`."""
        import torch

        with torch.no_grad():
            device = self.pipeline.text_encoder.device
            encoded = self.pipeline.encode_prompt(
                caption, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
            )
        pooled = encoded[2][0].to("cpu", torch.float16) if self.family == "sdxl" else None
        return TextEmbedding(encoded[0][0].to("cpu", torch.float16), pooled)

    def move_encoders(self, device: str) -> None:
        """Move VAE and text encoders: to the GPU for encoding, back to the CPU to leave its memory to training."""
        for name in ("vae", "text_encoder", "text_encoder_2"):
            part = getattr(self.pipeline, name, None)
            if part is not None:
                part.to(device)


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
        notes=notes,
    )
    snr = " with zero terminal SNR" if opened.has_zero_terminal_snr else ""
    _LOG.info("base model %s: %s, prediction type %s%s", base_model, family, opened.prediction_type, snr)
    return opened


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
            with _quiet_loading():
                variant = _variant_of(source)
                return pipeline_class.from_pretrained(source, local_files_only=True, variant=variant, **options)
        config = source.with_suffix("")
        options |= {"config": str(config)} if config.is_dir() else {}
        options["torch_dtype"] = dtypes["default"]
        with _quiet_loading():
            pipeline = pipeline_class.from_single_file(str(source), **options)
        pipeline.vae.to(dtype=torch.float32)
    except Exception as error:
        hint = "Download or convert it again."
        if source.is_file() and not source.with_suffix("").is_dir():
            hint += (
                f" A single file also needs its configs and tokenizers: with network diffusers fetches them; without, "
                f"put a diffusers folder of the same family (weights may be left out) at {source.with_suffix('')}."
            )
        raise BaseModelError(f"{source}: the base model cannot be loaded ({error}). {hint}") from error
    return pipeline


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Keep the libraries' own progress bars, and their notes to programmers, out of users' logs while loading."""
    import diffusers.utils.logging
    import transformers.utils.logging

    loggers = (diffusers.utils.logging, transformers.utils.logging)
    for logger in loggers:
        logger.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # diffusers renamed the option lately; the older versions we allow know only the old name.
            warnings.filterwarnings("ignore", message=".*torch_dtype.*", category=FutureWarning)
            yield
    finally:
        for logger in loggers:
            logger.enable_progress_bar()


@contextmanager
def _quiet_about_text_encoders() -> Iterator[None]:
    """Drop diffusers' warning that a UNet-only LoRA, as all of ours, has nothing for the text encoders."""

    def is_wanted(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("No LoRA keys associated to CLIPTextModel")

    logger = logging.getLogger("diffusers.loaders.lora_base")
    logger.addFilter(is_wanted)
    try:
        yield
    finally:
        logger.removeFilter(is_wanted)


def _variant_of(folder: Path) -> str | None:
    """Return `fp16` for a download that holds only the half-precision variant."""
    weights = [path.name for path in (folder / "unet").glob("*.safetensors")]
    return "fp16" if weights and all(".fp16." in name for name in weights) else None


def _fingerprints(source: Path, memory: UPath | Path | None) -> tuple[str, str, str]:
    """Return the fingerprints of VAE, text side and UNet."""
    if source.is_file():
        whole = file_fingerprint(source, memory)
        return sha256_of_parts("vae", whole), sha256_of_parts("text", whole), sha256_of_parts("unet", whole)

    def of_parts(parts: tuple[str, ...]) -> str:
        return sha256_of_parts(*((part, folder_fingerprint(source / part, memory)) for part in parts))

    return of_parts(_VAE_PARTS), of_parts(_TEXT_PARTS), of_parts(_UNET_PARTS)
