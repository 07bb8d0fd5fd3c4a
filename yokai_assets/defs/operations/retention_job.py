"""The job that frees space, from the UI, by its weekly schedule, or as one run of `yokai space --apply`'s kind.

What may go is decided by `retaining` and `yokai_assets.retention`.
"""

from collections.abc import Mapping

import dagster as dg
from pydantic import Field

from yokai_assets.defs.operations.retaining import plan_now, retain
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.retention.planning import RetentionPlan
from yokai_assets.retention.room import room_of
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.sizes import stage_bytes

RETENTION_JOB = "retention"


class RetentionOptions(dg.Config):
    """What a person may choose for one run."""

    is_dry_run: bool = Field(default=False, description="Only say what would be removed.")


@dg.op
def free_space(context: dg.OpExecutionContext, config: RetentionOptions, settings: SettingsResource) -> None:
    """Remove layers, checkpoints and cache entries as far as the section `retention` of the settings lets them go.

    Nothing goes that something not made yet will read. With the settings as shipped, only caches are bounded.
    """
    chosen = settings.load()
    if config.is_dry_run:
        plan, problems = plan_now(context.instance, chosen), ()
    else:
        plan, result = retain(context.instance, chosen)
        problems = result.problems
    for problem in problems:
        context.log.warning(problem)
    after = plan.stage_bytes if config.is_dry_run else stage_bytes(Layout.of(chosen))
    room = room_of(chosen)
    metadata = {
        "policy": chosen.retention.layers,
        "would_be_freed_bytes" if config.is_dry_run else "freed_bytes": plan.size_bytes,
        "by_stage": _by_stage(plan, after),
        "removed": _rows((r.stage, r.partition, len(r.paths), r.size_bytes, r.why) for r in plan.removals),
        "needed_still": _rows((k.stage, k.partition, None, k.size_bytes, k.why) for k in plan.kept),
        "problems": list(problems[:20]),
        **({"free_bytes": room.free_bytes} if room else {}),
    }
    context.add_output_metadata(metadata)


def _by_stage(plan: RetentionPlan, after: Mapping[str, int]) -> dg.TableMetadataValue:
    before = plan.stage_bytes
    records = [
        dg.TableRecord({"stage": stage, "before_bytes": before.get(stage, 0), "after_bytes": after.get(stage, 0)})
        for stage in sorted({*before, *after}, key=lambda stage: -before.get(stage, 0))
    ]
    return dg.MetadataValue.table(records)


def _rows(rows, limit: int = 100) -> dg.TableMetadataValue:
    names = ("stage", "partition", "files", "bytes", "why")
    schema = dg.TableSchema([dg.TableColumn(name, "int" if name in ("files", "bytes") else "string") for name in names])
    records = [dg.TableRecord(dict(zip(names, row, strict=True))) for row in list(rows)[:limit]]
    return dg.MetadataValue.table(records, schema=schema)


@dg.job(
    name=RETENTION_JOB,
    tags={"yokai/domain": RETENTION_JOB},
    description="Frees space: layers, checkpoints and caches that the section `retention` of the settings lets go.",
)
def retention_job() -> None:
    """Free space."""
    free_space()


weekly_retention = dg.ScheduleDefinition(
    name="weekly_retention",
    job=retention_job,
    cron_schedule="0 5 * * 0",
    description="Frees space every Sunday at five (UTC), as far as the section `retention` of the settings lets go.",
)
