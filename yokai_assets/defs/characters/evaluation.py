"""Assets that judge a character's LoRA and publish it. Measures are `yokai_assets.evaluation`, files `.publishing`."""

from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from yokai_assets.defs.characters.inputs import data_version, load_registry, yardstick_vectors
from yokai_assets.defs.characters.models import lora_model
from yokai_assets.defs.partitions import CHARACTERS
from yokai_assets.defs.policies import GPU_POOL
from yokai_assets.defs.resources import ProgressResource, SettingsResource
from yokai_assets.defs.results import made, picture, records, timed
from yokai_assets.embedding.model import open_image_text_model
from yokai_assets.evaluation import EvaluationRecord, EvaluationResult, evaluate_character, load_evaluation
from yokai_assets.evaluation.verdicts import Verdict, refusals
from yokai_assets.publishing import publish_lora
from yokai_assets.segmentation.matte import open_matte


class PublishOptions(dg.Config):
    """What a person may decide against the measures, for one run."""

    despite_failed_checks: bool = Field(
        default=False, description="Publish although a check of `lora_evaluation` fails."
    )
    replace_better: bool = Field(
        default=False, description="Publish although the published LoRA has a higher score; it is kept as `-vNNN`."
    )


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
    metadata = {**_evaluation_metadata(result), "device": device, "seconds": watch.seconds}
    return made("lora_evaluation", chosen, value=result.table, metadata=metadata)


@dg.asset(partitions_def=CHARACTERS, deps=[lora_evaluation])
def published_lora(
    context: dg.AssetExecutionContext, config: PublishOptions, settings: SettingsResource
) -> dg.MaterializeResult:
    """The chosen checkpoint under its final name, with sidecar, thumbnail and model card."""
    chosen, layout, character = settings.load(), settings.layout, context.partition_key
    evaluation = load_evaluation(layout, character)
    # Not what a check once said: that may be of an older evaluation, or the check may not have run.
    failed = refusals(evaluation.chosen.measured(), chosen.evaluation)
    if failed and not config.despite_failed_checks:
        raise dg.Failure(_refusal(failed), allow_retries=False)
    lineage = _lineage(context)
    if failed:
        lineage["published_despite"] = ", ".join(failed)
    published = publish_lora(character, evaluation, layout, lineage=lineage, is_worse_allowed=config.replace_better)
    metadata = {
        "state": published.state,
        "reason": published.reason,
        "trigger": evaluation.trigger,
        "step": published.step,
        **({} if published.suggested_weight is None else {"suggested_weight": published.suggested_weight}),
        "lora": dg.MetadataValue.path(str(published.path)),
        "lora_bytes": published.size_bytes,
        "previous": str(published.previous or ""),
        "model_card": dg.MetadataValue.path(str(published.card)),
        "thumbnail": picture(published.preview, character),
    }
    return made("published_lora", chosen, version=published.tensors_sha256[:32], metadata=metadata)


def _evaluation_metadata(result: EvaluationResult) -> dict[str, Any]:
    record, sheets = result.record, result.sheets()
    best = result.table.filter("is_chosen").to_dicts()[0]
    numbers = (
        "resemblance", "covered_share", "identification", "prompt_following", "prompt_loss", "diversity",
        "memorised_share", "bleeding", "validation_loss", "score", "suggested_weight",
    )  # fmt: skip
    weights = pl.DataFrame([row.model_dump(exclude={"score_parts"}) for row in record.weights])
    return {
        "chosen_step": best["step"],
        "reason": record.reason,
        "weight_reason": record.weight_reason,
        "notes": dg.MetadataValue.json(record.notes),
        **{key: best[key] for key in numbers if best[key] is not None},
        "base_resemblance": record.base.resemblance.mean,
        "anchors": records(_anchors(record)),
        "scores": records(result.table.drop("character_id", "checkpoint"), limit=100),
        "weights": records(weights),
        "pictures": dg.MetadataValue.path(str(result.folder)),
        **{name: picture(path, words) for name, (path, words) in sheets.items()},
    }


def _anchors(record: EvaluationRecord) -> pl.DataFrame:
    """Return the table that the chosen checkpoint is read against, numbers with their intervals as text."""
    columns = ("resemblance", "covered", "identification", "diversity", "memorised_share", "prompt_following")
    rows = [
        {"": anchor.name, **{name: _interval(getattr(anchor, name)) for name in columns}} for anchor in record.anchors
    ]
    return pl.DataFrame(rows)


def _interval(measure: Any) -> str:
    return "" if measure is None else f"{measure.mean:.3f} [{measure.low:.3f}, {measure.high:.3f}]"


def _refusal(failed: dict[str, Verdict]) -> str:
    reasons = " ".join(f"{name}: {verdict.words}" for name, verdict in failed.items())
    return (
        f"Not published: {len(failed)} check(s) of `lora_evaluation` fail. {reasons} "
        "Mend it and evaluate again, or publish all the same with the option `despite_failed_checks`."
    )


def _lineage(context: dg.AssetExecutionContext) -> dict[str, str]:
    """Return the data versions of everything that the LoRA was made of, by asset."""
    assets = ("character_members", "captions", "training_dataset", "lora_model", "lora_evaluation")
    versions = {asset: data_version(context, asset) for asset in assets}
    return {"run": context.run.run_id, **{asset: version for asset, version in versions.items() if version}}


ASSETS = [lora_evaluation, published_lora]
