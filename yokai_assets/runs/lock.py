"""One run at a time on a data root. A killed process holds nothing: the system's own file lock goes with it."""

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from yokai_assets.runs.record import RunRecord
from yokai_assets.runs.room import RunRoom


class RootBusyError(RuntimeError):
    """Another run holds the data root; the message says which, since when, and how to watch or stop it."""

    def __init__(self, record: RunRecord | None) -> None:
        self.record = record
        who = f" ({record.in_words()})" if record else ""
        super().__init__(
            f"a run is at work on this data root already{who}. Watch it with `yokai status` or `yokai logs -f`; "
            "`yokai stop` stops it."
        )


@contextmanager
def holding(room: RunRoom) -> Iterator[None]:
    """Hold the data root for as long as the block lasts.

    Raises:
        RootBusyError: Another process holds it.
    """
    room.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(room.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        record = room.record()
        raise RootBusyError(record if record and record.is_alive else None) from None
    try:
        yield
    finally:
        lock.release()


def is_held(room: RunRoom) -> bool:
    """Say whether a run is at work on the data root."""
    try:
        with holding(room):
            return False
    except RootBusyError:
        return True
