"""Drawing the grid with a diffusers pipeline, finding broken pictures, saving them with what made them.

Judging pictures is `measures`. Seeds are CPU generators, one per picture: the initial latents of a cell are
the same for every checkpoint, on every device and in every batch size.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, PngImagePlugin

from yokai_assets.devices import halving_batches
from yokai_assets.evaluation.grid import GridCell
from yokai_assets.progress import Progress, silent
from yokai_assets.settings.model import EvaluationSettings

_PIXELS_PER_CALL = 8 * 512 * 512
_MAX_BATCH = 64
_BLACK_LEVEL = 8 / 255
_CONSTANT_DEVIATION = 2 / 255


class PictureModel(Protocol):
    """The part of `training.base_model.BaseModel` that drawing needs."""

    @property
    def fingerprint(self) -> str:
        """sha256 of the base model's weights."""
        ...

    @property
    def public_name(self) -> str:
        """What the base model is called, without the folders it lies in."""
        ...

    def build_pipeline(self, lora_path: Path | None = None, weight: float = 1.0) -> Any:
        """Return a diffusers text-to-image pipeline, with a LoRA at some weight if one is given."""
        ...


def draw_grid(
    pipeline: Any,
    cells: Sequence[GridCell],
    settings: EvaluationSettings,
    side_px: int,
    progress: Progress = silent,
) -> Iterator[tuple[GridCell, np.ndarray]]:
    """Draw every cell, in order.

    Args:
        pipeline: A diffusers text-to-image pipeline.
        cells: What to draw.
        settings: Steps, guidance, negative prompt.
        side_px: Height and width of the pictures.
        progress: Called after every batch.

    Yields:
        Cell and pixels, f32 [H, W, 3] in 0..1; may hold NaN where the model failed numerically.

    Raises:
        RuntimeError: The device runs out of memory on a single picture.
    """
    pipeline.set_progress_bar_config(disable=True)
    size = min(_MAX_BATCH, max(1, _PIXELS_PER_CALL // (side_px * side_px)))
    done = 0
    for batch, pixels in halving_batches(cells, size, lambda part: _draw_batch(pipeline, part, settings, side_px)):
        yield from zip(batch, pixels, strict=True)
        done += len(batch)
        progress(done, len(cells), "pictures")


def picture_defect(pixels: np.ndarray) -> str | None:
    """Say what is wrong with pixels, f32 [H, W, 3]: `not a number`, `black`, `constant` or None."""
    if not np.isfinite(pixels).all():
        return "not a number"
    if pixels.max() < _BLACK_LEVEL:
        return "black"
    if pixels.reshape(-1, 3).std(axis=0).max() < _CONSTANT_DEVIATION:
        return "constant"
    return None


def to_image(pixels: np.ndarray) -> Image.Image:
    """Turn pixels f32 [H, W, 3] in 0..1 into an RGB image; what is not a number becomes black."""
    clean = np.nan_to_num(pixels, nan=0.0, posinf=1.0, neginf=0.0).clip(0.0, 1.0)
    return Image.fromarray((clean * 255).round().astype(np.uint8), "RGB")


@dataclass(frozen=True, slots=True)
class Origin:
    """What drew a picture, beside its prompt and seed: with them, all that is needed to draw it again.

    Attributes:
        base: The base model, as people call it.
        base_fingerprint: sha256 of its weights.
        lora: File name of the checkpoint; None for the bare base model.
        lora_sha256: Hash of the checkpoint's weights.
        step: Its training step; 0 for the bare base model.
        weight: Strength of the LoRA.
        sampler: Name of the sampler, as user interfaces call it.
    """

    base: str
    base_fingerprint: str
    lora: str | None
    lora_sha256: str | None
    step: int
    weight: float
    sampler: str


_SAMPLERS = {
    "DDIMScheduler": "DDIM",
    "PNDMScheduler": "PLMS",
    "EulerDiscreteScheduler": "Euler",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "DPMSolverMultistepScheduler": "DPM++ 2M",
    "UniPCMultistepScheduler": "UniPC",
    "HeunDiscreteScheduler": "Heun",
    "LMSDiscreteScheduler": "LMS",
}


def sampler_name(pipeline: Any) -> str:
    """Return what A1111 and Forge call a pipeline's sampler; of others the name of the class."""
    scheduler = type(getattr(pipeline, "scheduler", None)).__name__
    return _SAMPLERS.get(scheduler, scheduler)


def save_picture(image: Image.Image, path: Path, cell: GridCell, settings: EvaluationSettings, origin: Origin) -> None:
    """Write a PNG whose text chunks say what made it.

    `parameters` has the form that A1111, Forge and their image browsers read, so that a picture dropped there fills in
    prompt, LoRA and seed (`RNG: CPU`: the noise is the CPU's there too). `yokai.*` say the rest.
    """
    info = PngImagePlugin.PngInfo()
    info.add_itxt("parameters", _parameters(cell, settings, origin, image.size))
    known = {
        "checkpoint": origin.lora or "none",
        "checkpoint_sha256": origin.lora_sha256 or "",
        "step": origin.step,
        "weight": f"{origin.weight:g}",
        "base": origin.base,
        "base_sha256": origin.base_fingerprint,
        "prompt": cell.prompt,
        "negative_prompt": settings.negative_prompt,
        "seed": cell.seed,
        "inference_steps": settings.inference_steps,
        "guidance_scale": f"{settings.guidance_scale:g}",
        "sampler": origin.sampler,
    }
    for key, value in known.items():
        info.add_itxt(f"yokai.{key}", str(value))
    image.save(path, "PNG", pnginfo=info)


def _parameters(cell: GridCell, settings: EvaluationSettings, origin: Origin, size: tuple[int, int]) -> str:
    lora = f" <lora:{origin.lora.removesuffix('.safetensors')}:{origin.weight:g}>" if origin.lora else ""
    negative = f"Negative prompt: {settings.negative_prompt}\n" if settings.negative_prompt else ""
    return (
        f"{cell.prompt}{lora}\n{negative}Steps: {settings.inference_steps}, Sampler: {origin.sampler}, "
        f"CFG scale: {settings.guidance_scale:g}, Seed: {cell.seed}, Size: {size[0]}x{size[1]}, "
        f"Model: {json.dumps(origin.base) if set(origin.base) & set(',:') else origin.base}, RNG: CPU"
    )


def _draw_batch(pipeline: Any, batch: Sequence[GridCell], settings: EvaluationSettings, side_px: int) -> np.ndarray:
    import torch

    generators = [torch.Generator("cpu").manual_seed(cell.seed) for cell in batch]
    with torch.inference_mode():
        output = pipeline(
            prompt=[cell.prompt for cell in batch],
            negative_prompt=[settings.negative_prompt] * len(batch),
            num_inference_steps=settings.inference_steps,
            guidance_scale=settings.guidance_scale,
            height=side_px,
            width=side_px,
            generator=generators,
            # PIL output would turn NaN into black without a word.
            output_type="np",
        )
    return np.asarray(output.images, dtype=np.float32)
