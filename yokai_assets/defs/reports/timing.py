"""How long stages took, by Dagster's own records: every finished step noted its seconds, and where it computed.

Reading only; what the report shows of it is in `yokai_assets.gallery`.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from yokai_assets.defs.policies import POLICIES
from yokai_assets.gallery import StageTime

_PAGE = 500


def stage_times(instance: dg.DagsterInstance) -> dict[str, StageTime]:
    """Return what each asset took so far, over all its partitions, repeats included; those that never ran are absent.

    A step that failed noted nothing. Of several devices in one step there is none here: seconds count once.
    """
    return {asset: time for asset in POLICIES if (time := _time_of(instance, asset))}


def _time_of(instance: dg.DagsterInstance, asset: str) -> StageTime | None:
    seconds = gpu_seconds = newest = 0.0
    count = 0
    for record in _records(instance, asset):
        made = record.asset_materialization
        if made is None:
            continue
        count, newest = count + 1, max(newest, record.timestamp)
        taken = made.metadata.get("seconds")
        if not isinstance(taken, dg.FloatMetadataValue | dg.IntMetadataValue) or taken.value is None:
            continue
        seconds += taken.value
        device = made.metadata.get("device")
        if isinstance(device, dg.TextMetadataValue) and (device.text or "").startswith("cuda"):
            gpu_seconds += taken.value
    return StageTime(seconds, gpu_seconds, count, datetime.fromtimestamp(newest, UTC)) if count else None


def _records(instance: dg.DagsterInstance, asset: str) -> Iterator[dg.EventLogRecord]:
    cursor: str | None = None
    while True:
        found = instance.fetch_materializations(dg.AssetKey(asset), limit=_PAGE, cursor=cursor)
        yield from found.records
        if not found.has_more:
            return
        cursor = found.cursor
