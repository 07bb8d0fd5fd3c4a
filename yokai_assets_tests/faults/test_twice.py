"""The same partition made by two runs at once: what is left is the whole work of one of them."""

import multiprocessing
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import yaml
from dagster._utils.tags import TagConcurrencyLimitsCounter

from yokai_assets.definitions import build_definitions
from yokai_assets.defs.operations import jobs
from yokai_assets.defs.operations.in_process import InProcessRunner
from yokai_assets.defs.operations.observing import Observer
from yokai_assets.defs.operations.planning import UPSTREAM, Work
from yokai_assets.defs.operations.report import RoadReport
from yokai_assets.defs.operations.session import _shipped_file, open_instance
from yokai_assets.defs.operations.space import SpaceKeeper
from yokai_assets.registry import RegistryStore
from yokai_assets.storage.parquet import read_table
from yokai_assets.tables import DATASET
from yokai_assets_tests.faults.road import HEAVY, LIMIT_SECONDS
from yokai_assets_tests.faults.sameness import differences, unfinished
from yokai_assets_tests.faults.undisturbed import Undisturbed, left_running
from yokai_assets_tests.town import Town, errors

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]

HERO = "cluster_000"
TO_DATASET = ("character_members", "character_profile", "captions", "training_dataset")
TO_REGISTRY = ("clusters", "group_quality", "character_registry")


def at_once(
    town: Town, job: str, partition: str | None, assets: tuple[str, ...], *changes: dict[str, Any]
) -> list[str]:
    """Have two processes make the same assets of a partition at once; returns what failed in them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    barrier, answers = context.Barrier(2), context.SimpleQueue()
    both = changes or ({}, {})
    arguments = [
        (town.folder, {**town.changes, **change}, Work(job, partition, assets), barrier, answers) for change in both
    ]
    processes = [context.Process(target=_make, args=words, daemon=True) for words in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LIMIT_SECONDS)
    for process in processes:
        if process.is_alive():
            process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    return [*answers.get(), *answers.get()]


def _make(folder: Path, changes: dict[str, Any], work: Work, barrier: Any, answers: Any) -> None:
    town = Town(folder, changes)
    definitions = build_definitions({"settings": town.source})
    report = RoadReport()
    settings, observer = town.source.load(), Observer()
    with open_instance(settings) as instance:
        space = SpaceKeeper(instance, settings, observer)
        runner = InProcessRunner(definitions, instance, town.layout, observer, space=space)
        barrier.wait(LIMIT_SECONDS)
        runner.run_all(lambda: iter(()), [work], report)
    answers.put(errors(report))


@pytest.mark.parametrize("file", ["dagster.yaml", "dagster.postgres.yaml"])
def test_the_queue_begins_no_second_run_of_a_partition(file: str) -> None:
    """Whoever launches what is at work already has it wait; others of its kind go on."""
    config = yaml.safe_load(_shipped_file(file).read_text())
    limits = config["concurrency"]["runs"]["tag_concurrency_limits"]

    def run(job: str, **tags: str) -> dg.DagsterRun:
        return dg.DagsterRun(job, tags={jobs.DOMAIN_TAG: job, **{f"dagster/{key}": tag for key, tag in tags.items()}})

    working = [run(jobs.EPISODES_JOB, partition="e01"), run(jobs.SERIES_JOB), run(jobs.REPORT_JOB)]
    counter = TagConcurrencyLimitsCounter(limits, working)
    assert all(counter.is_blocked(second) for second in working)
    assert not counter.is_blocked(run(jobs.EPISODES_JOB, partition="e02"))
    assert not counter.is_blocked(run(jobs.CHARACTERS_JOB, partition=HERO))


@pytest.mark.faults
@pytest.mark.parametrize(
    ("job", "partition", "assets"),
    [
        (jobs.EPISODES_JOB, "episode_001", tuple(UPSTREAM[jobs.EPISODES_JOB])),
        (jobs.SERIES_JOB, None, TO_REGISTRY),
        (jobs.CHARACTERS_JOB, HERO, TO_DATASET),
    ],
    ids=["episode", "series", "character"],
)
def test_two_runs_of_a_partition_leave_what_one_leaves(
    small: Undisturbed, job: str, partition: str | None, assets: tuple[str, ...]
) -> None:
    """Launched twice by mistake (UI and command, two clicks): nothing fails, nothing differs, nothing is left over."""
    root = small.restore()
    assert at_once(small.town, job, partition, assets) == []
    found = [line for line in differences(small.reference, root) if "outputs/demo/pipeline" not in line]
    assert found == [] and unfinished(root) == [] and left_running(small.town) == []


def test_two_runs_of_other_settings_leave_the_whole_of_one(small: Undisturbed) -> None:
    """Of two datasets built at once with other settings, table, images and captions are all of the same one."""
    root = small.restore()
    few = {"dataset": {"min_images": 3, "max_images": 5}}
    assert at_once(small.town, jobs.CHARACTERS_JOB, HERO, TO_DATASET, {}, few) == []
    folder = Path(str(small.town.layout.training_data(HERO)))
    rows = read_table(DATASET, small.town.layout.table("training_dataset", HERO)).filter(pl.col("split") == "train")
    assert {path.stem for path in folder.glob("*.png")} == {Path(name).stem for name in rows["image"]}
    assert {path.stem for path in folder.glob("*.txt")} == {path.stem for path in folder.glob("*.png")}
    assert unfinished(root) == []


@pytest.mark.faults
def test_two_registries_at_once_are_one(small: Undisturbed) -> None:
    """Two runs that change the registry at once: its newest version is whole, and no id has moved."""
    root = small.restore()
    before = RegistryStore(small.town.layout.registry).load()
    other = {"registry": {"match_min_jaccard": 0.4}}
    assert at_once(small.town, jobs.SERIES_JOB, None, ("character_registry",), {}, other) == []
    now = RegistryStore(small.town.layout.registry).load()
    assert before is not None and now is not None
    assert now.members.sort("instance_id").equals(before.members.sort("instance_id"))
    assert unfinished(root) == []
