"""What a person reads while the road is run: one plain line per partition, and why where there is a why."""

import io
from datetime import UTC, datetime

import pytest

from yokai_assets.cli.terminal import Terminal
from yokai_assets.cli.view import RoadView
from yokai_assets.defs.operations.planning import NOT_MADE, Work
from yokai_assets.gallery import FailureRecord


def lines(*endings: tuple[Work, bool, list[FailureRecord]]) -> list[str]:
    """Return what is printed into a pipe for one stage with these runs."""
    stream = io.StringIO()
    with RoadView(Terminal(file=stream, width=200)) as view:
        view.stage("episodes", [work for work, _, _ in endings])
        for work, is_success, failures in endings:
            view.run_started(work)
            view.run_ended(work, is_success, 16.62, failures)
    return stream.getvalue().splitlines()


def work(partition: str | None, reason: str = NOT_MADE) -> Work:
    return Work("episodes", partition, ("frames", "embeddings"), {"frames": reason, "embeddings": "frames changed"})


def failure(step: str, reason: str, *, is_check: bool = False) -> FailureRecord:
    return FailureRecord(at=datetime.now(UTC), step=step, partition="e2", reason=reason, is_check=is_check)


def test_a_first_run_needs_no_reason() -> None:
    """After `done`, `not made yet` reads like a contradiction."""
    assert lines((work("episode_001"), True, []), (work(None), True, [])) == [
        "Episodes: 2 to do",
        "  done 1/2 episode_001 16.6 s",
        "  done 2/2 16.6 s",
    ]


def test_what_is_made_again_says_why() -> None:
    """Somebody who changed one folder wants to see that this is why."""
    assert (
        lines((work("e1", "its source changed"), True, []))[1] == "  done 1/1 e1 16.6 s  (frames: its source changed)"
    )


def test_a_quick_step_prints_no_progress_into_a_pipe() -> None:
    """A log file of two hundred episodes wants a line for each, not one for each step that begins."""
    stream = io.StringIO()
    with RoadView(Terminal(file=stream, width=200)) as view:
        view.stage("episodes", [work("e1")])
        view.run_started(work("e1"))
        view.step("frames", "e1", 0, 40, "")
        view.run_ended(work("e1"), True, 2.0, [])
    assert len(stream.getvalue().splitlines()) == 2


@pytest.mark.parametrize(
    ("failures", "mark"),
    [
        ([failure("frames", "disk [full]")], "failed"),
        ([failure("clusters_are_usable", "97 % noise", is_check=True)], "stopped"),
        ([failure("dataset_is_large_enough", "9 training images", is_check=True)], "too small"),
        ([failure("dataset_is_large_enough", "9", is_check=True), failure("captions", "crashed")], "failed"),
        ([], "failed"),
    ],
)
def test_what_did_not_go_well_is_told_with_its_reason(failures: list[FailureRecord], mark: str) -> None:
    """Failed, stopped by a check, and merely too small are three things; reasons are printed as they are."""
    printed = lines((work("e2"), False, failures))
    assert printed[1] == f"  {mark} 1/1 e2 16.6 s"
    assert printed[2:] == [f"    {f.step}: {f.reason}" for f in failures]
