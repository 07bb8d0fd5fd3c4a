"""When assets make themselves, once automation is turned on (`yokai automation on`, or its sensors in the UI).

Conditions only; which asset has which is `BY_ASSET`. Off by default: `yokai run` and a person in the UI then decide
alone. On, they do not fight: a condition asks for nothing that is in progress, and what a run has made is not news to
what the same run made from it; `yokai run` waits for runs of others instead of repeating them.

What is there before automation is turned on is not asked for: `yokai run` once makes that.
"""

import dagster as dg

_AC = dg.AutomationCondition
_news: dg.AutomationCondition = _AC.any_deps_updated()

NIGHTLY_CRON = "0 3 * * *"
REPORT_CRON = "0 6 * * *"
TIMEZONE = "UTC"

_sound = _AC.all_deps_match(
    _AC.all_checks_match(_AC.check_passed(), blocking_only=True) | _AC.will_be_requested()
).with_label("what it reads passed its blocking checks, or is made in the same run")
"""In the same run a check that fails stops what follows by itself. `all_deps_blocking_checks_passed` knows only checks
that have conditions of their own: with it each step would wait for the tick after the one before."""

episode_eager = (_AC.eager() & _sound).with_label(
    "a new episode, or one whose inputs changed and passed their blocking checks"
)
"""Asks once for what is new or changed; a partition that failed is not asked for again until an input changes."""

series_nightly = (
    _AC.cron_tick_passed(NIGHTLY_CRON, TIMEZONE) & _news.since_last_handled() & ~_AC.in_progress()
).with_label("at the nightly tick, if anything it reads was made since")
"""The tick is not remembered: what becomes new by day waits for the night. A missing, failed or unfinished episode
does not hold the series up; it is taken along the night after it was made."""

report_daily = (
    _AC.cron_tick_passed(REPORT_CRON, TIMEZONE) & _news.since_last_handled() & ~_AC.in_progress()
).with_label("every morning, if anything it shows was made since")

_HEAD = dg.AssetSelection.assets("character_members")
_OWN = dg.AssetSelection.groups("characters") | dg.AssetSelection.assets("character_registry")

_content_changed: dg.AutomationCondition = _AC.any_deps_match(_AC.data_version_changed()).allow(
    _OWN
) | _AC.any_deps_match(_AC.will_be_requested()).allow(dg.AssetSelection.groups("characters") - _HEAD)
"""News of the character itself only. A training set also reads the clean plates of all episodes: a new or missing
episode must neither retrain everybody nor hold everybody up. And what follows from `character_members` is not asked
for because those are looked at again, only if they differ: a new clustering touches every character's members and
retrains none that kept them. Further down, what is asked for takes its followers along: a character is one run."""


def _since_handled(condition: dg.AutomationCondition) -> dg.AutomationCondition:
    return condition.since_last_handled()


character_changed = (
    _since_handled(_AC.newly_missing() | _content_changed)
    & ~_AC.any_deps_missing().allow(_OWN)
    & ~_AC.any_deps_in_progress().allow(_OWN)
    & ~_AC.in_progress()
    & _sound.allow(_OWN)
).with_label("a new character, or one whose content changed")

_EPISODES = ("frames", "character_layers", "background_layers", "embeddings")
_SERIES = (
    "repeated_frames",
    "embedding_index",
    "clusters",
    "group_quality",
    "character_registry",
    "regularisation_set",
)
_CHARACTERS = (
    "character_members",
    "character_profile",
    "captions",
    "training_dataset",
    "lora_model",
    "lora_evaluation",
    "published_lora",
)
_REPORT = ("lora_comparison", "catalog", "gallery")

BY_ASSET: dict[str, dg.AutomationCondition] = {
    **dict.fromkeys(_EPISODES, episode_eager),
    **dict.fromkeys(_SERIES, series_nightly),
    **dict.fromkeys(_CHARACTERS, character_changed),
    **dict.fromkeys(_REPORT, report_daily),
}

SENSORS = [
    dg.AutomationConditionSensorDefinition(
        name="automate_series",
        target=dg.AssetSelection.assets(*_EPISODES, *_SERIES, *_REPORT),
        minimum_interval_seconds=60,
        description="Makes new episodes; clusters the series at night and renews the report, if there is news.",
    ),
    dg.AutomationConditionSensorDefinition(
        name="automate_characters",
        target=dg.AssetSelection.assets(*_CHARACTERS),
        minimum_interval_seconds=60,
        description="Trains new characters and those whose images changed. Left off, training waits for a person.",
    ),
]
