"""The whole road on a tiny series, through a real Dagster instance: made once, found unchanged, then grown."""

import json
from collections.abc import Iterator

import dagster as dg
import polars as pl
import pytest

from yokai_assets.defs.characters import models
from yokai_assets.defs.operations.report import RoadReport
from yokai_assets.defs.operations.workers import PROCESS_TAG, release_dead_runs
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.registry import RegistryStore
from yokai_assets.storage.database import open_read_only
from yokai_assets.storage.parquet import read_partitions, read_table
from yokai_assets.tables import DATASET, EVALUATIONS, FRAMES, MEMBERS
from yokai_assets.training.export import read_header
from yokai_assets.training.files import TrainingFiles
from yokai_assets.training.images import TrainingItem
from yokai_assets.training.loop import TrainingDivergedError
from yokai_assets.training.trainer import train_lora
from yokai_assets_tests.town import SMALL, Town, errors, last_checkpoint

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]

SECRET = "hunter2-secret"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    town = Town(tmp_path_factory.mktemp("town"))
    town.draw(2)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("YOKAI_OPERATIONS__FAILURE_WEBHOOK", f"http://127.0.0.1:9/{SECRET}")
        for name in ("YOKAI_POSTGRES_PASSWORD", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, SECRET)
        yield town


@pytest.fixture(scope="module")
def first(town: Town) -> RoadReport:
    return town.drive()


def test_the_road_leads_from_frames_to_loras(town: Town, first: RoadReport):
    """Every stage does its work for real: frames in, datasets, LoRAs and evaluations out, nothing fails."""
    assert errors(first) == []
    registry = RegistryStore(town.layout.registry).load()
    assert registry is not None and len(registry.trainable_ids()) == 2
    for character in registry.trainable_ids():
        dataset = read_table(DATASET, town.layout.table("training_dataset", character))
        assert {"train", "held_out"} == set(dataset["split"])
        assert (town.layout.lora(character) / f"{character}-step000004.safetensors").exists()
        judged = read_table(EVALUATIONS, town.layout.table("lora_evaluation", character))
        assert set(judged["step"]) == {0, 4}


def test_broken_files_are_reported_and_harm_nothing(town: Town, first: RoadReport):
    """Planted faults are rows with reasons; the episodes that hold them go all the way."""
    frames = read_partitions(FRAMES, town.layout.tables / "frames")
    broken = frames.filter(pl.col("status") == "unreadable")
    assert broken.height > 0 and broken["reason"].null_count() == 0
    assert not [f for f in first.failures if f.partition and f.partition.startswith("episode")]


def test_everything_is_found_in_sql_and_in_the_gallery(town: Town, first: RoadReport):
    """The catalog answers questions, the gallery can be opened."""
    with open_read_only(town.layout.database) as connection:
        rows = connection.sql("SELECT count(*) FROM members JOIN instances USING (instance_id)").fetchall()
    assert rows[0][0] > 0
    assert (town.layout.gallery / "index.html").exists()
    assert (town.layout.pipeline / "pipeline_results.json").exists()


def test_no_secret_is_written_down(town: Town, first: RoadReport):
    """Secrets of the environment are in no log, record, run configuration, tag, LoRA header or report."""
    files = [file for file in (town.folder / "data").rglob("*") if file.is_file()]
    assert any(file.suffix == ".db" for file in files) and any(file.suffix == ".safetensors" for file in files)
    assert [file for file in files if SECRET.encode() in file.read_bytes()] == []


def test_second_start_finds_nothing_to_do(town: Town, first: RoadReport):
    """Resuming must cost nothing: no run is started when nothing changed."""
    second = town.drive()
    repeated = [work.why for work, _, _ in second.runs]
    stopped = [f for f in first.failures if f.is_check]
    assert repeated == [], f"planned again: {repeated} (stopped by checks at first: {stopped})"


def test_materializations_say_what_made_them(town: Town, first: RoadReport):
    """In the UI each partition shows rows, seconds, a picture and its versions."""
    with town.instance() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey("character_layers"))
        assert event is not None and event.asset_materialization is not None
        made = event.asset_materialization
    assert {"instance_count", "seconds", "contact_sheet", "matte_fingerprint", "dagster/partition_row_count"} <= set(
        made.metadata
    )
    assert {"dagster/data_version", "dagster/code_version", "yokai/settings"} <= set(made.tags or {})


def test_a_lora_names_the_version_of_its_dataset(town: Town, first: RoadReport):
    """Lineage must hold outside Dagster too: header and metadata name the very version that the UI shows."""
    with town.instance() as instance:
        dataset, lora = (
            instance.fetch_materializations(
                dg.AssetRecordsFilter(asset_key=dg.AssetKey(name), asset_partitions=["cluster_000"]), limit=1
            ).records[0].asset_materialization
            for name in ("training_dataset", "lora_model")
        )  # fmt: skip
    assert dataset is not None and lora is not None
    version = (dataset.tags or {})["dagster/data_version"]
    header = read_header(last_checkpoint(town, "cluster_000"))
    assert header["yokai_dataset_version"] == lora.metadata["dataset_version"].value == version
    rows = read_table(DATASET, town.layout.table("training_dataset", "cluster_000")).filter(split="train")
    assert json.loads(header["yokai_training_images"]).keys() == set(rows["instance_id"])
    assert lora.metadata["training_images"].value == json.loads(header["yokai_training_images"])


def test_a_killed_run_does_not_block_the_next(town: Town, first: RoadReport):
    """A killed process leaves a started run behind and its pool slot taken; both are released at the next start."""
    with town.instance() as instance:
        run = instance.create_run_for_job(
            _trivial_job(), tags={PROCESS_TAG: str(2**22 + 7)}, status=dg.DagsterRunStatus.STARTED
        )
        assert run.run_id in release_dead_runs(instance)
        assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE  # type: ignore[union-attr]


def test_a_new_episode_touches_only_what_it_changes(town: Town, first: RoadReport):
    """One more episode: its own partition, the series, the characters that gained members, the report. Ids stay."""
    before = RegistryStore(town.layout.registry).load()
    town.draw(3)
    report = town.drive()
    assert errors(report) == []
    episodes = [work.partition for work, _, _ in report.runs if work.job == "episodes"]
    assert episodes == ["episode_003"]
    now = RegistryStore(town.layout.registry).load()
    assert before is not None and now is not None
    moved = before.members.join(now.members, on="instance_id").filter(
        pl.col("character_id") != pl.col("character_id_right")
    )
    assert moved.height <= 0.05 * before.members.height, "known instances changed their character"
    changed = {work.partition for work, _, _ in report.runs if work.job == "characters"}
    grown = {
        key
        for key in now.trainable_ids()
        if set(now.members.filter(pl.col("character_id") == key)["instance_id"])
        != set(before.members.filter(pl.col("character_id") == key)["instance_id"])
    }
    assert changed == grown
    for key in grown:
        members = read_table(MEMBERS, town.layout.table("character_members", key))
        assert set(members["episode"]) >= {"episode_003"} or key not in changed


def test_fewer_episodes_asked_for_drops_none(town: Town, first: RoadReport):
    """`--total-episodes 1` says what to make now: episodes made before stay in the index, and no character retires."""
    before = RegistryStore(town.layout.registry).load()
    report = town.drive(total_episodes=1)
    now = RegistryStore(town.layout.registry).load()
    assert [work.why for work, _, _ in report.runs] == []
    assert before is not None and now is not None and before.version == now.version
    with open_read_only(town.layout.database) as connection:
        indexed = {row[0] for row in connection.sql("SELECT DISTINCT episode FROM embeddings").fetchall()}
    assert "episode_002" in indexed


def test_an_episode_that_left_the_source_is_named_and_stays(town: Town, first: RoadReport):
    """A folder deleted to save space must neither crash the next start nor take its characters along silently."""
    folder, aside = town.folder / "frames" / "episode_002", town.folder / "aside"
    folder.rename(aside)
    try:
        report = town.drive()
    finally:
        aside.rename(folder)
    assert report.runs == [] and errors(report) == []
    assert [problem.path for problem in report.problems] == ["episode_002"]
    assert "stays in the series" in report.problems[0].remedy


def test_a_training_that_fails_stops_no_other(town: Town, first: RoadReport, monkeypatch: pytest.MonkeyPatch):
    """One character's loss explodes: the others get their LoRAs, its own of before stays, and the reason is kept."""
    trained = []

    def train_or_diverge(items: list[TrainingItem], files: TrainingFiles, *args: object, **kwargs: object) -> object:
        trained.append(files.name)
        if files.name == "cluster_000":
            raise TrainingDivergedError("the loss is nan at step 2: training diverged.")
        return train_lora(items, files, *args, **kwargs)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(models, "train_lora", train_or_diverge)
    kept = last_checkpoint(town, "cluster_000")
    before = kept.read_bytes()
    town.source = SettingsResource.of(
        overrides={**town.source.overrides, "training": {**SMALL["training"], "learning_rate": 1e-3}}
    )
    report = town.drive()
    assert set(trained) >= {"cluster_000", "cluster_001"}
    assert [message for message in errors(report) if "loss is nan" in message]
    assert all(message.startswith("cluster_000 ") for message in errors(report))
    assert read_header(last_checkpoint(town, "cluster_001"))["ss_learning_rate"] == "0.001"
    assert last_checkpoint(town, "cluster_000").read_bytes() == before


def _trivial_job() -> dg.JobDefinition:
    @dg.op
    def nothing() -> None: ...

    @dg.job
    def trivial() -> None:
        nothing()

    return trivial
