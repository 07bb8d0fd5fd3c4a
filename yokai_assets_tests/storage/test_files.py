"""Files and folders are whole or absent, also when the writer dies or is killed."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from yokai_assets.storage import files


def test_an_error_leaves_the_old_file(tmp_path):
    """A failing writer must not damage what readers have."""
    target = tmp_path / "a.json"
    files.write_json(target, {"n": 1})
    with pytest.raises(RuntimeError), files.whole_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == '{\n  "n": 1\n}\n'
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]


def test_an_error_leaves_the_old_folder(tmp_path):
    """The same for a folder that is swapped as one."""
    target = tmp_path / "dataset"
    with files.whole_folder(target) as new:
        (new / "1.txt").write_text("old")
    with pytest.raises(RuntimeError), files.whole_folder(target) as new:
        (new / "1.txt").write_text("half")
        raise RuntimeError
    assert (target / "1.txt").read_text() == "old"
    assert [f.name for f in tmp_path.iterdir()] == ["dataset"]


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    """SIGKILL runs no clean-up: the name must still hold the old bytes."""
    target = tmp_path / "a.bin"
    files.write_bytes(target, b"old")
    program = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from yokai_assets.storage.files import whole_file
        with whole_file(Path({str(target)!r})) as temporary:
            temporary.write_bytes(b"new")
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    ended = subprocess.run([sys.executable, "-c", program], check=False, env={**os.environ})
    assert ended.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"


def test_a_kill_between_the_renames_of_a_folder_is_mended(tmp_path):
    """`whole_folder` renames twice; a kill in between leaves only the retired folder, which comes back."""
    retired = tmp_path / ".dataset.retired"
    retired.mkdir()
    (retired / "1.txt").write_text("old")
    files.recover_folder(tmp_path / "dataset")
    assert (tmp_path / "dataset" / "1.txt").read_text() == "old"


def test_hash_of_parts_keeps_borders():
    """Neighbouring parts must not run into each other: ("ab", "c") is not ("a", "bc")."""
    assert files.sha256_of_parts(b"ab", b"c") != files.sha256_of_parts(b"a", b"bc")
