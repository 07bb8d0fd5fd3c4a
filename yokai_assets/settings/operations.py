"""Settings of operating the road: batches, waiting for files to settle, telling of failures. None changes a result."""

from pydantic import Field, SecretStr

from yokai_assets.settings.section import Section


class OperationsSettings(Section):
    """Unattended work."""

    episodes_per_batch: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="Partitions that `yokai run` keeps in Dagster's queue at once; the next follow as these end.",
    )
    settle_seconds: float = Field(
        default=120.0,
        ge=0,
        description="The files of a new episode must not have changed for so long before the sensor takes it (s).",
    )
    failure_webhook: SecretStr | None = Field(
        default=None,
        description="URL that is sent a JSON message when a run fails (Slack, Mattermost, ntfy, ...). Better kept in "
        "the environment: YOKAI_OPERATIONS__FAILURE_WEBHOOK. Never logged.",
    )
