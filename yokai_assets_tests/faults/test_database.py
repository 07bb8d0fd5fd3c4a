"""`yokai.duckdb` held open by others while it is published: nobody fails, nobody sees half of a publication."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from upath import UPath

from yokai_assets.storage.database import open_read_only, publish
from yokai_assets.storage.parquet import write_table
from yokai_assets.tables import INSTANCES
from yokai_assets_tests.storage.rows import instance_row

EPISODES = ("e01", "e02", "e03")
MARKS = "SELECT list(DISTINCT weight ORDER BY weight), count(*) FROM instances"

HOLDER = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "ro")
print("open", flush=True)
for line in sys.stdin:
    print(connection.execute(line).fetchall(), flush=True)
"""
READER = """
import sys, time
from yokai_assets.storage.database import open_read_only
seen = 0
print("open", flush=True)
while True:
    with open_read_only(sys.argv[1]) as connection:
        marks, count = connection.sql(sys.argv[2]).fetchall()[0]
        time.sleep(0.01)
        again = connection.sql(sys.argv[2]).fetchall()[0]
    seen += 1
    assert len(marks) == 1 and count == 36 and again == (marks, count), (marks, count, again)
    print(seen, marks[0], flush=True)
"""


@contextmanager
def process(program: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that has the database open; it is killed at the end."""
    command = [sys.executable, "-c", program, *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout
        try:
            assert running.stdout.readline().strip() == "open", running.stderr and running.stderr.read()
            yield running
        finally:
            running.kill()


def ask(holder: subprocess.Popen[str], sql: str) -> str:
    """Have the holder execute something."""
    assert holder.stdin and holder.stdout
    holder.stdin.write(f"{sql}\n")
    holder.stdin.flush()
    return holder.stdout.readline().strip()


def publish_version(root: UPath, version: int) -> None:
    """Write every episode anew, all rows marked with the version, and publish them."""
    files = {}
    for episode in EPISODES:
        rows = [instance_row(episode, frame, weight=version) for frame in range(12)]
        files[episode] = root / "instances" / f"{episode}.parquet"
        write_table(INSTANCES, INSTANCES.from_rows(rows), files[episode])
    report = publish(root / "yokai.duckdb", {"instances": files})
    assert not report.problems


def marks(root: UPath) -> list[int]:
    with open_read_only(root / "yokai.duckdb") as connection:
        return connection.sql(MARKS).fetchall()[0][0]


def leftovers(root: UPath) -> list[str]:
    return sorted(p.name for p in Path(str(root)).iterdir() if p.name not in ("instances", ".yokai.duckdb.lock"))


def test_a_reader_neither_hinders_a_publication_nor_is_moved_by_it(tmp_path: Path) -> None:
    """Held open read-only through publications: none fails, the holder keeps what it opened, others see the new."""
    root = UPath(tmp_path)
    publish_version(root, 1)
    with process(HOLDER, str(root / "yokai.duckdb"), "ro") as holder:
        for version in (2, 3):
            publish_version(root, version)
            assert ask(holder, MARKS) == "[([1], 36)]"
            assert marks(root) == [version]
    assert leftovers(root) == ["yokai.duckdb"]


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_writer_hinders_no_publication(tmp_path: Path, is_killed: bool) -> None:
    """A DBeaver or notebook that has the file open for writing: runs publish and read on, and its log harms nobody."""
    root = UPath(tmp_path)
    publish_version(root, 1)
    with process(HOLDER, str(root / "yokai.duckdb"), "rw") as holder:
        ask(holder, "CREATE TABLE notes AS SELECT 'mine' AS note")
        assert marks(root) == [1], "a run that reads vectors must not fail"
        publish_version(root, 2)
        assert marks(root) == [2]
        ask(holder, "INSERT INTO notes VALUES ('into the file that was replaced')")
        assert marks(root) == [2], "the holder's log is of another file"
        publish_version(root, 3)
        if is_killed:
            os.kill(holder.pid, signal.SIGKILL)
            holder.wait()
        assert marks(root) == [3]
    assert marks(root) == [3]
    publish_version(root, 4)
    with open_read_only(root / "yokai.duckdb") as connection:
        assert connection.sql("FROM notes").fetchall() == [("mine",)], "what was committed before is not lost"
    assert marks(root) == [4] and leftovers(root) == ["yokai.duckdb"]


def test_a_killed_writer_leaves_a_file_that_is_read_and_published(tmp_path: Path) -> None:
    """Somebody's process dies with changes in its log: they are kept, and the log does not outlive the file."""
    root = UPath(tmp_path)
    publish_version(root, 1)
    with process(HOLDER, str(root / "yokai.duckdb"), "rw") as holder:
        ask(holder, "CREATE TABLE notes AS SELECT 'mine' AS note")
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    assert marks(root) == [1]
    publish_version(root, 2)
    with open_read_only(root / "yokai.duckdb") as connection:
        assert connection.sql("FROM notes").fetchall() == [("mine",)]
    assert marks(root) == [2] and leftovers(root) == ["yokai.duckdb"]


def _read_while_publishing(root: UPath, count: int, mode: str) -> tuple[int, set[str]]:
    """Publish so many versions while another process reads as fast as it can; return its reads and versions seen."""
    publish_version(root, 1)
    database = str(root / "yokai.duckdb")
    with process(HOLDER, database, mode) as holder, process(READER, database, MARKS) as reader:
        for version in range(2, count + 2):
            publish_version(root, version)
            if mode == "rw":
                ask(holder, f"CREATE OR REPLACE TABLE notes AS SELECT {version} AS note")
        said = _until_seen(reader, str(count + 1))
    return len(said), {mark for _, mark in said}


def _until_seen(reader: subprocess.Popen[str], mark: str) -> list[tuple[str, str]]:
    """Return the reads of a reader (number, version), up to the first that saw a version."""
    assert reader.stdout and reader.stderr
    said: list[tuple[str, str]] = []
    for line in reader.stdout:
        number, seen = line.split()
        said.append((number, seen))
        if seen == mark:
            return said
    raise AssertionError(reader.stderr.read())


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_no_reader_sees_a_mixture(tmp_path: Path, mode: str) -> None:
    """Every read holds the rows of one publication only, whoever else has the file open."""
    reads, seen = _read_while_publishing(UPath(tmp_path), 6, mode)
    print(f"held {mode}: 6 publications, {reads} reads, {len(seen)} versions seen, no mixture")
    assert len(seen) > 2


@pytest.mark.faults
@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_no_reader_sees_a_mixture_for_long(tmp_path: Path, mode: str) -> None:
    """The same, long enough to meet rare instants."""
    reads, seen = _read_while_publishing(UPath(tmp_path), 200, mode)
    print(f"held {mode}: 200 publications, {reads} reads, {len(seen)} versions seen, no mixture")
    assert len(seen) > 20
