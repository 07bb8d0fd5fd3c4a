"""The asset that holds every LoRA against every character, and its check. Measured by `yokai_assets.evaluation`."""

import dagster as dg
import polars as pl
from upath import UPath

from yokai_assets.defs.checking import judged
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.defs.results import SOURCE_TAG, made, picture, records, timed
from yokai_assets.evaluation.crossing import compare_loras, matrix_of, taken_for_others
from yokai_assets.previews.charts import heat_map
from yokai_assets.registry import RegistryStore
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import files_fingerprint, table_files
from yokai_assets.tables import LORA_COMPARISONS


def evaluated_files(layout: Layout) -> dict[str, UPath]:
    """Return the evaluations of active characters, by character.

    A character that was merged into another one would be its rival for ever.
    """
    files, registry = table_files(layout.tables / "lora_evaluation"), RegistryStore(layout.registry).load()
    if registry is None:
        return files
    active = set(registry.characters.filter(state="active")["character_id"])
    return {name: file for name, file in files.items() if name in active}


def comparison_fingerprint(layout: Layout) -> str:
    """Return a hash of which evaluations would be compared now."""
    return files_fingerprint({"evaluations": evaluated_files(layout)})


@dg.asset(deps=[dg.AssetDep("lora_evaluation", partition_mapping=dg.AllPartitionMapping())])
def lora_comparison(context: dg.AssetExecutionContext, settings: SettingsResource) -> dg.MaterializeResult:
    """Every LoRA's pictures against every character's held-out images: does each draw its own character?

    The columns of `matrix` are characters: in each, the character's own LoRA should stand out.
    """
    chosen, layout = settings.load(), settings.layout
    fingerprint = comparison_fingerprint(layout)
    with timed() as watch:
        crossing = compare_loras(layout, sorted(evaluated_files(layout)), chosen.seed)
    for problem in crossing.problems:
        context.log.warning(problem)
    names, matrix = matrix_of(crossing.table, "resemblance")
    metadata = {
        "lora_count": len(names),
        "problems": dg.MetadataValue.json(crossing.problems),
        "own": records(crossing.table.filter(pl.col("lora_character_id") == pl.col("character_id")), limit=100),
        "taken_for_others": records(taken_for_others(crossing.table), limit=100),
        "seconds": watch.seconds,
    }
    if names:
        chart = heat_map(names, matrix, title="Cosine of a LoRA's pictures to real images", across="character")
        metadata["matrix"] = picture(chart, "LoRAs down, characters across")
    return made(
        "lora_comparison", chosen, value=crossing.table, metadata=metadata,
        tags={SOURCE_TAG: fingerprint}, is_partitioned=False,
    )  # fmt: skip


@dg.asset_check(asset=lora_comparison)
def loras_are_distinct(lora_comparison: pl.DataFrame) -> dg.AssetCheckResult:
    """Every character is resembled most by its own LoRA: none has learnt the style of the series only."""
    taken = taken_for_others(LORA_COMPARISONS.conform(lora_comparison))
    count = lora_comparison["character_id"].n_unique()
    return judged(
        taken.is_empty(),
        expected="each character's real images nearest to the pictures of its own LoRA",
        actual=f"{count - taken.height} of {count} are",
        remedy="Look at `matrix` and at both characters' `sample_grid`. Two ids of one character: "
        "`yokai characters merge`. Else more steps or more images for the one that is not resembled.",
        severity=dg.AssetCheckSeverity.WARN,
        sample=taken,
        lora_count=count,
    )


ASSETS = [lora_comparison]
CHECKS = [loras_are_distinct]
