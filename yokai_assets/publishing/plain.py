"""A LoRA that nobody has judged, made ready to use: final name and header, sidecar, curves, samples.

For `yokai train`. A character's LoRA is published by `publish`, after its evaluation.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image
from upath import UPath

from yokai_assets.devices import free_device_memory
from yokai_assets.evaluation.drawing import draw_grid, to_image
from yokai_assets.evaluation.grid import GridCell
from yokai_assets.previews import contact_sheet
from yokai_assets.previews.training import loss_chart
from yokai_assets.progress import Progress, silent
from yokai_assets.publishing.sidecar import sd_version
from yokai_assets.settings.model import EvaluationSettings
from yokai_assets.storage.files import whole_file, write_json
from yokai_assets.training.base_model import BaseModel
from yokai_assets.training.export import diffusers_path
from yokai_assets.training.files import TrainingFiles
from yokai_assets.training.record import TrainingResult
from yokai_assets.training.safetensors_header import copy_with_metadata, read_header

_SEEDS = (0, 1, 2, 3)
_TILE_PX = 256
_OWN_KEYS = ("notes", "sd version")


def finish_lora(files: TrainingFiles, result: TrainingResult, trigger: str | None) -> UPath:
    """Give the last checkpoint the LoRA's name, and write sidecar and curves beside it; return its path.

    What a person has written into an older sidecar stays.
    """
    final = files.folder / f"{files.name}.safetensors"
    last, step = result.checkpoints[-1].path, result.checkpoints[-1].step
    sources = [(last, final)]
    if diffusers_path(last).exists():
        sources.append((diffusers_path(last), diffusers_path(final)))
    else:
        diffusers_path(final).unlink(missing_ok=True)
    if result.was_finished and final.exists() and read_header(final).metadata.get("ss_steps") == str(step):
        return final
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    words = {"modelspec.title": files.name, "ss_output_name": files.name, "modelspec.date": moment}
    if trigger:
        words |= {"modelspec.trigger_phrase": trigger}
    for source, target in sources:
        metadata = read_header(source).metadata
        with whole_file(target) as temporary:
            copy_with_metadata(Path(str(source)), temporary, metadata | words)
    architecture = read_header(last).metadata["modelspec.architecture"]
    _write_sidecar(files.folder / f"{files.name}.json", architecture, trigger, result)
    with whole_file(files.folder / f"{files.name}.curves.png") as temporary:
        loss_chart(result).save(temporary, "PNG")
    return final


def sample_sheet(
    base: BaseModel, lora: UPath, prompts: Sequence[str], *, seed: int = 0, progress: Progress = silent
) -> Image.Image:
    """Draw prompts with the bare base model and with the LoRA, from the same noise: one row each."""
    cells = [
        GridCell(prompt_index=index, seed=seed + offset, prompt=prompt, subject="", has_trigger=True)
        for index, prompt in enumerate(prompts)
        for offset in _SEEDS
    ]
    total, drawn = 2 * len(cells), []
    for is_adapted in (False, True):
        shifted = _shifted(progress, len(cells) * is_adapted, total)
        drawn.append(_draw(base, str(lora) if is_adapted else None, cells, shifted))
    images, labels = [], []
    for index, prompt in enumerate(prompts):
        rows = slice(index * len(_SEEDS), (index + 1) * len(_SEEDS))
        images += [*drawn[0][rows], *drawn[1][rows]]
        labels += [f"base: {prompt}"] * len(_SEEDS) + [f"LoRA: {prompt}"] * len(_SEEDS)
    return contact_sheet(images, columns=len(_SEEDS), tile_px=_TILE_PX, labels=labels, title=lora.name)


def _draw(base: BaseModel, lora: str | None, cells: Sequence[GridCell], progress: Progress) -> list[Image.Image]:
    """Draw with one pipeline, which is gone from the device afterwards."""
    pipeline = base.build_pipeline(lora)
    images = [
        to_image(pixels) for _, pixels in draw_grid(pipeline, cells, EvaluationSettings(), base.native_px, progress)
    ]
    del pipeline
    free_device_memory()
    return images


def _shifted(progress: Progress, before: int, whole: int) -> Progress:
    """Return a progress of a part that has `before` of `whole` units in front of it."""

    def tell(done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        progress(before + done, whole, note)

    return tell


def _write_sidecar(path: UPath, architecture: str, trigger: str | None, result: TrainingResult) -> None:
    """Write the JSON that A1111 and Forge read."""
    step = result.checkpoints[-1].step
    ours = {
        "description": "",
        "sd version": sd_version(architecture),
        "activation text": trigger or "",
        "preferred weight": 1.0,
        "negative text": "",
        "notes": f"{step} steps on {result.train_count} images. Not evaluated.",
    }
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    words = before.items() if isinstance(before, dict) else ()
    kept = {key: value for key, value in words if key not in _OWN_KEYS and value != ""}
    write_json(path, ours | kept)
