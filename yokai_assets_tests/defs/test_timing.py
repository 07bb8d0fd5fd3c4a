"""How long stages took, by what their runs noted."""

import dagster as dg
import pytest

from yokai_assets.defs.reports import timing
from yokai_assets.defs.reports.timing import stage_times


def made(instance: dg.DagsterInstance, asset: str, partition: str | None = None, **metadata: str | float) -> None:
    instance.report_runless_asset_event(
        dg.AssetMaterialization(dg.AssetKey(asset), partition=partition, metadata=metadata)
    )


def test_seconds_are_added_over_partitions_and_repeats(instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects hours and GPU-hours: a repeat was work, too; a CPU is no GPU; a second page of records counts."""
    monkeypatch.setattr(timing, "_PAGE", 2)
    made(instance, "lora_model", "cluster_000", seconds=100.0, device="cuda")
    made(instance, "lora_model", "cluster_000", seconds=50.0, device="cuda:1")
    made(instance, "lora_model", "cluster_001", seconds=7, device="cpu")
    made(instance, "lora_model", "cluster_002", seconds=1.5)
    made(instance, "lora_model", "cluster_003", note="taken over from elsewhere")
    time = stage_times(instance)["lora_model"]
    assert (time.seconds, time.gpu_seconds, time.run_count) == (158.5, 150.0, 5)


def test_stages_that_never_ran_are_absent(instance) -> None:
    """Protects the difference between nothing and not known."""
    made(instance, "frames", "s01e01", seconds=0.0)
    assert list(stage_times(instance)) == ["frames"]
