"""A failure is over when its step or check succeeded since, wherever that was done."""

import warnings
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from PIL import Image

from yokai_assets.defs.checking import latest_evaluations
from yokai_assets.defs.operations.failing import asset_of_step
from yokai_assets.defs.reports.assets import catalog, gallery, gallery_fingerprint, report_fingerprint
from yokai_assets.defs.reports.checks import nothing_is_left_failed
from yokai_assets.defs.reports.closing import failures_over
from yokai_assets.gallery import FailureRecord, append_failures

NOW = datetime.now(UTC) - timedelta(seconds=1)
CHECK = "dataset_is_large_enough"


def failure(step: str, partition: str | None = "cluster_000", *, asset: str | None = None, hours: float = -1):
    is_check = asset is not None  # a step of its own has no asset beside it
    return FailureRecord(
        at=NOW + timedelta(hours=hours), step=step, asset=asset, partition=partition, reason="r", is_check=is_check
    )


def made(instance, asset: str, partition: str | None = "cluster_000") -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey(asset), partition=partition))


def checked(instance, passed: bool, partition: str = "cluster_000") -> None:
    """Make the asset and check it, as a run would."""
    partitions = dg.StaticPartitionsDefinition(["cluster_000", "cluster_001"])

    @dg.asset(partitions_def=partitions)
    def training_dataset() -> None: ...

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)

        @dg.asset_check(asset=training_dataset, partitions_def=partitions, name=CHECK)
        def check() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=passed)

    dg.materialize([training_dataset, check], instance=instance, partition_key=partition)


@pytest.mark.parametrize("asset", ["lora_model", "embedding_index", "character_registry", "catalog", "gallery"])
def test_a_later_materialization_closes_a_step(instance, source, asset) -> None:
    """Also for steps that write no table, and also where the new output equals the old one."""
    partition = "cluster_000" if asset == "lora_model" else None
    assert not failures_over(instance, source.load())(failure(asset, partition))
    made(instance, asset, partition)
    is_over = failures_over(instance, source.load())
    assert is_over(failure(asset, partition))
    assert not is_over(failure(asset, partition, hours=1)), "it failed again after that"
    assert not is_over(failure("lora_evaluation")), "another step"
    assert partition is None or not is_over(failure(asset, "cluster_001")), "another partition"


def test_a_check_is_over_when_it_passed_last(instance, source) -> None:
    """A check that refused stays open although its asset was made, until it passes for that partition."""
    checked(instance, passed=False)
    refused = failure(CHECK, asset="training_dataset")
    assert not failures_over(instance, source.load())(refused)
    checked(instance, passed=True, partition="cluster_001")
    assert not failures_over(instance, source.load())(refused)
    checked(instance, passed=True)
    assert failures_over(instance, source.load())(refused)
    checked(instance, passed=False)
    assert not failures_over(instance, source.load())(refused)


def test_the_newest_evaluation_of_each_partition_counts(instance) -> None:
    """The planner asks for hundreds of partitions: one pass over the history answers for all."""
    for passed in (False, True):
        checked(instance, passed, "cluster_000")
        checked(instance, not passed, "cluster_001")
    latest = latest_evaluations(instance, "training_dataset", CHECK)
    assert {partition: found.passed for partition, found in latest.items()} == {
        "cluster_000": True,
        "cluster_001": False,
    }
    assert latest_evaluations(instance, "training_dataset", "captions_cover_dataset") == {}


def test_what_failed_for_a_removed_episode_is_over(instance, source, tmp_path) -> None:
    """An episode that left the source will never be made again; a source out of reach says nothing."""
    (tmp_path / "frames" / "e1").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "frames" / "e1" / "1.png")
    is_over = failures_over(instance, source.load())
    assert is_over(failure("frames", "e2")) and not is_over(failure("frames", "e1"))
    (tmp_path / "frames").rename(tmp_path / "unmounted")
    assert not failures_over(instance, source.load())(failure("frames", "e2"))


def test_a_crashed_check_is_known_by_its_asset() -> None:
    """The step of a check is named after both; as one name it would never be found again."""
    assert asset_of_step("training_dataset_captions_cover_dataset") == ("captions_cover_dataset", "training_dataset")
    assert asset_of_step("frames_frames_are_readable") == ("frames_are_readable", "frames")
    assert asset_of_step("character_members") == ("character_members", None)


def test_a_failure_alone_brings_a_new_report(source) -> None:
    """A failed step makes no file: without the log in the report's version nobody would see it in the gallery."""
    before = gallery_fingerprint(source.layout)
    append_failures(source.layout, [failure("lora_model")])
    assert gallery_fingerprint(source.layout) != before
    assert report_fingerprint(source.layout) == report_fingerprint(source.layout)


def test_what_is_left_failed_is_told_with_its_reason_and_the_command(instance, source) -> None:
    """Somebody who comes back after a weekend reads this check: what failed, why, and what makes it again."""

    def check() -> dg.AssetCheckEvaluation:
        result = dg.materialize(
            [catalog, gallery, nothing_is_left_failed], selection=dg.AssetSelection.checks(nothing_is_left_failed),
            instance=instance, resources={"settings": source}, raise_on_error=False,
        )  # fmt: skip
        return result.get_asset_check_evaluations()[0]

    assert check().passed
    append_failures(source.layout, [failure("lora_model")])
    told = check()
    assert not told.passed
    assert "`yokai run`" in (told.description or "")
    (row,) = told.metadata["sample"].records  # pyright: ignore[reportAttributeAccessIssue]
    assert (row.data["partition"], row.data["step"], row.data["reason"]) == ("cluster_000", "lora_model", "r")
