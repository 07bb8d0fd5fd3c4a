"""One job per domain, and the schedules.

Jobs are what `yokai run`, backfills of a domain from the UI and schedules launch alike. Each bears its name as the tag
`yokai/domain`, so that `dagster.yaml` can say how many of a kind run at once. The job that frees space, and its weekly
schedule, are `retention_job`: it reads what the jobs here leave.

The steps of a run share one process: models are loaded once per run instead of once per step. What that saves is
measured in `docs/performance.md`. Runs of other partitions are other processes.
"""

import dagster as dg

from yokai_assets.defs.characters import assets as character_assets
from yokai_assets.defs.characters import dataset, evaluation, models
from yokai_assets.defs.episodes import assets as episode_assets
from yokai_assets.defs.reports import assets as report_assets
from yokai_assets.defs.reports import comparison
from yokai_assets.defs.series import assets as series_assets
from yokai_assets.defs.series import grouping, registry

EPISODES_JOB = "episodes"
SERIES_JOB = "series"
CHARACTERS_JOB = "characters"
REPORT_JOB = "report"

DOMAIN_TAG = "yokai/domain"

episodes_job = dg.define_asset_job(
    EPISODES_JOB,
    tags={DOMAIN_TAG: EPISODES_JOB},
    selection=episode_assets.ASSETS,
    description="One episode: frames, layers, clean plates, vectors. Backfill it over episodes.",
)
series_job = dg.define_asset_job(
    SERIES_JOB,
    tags={DOMAIN_TAG: SERIES_JOB},
    selection=[*series_assets.ASSETS, *grouping.ASSETS, *registry.ASSETS],
    description="The whole series: index, clustering, character registry.",
)
characters_job = dg.define_asset_job(
    CHARACTERS_JOB,
    tags={DOMAIN_TAG: CHARACTERS_JOB},
    selection=[*character_assets.ASSETS, *dataset.ASSETS, *models.ASSETS, *evaluation.ASSETS],
    description="One character, from profile to published LoRA. Backfill it over characters.",
)
report_job = dg.define_asset_job(
    REPORT_JOB,
    tags={DOMAIN_TAG: REPORT_JOB},
    selection=[*comparison.ASSETS, *report_assets.ASSETS],
    description="Comparison of LoRAs, catalog and gallery, from whatever exists.",
)

nightly_series = dg.ScheduleDefinition(
    name="nightly_series",
    job=series_job,
    cron_schedule="0 4 * * *",
    run_config={"ops": {"clusters": {"config": {"is_full": True}}}},
    description="Clusters the whole series anew every night at four, news or not, and updates the registry. Automation "
    "does so at three where there is news, joining new images to known groups as long as that will do.",
)

JOBS = [episodes_job, series_job, characters_job, report_job]
SCHEDULES = [nightly_series]

SWITCHED = ("new_episodes", "new_characters", "automate_series", "automate_characters")
"""What `yokai automation on` turns on: together they take a new episode from its folder to its characters' LoRAs."""
