"""What a person sees while the road is run: stages, partitions, the step at work, failures, the end.

Drawing on the terminal only. On a terminal, live bars; into a file or a pipe, one line per run.
"""

import time

from rich.console import Console
from rich.markup import escape
from rich.progress import TaskID

from yokai_assets.cli.bars import progress_bars
from yokai_assets.defs.operations.observing import Observer
from yokai_assets.defs.operations.planning import Work
from yokai_assets.gallery.failures import FailureRecord

STAGE_NAMES = {"episodes": "Episodes", "series": "Series", "characters": "Characters", "report": "Report"}


class RoadView(Observer):
    """Shows a road as it is driven."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = progress_bars(console)
        self._stage_task = self._progress.add_task("", total=1, note="", visible=False)
        self._at_work: dict[str | None, TaskID] = {}
        self._runs_left = 0
        self._stage_runs = 0
        self._last_line_seconds = 0.0

    def __enter__(self) -> "RoadView":
        """Begin to draw."""
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()

    def say(self, what: object) -> None:
        """Print something of its own lines."""
        self._console.print(what, soft_wrap=isinstance(what, str))

    def notice(self, text: str) -> None:
        """Print it, dimly: it is worth knowing, nothing to be done."""
        self.say(f"  [dim]{escape(text)}[/]")

    def stage(self, job: str, work: list[Work], skipped: int = 0) -> None:
        """Name the stage and how much it has to do."""
        name = STAGE_NAMES[job]
        for task in self._at_work.values():
            self._progress.remove_task(task)
        self._at_work.clear()
        self._runs_left = self._stage_runs = len(work)
        todo = f"{len(work)} to do" if work else "nothing to do"
        if work and skipped > 0:
            todo += f", {skipped} there already"
        self._console.print(f"[bold]{name}[/]: {todo}")
        self._progress.update(
            self._stage_task, description=name, completed=0, total=max(1, len(work)), visible=bool(work)
        )

    def run_started(self, work: Work) -> None:
        """Show the partition at work, beside others that are."""
        self._last_line_seconds = time.monotonic()
        self._leave(work)
        self._at_work[work.partition] = self._progress.add_task(
            escape(work.partition or work.job), total=None, note=escape(work.what_changed or "")
        )

    def run_waits(self, work: Work) -> None:
        """Show it no longer as at work."""
        self._leave(work)

    def run_ended(self, work: Work, is_success: bool, seconds: float, failures: list[FailureRecord]) -> None:
        """Tell how a partition ended, and why where it failed."""
        self._progress.advance(self._stage_task)
        self._leave(work)
        self._runs_left -= 1
        count = f"{self._stage_runs - self._runs_left}/{self._stage_runs}"
        change = f"  ({work.what_changed})" if work.what_changed else ""
        parts = (_mark(is_success, failures), count, escape(work.partition or ""), f"[dim]{seconds:.1f} s{change}[/]")
        self._console.print("  " + " ".join(part for part in parts if part))
        for failure in failures:
            color = "yellow" if failure.is_check else "red"
            self._console.print(f"    [{color}]{failure.step}[/]: {escape(failure.reason)}", soft_wrap=True)

    def step(self, asset: str, partition: str | None, done: int, total: int, note: str) -> None:
        """Show how far a partition at work is; into a pipe, a line every 30 seconds."""
        if partition not in self._at_work:
            self._at_work[partition] = self._progress.add_task("", total=None, note="")
        self._progress.update(
            self._at_work[partition],
            description=escape(f"{partition or ''} {asset}".strip()),
            completed=done,
            total=total or None,
            note=escape(note),
        )
        if not self._console.is_terminal and time.monotonic() - self._last_line_seconds > 30:
            self._last_line_seconds = time.monotonic()
            share = f"{done}/{total} " if total else ""
            self._console.print(f"    {f'{partition} ' if partition else ''}{asset} {share}{escape(note)}".rstrip())

    def _leave(self, work: Work) -> None:
        task = self._at_work.pop(work.partition, None)
        if task is not None:
            self._progress.remove_task(task)


def _mark(is_success: bool, failures: list[FailureRecord]) -> str:
    if is_success:
        return "[green]done[/]"
    if any(not failure.is_check for failure in failures) or not failures:
        return "[red]failed[/]"
    return "[yellow]too small[/]" if all(failure.is_too_small for failure in failures) else "[yellow]stopped[/]"
