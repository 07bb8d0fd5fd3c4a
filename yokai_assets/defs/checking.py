"""How a check is declared, how it reports (expected, actual, a capped sample, what to do), and what it said last.

The checks themselves stand beside the assets of their domain.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from yokai_assets.defs.results import records
from yokai_assets.evaluation.verdicts import BLOCKING

BLOCKING_CHECKS: Mapping[str, tuple[str, ...]] = {
    "frames": ("frames_are_readable",),
    "embeddings": ("vectors_are_sound", "every_instance_is_embedded"),
    "clusters": ("clusters_are_usable",),
    "group_quality": ("groups_are_found_again",),
    "training_dataset": ("dataset_is_large_enough", "captions_cover_dataset"),
    "lora_evaluation": tuple(BLOCKING),
}
"""Asset -> its checks that stop what follows. A test holds this against the definitions."""


def partitioned_check(
    asset: Any, partitions: dg.PartitionsDefinition, *, blocking: bool = False, also_reads: tuple[str, ...] = ()
) -> Callable[[Callable[..., dg.AssetCheckResult]], dg.AssetChecksDefinition]:
    """Declare a check that runs for one partition of its asset and is stored with it; its docstring describes it.

    Args:
        asset: The asset.
        partitions: Its partitions.
        blocking: A failure stops what follows in the same run.
        also_reads: Assets of the same partitions that the check reads besides.

    Without `partitions_def` the check would load *every* partition and fail where one is missing. Dagster marks the
    parameter as preview; that warning, and only that one, is kept from users here.
    """

    def declare(function: Callable[..., dg.AssetCheckResult]) -> dg.AssetChecksDefinition:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Specifying a partitions_def", category=dg.PreviewWarning)
            ins = {name: dg.AssetIn(name) for name in also_reads}
            return dg.asset_check(asset=asset, partitions_def=partitions, blocking=blocking, additional_ins=ins)(
                function
            )

    return declare


@dataclass(frozen=True, slots=True)
class LatestEvaluation:
    """What a check said last of a partition, when, and of which materialization (its storage id)."""

    at: datetime
    passed: bool
    severity: dg.AssetCheckSeverity
    materialization_id: int | None

    @property
    def is_blocking(self) -> bool:
        """Whether it failed as an error."""
        return not self.passed and self.severity == dg.AssetCheckSeverity.ERROR


def latest_evaluations(instance: dg.DagsterInstance, asset: str, check: str) -> dict[str | None, LatestEvaluation]:
    """Return partition (None: of an unpartitioned asset) -> what the check said last; one pass over its history."""
    latest: dict[str | None, LatestEvaluation] = {}
    key, cursor = dg.AssetCheckKey(dg.AssetKey(asset), check), None
    while records := instance.event_log_storage.get_asset_check_execution_history(key, limit=1000, cursor=cursor):
        for record in records:  # newest first
            evaluation = record.event.asset_check_evaluation if record.event else None
            if record.event and evaluation:
                at = datetime.fromtimestamp(record.event.timestamp, UTC)
                judged_of = evaluation.target_materialization_data
                latest.setdefault(
                    record.partition,
                    LatestEvaluation(
                        at, evaluation.passed, evaluation.severity, judged_of.storage_id if judged_of else None
                    ),
                )
        cursor = records[-1].id
    return latest


def judged(
    passed: bool,
    *,
    expected: str,
    actual: str,
    remedy: str,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
    sample: Any = None,
    **numbers: float | int,
) -> dg.AssetCheckResult:
    """Return a result that explains itself; the remedy is shown where the check did not pass."""
    metadata: dict[str, Any] = {"expected": expected, "actual": actual, **numbers}
    if not passed:
        metadata["what_to_do"] = remedy
        if sample is not None:
            metadata["sample"] = records(sample)
    description = actual if passed else f"{actual}; expected {expected}. {remedy}"
    return dg.AssetCheckResult(passed=bool(passed), severity=severity, metadata=metadata, description=description)
