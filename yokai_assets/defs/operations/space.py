"""Room on the disk while the road is driven: told before a stage, kept while runs are launched, made by retention.

Runners ask `has_room` before they launch anything, and tell `after_run` of each run that ended. Numbers are
`yokai_assets.retention.room`'s.
"""

import dagster as dg
from upath import UPath

from yokai_assets.defs.operations import jobs
from yokai_assets.defs.operations.observing import Observer
from yokai_assets.defs.operations.planning import Work
from yokai_assets.defs.operations.retaining import retain
from yokai_assets.frames.episodes import discover_episodes
from yokai_assets.retention.planning import layers_bytes
from yokai_assets.retention.room import bytes_of_episodes, rates_of, room_of
from yokai_assets.settings import Settings
from yokai_assets.storage.layout import Layout

_MUCH_SHARE = 0.2
"""A stage that writes less of what is free is not worth a word."""


class SpaceKeeper:
    """Watches the disk of one data root for one road."""

    def __init__(self, instance: dg.DagsterInstance, settings: Settings, observer: Observer) -> None:
        self._instance, self._settings, self._observer = instance, settings, observer
        self._is_paused = False

    def foretell(self, job: str, work: list[Work]) -> None:
        """Say what a stage will write, where that is much or does not fit."""
        room = room_of(self._settings)
        size_bytes = self._size_bytes(job, work) if room and work else 0.0
        if room is None or not size_bytes or size_bytes < _MUCH_SHARE * room.usable_bytes:
            return
        words = (
            f"{STAGES[job]} will write about {in_words(size_bytes)}; {in_words(room.free_bytes)} are free at "
            f"{room.place}, of which {in_words(room.reserved_bytes)} stay free"
        )
        if size_bytes > room.usable_bytes:
            words += (
                ". THAT DOES NOT FIT: nothing more will be begun once the rest is used up. Free space, or set "
                "`retention.layers` (docs/operations.md, Space)"
            )
        self._observer.notice(words)

    def has_room(self) -> bool:
        """Say whether anything more may be begun; tells when that changes, and tries retention first."""
        room = room_of(self._settings)
        if room and room.is_low and not self._is_paused:
            self._retain()
            room = room_of(self._settings)
        is_low = bool(room and room.is_low)
        if room and is_low != self._is_paused:
            self._is_paused = is_low
            self._observer.notice(
                f"PAUSED: only {in_words(room.free_bytes)} are free at {room.place}, less than `retention.min_free_gb` "
                f"({in_words(room.reserved_bytes)}). What runs is finished, nothing more is begun until space is free "
                "(`yokai space` says what may go); `yokai stop` ends the run."
                if is_low
                else f"going on: {in_words(room.free_bytes)} are free at {room.place}"
            )
        return not is_low

    def after_run(self, work: Work) -> None:
        """Remove what the policy lets go, now that a character is through or layers have become too many."""
        policy = self._settings.retention
        is_over_budget = (
            work.job == jobs.EPISODES_JOB
            and policy.layers == "budget_gb"
            and layers_bytes(Layout.of(self._settings)) > policy.budget_gb * 1e9
        )
        if is_over_budget or (work.job == jobs.CHARACTERS_JOB and policy.layers != "keep"):
            self._retain()

    def close(self) -> None:
        """Remove what the policy lets go at the end of the road: layers, checkpoints, old cache entries."""
        self._retain()

    def _retain(self) -> None:
        try:
            _, result = retain(self._instance, self._settings)
        except Exception as error:  # whatever it is: the road does not end for it
            self._observer.notice(f"retention: nothing was removed ({type(error).__name__}: {error})")
            return
        if result.freed_bytes:
            stages = sorted({removal.stage for removal in result.done if removal.paths})
            self._observer.notice(f"retention freed {in_words(result.freed_bytes)} ({', '.join(stages)})")
        for problem in result.problems[:5]:
            self._observer.notice(f"retention: {problem}")

    def _size_bytes(self, job: str, work: list[Work]) -> float:
        layout = Layout.of(self._settings)
        if job == jobs.EPISODES_JOB:
            wanted = {item.partition for item in work}
            found, _ = discover_episodes(UPath(self._settings.frames_source))
            return bytes_of_episodes([e for e in found if e.key in wanted], self._settings, rates_of(layout))
        if job == jobs.CHARACTERS_JOB:
            return len(work) * rates_of(layout).character_bytes
        return 2.0 * layout.database.stat().st_size if layout.database.exists() else 0.0  # published as a copy


STAGES = {
    jobs.EPISODES_JOB: "episodes",
    jobs.SERIES_JOB: "the series",
    jobs.CHARACTERS_JOB: "characters",
    jobs.REPORT_JOB: "the report",
}


def in_words(size_bytes: float) -> str:
    """Return bytes as people say them: `1.2 GB`, `3.0 MB`, `12 kB`."""
    if size_bytes >= 5e7:
        return f"{size_bytes / 1e9:,.1f} GB"
    return f"{size_bytes / 1e6:,.1f} MB" if size_bytes >= 5e5 else f"{size_bytes / 1e3:,.0f} kB"
