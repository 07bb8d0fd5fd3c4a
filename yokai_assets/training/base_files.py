"""Files of base models: where a name leads, and what they hold, without loading weights.

Here: hub ids, diffusers folders, single safetensors checkpoints. Not here: loading them (`base_model`).
"""

import json
import os
from pathlib import Path
from typing import Literal

from yokai_assets.training.prediction import UnsupportedScheduleError, VelocityPrediction, velocity_prediction
from yokai_assets.weights import is_pickled, pickled_only, refusal

Family = Literal["sd15", "sdxl"]

_FAMILY_OF_PIPELINE: dict[str, Family] = {"StableDiffusionPipeline": "sd15", "StableDiffusionXLPipeline": "sdxl"}
PIPELINE_OF_FAMILY = {family: name for name, family in _FAMILY_OF_PIPELINE.items()}
"""Family -> name of its diffusers pipeline."""
_PARTS_WITH_WEIGHTS = ("unet", "vae", "text_encoder", "text_encoder_2")
"""What is loaded of a folder: a safety checker's pickles, say, are never opened."""


class BaseModelError(RuntimeError):
    """A base model cannot be used; the message names it, the reason and the remedy."""


def locate(base_model: str) -> Path:
    """Return the local folder or file of a base model, downloading a hub model if it is not there yet.

    Raises:
        BaseModelError: It is nowhere, or cannot be downloaded.
    """
    if base_model == "demo":
        from yokai_assets.demo.models import bundled_model

        return bundled_model("base")
    path = Path(base_model).expanduser()
    if path.is_dir() or path.is_file():
        return path
    is_hub_id = base_model.count("/") == 1 and not path.is_absolute() and path.suffix != ".safetensors"
    if not is_hub_id or base_model.startswith((".", "~")):
        raise BaseModelError(
            f"{base_model}: there is no such file or folder. Set training.base_model to a hub id (`owner/name`), "
            "a diffusers folder, a .safetensors checkpoint, or `demo`."
        )
    return _download(base_model)


def _download(hub_id: str) -> Path:
    from diffusers import DiffusionPipeline

    is_offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
    try:
        folder = DiffusionPipeline.download(hub_id, local_files_only=is_offline)
    except Exception as error:
        raise BaseModelError(
            f"{hub_id}: the base model is not in the local model cache and could not be downloaded ({error}). "
            f"Download it once with network (`hf download {hub_id}`), or set training.base_model to a local "
            "diffusers folder or .safetensors checkpoint, or to `demo`."
        ) from error
    return Path(folder)


def family_of(source: Path) -> Family:
    """Return the family of a diffusers folder or a single-file checkpoint, without loading its weights.

    Raises:
        BaseModelError: Damaged, of another kind, or of an unsupported family.
    """
    return _family_of_file(source) if source.is_file() else _family_of_folder(source)


def _family_of_folder(folder: Path) -> Family:
    index = folder / "model_index.json"
    if not index.is_file():
        raise BaseModelError(
            f"{folder}: no model_index.json, so this is not a diffusers folder. Point training.base_model at the "
            "folder that holds it, or at a single .safetensors checkpoint."
        )
    name = str(json.loads(index.read_text(encoding="utf-8")).get("_class_name"))
    if name not in _FAMILY_OF_PIPELINE:
        raise BaseModelError(
            f"{folder}: pipeline class {name} is not supported; {', '.join(_FAMILY_OF_PIPELINE)} are. "
            "Choose a Stable Diffusion 1.x or SDXL base."
        )
    pickled = [file for part in _PARTS_WITH_WEIGHTS for file in pickled_only(folder / part)]
    if pickled:
        raise BaseModelError(refusal(pickled[0]))
    return _FAMILY_OF_PIPELINE[name]


def _family_of_file(path: Path) -> Family:
    if is_pickled(path):
        raise BaseModelError(refusal(path))
    if path.suffix != ".safetensors":
        raise BaseModelError(f"{path}: only .safetensors checkpoints are read. Choose one, or a diffusers folder.")
    names, _ = _names_and_metadata(path)
    if any(name.startswith("conditioner.embedders.1.") for name in names):
        return "sdxl"
    if any(name.startswith("cond_stage_model.transformer.") for name in names):
        return "sd15"
    if any(name.startswith("cond_stage_model.model.") for name in names):
        raise BaseModelError(f"{path}: Stable Diffusion 2.x is not supported. Choose a 1.x or an SDXL base.")
    raise BaseModelError(
        f"{path}: neither a Stable Diffusion 1.x nor an SDXL checkpoint (no text encoder of either). Is it a LoRA, "
        "a VAE, or of another family? Choose a full checkpoint."
    )


def velocity_of_file(path: Path) -> VelocityPrediction | None:
    """Return how a single-file checkpoint predicts velocity; None where it predicts noise.

    Raises:
        BaseModelError: Its noise schedule is not supported.
    """
    try:
        return velocity_prediction(*_names_and_metadata(path))
    except UnsupportedScheduleError as error:
        raise BaseModelError(f"{path}: {error}. Choose another Stable Diffusion 1.x or SDXL base.") from error


def _names_and_metadata(path: Path) -> tuple[list[str], dict[str, str]]:
    """Return the names of a safetensors file's tensors, and its metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys()), dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise BaseModelError(f"{path}: damaged or unfinished download ({error}). Download it again.") from error
