"""The folder in which a run keeps its lock, record, log and what it is asked."""

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
from platformdirs import user_data_path
from pydantic import ValidationError

from yokai_assets.runs.record import RunRecord, StopMode, now
from yokai_assets.settings import Settings
from yokai_assets.storage.files import is_local, sha256_of_parts, write_text
from yokai_assets.storage.layout import Layout

_KEPT_LOG_BYTES = 20_000_000


def home_of_root(settings: Settings) -> Path:
    """Return the folder beside a data root's data that holds its history; of a remote root, one of this user."""
    root = Layout.of(settings).root
    return Path(str(root)) / "dagster" if is_local(root) else user_data_path("yokai") / sha256_of_parts(str(root))[:12]


@dataclass(frozen=True, slots=True)
class RunRoom:
    """Paths and small files of the runs of one data root."""

    folder: Path

    @classmethod
    def of(cls, settings: Settings) -> "RunRoom":
        """Return where the runs of a data root keep lock, record and log, whichever instance they use."""
        return cls(home_of_root(settings) / "run")

    @property
    def lock(self) -> Path:
        """Held by the run as long as its process lives; the system lets go of it when that is killed."""
        return self.folder / "run.lock"

    @property
    def log(self) -> Path:
        """What the run says, a line per partition; appended to by every run."""
        return self.folder / "run.log"

    @property
    def daemon_log(self) -> Path:
        """What a daemon that the run started says."""
        return self.folder / "daemon.log"

    @property
    def _record(self) -> Path:
        return self.folder / "run.json"

    @property
    def _stop(self) -> Path:
        return self.folder / "stop"

    def record(self) -> RunRecord | None:
        """Return the record of the last run; None where there was none."""
        try:
            return RunRecord.model_validate_json(self._record.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValidationError):
            return None

    def write(self, record: RunRecord) -> None:
        """Replace the record, whole."""
        write_text(self._record, record.model_dump_json(indent=2))

    def ask_to_stop(self, mode: StopMode) -> None:
        """Leave word for the run to stop."""
        write_text(self._stop, mode)

    def asked_to_stop(self) -> StopMode | None:
        """Return how the run is asked to stop, if it is."""
        try:
            return StopMode(self._stop.read_text(encoding="utf-8").strip())
        except (FileNotFoundError, ValueError):
            return None

    def begin(self, mode: str, series: str) -> RunRecord:
        """Make room for a run of this process and return its record; only under the lock."""
        self._stop.unlink(missing_ok=True)
        shrink(self.log)
        shrink(self.daemon_log)
        return RunRecord(
            process_id=os.getpid(),
            process_started=psutil.Process().create_time(),
            host=socket.gethostname(),
            started_at=now(),
            command=" ".join(["yokai", *sys.argv[1:]]),
            mode=mode,
            log=str(self.log),
            series=series,
        )


def shrink(log: Path) -> None:
    """Move a log that has grown large aside, as `.1`, in place of the one before."""
    if log.exists() and log.stat().st_size > _KEPT_LOG_BYTES:
        log.replace(log.with_name(log.name + ".1"))
