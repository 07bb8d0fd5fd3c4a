"""The planner: it names what is missing or out of date, and nothing else."""

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from PIL import Image
from upath import UPath

from yokai_assets.defs.checking import BLOCKING_CHECKS
from yokai_assets.defs.operations.planning import CODE_VERSION_TAG, DATA_VERSION_TAG, INPUT_VERSION_TAG, Planner
from yokai_assets.defs.policies import POLICIES
from yokai_assets.defs.results import SETTINGS_TAG, SOURCE_TAG, settings_fingerprint
from yokai_assets.frames.episodes import discover_episodes, source_fingerprint
from yokai_assets.retention.ledger import LayerKind, Removed, note_removal
from yokai_assets.storage.layout import Layout
from yokai_assets_tests.defs.events import report_check

ROAD = {"frames": [], "character_layers": ["frames"], "background_layers": ["frames", "character_layers"],
        "embeddings": ["character_layers"]}  # fmt: skip


class Episode:
    """An episode on disk and its materializations, as runs would have recorded them."""

    def __init__(self, source, instance, name: str = "e1") -> None:
        self.settings = source.load()
        self.instance = instance
        folder = Path(self.settings.frames_source) / name
        folder.mkdir()
        Image.new("RGB", (8, 8)).save(folder / "1.png")
        self.file = folder / "1.png"
        self.source = discover_episodes(UPath(self.settings.frames_source))[0][0]
        self.versions: dict[str, str] = {}

    def made(
        self,
        asset: str,
        version: str = "v1",
        *,
        code: str | None = None,
        sha_inputs: bool = False,
        is_checked: bool = True,
    ) -> None:
        self.versions[asset] = version
        tags = {
            CODE_VERSION_TAG: code or POLICIES[asset].code_version,
            DATA_VERSION_TAG: version,
            SETTINGS_TAG: settings_fingerprint(self.settings, asset),
        }
        if asset == "frames":
            tags[SOURCE_TAG] = source_fingerprint(self.source)
        for name in ROAD[asset]:
            read = self.versions[name]
            tags[INPUT_VERSION_TAG + name] = hashlib.sha256(read.encode()).hexdigest() if sha_inputs else read
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization(dg.AssetKey(asset), partition=self.source.key, tags=tags)
        )
        for check in BLOCKING_CHECKS.get(asset, ()) if is_checked else ():
            report_check(self.instance, asset, check, self.source.key)

    def all_made(self, **kwargs) -> None:
        for asset in ROAD:
            self.made(asset, **kwargs)

    def plan(self, settings=None) -> dict[str, str]:
        work = list(Planner(self.instance, settings or self.settings).episodes([self.source]))
        assert len(work) <= 1
        return dict(work[0].reasons) if work else {}


@pytest.fixture
def episode(source, instance) -> Episode:
    return Episode(source, instance)


def test_a_new_episode_is_made_whole(episode):
    """Everything of a partition that was never made is planned, in the order of the road."""
    assert list(episode.plan()) == list(ROAD)


@pytest.mark.parametrize("sha_inputs", [False, True])
def test_nothing_changed_nothing_planned(episode, sha_inputs):
    """The second start must find nothing to do, in either form in which Dagster records an input's version."""
    episode.all_made(sha_inputs=sha_inputs)
    assert episode.plan() == {}


def test_a_touched_file_is_seen(episode):
    """A frame that was exchanged on disk must be read again, and what follows from it."""
    episode.all_made()
    os.utime(episode.file, ns=(1, 1))
    assert episode.plan()["frames"] == "its source changed"


def test_same_content_stops_the_wave(episode):
    """When frames are made again with the same content, nothing after them is out of date."""
    episode.all_made()
    os.utime(episode.file, ns=(1, 1))
    episode.made("frames", "v1")
    assert episode.plan() == {}


def test_new_content_travels_on(episode):
    """When frames come out differently, exactly what reads them is out of date, and what reads that."""
    episode.all_made()
    episode.made("frames", "v2")
    assert list(episode.plan()) == ["character_layers", "background_layers", "embeddings"]


def test_changed_settings_hit_their_stage(episode):
    """A changed embedding model concerns the embeddings, not the layers; a device concerns nothing."""
    episode.all_made()
    settings = episode.settings
    other = settings.model_copy(update={"embedding": settings.embedding.model_copy(update={"model": "ViT-L-14"})})
    assert list(episode.plan(other)) == ["embeddings"]
    assert episode.plan(settings.model_copy(update={"device": "auto"})) == {}


def test_changed_code_hits_its_stage(episode):
    """A new code version makes its asset again, and what follows."""
    episode.made("frames")
    episode.made("character_layers", code="0")
    episode.made("background_layers")
    episode.made("embeddings")
    assert episode.plan()["character_layers"] == "its code changed"


def test_removed_layers_are_not_stale_and_are_made_again_for_whoever_reads_them(episode):
    """Space that was freed must start no run; a run that reads a removed layer says that it makes that again first."""
    episode.all_made()
    layout = Layout.of(episode.settings)
    removed = Removed(at=datetime.now(UTC), file_count=1, size_bytes=1, policy="until_dataset")
    note_removal(layout, episode.source.key, LayerKind.CHARACTERS, removed)
    assert episode.plan() == {}
    embedding = episode.settings.embedding.model_copy(update={"model": "ViT-L-14"})
    changed = Planner(episode.instance, episode.settings.model_copy(update={"embedding": embedding}))
    assert [work.why for work in changed.episodes([episode.source])] == [
        "embeddings: its settings changed (layers that it reads and that were removed are made again first)"
    ]


def test_a_failed_blocking_check_stops_what_follows(episode):
    """What a blocking check refused must not be built upon by a later, separate run."""
    episode.made("frames", is_checked=False)
    report_check(episode.instance, "frames", "frames_are_readable", episode.source.key, passed=False)
    assert episode.plan() == {}


def test_what_was_made_but_not_checked_is_made_again(episode):
    """A run killed between an asset and its blocking checks must not let unchecked data through, nor an old verdict."""
    episode.all_made()
    episode.made("frames", is_checked=False)
    assert episode.plan()["frames"] == "its checks were not made"
    report_check(episode.instance, "frames", "frames_are_readable", episode.source.key)
    assert episode.plan() == {}
