"""Files that change, vanish or appear while they are read, folders that are renamed, and what may not be opened."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from PIL import Image
from upath import UPath

from yokai_assets.datasets.folder import read_training_folder
from yokai_assets.datasets.importer import import_cluster_tree
from yokai_assets.frames import reader, scan
from yokai_assets.frames.decoding import FrameError
from yokai_assets.frames.episodes import EpisodeNotFoundError, discover_episodes, find_episode, source_fingerprint
from yokai_assets.frames.reader import iter_frames
from yokai_assets.frames.scan import scan_episode
from yokai_assets.segmentation.layers import segment_episode
from yokai_assets.settings.model import FramesSettings, SegmentationSettings
from yokai_assets.storage.layout import Layout
from yokai_assets_tests.frames.pictures import encoded, scene, with_disc, write
from yokai_assets_tests.segmentation.mattes import CHARACTER, ColourMatte

COUNT = 40
NOBODY = 65534


def picture(number: int) -> Image.Image:
    return with_disc(scene(number, 160, 96).convert("L").convert("RGB"), (40 + number, 48), 18, CHARACTER)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number in range(COUNT):
        write(tmp_path / "source" / "ep" / f"{number:03d}.png", picture(number))
    return tmp_path / "source"


def table(source: Path, previous: pl.DataFrame | None = None) -> pl.DataFrame:
    episode = find_episode(UPath(source), "ep")
    return scan_episode(episode, UPath(source), FramesSettings(), previous=previous)


def at_the_tenth(monkeypatch: pytest.MonkeyPatch, module: object, name: str, what: object) -> None:
    """Do something once, when the tenth file is about to be read, in whatever thread."""
    original, lock, calls = getattr(module, name), threading.Lock(), []

    def read(path: UPath) -> object:
        with lock:
            calls.append(path)
            if len(calls) == 10:
                what()  # type: ignore[operator]
        return original(path)

    monkeypatch.setattr(module, name, read)


def test_files_that_vanish_appear_and_change_during_a_scan(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: a scan of a folder at work ends, tells what is gone, and the next one sees everything as it is."""
    folder = source / "ep"

    def disturb() -> None:
        for number in range(30, 34):
            (folder / f"{number:03d}.png").unlink()
        (folder / "034.png").write_bytes(encoded(picture(34))[:400])
        write(folder / "035.png", picture(135))
        write(folder / "100.png", picture(100))

    at_the_tenth(monkeypatch, scan, "read_bytes", disturb)
    first = table(source)
    monkeypatch.undo()
    status = dict(first.select(pl.col("source").str.slice(3, 3), "status").iter_rows())
    assert len(status) == COUNT, "a file that appears later belongs to the next scan"
    assert [status[f"{n:03d}"] for n in range(30, 36)] == ["unreadable"] * 5 + ["ok"]
    reasons = first.filter(status="unreadable")["reason"]
    assert reasons.str.contains("No such file|is damaged").all()
    second = table(source, previous=first)
    assert second.equals(table(source)), "nothing of the disturbed scan is taken for known"
    assert second.height == COUNT - 4 + 1
    print(f"disturbed: {first.height} rows, {reasons.len()} unreadable; then {second.height} rows, all readable")


def test_a_change_during_a_scan_is_seen_by_the_next_run(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: the fingerprint of an episode is taken before its files are read, so a later change counts as one."""
    before = source_fingerprint(find_episode(UPath(source), "ep"))
    at_the_tenth(monkeypatch, scan, "read_bytes", lambda: write(source / "ep" / "000.png", picture(200)))
    table(source)
    assert source_fingerprint(find_episode(UPath(source), "ep")) != before


def test_frames_that_vanish_before_they_are_cut_are_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects: the other frames are cut, the missing ones are problems with reasons, a restored one is cut later."""
    frames, layout = table(source), Layout(UPath(tmp_path / "data"), "town")
    given = (frames, UPath(source), ColourMatte(), SegmentationSettings(min_side_px=8), layout)
    at_the_tenth(monkeypatch, reader, "read_frame", lambda: shutil.move(source / "ep", source / "renamed"))
    first = segment_episode(*given)
    monkeypatch.undo()
    assert len(first.problems) > 0 and first.instances.height + len(first.problems) == first.representative_count
    assert all("No such file" in problem.reason for problem in first.problems)
    shutil.move(source / "renamed", source / "ep")
    second = segment_episode(*given)
    assert second.problems == [] and second.reused_count == first.instances.height
    assert second.instances.height == second.representative_count
    print(f"folder renamed meanwhile: {first.instances.height} cut, {len(first.problems)} told; then all")


def test_a_renamed_episode_is_another_one_and_the_old_one_is_missed(source: Path) -> None:
    """Protects: nobody is told that a file is broken where a folder was renamed; the message names the new one."""
    (source / "ep").rename(source / "epi")
    with pytest.raises(EpisodeNotFoundError, match=r"(?s)`ep` is not in .*Near: epi"):
        find_episode(UPath(source), "ep")
    assert [episode.key for episode in discover_episodes(UPath(source))[0]] == ["epi"]


def test_an_episode_that_vanishes_during_its_scan_is_no_crash(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: a disk that is pulled out gives rows with reasons; put back, the same table as ever."""
    whole = table(source)
    at_the_tenth(monkeypatch, scan, "read_bytes", lambda: (source / "ep").rename(source / "gone"))
    torn = table(source)
    monkeypatch.undo()
    assert torn.height == COUNT and 0 < torn.filter(status="unreadable").height < COUNT
    (source / "gone").rename(source / "ep")
    assert table(source, previous=torn).equals(whole)


def test_a_growing_folder_is_read_while_it_is_written(source: Path) -> None:
    """Protects: another program that extracts frames meanwhile: each row is a whole frame or says why not."""
    stop = threading.Event()

    def extract() -> None:
        number = COUNT
        while not stop.is_set():
            data = encoded(picture(number))
            with (source / "ep" / f"{number:03d}.png").open("wb") as file:
                file.write(data[:200])
                file.flush()
                file.write(data[200:])
            number += 1

    with running(extract, stop):
        seen = [table(source) for _ in range(3)]
    for frames in seen:
        assert frames.filter(pl.col("status") == "unreadable")["reason"].null_count() == 0
        assert frames.height >= COUNT and frames.head(COUNT)["status"].to_list() == ["ok"] * COUNT
    last = table(source)
    assert set(last["status"]) == {"ok"}
    print(f"while it grows: {[frames.height for frames in seen]} rows, in the end {last.height}, all readable")


@contextmanager
def running(work: object, stop: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=work)  # type: ignore[arg-type]
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


_UNPRIVILEGED = """
import json, os, sys
uid, source = int(sys.argv[1]), sys.argv[2]
sys.path[:0] = json.loads(sys.argv[3])
from upath import UPath
from yokai_assets_tests.faults.test_changing_files import look
os.chmod(source + "/closed", 0o700)
look(UPath(source))  # imports everything while it may
os.chmod(source + "/closed", 0)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
print(json.dumps(look(UPath(source))))
"""


def look(source: UPath) -> dict[str, object]:
    """What a user finds in a source whose parts they may not all read."""
    episodes, problems = discover_episodes(source)
    frames = scan_episode(next(e for e in episodes if e.key == "ep"), source, FramesSettings())
    read = [not isinstance(image, FrameError) for _, image in iter_frames(frames, source)]
    training = read_training_folder(source / "ep", trigger="zkr")
    tree = import_cluster_tree(source, Layout(source.parent / "data", "town"))
    return {
        "problems": {problem.path: f"{problem.reason} {problem.remedy}" for problem in problems},
        "statuses": frames["status"].to_list(),
        "reasons": frames["reason"].drop_nulls().to_list(),
        "read": read,
        "training": training.problems,
        "imported": [tree.instances.height, *tree.problems],
    }


def test_what_may_not_be_read_is_told() -> None:
    """Protects: files and folders without permission are named with reason and remedy; the rest is read."""
    open_to_all = Path("/tmp") / f"yokai-permissions-{os.getpid()}"
    source = open_to_all / "source"
    try:
        for number in range(6):
            write(source / "ep" / f"{number}.png", picture(number))
        write(source / "closed" / "1.png", picture(9))
        (open_to_all / "data").mkdir()
        (open_to_all / "data").chmod(0o777)
        (source / "ep" / "3.png").chmod(0)
        given = [str(NOBODY), str(source), json.dumps(sys.path)]
        done = subprocess.run(
            [sys.executable, "-c", _UNPRIVILEGED, *given], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout.splitlines()[-1])
    finally:
        (source / "closed").chmod(0o755)
        shutil.rmtree(open_to_all)
    assert seen["problems"] == {"closed": "cannot be listed (Permission denied) Check its permissions."}
    assert seen["statuses"].count("unreadable") == 1 and seen["read"].count(False) == 1
    assert "Permission denied" in seen["reasons"][0] and "permissions" in seen["reasons"][0]
    assert [name for name, reason in seen["training"] if "Permission denied" in reason] == ["3.png"]
    assert seen["imported"][0] == 5 and ["Permission denied" in one for one in seen["imported"][1:]] == [True, True]
    print(f"as another user: {seen['statuses']}, {seen['problems']}")
