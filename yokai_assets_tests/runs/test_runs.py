"""What a run leaves for others: who holds the root, how far it is, what it is asked; and that a kill blocks nobody."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from yokai_assets.runs import RootBusyError, Running, RunRoom, Stage, StopMode, holding
from yokai_assets.runs.gpu import GpuUse, parse_line
from yokai_assets.runs.lock import is_held

HOLDER = """
import sys, time
from pathlib import Path
from yokai_assets.runs import RunRoom, holding
room = RunRoom(Path(sys.argv[1]))
with holding(room):
    room.write(room.begin("daemon", "tiny"))
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def room(tmp_path: Path) -> RunRoom:
    return RunRoom(tmp_path / "run")


def test_a_second_run_is_told_of_the_first_and_a_killed_one_blocks_nobody(room):
    """Two runs of one root would make everything twice; a lock file that a kill leaves behind must not stop work."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(room.folder)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(RootBusyError, match=f"process {other.pid} since .*yokai status.*yokai stop"), holding(room):
            pass
        other.kill()
    assert not is_held(room)
    record = room.record()
    assert record is not None and record.was_killed, "it never said that it ended"


def test_a_number_given_again_is_another_process(room):
    """After a reboot the number of the run may be anybody's."""
    room.folder.mkdir()
    record = room.begin("daemon", "tiny")
    assert record.is_alive
    assert not record.model_copy(update={"process_started": record.process_started - 1000}).is_alive


def test_what_is_asked_of_one_run_is_not_asked_of_the_next(room):
    """A `yokai stop` of yesterday must not end today's run at its start."""
    room.folder.mkdir()
    room.ask_to_stop(StopMode.AFTER_RUNNING)
    assert room.asked_to_stop() is StopMode.AFTER_RUNNING
    room.begin("daemon", "tiny")
    assert room.asked_to_stop() is None


def test_a_torn_record_is_no_record(room):
    """A record of another version, or damaged, must not make `yokai status` fail."""
    room.folder.mkdir()
    (room.folder / "run.json").write_text('{"process_id": 1')
    assert room.record() is None


def test_rate_and_time_left_count_what_is_through():
    """Failed partitions take time too; before the first is through, nothing is foretold."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    stage = Stage(job="episodes", started_at=start, to_do=10, done=3, failed=1)
    stage.running = [Running(partition="e5", since=start)]
    assert stage.queued == 5
    hour = start + timedelta(hours=1)
    assert stage.per_hour(hour) == 4 and stage.seconds_left(hour) == pytest.approx(1.5 * 3600)
    assert Stage(job="episodes", started_at=start, to_do=10).seconds_left(hour) is None


def test_gpu_lines_are_read_and_what_a_driver_cannot_say_is_left_out():
    """Some cards answer `[N/A]`: no reason for `yokai status` to fail."""
    assert parse_line("0, NVIDIA GeForce RTX 4090, 97, 20111, 24564") == GpuUse(
        0, "NVIDIA GeForce RTX 4090", 97, 20111, 24564
    )
    assert parse_line("0, NVIDIA GB10, 5, [N/A], [N/A]") is None
