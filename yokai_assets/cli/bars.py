"""One look for all progress bars on the terminal."""

import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 30.0


def progress_bars(console: Console) -> Progress:
    """Return rich's progress display as the commands show it: tasks have a field `note`."""
    return Progress(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class StepBar:
    """Shows one piece of work at a time; into a file or a pipe, a line every half a minute."""

    def __init__(self, console: Console, description: str) -> None:
        self._console, self._description = console, description
        self._progress = progress_bars(console)
        self._task = self._progress.add_task(description, total=None, note="")
        self._last_line_seconds = time.monotonic()

    def __enter__(self) -> "StepBar":
        """Begin to draw."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show progress; see `yokai_assets.progress`."""
        self._progress.update(self._task, completed=done, total=total, note=escape(note))
        if not self._console.is_terminal and time.monotonic() - self._last_line_seconds > _SECONDS_BETWEEN_LINES:
            self._last_line_seconds = time.monotonic()
            self._console.print(f"  {self._description} {done}/{total} {escape(note)}".rstrip())
