"""How a check is declared and how it reports: expected, actual, a capped sample, and what to do.

The checks themselves stand beside the assets of their domain.
"""

import warnings
from collections.abc import Callable
from typing import Any

import dagster as dg

from yokai_assets.defs.results import records


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
