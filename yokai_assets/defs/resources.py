"""Resources: the settings, and the ear that long work reports its progress to.

Models are opened by the stages themselves, which cache them per process. Storage of tables is `io`.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from yokai_assets.devices import limit_threads, resolve_device
from yokai_assets.progress import Progress
from yokai_assets.settings import Settings, load_settings
from yokai_assets.settings.loading import without_none
from yokai_assets.storage.layout import Layout


class SettingsResource(dg.ConfigurableResource):
    """The settings of this deployment, read when a step starts, not when the code location loads."""

    config_file: str | None = Field(
        default=None, description="TOML file; unset: `$YOKAI_CONFIG`, else `yokai.toml` in the working directory."
    )
    overrides: dict[str, Any] = Field(
        default_factory=dict,
        description="Nested values that win over file and environment, e.g. {training: {network_dim: 16}}.",
    )
    _settings: Settings | None = PrivateAttr(default=None)

    @classmethod
    def of(cls, config_file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> "SettingsResource":
        """Return a resource for a command: its `--config`, and the options that were given (`None` is not given)."""
        return cls(config_file=str(config_file) if config_file else None, overrides=without_none(overrides or {}))

    def load(self) -> Settings:
        """Return the settings, read once per process.

        Raises:
            SettingsError: They cannot be used; the message says why.
        """
        if self._settings is None:
            self._settings = load_settings(self.config_file, overrides=self.overrides)
        return self._settings

    @property
    def layout(self) -> Layout:
        """Where things lie."""
        return Layout.of(self.load())

    def device(self) -> str:
        """Return the torch device, with the CPU threads set."""
        settings = self.load()
        limit_threads(settings.cpu_threads)
        return resolve_device(settings.device)


ProgressListener = Callable[[str, str | None, int, int, str], None]
"""Called with asset, partition, done, total, note."""


_LISTENER: ContextVar[ProgressListener | None] = ContextVar("progress_listener", default=None)


@contextmanager
def progress_heard_by(listener: ProgressListener | None) -> Iterator[None]:
    """Let a listener hear of steps that run in this process meanwhile, e.g. a progress bar.

    It cannot be part of the resource: Dagster makes a new one from the configuration for every run.
    """
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


class ProgressResource(dg.ConfigurableResource):
    """Turns progress of a step into log lines every so often, and into calls of a listener where one listens."""

    log_every_seconds: float = Field(default=15.0, gt=0, description="Seconds between log lines of one step.")

    def of(self, context: dg.AssetExecutionContext) -> Progress:
        """Return the callable that the step hands to the library."""
        asset = context.asset_key.to_user_string()
        partition = context.partition_key if context.has_partition_key else None
        listener = _LISTENER.get()
        last_seconds = time.monotonic()

        def report(done: int, total: int, note: str = "") -> None:
            nonlocal last_seconds
            if listener:
                listener(asset, partition, done, total, note)
            if time.monotonic() - last_seconds >= self.log_every_seconds:
                last_seconds = time.monotonic()
                context.log.info(f"{done}/{total} {note}".rstrip())

        return report
