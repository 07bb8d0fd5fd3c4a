"""The failure log: one JSON line per failed step, and which of them are still open.

The log only grows. Whether a failure is over is said by who knows what was made since (`IsOver`); where nobody does,
by files: it is over as soon as the output of its asset for that partition is newer than the failure.
"""

import json
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, ValidationError
from upath import UPath

from yokai_assets.registry.store import CURRENT
from yokai_assets.storage.files import is_local, told_when_full, write_text
from yokai_assets.storage.layout import Layout

FAILURES_FILE = "failures.jsonl"
SIZE_CHECK = "dataset_is_large_enough"
"""The check that a character is large enough to train. That it is not is no failure but a fact."""


class FailureRecord(BaseModel):
    """One failed step.

    Attributes:
        at: When.
        step: Asset or check that failed.
        asset: The asset of a check; None where `step` is the asset itself.
        partition: Episode or character; None for steps of the whole series.
        reason: What happened and what to do, in words.
        is_check: The step is a check that did its work and refused what it saw.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    at: datetime
    step: str
    asset: str | None = None
    partition: str | None = None
    reason: str
    is_check: bool = False

    @property
    def is_too_small(self) -> bool:
        """Whether it says that a character has too few images to train."""
        return self.is_check and self.step == SIZE_CHECK


IsOver = Callable[[FailureRecord], bool]
"""Says whether a failure is mended, or concerns something that is no more."""


def append_failures(layout: Layout, failures: Iterable[FailureRecord]) -> None:
    """Add failures to the log."""
    text = "".join(failure.model_dump_json() + "\n" for failure in failures)
    path = failures_file(layout)
    if not text:
        return
    if is_local(path):
        with told_when_full(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write((b"" if _ends_a_line(path) else b"\n") + text.encode())
        return
    write_text(path, (path.read_text(encoding="utf-8") if path.exists() else "") + text)


def _ends_a_line(path: UPath) -> bool:
    """Say whether what is there ends in a whole line: a kill or a full disk while appending tears the last one."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def open_failures(layout: Layout, is_over: IsOver | None = None) -> list[FailureRecord]:
    """Return the latest failure of every step and partition that is not over yet, newest first.

    Args:
        layout: Where the log lies.
        is_over: Knows what was made since; unset: files tell.
    """
    is_over = is_over or (lambda failure: _is_followed_by_output(failure, layout))
    latest: dict[tuple[str, str | None], FailureRecord] = {}
    for failure in _read(failures_file(layout)):
        latest[failure.step, failure.partition] = failure
    still_open = [failure for failure in latest.values() if not is_over(failure)]
    return sorted(still_open, key=lambda f: (f.at, f.step, f.partition or ""), reverse=True)


def failures_file(layout: Layout) -> UPath:
    """Return where the log lies; it may not be there."""
    return layout.pipeline / FAILURES_FILE


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


def _is_followed_by_output(failure: FailureRecord, layout: Layout) -> bool:
    asset = failure.asset or failure.step
    return any(
        path.exists() and datetime.fromtimestamp(path.stat().st_mtime, UTC) > failure.at
        for path in _outputs(asset, failure.partition, layout)
    )


def _outputs(asset: str, partition: str | None, layout: Layout) -> list[UPath]:
    """Return the files whose being newer shows that the asset was made since."""
    outputs = [layout.table(asset, partition)]
    if partition is None:
        outputs += {
            "embedding_index": [layout.database],
            "character_registry": [layout.registry / CURRENT],
            "catalog": [layout.database],
            "gallery": [layout.gallery / "index.html"],
        }.get(asset, [])
        return outputs
    folder = layout.lora(partition)
    outputs += {
        "lora_model": [folder / f"{partition}-training.json"],
        "published_lora": [folder / "README.md"],
        "character_profile": [layout.ai_analysis(partition) / "profile.json"],
    }.get(asset, [])
    return outputs
