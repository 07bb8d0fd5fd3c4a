"""What there is to do: which assets of which partitions are missing or out of date, and why.

Reads Dagster's own records (materializations, their versions and tags, check results) and the settings; starts
nothing. `launching` runs what this module names.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import dagster as dg

from yokai_assets.captioning import overrides_fingerprint
from yokai_assets.datasets import edits_fingerprint
from yokai_assets.defs.characters.dataset import dataset_fingerprint
from yokai_assets.defs.characters.inputs import with_pixels
from yokai_assets.defs.checking import BLOCKING_CHECKS, LatestEvaluation, latest_evaluations
from yokai_assets.defs.operations import jobs
from yokai_assets.defs.policies import POLICIES
from yokai_assets.defs.reports.assets import gallery_fingerprint, report_fingerprint
from yokai_assets.defs.reports.comparison import comparison_fingerprint
from yokai_assets.defs.results import CODE_VERSION_TAG, SETTINGS_TAG, SOURCE_TAG, settings_fingerprint
from yokai_assets.defs.series.assets import frames_fingerprint, index_fingerprint
from yokai_assets.defs.series.registry import decisions_fingerprint, plates_fingerprint
from yokai_assets.frames.episodes import EpisodeSource, source_fingerprint
from yokai_assets.registry import RegistryStore, member_fingerprint
from yokai_assets.retention.ledger import removed_layers
from yokai_assets.settings import Settings
from yokai_assets.storage.layout import Layout

DATA_VERSION_TAG = "dagster/data_version"
INPUT_VERSION_TAG = "dagster/input_data_version/"

UPSTREAM: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    jobs.EPISODES_JOB: {
        "frames": (),
        "character_layers": ("frames",),
        "background_layers": ("frames", "character_layers"),
        "embeddings": ("character_layers",),
    },
    jobs.SERIES_JOB: {
        "repeated_frames": (),
        "embedding_index": (),
        "clusters": ("embedding_index", "repeated_frames"),
        "group_quality": ("embedding_index", "clusters"),
        "character_registry": ("clusters", "group_quality"),
        "regularisation_set": ("character_registry",),
    },
    jobs.CHARACTERS_JOB: {
        "character_members": (),
        "character_profile": ("character_members",),
        "captions": ("character_members", "character_profile"),
        "training_dataset": ("character_members", "captions"),
        "lora_model": ("training_dataset",),
        "lora_evaluation": ("lora_model", "training_dataset", "captions", "character_members"),
        "published_lora": ("lora_evaluation",),
    },
    jobs.REPORT_JOB: {"lora_comparison": (), "catalog": ("lora_comparison",), "gallery": ("catalog",)},
}
"""Job -> asset -> assets of the same partition that it reads, in the order of the road."""


NOT_MADE = "not made yet"

LAYER_READERS = frozenset(
    ("background_layers", "embeddings", "character_profile", "captions", "training_dataset", "regularisation_set")
)
"""Assets that read files of layers. That these were removed to save space makes nothing stale: whoever reads a removed
layer makes it again first (`yokai_assets.defs.layers`)."""

RESTORING = " (layers that it reads and that were removed are made again first)"


@dataclass(frozen=True, slots=True)
class Work:
    """Assets of one partition to be made in one run."""

    job: str
    partition: str | None
    assets: tuple[str, ...]
    reasons: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def why(self) -> str:
        """The reason of the first asset: the others follow from it; and what else is done for it."""
        return f"{self.assets[0]}: {self.reasons[self.assets[0]]}{self.note}"

    @property
    def what_changed(self) -> str | None:
        """Why it is made again; None where it was not made before."""
        return None if self.reasons[self.assets[0]] == NOT_MADE else self.why


class Planner:
    """Finds what is missing or out of date in one data root."""

    def __init__(self, instance: dg.DagsterInstance, settings: Settings) -> None:
        self._instance = instance
        self._settings = settings
        self._layout = Layout.of(settings)
        self._evaluations: dict[tuple[str, str], dict[str | None, LatestEvaluation]] = {}
        self._removed: frozenset[str] = frozenset()

    def episodes(self, episodes: list[EpisodeSource]) -> Iterator[Work]:
        """Yield the work of each episode that has any."""
        self._evaluations.clear()
        self._removed = frozenset(removed_layers(self._layout))
        for episode in episodes:
            sources = {"frames": source_fingerprint(episode)}
            yield from self._work(jobs.EPISODES_JOB, episode.key, sources, episodes=frozenset((episode.key,)))

    def series(self) -> Iterator[Work]:
        """Yield the work of the series, if any."""
        self._evaluations.clear()
        sources = {
            "repeated_frames": frames_fingerprint(self._layout),
            "embedding_index": index_fingerprint(self._layout),
            "character_registry": decisions_fingerprint(self._layout),
            "regularisation_set": plates_fingerprint(self._settings, self._layout),
        }
        yield from self._work(jobs.SERIES_JOB, None, sources)

    def characters(self, keys: list[str]) -> Iterator[Work]:
        """Yield the work of each character that has any."""
        registry = RegistryStore(self._layout.registry).load()
        if registry is None:
            return
        self._evaluations.clear()
        seen = with_pixels(registry.members, self._layout, skip_damaged=True)  # the step itself names a damaged file
        by_character = seen.partition_by("character_id", as_dict=True)
        self._removed = frozenset(removed_layers(self._layout))
        for key in keys:
            members = by_character.get((key,))
            if members is not None:
                sources = {
                    "captions": overrides_fingerprint(self._layout, key),
                    "training_dataset": dataset_fingerprint(edits_fingerprint(self._layout, key), self._layout, key),
                }
                versions = {"character_members": member_fingerprint(members)}
                episodes = frozenset(members["instance_id"].str.split("/").list.first())
                yield from self._work(jobs.CHARACTERS_JOB, key, sources, versions, episodes)

    def is_stopped(self, job: str, asset: str) -> bool:
        """Say whether a blocking check failed on something of its job that an unpartitioned asset is made from."""
        self._evaluations.clear()
        before = UPSTREAM[job][asset]
        return any(self._is_refused(name, None) or self.is_stopped(job, name) for name in before)

    def report(self) -> Iterator[Work]:
        """Yield the work of the report, if any."""
        sources = {
            "lora_comparison": comparison_fingerprint(self._layout),
            "catalog": report_fingerprint(self._layout),
            "gallery": gallery_fingerprint(self._layout),
        }
        self._evaluations.clear()
        yield from self._work(jobs.REPORT_JOB, None, sources)

    def _work(
        self,
        job: str,
        partition: str | None,
        sources: Mapping[str, str],
        versions: Mapping[str, str] | None = None,
        episodes: frozenset[str] = frozenset(),
    ) -> Iterator[Work]:
        reasons: dict[str, str] = {}
        stopped: set[str] = set()
        records = {asset: self._record(asset, partition) for asset in UPSTREAM[job]}
        for asset, upstream in UPSTREAM[job].items():
            if any(name in stopped for name in upstream):
                stopped.add(asset)
                continue
            reason = self._reason(
                asset, partition, records, upstream, reasons, sources.get(asset), (versions or {}).get(asset)
            )
            if reason:
                reasons[asset] = reason
            elif self._is_refused(asset, partition):
                stopped.add(asset)
        if reasons:
            is_restoring = not LAYER_READERS.isdisjoint(reasons) and not self._removed.isdisjoint(episodes)
            yield Work(job, partition, tuple(reasons), reasons, RESTORING if is_restoring else "")

    def _reason(
        self,
        asset: str,
        partition: str | None,
        records: Mapping[str, dg.EventLogRecord | None],
        upstream: tuple[str, ...],
        planned: Mapping[str, str],
        source: str | None,
        version: str | None,
    ) -> str | None:
        record = records[asset]
        if record is None:
            return NOT_MADE
        tags = _tags(record)
        if tags.get(CODE_VERSION_TAG) != POLICIES[asset].code_version:
            return "its code changed"
        if tags.get(SETTINGS_TAG) != settings_fingerprint(self._settings, asset):
            return "its settings changed"
        if source is not None and tags.get(SOURCE_TAG) != source:
            return "its source changed"
        if version is not None and tags.get(DATA_VERSION_TAG) != version:
            return "its members changed"
        for name in upstream:
            if name in planned or not _read_version(tags, name, records[name]):
                return f"{name} changed"
        if self._is_unchecked(asset, partition, record):
            return "its checks were not made"
        return None

    def _record(self, asset: str, partition: str | None) -> dg.EventLogRecord | None:
        key = dg.AssetKey(asset)
        found = self._instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition] if partition else None), limit=1
        )
        return found.records[0] if found.records else None

    def _is_refused(self, asset: str, partition: str | None) -> bool:
        """Say whether a blocking check failed on what is there: what follows must not be made from it."""
        return any(found is not None and found.is_blocking for found in self._latest_evaluations(asset, partition))

    def _is_unchecked(self, asset: str, partition: str | None, record: dg.EventLogRecord) -> bool:
        """Say whether a blocking check has said nothing of what is there: the run was killed before it could."""
        return any(
            found is None or (found.materialization_id or 0) < record.storage_id
            for found in self._latest_evaluations(asset, partition)
        )

    def _latest_evaluations(self, asset: str, partition: str | None) -> Iterator[LatestEvaluation | None]:
        for name in BLOCKING_CHECKS.get(asset, ()):
            if (asset, name) not in self._evaluations:
                self._evaluations[asset, name] = latest_evaluations(self._instance, asset, name)
            yield self._evaluations[asset, name].get(partition)


def _tags(record: dg.EventLogRecord) -> Mapping[str, str]:
    materialization = record.asset_materialization
    return (materialization.tags if materialization else None) or {}


def _read_version(tags: Mapping[str, str], name: str, upstream: dg.EventLogRecord | None) -> bool:
    """Say whether what was read of `name` is what is there now.

    Dagster records the version itself for an unpartitioned input and its sha256 for a partitioned one.
    """
    now = _tags(upstream).get(DATA_VERSION_TAG) if upstream else None
    read = tags.get(INPUT_VERSION_TAG + name)
    return now is not None and read in (now, hashlib.sha256(now.encode()).hexdigest())
