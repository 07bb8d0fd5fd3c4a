"""How long work reports progress: one callable, passed in by whoever shows it.

The library calls it; bars, logs and Dagster events are made by the caller.
"""

from typing import Protocol


class Progress(Protocol):
    """Receives progress of one piece of work."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Tell that `done` of `total` units are finished; `note` is a few words, e.g. a loss."""


def silent(done: int, total: int, note: str = "") -> None:
    """Show nothing."""
