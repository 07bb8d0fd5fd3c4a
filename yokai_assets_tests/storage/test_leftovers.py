"""What a killed process leaves behind is removed; what a living one makes is never touched."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from yokai_assets.storage.files import host_tag, temporary_beside, whole_file, whole_folder
from yokai_assets.storage.leftovers import FOREIGN_AGE_SECONDS, remove_leftovers


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def killed_while(folder: Path, body: str) -> None:
    """Run a program that writes under `folder` and is killed in the middle."""
    program = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from yokai_assets.storage import files
        folder = Path({str(folder)!r})
        {body}
    """)
    ended = subprocess.run([sys.executable, "-c", program], check=False)
    assert ended.returncode == -signal.SIGKILL


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    """Files and folders, at any depth; finished things beside them stay."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "whole.png").write_bytes(b"x")
    killed_while(
        tmp_path,
        "with files.whole_file(folder / 'a' / 'b' / 't.parquet') as f, files.whole_folder(folder / 'set') as d:"
        " f.write_bytes(b'1'); (d / '1.png').write_bytes(b'2'); os.kill(os.getpid(), signal.SIGKILL)",
    )
    assert len([name for name in names(tmp_path) if "partial" in name]) == 3
    assert len(remove_leftovers(tmp_path)) == 2
    assert names(tmp_path) == {"a", "a/b", "a/b/whole.png"}


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    """Also when it has been at it for days: an evaluation on a CPU may be."""
    with whole_file(tmp_path / "t.bin") as file, whole_folder(tmp_path / "set") as folder:
        file.write_bytes(b"1")
        for path in (file, folder):
            os.utime(path, (1, 1))
        assert remove_leftovers(tmp_path) == []
    assert names(tmp_path) == {"t.bin", "set"}


def test_a_process_of_the_same_number_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are given again, in containers at once: one that began after the file did not begin the file."""
    temporary_beside(tmp_path / "t.bin").write_bytes(b"1")
    began = time.time() + 60
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: began)
    assert len(remove_leftovers(tmp_path)) == 1


@pytest.mark.parametrize("age_seconds", [3600.0, FOREIGN_AGE_SECONDS + 60])
def test_of_another_machine_only_what_is_old_is_removed(tmp_path: Path, age_seconds: float) -> None:
    """On a shared root another machine's process cannot be asked; its newest write tells."""
    name = temporary_beside(tmp_path / "set").name.replace(host_tag(), "0123abcd")
    folder, file = tmp_path / name, tmp_path / name / "1.png"
    folder.mkdir()
    file.write_bytes(b"1")
    then = time.time() - age_seconds
    os.utime(file, (then, then))
    os.utime(folder, (1, 1))
    assert bool(remove_leftovers(tmp_path)) == (age_seconds > FOREIGN_AGE_SECONDS)
    assert folder.exists() == (age_seconds <= FOREIGN_AGE_SECONDS)


def test_a_folder_moved_aside_comes_back(tmp_path: Path) -> None:
    """A kill between the two renames leaves no folder at all: the old one is brought back for its readers."""
    (tmp_path / ".set.retired").mkdir()
    (tmp_path / ".set.retired" / "1.png").write_bytes(b"old")
    (tmp_path / ".done.retired").mkdir()
    (tmp_path / "done").mkdir()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == {"set", "set/1.png", "done"}


def test_a_folder_moved_aside_just_now_is_not_taken_back(tmp_path: Path) -> None:
    """Between the two renames of a living process its new folder is there still: hands off."""
    (tmp_path / ".set.retired").mkdir()
    temporary_beside(tmp_path / "set").mkdir()
    assert remove_leftovers(tmp_path) == []
    assert (tmp_path / ".set.retired").exists()


def test_other_hidden_things_are_not_ours(tmp_path: Path) -> None:
    """A user's own hidden files, and names that only look alike, stay."""
    for name in (".git", ".x.partial-", ".notes.partial-draft", ".yokai.duckdb.lock"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (1, 1))
    assert remove_leftovers(tmp_path) == []
    assert remove_leftovers(tmp_path / "absent") == []
