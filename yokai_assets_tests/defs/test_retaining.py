"""Retention and room on the disk, on Dagster's records: what is needed, what the UI is told, when nothing is begun."""

import shutil
from collections import namedtuple
from typing import Any

import dagster as dg
import polars as pl
import pytest

from yokai_assets.definitions import build_definitions
from yokai_assets.defs.operations import retaining
from yokai_assets.defs.operations.in_process import InProcessRunner
from yokai_assets.defs.operations.observing import Observer
from yokai_assets.defs.operations.planning import NOT_MADE, Work
from yokai_assets.defs.operations.report import Interrupted, RoadReport
from yokai_assets.defs.operations.retaining import needs_of, retain
from yokai_assets.defs.operations.space import SpaceKeeper
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.registry import RegistryStore
from yokai_assets.storage.layout import Layout
from yokai_assets_tests.defs.test_planning import Episode
from yokai_assets_tests.registry.series import ids, update


@pytest.fixture
def episode(source, instance) -> Episode:
    """An episode that is made, with a cut-out on disk."""
    episode = Episode(source, instance)
    episode.all_made()
    folder = Layout.of(episode.settings).character_layers("e1")
    folder.mkdir(parents=True)
    (folder / "1.webp").write_bytes(bytes(2_000_000))
    return episode


def asking(episode: Episode, **retention: Any):
    retention = {"layers": "until_dataset", **retention}
    return episode.settings.model_copy(update={"retention": episode.settings.retention.model_copy(update=retention)})


@pytest.fixture
def clustered(episode, monkeypatch: pytest.MonkeyPatch) -> Episode:
    """... and clustered: two characters, one of them seen in it; what is to be made of them is told by the test."""
    registry = update(None, [(0, ids(0, 9, "e1")), (1, ids(0, 9, "e2"))])
    RegistryStore(Layout.of(episode.settings).registry).save(registry)
    monkeypatch.setattr(retaining.Planner, "series", lambda self: iter(()))
    return episode


def plan_characters(monkeypatch: pytest.MonkeyPatch, *work: Work) -> None:
    monkeypatch.setattr(retaining.Planner, "characters", lambda self, keys: iter(work))


def test_nothing_goes_before_there_are_characters(episode, instance):
    """An episode that was just cut out is what everything else will be made of."""
    needs = needs_of(instance, asking(episode))
    assert (
        not needs.episodes
        and needs.wanted["e1"] == "the series is to be clustered first (repeated_frames: not made yet)"
    )


def test_layers_stay_until_everybody_seen_in_them_has_a_training_set(clustered, instance, monkeypatch):
    """Exactly the episodes of characters that will read layers are needed; one that only trains reads none."""
    registry = RegistryStore(Layout.of(clustered.settings).registry).load()
    assert registry is not None
    mine = registry.members.filter(pl.col("episode") == "e1")["character_id"][0]
    other = next(key for key in registry.characters["character_id"] if key != mine)

    def to_make(character: str, *assets: str) -> Work:
        return Work("characters", character, assets, dict.fromkeys(assets, NOT_MADE))

    plan_characters(monkeypatch, to_make(mine, "training_dataset", "lora_model"))
    assert needs_of(instance, asking(clustered)).wanted == {
        "e1": f"{mine} is seen in it; training_dataset is to be made (not made yet)"
    }
    plan_characters(monkeypatch, to_make(other, "training_dataset"), to_make(mine, "lora_model"))
    needs = needs_of(instance, asking(clustered))
    assert "e1" not in {*needs.episodes, *needs.wanted} and set(needs.characters) == {mine, other}


def test_what_could_not_be_made_again_stays(clustered, instance, monkeypatch):
    """Frames on an unplugged disk, or clusters that were imported: their layers are all there is."""
    plan_characters(monkeypatch)
    clustered.file.unlink()
    clustered.file.parent.rmdir()
    why = needs_of(instance, asking(clustered)).episodes["e1"]
    assert why.startswith("it is not in ") and why.endswith("could not be made again")


def test_the_ui_is_told_and_nothing_is_asked_for_because_of_it(clustered, instance, monkeypatch):
    """A removal is an event of its partition, no materialization, and no news to automation."""
    plan_characters(monkeypatch)
    definitions = build_definitions()
    instance.add_dynamic_partitions("episodes", ["e1"])
    episodes = dg.AssetSelection.groups("episodes")
    cursor = dg.evaluate_automation_conditions(definitions, instance, episodes).cursor
    _, result = retain(instance, asking(clustered))
    assert result.freed_bytes == 2_000_000
    of = dg.AssetRecordsFilter(dg.AssetKey("character_layers"), asset_partitions=["e1"])
    (told,) = instance.fetch_observations(of, limit=2).records
    observation = told.event_log_entry.asset_observation
    assert observation is not None and observation.metadata["removed_bytes"].value == 2_000_000
    assert "Nothing is stale" in str(observation.metadata["removed"].value)
    after = dg.evaluate_automation_conditions(definitions, instance, episodes, cursor=cursor)
    assert after.total_requested == 0
    assert clustered.plan() == {}


class Heard(Observer):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """A disk whose free space the test sets (GB)."""
    free = {"gb": 100.0}
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 0, int(free["gb"] * 1e9)))
    return free


def test_nothing_is_begun_on_a_full_disk_until_there_is_room(episode, instance, disk):
    """A run pauses before the disk is full, says so once, and goes on by itself."""
    heard = Heard()
    space = SpaceKeeper(instance, asking(episode, layers="keep", min_free_gb=5.0), heard)
    assert space.has_room() and heard.notices == []
    disk["gb"] = 4.9
    assert [space.has_room(), space.has_room()] == [False, False]
    assert len(heard.notices) == 1 and "PAUSED: only 4.9 GB are free" in heard.notices[0]
    disk["gb"] = 5.1
    assert space.has_room() and "going on: 5.1 GB" in heard.notices[1]


def test_a_paused_run_can_be_stopped(episode, instance, disk):
    """`yokai stop` must end a run that waits for room; nothing was begun."""
    disk["gb"] = 0.0
    heard, asked = Heard(), iter([False, True, True])
    space = SpaceKeeper(instance, episode.settings, heard)
    runner = InProcessRunner(
        dg.Definitions(), instance, Layout.of(episode.settings), heard, space=space, is_stop_asked=lambda: next(asked)
    )
    report = RoadReport()
    with pytest.raises(Interrupted):
        runner.run_all(lambda: iter(()), [Work("episodes", "e1", ("frames",), {"frames": NOT_MADE})], report)
    assert not report.runs


def test_what_does_not_fit_is_said_before_it_is_begun(episode, instance, disk):
    """One frame of 20 kB fits into 100 GB without a word; into 10 kB it does not."""
    heard, work = Heard(), [Work("episodes", "e1", ("frames",), {"frames": NOT_MADE})]
    space = SpaceKeeper(instance, asking(episode, min_free_gb=5.0), heard)
    space.foretell("episodes", work)
    assert heard.notices == []
    disk["gb"] = 5.00001
    space.foretell("episodes", work)
    assert "THAT DOES NOT FIT" in heard.notices[0]


def test_the_job_frees_space_from_the_ui(clustered, instance, monkeypatch):
    """The weekly schedule's job does what `yokai space --apply` does, and shows bytes before and after."""
    plan_characters(monkeypatch)
    values = asking(clustered).model_dump(mode="json", exclude={"operations"})
    source = SettingsResource.of(
        overrides={k: values[k] for k in ("data_root", "frames_source", "retention", "profile")}
    )
    job = build_definitions({"settings": source}).resolve_job_def("retention")
    dry = {"ops": {"free_space": {"config": {"is_dry_run": True}}}}
    for run_config, left in ((dry, True), ({}, False)):
        result = job.execute_in_process(instance=instance, run_config=run_config)
        assert result.success
        assert (Layout.of(clustered.settings).character_layers("e1") / "1.webp").exists() is left
    (event,) = [e for e in result.all_events if e.event_type_value == "STEP_OUTPUT"]
    metadata = event.step_output_data.metadata
    assert metadata["freed_bytes"].value == 2_000_000
