"""The asset that trains a character's LoRA. The loop is `yokai_assets.training`; judging it is `evaluation`."""

import json
from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from yokai_assets.analysis import load_vocabulary
from yokai_assets.captioning import stranger_captions
from yokai_assets.defs.characters.inputs import data_version
from yokai_assets.defs.characters.options import TrainingOptions, at_series_size
from yokai_assets.defs.partitions import CHARACTERS
from yokai_assets.defs.policies import GPU_POOL
from yokai_assets.defs.resources import ProgressResource, SettingsResource
from yokai_assets.defs.results import made, picture, records
from yokai_assets.previews.training import grad_norm_chart, loss_chart
from yokai_assets.retention.room import require_room
from yokai_assets.training.export import read_header
from yokai_assets.training.files import TrainingFiles
from yokai_assets.training.images import items_of
from yokai_assets.training.record import TrainingResult
from yokai_assets.training.trainer import train_lora

_STRANGERS = 200
"""Descriptions of others that a LoRA must leave as they are."""


@dg.asset(partitions_def=CHARACTERS, pool=GPU_POOL)
def lora_model(
    context: dg.AssetExecutionContext,
    config: TrainingOptions,  # pyright: ignore[reportInvalidTypeForm]
    settings: SettingsResource,
    progress: ProgressResource,
    training_dataset: pl.DataFrame,
) -> dg.MaterializeResult:
    """The character's LoRA: checkpoints that ComfyUI, A1111/Forge and diffusers load.

    Stopped anywhere, it goes on from its last whole checkpoint, bit for bit on a CPU.
    """
    chosen, layout, character = config.applied_to(settings.load()), settings.layout, context.partition_key
    require_room(chosen)
    strangers = stranger_captions(load_vocabulary(chosen.analysis.vocabulary), _STRANGERS, chosen.seed)
    header = {
        "yokai_series": chosen.series,
        "yokai_character": character,
        "yokai_dataset_version": data_version(context, "training_dataset"),
    }
    result = train_lora(
        items_of(training_dataset, character, layout), TrainingFiles.of_character(layout, character),
        at_series_size(chosen.training), settings.device(), chosen.seed,
        header=header, prior_captions=strangers, progress=progress.of(context),
    )  # fmt: skip
    for setting, note in result.problems:
        context.log.warning(f"{setting}: {note}")
    written = read_header(result.checkpoints[-1].path)
    metadata = _training_metadata(result, written)
    return made("lora_model", settings.load(), version=written["sshs_model_hash"][:32], metadata=metadata)


def _training_metadata(result: TrainingResult, header: Mapping[str, str]) -> dict[str, Any]:
    validation = pl.DataFrame(result.validation_losses, schema={"step": pl.Int64, "loss": pl.Float64}, orient="row")
    return {
        "step_count": len(result.losses),
        "loss_final": round(float(result.losses[-20:].mean()), 6),
        "validation_loss_final": result.validation_losses[-1][1] if result.validation_losses else None,
        "validation_losses": records(validation, limit=100),
        "loss_curve": picture(loss_chart(result), "loss"),
        "grad_norm_curve": picture(grad_norm_chart(result), "gradient norm"),
        "train_image_count": result.train_count,
        "held_out_image_count": result.held_out_count,
        "seconds": round(result.seconds, 2),
        "steps_per_second": round(result.steps_per_second, 3),
        "images_per_second": round(result.images_per_second, 2),
        "peak_memory_bytes": result.peak_memory_bytes,
        "device": result.environment.device,
        "torch_version": result.environment.torch_version,
        "resumed_from_step": result.resumed_from_step,
        "was_finished": result.was_finished,
        "problems": dg.MetadataValue.json(result.problems),
        "base_fingerprint": result.base_fingerprint,
        "dataset_version": header["yokai_dataset_version"],
        "code_version": header["yokai_code_version"],
        "config": dg.MetadataValue.json(json.loads(header["yokai_config"])),
        "training_images": dg.MetadataValue.json(json.loads(header["yokai_training_images"])),
        "checkpoint": dg.MetadataValue.path(str(result.checkpoints[-1].path)),
    }


ASSETS = [lora_model]
