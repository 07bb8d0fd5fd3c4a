"""Events as runs would have recorded them, for tests of what reads Dagster's records."""

from uuid import uuid4

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.definitions.partitions.subset.default import DefaultPartitionsSubset


def report_check(
    instance: dg.DagsterInstance, asset: str, check: str, partition: str | None, *, passed: bool = True
) -> None:
    """Record what a check says of the asset's latest materialization, in a run of its own."""
    key = dg.AssetKey(asset)
    of = dg.AssetRecordsFilter(key, asset_partitions=[partition] if partition else None)
    made = instance.fetch_materializations(of, limit=1).records[0]
    planned = AssetCheckEvaluationPlanned(
        asset_key=key,
        check_name=check,
        partitions_subset=DefaultPartitionsSubset({partition}) if partition else None,
    )
    said = dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=check,
        passed=passed,
        metadata={},
        partition=partition,
        target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
            storage_id=made.storage_id, run_id=made.run_id, timestamp=made.timestamp
        ),
    )
    run_id = str(uuid4())
    for kind, data in (
        (dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED, planned),
        (dg.DagsterEventType.ASSET_CHECK_EVALUATION, said),
    ):
        event = dg.DagsterEvent(event_type_value=kind.value, job_name="checks", event_specific_data=data)
        instance.report_dagster_event(event, run_id)
