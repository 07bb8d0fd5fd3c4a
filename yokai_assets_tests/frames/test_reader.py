"""Reading frames: in order, read ahead but bounded, errors beside pixels."""

import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from upath import UPath

from yokai_assets.frames.decoding import FrameError
from yokai_assets.frames.reader import iter_frames, video_frame_of
from yokai_assets.frames.video import FrameSampler
from yokai_assets_tests.frames.pictures import scene, write, write_video


def rows(*sources: str) -> pl.DataFrame:
    return pl.DataFrame({"source": list(sources), "n": range(len(sources))})


def test_order_and_errors(tmp_path: Path) -> None:
    """Protects: rows come back in their order, each with its own picture or its own error."""
    names = []
    for number in range(30):
        data = b"bad" if number % 7 == 3 else scene(number)
        names.append(write(tmp_path / f"{number}.png", data).name)
    names.append("gone.png")
    for (row, image), number in zip(iter_frames(rows(*names), UPath(tmp_path), threads=3), range(31), strict=True):
        assert row["n"] == number
        if number % 7 == 3 or number == 30:
            assert isinstance(image, FrameError)
            assert names[number] in image.path
        else:
            assert np.array_equal(np.asarray(image), np.asarray(scene(number)))


def test_stopping_early_leaves_no_thread(tmp_path: Path) -> None:
    """Protects: a caller may break out of the loop."""
    names = [write(tmp_path / f"{n}.png", scene(n)).name for n in range(12)]
    frames = iter_frames(rows(*names), UPath(tmp_path), threads=2)
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_videos_in_any_order(tmp_path: Path) -> None:
    """Protects: frames of a video are found by number, also backwards, repeated, beyond the end or beside images."""
    shades = [Image.new("RGB", (64, 48), (level,) * 3) for level in range(20, 240, 20)]
    write_video(tmp_path / "v.mkv", shades)
    write(tmp_path / "i.png", scene(1))
    wanted = ["v.mkv#2", "v.mkv#5", "v.mkv#5", "i.png", "v.mkv#1", "v.mkv#99", "v.mkv#0"]
    found = [image for _, image in iter_frames(rows(*wanted), UPath(tmp_path))]
    assert isinstance(found[5], FrameError)
    for index, level in ((0, 60), (1, 120), (2, 120), (4, 40), (6, 20)):
        image = found[index]
        assert isinstance(image, Image.Image)
        assert abs(float(np.asarray(image).mean()) - level) < 6


def test_a_missing_video_is_an_error_per_row(tmp_path: Path) -> None:
    """Protects: a video that is gone does not stop the frames after it."""
    write(tmp_path / "i.png", scene(1))
    found = [image for _, image in iter_frames(rows("gone.mkv#0", "gone.mkv#4", "i.png"), UPath(tmp_path))]
    assert [isinstance(image, FrameError) for image in found] == [True, True, False]


def test_only_videos_have_frame_numbers() -> None:
    """Protects: an image or folder with `#` in its name is a file."""
    assert video_frame_of("s#1/v.MKV#12") == ("s#1/v.MKV", 12)
    assert video_frame_of("ep#1/f#2.png") is None
    assert video_frame_of("ep/f.png#2") is None


def test_sampling_by_time() -> None:
    """Protects: an even rate also for 23.976 frames/s with millisecond time stamps, and for videos slower than it."""
    sampler = FrameSampler(2.0)
    taken = [n for n in range(240) if sampler.wants(round(n / 23.976, 3))]
    assert len(taken) in (20, 21)
    assert {b - a for a, b in pairwise(taken)} <= {11, 12, 13}
    slow = FrameSampler(2.0)
    assert all(slow.wants(n / 1.0) for n in range(10))
