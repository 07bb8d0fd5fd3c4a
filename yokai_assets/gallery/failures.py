"""The failure log: one JSON line per failed step, and which of them are still open.

The log only grows. A failure is closed as soon as the step's output for that partition is newer than the failure.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, ValidationError
from upath import UPath

from yokai_assets.storage.files import is_local, write_text
from yokai_assets.storage.layout import Layout

FAILURES_FILE = "failures.jsonl"


class FailureRecord(BaseModel):
    """One failed step.

    Attributes:
        at: When.
        step: Asset or check that failed.
        partition: Episode or character; None for steps of the whole series.
        reason: What happened and what to do, in words.
        is_check: The step is a check that stopped its partition.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    at: datetime
    step: str
    partition: str | None = None
    reason: str
    is_check: bool = False


def append_failures(layout: Layout, failures: Iterable[FailureRecord]) -> None:
    """Add failures to the log."""
    text = "".join(failure.model_dump_json() + "\n" for failure in failures)
    path = layout.pipeline / FAILURES_FILE
    if not text:
        return
    if is_local(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
        return
    write_text(path, (path.read_text(encoding="utf-8") if path.exists() else "") + text)


def open_failures(layout: Layout) -> list[FailureRecord]:
    """Return the latest failure of every step and partition that is not mended yet, newest first."""
    latest: dict[tuple[str, str | None], FailureRecord] = {}
    for failure in _read(layout.pipeline / FAILURES_FILE):
        latest[failure.step, failure.partition] = failure
    unmended = [failure for failure in latest.values() if not _is_mended(failure, layout)]
    return sorted(unmended, key=lambda f: (f.at, f.step, f.partition or ""), reverse=True)


def _read(path: UPath) -> list[FailureRecord]:
    if not path.exists():
        return []
    failures = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            failure = FailureRecord.model_validate(json.loads(line))
        except (ValueError, ValidationError):
            # A kill during appending may tear the last line; the others count.
            continue
        aware = failure.at if failure.at.tzinfo else failure.at.replace(tzinfo=UTC)
        failures.append(failure.model_copy(update={"at": aware}))
    return failures


def _is_mended(failure: FailureRecord, layout: Layout) -> bool:
    if failure.is_check:
        return False
    return any(
        path.exists() and datetime.fromtimestamp(path.stat().st_mtime, UTC) > failure.at
        for path in _outputs(failure, layout)
    )


def _outputs(failure: FailureRecord, layout: Layout) -> list[UPath]:
    """Return the files whose being newer shows that the step has succeeded since."""
    outputs = [layout.table(failure.step, failure.partition)]
    if failure.partition:
        folder = layout.lora(failure.partition)
        outputs += {
            "lora_model": [folder / f"{failure.partition}-training.json"],
            "published_lora": [folder / "README.md"],
            "character_profile": [layout.ai_analysis(failure.partition) / "profile.json"],
        }.get(failure.step, [])
    return outputs
