"""Assets of one character from training to publication. The loop is `yokai_assets.training`, judging `.evaluation`."""

import json
from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from yokai_assets.analysis import load_vocabulary
from yokai_assets.captioning import stranger_captions
from yokai_assets.defs.characters.inputs import load_registry, yardstick_vectors
from yokai_assets.defs.characters.options import TrainingOptions, at_series_size
from yokai_assets.defs.partitions import CHARACTERS
from yokai_assets.defs.policies import GPU_POOL
from yokai_assets.defs.resources import ProgressResource, SettingsResource
from yokai_assets.defs.results import made, picture, records, timed
from yokai_assets.embedding.model import open_image_text_model
from yokai_assets.evaluation import evaluate_character, load_evaluation
from yokai_assets.previews.training import grad_norm_chart, loss_chart
from yokai_assets.publishing import publish_lora
from yokai_assets.segmentation.matte import open_matte
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
    strangers = stranger_captions(load_vocabulary(chosen.analysis.vocabulary), _STRANGERS, chosen.seed)
    header = {
        "yokai_series": chosen.series,
        "yokai_character": character,
        "yokai_dataset_version": _data_version(context, "training_dataset"),
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


@dg.asset(partitions_def=CHARACTERS, pool=GPU_POOL, deps=[lora_model])
def lora_evaluation(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    progress: ProgressResource,
    training_dataset: pl.DataFrame,
    captions: pl.DataFrame,
    character_members: pl.DataFrame,
) -> dg.MaterializeResult:
    """Pictures drawn with every checkpoint and with the base model, held against held-out images; one is chosen."""
    chosen, layout, device = settings.load(), settings.layout, settings.device()
    registry, model = load_registry(layout), open_image_text_model(chosen.embedding, device)
    character = context.partition_key
    vectors = yardstick_vectors(registry, character_members, character, layout, model.fingerprint)
    with timed() as watch:
        result = evaluate_character(
            character, training_dataset, registry.characters, vectors,
            character_members, captions["trigger"][0], layout, chosen, device,
            model=model, matte=open_matte(chosen.segmentation, device), progress=progress.of(context),
        )  # fmt: skip
    best = result.table.filter(pl.col("is_chosen")).to_dicts()[0]
    metadata = {
        "chosen_step": best["step"],
        "reason": result.reason,
        **{
            key: best[key] for key in ("resemblance", "covered_share", "identification", "diversity", "memorised_share")
        },
        "base_resemblance": result.table.filter(pl.col("step") == 0)["resemblance"][0],
        "scores": records(result.table.drop("character_id", "checkpoint")),
        "pictures": dg.MetadataValue.path(str(layout.lora_tests(context.partition_key))),
        "sample_grid": picture(result.comparison, "base, LoRA, real"),
        "seconds": watch.seconds,
    }
    return made("lora_evaluation", chosen, value=result.table, metadata=metadata)


@dg.asset(partitions_def=CHARACTERS, deps=[lora_evaluation])
def published_lora(context: dg.AssetExecutionContext, settings: SettingsResource) -> dg.MaterializeResult:
    """The chosen checkpoint under its final name, with sidecar, thumbnail and model card."""
    chosen, layout, character = settings.load(), settings.layout, context.partition_key
    evaluation = load_evaluation(layout, character)
    published = publish_lora(character, evaluation, layout, lineage=_lineage(context))
    metadata = {
        "state": published.state,
        "reason": published.reason,
        "trigger": evaluation.trigger,
        "lora": dg.MetadataValue.path(str(published.path)),
        "lora_bytes": published.size_bytes,
        "previous": str(published.previous or ""),
        "model_card": dg.MetadataValue.path(str(published.card)),
        "thumbnail": picture(published.preview, character),
    }
    return made("published_lora", chosen, version=published.tensors_sha256[:32], metadata=metadata)


def _data_version(context: dg.AssetExecutionContext, asset: str) -> str:
    """Return the data version of this partition of an asset; empty where it was never made."""
    found = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[context.partition_key]), limit=1
    ).records
    record = found[0].asset_materialization if found else None
    return (record.tags or {}).get("dagster/data_version", "") if record else ""


def _lineage(context: dg.AssetExecutionContext) -> dict[str, str]:
    """Return the data versions of everything that the LoRA was made of, by asset."""
    assets = ("character_members", "captions", "training_dataset", "lora_model", "lora_evaluation")
    return {"run": context.run.run_id, **{asset: _data_version(context, asset) for asset in assets}}


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


ASSETS = [lora_model, lora_evaluation, published_lora]
