"""When a failure of the log is over, by Dagster's own records: whoever mended it, here or in the UI.

Reading only. The log itself and what the report shows of it are in `yokai_assets.gallery`.
"""

import dagster as dg
from upath import UPath

from yokai_assets.defs.checking import LatestEvaluation, latest_evaluations
from yokai_assets.defs.policies import POLICIES
from yokai_assets.frames.episodes import discover_episodes
from yokai_assets.gallery.failures import FailureRecord, IsOver
from yokai_assets.settings import Settings


def failures_over(instance: dg.DagsterInstance, settings: Settings) -> IsOver:
    """Return what says whether a failure is over.

    A failed step is over when its asset was made for that partition since; a check, when it passed since. What failed
    for an episode that has left the frames source is over too.
    """
    present = _present_episodes(settings)
    evaluations: dict[tuple[str, str], dict[str | None, LatestEvaluation]] = {}

    def is_over(failure: FailureRecord) -> bool:
        asset = failure.asset or failure.step
        if asset not in POLICIES:
            return False
        if POLICIES[asset].group == "episodes" and present and failure.partition not in present:
            return True
        if failure.asset is None:
            return _is_made_since(instance, failure)
        if (asset, failure.step) not in evaluations:
            evaluations[asset, failure.step] = latest_evaluations(instance, asset, failure.step)
        latest = evaluations[asset, failure.step].get(failure.partition)
        return latest is not None and latest.passed and latest.at > failure.at

    return is_over


def _is_made_since(instance: dg.DagsterInstance, failure: FailureRecord) -> bool:
    made = dg.AssetRecordsFilter(
        asset_key=dg.AssetKey(failure.step),
        asset_partitions=[failure.partition] if failure.partition else None,
        after_timestamp=failure.at.timestamp(),
    )
    return bool(instance.fetch_materializations(made, limit=1).records)


def _present_episodes(settings: Settings) -> frozenset[str]:
    """Return the keys in the frames source; none where it cannot be seen, which says nothing of its episodes."""
    source = UPath(settings.frames_source)
    if not source.exists():
        return frozenset()
    episodes, _ = discover_episodes(source)
    return frozenset(episode.key for episode in episodes)
